//! The binary under test.

use std::path::Path;
use std::process::{Command, ExitStatus};

use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;

use super::{Process, eventually, free_tcp_port, free_udp_port, http_client, seconds};

/// The admin token that each server under test is given.
pub const ADMIN_TOKEN: &str = "admin-token-of-the-tests";

/// A running Tidegate on ports of its own, ended on drop.
pub struct Server {
    pub process: Process,
    pub http: u16,
    pub rtmp: u16,
    pub webrtc: u16,
    pub client: Client,
    state: tempfile::TempDir,
    builder: ServerBuilder,
}

/// How a server is to be started.
#[derive(Clone, Default)]
pub struct ServerBuilder {
    demo: bool,
    guarded: bool,
    limited: bool,
    dual_stack: bool,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl Server {
    /// Where the binary is: the one cargo built, or `TIDEGATE_BIN`.
    pub fn binary() -> String {
        std::env::var("TIDEGATE_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_tidegate").to_owned())
    }

    /// An open server without the demo.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// A server to be described first.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// `http://127.0.0.1:PORT` and `path`, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.http)
    }

    /// Where RTMP publishers send `stream`.
    pub fn rtmp_url(&self, stream: &str) -> String {
        format!("rtmp://127.0.0.1:{}/live/{stream}", self.rtmp)
    }

    /// The folder it keeps its state in.
    pub fn state_dir(&self) -> &Path {
        self.state.path()
    }

    /// A request with the admin token.
    pub fn api(&self, method: &str, path: &str) -> RequestBuilder {
        let method = method.parse().expect("a method");
        self.client.request(method, self.url(path)).bearer_auth(ADMIN_TOKEN)
    }

    /// GET without a token.
    pub async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// The API's view of one stream; `None` when it answers anything but 200.
    pub async fn stream(&self, name: &str) -> Option<Value> {
        let response = self.api("GET", &format!("/api/v1/streams/{name}")).send().await.ok()?;
        if response.status() != 200 {
            return None;
        }
        response.json().await.ok()
    }

    /// Adds a restream target and returns the API's view of it.
    pub async fn add_target(&self, stream: &str, url: &str) -> Value {
        let path = format!("/api/v1/streams/{stream}/targets");
        let body = serde_json::json!({ "url": url, "name": "target of a test" });
        let response = self.api("POST", &path).json(&body).send().await.expect("an answer");
        assert_eq!(response.status(), 201, "POST {path}");
        response.json().await.expect("JSON")
    }

    /// Waits until a target is in the state `wanted` ("live", "retrying" …).
    pub async fn target_state(
        &self,
        stream: &str,
        id: &str,
        wanted: &str,
        limit: std::time::Duration,
    ) -> Value {
        let path = format!("/api/v1/streams/{stream}/targets/{id}");
        let last = std::sync::Mutex::new(Value::Null);
        eventually(&format!("target is {wanted}"), limit, || async {
            let view: Value = self.api("GET", &path).send().await.ok()?.json().await.ok()?;
            let found = state_of(&view) == wanted;
            *last.lock().expect("not poisoned") = view.clone();
            found.then_some(view)
        })
        .await
    }

    /// Ends it without a word, and starts it again with the same ports and state.
    pub async fn restart(self) -> Self {
        let Self { mut process, http, rtmp, webrtc, state, builder, .. } = self;
        process.kill();
        builder.start_on(http, rtmp, webrtc, state).await
    }

    /// SIGTERM; its exit status, `None` when it takes longer than 10 s.
    pub async fn terminate(&mut self) -> Option<ExitStatus> {
        self.process.signal("TERM");
        self.process.wait(seconds(10)).await
    }
}

/// The state's name of a target: `"state": "live"` or `"state": { "state": "live", … }`.
pub fn state_of(target: &Value) -> String {
    let state = &target["state"];
    if let Some(name) = state.as_str() {
        return name.to_owned();
    }
    for key in ["state", "kind", "type", "name"] {
        if let Some(name) = state[key].as_str() {
            return name.to_owned();
        }
    }
    state.as_object().and_then(|object| object.keys().next().cloned()).unwrap_or_default()
}

impl ServerBuilder {
    /// With the demo stream.
    pub fn demo(mut self) -> Self {
        self.demo = true;
        self
    }

    /// Without `--open`: publishing needs the key.
    pub fn guarded(mut self) -> Self {
        self.guarded = true;
        self
    }

    /// With its limits on how often a source may ask: without this, tests may ask as often as they like.
    pub fn limited(mut self) -> Self {
        self.limited = true;
        self
    }

    /// With WebRTC by IPv6 as well as by IPv4.
    pub fn dual_stack(mut self) -> Self {
        self.dual_stack = true;
        self
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// One more environment variable.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Starts it and waits until `/healthz` answers.
    pub async fn start(self) -> Server {
        let state = tempfile::tempdir().expect("a temporary folder");
        self.start_on(free_tcp_port(), free_tcp_port(), free_udp_port(), state).await
    }

    async fn start_on(self, http: u16, rtmp: u16, webrtc: u16, state: tempfile::TempDir) -> Server {
        let builder = self.clone();
        let any = if self.dual_stack { "[::]" } else { "0.0.0.0" };
        let mut command = Command::new(Server::binary());
        command
            .args(["--http-listen", &format!("127.0.0.1:{http}")])
            .args(["--rtmp-listen", &format!("127.0.0.1:{rtmp}")])
            // Browsers gather no loopback candidates: they come from an interface's address.
            .args(["--webrtc-listen", &format!("{any}:{webrtc}")])
            .arg("--state-dir")
            .arg(state.path())
            .env_remove("TIDEGATE_BIN") // ours, not a setting of the program
            .env("TIDEGATE_AUTH_ADMIN_TOKEN", ADMIN_TOKEN)
            // Targets of tests are on this machine.
            .env("TIDEGATE_RESTREAM_EGRESS_ALLOW", "127.0.0.0/8,::1/128");
        if self.limited {
            command.env("TIDEGATE_LIMITS_EXEMPT", "");
        } else {
            command.env("TIDEGATE_LIMITS_EXEMPT", "0.0.0.0/0,::/0");
            command
                .env("TIDEGATE_LIMITS_HALF_OPEN", "off")
                .env("TIDEGATE_LIMITS_HALF_OPEN_PER_SOURCE", "off");
        }
        command.envs(self.env);
        if !self.guarded {
            command.arg("--open");
        }
        if self.demo {
            command.arg("--demo");
        }
        command.args(&self.args);
        let mut process = Process::spawn("tidegate", &mut command);
        let client = http_client().build().expect("a client");
        let health = format!("http://127.0.0.1:{http}/healthz");
        let deadline = std::time::Instant::now() + seconds(20);
        loop {
            if let Some(status) = process.exited() {
                panic!("tidegate ended with {status} before it was healthy:\n{}", process.log());
            }
            if client.get(&health).send().await.is_ok_and(|answer| answer.status() == 200) {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "tidegate is not healthy after 20 s");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Server { process, http, rtmp, webrtc, client, state, builder }
    }
}
