//! What the end-to-end tests share: the server under test, publishers, viewers, targets and meters.
//!
//! Each test starts the real binary on ports of its own and talks to it from outside only.
//! Nothing here sleeps for a fixed time where something can be waited for: see [`eventually`].

// Each test binary compiles this module and uses its own share of it.
#![allow(dead_code, unused_imports)]

mod browser;
mod chaos;
pub mod checklist;
mod endpoint;
mod event_stream;
mod ffmpeg;
mod h265;
mod heard;
mod hls;
mod hostile;
pub mod in_process;
mod login_server;
mod media_server;
mod meter;
mod nginx;
mod nginx_cache;
mod probe;
mod process;
mod receiver;
mod relay;
mod rtc_client;
mod rtc_signalling;
mod rtmp;
mod server;
mod simulcast;
mod turn;
mod verdict;

use std::fs::File;
use std::future::Future;
use std::net::{TcpListener, UdpSocket};
use std::time::{Duration, Instant};

pub use browser::Browser;
pub use chaos::{Chaos, Mischief};
pub use endpoint::{Endpoint, FRAGMENT, Opened, header, offer, problem};
pub use event_stream::{EventStream, Told};
pub use ffmpeg::{Ffmpeg, Small, Source};
pub use h265::assert_receives_h265;
pub use heard::{Tone, heard_in_file, heard_in_packets};
pub use hls::{Hls, Playlist, attribute_of};
pub use hostile::{Flood, Harvest};
pub use login_server::LoginServer;
pub use media_server::MediaServer;
pub use meter::{Offset, beeps, flashes, offset};
pub use nginx::{Nginx, recorded_length};
pub use nginx_cache::NginxCache;
pub use probe::{Probe, decode_errors, packets, probe};
pub use process::Process;
pub use receiver::{Posted, Receiver, Reply};
pub use relay::{Conditions, Counts, Direction, Fate as RelayFate, Relay};
pub use rtc_client::{
    BindingRequest, Fate, Layer, MediaKind, MediaPacket, Picture, PictureSource, Pictures, Programme,
    Publishing, RtcClient, RtcEvent, RtcOffer, RtcOptions, RtcSender, Rtcp, RtpOut, Session, VideoCodec,
    attribute, candidates, credentials, fragment_of, h265_type, is_dtls, is_rtcp, is_rtp, is_stun,
    lines_without, packetise_av1, packetise_h264, packetise_h265, parameter_sets, synthetic_h264,
    transaction, units_of_av1_file, units_of_h264_file, units_of_h265_file, units_of_h265_packets,
};
pub use rtmp::{Message, RtmpClient, messages_of, number, text};
pub use server::{ADMIN_TOKEN, Server, ServerBuilder, state_of};
pub use simulcast::Simulcast;
pub use turn::{Turn, TurnAuth};
pub use verdict::{
    assert_hls_runs, assert_plays_hls, assert_plays_whep, assert_whep_hears, assert_whep_sees,
    number as json_number,
};

/// Asks `attempt` again and again until it gives a value; panics with `what` after `limit`.
pub async fn eventually<T, F, R>(what: &str, limit: Duration, mut attempt: F) -> T
where
    F: FnMut() -> R,
    R: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = attempt().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// An HTTP client to be described further.
pub fn http_client() -> reqwest::ClientBuilder {
    tidegate::tls::install_provider();
    reqwest::Client::builder().no_proxy()
}

/// A number of seconds as a duration.
pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// The machine to oneself: media in real time suffers when two such tests share few cores.
/// Held across all test binaries, released on drop.
pub struct Machine(File);

/// Waits for the [`Machine`].
pub async fn machine() -> Machine {
    tokio::task::spawn_blocking(|| {
        let file = File::create(std::env::temp_dir().join("tidegate-tests.lock")).expect("a lock file");
        file.lock().expect("a lock on a local file");
        Machine(file)
    })
    .await
    .expect("the lock does not panic")
}

/// A TCP port of 127.0.0.1 that was free a moment ago.
pub fn free_tcp_port() -> u16 {
    free_port(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
}

/// A UDP port that was free a moment ago.
pub fn free_udp_port() -> u16 {
    // WebRTC takes the TCP port of the same number as well.
    let by_tcp = |port| TcpListener::bind(("0.0.0.0", port)).is_ok();
    free_port(|port| UdpSocket::bind(("0.0.0.0", port)).is_ok() && by_tcp(port))
}

/// Below the ports that the system gives to outgoing connections, one of which could take it at once.
fn free_port(is_free: impl Fn(u16) -> bool) -> u16 {
    (0..1000)
        .map(|_| rand::random_range(10_000..32_000))
        .find(|port| is_free(*port))
        .expect("a free port below the ephemeral range")
}
