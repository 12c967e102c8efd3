//! Packets of one track that may be asked for again.

use super::template::{Template, TemplatePacket};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Packets that came within this time are kept, as far as the greater bound allows.
const KEPT: Duration = Duration::from_millis(1500);

/// The latest packets, by sequence.
#[derive(Debug)]
pub(super) struct Ring {
    slots: Vec<Option<Kept>>,
    least: usize,
    most: usize,
}

/// A packet kept for retransmission.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) sequence: u64,
    pub(super) template: Arc<Template>,
    pub(super) position: usize,
    pub(super) at: Instant,
}

impl Ring {
    /// For so many packets at least, and at most.
    pub(super) fn new((least, most): (usize, usize)) -> Self {
        Self { slots: Vec::new(), least, most }
    }

    /// Keeps a packet; the ring grows where one that is still young would have to go.
    pub(super) fn keep(&mut self, kept: Kept) {
        if self.slots.is_empty() {
            self.slots.resize(self.least, None);
        }
        loop {
            let Some(slot) = slot(kept.sequence, self.slots.len()) else { return };
            let young = self.slots[slot].as_ref().is_some_and(|old| kept.at.duration_since(old.at) < KEPT);
            if !young || self.slots.len() >= self.most {
                self.slots[slot] = Some(kept);
                return;
            }
            let mut larger = vec![None; 2 * self.slots.len()];
            let length = larger.len();
            for old in self.slots.drain(..).flatten() {
                if let Some(place) = self::slot(old.sequence, length).and_then(|slot| larger.get_mut(slot)) {
                    *place = Some(old);
                }
            }
            self.slots = larger;
        }
    }

    /// The packet with this sequence.
    pub(super) fn get(&self, sequence: u64) -> Option<(&Arc<Template>, &TemplatePacket)> {
        let kept = self.slots.get(slot(sequence, self.slots.len())?)?.as_ref()?;
        (kept.sequence == sequence).then(|| (&kept.template, &kept.template.packets[kept.position]))
    }
}

/// Where a sequence stands among so many; `None` if there are none.
pub(super) fn slot(sequence: u64, length: usize) -> Option<usize> {
    Some(sequence.checked_rem(length as u64)? as usize)
}
