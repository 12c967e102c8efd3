//! How long to wait before the next try. Pure: chance is an argument.

use std::time::Duration;

/// The least and the most that is waited.
const LEAST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(30);
/// A server that still holds our old session needs some seconds to find it dead.
const NAME_TAKEN: Duration = Duration::from_secs(5);
/// The same where the server said no: somebody must change something first.
const REFUSED: Duration = Duration::from_secs(60);
const REFUSED_MOST: Duration = Duration::from_secs(300);
/// A session that lived so long was a success: the next failure counts as the first.
const SUCCESS: Duration = Duration::from_secs(60);

/// What a failure tells about the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It may work at any moment.
    Passing,
    /// Another session has the name, most likely our last one.
    NameTaken,
    /// It won't work until somebody changes something.
    Refusal,
}

/// Counts failures in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    attempt: u32,
    refusals: u32,
}

impl Backoff {
    /// A try failed after having been live for `live`. Gives the number of failures in a row and the wait
    /// before the next try, `chance` (0 to 1) saying where in between: 1 s to 2, 4, 8, … 30 s; after a
    /// refusal a minute, then two, up to five.
    pub(super) fn failed(&mut self, live: Duration, failure: Failure, chance: f64) -> (u32, Duration) {
        if live >= SUCCESS {
            *self = Self::default();
        }
        self.attempt = self.attempt.saturating_add(1);
        let chance = chance.clamp(0.0, 1.0);
        if failure == Failure::Refusal {
            let wait = REFUSED.saturating_mul(1 << self.refusals.min(3)).min(REFUSED_MOST);
            self.refusals += 1;
            // A tenth more or less: many targets of one server don't come at once.
            return (self.attempt, wait.mul_f64(1.0 + 0.1 * chance).min(REFUSED_MOST));
        }
        self.refusals = 0;
        let ceiling = LEAST.saturating_mul(1 << self.attempt.min(5)).min(MOST);
        let wait = LEAST + (ceiling - LEAST).mul_f64(chance);
        let wait = if failure == Failure::NameTaken { wait.max(NAME_TAKEN) } else { wait };
        (self.attempt, wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Failure::{NameTaken, Passing, Refusal};

    const SECOND: Duration = Duration::from_secs(1);
    const NONE: Duration = Duration::ZERO;

    #[test]
    fn waits_grow_to_half_a_minute_and_stay_there() {
        let mut backoff = Backoff::default();
        let longest: Vec<_> = (0..7).map(|_| backoff.failed(NONE, Passing, 1.0).1.as_secs()).collect();
        assert_eq!(longest, [2, 4, 8, 16, 30, 30, 30]);
        let mut backoff = Backoff::default();
        for attempt in 1..100 {
            assert_eq!(backoff.failed(NONE, Passing, 0.0), (attempt, SECOND));
        }
    }

    #[test]
    fn chance_spreads_the_tries() {
        let mut backoff = Backoff { attempt: 4, refusals: 0 };
        assert_eq!(backoff.failed(NONE, Passing, 0.5).1, Duration::from_millis(15_500));
    }

    #[test]
    fn success_forgets_failures_and_a_short_life_does_not() {
        let mut backoff = Backoff { attempt: 6, refusals: 2 };
        assert_eq!(backoff.failed(Duration::from_secs(59), Passing, 0.0).0, 7);
        assert_eq!(backoff.failed(SUCCESS, Passing, 0.0).0, 1);
    }

    #[test]
    fn a_taken_name_waits_for_the_old_session() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.failed(NONE, NameTaken, 0.0).1, NAME_TAKEN);
        assert_eq!(Backoff { attempt: 9, refusals: 0 }.failed(NONE, NameTaken, 1.0).1, MOST);
    }

    #[test]
    fn a_refusal_is_asked_again_after_a_minute_and_then_more_rarely() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..6).map(|_| backoff.failed(NONE, Refusal, 0.0).1.as_secs()).collect();
        assert_eq!(waits, [60, 120, 240, 300, 300, 300]);
        assert_eq!(Backoff::default().failed(NONE, Refusal, 1.0).1.as_secs(), 66);
        let (attempt, wait) = backoff.failed(NONE, Passing, 1.0);
        assert_eq!((attempt, wait), (7, MOST), "the server is there no more");
        assert_eq!(backoff.failed(NONE, Refusal, 0.0).1, REFUSED);
    }
}
