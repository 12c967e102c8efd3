//! What the way from a publisher holds, for publishers that don't ask for arrival times and take the receiver's
//! estimate instead (REMB, draft-alvestrand-rmcat-remb-03).
//!
//! Goes by losses: without them the estimate rises above what arrives, so that the encoder has room to grow;
//! with many it falls below. Delay is not looked at; that is what transport-wide feedback is for. Pure.

use std::time::{Duration, Instant};

/// Bits a second below which no estimate goes, and above which none rises.
const RANGE: (u64, u64) = (100_000, 50_000_000);
/// A way that has shown no losses yet is believed to hold so much: few encoders begin with more.
const UNPROVEN: u64 = 1_000_000;
/// Losses of 256 that are none, and that are too many.
const NO_LOSS: u64 = 5;
const MUCH_LOSS: u64 = 26;
/// Not less is looked at at once.
const INTERVAL: Duration = Duration::from_millis(900);

/// The estimate of one session.
#[derive(Debug)]
pub(super) struct Bandwidth {
    estimate: Option<u64>,
    bytes: usize,
    since: Instant,
}

impl Bandwidth {
    /// Nothing is known.
    pub(super) fn new(now: Instant) -> Self {
        Self { estimate: None, bytes: 0, since: now }
    }

    /// An authentic packet of so many bytes arrived.
    pub(super) fn arrived(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Looks at the time since the last call, in which `lost` of `expected` packets were lost. What the publisher
    /// is to be told, in bits a second; `None` while nothing comes.
    pub(super) fn estimate(&mut self, now: Instant, expected: u64, lost: u64) -> Option<u64> {
        let passed = now.saturating_duration_since(self.since);
        if passed < INTERVAL {
            return self.estimate;
        }
        if expected == 0 {
            // A pause tells nothing of the way.
            (self.bytes, self.since) = (0, now);
            return self.estimate;
        }
        let received = (self.bytes as u128 * 8_000 / passed.as_millis()) as u64;
        (self.bytes, self.since) = (0, now);
        let share = (lost.min(expected) << 8) / expected;
        let before = self.estimate.unwrap_or(0);
        let estimate = if share > MUCH_LOSS {
            // What arrives is what the way holds; a little less lets its queue run empty.
            let reached = if self.estimate.is_none() { received } else { before.min(received) };
            reached - reached * share / 512
        } else if share > NO_LOSS && before > 0 {
            before
        } else {
            // An encoder with little to say does not show that the way is narrow.
            self.estimate.unwrap_or(UNPROVEN).max(received + received / 2)
        };
        self.estimate = Some(estimate.clamp(RANGE.0, RANGE.1));
        self.estimate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second after the other: kilobits received, packets expected and lost.
    fn told(seconds: &[(usize, u64, u64)]) -> Vec<Option<u64>> {
        let start = Instant::now();
        let mut bandwidth = Bandwidth::new(start);
        let step = |(number, &(kilobits, expected, lost)): (usize, &(usize, u64, u64))| {
            bandwidth.arrived(kilobits * 125);
            let now = start + Duration::from_secs(number as u64 + 1);
            Some(bandwidth.estimate(now, expected, lost)? / 1_000)
        };
        seconds.iter().enumerate().map(step).collect()
    }

    #[test]
    fn it_leaves_room_to_grow_and_falls_below_what_arrives_where_much_is_lost() {
        let told = told(&[
            (0, 0, 0),
            (1_000, 100, 0),
            (1_400, 100, 1),
            (100, 10, 0),
            (1_800, 200, 10),
            (1_600, 200, 50),
            (1_200, 100, 0),
        ]);
        let expected = [None, Some(1_500), Some(2_100), Some(2_100), Some(2_100), Some(1_400), Some(1_800)];
        assert_eq!(told, expected);
    }

    #[test]
    fn it_stays_within_bounds_and_does_not_hurry() {
        assert_eq!(told(&[(1, 10, 10)]), [Some(100)]);
        assert_eq!(told(&[(100_000, 10, 0)]), [Some(50_000)]);
        let start = Instant::now();
        let mut bandwidth = Bandwidth::new(start);
        bandwidth.arrived(100_000);
        assert_eq!(bandwidth.estimate(start + Duration::from_millis(100), 10, 0), None);
    }
}
