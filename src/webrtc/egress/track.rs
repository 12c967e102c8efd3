//! One track as one viewer receives it: SSRC, payload type, sequence numbers and timestamps.
//!
//! Keeps the promise that SRTP needs: under one SSRC a packet index is used for one content only. Within
//! an epoch the index is the publisher's sequence plus a constant, and sequences are unique there; a new
//! epoch begins above every index used before; retransmissions without RTX repeat the same bytes.

use super::playout::{EXTENSION, PlayoutHint};
use crate::media::MediaKind;
use std::time::{Duration, Instant};

/// Cached pictures are dated as they are sent: within this time before the live edge.
pub(super) const CATCH_UP: Duration = Duration::from_millis(64);

/// One outgoing track.
#[derive(Debug)]
pub(super) struct OutTrack {
    pub(super) kind: MediaKind,
    pub(super) payload_type: u8,
    pub(super) ssrc: u32,
    pub(super) clock_rate: u32,
    pub(super) rtx: Option<Rtx>,
    pub(super) playout: Option<PlayoutHint>,
    /// Packets and payload bytes sent, for sender reports.
    pub(super) packets: u32,
    pub(super) octets: u32,
    next_index: u64,
    mapping: Option<Mapping>,
    last: Option<Last>,
}

/// The retransmission stream of a track (RFC 4588).
#[derive(Debug)]
pub(super) struct Rtx {
    pub(super) payload_type: u8,
    pub(super) ssrc: u32,
    next_index: u64,
}

/// From the publisher's numbers to the viewer's, within one epoch.
#[derive(Clone, Copy, Debug)]
struct Mapping {
    first_sequence: u64,
    /// Added to sequences, wrapping.
    index_offset: u64,
    /// Added to timestamps, wrapping.
    timestamp_offset: u32,
    cached: Option<Cached>,
}

/// How pictures from the cache are dated.
#[derive(Clone, Copy, Debug)]
struct Cached {
    /// Sequences below are cached.
    live_from: u64,
    /// The timestamp of the latest of them.
    live: u32,
    /// What lies up to `span` before it is dated up to `dated` before it.
    span: u32,
    dated: u32,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    timestamp: u32,
    sent: Instant,
}

/// The fields to write into a packet, and the index to seal it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) index: u64,
    pub(super) timestamp: u32,
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
            packets: 0,
            octets: 0,
            next_index: begin(),
            mapping: None,
            last: None,
        }
    }

    /// Whether packets of the present epoch can be sent.
    pub(super) fn is_mapped(&self) -> bool {
        self.mapping.is_some()
    }

    /// Forgets the numbers of an epoch that is over.
    pub(super) fn unmap(&mut self) {
        self.mapping = None;
    }

    /// Begins with the packet `sequence`, dated `timestamp`: sequence numbers go on without a gap, and
    /// timestamps go on by the time that has passed. `cached`: what lies below this sequence comes from
    /// the cache, and is dated close before this timestamp.
    pub(super) fn map(&mut self, sequence: u64, timestamp: u32, cached: Option<(u64, u32)>, now: Instant) {
        let cached = cached.map(|(live_from, live)| {
            let span = live.wrapping_sub(timestamp);
            let dated = ticks(CATCH_UP, self.clock_rate).min(span);
            Cached { live_from, live, span, dated }
        });
        let mut mapping = Mapping {
            first_sequence: sequence,
            index_offset: self.next_index.wrapping_sub(sequence),
            timestamp_offset: 0,
            cached: cached.filter(|cached| (1..1 << 31).contains(&cached.span)),
        };
        let unshifted = mapping.timestamp(sequence, timestamp);
        let wanted = match self.last {
            None => rand::random(),
            Some(last) => {
                let passed = ticks(now.saturating_duration_since(last.sent), self.clock_rate);
                last.timestamp.wrapping_add(passed.max(1))
            }
        };
        mapping.timestamp_offset = wanted.wrapping_sub(unshifted);
        self.mapping = Some(mapping);
    }

    /// The numbers of a packet; `None` before the mapping's first packet. Always the same for one packet.
    pub(super) fn numbers(&self, sequence: u64, timestamp: u32) -> Option<Numbers> {
        let mapping = self.mapping.filter(|mapping| sequence >= mapping.first_sequence)?;
        Some(Numbers {
            index: sequence.wrapping_add(mapping.index_offset),
            timestamp: mapping.timestamp(sequence, timestamp),
        })
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

    /// The header extension that a packet carries; always the same for one packet.
    pub(super) fn playout_extension(&mut self, sequence: u64, timestamp: u32) -> Option<[u8; EXTENSION]> {
        let playout = self.playout.as_mut()?;
        playout.covers(sequence, timestamp).then(|| playout.extension())
    }

    /// Notes that a packet was sent.
    pub(super) fn sent(&mut self, numbers: Numbers, payload: usize, now: Instant) {
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload as u32);
        if numbers.index >= self.next_index {
            self.next_index = numbers.index + 1;
            self.last = Some(Last { timestamp: numbers.timestamp, sent: now });
        }
    }

    /// The publisher's sequence of a packet that the viewer misses: one of the last `window` sent.
    pub(super) fn missing(&self, sequence_number: u16, window: u16) -> Option<u64> {
        let mapping = self.mapping?;
        let highest = self.next_index.checked_sub(1)?;
        let back = (highest as u16).wrapping_sub(sequence_number);
        let index = highest.checked_sub(u64::from(back)).filter(|_| back < window)?;
        let sequence = index.wrapping_sub(mapping.index_offset);
        // What was sent before the mapping wraps to a huge number or lies below its first.
        (sequence >= mapping.first_sequence && sequence <= highest.wrapping_sub(mapping.index_offset))
            .then_some(sequence)
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
    fn timestamp(&self, sequence: u64, timestamp: u32) -> u32 {
        let mut dated = timestamp;
        if let Some(cached) = self.cached.filter(|cached| sequence < cached.live_from) {
            let before = cached.live.wrapping_sub(timestamp);
            // With B-frames the cache may hold a picture dated after its last packet: left as it is.
            if before <= cached.span {
                let before = u64::from(before) * u64::from(cached.dated) / u64::from(cached.span);
                dated = cached.live.wrapping_sub(before as u32);
            }
        }
        dated.wrapping_add(self.timestamp_offset)
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

    #[test]
    fn a_new_epoch_goes_on_above_every_index_used() {
        let start = Instant::now();
        let mut track = track();
        track.map(1_000, 5, None, start);
        let mut used = std::collections::HashSet::new();
        for sequence in [1_000, 1_002, 1_001, 1_003] {
            let numbers = track.numbers(sequence, 5).expect("mapped");
            track.sent(numbers, 10, start);
            assert!(used.insert(numbers.index));
        }
        assert_eq!(track.numbers(999, 5), None, "older than the mapping");
        let highest = used.iter().max().copied().expect("some");
        let before = track.numbers(1_003, 5).expect("mapped").timestamp;
        // The next publisher's numbers lie below, and it repeats the old ones.
        track.map(3, 77, None, start + Duration::from_secs(2));
        let first = track.numbers(3, 77).expect("mapped");
        assert_eq!(first.index, highest + 1);
        assert_eq!(first.timestamp, before.wrapping_add(180_000));
        assert_eq!(track.numbers(2, 77), None, "would repeat an index");
    }

    #[test]
    fn the_index_counts_wraps_of_the_sequence_number() {
        let now = Instant::now();
        let mut track = track();
        track.map(0, 0, None, now);
        let first = track.numbers(0, 0).expect("mapped").index;
        for sequence in 0..200_000 {
            let numbers = track.numbers(sequence, 0).expect("mapped");
            assert_eq!(numbers.index, first + sequence);
            track.sent(numbers, 0, now);
        }
        let highest = first + 199_999;
        assert_eq!(track.missing(highest as u16, 1000), Some(199_999));
        assert_eq!(track.missing((highest - 999) as u16, 1000), Some(199_000));
        assert_eq!(track.missing((highest - 1000) as u16, 1000), None, "out of the window");
        assert_eq!(track.missing((highest + 1) as u16, 1000), None, "not sent yet");
    }

    #[test]
    fn what_was_sent_before_the_mapping_is_not_resent() {
        let now = Instant::now();
        let mut track = track();
        track.map(50, 0, None, now);
        let old = track.numbers(50, 0).expect("mapped");
        track.sent(old, 0, now);
        track.map(7, 0, None, now);
        let new = track.numbers(7, 0).expect("mapped");
        track.sent(new, 0, now);
        assert_eq!(track.missing(new.index as u16, 1000), Some(7));
        assert_eq!(track.missing(old.index as u16, 1000), None);
    }

    #[test]
    fn cached_pictures_are_dated_close_before_the_live_edge_in_order() {
        let now = Instant::now();
        let mut track = track();
        // 2 s of pictures in the cache, live from sequence 60 on; timestamps wrap on the way.
        let at = |number: u64| (u32::MAX - 90_000).wrapping_add(number as u32 * 3_000);
        track.map(0, at(0), Some((60, at(59))), now);
        let dated: Vec<u32> =
            (0..63).map(|number| track.numbers(number, at(number)).expect("mapped").timestamp).collect();
        for pair in dated.windows(2) {
            let step = pair[1].wrapping_sub(pair[0]);
            assert!((1..=3_000).contains(&step), "{step}");
        }
        assert_eq!(dated[59].wrapping_sub(dated[0]), 64 * 90);
        assert_eq!(dated[60].wrapping_sub(dated[59]), 3_000);
        // A retransmission is dated as the first time.
        assert_eq!(track.numbers(10, at(10)).expect("mapped").timestamp, dated[10]);
        assert_eq!(track.live_timestamp(at(62)), Some(dated[62]));
    }
}
