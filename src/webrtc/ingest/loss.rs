//! Which packets of a track are missing, and when to ask for them (RFC 4585 §6.2.1).
//!
//! The stack's own generator does not see retransmissions on their own SSRC and asks again for what has
//! come; this one looks at packets after they have been restored.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Holes that are remembered; more at once are beyond repair.
const MAX_HOLES: usize = 512;
/// A packet may be overtaken for so long before it counts as lost.
const PATIENCE: Duration = Duration::from_millis(8);
/// From one request for a packet to the next.
const REPEAT: Duration = Duration::from_millis(60);
/// Requests for one packet.
const MAX_REQUESTS: u8 = 5;

/// The holes in a track's sequence.
#[derive(Debug, Default)]
pub(super) struct Losses {
    highest: Option<u64>,
    holes: BTreeMap<u64, Hole>,
}

#[derive(Debug)]
struct Hole {
    due: Instant,
    requests: u8,
}

impl Losses {
    /// Takes note of a packet that arrived at `now` for the first time.
    pub(super) fn arrived(&mut self, now: Instant, sequence: u64) {
        let Some(highest) = self.highest else {
            self.highest = Some(sequence);
            return;
        };
        if sequence <= highest {
            self.holes.remove(&sequence);
            return;
        }
        self.highest = Some(sequence);
        if sequence - highest > MAX_HOLES as u64 {
            self.holes.clear(); // an outage: only a keyframe helps
            return;
        }
        for missing in highest + 1..sequence {
            self.holes.insert(missing, Hole { due: now + PATIENCE, requests: 0 });
        }
        while self.holes.len() > MAX_HOLES {
            self.holes.pop_first();
        }
    }

    /// The packets to ask for now, lowest first, as 16-bit sequence numbers.
    pub(super) fn due(&mut self, now: Instant) -> Vec<u16> {
        let mut wanted = Vec::new();
        self.holes.retain(|sequence, hole| {
            if hole.due > now {
                return true;
            }
            if hole.requests == MAX_REQUESTS {
                return false;
            }
            wanted.push(*sequence as u16);
            hole.requests += 1;
            hole.due = now + REPEAT;
            true
        });
        wanted
    }

    /// When [`Self::due`] has something to say next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.holes.values().map(|hole| hole.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_asked_for_until_it_is_filled() {
        let (mut losses, start) = (Losses::default(), Instant::now());
        losses.arrived(start, 65_534);
        losses.arrived(start, 65_537);
        assert!(losses.due(start).is_empty(), "it may only be late");
        assert_eq!(losses.due(start + PATIENCE), [65_535, 0]);
        assert!(losses.due(start + PATIENCE).is_empty());
        losses.arrived(start + PATIENCE, 65_535);
        assert_eq!(losses.due(start + PATIENCE + REPEAT), [0]);
        losses.arrived(start + PATIENCE + REPEAT, 65_536);
        assert_eq!(losses.deadline(), None);
    }

    #[test]
    fn asking_ends_and_an_outage_is_not_asked_for() {
        let (mut losses, start) = (Losses::default(), Instant::now());
        losses.arrived(start, 1);
        losses.arrived(start, 3);
        let requests = (0..20).map(|n| losses.due(start + PATIENCE + REPEAT * n).len()).sum::<usize>();
        assert_eq!((requests, losses.deadline()), (usize::from(MAX_REQUESTS), None));
        losses.arrived(start, 100_000);
        assert_eq!(losses.deadline(), None);
    }

    #[test]
    fn memory_is_bounded() {
        let (mut losses, start) = (Losses::default(), Instant::now());
        for n in 0..10_000 {
            losses.arrived(start, n * 3);
        }
        assert!(losses.holes.len() <= MAX_HOLES);
    }
}
