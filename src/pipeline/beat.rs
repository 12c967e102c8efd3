//! The beat on which bridges look for packets.
//!
//! Waking a thread costs more than handling a packet, and each stream has some eighty moments a second at which
//! something comes. So bridges look when the beat comes, all at the same moments: however many there are, the
//! runtime wakes up once for a beat. Pure: time is an argument.

use std::time::{Duration, Instant};

/// From one beat to the next: what a packet waits at most. One packet of Opus or more comes in between.
const INTERVAL: Duration = Duration::from_millis(25);

/// The beat of one process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beat {
    origin: Instant,
}

impl Beat {
    /// A beat that begins at `origin`.
    pub(super) fn new(origin: Instant) -> Self {
        Self { origin }
    }

    /// The first beat after `now`.
    pub(super) fn after(self, now: Instant) -> Instant {
        let passed = now.saturating_duration_since(self.origin);
        let into = passed.as_nanos() % INTERVAL.as_nanos();
        now + INTERVAL - Duration::from_nanos(into as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_gets_the_same_beats() {
        let start = Instant::now();
        let beat = Beat::new(start);
        let at = |micros| beat.after(start + Duration::from_micros(micros)) - start;
        assert_eq!(at(0), INTERVAL);
        assert_eq!(at(1), INTERVAL);
        assert_eq!(at(24_999), INTERVAL);
        assert_eq!(at(25_000), INTERVAL * 2);
        assert_eq!(at(1_000_001), INTERVAL * 41);
    }
}
