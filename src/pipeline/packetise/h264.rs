//! H.264 access units into RTP payloads: RFC 6184, packetization mode 1.

use super::MAX_PAYLOAD;
use super::nal_units::NalFormat;
use super::payloads::{Payloads, even};
use crate::media::h264::{AvcConfig, NAL_PPS, NAL_SPS, NalUnits, nal_type};
use bytes::Bytes;

/// Delimiters and filler carry nothing over RTP.
const NAL_DELIMITER: u8 = 9;
const NAL_FILLER: u8 = 12;
/// RFC 6184 §5.2.
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
/// The bits of `forbidden_zero_bit` and `nal_ref_idc`.
const IMPORTANCE: u8 = 0xe0;

const FORMAT: NalFormat = NalFormat { header: 1, aggregate, fragment };

/// Packetises one track.
#[derive(Debug)]
pub(in crate::pipeline) struct H264 {
    /// The parameter sets that precede each keyframe, unless it brings its own.
    parameter_sets: Vec<Bytes>,
}

impl H264 {
    /// With the parameter sets of a decoder configuration record; `None` if it is malformed.
    pub(super) fn new(record: Bytes) -> Option<Self> {
        let config = AvcConfig::parse(record).ok()?;
        Some(Self { parameter_sets: config.sps.into_iter().chain(config.pps).collect() })
    }

    pub(super) fn payloads(&mut self, keyframe: bool, frame: &Bytes) -> Vec<Bytes> {
        let mut units: Vec<Bytes> = Vec::with_capacity(8);
        for unit in NalUnits::new(frame, 4) {
            let Ok(unit) = unit else { return Vec::new() };
            if !matches!(nal_type(unit[0]), NAL_DELIMITER | NAL_FILLER) {
                units.push(frame.slice_ref(unit));
            }
        }
        let has = |kind| units.iter().any(|unit| nal_type(unit[0]) == kind);
        if keyframe && !(has(NAL_SPS) && has(NAL_PPS)) && !units.is_empty() {
            units.retain(|unit| !matches!(nal_type(unit[0]), NAL_SPS | NAL_PPS));
            units.splice(..0, self.parameter_sets.iter().cloned());
        }
        FORMAT.packetise(&units, frame.len())
    }
}

/// §5.7.1: a header with the highest importance, and each unit behind its length.
fn aggregate(payloads: &mut Payloads, units: &[Bytes]) {
    let importance = units.iter().map(|unit| unit[0] & 0x60).max().unwrap_or(0);
    let forbidden = units.iter().fold(0, |bit, unit| bit | unit[0] & 0x80);
    payloads.write(&[forbidden | importance | STAP_A]);
    for unit in units {
        payloads.write(&(unit.len() as u16).to_be_bytes());
        payloads.write(unit);
    }
    payloads.complete();
}

/// §5.8: indicator and header in place of the unit's first byte.
fn fragment(payloads: &mut Payloads, unit: &Bytes) {
    const START: u8 = 0x80;
    const END: u8 = 0x40;
    let (header, mut rest) = (unit[0], &unit[1..]);
    let mut start = START;
    for size in even(rest.len(), MAX_PAYLOAD - 2) {
        let (now, later) = rest.split_at(size);
        let end = if later.is_empty() { END } else { 0 };
        payloads.write(&[header & IMPORTANCE | FU_A, start | end | nal_type(header)]);
        payloads.write(now);
        payloads.complete();
        (start, rest) = (0, later);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{BufMut, BytesMut};

    const SPS: &[u8] = &[0x67, 1, 2, 3];
    const PPS: &[u8] = &[0x68, 9];

    fn packetiser() -> H264 {
        H264 { parameter_sets: vec![Bytes::from_static(SPS), Bytes::from_static(PPS)] }
    }

    fn frame(units: &[&[u8]]) -> Bytes {
        let mut data = BytesMut::new();
        for unit in units {
            data.put_u32(unit.len() as u32);
            data.put_slice(unit);
        }
        data.freeze()
    }

    fn unit(header: u8, length: usize) -> Vec<u8> {
        std::iter::once(header).chain((1..length).map(|n| n as u8)).collect()
    }

    #[test]
    fn one_unit_that_fits_is_a_piece_of_the_frame() {
        let slice = unit(0x41, MAX_PAYLOAD);
        let frame = frame(&[&[9, 0xf0], &slice]);
        let payloads = packetiser().payloads(false, &frame);
        assert_eq!(payloads, [Bytes::from(slice)]);
        assert_eq!(payloads[0].as_ptr(), frame[10..].as_ptr(), "shared, not copied");
    }

    #[test]
    fn parameter_sets_go_in_front_of_a_keyframe_with_what_fits_beside_them() {
        let frame = frame(&[&[6, 5], &[0x65, 7, 7]]);
        let expected = [&[0x78, 0, 4][..], SPS, &[0, 2], PPS, &[0, 2, 6, 5, 0, 3, 0x65, 7, 7]].concat();
        assert_eq!(packetiser().payloads(true, &frame), [Bytes::from(expected)]);
    }

    #[test]
    fn parameter_sets_of_the_keyframe_itself_come_first_and_alone() {
        let frame = frame(&[&[0x67, 4], &[0x68, 5], &[0x65, 7]]);
        let expected: &[u8] = &[0x78, 0, 2, 0x67, 4, 0, 2, 0x68, 5, 0, 2, 0x65, 7];
        assert_eq!(packetiser().payloads(true, &frame), [expected]);
    }

    #[test]
    fn a_large_unit_is_cut_into_even_fragments() {
        let slice = unit(0x65, 5000);
        let payloads = packetiser().payloads(true, &frame(&[&slice]));
        assert_eq!(payloads[0][0], 0x78, "the parameter sets");
        let (mut whole, fragments) = (vec![0x65], &payloads[1..]);
        assert_eq!(fragments.len(), 5);
        for (number, fragment) in fragments.iter().enumerate() {
            assert!(fragment.len() <= MAX_PAYLOAD && fragment.len().abs_diff(fragments[0].len()) <= 1);
            assert_eq!(fragment[0], 0x7c);
            let ends = [0x85, 5, 5, 5, 0x45][number];
            assert_eq!(fragment[1], ends, "{number}");
            whole.extend_from_slice(&fragment[2..]);
        }
        assert_eq!(whole, slice);
    }

    #[test]
    fn a_packet_is_never_too_large_and_nothing_is_lost() {
        for first in [1, 2, 1100, 1183, 1184, 1185, 1186, 1187, 1188, 1189, 1190, 2372, 2373, 2374, 3000] {
            for second in [1, 2, 3, 90, 1187, 1188, 1189] {
                let frame = frame(&[&unit(0x41, first), &unit(0x01, second)]);
                let payloads = packetiser().payloads(false, &frame);
                assert!(payloads.iter().all(|payload| payload.len() <= MAX_PAYLOAD), "{first} {second}");
                let media: usize = payloads
                    .iter()
                    .map(|payload| match payload[0] & 0x1f {
                        STAP_A => payload.len() - 5,
                        FU_A => payload.len() - 2 + usize::from(payload[1] >> 7),
                        _ => payload.len(),
                    })
                    .sum();
                assert_eq!(media, first + second);
            }
        }
    }

    #[test]
    fn what_is_malformed_or_empty_gives_nothing() {
        assert!(packetiser().payloads(true, &Bytes::from_static(&[0, 0, 0, 9, 0x65])).is_empty());
        assert!(packetiser().payloads(true, &frame(&[&[9, 0xf0]])).is_empty());
        assert!(packetiser().payloads(false, &Bytes::new()).is_empty());
    }
}
