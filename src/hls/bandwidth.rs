//! How many bits a second a rendition takes, measured.

use super::segment::Segment;
use std::sync::Arc;
use std::time::Duration;

/// Bits a second of one rendition.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Bandwidth {
    /// The peak segment bit rate (RFC 8216bis §4.4.6.2): the largest of any contiguous segments that
    /// last between half and one and a half target durations together. Before there are any, what is
    /// expected, or else the bit rate of what there is: that begins with a keyframe, so it is rather too high.
    pub peak: f64,
    /// The bit rate of the segments in the playlist.
    pub average: f64,
    settled: bool,
    /// Peak and average, until that is measured.
    expected: Option<(f64, f64)>,
}

impl Bandwidth {
    /// Whether the peak is measured.
    pub fn is_settled(self) -> bool {
        self.settled
    }

    /// Nothing is measured yet, but what was measured here is expected.
    pub fn expected(self) -> Self {
        let expected = self.settled.then_some((self.peak, self.average));
        let (peak, average) = expected.unwrap_or_default();
        Self { peak, average, settled: false, expected }
    }

    /// Measures the segments of a playlist; call it once for each new segment.
    pub fn measure<'a>(
        &mut self,
        listed: impl DoubleEndedIterator<Item = &'a Arc<Segment>>,
        target: Duration,
    ) {
        let (mut bits, mut duration, mut newest) = (0.0, Duration::ZERO, None::<f64>);
        // Only runs that end with the newest segment are new.
        for segment in listed.rev() {
            bits += 8.0 * segment.size() as f64;
            duration += segment.duration;
            if duration >= target / 2 && duration <= target * 3 / 2 {
                let rate = bits / duration.as_secs_f64();
                newest = Some(newest.map_or(rate, |newest| newest.max(rate)));
            }
        }
        if !duration.is_zero() {
            self.average = bits / duration.as_secs_f64();
        }
        self.peak = match newest {
            Some(newest) if self.settled => self.peak.max(newest),
            Some(newest) => newest,
            None if self.settled => self.peak,
            None => self.average,
        };
        self.settled |= newest.is_some();
        if let (false, Some(expected)) = (self.settled, self.expected) {
            (self.peak, self.average) = expected;
        }
    }

    /// What two renditions take together, at most and on average.
    pub fn plus(self, other: Self) -> Self {
        Self {
            peak: self.peak + other.peak,
            average: self.average + other.average,
            settled: self.settled && other.settled,
            expected: None,
        }
    }
}
