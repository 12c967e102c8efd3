//! A stream as the API shows it, live or only declared.

use crate::declarations::Declaration;
use crate::http::App;
use crate::http::api::entity_tag::EntityTag;
use crate::http::live::rfc3339;
use crate::http::outputs::{self, OutputsView};
use crate::http::tracks::{self, TrackView};
use crate::media::StreamName;
use crate::restream::{TargetCounts, TargetView};
use crate::stream::{StatisticsSnapshot, Stream, StreamState};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// One stream: what was declared of it, and what it does.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Stream)]
pub(super) struct StreamView {
    #[schema(example = "show")]
    name: String,
    /// What people call it; `null` unless it was declared.
    title: Option<String>,
    /// Seconds that it waits for its publisher's return, as declared; `null`: as configured. It holds from the
    /// next start of the stream on.
    grace: Option<u32>,
    /// When it was declared; `null`: it was not, and is forgotten when it ends.
    declared_at: Option<DateTime<Utc>>,
    /// When title or grace were last changed.
    updated_at: Option<DateTime<Utc>>,
    state: StateName,
    /// `null` while it is offline.
    state_since: Option<String>,
    /// `null` while it has no publisher.
    source: Option<SourceView>,
    /// Since when it is there; `null` while it is offline.
    since: Option<String>,
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
    /// How many restream targets it has, by what they do.
    target_counts: TargetCounts,
}

/// One stream, with its restream targets: lists of streams have their numbers only.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StreamWithTargets)]
pub(super) struct WholeStreamView {
    #[serde(flatten)]
    stream: StreamView,
    /// In the order in which they were added.
    targets: Vec<TargetView>,
}

/// Where a stream stands.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StreamState)]
enum StateName {
    /// It has a publisher that sends.
    Live,
    /// It has a publisher, but no media have come for 2 s.
    Stalled,
    /// Its publisher has left; it waits for one to return.
    Waiting,
    /// It is declared, and nobody publishes it.
    Offline,
}

/// Where a stream comes from.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Source)]
struct SourceView {
    /// `whip`, `rtmp` or `demo`.
    #[schema(example = "rtmp")]
    kind: &'static str,
    /// Address and port.
    #[schema(example = "192.0.2.1:50123")]
    remote: Option<String>,
    since: String,
    /// What is wrong with what it sends, so that a part of it is left out; `null` if nothing is.
    problem: Option<String>,
}

/// How many read a stream now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Readers)]
struct ReadersView {
    hls: usize,
    whep: usize,
    restream: usize,
}

/// The tag of what PATCH changes.
pub(super) fn tag(declaration: &Declaration) -> EntityTag {
    EntityTag::of(&(&declaration.title, declaration.grace, declaration.updated_at))
}

/// A stream, of which at least one side is known.
pub(super) fn view(
    app: &App,
    name: &StreamName,
    declared: Option<&Declaration>,
    live: Option<&Arc<Stream>>,
) -> StreamView {
    let statistics = live.map_or_else(StatisticsSnapshot::default, |stream| stream.statistics().snapshot());
    let state = live.map(|stream| stream.state());
    StreamView {
        name: name.to_string(),
        title: declared.and_then(|declared| declared.title.clone()),
        grace: declared.and_then(|declared| declared.grace),
        declared_at: declared.map(|declared| declared.created_at),
        updated_at: declared.map(|declared| declared.updated_at),
        state: match state {
            None => StateName::Offline,
            Some((StreamState::Live, _)) => StateName::Live,
            Some((StreamState::Stalled, _)) => StateName::Stalled,
            Some((StreamState::Waiting, _)) => StateName::Waiting,
        },
        state_since: state.map(|(_, since)| rfc3339(since)),
        source: live.and_then(|stream| stream.source()).map(|(source, since)| SourceView {
            kind: source.kind.as_str(),
            remote: source.remote.map(|remote| remote.to_string()),
            since: rfc3339(since),
            problem: live.and_then(|stream| stream.source_problem()),
        }),
        since: live.map(|stream| rfc3339(stream.since())),
        tracks: live.map(|stream| tracks::of(stream)).unwrap_or_default(),
        outputs: live.and_then(|stream| {
            let webrtc = &app.rooms.webrtc;
            outputs::of(stream, webrtc.transcoding(), webrtc.shortage(name))
        }),
        bitrate: app.bitrates.of(name),
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
        target_counts: app.rooms.restreams.counts(name),
    }
}

/// The same, with its targets.
pub(super) fn whole_view(
    app: &App,
    name: &StreamName,
    declared: Option<&Declaration>,
    live: Option<&Arc<Stream>>,
) -> WholeStreamView {
    let targets = app.rooms.restreams.list(name);
    WholeStreamView { stream: view(app, name, declared, live), targets }
}
