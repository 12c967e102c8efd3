//! Series of single streams, for who wants them (`metrics.per_stream`).

use super::sheet::Sheet;
use crate::stream::{Hub, StatisticsSnapshot};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use std::fmt;

/// Streams that have series of their own: of more, the oldest.
const MOST: usize = 200;

/// The streams of this hub.
#[derive(Debug)]
pub(super) struct Streams(pub(super) Hub);

impl Collector for Streams {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut streams = self.0.list();
        streams.sort_by_key(|stream| stream.since());
        streams.truncate(MOST);
        let streams: Vec<(String, StatisticsSnapshot)> = streams
            .iter()
            .map(|stream| (stream.name().to_string(), stream.statistics().snapshot()))
            .collect();
        let mut sheet = Sheet(encoder);
        let viewers = streams.iter().flat_map(|(name, statistics)| {
            [("hls", statistics.hls_readers), ("whep", statistics.whep_readers)]
                .map(|(kind, count)| ([("stream", name.as_str()), ("kind", kind)], count as u64))
        });
        sheet.gauges("tidegate_stream_viewers", "Viewers of one stream", viewers)?;
        let mut counters = |name: &str, help: &str, value: fn(&StatisticsSnapshot) -> u64| {
            let values =
                streams.iter().map(|(name, statistics)| ([("stream", name.as_str())], value(statistics)));
            sheet.counters(name, help, values)
        };
        counters("tidegate_stream_received_bytes", "Media received from one stream's publishers", |s| {
            s.bytes_received
        })?;
        counters("tidegate_stream_video_frames", "Video frames received from them", |s| s.video_frames)?;
        counters("tidegate_stream_lagged_items", "Items that readers of one stream lost by lagging", |s| {
            s.items_lagged
        })
    }
}
