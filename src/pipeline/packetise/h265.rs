//! H.265 access units into RTP payloads: RFC 7798, single streams, without DONL.

use super::MAX_PAYLOAD;
use super::nal_units::NalFormat;
use super::payloads::{Payloads, even};
use crate::media::h264::NalUnits;
use crate::media::h265::{NAL_AUD, NAL_PPS, NAL_SPS, NAL_VPS, nal_type};
use bytes::Bytes;

/// Filler carries nothing over RTP.
const NAL_FILLER: u8 = 38;
/// RFC 7798 §4.4.
const AGGREGATION: u8 = 48;
const FRAGMENTATION: u8 = 49;

const FORMAT: NalFormat = NalFormat { header: 2, aggregate, fragment };

/// Packetises one track.
#[derive(Debug)]
pub(in crate::pipeline) struct H265 {
    /// The parameter sets that precede each keyframe, unless it brings its own.
    parameter_sets: Vec<Bytes>,
}

impl H265 {
    /// With the parameter sets of an HEVCDecoderConfigurationRecord; `None` if it is malformed.
    pub(super) fn new(record: &Bytes) -> Option<Self> {
        Some(Self { parameter_sets: parameter_sets(record)? })
    }

    pub(super) fn payloads(&mut self, keyframe: bool, frame: &Bytes) -> Vec<Bytes> {
        let mut units: Vec<Bytes> = Vec::with_capacity(8);
        for unit in NalUnits::new(frame, 4) {
            let Some(unit) = unit.ok().filter(|unit| unit.len() > 2) else { return Vec::new() };
            if !matches!(nal_type(unit[0]), NAL_AUD | NAL_FILLER) {
                units.push(frame.slice_ref(unit));
            }
        }
        let has = |kind| units.iter().any(|unit| nal_type(unit[0]) == kind);
        if keyframe && !(has(NAL_VPS) && has(NAL_SPS) && has(NAL_PPS)) && !units.is_empty() {
            units.retain(|unit| !matches!(nal_type(unit[0]), NAL_VPS | NAL_SPS | NAL_PPS));
            units.splice(..0, self.parameter_sets.iter().cloned());
        }
        FORMAT.packetise(&units, frame.len())
    }
}

/// ISO/IEC 14496-15 §8.3.3.1.2: 22 bytes, and arrays of units of one type each.
fn parameter_sets(record: &Bytes) -> Option<Vec<Bytes>> {
    let mut sets = Vec::new();
    let (&arrays, mut rest) = record.get(22..)?.split_first()?;
    let number = |data: &[u8]| Some(usize::from(u16::from_be_bytes([*data.first()?, *data.get(1)?])));
    for _ in 0..arrays {
        let count = number(rest.get(1..)?)?;
        rest = &rest[3..];
        for _ in 0..count {
            let length = number(rest)?;
            let unit = rest.get(2..2 + length)?;
            if matches!(nal_type(*unit.first()?), NAL_VPS | NAL_SPS | NAL_PPS) {
                sets.push(record.slice_ref(unit));
            }
            rest = &rest[2 + length..];
        }
    }
    sets.sort_by_key(|unit| nal_type(unit[0])); // VPS, SPS, PPS, as they depend on each other
    (!sets.is_empty()).then_some(sets)
}

/// The two bytes of a header of this type, with the layer and the sub-layer of `unit`.
fn header(kind: u8, unit: &[u8]) -> [u8; 2] {
    [unit[0] & 0x81 | kind << 1, unit[1]]
}

/// §4.4.2: the lowest layer and sub-layer, and each unit behind its length.
fn aggregate(payloads: &mut Payloads, units: &[Bytes]) {
    let lowest = units.iter().min_by_key(|unit| (unit[0] & 1, unit[1])).unwrap_or(&units[0]);
    payloads.write(&header(AGGREGATION, lowest));
    for unit in units {
        payloads.write(&(unit.len() as u16).to_be_bytes());
        payloads.write(unit);
    }
    payloads.complete();
}

/// §4.4.3: three bytes in place of the unit's header.
fn fragment(payloads: &mut Payloads, unit: &Bytes) {
    const START: u8 = 0x80;
    const END: u8 = 0x40;
    let [first, second] = header(FRAGMENTATION, unit);
    let mut rest = &unit[2..];
    let mut start = START;
    for size in even(rest.len(), MAX_PAYLOAD - 3) {
        let (now, later) = rest.split_at(size);
        let end = if later.is_empty() { END } else { 0 };
        payloads.write(&[first, second, start | end | nal_type(unit[0])]);
        payloads.write(now);
        payloads.complete();
        (start, rest) = (0, later);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Bytes {
        let mut record = vec![1u8; 22];
        record.push(4);
        for unit in [[0x44, 1, 7], [0x42, 1, 8], [0x40, 1, 9], [0x4e, 1, 5]] {
            record.extend_from_slice(&[unit[0] >> 1, 0, 1, 0, 3]);
            record.extend_from_slice(&unit);
        }
        record.into()
    }

    fn frame(unit: &[u8]) -> Bytes {
        [&(unit.len() as u32).to_be_bytes(), unit].concat().into()
    }

    #[test]
    fn parameter_sets_are_aggregated_in_their_order_in_front_of_a_keyframe() {
        let mut packetiser = H265::new(&record()).expect("valid");
        let payloads = packetiser.payloads(true, &frame(&[0x26, 1, 3]));
        let expected: &[u8] =
            &[0x60, 1, 0, 3, 0x40, 1, 9, 0, 3, 0x42, 1, 8, 0, 3, 0x44, 1, 7, 0, 3, 0x26, 1, 3];
        assert_eq!(payloads, [expected]);
        assert_eq!(packetiser.payloads(false, &frame(&[2, 1, 3])), [&[2, 1, 3][..]]);
    }

    #[test]
    fn a_large_unit_is_cut_into_fragments() {
        let unit: Vec<u8> = [2, 1].into_iter().chain((0..3000).map(|n| n as u8)).collect();
        let payloads = H265::new(&record()).expect("valid").payloads(false, &frame(&unit));
        let heads: Vec<[u8; 3]> =
            payloads.iter().map(|payload| [payload[0], payload[1], payload[2]]).collect();
        assert_eq!(heads, [[0x62, 1, 0x81], [0x62, 1, 0x01], [0x62, 1, 0x41]]);
        let whole: Vec<u8> = payloads.iter().flat_map(|payload| payload[3..].to_vec()).collect();
        assert_eq!(whole, unit[2..]);
        assert!(payloads.iter().all(|payload| payload.len() <= MAX_PAYLOAD));
    }

    #[test]
    fn a_record_that_is_cut_short_is_no_record() {
        let record = record();
        for end in 0..record.len() {
            let _ = H265::new(&record.slice(..end));
            assert!(H265::new(&record.slice(..end)).is_none(), "{end}");
        }
        assert!(H265::new(&record).expect("valid").payloads(false, &frame(&[2, 1])).is_empty());
    }
}
