//! What the gateway's rooms know of themselves: streams, publishers, viewers, targets, pipelines.

use super::sheet::Sheet;
use crate::events::Journal;
use crate::pipeline::Pipelines;
use crate::stream::{Hub, SourceKind, StreamState};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use std::fmt;
use std::sync::Arc;

/// Where values come from.
pub struct Sources {
    /// The streams.
    pub hub: Hub,
    /// GStreamer's work.
    pub pipelines: Arc<Pipelines>,
    /// The events.
    pub journal: Arc<Journal>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

impl Collector for Sources {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sheet = Sheet(encoder);
        self.streams(&mut sheet)?;
        self.media(&mut sheet)?;
        let counts = self.pipelines.counts();
        let started = counts.iter().map(|count| ([("description", count.description)], count.started));
        sheet.counters("tidegate_pipelines_started", "GStreamer pipelines that were built", started)?;
        let failed = counts.iter().map(|count| ([("description", count.description)], count.failed));
        sheet.counters("tidegate_pipelines_failed", "GStreamer pipelines that failed", failed)?;
        sheet.counter("tidegate_events", "Events that were written to the journal", self.journal.count())
    }
}

impl Sources {
    fn streams(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let streams = self.hub.list();
        let states = [StreamState::Live, StreamState::Stalled, StreamState::Waiting].map(|state| {
            let count = streams.iter().filter(|stream| stream.state().0 == state).count();
            ([("state", state.as_str())], count as u64)
        });
        sheet.gauges("tidegate_streams", "Streams by state", states)?;
        let sources: Vec<SourceKind> =
            streams.iter().filter_map(|stream| Some(stream.source()?.0.kind)).collect();
        let publishers = [SourceKind::Whip, SourceKind::Rtmp, SourceKind::Demo].map(|kind| {
            let count = sources.iter().filter(|source| **source == kind).count();
            ([("kind", kind.as_str())], count as u64)
        });
        sheet.gauges("tidegate_publishers", "Publishers by protocol", publishers)?;
        let (hls, whep) = streams.iter().fold((0, 0), |(hls, whep), stream| {
            let statistics = stream.statistics().snapshot();
            (hls + statistics.hls_readers as u64, whep + statistics.whep_readers as u64)
        });
        let viewers = [([("kind", "hls")], hls), ([("kind", "whep")], whep)];
        sheet.gauges("tidegate_viewers", "Viewers by protocol", viewers)
    }

    /// Of all streams together, those that have ended included.
    fn media(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let totals = self.hub.totals();
        sheet.counter("tidegate_streams_started", "Streams that have come to life", totals.streams)?;
        let totals = totals.statistics;
        for (name, help, value) in [
            ("tidegate_received_bytes", "Media received from publishers", totals.bytes_received),
            ("tidegate_received_video_frames", "Video frames received from publishers", totals.video_frames),
            ("tidegate_received_keyframes", "Keyframes among them", totals.keyframes),
            (
                "tidegate_repaired_timestamps",
                "Timestamps of publishers that were repaired",
                totals.timestamps_repaired,
            ),
            ("tidegate_lagged_items", "Items that readers lost because they lagged", totals.items_lagged),
        ] {
            sheet.counter(name, help, value)?;
        }
        Ok(())
    }
}
