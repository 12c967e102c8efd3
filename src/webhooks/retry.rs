//! When a delivery that has failed is tried again. Pure: chance is an argument.

use std::time::Duration;

/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(3600);

/// How often, and how far apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    /// Attempts in all.
    pub(super) tries: u32,
    /// From the first failure to the second attempt.
    pub(super) first: Duration,
}

impl Retry {
    /// The pause after `attempts` failures, doubled with each and moved by up to a fifth by `chance` (0 to 1);
    /// `None`: it was the last.
    pub(super) fn after(&self, attempts: u32, chance: f64) -> Option<Duration> {
        if attempts >= self.tries {
            return None;
        }
        let doubled = self.first.saturating_mul(1 << attempts.saturating_sub(1).min(30));
        Some(doubled.min(LONGEST).mul_f64(0.8 + 0.4 * chance.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_ten_tries_take_about_an_hour() {
        let retry = Retry { tries: 10, first: Duration::from_secs(7) };
        let pauses: Vec<Duration> = (1..).map_while(|attempts| retry.after(attempts, 0.5)).collect();
        assert_eq!(pauses.len(), 9);
        assert_eq!(pauses[..3], [7, 14, 28].map(Duration::from_secs));
        let sum: Duration = pauses.iter().sum();
        assert!((3_500..3_700).contains(&sum.as_secs()), "{sum:?}");
        assert_eq!(retry.after(1, 0.0), Some(Duration::from_millis(5_600)));
        assert_eq!(retry.after(1, 1.0), Some(Duration::from_millis(8_400)));
        assert_eq!(Retry { tries: 99, ..retry }.after(98, 0.5), Some(LONGEST));
    }
}
