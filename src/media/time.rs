//! An instant on a stream's media timeline.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Nanoseconds on the timeline of one publisher; may be negative. All tracks of a stream share it.
///
/// It comes from the sender (RTP timestamps placed by sender reports, FLV timestamps), never from
/// arrival or from a GStreamer clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MediaTime(i64);

impl MediaTime {
    /// The origin of the timeline.
    pub const ZERO: Self = Self(0);

    /// From nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From milliseconds, as FLV counts.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis * 1_000_000)
    }

    /// From `ticks` of a clock of `rate` Hz, rounded to the nearest nanosecond.
    pub fn from_ticks(ticks: i64, rate: u32) -> Self {
        Self(divide_rounding(i128::from(ticks) * 1_000_000_000, i128::from(rate)))
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Milliseconds since the origin, rounded down.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Seconds since the origin.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// Ticks of a clock of `rate` Hz, rounded to the nearest: the inverse of [`Self::from_ticks`].
    pub fn to_ticks(self, rate: u32) -> i64 {
        divide_rounding(i128::from(self.0) * i128::from(rate), 1_000_000_000)
    }

    /// The time from `earlier` to `self`; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }

    /// `self` moved by a signed number of nanoseconds.
    pub const fn shifted(self, nanos: i64) -> Self {
        Self(self.0 + nanos)
    }
}

impl Add<Duration> for MediaTime {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0 + duration.as_nanos() as i64)
    }
}

impl Sub<Duration> for MediaTime {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        Self(self.0 - duration.as_nanos() as i64)
    }
}

fn divide_rounding(numerator: i128, denominator: i128) -> i64 {
    (2 * numerator + denominator).div_euclid(2 * denominator) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_survive_the_way_there_and_back() {
        for rate in [1000, 44_100, 48_000, 90_000] {
            for ticks in [-7, 0, 1, 3, 2_999, 3_003, 8_589_934_592] {
                assert_eq!(MediaTime::from_ticks(ticks, rate).to_ticks(rate), ticks);
            }
        }
    }

    #[test]
    fn since_never_goes_below_zero() {
        assert_eq!(MediaTime::ZERO.since(MediaTime::from_millis(5)), Duration::ZERO);
        assert_eq!(MediaTime::from_millis(5).since(MediaTime::ZERO), Duration::from_millis(5));
    }
}
