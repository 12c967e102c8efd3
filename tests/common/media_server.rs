//! node-media-server as a second real restream target: tells what it was sent, word by word.

use std::path::Path;
use std::process::Command;

use super::{Process, eventually, free_tcp_port, seconds};

/// A running one, ended on drop.
pub struct MediaServer {
    port: u16,
    process: Process,
}

impl MediaServer {
    /// Starts one that takes every publisher.
    pub async fn start() -> Self {
        let port = free_tcp_port();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/media_server.mjs");
        let process =
            Process::spawn("node-media-server", Command::new("node").arg(script).arg(port.to_string()));
        let address = format!("127.0.0.1:{port}");
        eventually("node-media-server listens", seconds(15), || async {
            tokio::net::TcpStream::connect(&address).await.ok()
        })
        .await;
        Self { port, process }
    }

    /// Its port; any application is taken.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it was told in one kind of event ("publish", "done"), one JSON object an event.
    pub fn events(&self, kind: &str) -> Vec<serde_json::Value> {
        let log = self.process.log();
        let lines = log.lines().filter_map(|line| line.strip_prefix("event "));
        let events = lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        events.filter(|event| event["event"] == kind).collect()
    }
}
