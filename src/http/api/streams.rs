//! `/streams`, `/streams/{stream}` and `/streams/{stream}/publisher`.

use super::list::{List, Page};
use crate::http::App;
use crate::http::live::rfc3339;
use crate::http::outputs::{self, OutputsView};
use crate::http::problem::Problem;
use crate::http::request::{StreamParameter, StreamPath};
use crate::http::tracks::{self, TrackView};
use crate::restream::TargetView;
use crate::stream::Stream;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// One stream.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Stream)]
struct StreamView {
    name: String,
    /// `live`, `stalled` (a publisher is there, but no media come) or `waiting` for one to return.
    state: &'static str,
    state_since: String,
    /// `null` while the stream waits for its publisher's return.
    source: Option<SourceView>,
    since: String,
    tracks: Vec<TrackView>,
    /// `null` while nothing is known of the media.
    outputs: Option<OutputsView>,
    /// Bits a second over the last seconds.
    bitrate: u64,
    bytes_received: u64,
    video_frames: u64,
    keyframes: u64,
    /// Timestamps of the publisher that repeated or fell back a little.
    repaired_timestamps: u64,
    /// Tracks that the publisher sends and no output has.
    tracks_left_out: u64,
    readers: ReadersView,
    targets: Vec<TargetView>,
}

/// Where a stream comes from.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Source)]
struct SourceView {
    /// `whip`, `rtmp` or `demo`.
    kind: &'static str,
    /// Address and port.
    remote: Option<String>,
    since: String,
}

/// How many read a stream now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Readers)]
struct ReadersView {
    hls: usize,
    whep: usize,
    restream: usize,
}

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(one)).routes(routes!(kick))
}

/// All streams
#[utoipa::path(
    get, path = "/streams", tag = "Streams", operation_id = "listStreams",
    params(Page),
    responses((status = 200, description = "A page of them, by name", body = List<StreamView>)),
)]
async fn list(State(app): State<Arc<App>>, page: Page) -> Json<List<StreamView>> {
    Json(page.of(app.rooms.hub.list(), |stream| view(&app, &stream)))
}

/// One stream
#[utoipa::path(
    get, path = "/streams/{stream}", tag = "Streams", operation_id = "getStream",
    params(StreamParameter),
    responses((status = 200, description = "The stream", body = StreamView)),
)]
async fn one(State(app): State<Arc<App>>, StreamPath(name): StreamPath) -> Result<Json<StreamView>, Problem> {
    let stream = app.rooms.hub.get(&name).ok_or_else(|| Problem::unknown_stream(&name))?;
    Ok(Json(view(&app, &stream)))
}

/// Kicks the publisher
///
/// Its session ends; the stream follows after its grace, unless a publisher returns.
#[utoipa::path(
    delete, path = "/streams/{stream}/publisher", tag = "Streams", operation_id = "kickPublisher",
    params(StreamParameter),
    responses((status = 204, description = "Its session is being ended")),
)]
async fn kick(State(app): State<Arc<App>>, StreamPath(name): StreamPath) -> Result<StatusCode, Problem> {
    let stream = app.rooms.hub.get(&name).ok_or_else(|| Problem::unknown_stream(&name))?;
    if stream.kick_publisher() {
        tracing::info!(stream = %name, "Publisher kicked by the API.");
        Ok(StatusCode::NO_CONTENT)
    } else {
        let detail = format!("stream {name} has no publisher now; it waits for one to return");
        Err(Problem::new(StatusCode::CONFLICT, "no-publisher", detail))
    }
}

fn view(app: &App, stream: &Stream) -> StreamView {
    let statistics = stream.statistics().snapshot();
    let (state, state_since) = stream.state();
    StreamView {
        name: stream.name().to_string(),
        state: state.as_str(),
        state_since: rfc3339(state_since),
        source: stream.source().map(|(source, since)| SourceView {
            kind: source.kind.as_str(),
            remote: source.remote.map(|remote| remote.to_string()),
            since: rfc3339(since),
        }),
        since: rfc3339(stream.since()),
        tracks: tracks::of(stream),
        outputs: outputs::of(stream, app.rooms.webrtc.transcoding()),
        bitrate: app.bitrates.of(stream.name()),
        bytes_received: statistics.bytes_received,
        video_frames: statistics.video_frames,
        keyframes: statistics.keyframes,
        repaired_timestamps: statistics.timestamps_repaired,
        tracks_left_out: statistics.tracks_left_out,
        readers: ReadersView {
            hls: statistics.hls_readers,
            whep: statistics.whep_readers,
            restream: statistics.restream_readers,
        },
        targets: app.rooms.restreams.list(stream.name()),
    }
}
