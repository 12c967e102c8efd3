//! Whether a viewer's network still carries what is sent: from what is heard of it.
//!
//! All clients check their path every few seconds (RFC 7675 §5.1) and report reception (RFC 3550 §6.2); a
//! path over TCP says itself when it is full. Nothing is kept for a viewer that does not receive.

use std::time::{Duration, Instant};

/// Without a sign of life for so long nothing is sent any more. Checks come every 5 s at the latest.
const SILENCE: Duration = Duration::from_secs(7);
/// Nearly everything lost, or the path full, for so long: the viewer is given up.
const PATIENCE: Duration = Duration::from_secs(8);
/// Loss, of 256, that is as good as everything.
const NEARLY_ALL: u8 = 230;
/// A path counts as full until it has taken everything for so long.
const RELIEF: Duration = Duration::from_secs(1);

/// What is known about one viewer's network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    heard: Instant,
    lossy_since: Option<Instant>,
    /// The first and the latest refusal of a stretch.
    refused: Option<(Instant, Instant)>,
}

/// What to do about a viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Media flows.
    Send,
    /// Nothing is sent until the viewer is heard of again.
    Pause,
    /// The session ends.
    GiveUp(&'static str),
}

impl Reach {
    /// Heard of at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { heard: now, lossy_since: None, refused: None }
    }

    /// An authentic message came.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// A receiver report says that `fraction` of 256 packets were lost.
    pub(super) fn lost(&mut self, fraction: u8, now: Instant) {
        self.lossy_since = (fraction >= NEARLY_ALL).then(|| self.lossy_since.unwrap_or(now));
    }

    /// The path did not take a message.
    pub(super) fn refused(&mut self, now: Instant) {
        let since = match self.refused {
            Some((since, latest)) if now.saturating_duration_since(latest) < RELIEF => since,
            _ => now,
        };
        self.refused = Some((since, now));
    }

    /// What follows from it.
    pub(super) fn verdict(&self, now: Instant) -> Verdict {
        let since = |then: Instant| now.saturating_duration_since(then);
        if self.lossy_since.is_some_and(|then| since(then) >= PATIENCE) {
            return Verdict::GiveUp("the viewer's network loses nearly everything");
        }
        let full = |(first, latest): &(Instant, Instant)| {
            since(*latest) < RELIEF && latest.saturating_duration_since(*first) >= PATIENCE
        };
        if self.refused.as_ref().is_some_and(full) {
            return Verdict::GiveUp("the viewer's network does not take the stream");
        }
        if since(self.heard) >= SILENCE { Verdict::Pause } else { Verdict::Send }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn rel06_a_silent_viewer_gets_nothing_until_it_is_heard_again() {
        let start = Instant::now();
        let mut reach = Reach::new(start);
        assert_eq!(reach.verdict(start + seconds(6)), Verdict::Send);
        assert_eq!(reach.verdict(start + seconds(7)), Verdict::Pause);
        reach.heard(start + seconds(9));
        assert_eq!(reach.verdict(start + seconds(9)), Verdict::Send);
    }

    #[test]
    fn rel06_a_viewer_that_loses_nearly_everything_is_given_up_within_ten_seconds() {
        let start = Instant::now();
        let mut reach = Reach::new(start);
        for second in 0..20 {
            reach.heard(start + seconds(second));
            reach.lost(if second == 10 { 100 } else { 255 }, start + seconds(second));
            let given_up = matches!(reach.verdict(start + seconds(second)), Verdict::GiveUp(_));
            // One report with less loss begins the count anew.
            assert_eq!(given_up, second == 8 || second == 9 || second >= 19, "{second}");
        }
    }

    #[test]
    fn rel06_a_path_that_stays_full_is_given_up_and_one_that_was_full_is_not() {
        let start = Instant::now();
        let mut reach = Reach::new(start);
        let at = |millis: u64| start + Duration::from_millis(millis);
        for step in 0..16 {
            reach.heard(at(step * 500));
            reach.refused(at(step * 500));
            assert_eq!(reach.verdict(at(step * 500)), Verdict::Send);
        }
        reach.heard(at(9_500));
        reach.refused(at(9_500)); // after a stretch in which all was taken
        assert_eq!(reach.verdict(at(9_500)), Verdict::Send);
        for step in 20..40 {
            reach.refused(at(step * 500));
        }
        assert!(matches!(reach.verdict(at(19_500)), Verdict::GiveUp(_)));
    }
}
