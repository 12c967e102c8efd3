//! nginx as a cache in front of the server, with the configuration that the README gives.

use std::collections::HashMap;
use std::process::Command;

use super::{Process, eventually, free_tcp_port, seconds};

/// A running cache.
pub struct NginxCache {
    port: u16,
    process: Process,
    /// Behind the process that writes in it: fields are dropped in this order.
    folder: tempfile::TempDir,
}

impl NginxCache {
    /// Starts one in front of the server on `upstream`.
    pub async fn start(upstream: u16) -> Self {
        let (port, folder) = (free_tcp_port(), tempfile::tempdir().expect("a temporary folder"));
        let path = folder.path().display().to_string();
        let told = readme_block("nginx")
            .replace("/var/cache/nginx/tidegate", &format!("{path}/cache"))
            .replace("127.0.0.1:8080", &format!("127.0.0.1:{upstream}"))
            .replace("listen 80;", &format!("listen 127.0.0.1:{port};"));
        let config = format!(
            "daemon off;\nuser root;\nworker_processes 1;\npid {path}/nginx.pid;\nerror_log {path}/error.log;\n\
             events {{ worker_connections 2048; }}\nhttp {{\n\
             log_format cache '$request_uri $status $upstream_cache_status';\n\
             access_log {path}/access.log cache;\n\
             client_body_temp_path {path}/body; proxy_temp_path {path}/proxy; fastcgi_temp_path {path}/fastcgi;\n\
             uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;\n{told}\n}}\n"
        );
        std::fs::write(folder.path().join("nginx.conf"), config).expect("a config file");
        let mut command = Command::new("nginx");
        command.args(["-p", &path, "-c", &format!("{path}/nginx.conf"), "-e", &format!("{path}/error.log")]);
        let process = Process::spawn("nginx as a cache", &mut command);
        let address = format!("127.0.0.1:{port}");
        eventually("nginx listens", seconds(10), || async {
            tokio::net::TcpStream::connect(&address).await.ok()
        })
        .await;
        Self { port, process, folder }
    }

    /// The process group of its master, worker and cache managers.
    pub fn group(&self) -> u32 {
        self.process.id()
    }

    /// `http://127.0.0.1:PORT` and `path`, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Of each request so far: how many asked it of the cache, and how often the cache asked the server.
    pub fn asked(&self) -> HashMap<String, (usize, usize)> {
        let log = std::fs::read_to_string(self.folder.path().join("access.log")).expect("a log");
        let mut asked: HashMap<String, (usize, usize)> = HashMap::new();
        for line in log.lines() {
            let mut words = line.split(' ');
            let (Some(uri), Some(_), Some(cache)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            let count = asked.entry(uri.to_owned()).or_default();
            count.0 += 1;
            count.1 += usize::from(cache != "HIT");
        }
        asked
    }
}

/// The README's one code block of this language.
fn readme_block(language: &str) -> String {
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("the README");
    let fence = format!("```{language}\n");
    let after = readme.split_once(&fence).unwrap_or_else(|| panic!("the README has no {language} block")).1;
    after.split_once("```").expect("its end").0.to_owned()
}
