//! How much a viewer may have sent again: a bound against floods of NACKs.

use std::time::{Duration, Instant};

/// Bytes a second, and at once, beyond which NACKs go unanswered.
const RATE: f64 = 500_000.0;
/// A packet is not sent again sooner: the first repetition may still be on its way.
const INTERVAL: Duration = Duration::from_millis(15);
/// Resent packets remembered for [`INTERVAL`].
const REMEMBERED: usize = 64;

/// The budget of one viewer.
#[derive(Debug)]
pub(super) struct ResendBudget {
    bytes: f64,
    filled: Instant,
    recent: Vec<(u64, Instant)>,
    next: usize,
}

impl ResendBudget {
    /// A full budget.
    pub(super) fn new(now: Instant) -> Self {
        Self { bytes: RATE, filled: now, recent: Vec::new(), next: 0 }
    }

    /// Whether the packet `index` of `size` bytes may be sent again now; if so it is accounted for.
    pub(super) fn take(&mut self, index: u64, size: usize, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.bytes = (self.bytes + passed * RATE).min(RATE);
        let soon = |at: Instant| now.saturating_duration_since(at) < INTERVAL;
        let repeated = self.recent.iter().any(|(known, at)| *known == index && soon(*at));
        if repeated || self.bytes < size as f64 {
            return false;
        }
        self.bytes -= size as f64;
        if self.recent.len() < REMEMBERED {
            self.recent.push((index, now));
        } else {
            self.recent[self.next] = (index, now);
            self.next = (self.next + 1) % REMEMBERED;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_not_repeated_at_once() {
        let start = Instant::now();
        let mut budget = ResendBudget::new(start);
        assert!(budget.take(1, 1200, start));
        assert!(!budget.take(1, 1200, start + INTERVAL / 2));
        assert!(budget.take(2, 1200, start + INTERVAL / 2));
        assert!(budget.take(1, 1200, start + INTERVAL));
    }

    #[test]
    fn a_flood_is_cut_and_the_budget_refills() {
        let start = Instant::now();
        let mut budget = ResendBudget::new(start);
        let taken = (0..10_000).filter(|index| budget.take(*index, 1000, start)).count();
        assert_eq!(taken, 500);
        let later = start + Duration::from_millis(100);
        let taken = (20_000..30_000).filter(|index| budget.take(*index, 1000, later)).count();
        assert!((49..=51).contains(&taken), "{taken}");
    }
}
