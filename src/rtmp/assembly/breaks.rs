//! How often a publisher may break its timeline or change its configuration: each costs all outputs an epoch.

use std::time::{Duration, Instant};

/// So many at once …
const BURST: u32 = 60;
/// … and one more after each of these.
const REFILL: Duration = Duration::from_secs(5);

/// What is left of the allowance.
#[derive(Debug)]
pub(super) struct Breaks {
    left: u32,
    refilled: Instant,
}

impl Breaks {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: BURST, refilled: now }
    }

    /// Takes one; false if none is left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let refills = now.saturating_duration_since(self.refilled).as_secs() / REFILL.as_secs();
        let refills = u32::try_from(refills).unwrap_or(u32::MAX);
        self.refilled += REFILL * refills;
        self.left = self.left.saturating_add(refills).min(BURST);
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_bounded_and_a_slow_sender_never_is() {
        let start = Instant::now();
        let mut breaks = Breaks::new(start);
        assert_eq!((0..100).filter(|_| breaks.take(start)).count(), 60);
        assert!(breaks.take(start + REFILL) && !breaks.take(start + REFILL));
        let mut breaks = Breaks::new(start);
        assert!((0..10_000).all(|n| breaks.take(start + Duration::from_secs(6) * n)));
    }
}
