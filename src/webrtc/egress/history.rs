//! What a stream has sent lately: for retransmission, and for the first picture of new viewers.

use super::playout::Transit;
use super::ring::{Kept, Ring, slot};
use super::template::{Template, TemplatePacket};
use crate::media::{MediaKind, MediaTime};
use crate::stream::MAX_LAYERS;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The reach of the check for repeated sequences.
const REACH: u16 = 2048;
/// Packets of one layer, and of the sound, kept for retransmission: so many at least and at most.
const PICTURES: (usize, usize) = (512, 8192);
const SOUND: (usize, usize) = (64, 512);
/// Bounds of the group of pictures kept for new viewers; a longer one is not kept.
const GROUP_PACKETS: usize = 16_384;
const GROUP_BYTES: usize = 16 << 20;

/// The past of one epoch of one stream.
#[derive(Debug)]
pub(super) struct History {
    epoch: Option<u64>,
    layers: Vec<Layer>,
    audio: Seen,
    sound: Ring,
    anchor: Option<Instant>,
    generation: u64,
}

/// The past of the video, or of one layer of it.
#[derive(Debug)]
struct Layer {
    ring: Ring,
    group: Group,
    seen: Seen,
}

/// The batches from a layer's latest keyframe on; empty if there is none, or it is too long.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) templates: Vec<Arc<Template>>,
    /// Rises when the group is emptied: positions in it are void.
    pub(super) generation: u64,
    /// Packets and bytes of this layer.
    packets: usize,
    pub(super) bytes: usize,
}

/// The latest of one track.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latest {
    pub(super) timestamp: u32,
    pub(super) pts: MediaTime,
    /// When it arrived.
    pub(super) at: Instant,
}

/// Which sequences of a track were there, as far back as [`REACH`], and how late its packets come.
#[derive(Debug, Default)]
struct Seen {
    slots: Vec<u64>,
    highest: Option<u64>,
    latest: Option<Latest>,
    transit: Transit,
}

impl Default for History {
    fn default() -> Self {
        Self {
            epoch: None,
            layers: Vec::new(),
            audio: Seen::default(),
            sound: Ring::new(SOUND),
            anchor: None,
            generation: 0,
        }
    }
}

impl History {
    /// Begins anew if `epoch` is another one. True if so.
    pub(super) fn enter(&mut self, epoch: u64, now: Instant) -> bool {
        if self.epoch == Some(epoch) {
            return false;
        }
        let highest = self.layers.iter().map(|layer| layer.group.generation).max().unwrap_or(0);
        let generation = self.generation.max(highest) + 1;
        *self = Self { epoch: Some(epoch), generation, anchor: Some(now), ..Self::default() };
        true
    }

    /// Whether the packet is seen for the first time. A repeated sequence never gets through, nor one so
    /// old that nobody knows: SRTP would encrypt two contents under one nonce. Nor does a layer beyond the
    /// bound.
    pub(super) fn fresh(&mut self, kind: MediaKind, layer: u8, sequence: u64) -> bool {
        match kind {
            MediaKind::Audio => self.audio.note(sequence),
            MediaKind::Video => self.layer_mut(layer).is_some_and(|layer| layer.seen.note(sequence)),
        }
    }

    /// Remembers a batch that arrived at `now`.
    pub(super) fn push(&mut self, template: &Arc<Template>, now: Instant) {
        let anchor = *self.anchor.get_or_insert(now);
        for number in 0..self.layers.len() {
            self.layers[number].group.push(number as u8, template);
        }
        for (position, packet) in template.packets.iter().enumerate() {
            let sequence = packet.sequence;
            let kept = || Kept { sequence, template: template.clone(), position, at: now };
            match packet.kind {
                MediaKind::Audio => {
                    self.audio.arrived(packet, anchor, now);
                    self.sound.keep(kept());
                }
                MediaKind::Video => {
                    let Some(layer) = self.layers.get_mut(usize::from(packet.layer)) else { continue };
                    layer.seen.arrived(packet, anchor, now);
                    layer.ring.keep(kept());
                }
            }
        }
    }

    /// A packet to send again. `layer` counts for video only.
    pub(super) fn get(
        &self,
        kind: MediaKind,
        layer: u8,
        sequence: u64,
    ) -> Option<(&Arc<Template>, &TemplatePacket)> {
        match kind {
            MediaKind::Video => self.layer(layer)?.ring.get(sequence),
            MediaKind::Audio => self.sound.get(sequence),
        }
    }

    /// The group of pictures of a layer; `None` before its first packet.
    pub(super) fn group(&self, layer: u8) -> Option<&Group> {
        Some(&self.layer(layer)?.group)
    }

    /// The latest packet of a track, by its sequence. `layer` counts for video only.
    pub(super) fn latest(&self, kind: MediaKind, layer: u8) -> Option<Latest> {
        self.seen(kind, layer)?.latest
    }

    /// A timestamp of a layer and the instant at which its packets arrive, when none is late.
    pub(super) fn live_edge(&self, layer: u8) -> Option<(u32, Instant)> {
        let seen = self.seen(MediaKind::Video, layer)?;
        let latest = seen.latest?;
        let nanos = seen.transit.least()? + latest.pts.as_nanos();
        let arrival = self.anchor? + Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
        Some((latest.timestamp, arrival.min(latest.at)))
    }

    /// How much later sound is than the pictures of the same instant, in nanoseconds: it comes later, or less steadily.
    pub(super) fn sound_lag(&self) -> Option<i64> {
        let pictures = self.layers.iter().filter_map(|layer| layer.seen.transit.least()).min()?;
        self.audio.transit.sound_lag(pictures)
    }

    fn layer(&self, layer: u8) -> Option<&Layer> {
        self.layers.get(usize::from(layer))
    }

    fn layer_mut(&mut self, layer: u8) -> Option<&mut Layer> {
        let position = usize::from(layer);
        if position < MAX_LAYERS && self.layers.len() <= position {
            let group = || Group { generation: self.generation, ..Group::default() };
            let fresh = || Layer { ring: Ring::new(PICTURES), group: group(), seen: Seen::default() };
            self.layers.resize_with(position + 1, fresh);
        }
        self.layers.get_mut(position)
    }

    fn seen(&self, kind: MediaKind, layer: u8) -> Option<&Seen> {
        match kind {
            MediaKind::Video => Some(&self.layer(layer)?.seen),
            MediaKind::Audio => Some(&self.audio),
        }
    }
}

impl Group {
    fn push(&mut self, layer: u8, template: &Arc<Template>) {
        let begins = template.group_start(layer).is_some();
        if begins {
            self.forget();
        }
        if self.templates.is_empty() && !begins {
            return;
        }
        let of_layer = template.packets.iter().filter(|packet| packet.is_video_of(layer));
        let (packets, bytes) =
            of_layer.fold((0, 0), |(count, bytes), packet| (count + 1, bytes + template.bytes(packet).len()));
        if packets == 0 {
            return;
        }
        self.templates.push(template.clone());
        self.packets += packets;
        self.bytes += bytes;
        if self.packets > GROUP_PACKETS || self.bytes > GROUP_BYTES {
            self.forget();
        }
    }

    fn forget(&mut self) {
        *self = Self { generation: self.generation + 1, ..Self::default() };
    }
}

impl Seen {
    fn note(&mut self, sequence: u64) -> bool {
        if self.slots.is_empty() {
            self.slots.resize(usize::from(REACH), u64::MAX);
        }
        let Some(slot) = slot(sequence, self.slots.len()).and_then(|slot| self.slots.get_mut(slot)) else {
            return false;
        };
        let too_old =
            self.highest.is_some_and(|highest| sequence.saturating_add(u64::from(REACH)) <= highest);
        if *slot == sequence || too_old {
            return false;
        }
        *slot = sequence;
        self.highest = self.highest.max(Some(sequence));
        true
    }

    fn arrived(&mut self, packet: &TemplatePacket, anchor: Instant, now: Instant) {
        if self.highest == Some(packet.sequence) {
            self.latest = Some(Latest { timestamp: packet.timestamp, pts: packet.pts, at: now });
            self.transit.note(packet.pts, anchor, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Epoch, Packet, PacketBatch, Tracks};
    use bytes::Bytes;
    use std::time::SystemTime;

    fn push(history: &mut History, sequences: &[u64], keyframe: bool) -> usize {
        push_at(history, sequences, keyframe, Instant::now())
    }

    fn push_at(history: &mut History, sequences: &[u64], keyframe: bool, now: Instant) -> usize {
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
        let template = Arc::new(Template::new(&PacketBatch { epoch, packets }, |kind, layer, sequence| {
            history.fresh(kind, layer, sequence)
        }));
        history.push(&template, now);
        template.packets.len()
    }

    #[test]
    fn a_repeated_or_very_old_sequence_does_not_get_through() {
        let mut history = History::default();
        assert_eq!(push(&mut history, &[10, 11, 11, 13], false), 3);
        assert_eq!(push(&mut history, &[12, 10, 13], false), 1);
        assert_eq!(push(&mut history, &[5000], false), 1);
        assert_eq!(push(&mut history, &[5000 - 2048, 5000 - 2047], false), 1);
        let now = Instant::now();
        assert!(history.enter(2, now) && !history.enter(2, now));
        assert_eq!(push(&mut history, &[5000], false), 1, "another epoch");
    }

    #[test]
    fn packets_are_found_for_a_while_however_many_there_are() {
        let (mut history, start) = (History::default(), Instant::now());
        let get = |history: &History, sequence| {
            let (template, packet) = history.get(MediaKind::Video, 0, sequence)?;
            assert_eq!(template.payload(packet), u64::to_be_bytes(sequence));
            Some(())
        };
        // 1000 packets a second: the last 1.5 s.
        for sequence in 0..10_000 {
            push_at(&mut history, &[sequence], false, start + Duration::from_millis(sequence));
        }
        assert!((8_501..10_000).all(|sequence| get(&history, sequence).is_some()));
        assert!(get(&history, 10_000).is_none() && get(&history, 3_000).is_none());
        assert_eq!(history.latest(MediaKind::Video, 0).map(|latest| latest.timestamp), Some(9_999));
        // 100 a second: 512 packets.
        let mut history = History::default();
        for sequence in 0..1_000 {
            push_at(&mut history, &[sequence], false, start + Duration::from_millis(10 * sequence));
        }
        assert!((488..1_000).all(|sequence| get(&history, sequence).is_some()));
        assert!(get(&history, 487).is_none());
        // Any number: bounded.
        for sequence in 0..20_000 {
            push_at(&mut history, &[1_000 + sequence], false, start + Duration::from_secs(10));
        }
        assert!(get(&history, 20_999).is_some() && get(&history, 20_999 - 8_192).is_none());
    }

    #[test]
    fn the_group_begins_at_the_latest_keyframe_and_is_bounded() {
        let mut history = History::default();
        push(&mut history, &[1], false);
        let group = |history: &History| {
            let group = history.group(0).expect("a layer");
            (group.templates.len(), group.packets, group.generation)
        };
        assert_eq!(group(&history).0, 0, "no keyframe yet");
        push(&mut history, &[2, 3], true);
        push(&mut history, &[4], false);
        let (batches, packets, generation) = group(&history);
        assert_eq!((batches, packets), (2, 3));
        push(&mut history, &[5], true);
        assert_eq!(group(&history).0, 1);
        assert_ne!(group(&history).2, generation);
        for sequence in 6..30_000 {
            push(&mut history, &[sequence], false);
        }
        assert_eq!(group(&history).0, 0, "too long");
        let generation = group(&history).2;
        history.enter(2, Instant::now());
        push(&mut history, &[1, 2], true);
        assert!(group(&history).2 > generation, "positions in the old epoch are void");
    }
}
