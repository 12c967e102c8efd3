//! The one task that writes the journal: it hears the hub and the restreams, and looks at the numbers of viewers.

use super::event::rfc3339;
use super::viewers::{Crossing, Crowd};
use super::{EventType, Journal, Thresholds};
use crate::media::{StreamName, Tracks};
use crate::restream::{Restreams, TargetEvent};
use crate::stream::{Hub, Stream, StreamEvent};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Between two looks at the numbers of viewers.
const LOOK: Duration = Duration::from_secs(1);

/// Writes what happens into the journal.
pub struct Feed {
    hub: Hub,
    journal: Arc<Journal>,
    thresholds: Thresholds,
    streams: broadcast::Receiver<StreamEvent>,
    targets: broadcast::Receiver<TargetEvent>,
    crowds: BTreeMap<StreamName, Crowd>,
}

impl Feed {
    /// From now on no event is missed.
    pub fn subscribe(hub: Hub, restreams: &Restreams, journal: Arc<Journal>, thresholds: Thresholds) -> Self {
        let (streams, targets) = (hub.events(), restreams.events());
        Self { hub, journal, thresholds, streams, targets, crowds: BTreeMap::new() }
    }

    /// Runs until `cancel`; then writes what has happened up to now, and closes the journal.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                event = self.streams.recv() => match event {
                    Ok(event) => self.note(&event),
                    // A thousand at once: the hub's list tells what is, but not what was.
                    Err(RecvError::Lagged(missed)) => warn!(missed, "Events are missing from the journal."),
                    Err(RecvError::Closed) => break,
                },
                event = self.targets.recv() => match event {
                    Ok(event) => self.note_target(event),
                    Err(RecvError::Lagged(missed)) => warn!(missed, "Events of targets are missing."),
                    Err(RecvError::Closed) => break,
                },
                () = cancel.cancelled() => break,
                _ = looks.tick() => self.look(),
            }
        }
        self.journal.close();
    }

    fn note(&mut self, event: &StreamEvent) {
        let (stream, kind, data) = match event {
            StreamEvent::Started(stream) => (stream, EventType::StreamStarted, source(stream)),
            StreamEvent::Stalled(stream) => (stream, EventType::StreamStalled, json!({})),
            StreamEvent::Resumed(stream) => (stream, EventType::StreamResumed, json!({})),
            StreamEvent::TracksChanged(stream, epoch) => {
                (stream, EventType::StreamTracksChanged, json!({ "tracks": tracks(&epoch.tracks) }))
            }
            StreamEvent::PublisherLeft(stream) => {
                let grace = stream.grace().as_secs_f64();
                (stream, EventType::PublisherLeft, json!({ "graceSeconds": grace }))
            }
            StreamEvent::PublisherReturned(stream) => (stream, EventType::PublisherReturned, source(stream)),
            StreamEvent::Ended(stream) => {
                self.crowds.remove(stream.name());
                (stream, EventType::StreamEnded, total(stream))
            }
        };
        self.journal.record(SystemTime::now(), kind, Some(stream.name().clone()), &data);
    }

    fn note_target(&self, event: TargetEvent) {
        let TargetEvent { target, stream, name, old, new, at, failure } = event;
        let data = json!({
            "target": { "id": target, "name": name },
            "old": old,
            "new": new,
            "failure": failure,
        });
        self.journal.record(at.into(), EventType::TargetStateChanged, Some(stream), &data);
    }

    fn look(&mut self) {
        let now = Instant::now();
        for stream in self.hub.list() {
            let statistics = stream.statistics().snapshot();
            let (hls, whep) = (statistics.hls_readers, statistics.whep_readers);
            let crowd = self.crowds.entry(stream.name().clone()).or_default();
            let Some(crossing) = crowd.look(&self.thresholds, hls + whep, now) else { continue };
            let (kind, threshold) = match crossing {
                Crossing::Joined(threshold) => (EventType::ViewersJoined, threshold),
                Crossing::Left(threshold) => (EventType::ViewersLeft, threshold),
            };
            let data = json!({ "threshold": threshold, "viewers": hls + whep, "hls": hls, "whep": whep });
            self.journal.record(SystemTime::now(), kind, Some(stream.name().clone()), &data);
        }
    }
}

/// Who publishes; nothing where it has left again meanwhile.
fn source(stream: &Stream) -> Value {
    let source = stream.source().map(|(source, _)| {
        let remote = source.remote.map(|remote| remote.to_string());
        json!({ "kind": source.kind.as_str(), "remote": remote })
    });
    json!({ "source": source })
}

/// What a stream was when it ended.
fn total(stream: &Stream) -> Value {
    let statistics = stream.statistics().snapshot();
    json!({
        "since": rfc3339(stream.since()),
        "bytesReceived": statistics.bytes_received,
        "videoFrames": statistics.video_frames,
    })
}

/// As the API shows tracks, as far as the publisher has told.
fn tracks(tracks: &Tracks) -> Value {
    let video = tracks.video.as_ref().map(|track| {
        let mut view = json!({ "kind": "video", "codec": track.codec.name() });
        if let Some((width, height)) = track.resolution {
            view["width"] = width.into();
            view["height"] = height.into();
        }
        view
    });
    let audio = tracks.audio.as_ref().map(|track| {
        let (rate, channels) = (track.sample_rate, track.channels);
        json!({ "kind": "audio", "codec": track.codec.name(), "sampleRate": rate, "channels": channels })
    });
    video.into_iter().chain(audio).collect()
}
