//! How much a viewer may have sent again: a bound against floods of NACKs.

use std::time::{Duration, Instant};

/// Bytes a second, and at once, beyond which NACKs go unanswered.
const RATE: f64 = 500_000.0;
/// A packet is not sent again sooner: the first repetition may still be on its way.
const INTERVAL: Duration = Duration::from_millis(15);
/// A viewer that has asked for so many packets within this time loses much.
const LOSSY: usize = 3;
const LATELY: Duration = Duration::from_secs(2);
/// Resent packets remembered.
const REMEMBERED: usize = 64;

/// The budget of one viewer.
#[derive(Debug)]
pub(super) struct ResendBudget {
    bytes: f64,
    filled: Instant,
    recent: Vec<((u32, u64), Instant)>,
    next: usize,
}

impl ResendBudget {
    /// A full budget.
    pub(super) fn new(now: Instant) -> Self {
        Self { bytes: RATE, filled: now, recent: Vec::new(), next: 0 }
    }

    /// Whether the viewer has lost much lately.
    pub(super) fn is_lossy(&self, now: Instant) -> bool {
        let lately = |at: Instant| now.saturating_duration_since(at) < LATELY;
        self.recent.iter().filter(|(_, at)| lately(*at)).count() >= LOSSY
    }

    /// How many copies of the packet with this SSRC and index, of `size` bytes, may be sent now, which are accounted for; 0: none.
    ///
    /// One copy for a viewer that has lost little. Where copies are lost as well, the next round of requests
    /// comes too late for a smooth picture, so there are two, and three when it has come.
    pub(super) fn take(&mut self, index: (u32, u64), size: usize, now: Instant) -> u8 {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.bytes = (self.bytes + passed * RATE).min(RATE);
        let soon = |at: Instant| now.saturating_duration_since(at) < INTERVAL;
        let before = self.recent.iter().rev().find(|(known, _)| *known == index);
        if before.is_some_and(|(_, at)| soon(*at)) || self.bytes < size as f64 {
            return 0;
        }
        let copies = match before {
            Some(_) => 3,
            None if self.is_lossy(now) => 2,
            None => 1,
        };
        self.bytes -= size as f64 * f64::from(copies);
        if self.recent.len() < REMEMBERED {
            self.recent.push((index, now));
        } else {
            self.recent[self.next] = (index, now);
            self.next = (self.next + 1) % REMEMBERED;
        }
        copies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_not_repeated_at_once() {
        let start = Instant::now();
        let mut budget = ResendBudget::new(start);
        assert_eq!(budget.take((7, 1), 1200, start), 1);
        assert_eq!(budget.take((7, 1), 1200, start + INTERVAL / 2), 0);
        assert_eq!(budget.take((7, 2), 1200, start + INTERVAL / 2), 1);
        assert_eq!(budget.take((8, 1), 1200, start + INTERVAL / 2), 1, "of another track");
        assert_eq!(budget.take((7, 1), 1200, start + INTERVAL), 3, "the first copy was lost");
        assert_eq!(budget.take((7, 3), 1200, start + INTERVAL), 2, "much is lost");
        assert_eq!(budget.take((7, 4), 1200, start + INTERVAL + LATELY), 1);
    }

    #[test]
    fn a_flood_is_cut_and_the_budget_refills() {
        let start = Instant::now();
        let mut budget = ResendBudget::new(start);
        let taken: u32 = (0..10_000).map(|index| u32::from(budget.take((7, index), 1000, start))).sum();
        assert!((500..=501).contains(&taken), "{taken}");
        let later = start + Duration::from_millis(100);
        let taken: u32 = (20_000..30_000).map(|index| u32::from(budget.take((7, index), 1000, later))).sum();
        assert!((49..=51).contains(&taken), "{taken}");
    }
}
