//! Payloads made into the packet lane's packets: sequence numbers, timestamps, marker bits.

use crate::media::{MediaKind, MediaTime, Packet};
use bytes::Bytes;

/// The payloads of one access unit, or one Opus packet.
#[derive(Clone, Debug)]
pub(super) struct Packetized {
    pub(super) pts: MediaTime,
    /// Video: a decoder can start here.
    pub(super) keyframe: bool,
    /// Audio: samples at 48 kHz. Video: 0.
    pub(super) samples: i64,
    pub(super) payloads: Vec<Bytes>,
}

/// Numbers the packets of one track; goes on through epochs.
#[derive(Debug)]
pub(super) struct PacketCounter {
    kind: MediaKind,
    clock_rate: u32,
    sequence: u64,
    /// RFC 3550 §5.1: time stamps begin at a random value.
    offset: u32,
    /// Where the next audio frame begins if no sample is missing, in ticks.
    next: Option<i64>,
}

/// Times that stray less than this from the count of samples are the sender's rounding (FLV counts
/// milliseconds) or jitter: receivers would hear them as gaps. Ticks: 30 ms.
const OPUS_TOLERANCE: u64 = 1440;

impl PacketCounter {
    /// Clocks run at 90 kHz for video and at 48 kHz for audio (RFC 7587 §4.1).
    pub(super) fn new(kind: MediaKind) -> Self {
        let clock_rate = if kind == MediaKind::Video { 90_000 } else { 48_000 };
        let sequence = u64::from(rand::random::<u16>() >> 1);
        Self { kind, clock_rate, sequence, offset: rand::random(), next: None }
    }

    /// The packets of one group.
    pub(super) fn number(&mut self, group: Packetized) -> Vec<Packet> {
        let video = self.kind == MediaKind::Video;
        let mut ticks = group.pts.to_ticks(self.clock_rate);
        if !video {
            ticks = self.next.filter(|next| ticks.abs_diff(*next) < OPUS_TOLERANCE).unwrap_or(ticks);
            self.next = Some(ticks + group.samples);
        }
        let timestamp = self.offset.wrapping_add(ticks as u32);
        let pts = MediaTime::from_ticks(ticks, self.clock_rate);
        let last = group.payloads.len().saturating_sub(1);
        let packet = |(index, payload): (usize, Bytes)| {
            self.sequence += 1;
            Packet {
                kind: self.kind,
                layer: 0,
                sequence: self.sequence,
                timestamp,
                pts,
                marker: video && index == last,
                keyframe: video && group.keyframe && index == 0,
                payload,
            }
        };
        group.payloads.into_iter().enumerate().map(packet).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audio(counter: &mut PacketCounter, micros: i64) -> Packet {
        let pts = MediaTime::from_nanos(micros * 1000);
        let payloads = vec![Bytes::from_static(b"x")];
        counter.number(Packetized { pts, keyframe: true, samples: 960, payloads }).remove(0)
    }

    #[test]
    fn sound_is_counted_in_samples_however_its_times_are_rounded() {
        let mut counter = PacketCounter::new(MediaKind::Audio);
        let mut last = audio(&mut counter, 7_000);
        for number in 1..500 {
            let next = audio(&mut counter, 7_000 + number * 20_000 + [0, 900, -700][number as usize % 3]);
            assert_eq!(next.timestamp.wrapping_sub(last.timestamp), 960);
            assert_eq!((next.pts.as_nanos() - last.pts.as_nanos() + 500) / 1000, 20_000);
            assert!(!next.marker && !next.keyframe);
            last = next;
        }
        // A hole is a hole.
        let next = audio(&mut counter, 7_000 + 501 * 20_000 + 100_000);
        assert!(next.timestamp.wrapping_sub(last.timestamp) > 5000);
    }

    #[test]
    fn the_last_packet_of_a_picture_has_the_marker_and_the_first_begins_a_group() {
        let mut counter = PacketCounter::new(MediaKind::Video);
        let payloads = vec![Bytes::from_static(b"a"), Bytes::from_static(b"b"), Bytes::from_static(b"c")];
        let pts = MediaTime::from_millis(40);
        let packets = counter.number(Packetized { pts, keyframe: true, samples: 0, payloads });
        let flags: Vec<_> = packets.iter().map(|packet| (packet.keyframe, packet.marker)).collect();
        assert_eq!(flags, [(true, false), (false, false), (false, true)]);
        assert!(packets.windows(2).all(|pair| pair[1].sequence == pair[0].sequence + 1));
        assert!(packets.iter().all(|packet| packet.timestamp == packets[0].timestamp));
    }
}
