//! An RTMP server that wants a login by Adobe's challenge (`authmod=adobe`), as Wowza and Flash Media Server do:
//! it rejects `connect` with what it wants, and closes.

use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::rtmp::{Message, Received, number, text};

const SALT: &str = "c2FsdA==";
const CHALLENGE: &str = "challenge";
const OPAQUE: &str = "b3BhcXVl";

/// A listening server; gone on drop.
pub struct LoginServer {
    pub port: u16,
    connects: Arc<Mutex<Vec<(String, String)>>>,
    task: JoinHandle<()>,
}

impl LoginServer {
    /// Lets `user` with `password` publish on `live`.
    pub async fn start(user: &'static str, password: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let connects: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
        let seen = connects.clone();
        let task = tokio::spawn(async move {
            let mut visits = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let visit = Visit { stream, received: Received::default() };
                visits.spawn(visit.serve(user, password, seen.clone()));
            }
        });
        Self { port, connects, task }
    }

    /// `app` and `tcUrl` of each `connect` so far.
    pub fn connects(&self) -> Vec<(String, String)> {
        self.connects.lock().expect("not poisoned").clone()
    }
}

impl Drop for LoginServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection.
struct Visit {
    stream: TcpStream,
    received: Received,
}

impl Visit {
    async fn serve(
        mut self,
        user: &str,
        password: &str,
        connects: Arc<Mutex<Vec<(String, String)>>>,
    ) -> Option<()> {
        let mut hello = vec![0; 1537];
        self.stream.read_exact(&mut hello).await.ok()?;
        let answer = [&[3][..], &[0; 1536], &hello[1..]].concat();
        self.stream.write_all(&answer).await.ok()?;
        self.stream.read_exact(&mut hello[1..]).await.ok()?;

        let connect = self.command().await?;
        let (app, tc_url) = (property(&connect, "app")?, property(&connect, "tcUrl")?);
        connects.lock().expect("not poisoned").push((app.clone(), tc_url));
        let query = app.split_once('?').map_or("", |(_, query)| query);
        let field =
            |name: &str| query.split('&').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        let words = match (field("user"), field("response")) {
            (None, _) => "[ code=403 need auth; authmod=adobe ] : ".to_owned(),
            (Some(named), None) => format!(
                "[ authmod=adobe ] : ?reason=needauth&user={named}&salt={SALT}&challenge={CHALLENGE}&opaque={OPAQUE}"
            ),
            (Some(named), Some(response)) => {
                let secret = hash(&format!("{user}{SALT}{password}"));
                let expected = hash(&format!("{secret}{OPAQUE}{}", field("challenge").unwrap_or_default()));
                if named == user && response == expected && field("opaque") == Some(OPAQUE) {
                    return self.publish().await;
                }
                "[ authmod=adobe ] : ?reason=authfailed".to_owned()
            }
        };
        let code = "NetConnection.Connect.Rejected";
        self.say("_error", 1.0, &status("error", code, &format!("[ AccessManager.Reject ] : {words}"))).await;
        None
    }

    /// Takes a publication and reads it to its end.
    async fn publish(mut self) -> Option<()> {
        self.say("_result", 1.0, &status("status", "NetConnection.Connect.Success", "welcome")).await;
        loop {
            let command = self.command().await?;
            let is = |name: &str| command.starts_with(&text(name));
            if is("createStream") {
                self.say("_result", 4.0, &number(1.0)).await;
            } else if is("publish") {
                self.say("onStatus", 0.0, &status("status", "NetStream.Publish.Start", "go on")).await;
            }
        }
    }

    /// The next command; `None` at the end of the connection.
    async fn command(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(command) = self.received.take_command() {
                return Some(command);
            }
            let mut buffer = [0; 4096];
            let count = self.stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
            self.received.take(&buffer[..count]);
        }
    }

    async fn say(&mut self, name: &str, transaction: f64, value: &[u8]) {
        let payload = [&text(name), &number(transaction), &[5][..], value].concat();
        let message = Message { csid: 3, kind: 20, time: 0, stream: 0, payload };
        // The client may be gone.
        let _ = self.stream.write_all(&message.in_chunks()).await;
    }
}

/// An object as statuses are told.
fn status(level: &str, code: &str, description: &str) -> Vec<u8> {
    let mut object = vec![3];
    for (name, value) in [("level", level), ("code", code), ("description", description)] {
        object.extend((name.len() as u16).to_be_bytes());
        object.extend(name.as_bytes());
        object.extend(text(value));
    }
    object.extend([0, 0, 9]);
    object
}

/// The text of a property of a command's object.
fn property(command: &[u8], name: &str) -> Option<String> {
    let key = [&(name.len() as u16).to_be_bytes()[..], name.as_bytes(), &[2]].concat();
    let at = command.windows(key.len()).position(|window| window == key)? + key.len();
    let length = u16::from_be_bytes(command.get(at..at + 2)?.try_into().ok()?);
    let text = command.get(at + 2..at + 2 + usize::from(length))?;
    Some(String::from_utf8_lossy(text).into_owned())
}

fn hash(text: &str) -> String {
    STANDARD.encode(Md5::digest(text))
}
