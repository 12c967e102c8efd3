//! The HTTP server: pages, WHIP and WHEP endpoints, HLS files, and the API, on one port.
//!
//! One file a resource. Turns requests into calls of the rooms below and their answers into responses;
//! `problem` is the only place where an error becomes a status. Owns the accept loop with its limits.
//! Holds no state of streams of its own but the sampled bitrates.

mod access;
mod api;
mod bitrate;
mod body;
mod connection;
mod cors;
mod event_stream;
#[cfg(test)]
mod fixture;
mod hls;
mod ice_servers;
mod live;
mod metrics;
mod outputs;
mod pages;
mod problem;
mod proxies;
mod range;
mod rates;
mod request;
mod router;
mod server;
mod sessions;
mod site;
mod tracks;

pub use api::About;
pub use cors::Origins;
pub use ice_servers::{IceServers, TurnCredentials};
pub use proxies::{ForwardedHeader, Proxies};
pub use rates::RateSettings;
pub use server::{Http, HttpError, HttpSettings};

use crate::auth::Access;
use crate::declarations::Declarations;
use crate::events::Journal;
use crate::hls::Hls;
use crate::metrics::Metrics;
use crate::restream::Restreams;
use crate::rtmp::RtmpSessions;
use crate::stream::Hub;
use crate::webhooks::Webhooks;
use crate::webrtc::WebRtc;
use api::{EventReaders, Idempotency};
use bitrate::Bitrates;
use rates::Rates;
use sessions::Sessions;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The rooms that requests are passed on to.
#[derive(Clone)]
pub struct Rooms {
    /// The streams.
    pub hub: Hub,
    /// HLS files.
    pub hls: Arc<Hls>,
    /// WHIP and WHEP sessions.
    pub webrtc: Arc<WebRtc>,
    /// Restream targets.
    pub restreams: Arc<Restreams>,
    /// RTMP sessions.
    pub rtmp: Arc<RtmpSessions>,
    /// Declared streams.
    pub declarations: Arc<Declarations>,
    /// What has happened.
    pub journal: Arc<Journal>,
    /// Who is told of it.
    pub webhooks: Arc<Webhooks>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// What every handler sees.
struct App {
    rooms: Rooms,
    access: Access,
    bitrates: Bitrates,
    rates: Rates,
    proxies: Proxies,
    origins: Origins,
    ice_servers: IceServers,
    sessions: Sessions,
    event_readers: EventReaders,
    /// `/metrics` needs no token.
    open_metrics: bool,
    idempotency: Idempotency,
    about: About,
    /// Where HTTP is served.
    local: SocketAddr,
    /// The names under which the API is served; `None`: any.
    hosts: Option<Vec<String>>,
    /// Cancelled when the gateway begins to shut down: new sessions are refused.
    closing: CancellationToken,
}
