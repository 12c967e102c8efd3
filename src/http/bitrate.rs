//! Received bitrates, sampled once a second: the difference of counters over the last seconds.

use crate::media::StreamName;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Samples kept for a stream: the rate is over the last 4 s.
const SAMPLES: usize = 5;

/// The bitrates of all streams.
#[derive(Debug, Default)]
pub(super) struct Bitrates {
    samples: Mutex<HashMap<StreamName, VecDeque<(Instant, u64)>>>,
}

impl Bitrates {
    /// How often [`Self::sample`] is to be called.
    pub(super) const INTERVAL: Duration = Duration::from_secs(1);

    /// Takes the counters of all streams at `now`; streams that are not among them are forgotten.
    pub(super) fn sample(&self, now: Instant, bytes_received: impl Iterator<Item = (StreamName, u64)>) {
        let mut samples = self.samples.lock();
        let mut before = std::mem::take(&mut *samples);
        for (name, bytes) in bytes_received {
            let mut history = before.remove(&name).unwrap_or_default();
            if history.back().is_some_and(|&(_, last)| last > bytes) {
                history.clear(); // another stream of this name
            }
            if history.len() == SAMPLES {
                history.pop_front();
            }
            history.push_back((now, bytes));
            samples.insert(name, history);
        }
    }

    /// Bits a second over the last seconds; 0 before the second sample.
    pub(super) fn of(&self, name: &StreamName) -> u64 {
        let samples = self.samples.lock();
        let Some(history) = samples.get(name) else { return 0 };
        let (Some(&(since, first)), Some(&(until, last))) = (history.front(), history.back()) else {
            return 0;
        };
        let seconds = until.duration_since(since).as_secs_f64();
        if seconds > 0.0 { ((last - first) as f64 * 8.0 / seconds) as u64 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let name: StreamName = "demo".parse().expect("a name");
        let bitrates = Bitrates::default();
        let start = Instant::now();
        let sample = |second: u64, bytes| {
            bitrates.sample(start + Duration::from_secs(second), [(name.clone(), bytes)].into_iter());
        };
        sample(0, 5_000_000);
        assert_eq!(bitrates.of(&name), 0);
        sample(1, 5_125_000);
        assert_eq!(bitrates.of(&name), 1_000_000);
        for second in 2..10 {
            sample(second, 5_125_000);
        }
        assert_eq!(bitrates.of(&name), 0, "what was sent long ago does not count");
        sample(10, 1000);
        assert_eq!(bitrates.of(&name), 0, "a new stream of the same name");
        bitrates.sample(start + Duration::from_secs(11), std::iter::empty());
        assert!(bitrates.samples.lock().is_empty());
    }
}
