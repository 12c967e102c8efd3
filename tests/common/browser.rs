//! Chromium and Firefox, driven by the scripts in `tests/browser/`, and the other clients in `tests/clients/`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;

/// A running script and its browser, or another client; ended on drop.
pub struct Browser {
    script: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::UnboundedReceiver<Value>,
}

impl Browser {
    /// Starts `tests/browser/{script}.mjs` with `options`.
    pub fn start(script: &str, options: Value) -> Self {
        Self::run(Path::new("node"), &format!("tests/browser/{script}.mjs"), options)
    }

    /// Starts `tests/clients/{script}`, which runs in Node or in the tests' virtual environment of Python.
    pub fn start_client(script: &str, options: Value) -> Self {
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
        let program = if script.ends_with(".py") { &python } else { Path::new("node") };
        Self::run(program, &format!("tests/clients/{script}"), options)
    }

    fn run(program: &Path, script: &str, options: Value) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut child = Command::new(program)
            .arg(root.join(script))
            .arg(options.to_string())
            .current_dir(root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{script} starts; make test has installed what it needs: {error}")
            });
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("it is piped");
        let (sender, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Ok(value) = serde_json::from_str(&line) {
                    let _ = sender.send(value);
                }
            }
        });
        Self { script: script.to_owned(), child, stdin, lines }
    }

    /// Publishes by WHIP and waits until it is connected. `options` are added to the endpoint.
    pub async fn publish(endpoint: &str, options: Value) -> Self {
        let mut browser = Self::start("publish", with(options, "endpoint", endpoint));
        browser.event("connected", Duration::from_secs(30)).await;
        browser
    }

    /// Publishes by WHIP with one of `tests/clients/` and waits until it is connected.
    pub async fn publish_with(client: &str, endpoint: &str, options: Value) -> Self {
        let mut publisher = Self::start_client(client, with(options, "endpoint", endpoint));
        publisher.event("connected", Duration::from_secs(30)).await;
        publisher
    }

    /// Views by WHEP and returns what the viewer counted.
    pub async fn view_whep(endpoint: &str, options: Value) -> Value {
        let mut browser = Self::start("view_whep", with(options, "endpoint", endpoint));
        browser.event("result", Duration::from_secs(60)).await
    }

    /// Views by hls.js and returns what the viewer counted.
    pub async fn view_hls(url: &str, options: Value) -> Value {
        let mut browser = Self::start("view_hls", with(options, "url", url));
        browser.event("result", Duration::from_secs(60)).await
    }

    /// Waits for the next event of this name; others are passed over, `failed` and the end are panics.
    pub async fn event(&mut self, name: &str, limit: Duration) -> Value {
        let script = &self.script;
        let lines = &mut self.lines;
        let next = async {
            loop {
                let Some(line) = lines.recv().await else { panic!("{script} ended before {name:?}") };
                if line["event"] == name {
                    return line;
                }
                assert!(line["event"] != "failed", "{script}: {line}");
            }
        };
        tokio::time::timeout(limit, next)
            .await
            .unwrap_or_else(|_| panic!("{script}: no {name:?} within {limit:?}"))
    }

    /// Waits for the next event of this name or for `failed`, whichever comes first.
    pub async fn event_or_failure(&mut self, name: &str, limit: Duration) -> Value {
        let script = &self.script;
        let lines = &mut self.lines;
        let next = async {
            loop {
                let Some(line) = lines.recv().await else { panic!("{script} ended before {name:?}") };
                if line["event"] == name || line["event"] == "failed" {
                    return line;
                }
            }
        };
        tokio::time::timeout(limit, next)
            .await
            .unwrap_or_else(|_| panic!("{script}: no {name:?} within {limit:?}"))
    }

    /// Closes the script's standard input, the order to leave, and waits for its last word.
    pub async fn leave(&mut self) -> Value {
        self.stdin = None;
        self.event("left", Duration::from_secs(10)).await
    }

    /// Sends a command line to the script.
    pub fn command(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it is open until the drop");
        writeln!(stdin, "{line}").expect("the script reads its commands");
    }

    /// The process id of the script.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends browser and script without a word to the server.
    pub fn kill(&mut self) {
        // The browser reads its orders from a pipe of the script's and ends with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.stdin = None;
        let _ =
            Command::new("kill").args(["-TERM", &self.child.id().to_string()]).stderr(Stdio::null()).status();
        for _ in 0..60 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.kill();
    }
}

fn with(mut options: Value, key: &str, value: &str) -> Value {
    if options.is_null() {
        options = Value::Object(serde_json::Map::new());
    }
    options[key] = value.into();
    options
}
