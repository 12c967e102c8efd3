//! What an operator can choose, and where it is read from.
//!
//! Each setting has one key. It comes from a flag, else from the environment (`TIDEGATE_` and the key in
//! capitals), else from the TOML file, else it has its default. A key that is not known and a value that
//! does not fit are errors which name the key, the value and what would be right. Nothing is read from
//! the network, and no secret is shown.

mod check_hls;
mod command;
mod credentials;
mod error;
mod flags;
mod settings;
mod sources;
mod table;
mod value;

pub use check_hls::CheckHls;
pub use command::Command;
pub use credentials::{Credentials, CredentialsError};
pub use error::ConfigError;

use crate::media::{BFrames, IceServer, Ladder, OpusFrames, Secret, StreamName, VideoTranscoding};
use flags::Flags;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use settings::Setting;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
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
    /// Networks of the proxies before us: what they say of their clients' addresses counts.
    pub http_trusted_proxies: Vec<IpNet>,
    /// `http.forwarded_header`: they say it in `Forwarded` (RFC 7239), not in `X-Forwarded-For`.
    pub http_proxies_follow_rfc_7239: bool,
    /// Origins whose pages may use WHIP and WHEP; `None`: all.
    pub http_cors_origins: Option<Vec<String>>,
    /// Names under which the API is served; `None`: any.
    pub http_hosts: Option<Vec<String>>,
    /// Where RTMP publishers connect.
    pub rtmp_listen: SocketAddr,
    /// Where RTMPS publishers connect, if there is a certificate.
    pub rtmp_tls_listen: SocketAddr,
    /// The file with the server's certificate and its chain; `None`: no TLS.
    pub tls_certificate: Option<PathBuf>,
    /// The file with the certificate's private key.
    pub tls_private_key: Option<PathBuf>,
    /// The address of all WebRTC sessions, UDP and TCP.
    pub webrtc_listen: SocketAddr,
    /// Addresses under which `webrtc_listen` is reached from outside (NAT); empty: the interfaces' own.
    pub webrtc_external_addresses: Vec<IpAddr>,
    /// `webrtc.tcp`: WebRTC by TCP as well, on the same port number.
    pub webrtc_tcp: bool,
    /// `webrtc.ice`: the gateway sends connectivity checks itself.
    pub webrtc_full_ice: bool,
    /// Threads for WebRTC sessions.
    pub webrtc_workers: usize,
    /// RTMP connections at a time …
    pub limits_rtmp_connections: usize,
    /// … and of one source address.
    pub limits_rtmp_connections_per_source: usize,
    /// Sessions of one source address that are on their way: WebRTC without a connectivity check yet, RTMP
    /// before `publish` …
    pub limits_half_open_per_source: usize,
    /// … and of all.
    pub limits_half_open: usize,
    /// STUN and TURN servers that publishers and viewers are told of.
    pub webrtc_ice_servers: Vec<IceServer>,
    /// The user name for the TURN servers.
    pub webrtc_turn_username: Option<String>,
    /// The password that goes with it.
    pub webrtc_turn_credential: Option<Secret>,
    /// The secret shared with the TURN servers, instead of user name and password: each session gets its own.
    pub webrtc_turn_secret: Option<Secret>,
    /// How long credentials made with the shared secret are good for.
    pub webrtc_turn_ttl: Duration,
    /// WHIP and WHEP offers a second that one source may post; `None`: any number.
    pub limits_posts_per_second: Option<NonZeroU32>,
    /// Offers that a source may post at once before that rate holds.
    pub limits_post_burst: NonZeroU32,
    /// PATCH requests a second to one session; `None`: any number.
    pub limits_patches_per_second: Option<NonZeroU32>,
    /// PATCH and DELETE requests a second of one source, to whatever sessions; `None`: any number.
    pub limits_session_requests_per_second: Option<NonZeroU32>,
    /// Wrong keys and tokens a minute that one source may show; `None`: any number.
    pub limits_key_attempts_per_minute: Option<NonZeroU32>,
    /// Networks that the `limits.*` rates don't hold for: this machine, since behind a proxy on it all clients
    /// look like one.
    pub limits_exempt: Vec<IpNet>,
    /// Duration of a part of Low-Latency HLS.
    pub hls_part_duration: Duration,
    /// Duration of an HLS segment.
    pub hls_segment_duration: Duration,
    /// Segments that an HLS playlist lists.
    pub hls_window: usize,
    /// `hls.always`: segment streams that nobody asks for.
    pub hls_always: bool,
    /// What Opus becomes in HLS.
    pub hls_audio: OpusFrames,
    /// Whether video is transcoded for outputs that can't take it as it is.
    pub transcode_video: VideoTranscoding,
    /// Bits a second of sound that is encoded as AAC.
    pub transcode_audio_bitrate: u32,
    /// Bits a second of sound that is encoded as Opus.
    pub transcode_opus_bitrate: u32,
    /// Percent of the machine's processor time from which on nothing more is encoded for WHEP viewers.
    pub transcode_cpu_budget: u8,
    /// The lower renditions that are encoded of streams.
    pub transcode_ladder: Ladder,
    /// Those of single streams.
    pub transcode_ladder_for: BTreeMap<StreamName, Ladder>,
    /// What is done with B-frames for WebRTC viewers.
    pub webrtc_b_frames: BFrames,
    /// The API's bearer token; `None`: generated on first start.
    pub auth_admin_token: Option<Secret>,
    /// The key that publishers of whatever stream show; `None`: generated on first start.
    pub auth_publish_key: Option<Secret>,
    /// `auth.publish_key = "off"`: there is none, each stream needs a key of its own.
    pub auth_stream_keys_only: bool,
    /// Networks that restream targets may be in although they are not public.
    pub restream_egress_allow: Vec<IpNet>,
    /// Restream targets that one stream may have …
    pub restream_targets_per_stream: usize,
    /// … and that there may be in all.
    pub restream_targets: usize,
    /// A PEM file with certificates that `rtmps` targets are trusted by besides the system's.
    pub restream_extra_roots: Option<PathBuf>,
    /// Events that are kept for readers who come back.
    pub events_kept: usize,
    /// Numbers of viewers of one stream that events tell of.
    pub events_viewer_thresholds: Vec<usize>,
    /// Networks that webhooks may be in although they are not public.
    pub webhooks_egress_allow: Vec<IpNet>,
    /// Attempts before a delivery is given up.
    pub webhooks_tries: u32,
    /// From the first failure to the second attempt; it doubles with each failure.
    pub webhooks_first_retry: Duration,
    /// For one attempt.
    pub webhooks_timeout: Duration,
    /// `metrics.open`: `/metrics` needs no token.
    pub metrics_open: bool,
    /// `metrics.per_stream`: series of single streams.
    pub metrics_per_stream: bool,
    /// How long a stream waits for its publisher's return before it ends.
    pub stream_grace: Duration,
    /// The same for single streams.
    pub stream_grace_for: BTreeMap<StreamName, Duration>,
    /// What HLS players and restream targets get while a publisher pauses.
    pub stream_hold: HoldMode,
    /// The picture for [`HoldMode::Slate`], PNG or JPEG.
    pub stream_slate: Option<PathBuf>,
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

/// What fills the pause of a publisher, besides silence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HoldMode {
    /// Its last picture.
    #[default]
    LastPicture,
    /// The operator's picture.
    Slate,
    /// Nothing is sent.
    Off,
}

impl Config {
    /// The defaults, with everything that survives a restart in `state_dir`.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self {
            http_listen: SocketAddr::new(any, 8080),
            http_connections_per_source: 200,
            http_trusted_proxies: Vec::new(),
            http_proxies_follow_rfc_7239: false,
            http_cors_origins: None,
            http_hosts: None,
            rtmp_listen: SocketAddr::new(any, 1935),
            rtmp_tls_listen: SocketAddr::new(any, 1936),
            tls_certificate: None,
            tls_private_key: None,
            limits_rtmp_connections: 1024,
            limits_rtmp_connections_per_source: 200,
            webrtc_listen: SocketAddr::new(any, 8189),
            webrtc_external_addresses: Vec::new(),
            webrtc_tcp: true,
            webrtc_full_ice: false,
            webrtc_workers: std::thread::available_parallelism().map_or(1, usize::from).min(64),
            limits_half_open_per_source: 50,
            limits_half_open: 500,
            webrtc_ice_servers: Vec::new(),
            webrtc_turn_username: None,
            webrtc_turn_credential: None,
            webrtc_turn_secret: None,
            webrtc_turn_ttl: Duration::from_secs(12 * 3600),
            limits_posts_per_second: NonZeroU32::new(5),
            limits_post_burst: NonZeroU32::new(20).unwrap_or(NonZeroU32::MIN),
            limits_patches_per_second: NonZeroU32::new(20),
            limits_session_requests_per_second: NonZeroU32::new(100),
            limits_key_attempts_per_minute: NonZeroU32::new(10),
            limits_exempt: loopback(),
            hls_part_duration: Duration::from_millis(250),
            hls_segment_duration: Duration::from_secs(2),
            hls_window: 7,
            hls_always: false,
            hls_audio: OpusFrames::Aac,
            transcode_video: VideoTranscoding::OnDemand,
            transcode_audio_bitrate: 128_000,
            transcode_opus_bitrate: 96_000,
            transcode_cpu_budget: 80,
            transcode_ladder: Ladder::default(),
            transcode_ladder_for: BTreeMap::new(),
            webrtc_b_frames: BFrames::Transcode,
            auth_admin_token: None,
            auth_publish_key: None,
            auth_stream_keys_only: false,
            restream_egress_allow: Vec::new(),
            restream_targets_per_stream: 400,
            restream_targets: 2000,
            restream_extra_roots: None,
            events_kept: 10_000,
            events_viewer_thresholds: vec![1, 10, 100, 1_000, 10_000],
            webhooks_egress_allow: Vec::new(),
            webhooks_tries: 10,
            webhooks_first_retry: Duration::from_secs(7),
            webhooks_timeout: Duration::from_secs(10),
            metrics_open: false,
            metrics_per_stream: false,
            stream_grace: Duration::from_secs(60),
            stream_grace_for: BTreeMap::new(),
            stream_hold: HoldMode::LastPicture,
            stream_slate: None,
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

    /// A slate must be there when it is wanted, not when the first publisher pauses.
    fn check_slate(&self, origin: impl Fn(&'static str) -> String) -> Result<(), ConfigError> {
        let Some(path) = &self.stream_slate else {
            return match self.stream_hold {
                HoldMode::Slate => Err(ConfigError::Missing {
                    key: "stream.slate",
                    expected: "set to a PNG or JPEG file where stream.hold is \"slate\"",
                }),
                HoldMode::LastPicture | HoldMode::Off => Ok(()),
            };
        };
        std::fs::File::open(path)
            .and_then(|file| file.metadata())
            .map_or_else(Err, |metadata| {
                let is_file = metadata.is_file();
                is_file.then_some(()).ok_or_else(|| std::io::Error::other("it is no file"))
            })
            .map_err(|why| ConfigError::BadValue {
                key: "stream.slate",
                value: path.display().to_string(),
                origin: origin("stream.slate"),
                expected: format!("a PNG or JPEG file that can be read ({why})"),
            })
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
        self.check_slate(origin)?;
        self.check_turn(origin)?;
        self.check_tls()?;
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

    /// A certificate is of no use without its key, nor a key without its certificate.
    fn check_tls(&self) -> Result<(), ConfigError> {
        let (key, expected) = match (&self.tls_certificate, &self.tls_private_key) {
            (Some(_), None) => ("tls.private_key", "the PEM file with the key of tls.certificate"),
            (None, Some(_)) => ("tls.certificate", "the PEM file with the certificate of tls.private_key"),
            _ => return Ok(()),
        };
        Err(ConfigError::Missing { key, expected })
    }

    /// A TURN server wants credentials of one kind, whole.
    fn check_turn(&self, origin: impl Fn(&'static str) -> String) -> Result<(), ConfigError> {
        let (name, password) = (self.webrtc_turn_username.is_some(), self.webrtc_turn_credential.is_some());
        let shared = self.webrtc_turn_secret.is_some();
        let key = match (name, password, shared) {
            (true, false, _) => "webrtc.turn_credential",
            (false, true, _) => "webrtc.turn_username",
            (true, true, true) => {
                return Err(ConfigError::BadValue {
                    key: "webrtc.turn_secret",
                    value: Secret::new("").to_string(),
                    origin: origin("webrtc.turn_secret"),
                    expected: "left out where webrtc.turn_username and webrtc.turn_credential are set"
                        .to_owned(),
                });
            }
            (false, false, false) if self.webrtc_ice_servers.iter().any(IceServer::is_turn) => {
                "webrtc.turn_secret"
            }
            _ => return Ok(()),
        };
        Err(ConfigError::Missing {
            key,
            expected: "set: a TURN server needs webrtc.turn_username with webrtc.turn_credential, or webrtc.turn_secret",
        })
    }
}

/// The networks of this machine alone (RFC 1122 §3.2.1.3, RFC 4291 §2.5.3).
fn loopback() -> Vec<IpNet> {
    let (four, six) = (Ipv4Net::new(Ipv4Addr::new(127, 0, 0, 0), 8), Ipv6Net::new(Ipv6Addr::LOCALHOST, 128));
    four.into_iter().map(IpNet::from).chain(six.into_iter().map(IpNet::from)).collect()
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
