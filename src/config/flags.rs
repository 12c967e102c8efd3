//! The command line.

use super::ConfigError;
use super::settings::Setting;
use super::value::Value;
use clap::Parser;
use std::ffi::OsString;
use std::path::PathBuf;

/// A live-video gateway: WHIP and RTMP in; Low-Latency HLS, WHEP and RTMP restreams out.
///
/// Each setting is also a key of the TOML file and an environment variable TIDEGATE_…; flags win over the
/// environment, the environment over the file.
#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    after_help = "tidegate check-hls URL checks an HLS stream instead: see tidegate check-hls --help."
)]
pub(super) struct Flags {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Publish the stream "demo": a moving picture with a clock, a flash and a beep each second
    #[arg(long)]
    demo: bool,
    /// Let anyone publish, without a key
    #[arg(long)]
    open: bool,
    /// Where HTTP is served [default: 0.0.0.0:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    http_listen: Option<String>,
    /// Where RTMP publishers connect [default: 0.0.0.0:1935]
    #[arg(long, value_name = "ADDRESS:PORT")]
    rtmp_listen: Option<String>,
    /// The address, for UDP and TCP, of all WebRTC sessions [default: 0.0.0.0:8189]
    #[arg(long, value_name = "ADDRESS:PORT")]
    webrtc_listen: Option<String>,
    /// The folder for keys and what else survives a restart [default: ~/.local/state/tidegate]
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<String>,
    /// What is logged: "info", "debug", or directives such as "warn,tidegate=debug"
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

impl Flags {
    pub(super) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ConfigError> {
        Ok(Self::try_parse_from(arguments)?)
    }

    /// The settings that were given.
    pub(super) fn settings(&self) -> Result<Vec<Setting>, ConfigError> {
        let switch = |on: bool| on.then(|| "true".to_owned());
        let given = [
            ("demo", "--demo", switch(self.demo)),
            ("open", "--open", switch(self.open)),
            ("http.listen", "--http-listen", self.http_listen.clone()),
            ("rtmp.listen", "--rtmp-listen", self.rtmp_listen.clone()),
            ("webrtc.listen", "--webrtc-listen", self.webrtc_listen.clone()),
            ("state_dir", "--state-dir", self.state_dir.clone()),
            ("log", "--log", self.log.clone()),
        ];
        let given = given.into_iter().filter_map(|(key, flag, value)| Some((key, flag, value?)));
        given.map(|(key, flag, value)| Setting::new(key, Value::One(value), flag.to_owned())).collect()
    }
}
