//! One track as one viewer receives it: SSRC, payload type, sequence numbers and timestamps.
//!
//! Keeps the promise that SRTP needs: under one SSRC a packet index is used for one content only. Within
//! an epoch and a layer the index is the publisher's sequence plus a constant, and sequences are unique
//! there; a new epoch, and another layer, begins above every index used before; retransmissions without
//! RTX repeat the same bytes. Timestamps follow the stream's timeline, whichever layer is sent, and always
//! rise; the numbers that VP8 and VP9 give to pictures go on.

use super::extensions::{Extensions, SendTime};
use super::pictures::{Pictures, Shift, Shown};
use super::playout::PlayoutHint;
use super::template::TemplatePacket;
use crate::media::{MediaKind, MediaTime};
use std::time::{Duration, Instant};

/// One outgoing track.
#[derive(Debug)]
pub(super) struct OutTrack {
    pub(super) kind: MediaKind,
    pub(super) payload_type: u8,
    pub(super) ssrc: u32,
    pub(super) clock_rate: u32,
    pub(super) rtx: Option<Rtx>,
    pub(super) playout: Option<PlayoutHint>,
    pub(super) send_time: Option<SendTime>,
    /// Packets and payload bytes sent, for sender reports.
    pub(super) packets: u64,
    pub(super) octets: u64,
    /// Packets that the viewer says it has lost.
    pub(super) lost: u64,
    next_index: u64,
    /// What timestamps are above the stream's timeline, in this epoch.
    origin: Option<u32>,
    mapping: Option<Mapping>,
    /// The mapping before, in this epoch: what was sent under it may still be asked for.
    previous: Option<Mapping>,
    last: Option<Last>,
}

/// The retransmission stream of a track (RFC 4588).
#[derive(Debug)]
pub(super) struct Rtx {
    pub(super) payload_type: u8,
    pub(super) ssrc: u32,
    next_index: u64,
}

/// The packet that a mapping begins with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub(super) layer: u8,
    pub(super) sequence: u64,
    pub(super) timestamp: u32,
    pub(super) pts: MediaTime,
    pub(super) pictures: Option<Pictures>,
}

/// How pictures from the cache are dated: as they are sent, faster than they were taken, so that neither
/// their pace nor their place surprises the receiver's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CatchUp {
    /// From this timestamp on pictures keep their dates.
    pub(super) until: u32,
    /// What lies up to `span` ticks before is dated up to `dated` ticks before.
    pub(super) span: u32,
    pub(super) dated: u32,
}

/// From the publisher's numbers to the viewer's, within one epoch and layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mapping {
    pub(super) layer: u8,
    first_sequence: u64,
    first_index: u64,
    /// Added to timestamps, wrapping.
    timestamp_offset: u32,
    pictures: Shift,
    catch_up: Option<CatchUp>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    timestamp: u32,
    sent: Instant,
    pictures: Option<Shown>,
}

impl From<&TemplatePacket> for Start {
    fn from(packet: &TemplatePacket) -> Self {
        let TemplatePacket { layer, sequence, timestamp, pts, pictures, .. } = *packet;
        Self { layer, sequence, timestamp, pts, pictures }
    }
}

/// The fields to write into a packet, and the index to seal it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) index: u64,
    pub(super) timestamp: u32,
    /// What the numbers of pictures are moved by.
    pub(super) pictures: Shift,
}

impl OutTrack {
    /// A track that has sent nothing. Numbers begin at random places (RFC 3550 §5.1), the sequence below
    /// 2^15 so that the receiver can't miss the first wrap (RFC 3711 §3.3.1).
    pub(super) fn new(
        kind: MediaKind,
        payload_type: u8,
        ssrc: u32,
        clock_rate: u32,
        rtx: Option<(u8, u32)>,
    ) -> Self {
        let begin = || u64::from(rand::random::<u16>() >> 1);
        Self {
            kind,
            payload_type,
            ssrc,
            clock_rate,
            rtx: rtx.map(|(payload_type, ssrc)| Rtx { payload_type, ssrc, next_index: begin() }),
            playout: None,
            send_time: None,
            packets: 0,
            octets: 0,
            lost: 0,
            next_index: begin(),
            origin: None,
            mapping: None,
            previous: None,
            last: None,
        }
    }

    /// Whether packets of the present epoch can be sent.
    pub(super) fn is_mapped(&self) -> bool {
        self.mapping.is_some()
    }

    /// The layer that is sent.
    pub(super) fn layer(&self) -> u8 {
        self.mapping.map_or(0, |mapping| mapping.layer)
    }

    /// Forgets the numbers of an epoch that is over.
    pub(super) fn unmap(&mut self) {
        (self.origin, self.mapping, self.previous) = (None, None, None);
    }

    /// Begins with the packet `start`. Sequence numbers go on without a gap; timestamps go on with the
    /// stream's timeline, or in a new epoch by the time that has passed.
    pub(super) fn map(&mut self, start: Start, catch_up: Option<CatchUp>, now: Instant) {
        let mut mapping = Mapping {
            layer: start.layer,
            first_sequence: start.sequence,
            first_index: self.next_index,
            timestamp_offset: 0,
            pictures: Shift::default(),
            catch_up: catch_up.filter(|catch_up| (1..1 << 31).contains(&catch_up.span)),
        };
        let on_timeline = start.pts.to_ticks(self.clock_rate) as u32;
        let origin = self.origin.unwrap_or_else(|| {
            let wanted = self.last.map_or_else(rand::random, |last| {
                let passed = ticks(now.saturating_duration_since(last.sent), self.clock_rate);
                last.timestamp.wrapping_add(passed.max(1))
            });
            let moved = mapping.dated(start.timestamp).wrapping_sub(start.timestamp);
            wanted.wrapping_sub(moved).wrapping_sub(on_timeline)
        });
        self.origin = Some(origin);
        mapping.timestamp_offset = origin.wrapping_add(on_timeline).wrapping_sub(start.timestamp);
        if let Some(last) = self.last {
            // A layer may begin with the picture of the instant that another one has shown already.
            let first = mapping.dated(start.timestamp).wrapping_add(mapping.timestamp_offset);
            let behind = last.timestamp.wrapping_sub(first);
            if behind < 1 << 31 {
                mapping.timestamp_offset = mapping.timestamp_offset.wrapping_add(behind + 1);
            }
            let shift = start.pictures.zip(last.pictures).map(|(ours, last)| ours.shift_after(last));
            mapping.pictures = shift.unwrap_or_default();
        }
        self.previous = self.mapping.filter(|before| before.first_index < mapping.first_index);
        self.mapping = Some(mapping);
    }

    /// The numbers of a packet of the layer that is sent; `None` before the mapping's first packet. Always
    /// the same for one packet.
    pub(super) fn numbers(&self, sequence: u64, timestamp: u32) -> Option<Numbers> {
        self.mapping?.numbers(sequence, timestamp)
    }

    /// Pictures begin with the one dated `first`; sound comes `sound_lag` nanoseconds later than pictures.
    pub(super) fn begin_playout(&mut self, first: u32, sound_lag: Option<i64>) {
        if let Some(playout) = &mut self.playout {
            playout.begin(first, sound_lag.unwrap_or(0));
        }
    }

    /// Sound now comes `sound_lag` nanoseconds later than pictures.
    pub(super) fn update_playout(&mut self, sound_lag: Option<i64>) {
        if let (Some(playout), Some(lag)) = (&mut self.playout, sound_lag) {
            playout.update(lag);
        }
    }

    /// See [`PlayoutHint::allow_repairs`].
    pub(super) fn allow_repairs(&mut self) {
        if let Some(playout) = &mut self.playout {
            playout.allow_repairs();
        }
    }

    /// The header extensions that a packet carries when it is sent at `now`.
    pub(super) fn extensions(&mut self, sequence: u64, timestamp: u32, now: Instant) -> Extensions {
        let playout = self
            .playout
            .as_mut()
            .and_then(|playout| playout.covers(sequence, timestamp).then(|| playout.element()));
        let send_time = self.send_time.as_ref().and_then(|time| time.element(now));
        Extensions::new([playout, send_time])
    }

    /// Whether packets carry the instant of sending, where that was agreed upon.
    pub(super) fn tell_send_time(&mut self, wanted: bool) {
        if let Some(time) = &mut self.send_time {
            time.wanted = wanted;
        }
    }

    /// Notes that a packet was sent.
    pub(super) fn sent(
        &mut self,
        numbers: Numbers,
        pictures: Option<Pictures>,
        payload: usize,
        now: Instant,
    ) {
        self.packets += 1;
        self.octets += payload as u64;
        if numbers.index >= self.next_index {
            self.next_index = numbers.index + 1;
            let pictures = pictures.map(|pictures| pictures.shown(numbers.pictures));
            self.last = Some(Last { timestamp: numbers.timestamp, sent: now, pictures });
        }
    }

    /// The mapping and the publisher's sequence of a packet that the viewer misses.
    pub(super) fn missing(&self, sequence_number: u16) -> Option<(Mapping, u64)> {
        let highest = self.next_index.checked_sub(1)?;
        let back = (highest as u16).wrapping_sub(sequence_number);
        let index = highest.checked_sub(u64::from(back)).filter(|_| back < 1 << 15)?;
        let mapping = [self.mapping, self.previous]
            .into_iter()
            .flatten()
            .find(|mapping| index >= mapping.first_index)?;
        Some((mapping, mapping.first_sequence + (index - mapping.first_index)))
    }

    /// Whether a cached picture dated `timestamp` is due when the live edge is at `edge`.
    pub(super) fn is_due(&self, timestamp: u32, edge: u32) -> bool {
        let dated = self.mapping.map_or(timestamp, |mapping| mapping.dated(timestamp));
        (dated.wrapping_sub(edge) as i32) <= 0
    }

    /// The viewer's timestamp of a live packet dated `timestamp` by the publisher, for sender reports.
    pub(super) fn live_timestamp(&self, timestamp: u32) -> Option<u32> {
        Some(timestamp.wrapping_add(self.mapping?.timestamp_offset))
    }
}

impl Rtx {
    /// The next index of the retransmission stream.
    pub(super) fn take_index(&mut self) -> u64 {
        self.next_index += 1;
        self.next_index - 1
    }
}

impl Mapping {
    /// The numbers of a packet of this mapping's layer; `None` before its first.
    pub(super) fn numbers(&self, sequence: u64, timestamp: u32) -> Option<Numbers> {
        let index = self.first_index + sequence.checked_sub(self.first_sequence)?;
        let timestamp = self.dated(timestamp).wrapping_add(self.timestamp_offset);
        Some(Numbers { index, timestamp, pictures: self.pictures })
    }

    fn dated(&self, timestamp: u32) -> u32 {
        let Some(catch_up) = self.catch_up else { return timestamp };
        let before = catch_up.until.wrapping_sub(timestamp);
        // What is dated later, or before the first, wraps or lies beyond the span.
        if before > catch_up.span {
            return timestamp;
        }
        let before = u64::from(before) * u64::from(catch_up.dated) / u64::from(catch_up.span);
        catch_up.until.wrapping_sub(before as u32)
    }
}

/// `duration` in ticks of a clock of `rate` Hz.
pub(super) fn ticks(duration: Duration, rate: u32) -> u32 {
    (duration.as_nanos() * u128::from(rate) / 1_000_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track() -> OutTrack {
        OutTrack::new(MediaKind::Video, 96, 1, 90_000, Some((97, 2)))
    }

    fn start(sequence: u64, timestamp: u32) -> Start {
        Start {
            layer: 0,
            sequence,
            timestamp,
            pts: MediaTime::from_ticks(i64::from(timestamp), 90_000),
            pictures: None,
        }
    }

    #[test]
    fn a_new_epoch_goes_on_above_every_index_used() {
        let now = Instant::now();
        let mut track = track();
        track.map(start(1_000, 5), None, now);
        let mut used = std::collections::HashSet::new();
        for sequence in [1_000, 1_002, 1_001, 1_003] {
            let numbers = track.numbers(sequence, 5).expect("mapped");
            track.sent(numbers, None, 10, now);
            assert!(used.insert(numbers.index));
        }
        assert_eq!(track.numbers(999, 5), None, "older than the mapping");
        let highest = used.iter().max().copied().expect("some");
        let before = track.numbers(1_003, 5).expect("mapped").timestamp;
        // The next publisher's numbers lie below, and it repeats the old ones.
        track.unmap();
        track.map(start(3, 77), None, now + Duration::from_secs(2));
        let first = track.numbers(3, 77).expect("mapped");
        assert_eq!(first.index, highest + 1);
        assert_eq!(first.timestamp, before.wrapping_add(180_000));
        assert_eq!(track.numbers(2, 77), None, "would repeat an index");
        assert!(track.missing(highest as u16).is_none(), "what an earlier epoch sent is not resent");
    }

    #[test]
    fn another_layer_goes_on_without_a_gap_and_on_the_same_timeline() {
        let now = Instant::now();
        let mut track = track();
        let pts = MediaTime::from_millis;
        track.map(Start { layer: 2, sequence: 50, timestamp: 1_000, pts: pts(0), pictures: None }, None, now);
        for sequence in 50..60 {
            let numbers = track.numbers(sequence, 1_000).expect("mapped");
            track.sent(numbers, None, 10, now);
        }
        let last = track.numbers(59, 1_000 + 9 * 3_000).expect("mapped");
        // The other layer has numbers of its own; its picture is 400 ms after the first one's.
        track.map(
            Start { layer: 0, sequence: 7_000, timestamp: 77, pts: pts(400), pictures: None },
            None,
            now,
        );
        let first = track.numbers(7_000, 77).expect("mapped");
        assert_eq!(first.index, last.index + 1);
        assert_eq!(first.timestamp, last.timestamp.wrapping_add(9_000), "three frames after the ninth");
        assert_eq!(track.layer(), 0);
        track.sent(first, None, 10, now);
        // Either can be resent.
        let missing =
            |index: u64| track.missing(index as u16).map(|(mapping, sequence)| (mapping.layer, sequence));
        assert_eq!(missing(last.index), Some((2, 59)));
        assert_eq!(missing(first.index), Some((0, 7_000)));
        let (mapping, sequence) = track.missing(last.index as u16).expect("sent");
        assert_eq!(mapping.numbers(sequence, 28_000), Some(last), "as the first time");
    }

    #[test]
    fn the_index_counts_wraps_of_the_sequence_number() {
        let now = Instant::now();
        let mut track = track();
        track.map(start(0, 0), None, now);
        let first = track.numbers(0, 0).expect("mapped").index;
        for sequence in 0..200_000 {
            let numbers = track.numbers(sequence, 0).expect("mapped");
            assert_eq!(numbers.index, first + sequence);
            track.sent(numbers, None, 0, now);
        }
        let highest = first + 199_999;
        let missing = |index: u64| track.missing(index as u16).map(|(_, sequence)| sequence);
        assert_eq!(missing(highest), Some(199_999));
        assert_eq!(missing(highest - 999), Some(199_000));
        assert_eq!(missing(highest + 1), None, "not sent yet");
    }

    #[test]
    fn cached_pictures_are_dated_as_they_are_sent() {
        let now = Instant::now();
        let mut track = track();
        // 2 s of pictures in the cache, sent within 100 ms; timestamps wrap on the way.
        let at = |number: u32| (u32::MAX - 90_000).wrapping_add(number * 3_000);
        let catch_up = CatchUp { until: at(63), span: 63 * 3_000, dated: 9_000 };
        track.map(start(0, at(0)), Some(catch_up), now);
        let numbers = |number: u32| track.numbers(u64::from(number), at(number)).expect("mapped").timestamp;
        let dated: Vec<u32> = (0..66).map(numbers).collect();
        for pair in dated.windows(2) {
            let step = pair[1].wrapping_sub(pair[0]);
            assert!((1..=3_000).contains(&step), "{step}");
        }
        assert_eq!(dated[63].wrapping_sub(dated[0]), 9_000);
        assert_eq!(dated[65].wrapping_sub(dated[63]), 6_000, "live ones keep their dates");
        assert_eq!(track.live_timestamp(at(65)), Some(dated[65]));
        // One is due when the live edge has come to its date.
        let begin = at(63).wrapping_sub(9_000);
        assert!(track.is_due(at(0), begin) && !track.is_due(at(1), begin));
        assert!(track.is_due(at(31), begin.wrapping_add(4_500)) && !track.is_due(at(33), begin + 4_500));
    }

    #[test]
    fn pictures_are_numbered_on_when_layers_and_epochs_change() {
        let now = Instant::now();
        let mut track = track();
        // A layer counts from `id`, its base pictures from `base`.
        let vp8 = |id: u16, base: u8| {
            let [high, low] = (id | 0x8000).to_be_bytes();
            let payload = vec![0x90, 0xe0, high, low, base, 0, 0x10, 0];
            (Pictures::find(crate::media::Codec::Vp8, &payload).expect("numbers"), payload)
        };
        let mut shown = Vec::new();
        let mut send = |track: &mut OutTrack, sequence: u64, id: u16, base: u8| {
            let (pictures, mut payload) = vp8(id, base);
            let numbers = track.numbers(sequence, sequence as u32).expect("mapped");
            pictures.write(&mut payload, numbers.pictures);
            track.sent(numbers, Some(pictures), 8, now);
            shown.push((u16::from_be_bytes([payload[2] & 0x7f, payload[3]]), payload[4]));
        };
        let begin = |sequence: u64, layer: u8, id: u16, base: u8| Start {
            layer,
            sequence,
            timestamp: sequence as u32,
            pts: MediaTime::from_ticks(sequence as i64, 90_000),
            pictures: Some(vp8(id, base).0),
        };
        track.map(begin(10, 1, 0x7ffe, 254), None, now);
        assert!(track.numbers(10, 10).expect("mapped").pictures.is_none(), "as the publisher numbers them");
        send(&mut track, 10, 0x7ffe, 254);
        send(&mut track, 11, 0x7fff, 255);
        send(&mut track, 12, 0, 0);
        track.map(begin(900, 0, 0x1234, 77), None, now);
        send(&mut track, 900, 0x1234, 77);
        send(&mut track, 901, 0x1234, 77);
        send(&mut track, 902, 0x1235, 78);
        track.unmap();
        track.map(begin(5, 0, 3, 3), None, now + Duration::from_secs(1));
        send(&mut track, 5, 3, 3);
        let expected = [(0x7ffe, 254), (0x7fff, 255), (0, 0), (1, 1), (1, 1), (2, 2), (3, 3)];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_layer_that_begins_with_a_picture_that_was_shown_already_is_dated_later() {
        let now = Instant::now();
        let mut track = track();
        let pts = MediaTime::from_millis;
        let at = |layer, sequence, millis| Start {
            layer,
            sequence,
            timestamp: 90 * millis as u32,
            pts: pts(millis),
            pictures: None,
        };
        track.map(at(1, 50, 0), None, now);
        for (sequence, timestamp) in [(50, 0), (51, 3_000)] {
            let numbers = track.numbers(sequence, timestamp).expect("mapped");
            track.sent(numbers, None, 10, now);
        }
        let shown = track.numbers(51, 3_000).expect("mapped").timestamp;
        track.map(at(0, 7, 20), None, now);
        let next = track.numbers(7, 1_800).expect("mapped").timestamp;
        assert_eq!(next, shown.wrapping_add(1));
        // On time again with the next change.
        track.map(at(1, 60, 100), None, now);
        assert_eq!(track.numbers(60, 9_000).expect("mapped").timestamp, shown.wrapping_add(6_000));
    }
}
