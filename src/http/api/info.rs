//! `/info`: which server this is, since when it runs, where it listens, how much it may do and does.

use crate::http::live::rfc3339;
use crate::http::{App, Rooms};
use crate::webrtc::SessionKind;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What the gateway tells of itself.
#[derive(Clone, Debug)]
pub struct About {
    /// When it was started, on both clocks.
    pub started: (SystemTime, Instant),
    /// Where RTMP publishers connect.
    pub rtmp: SocketAddr,
    /// The same over TLS.
    pub rtmps: Option<SocketAddr>,
    /// What can be switched on and off, and whether it is on.
    pub features: Vec<(&'static str, bool)>,
    /// The bounds by their keys in the configuration; `None`: without bound.
    pub limits: Vec<(&'static str, Option<u64>)>,
}

impl About {
    /// For a part that runs alone.
    pub fn nothing() -> Self {
        Self {
            started: (SystemTime::now(), Instant::now()),
            rtmp: SocketAddr::from(([0, 0, 0, 0], 0)),
            rtmps: None,
            features: Vec::new(),
            limits: Vec::new(),
        }
    }
}

/// The server.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Info {
    #[schema(example = "tidegate")]
    name: &'static str,
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// When it was started.
    start_time: String,
    /// Seconds since then.
    uptime: u64,
    listeners: Listeners,
    /// What can be switched on and off, and whether it is on.
    features: BTreeMap<&'static str, bool>,
    /// The bounds by their keys in the configuration; `null`: without bound.
    limits: BTreeMap<&'static str, Option<u64>>,
    counts: Counts,
}

/// Where it listens.
#[derive(Debug, Serialize, ToSchema)]
struct Listeners {
    #[schema(value_type = String, example = "0.0.0.0:8080")]
    http: SocketAddr,
    #[schema(value_type = String, example = "0.0.0.0:1935")]
    rtmp: SocketAddr,
    /// `null` without a certificate.
    #[schema(value_type = Option<String>, example = "0.0.0.0:1936")]
    rtmps: Option<SocketAddr>,
    /// UDP, and TCP if it is on.
    #[schema(value_type = String, example = "0.0.0.0:8189")]
    webrtc: SocketAddr,
}

/// What there is now.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Counts {
    /// Streams that are live, stalled or waiting.
    streams: usize,
    declared_streams: usize,
    whip_sessions: usize,
    whep_sessions: usize,
    rtmp_sessions: usize,
    hls_players: usize,
}

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(info))
}

/// The server
///
/// Its version, since when it runs, where it listens, what it may do, and what there is now.
#[utoipa::path(
    get, path = "/info", tag = "Server", operation_id = "getInfo",
    responses((status = 200, description = "What the server tells of itself", body = Info)),
)]
async fn info(State(app): State<Arc<App>>) -> Json<Info> {
    let Rooms { hub, webrtc, rtmp, .. } = &app.rooms;
    let about = &app.about;
    let streams = hub.list();
    let sessions = app.sessions.list();
    let of_kind = |kind| sessions.iter().filter(|session| session.entry.kind == kind).count();
    Json(Info {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        start_time: rfc3339(about.started.0),
        uptime: about.started.1.elapsed().as_secs(),
        listeners: Listeners {
            http: app.local,
            rtmp: about.rtmp,
            rtmps: about.rtmps,
            webrtc: webrtc.local_addr(),
        },
        features: about.features.iter().copied().collect(),
        limits: about.limits.iter().copied().collect(),
        counts: Counts {
            streams: streams.len(),
            declared_streams: app.rooms.declarations.count(),
            whip_sessions: of_kind(SessionKind::Whip),
            whep_sessions: of_kind(SessionKind::Whep),
            rtmp_sessions: rtmp.list().len(),
            hls_players: streams.iter().map(|stream| stream.statistics().snapshot().hls_readers).sum(),
        },
    })
}
