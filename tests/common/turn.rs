//! coturn on loopback, for clients that may use relay candidates only.

use std::process::Command;

use super::{Process, eventually, free_tcp_port, seconds};

/// How clients show that they may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnAuth {
    /// One user with one password.
    Static { username: &'static str, password: &'static str },
    /// A shared secret that time-limited credentials are made with.
    Secret(&'static str),
}

/// A running TURN server; ended on drop.
pub struct Turn {
    port: u16,
    process: Process,
    _folder: tempfile::TempDir,
}

impl Turn {
    /// Starts one on a port of its own, over UDP and TCP.
    pub async fn start(auth: TurnAuth) -> Self {
        let (port, folder) = (free_tcp_port(), tempfile::tempdir().expect("a temporary folder"));
        let auth = match auth {
            TurnAuth::Static { username, password } => format!("lt-cred-mech\nuser={username}:{password}"),
            TurnAuth::Secret(secret) => format!("use-auth-secret\nstatic-auth-secret={secret}"),
        };
        let config = format!(
            "listening-ip=127.0.0.1\nrelay-ip=127.0.0.1\nlistening-port={port}\nrealm=tests\nfingerprint\n{auth}\n\
             allow-loopback-peers\nno-cli\nno-tls\nno-dtls\nlog-file=stdout\nsimple-log\nverbose\n\
             pidfile={folder}/pid\nuserdb={folder}/users\n",
            folder = folder.path().display(),
        );
        let file = folder.path().join("turnserver.conf");
        std::fs::write(&file, config).expect("a config file");
        let mut command = Command::new("turnserver");
        let process = Process::spawn("turnserver", command.arg("-c").arg(file));
        eventually("turnserver listens", seconds(5), || async {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        Self { port, process, _folder: folder }
    }

    /// Its URL, over "udp" or "tcp".
    pub fn url(&self, transport: &str) -> String {
        format!("turn:127.0.0.1:{}?transport={transport}", self.port)
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        self.process.log()
    }
}
