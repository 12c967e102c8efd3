//! One encoding of a publisher's track: RTP packets in, packets numbered without the sender's padding out.
//!
//! Owns the encoding's sequence numbers, its knowledge of access units, and what is to be asked of its
//! encoder. Knows nothing of other tracks, of media time, or of the hub.

use super::access_unit::{self, Contents};
use super::loss::Losses;
use crate::media::{Codec, MediaKind, Sequence, SequenceUnwrapper};
use crate::stream::KeyframeWishes;
use std::collections::VecDeque;
use std::time::Instant;

/// The receiving end of one encoding, from one SSRC.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) kind: MediaKind,
    /// Its place in the section's rids; 0 without simulcast.
    pub(super) encoding: usize,
    pub(super) ssrc: u32,
    pub(super) keyframe: KeyframeWish,
    /// The latest packet.
    pub(super) heard: Instant,
    unwrapper: SequenceUnwrapper,
    numbering: Numbering,
    losses: Losses,
    /// Whether missing packets are asked for.
    repairs: bool,
    access_unit: Option<AccessUnit>,
}

/// What is to be said to the encoder.
#[derive(Debug, Default)]
pub(super) struct KeyframeWish {
    /// No keyframe has come yet.
    missing: bool,
    /// Wishes that have been passed on or granted.
    served: KeyframeWishes,
    /// Requests so far: the number of the next FIR.
    pub(super) requests: u8,
}

/// An RTP packet: decrypted, padding cut off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming<'a> {
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    pub(super) payload: &'a [u8],
}

/// What a packet is within its track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Without gaps for padding, with gaps for losses.
    pub(super) sequence: u64,
    /// Video: decoding can start with this packet …
    pub(super) keyframe: bool,
    /// … or has started with an earlier one of its access unit.
    pub(super) in_keyframe: bool,
    /// Where decoding starts then: this packet, or an earlier one. Before the packet that tells it come prefixes only.
    pub(super) prefix_from: u64,
    /// Video: a frame ended with, or before, this packet; the value tells whether it was a keyframe.
    pub(super) frame: Option<bool>,
}

/// The latest access unit.
#[derive(Debug)]
struct AccessUnit {
    timestamp: u32,
    first: u64,
    /// Where decoding starts, if this is a keyframe.
    start: u64,
    /// So far only what may stand before parameter sets came, in order from `first`.
    only_prefix: bool,
    keyframe: bool,
    counted: bool,
}

impl Receiver {
    /// A receiver for the packets of `ssrc`. `repairs`: missing ones are asked for. `wishes`: those for
    /// keyframes so far.
    pub(super) fn new(
        kind: MediaKind,
        encoding: usize,
        ssrc: u32,
        repairs: bool,
        wishes: KeyframeWishes,
        now: Instant,
    ) -> Self {
        Self {
            kind,
            heard: now,
            encoding,
            ssrc,
            keyframe: KeyframeWish {
                missing: kind == MediaKind::Video,
                served: wishes,
                ..Default::default()
            },
            unwrapper: SequenceUnwrapper::default(),
            numbering: Numbering::default(),
            losses: Losses::default(),
            repairs,
            access_unit: None,
        }
    }

    /// Takes a packet; `None` if it was there before, comes far too late or holds only padding.
    pub(super) fn receive(&mut self, now: Instant, codec: Codec, packet: &Incoming<'_>) -> Option<Place> {
        self.heard = now;
        let Sequence::New(unwrapped) = self.unwrapper.unwrap(packet.sequence) else { return None };
        if self.repairs {
            self.losses.arrived(now, unwrapped);
        }
        if packet.payload.is_empty() {
            self.numbering.padding(unwrapped);
            return None;
        }
        let sequence = self.numbering.number(unwrapped);
        if codec.kind() == MediaKind::Audio {
            return Some(Place {
                sequence,
                keyframe: false,
                in_keyframe: false,
                prefix_from: sequence,
                frame: None,
            });
        }
        let contents = access_unit::contents(codec, packet.payload);
        Some(self.place_in_access_unit(sequence, contents, packet))
    }

    fn place_in_access_unit(&mut self, sequence: u64, contents: Contents, packet: &Incoming<'_>) -> Place {
        let mut place =
            Place { sequence, keyframe: false, in_keyframe: false, prefix_from: sequence, frame: None };
        let newer = |unit: &AccessUnit| (packet.timestamp.wrapping_sub(unit.timestamp) as i32) > 0;
        if self.access_unit.as_ref().is_none_or(newer) {
            place.frame = self.access_unit.take().filter(|unit| !unit.counted).map(|unit| unit.keyframe);
            self.access_unit = Some(AccessUnit {
                timestamp: packet.timestamp,
                first: sequence,
                start: sequence,
                only_prefix: true,
                keyframe: false,
                counted: false,
            });
        }
        // A retransmission of an older access unit changes nothing that has been said of it.
        let Some(unit) = self.access_unit.as_mut().filter(|unit| unit.timestamp == packet.timestamp) else {
            return place;
        };
        if contents == Contents::Start && !unit.keyframe {
            unit.keyframe = true;
            place.keyframe = true;
            unit.start = if unit.only_prefix { unit.first.min(sequence) } else { sequence };
        }
        if unit.keyframe {
            (place.in_keyframe, place.prefix_from) = (true, unit.start.min(sequence));
        }
        unit.only_prefix &= contents == Contents::Prefix;
        if packet.marker && !unit.counted {
            unit.counted = true;
            place.frame = place.frame.or(Some(unit.keyframe));
        }
        place
    }

    /// Sequence numbers to ask for again.
    pub(super) fn missing(&mut self, now: Instant) -> Vec<u16> {
        self.losses.due(now)
    }

    /// When [`Self::missing`] has something to say next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.losses.deadline()
    }
}

impl KeyframeWish {
    /// A keyframe came: it grants every wish made before it; one made after it is for the next.
    pub(super) fn granted(&mut self, wishes: KeyframeWishes) {
        self.missing = false;
        self.served = wishes;
    }

    /// Something may have been lost that is not known: a new keyframe is needed.
    pub(super) fn need(&mut self) {
        self.missing = true;
    }

    /// Whether a keyframe is wanted, by readers of `layer` or because none has come yet. It counts as asked
    /// for then; whoever takes the wish asks at once.
    pub(super) fn take(&mut self, wishes: &KeyframeWishes, layer: u8) -> bool {
        if !self.missing && !wishes.newer(&self.served, layer) {
            return false;
        }
        self.served = *wishes;
        self.requests = self.requests.wrapping_add(1);
        true
    }
}

/// Sequence numbers without those of padding, so that readers don't take padding for losses.
///
/// A number once given never changes, and order is kept: padding that comes in order closes up behind it;
/// padding that comes after later packets have been numbered stays a hole.
#[derive(Debug, Default)]
struct Numbering {
    highest: u64,
    /// Padding older than any packet that may still come.
    forgotten: u64,
    padding: VecDeque<u64>,
}

impl Numbering {
    fn number(&mut self, unwrapped: u64) -> u64 {
        self.highest = self.highest.max(unwrapped);
        let before = self.padding.partition_point(|padding| *padding < unwrapped);
        unwrapped - self.forgotten - before as u64
    }

    fn padding(&mut self, unwrapped: u64) {
        if unwrapped < self.highest {
            return;
        }
        self.highest = unwrapped;
        self.padding.push_back(unwrapped);
        while self.padding.front().is_some_and(|oldest| unwrapped - oldest > SequenceUnwrapper::WINDOW) {
            self.padding.pop_front();
            self.forgotten += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver(kind: MediaKind) -> Receiver {
        Receiver::new(kind, 0, 1, true, KeyframeWishes::default(), Instant::now())
    }

    fn incoming(sequence: u16, timestamp: u32, marker: bool, payload: &[u8]) -> Incoming<'_> {
        Incoming { sequence, timestamp, marker, payload }
    }

    /// Sequence numbers relative to the first, `None` for what is dropped.
    fn numbers(packets: &[(u16, &[u8])]) -> Vec<Option<u64>> {
        let (mut receiver, now) = (receiver(MediaKind::Audio), Instant::now());
        let base = (1 << 16) + u64::from(packets[0].0);
        packets
            .iter()
            .map(|(sequence, payload)| {
                receiver.receive(now, Codec::Opus, &incoming(*sequence, 0, false, payload))
            })
            .map(|place| Some(place?.sequence - base))
            .collect()
    }

    #[test]
    fn padding_leaves_no_holes_and_losses_do() {
        let media = &b"x"[..];
        assert_eq!(
            numbers(&[
                (10, media),
                (11, b""),
                (12, b""),
                (13, media),
                (15, media),
                (16, b""),
                (14, media),
                (17, media)
            ]),
            [Some(0), None, None, Some(1), Some(3), None, Some(2), Some(4)],
        );
    }

    #[test]
    fn late_padding_changes_no_number_and_order_is_kept() {
        let media = &b"x"[..];
        assert_eq!(
            numbers(&[(10, media), (12, media), (11, b""), (13, media), (13, media), (12, media)]),
            [Some(0), Some(2), None, Some(3), None, None],
        );
    }

    #[test]
    fn numbering_survives_much_padding() {
        let mut packets: Vec<(u16, &[u8])> = Vec::new();
        for n in 0..60_000_u16 {
            packets.push((n, if n % 2 == 0 { b"x" } else { b"" }));
        }
        let numbers: Vec<u64> = numbers(&packets).into_iter().flatten().collect();
        assert_eq!(numbers, (0..30_000).collect::<Vec<u64>>());
    }

    #[test]
    fn the_first_packet_of_an_idr_access_unit_is_the_keyframe() {
        let (mut receiver, now) = (receiver(MediaKind::Video), Instant::now());
        let mut receive = |sequence, timestamp, marker, payload: &[u8]| {
            let place = receiver.receive(now, Codec::H264, &incoming(sequence, timestamp, marker, payload));
            place.map(|place| (place.keyframe, place.sequence - place.prefix_from, place.frame)).expect("new")
        };
        // Delimiter and supplemental information, parameter sets, two slices of the IDR picture.
        assert_eq!(receive(1, 0, false, &[9, 16]), (false, 0, None));
        assert_eq!(receive(2, 0, false, &[6, 5]), (false, 0, None));
        assert_eq!(receive(3, 0, false, &[0x67, 1]), (true, 2, None));
        // All that follow in it know where it began.
        assert_eq!(receive(4, 0, false, &[0x68, 1]), (false, 3, None));
        assert_eq!(receive(5, 0, false, &[0x65, 1]), (false, 4, None));
        assert_eq!(receive(6, 0, true, &[0x65, 2]), (false, 5, Some(true)));
        // A frame without marker is counted when the next begins.
        assert_eq!(receive(7, 3_000, false, &[0x41, 1]), (false, 0, None));
        assert_eq!(receive(9, 6_000, true, &[0x41, 1]), (false, 0, Some(false)));
        // A straggler of the frame before tells nothing new.
        assert_eq!(receive(8, 3_000, true, &[0x65, 1]), (false, 0, None));
    }
}
