//! A receiver of webhooks that does as it is told: answers, fails, hangs, redirects.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What a receiver answers.
#[derive(Clone, Debug)]
pub enum Reply {
    /// This status.
    Status(u16),
    /// This status, with `Retry-After` of so many seconds.
    Busy(u16, u32),
    /// This status, after a while.
    Late(Duration, u16),
    /// 302 to this URL.
    Redirect(String),
    /// Nothing, for ever.
    Nothing,
    /// 200, and a body that never ends.
    Endless,
}

/// One POST as it came.
#[derive(Clone, Debug)]
pub struct Posted {
    pub headers: HashMap<String, String>,
    pub text: String,
    pub body: Value,
    pub at: SystemTime,
}

impl Posted {
    /// The event's type.
    pub fn kind(&self) -> &str {
        self.body["type"].as_str().expect("a type")
    }

    /// The event's stream; nothing where it has none.
    pub fn stream(&self) -> &str {
        self.body["stream"].as_str().unwrap_or_default()
    }

    /// Whether the signature is that of `secret` (`whsec_…`), by the scheme of Standard Webhooks.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").expect("a secret")).expect("base64");
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key);
        let header = |name: &str| self.headers.get(name).cloned().unwrap_or_default();
        let signed = format!("{}.{}.{}", header("webhook-id"), header("webhook-timestamp"), self.text);
        let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
        header("webhook-signature") == format!("v1,{}", STANDARD.encode(tag))
    }
}

type Behaviour = Box<dyn FnMut(&Posted) -> Reply + Send>;

/// A listening receiver; gone on drop.
pub struct Receiver {
    pub port: u16,
    posts: Arc<Mutex<Vec<Posted>>>,
    behaviour: Arc<Mutex<Behaviour>>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Answers each POST as `behaviour` says.
    pub async fn start(behaviour: impl FnMut(&Posted) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let posts: Arc<Mutex<Vec<Posted>>> = Arc::default();
        let behaviour: Arc<Mutex<Behaviour>> = Arc::new(Mutex::new(Box::new(behaviour)));
        let (all, how) = (posts.clone(), behaviour.clone());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, all.clone(), how.clone()));
            }
        });
        Self { port, posts, behaviour, task }
    }

    /// Answers otherwise from now on.
    pub fn behave(&self, behaviour: impl FnMut(&Posted) -> Reply + Send + 'static) {
        *self.behaviour.lock().expect("not poisoned") = Box::new(behaviour);
    }

    /// Where it is, with this path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// All POSTs so far.
    pub fn posts(&self) -> Vec<Posted> {
        self.posts.lock().expect("not poisoned").clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, posts: Arc<Mutex<Vec<Posted>>>, behaviour: Arc<Mutex<Behaviour>>) {
    while let Some(posted) = read(&mut stream).await {
        posts.lock().expect("not poisoned").push(posted.clone());
        let reply = (behaviour.lock().expect("not poisoned"))(&posted);
        let answer = |status: u16| format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nok");
        let text = match reply {
            Reply::Status(status) => answer(status),
            Reply::Busy(status, pause) => {
                format!("HTTP/1.1 {status} X\r\nretry-after: {pause}\r\ncontent-length: 2\r\n\r\nok")
            }
            Reply::Late(pause, status) => {
                tokio::time::sleep(pause).await;
                answer(status)
            }
            Reply::Redirect(url) => format!("HTTP/1.1 302 X\r\nlocation: {url}\r\ncontent-length: 0\r\n\r\n"),
            Reply::Nothing => return std::future::pending().await,
            Reply::Endless => {
                let head = "HTTP/1.1 200 X\r\ncontent-type: text/plain\r\n\r\n";
                let mut sent = stream.write_all(head.as_bytes()).await;
                while sent.is_ok() {
                    sent = stream.write_all(&[b'x'; 4096]).await;
                }
                return;
            }
        };
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// One request; `None` at the end of the connection.
async fn read(stream: &mut TcpStream) -> Option<Posted> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        let count = stream.read_buf(&mut bytes).await.ok()?;
        if count == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let headers: HashMap<String, String> = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    while bytes.len() < end + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let text = String::from_utf8(bytes[end..end + length].to_vec()).ok()?;
    let body = serde_json::from_str(&text).ok()?;
    Some(Posted { headers, text, body, at: SystemTime::now() })
}
