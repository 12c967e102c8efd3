//! How WebRTC is set up.

use crate::admission::Refusals;
use crate::media::Transcoding;
use crate::pipeline::CpuBudget;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What WebRTC needs to know.
#[derive(Clone, Debug)]
pub struct WebRtcSettings {
    /// Where the UDP socket is bound; a wildcard address stands for all interfaces.
    pub listen: SocketAddr,
    /// Addresses under which peers reach us, when they are not those of our interfaces (NAT).
    pub external_addresses: Vec<IpAddr>,
    /// Threads for sessions, from 1; each is started when it is needed.
    pub workers: usize,
    /// Peers may come by TCP, too, to the same port number.
    pub tcp: bool,
    /// How much of ICE we do.
    pub ice: IceMode,
    /// Sessions on their way, without a connectivity check yet, of one source address …
    pub half_open_per_source: usize,
    /// … and in all.
    pub half_open: usize,
    /// What these bounds refuse is counted there.
    pub refusals: Refusals,
    /// What may be done to video, and is done with B-frames, for viewers.
    pub transcoding: Transcoding,
    /// Whether there is processor time for that.
    pub budget: Arc<CpuBudget>,
}

/// How much of ICE we do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IceMode {
    /// We answer checks and send none (RFC 8445 §2.5): enough on a public address.
    Lite,
    /// We send checks as well.
    Full,
}

impl WebRtcSettings {
    /// The defaults, on `listen`.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            external_addresses: Vec::new(),
            workers: std::thread::available_parallelism().map_or(1, usize::from).min(64),
            tcp: true,
            ice: IceMode::Lite,
            half_open_per_source: 50,
            half_open: 500,
            refusals: Refusals::default(),
            transcoding: Transcoding::default(),
            budget: Arc::default(),
        }
    }
}
