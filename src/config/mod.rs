//! What an operator can choose, and where it is read from.
//!
//! Each setting has one key. It comes from a flag, else from the environment (`TIDEGATE_` and the key in
//! capitals), else from the TOML file, else it has its default. A key that is not known and a value that
//! does not fit are errors which name the key, the value and what would be right. Nothing is read from
//! the network, and no secret is shown.

mod credentials;
mod error;
mod flags;
mod settings;
mod sources;

pub use credentials::{Credentials, CredentialsError};
pub use error::ConfigError;

use crate::media::{Secret, VideoTranscoding};
use flags::Flags;
use ipnet::IpNet;
use settings::Setting;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The exit code for a wrong command line or configuration (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

/// All settings, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where HTTP is served.
    pub http_listen: SocketAddr,
    /// Connections that one source address may hold at a time.
    pub http_connections_per_source: usize,
    /// Where RTMP publishers connect.
    pub rtmp_listen: SocketAddr,
    /// The UDP address of all WebRTC sessions.
    pub webrtc_listen: SocketAddr,
    /// Addresses under which `webrtc_listen` is reached from outside (NAT); empty: the interfaces' own.
    pub webrtc_external_addresses: Vec<IpAddr>,
    /// `webrtc.ice`: the gateway sends connectivity checks itself.
    pub webrtc_full_ice: bool,
    /// Threads for WebRTC sessions.
    pub webrtc_workers: usize,
    /// WebRTC sessions of one source address that are on their way, without a connectivity check yet …
    pub limits_half_open_per_source: usize,
    /// … and of all.
    pub limits_half_open: usize,
    /// Duration of a part of Low-Latency HLS.
    pub hls_part_duration: Duration,
    /// Duration of an HLS segment.
    pub hls_segment_duration: Duration,
    /// Segments that an HLS playlist lists.
    pub hls_window: usize,
    /// `hls.always`: segment streams that nobody asks for.
    pub hls_always: bool,
    /// Whether video is transcoded for outputs that can't take it as it is.
    pub transcode_video: VideoTranscoding,
    /// The API's bearer token; `None`: generated on first start.
    pub auth_admin_token: Option<Secret>,
    /// The key that publishers show; `None`: generated on first start.
    pub auth_publish_key: Option<Secret>,
    /// Networks that restream targets may be in although they are not public.
    pub restream_egress_allow: Vec<IpNet>,
    /// How long a stream waits for its publisher's return before it ends.
    pub stream_grace: Duration,
    /// The folder for what survives a restart.
    pub state_dir: PathBuf,
    /// A folder with pipeline descriptions that replace the built-in ones of the same name.
    pub pipelines_dir: Option<PathBuf>,
    /// What is logged, as directives of `tracing_subscriber::EnvFilter`.
    pub log: String,
    /// Anyone may publish; no key is needed.
    pub open: bool,
    /// Publish the stream `demo`.
    pub demo: bool,
}

impl Config {
    /// The defaults, with everything that survives a restart in `state_dir`.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self {
            http_listen: SocketAddr::new(any, 8080),
            http_connections_per_source: 200,
            rtmp_listen: SocketAddr::new(any, 1935),
            webrtc_listen: SocketAddr::new(any, 8189),
            webrtc_external_addresses: Vec::new(),
            webrtc_full_ice: false,
            webrtc_workers: std::thread::available_parallelism().map_or(1, usize::from).min(64),
            limits_half_open_per_source: 50,
            limits_half_open: 500,
            hls_part_duration: Duration::from_millis(333),
            hls_segment_duration: Duration::from_secs(2),
            hls_window: 7,
            hls_always: false,
            transcode_video: VideoTranscoding::OnDemand,
            auth_admin_token: None,
            auth_publish_key: None,
            restream_egress_allow: Vec::new(),
            stream_grace: Duration::from_secs(5),
            state_dir: state_dir.into(),
            pipelines_dir: None,
            log: "warn,tidegate=info".to_owned(),
            open: false,
            demo: false,
        }
    }

    /// Reads the command line (`arguments` begins with the program's name), the environment and, if one
    /// of them names it, the file.
    pub fn load(
        arguments: impl IntoIterator<Item = OsString>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let flags = Flags::read(arguments)?;
        let environment: Vec<(OsString, OsString)> = environment.into_iter().collect();
        let mut from_environment = sources::environment(&environment)?;
        let file = match (&flags.config, from_environment.config.take()) {
            (Some(path), _) => Some(path.clone()),
            (None, path) => path,
        };
        let mut settings = match file {
            Some(path) => sources::file(&path)?,
            None => Vec::new(),
        };
        settings.append(&mut from_environment.settings);
        settings.append(&mut flags.settings()?);

        let mut config = Self::new(default_state_dir(&environment));
        for setting in &settings {
            setting.apply(&mut config)?;
        }
        config.check(&settings)?;
        Ok(config)
    }

    /// What can be judged only with several settings together.
    fn check(&self, settings: &[Setting]) -> Result<(), ConfigError> {
        let origin = |key| settings::origin_of(settings, key);
        if self.state_dir.as_os_str().is_empty() {
            return Err(ConfigError::Missing {
                key: "state_dir",
                expected: "a folder to keep keys in (neither XDG_STATE_HOME nor HOME is set to derive one from)",
            });
        }
        if self.hls_segment_duration < self.hls_part_duration {
            return Err(ConfigError::BadValue {
                key: "hls.part_duration",
                value: format!("{}", humantime::format_duration(self.hls_part_duration)),
                origin: origin("hls.part_duration"),
                expected: "a duration no longer than hls.segment_duration".to_owned(),
            });
        }
        if let (Some(token), Some(key)) = (&self.auth_admin_token, &self.auth_publish_key)
            && token.matches(key.reveal())
        {
            return Err(ConfigError::BadValue {
                key: "auth.publish_key",
                value: key.to_string(),
                origin: origin("auth.publish_key"),
                expected: "another secret than auth.admin_token: who may publish may not administer"
                    .to_owned(),
            });
        }
        Ok(())
    }
}

/// `$XDG_STATE_HOME/tidegate`, else `$HOME/.local/state/tidegate`, else an empty path.
fn default_state_dir(environment: &[(OsString, OsString)]) -> PathBuf {
    let variable = |name: &str| {
        let found = environment.iter().find(|(key, value)| key == name && !value.is_empty());
        found.map(|(_, value)| PathBuf::from(value))
    };
    // XDG Base Directory Specification: a relative path is invalid and ignored.
    let state = variable("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let state = state.or_else(|| variable("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("tidegate")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
