//! nginx with its RTMP module as a restream target: records what arrives.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Process, eventually, free_tcp_port, seconds};

/// An RTMP target on a port of its own. Each publication becomes a file of its own.
pub struct Nginx {
    port: u16,
    process: Option<Process>,
    /// Behind the process that writes in it: fields are dropped in this order.
    folder: tempfile::TempDir,
}

impl Nginx {
    /// Starts one.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut nginx = Self { port: free_tcp_port(), process: None, folder };
        nginx.write_config();
        nginx.revive().await;
        nginx
    }

    /// The target's URL for `key`.
    pub fn url(&self, key: &str) -> String {
        format!("rtmp://127.0.0.1:{}/app/{key}", self.port)
    }

    /// Its port; it takes the applications `app` and `live`, and refuses `closed`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends it without a word.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same port.
    pub async fn revive(&mut self) {
        let mut command = Command::new("nginx");
        command.arg("-p").arg(self.folder.path()).arg("-c").arg(self.folder.path().join("nginx.conf"));
        command.args(["-e", "error.log"]);
        self.process = Some(Process::spawn("nginx", &mut command));
        let address = format!("127.0.0.1:{}", self.port);
        eventually("nginx listens", seconds(5), || async {
            tokio::net::TcpStream::connect(&address).await.ok()
        })
        .await;
    }

    /// What was recorded of `key`, oldest first.
    pub fn recordings(&self, key: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path().join("rec")).expect("the folder exists");
        let mut found: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(key)))
            .collect();
        found.sort_by_key(|path| path.metadata().and_then(|data| data.created()).ok());
        found
    }

    /// Waits until the newest recording of `key` holds `length` of media, and returns it.
    pub async fn recorded(&self, key: &str, length: Duration) -> PathBuf {
        eventually(&format!("{length:?} of {key} at the target"), length + seconds(20), || async {
            let newest = self.recordings(key).pop()?;
            (last_timestamp(&newest)? >= length.as_millis() as u64).then_some(newest)
        })
        .await
    }

    /// nginx's own error log: says how publications ended.
    pub fn error_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }

    fn write_config(&self) {
        let folder = self.folder.path();
        for name in ["rec", "logs"] {
            std::fs::create_dir_all(folder.join(name)).expect("a folder");
        }
        let module = "/usr/lib/nginx/modules/ngx_rtmp_module.so";
        let recorded = format!(
            "live on; record all; record_path {}; record_unique on; record_suffix -%H%M%S.flv;",
            folder.join("rec").display()
        );
        let config = format!(
            "load_module {module};\ndaemon off;\nmaster_process off;\npid nginx.pid;\nerror_log error.log info;\n\
             events {{ worker_connections 64; }}\n\
             rtmp {{ access_log access.log; server {{ listen 127.0.0.1:{port}; chunk_size 4096;\n\
             application app {{ {recorded} }}\napplication live {{ {recorded} }}\n\
             application closed {{ live on; deny publish all; }} }} }}\n",
            port = self.port,
        );
        std::fs::write(folder.join("nginx.conf"), config).expect("a config file");
    }
}

/// The media time that an FLV file holds so far.
pub fn recorded_length(file: &Path) -> Option<Duration> {
    last_timestamp(file).map(Duration::from_millis)
}

/// The timestamp (ms) of the last whole tag of an FLV file that is still being written, counted from its first.
fn last_timestamp(file: &Path) -> Option<u64> {
    let data = std::fs::read(file).ok()?;
    let (mut at, mut first, mut last) = (13, None, None);
    while at + 11 <= data.len() {
        let tag = &data[at..at + 11];
        let size = usize::from(tag[1]) << 16 | usize::from(tag[2]) << 8 | usize::from(tag[3]);
        let time =
            u64::from(tag[7]) << 24 | u64::from(tag[4]) << 16 | u64::from(tag[5]) << 8 | u64::from(tag[6]);
        if tag[0] == 8 || tag[0] == 9 {
            first.get_or_insert(time);
            last = Some(time);
        }
        at += 11 + size + 4;
    }
    Some(last?.saturating_sub(first?))
}
