//! Which encoding of a simulcast stream a viewer gets. Pure.
//!
//! One that the viewer named is sent while it is live. Otherwise the best that the viewer's network holds:
//! a step down at the first sign that it does not, a step up after a while without one, and a longer while
//! after each step up that failed. A viewer begins with the best: only what is sent can be measured.

use crate::stream::LayerInfo;
use crate::webrtc::LayerSelection;
use std::time::{Duration, Instant};

/// Loss, of 256, that a layer must not have, and beyond which no step up is tried.
const BAD_LOSS: u8 = 26;
const SOME_LOSS: u8 = 5;
/// Before a first step up, and at most between steps that failed.
const FIRST_RISE: Duration = Duration::from_secs(5);
const LAST_RISE: Duration = Duration::from_secs(60);
/// Reports are of what was sent before: after a change they don't count for so long.
const SETTLING: Duration = Duration::from_secs(2);
/// A step up that lasted so long has not failed.
const PROVEN: Duration = Duration::from_secs(15);
/// A browser whose packets come late for a moment says 85 % of what arrives, and takes it back within a second.
/// A little too low counts when it stays; this share of ten, or less, counts at once.
const STAYS: Duration = Duration::from_secs(2);
const FAR_TOO_LOW: u64 = 7;
/// Estimates older than this are forgotten.
const STALE: Duration = Duration::from_secs(10);

/// The choice for one viewer.
#[derive(Debug)]
pub(super) struct LayerChoice {
    pub(super) selection: LayerSelection,
    wanted: u8,
    changed: Instant,
    /// Since when there has been no sign of trouble.
    calm_since: Instant,
    rise_after: Duration,
    rose: Option<Instant>,
    estimate: Option<(u64, Instant)>,
    /// Since when estimates have been too low.
    low_since: Option<Instant>,
    trouble: bool,
}

impl LayerChoice {
    /// The best layer.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            selection: LayerSelection::Automatic,
            wanted: 0,
            changed: now,
            calm_since: now,
            rise_after: FIRST_RISE,
            rose: None,
            estimate: None,
            low_since: None,
            trouble: false,
        }
    }

    /// The layer to send.
    pub(super) fn wanted(&self) -> u8 {
        self.wanted
    }

    /// The receiver estimates that its network carries so many bits a second.
    pub(super) fn estimated(&mut self, bits: u64, now: Instant) {
        self.estimate = Some((bits, now));
    }

    /// A receiver report says that `fraction` of 256 packets were lost.
    pub(super) fn lost(&mut self, fraction: u8, now: Instant) {
        if now.saturating_duration_since(self.changed) < SETTLING {
            return;
        }
        self.trouble |= fraction >= BAD_LOSS;
        if fraction >= SOME_LOSS {
            self.calm_since = now;
        }
    }

    /// Looks at everything again. True if another layer is wanted now.
    pub(super) fn choose(&mut self, layers: &[LayerInfo], now: Instant) -> bool {
        let before = self.wanted;
        let active = |layer: &u8| layers.get(usize::from(*layer)).is_some_and(|layer| layer.active);
        let count = u8::try_from(layers.len()).unwrap_or(u8::MAX);
        let named = match &self.selection {
            LayerSelection::Rid(rid) => layers.iter().position(|layer| layer.rid == *rid && layer.active),
            LayerSelection::Automatic => None,
        };
        if let Some(named) = named {
            self.wanted = named as u8;
        } else if !active(&before) {
            // The next worse one, else the next better one that lives.
            let other = (before..count).find(active).or_else(|| (0..before.min(count)).rev().find(active));
            self.wanted = other.unwrap_or(0);
        } else if let Some(trouble) = self.trouble(layers, now) {
            let mut worse = (before + 1..count).filter(active);
            let fits = |layer: &u8| match trouble {
                Trouble::Loss => true,
                Trouble::Estimate(bits) => layers[usize::from(*layer)].bitrate <= bits,
            };
            if let Some(layer) = worse.clone().find(fits).or_else(|| worse.next_back()) {
                let failed =
                    self.rose.take().is_some_and(|rose| now.saturating_duration_since(rose) < PROVEN);
                self.rise_after = if failed { (self.rise_after * 2).min(LAST_RISE) } else { FIRST_RISE };
                self.wanted = layer;
            }
        } else if now.saturating_duration_since(self.calm_since) >= self.rise_after
            && let Some(better) = (0..before).rev().find(active)
        {
            self.wanted = better;
            self.rose = Some(now);
        }
        self.trouble = false;
        if self.wanted != before {
            (self.changed, self.calm_since) = (now, now);
            (self.estimate, self.low_since) = (None, None);
        }
        self.wanted != before
    }

    fn trouble(&mut self, layers: &[LayerInfo], now: Instant) -> Option<Trouble> {
        if self.trouble {
            return Some(Trouble::Loss);
        }
        let fresh = |at: Instant| now.saturating_duration_since(at) < STALE && at > self.changed + SETTLING;
        let Some((bits, _)) = self.estimate.filter(|(_, at)| fresh(*at)) else {
            self.low_since = None;
            return None;
        };
        let sent = layers.get(usize::from(self.wanted))?.bitrate;
        if bits >= sent / 10 * 9 {
            self.low_since = None;
            return None;
        }
        let since = *self.low_since.get_or_insert(now);
        let counts = bits < sent / 10 * FAR_TOO_LOW || now.saturating_duration_since(since) >= STAYS;
        counts.then_some(Trouble::Estimate(bits))
    }
}

#[derive(Clone, Copy)]
enum Trouble {
    Loss,
    Estimate(u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(active: [bool; 3]) -> Vec<LayerInfo> {
        let of =
            |rid: &str, bitrate, active| LayerInfo { rid: rid.into(), resolution: None, bitrate, active };
        vec![of("f", 2_000_000, active[0]), of("h", 700_000, active[1]), of("q", 200_000, active[2])]
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn the_best_is_sent_until_loss_or_the_estimate_speak_against_it() {
        let (start, all) = (Instant::now(), layers([true; 3]));
        let mut choice = LayerChoice::new(start);
        assert!(!choice.choose(&all, after(start, 3)));
        choice.lost(40, after(start, 3));
        assert!(choice.choose(&all, after(start, 3)));
        assert_eq!(choice.wanted(), 1);
        // What is still reported of the time before does not count.
        choice.lost(40, after(start, 4));
        assert!(!choice.choose(&all, after(start, 4)));
        let mut choice = LayerChoice::new(start);
        choice.estimated(300_000, after(start, 3));
        assert!(choice.choose(&all, after(start, 3)));
        assert_eq!(choice.wanted(), 2, "the middle one does not fit either");
    }

    #[test]
    fn an_estimate_that_is_a_little_too_low_counts_when_it_stays() {
        let (start, all) = (Instant::now(), layers([true; 3]));
        let mut choice = LayerChoice::new(start);
        for (second, bits) in [(3, 1_700_000), (4, 1_900_000), (5, 1_700_000), (6, 1_700_000)] {
            choice.estimated(bits, after(start, second));
            assert!(!choice.choose(&all, after(start, second)), "{second}");
        }
        choice.estimated(1_700_000, after(start, 7));
        assert!(choice.choose(&all, after(start, 7)));
        assert_eq!(choice.wanted(), 1);
    }

    #[test]
    fn steps_up_wait_and_wait_longer_when_they_fail() {
        let (start, all) = (Instant::now(), layers([true; 3]));
        let mut choice = LayerChoice::new(start);
        let mut rises = Vec::new();
        for second in 3..120 {
            let now = after(start, second);
            // The best one never fits.
            choice.lost(if choice.wanted() == 0 { 60 } else { 0 }, now);
            if choice.choose(&all, now) && choice.wanted() == 0 {
                rises.push(second);
            }
        }
        let waits: Vec<u64> = rises.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(waits.len() >= 3 && waits.windows(2).all(|pair| pair[1] > pair[0]), "{rises:?}");
    }

    #[test]
    fn the_named_layer_is_sent_while_it_lives() {
        let start = Instant::now();
        let mut choice = LayerChoice::new(start);
        choice.selection = LayerSelection::Rid("h".into());
        assert!(choice.choose(&layers([true; 3]), start));
        assert_eq!(choice.wanted(), 1);
        choice.lost(255, after(start, 5));
        assert!(!choice.choose(&layers([true; 3]), after(start, 5)), "as it was asked for");
        assert!(choice.choose(&layers([true, false, true]), after(start, 6)));
        assert_eq!(choice.wanted(), 2);
        assert!(choice.choose(&layers([true; 3]), after(start, 7)));
        assert_eq!(choice.wanted(), 1, "back again");
        assert!(choice.choose(&layers([true, false, false]), after(start, 8)));
        assert_eq!(choice.wanted(), 0);
    }
}
