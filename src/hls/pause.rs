//! The publisher's pause: where nothing fills it, it is listed as missing, at the pace at which its media would come.
//!
//! A playlist that stood still would break its promises (RFC 8216bis §6.2.1: a part within each part target, and
//! absent media as gaps), and a request that waits for its next part would fail. So all renditions go on in step with
//! parts of `GAP=YES` in segments of `EXT-X-GAP`, until the first part of who returns. They belong to the stretch that
//! the pause has ended, so the return is the one discontinuity.

use super::packager::Packager;
use crate::media::{Frame, MediaTime};
use crate::stream::{LaneWatch, RenditionFrame, Subscriber};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use tracing::debug;

/// What others fill begins where the publisher ended only so long; from then on it can't meet a gap.
const OTHERS_PATIENCE: Duration = Duration::from_millis(6500);
/// So many parts the gap ends before the present: the first frame of who returns is older than its part.
const BEHIND: u32 = 2;
/// Dates of two stretches may overlap by less (RFC 8216bis §6.2.1).
const OVERLAP: Duration = Duration::from_secs(1);

/// A pause that lasts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    /// When the last frame came.
    since: Instant,
    /// How much of it is listed.
    listed: Duration,
}

impl Packager<'_> {
    /// Notices that a pause has begun, or is over before any of it was listed.
    pub fn notice_pause(&mut self, lanes: &LaneWatch) {
        let pauses = (lanes.stalled || lanes.native.is_none()) && !lanes.held;
        match &self.pause {
            None if pauses => self.pause = self.heard.map(|since| Pause { since, listed: Duration::ZERO }),
            Some(pause) if !pauses && pause.listed.is_zero() => self.pause = None,
            _ => {}
        }
    }

    /// When the next part that does not come is to be listed.
    pub fn gap_due(&self) -> Option<Instant> {
        let Pause { since, listed } = self.pause?;
        let patience = if self.settings.pauses_are_filled { OTHERS_PATIENCE } else { Duration::ZERO };
        let part = self.live.limits().longest_part();
        Some(since + (listed + (1 + BEHIND) * part).max(patience))
    }

    /// Lists what has not come up to now. First it ends the publisher's stretch: no frame will complete its last part.
    pub async fn list_pause(
        &mut self,
        frames: &mut Subscriber<Frame>,
        lower: &mut Subscriber<RenditionFrame>,
    ) {
        let Some(mut pause) = self.pause else { return };
        if pause.listed.is_zero() {
            debug!(stream = %self.live.stream().name(), "Nothing fills the pause: it is listed as missing.");
            self.publisher_left(frames, lower).await;
        }
        let part = self.live.limits().longest_part();
        let missing = pause.since.elapsed().saturating_sub(pause.listed + BEHIND * part);
        let missing = part * u32::try_from(missing.as_nanos() / part.as_nanos().max(1)).unwrap_or(0);
        pause.listed += missing;
        self.list_missing(missing);
        // The parts of the publisher's stretch that have come just now don't end it.
        self.pause = Some(pause);
    }
}

/// The origin of a new stretch's date-times: its epoch's, unless dates up to `listed` lie more than a second behind the
/// `start` already, because a publisher's times stood still in its pause. Then it is later by that, but never so that
/// the stretch begins after `now`.
pub(super) fn date_origin(
    origin: SystemTime,
    start: MediaTime,
    listed: Option<SystemTime>,
    now: SystemTime,
) -> SystemTime {
    let begins = super::segment::date(origin, start);
    let wanted = listed.map_or(begins, |listed| listed.min(now));
    let overlap = wanted.duration_since(begins).unwrap_or_default();
    if overlap > OVERLAP { origin + overlap } else { origin }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_times_do_not_go_back() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let start = MediaTime::from_millis(5000);
        assert_eq!(date_origin(at(100), start, None, at(200)), at(100), "nothing is listed");
        assert_eq!(date_origin(at(100), start, Some(at(90)), at(200)), at(100), "a pause");
        assert_eq!(date_origin(at(100), start, Some(at(106)), at(200)), at(100), "a second is allowed");
        assert_eq!(
            date_origin(at(100), start, Some(at(112)), at(200)),
            at(107),
            "it begins behind what is listed"
        );
        assert_eq!(date_origin(at(100), start, Some(at(900)), at(110)), at(105), "not in the future");
    }
}
