//! When a delivery that has failed is tried again. Pure: chance and the time are arguments.

use chrono::{DateTime, Utc};
use std::time::Duration;

/// No pause is longer, whoever asks for it.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);

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

/// The pause that a `Retry-After` with this value asks for (RFC 9110 §10.2.3): seconds, or a date. At most
/// [`LONGEST`]; `None` if it says nothing.
pub(super) fn asked_for(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // What is too large for a number is too long.
        return Some(value.parse().map_or(LONGEST, Duration::from_secs).min(LONGEST));
    }
    let date = DateTime::parse_from_rfc2822(value).ok()?;
    Some(date.signed_duration_since(now).to_std().unwrap_or_default().min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_may_ask_for_a_pause_in_seconds_or_by_date() {
        let now = "2026-01-02T03:04:05Z".parse().expect("a time");
        let seconds = |count| Some(Duration::from_secs(count));
        for (value, pause) in [
            ("0", seconds(0)),
            (" 120 ", seconds(120)),
            ("3601", Some(LONGEST)),
            ("99999999999999999999999", Some(LONGEST)),
            ("Fri, 02 Jan 2026 03:05:05 GMT", seconds(60)),
            ("Fri, 02 Jan 2026 03:04:00 GMT", seconds(0)),
            ("Sat, 03 Jan 2026 03:04:05 GMT", Some(LONGEST)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(asked_for(value, now), pause, "{value:?}");
        }
    }

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
