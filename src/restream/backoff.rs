//! How long to wait before the next try. Pure: chance is an argument.

use std::time::Duration;

/// The least and the most that is waited.
const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(30);
/// A server that still holds our old session needs some seconds to find it dead.
const NAME_TAKEN: Duration = Duration::from_secs(5);
/// A session that lived so long was a success: the next failure counts as the first.
const SUCCESS: Duration = Duration::from_secs(60);

/// Counts failures in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    attempt: u32,
}

impl Backoff {
    /// A try failed after having been live for `live`. Gives the number of the next try and the wait
    /// before it: 1 s to 2, 4, 8, … 30 s, `chance` (0 to 1) saying where in between.
    pub(super) fn failed(&mut self, live: Duration, name_taken: bool, chance: f64) -> (u32, Duration) {
        if live >= SUCCESS {
            self.attempt = 0;
        }
        self.attempt = self.attempt.saturating_add(1);
        let ceiling = LEAST.saturating_mul(1 << self.attempt.min(5)).min(MOST);
        let wait = LEAST + (ceiling - LEAST).mul_f64(chance.clamp(0.0, 1.0));
        let wait = if name_taken { wait.max(NAME_TAKEN) } else { wait };
        (self.attempt, wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_grow_to_half_a_minute_and_stay_there() {
        let mut backoff = Backoff::default();
        let longest: Vec<_> =
            (0..7).map(|_| backoff.failed(Duration::ZERO, false, 1.0).1.as_secs()).collect();
        assert_eq!(longest, [2, 4, 8, 16, 30, 30, 30]);
        let mut backoff = Backoff::default();
        for attempt in 1..100 {
            assert_eq!(backoff.failed(Duration::ZERO, false, 0.0), (attempt, SECOND));
        }
    }

    #[test]
    fn chance_spreads_the_tries() {
        let mut backoff = Backoff { attempt: 4 };
        assert_eq!(backoff.failed(Duration::ZERO, false, 0.5).1, Duration::from_millis(15_500));
    }

    #[test]
    fn success_forgets_failures_and_a_short_life_does_not() {
        let mut backoff = Backoff { attempt: 6 };
        assert_eq!(backoff.failed(Duration::from_secs(59), false, 0.0).0, 7);
        assert_eq!(backoff.failed(SUCCESS, false, 0.0).0, 1);
    }

    #[test]
    fn a_taken_name_waits_for_the_old_session() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.failed(Duration::ZERO, true, 0.0).1, NAME_TAKEN);
        assert_eq!(Backoff { attempt: 9 }.failed(Duration::ZERO, true, 1.0).1, MOST);
    }
}
