//! `GET /live`: the public list of streams, for the index page: live ones and those whose publisher may return. Says nothing that a viewer of the
//! stream could not find out.

use super::tracks::{self, TrackView};
use super::{App, cors, problem};
use crate::stream::Stream;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use std::sync::Arc;
use std::time::SystemTime;

#[derive(Serialize)]
struct LiveList {
    items: Vec<LiveStream>,
}

#[derive(Serialize)]
struct LiveStream {
    name: String,
    /// As in the API.
    state: &'static str,
    since: String,
    tracks: Vec<TrackView>,
    readers: LiveReaders,
    whep: String,
    hls: String,
}

/// Who watches now; restream targets are the operator's affair.
#[derive(Serialize)]
struct LiveReaders {
    hls: usize,
    whep: usize,
}

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/live", get(list))
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(middleware::from_fn(cors::media))
}

async fn list(State(app): State<Arc<App>>) -> Response {
    let streams = app.rooms.hub.list();
    let items = streams.iter().map(|stream| LiveStream {
        name: stream.name().to_string(),
        state: stream.state().0.as_str(),
        since: rfc3339(stream.since()),
        tracks: tracks::of(stream),
        readers: readers(stream),
        whep: format!("/{}/whep", stream.name()),
        hls: format!("/{}/index.m3u8", stream.name()),
    });
    ([(CACHE_CONTROL, "no-cache")], Json(LiveList { items: items.collect() })).into_response()
}

fn readers(stream: &Stream) -> LiveReaders {
    let statistics = stream.statistics().snapshot();
    LiveReaders { hls: statistics.hls_readers, whep: statistics.whep_readers }
}

/// RFC 3339, in UTC, to the millisecond.
pub(super) fn rfc3339(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Millis, true)
}
