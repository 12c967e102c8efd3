//! The round trip: from a sender report to the report block that names it (RFC 3550 §6.4.1).

use std::time::{Duration, Instant};

/// Reports remembered: those of a few seconds, of two tracks.
const REMEMBERED: usize = 8;

/// When the latest sender reports went out.
#[derive(Debug, Default)]
pub(super) struct Echoes {
    sent: [Option<(u32, Instant)>; REMEMBERED],
    next: usize,
}

impl Echoes {
    /// A report went out at `now`; `middle`: the middle 32 bits of its NTP timestamp.
    pub(super) fn sent(&mut self, middle: u32, now: Instant) {
        self.sent[self.next] = Some((middle, now));
        self.next = (self.next + 1) % REMEMBERED;
    }

    /// A block came at `now` that names the report `middle`, after the peer has had it for `delay`, in 65536ths
    /// of a second. The round trip, if the report is remembered and the delay can be true.
    pub(super) fn heard(&self, middle: u32, delay: u32, now: Instant) -> Option<Duration> {
        let (_, sent) = self.sent.iter().flatten().find(|(known, _)| *known == middle)?;
        let delay = Duration::from_secs_f64(f64::from(delay) / 65_536.0);
        now.saturating_duration_since(*sent).checked_sub(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_round_trip_is_what_the_peer_did_not_spend() {
        let (mut echoes, start) = (Echoes::default(), Instant::now());
        let after = |millis| start + Duration::from_millis(millis);
        echoes.sent(7, start);
        assert_eq!(echoes.heard(7, 65_536 / 2, after(540)), Some(Duration::from_millis(40)));
        assert_eq!(echoes.heard(7, 65_536, after(540)), None, "longer than it can have been");
        assert_eq!(echoes.heard(0, 0, after(540)), None, "no report yet");
        (0..REMEMBERED as u32).for_each(|number| echoes.sent(100 + number, start));
        assert_eq!(echoes.heard(7, 0, after(540)), None, "forgotten");
    }
}
