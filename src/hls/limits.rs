//! The durations a playlist promises. They never change during a stream.

use super::HlsSettings;
use std::time::Duration;

/// Constants of all playlists of a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limits {
    /// `EXT-X-TARGETDURATION` in seconds.
    pub target: u64,
    /// `PART-TARGET`.
    pub part_target: Duration,
    /// Segments a playlist holds, once it has so many.
    pub window: usize,
}

impl Limits {
    /// Twice the segment duration for the target, so that ordinary groups of pictures (2 to 4 s) are
    /// never cut. The muxer's parts are whole frames and not longer than wanted; `PART-TARGET` is 2 %
    /// above that, for senders whose times jitter. RFC 8216bis §4.4.4.9 wants parts between 85 % and
    /// 100 % of it; with 333 ms, 24 to 60 pictures a second and AAC at 44.1 and 48 kHz lie within.
    pub fn new(settings: &HlsSettings) -> Self {
        let part_target = (settings.part_duration.as_millis().max(1) as u64 * 102).div_ceil(1000) * 10;
        Self {
            target: (2.0 * settings.segment_duration.as_secs_f64()).ceil().max(1.0) as u64,
            part_target: Duration::from_millis(part_target),
            window: settings.window.max(6),
        }
    }

    /// The target duration.
    pub fn target_duration(&self) -> Duration {
        Duration::from_secs(self.target)
    }

    /// A segment may be so long that its duration still rounds to the target (RFC 8216bis §4.4.3.1).
    pub fn longest_segment(&self) -> Duration {
        self.target_duration() + Duration::from_millis(490)
    }

    /// `PART-HOLD-BACK`: three part targets (RFC 8216bis §4.4.3.8).
    pub fn part_hold_back(&self) -> Duration {
        3 * self.part_target
    }

    /// How long a request may be held (RFC 8216bis §6.2.5.2: three target durations, then 503).
    pub fn patience(&self) -> Duration {
        3 * self.target_duration()
    }

    /// `CAN-SKIP-UNTIL`: at least six target durations (RFC 8216bis §4.4.3.8).
    pub fn skip_until(&self) -> Duration {
        6 * self.target_duration()
    }

    /// The advance part limit (RFC 8216bis §6.2.5.2): three seconds of parts, three at least.
    pub fn advance_parts(&self) -> u64 {
        (3.0 / self.part_target.as_secs_f64()).ceil().max(3.0) as u64
    }
}
