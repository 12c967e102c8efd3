//! What the gateway's rooms know of themselves: streams, publishers, viewers, targets, pipelines.

use super::sheet::Sheet;
use crate::admission::Refusals;
use crate::events::Journal;
use crate::pipeline::Pipelines;
use crate::restream::Restreams;
use crate::rtmp::RtmpSessions;
use crate::stream::{Hub, SourceKind, StreamState};
use crate::webhooks::{DeliveryCounts, Webhooks};
use crate::webrtc::{SessionKind, WebRtc};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use std::fmt;
use std::sync::Arc;

/// Where values come from.
pub struct Sources {
    /// The streams.
    pub hub: Hub,
    /// The restream targets.
    pub restreams: Arc<Restreams>,
    /// WebRTC's port.
    pub webrtc: Arc<WebRtc>,
    /// RTMP's connections.
    pub rtmp: Arc<RtmpSessions>,
    /// What was turned away.
    pub refusals: Refusals,
    /// GStreamer's work.
    pub pipelines: Arc<Pipelines>,
    /// The events.
    pub journal: Arc<Journal>,
    /// Who is told of them.
    pub webhooks: Arc<Webhooks>,
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
        self.sessions(&mut sheet)?;
        self.targets(&mut sheet)?;
        let refusals = self.refusals.snapshot();
        let refusals = refusals.iter().map(|(limit, count)| ([("limit", limit.name())], *count));
        sheet.counters("tidegate_refusals", "What a limit has turned away", refusals)?;
        let dropped = self.webrtc.dropped();
        let dropped = dropped.iter().map(|(reason, count)| ([("reason", reason.name())], *count));
        sheet.counters("tidegate_webrtc_dropped_datagrams", "Datagrams that were dropped", dropped)?;
        let counts = self.pipelines.counts();
        let started = counts.iter().map(|count| ([("description", count.description)], count.started));
        sheet.counters("tidegate_pipelines_started", "GStreamer pipelines that were built", started)?;
        let failed = counts.iter().map(|count| ([("description", count.description)], count.failed));
        sheet.counters("tidegate_pipelines_failed", "GStreamer pipelines that failed", failed)?;
        sheet.counter("tidegate_events", "Events that were written to the journal", self.journal.count())?;
        let DeliveryCounts { delivered, failed, dead } = self.webhooks.counts();
        let attempts = [("delivered", delivered), ("failed", failed), ("dead", dead)]
            .map(|(result, count)| ([("result", result)], count));
        sheet.counters("tidegate_webhook_attempts", "Attempts to deliver events to webhooks", attempts)?;
        let pending = self.webhooks.pending_in_all() as u64;
        sheet.gauge("tidegate_webhook_deliveries_pending", "Deliveries to webhooks that wait", pending)
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

    /// Those that are over count in all but their number.
    fn sessions(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let (whip, whep) = (self.webrtc.totals(SessionKind::Whip), self.webrtc.totals(SessionKind::Whep));
        let kinds = [("whip", whip.open), ("whep", whep.open), ("rtmp", self.rtmp.count() as u64)];
        let kinds = kinds.map(|(kind, count)| ([("kind", kind)], count));
        sheet.gauges("tidegate_sessions", "Connections that publish or view, by protocol", kinds)?;
        sheet.counter("tidegate_whep_sent_bytes", "RTP sent to WHEP viewers", whep.sent)?;
        let help = "Packets that WHEP viewers say they have lost";
        sheet.counter("tidegate_whep_lost_packets", help, whep.packets_lost)?;
        let help = "Packets that were sent to WHEP viewers again";
        sheet.counter("tidegate_whep_resent_packets", help, whep.packets_resent)
    }

    fn targets(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let counts = self.restreams.counts_in_all().by_state();
        let states = counts.map(|(state, count)| ([("state", state)], count as u64));
        sheet.gauges("tidegate_targets", "Restream targets by state", states)?;
        let totals = self.restreams.totals();
        sheet.counter("tidegate_target_sent_bytes", "Bytes sent to restream targets", totals.bytes_sent)?;
        let help = "Frames left out because a target was too slow";
        sheet.counter("tidegate_target_dropped_frames", help, totals.dropped_frames)?;
        let help = "How often a target became live again after a failure";
        sheet.counter("tidegate_target_reconnects", help, totals.reconnects)
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
