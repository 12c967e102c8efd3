//! What a stream has sent lately: for retransmission, and for the first picture of new viewers.

use super::playout::Transit;
use crate::media::{MediaKind, MediaTime};
use crate::webrtc::egress::template::{Template, TemplatePacket};
use std::sync::Arc;
use std::time::Instant;

/// Video packets kept for retransmission, and the reach of the check for repeated sequences.
pub(super) const WINDOW: u16 = 1024;
/// Bounds of the group of pictures kept for new viewers; a longer one is not kept.
const GROUP_PACKETS: usize = 16_384;
const GROUP_BYTES: usize = 16 << 20;

/// The past of one epoch of one stream.
#[derive(Debug, Default)]
pub(super) struct History {
    epoch: Option<u64>,
    ring: Vec<Option<(u64, Arc<Template>, usize)>>,
    /// Batches from the latest keyframe on; empty if there is none, or it is too long.
    group: Vec<Arc<Template>>,
    group_packets: usize,
    group_bytes: usize,
    /// Rises when `group` is emptied: positions in it are void.
    generation: u64,
    video: Seen,
    audio: Seen,
    video_transit: Transit,
    audio_transit: Transit,
}

/// The latest of one track.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latest {
    pub(super) timestamp: u32,
    pub(super) pts: MediaTime,
    /// When it arrived.
    pub(super) at: Instant,
}

/// Which sequences of a track were there, as far back as [`WINDOW`].
#[derive(Debug, Default)]
struct Seen {
    slots: Vec<u64>,
    highest: Option<u64>,
    latest: Option<Latest>,
}

impl History {
    /// Begins anew if `epoch` is another one. True if so.
    pub(super) fn enter(&mut self, epoch: u64, now: Instant) -> bool {
        if self.epoch == Some(epoch) {
            return false;
        }
        let generation = self.generation + 1;
        let transit = Transit::new(now);
        *self = Self {
            epoch: Some(epoch),
            generation,
            video_transit: transit,
            audio_transit: transit,
            ..Self::default()
        };
        true
    }

    /// Whether the packet is seen for the first time. A repeated sequence never gets through, nor one so
    /// old that nobody knows: SRTP would encrypt two contents under one nonce.
    pub(super) fn fresh(&mut self, kind: MediaKind, sequence: u64) -> bool {
        self.seen_mut(kind).note(sequence)
    }

    /// Remembers a batch that arrived at `now`.
    pub(super) fn push(&mut self, template: &Arc<Template>, now: Instant) {
        if template.group_start().is_some() {
            self.forget_group();
        }
        if !self.group.is_empty() || template.group_start().is_some() {
            self.group.push(template.clone());
            self.group_packets += template.packets.len();
            self.group_bytes += template.size();
            if self.group_packets > GROUP_PACKETS || self.group_bytes > GROUP_BYTES {
                self.forget_group();
            }
        }
        for (position, packet) in template.packets.iter().enumerate() {
            let seen = self.seen_mut(packet.kind);
            if seen.highest == Some(packet.sequence) {
                seen.latest = Some(Latest { timestamp: packet.timestamp, pts: packet.pts, at: now });
                match packet.kind {
                    MediaKind::Video => self.video_transit.note(packet.pts, now),
                    MediaKind::Audio => self.audio_transit.note(packet.pts, now),
                }
            }
            if packet.kind == MediaKind::Video {
                if self.ring.is_empty() {
                    self.ring.resize(usize::from(WINDOW), None);
                }
                self.ring[slot(packet.sequence)] = Some((packet.sequence, template.clone(), position));
            }
        }
    }

    /// A video packet to send again.
    pub(super) fn get(&self, sequence: u64) -> Option<(&Arc<Template>, &TemplatePacket)> {
        let (known, template, position) = self.ring.get(slot(sequence))?.as_ref()?;
        (*known == sequence).then(|| (template, &template.packets[*position]))
    }

    /// The batches from the latest keyframe on, and the generation they belong to.
    pub(super) fn group(&self) -> (&[Arc<Template>], u64) {
        (&self.group, self.generation)
    }

    /// Packets in [`Self::group`].
    pub(super) fn group_packets(&self) -> usize {
        self.group_packets
    }

    /// The latest packet of a track, by its sequence.
    pub(super) fn latest(&self, kind: MediaKind) -> Option<Latest> {
        self.seen(kind).latest
    }

    /// The highest sequence of a track.
    pub(super) fn highest(&self, kind: MediaKind) -> Option<u64> {
        self.seen(kind).highest
    }

    /// How much later sound comes than the pictures of the same instant, in nanoseconds.
    pub(super) fn sound_lag(&self) -> Option<i64> {
        Some(self.audio_transit.least()? - self.video_transit.least()?)
    }

    fn forget_group(&mut self) {
        self.group.clear();
        self.group_packets = 0;
        self.group_bytes = 0;
        self.generation += 1;
    }

    fn seen(&self, kind: MediaKind) -> &Seen {
        match kind {
            MediaKind::Video => &self.video,
            MediaKind::Audio => &self.audio,
        }
    }

    fn seen_mut(&mut self, kind: MediaKind) -> &mut Seen {
        match kind {
            MediaKind::Video => &mut self.video,
            MediaKind::Audio => &mut self.audio,
        }
    }
}

impl Seen {
    fn note(&mut self, sequence: u64) -> bool {
        if self.slots.is_empty() {
            self.slots.resize(usize::from(WINDOW), u64::MAX);
        }
        let slot = &mut self.slots[slot(sequence)];
        let too_old =
            self.highest.is_some_and(|highest| sequence.saturating_add(u64::from(WINDOW)) <= highest);
        if *slot == sequence || too_old {
            return false;
        }
        *slot = sequence;
        self.highest = self.highest.max(Some(sequence));
        true
    }
}

fn slot(sequence: u64) -> usize {
    (sequence % u64::from(WINDOW)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Epoch, Packet, PacketBatch, Tracks};
    use bytes::Bytes;
    use std::time::SystemTime;

    fn push(history: &mut History, sequences: &[u64], keyframe: bool) -> usize {
        let epoch = Arc::new(Epoch { id: 1, tracks: Tracks::default(), wall_origin: SystemTime::UNIX_EPOCH });
        let packets = sequences
            .iter()
            .map(|sequence| Packet {
                kind: MediaKind::Video,
                layer: 0,
                sequence: *sequence,
                timestamp: *sequence as u32,
                pts: MediaTime::from_millis(*sequence as i64),
                marker: true,
                keyframe: keyframe && *sequence == sequences[0],
                payload: Bytes::copy_from_slice(&sequence.to_be_bytes()),
            })
            .collect();
        let template = Arc::new(Template::new(&PacketBatch { epoch, packets }, |kind, sequence| {
            history.fresh(kind, sequence)
        }));
        history.push(&template, Instant::now());
        template.packets.len()
    }

    #[test]
    fn a_repeated_or_very_old_sequence_does_not_get_through() {
        let mut history = History::default();
        assert_eq!(push(&mut history, &[10, 11, 11, 13], false), 3);
        assert_eq!(push(&mut history, &[12, 10, 13], false), 1);
        assert_eq!(push(&mut history, &[5000], false), 1);
        assert_eq!(push(&mut history, &[5000 - 1024, 5000 - 1023], false), 1);
        let now = Instant::now();
        assert!(history.enter(2, now) && !history.enter(2, now));
        assert_eq!(push(&mut history, &[5000], false), 1, "another epoch");
    }

    #[test]
    fn packets_are_found_until_they_leave_the_window() {
        let mut history = History::default();
        let all: Vec<u64> = (0..1500).collect();
        push(&mut history, &all, false);
        for sequence in [476, 1000, 1499] {
            let (template, packet) = history.get(sequence).expect("in the window");
            assert_eq!(template.payload(packet), sequence.to_be_bytes());
        }
        assert!(history.get(475).is_none() && history.get(1500).is_none());
        assert_eq!(history.latest(MediaKind::Video).map(|latest| latest.timestamp), Some(1499));
    }

    #[test]
    fn the_group_begins_at_the_latest_keyframe_and_is_bounded() {
        let mut history = History::default();
        push(&mut history, &[1], false);
        assert!(history.group().0.is_empty(), "no keyframe yet");
        push(&mut history, &[2, 3], true);
        push(&mut history, &[4], false);
        let (group, generation) = history.group();
        assert_eq!((group.len(), history.group_packets()), (2, 3));
        push(&mut history, &[5], true);
        assert_eq!(history.group().0.len(), 1);
        assert_ne!(history.group().1, generation);
        for sequence in 6..30_000 {
            push(&mut history, &[sequence], false);
        }
        assert!(history.group().0.is_empty(), "too long");
    }
}
