//! H.264 as containers carry it: NAL units, the decoder configuration record, sequence parameter sets.
//!
//! Everything read here came over a network: reads are bounded, nothing panics, nothing is allocated
//! from a declared length.

mod depacketise;
mod sps;

pub use depacketise::{AccessUnit, Depacketizer};
pub use sps::Sps;

use bytes::{BufMut, Bytes, BytesMut};

/// `nal_unit_type` of a non-IDR slice (ITU-T H.264 table 7-1).
pub const NAL_SLICE: u8 = 1;
/// `nal_unit_type` of an IDR slice.
pub const NAL_IDR: u8 = 5;
/// `nal_unit_type` of a sequence parameter set.
pub const NAL_SPS: u8 = 7;
/// `nal_unit_type` of a picture parameter set.
pub const NAL_PPS: u8 = 8;

/// Why a bitstream element can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum H264Error {
    /// It ends before its fields do.
    #[error("the {0} ends too early")]
    Truncated(&'static str),
    /// A configuration record of another version.
    #[error("AVC configuration version {0}, not 1")]
    Version(u8),
    /// A configuration without any sequence or picture parameter set.
    #[error("the AVC configuration lacks a {0} parameter set")]
    Missing(&'static str),
    /// More parameter sets than a record can count, or one longer than 65 535 bytes.
    #[error("the parameter sets don't fit an AVC configuration")]
    TooLarge,
    /// A field with a value that the standard rules out.
    #[error("the sequence parameter set has an impossible {0}")]
    Impossible(&'static str),
}

/// The type of a NAL unit, from its first byte.
pub const fn nal_type(header: u8) -> u8 {
    header & 0x1f
}

/// The AVCDecoderConfigurationRecord of ISO/IEC 14496-15 §5.3.3.1 (`avcC` without its box header).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvcConfig {
    /// Bytes of each NAL unit's length prefix: 1, 2 or 4.
    pub length_size: u8,
    /// Sequence parameter sets; at least one.
    pub sps: Vec<Bytes>,
    /// Picture parameter sets; at least one.
    pub pps: Vec<Bytes>,
    record: Bytes,
}

impl AvcConfig {
    /// Parses a record. The parameter sets share `record`'s memory.
    pub fn parse(record: Bytes) -> Result<Self, H264Error> {
        const WHAT: &str = "AVC configuration";
        let header = record.get(..6).ok_or(H264Error::Truncated(WHAT))?;
        if header[0] != 1 {
            return Err(H264Error::Version(header[0]));
        }
        let length_size = (header[4] & 3) + 1;
        if length_size == 3 {
            return Err(H264Error::Impossible("NAL unit length size"));
        }
        let mut position = 6;
        let sps = parameter_sets(&record, &mut position, header[5] & 0x1f)?;
        let count = *record.get(position).ok_or(H264Error::Truncated(WHAT))?;
        position += 1;
        let pps = parameter_sets(&record, &mut position, count)?;
        let config = Self { length_size, sps, pps, record };
        config.check()?;
        Ok(config)
    }

    /// Builds a record with 4-byte lengths from parameter sets as they stand in a bitstream, without
    /// start codes.
    pub fn from_parameter_sets(sps: &[Bytes], pps: &[Bytes]) -> Result<Self, H264Error> {
        let fits =
            |sets: &[Bytes], most: usize| sets.len() <= most && sets.iter().all(|set| set.len() <= 0xffff);
        if !fits(sps, 31) || !fits(pps, 255) {
            return Err(H264Error::TooLarge);
        }
        let first = sps.first().ok_or(H264Error::Missing("sequence"))?;
        let parsed = Sps::parse(first)?;
        let mut record = BytesMut::new();
        record.put_slice(&[1, first[1], first[2], first[3], 0xff, 0xe0 | sps.len() as u8]);
        put_parameter_sets(&mut record, sps);
        record.put_u8(pps.len() as u8);
        put_parameter_sets(&mut record, pps);
        if sps::has_chroma_format(parsed.profile) {
            record.put_slice(&[
                0xfc | parsed.chroma_format,
                0xf8 | (parsed.bit_depth_luma - 8),
                0xf8 | (parsed.bit_depth_chroma - 8),
                0,
            ]);
        }
        let config = Self { length_size: 4, sps: sps.to_vec(), pps: pps.to_vec(), record: record.freeze() };
        config.check()?;
        Ok(config)
    }

    /// The record itself.
    pub fn record(&self) -> &Bytes {
        &self.record
    }

    /// The record for access units whose NAL units have 4-byte lengths, whatever the sender's had.
    pub fn record_with_four_byte_lengths(&self) -> Bytes {
        if self.length_size == 4 {
            return self.record.clone();
        }
        let mut record = BytesMut::from(&self.record[..]);
        record[4] |= 3;
        record.freeze()
    }

    /// The first sequence parameter set, parsed.
    pub fn first_sps(&self) -> Result<Sps, H264Error> {
        Sps::parse(self.sps.first().ok_or(H264Error::Missing("sequence"))?)
    }

    fn check(&self) -> Result<(), H264Error> {
        let has =
            |sets: &[Bytes], kind| sets.iter().any(|set| set.first().is_some_and(|b| nal_type(*b) == kind));
        if !has(&self.sps, NAL_SPS) {
            return Err(H264Error::Missing("sequence"));
        }
        if !has(&self.pps, NAL_PPS) {
            return Err(H264Error::Missing("picture"));
        }
        Ok(())
    }
}

fn parameter_sets(record: &Bytes, position: &mut usize, count: u8) -> Result<Vec<Bytes>, H264Error> {
    const ERROR: H264Error = H264Error::Truncated("AVC configuration");
    let mut sets = Vec::new();
    for _ in 0..count {
        let start = *position + 2;
        let length = record.get(*position..start).ok_or(ERROR)?;
        let end = start + usize::from(u16::from_be_bytes([length[0], length[1]]));
        if end > record.len() {
            return Err(ERROR);
        }
        sets.push(record.slice(start..end));
        *position = end;
    }
    Ok(sets)
}

fn put_parameter_sets(record: &mut BytesMut, sets: &[Bytes]) {
    for set in sets {
        record.put_u16(set.len() as u16);
        record.put_slice(set);
    }
}

/// The NAL units of an access unit in which each is prefixed by its length.
///
/// Yields `Err` once, and then nothing, where a length reaches past the end. Empty NAL units are skipped.
#[derive(Clone, Debug)]
pub struct NalUnits<'a> {
    rest: &'a [u8],
    length_size: usize,
}

impl<'a> NalUnits<'a> {
    /// Over `data`, with lengths of `length_size` bytes (1 to 4).
    pub fn new(data: &'a [u8], length_size: u8) -> Self {
        Self { rest: data, length_size: usize::from(length_size.clamp(1, 4)) }
    }
}

impl<'a> Iterator for NalUnits<'a> {
    type Item = Result<&'a [u8], H264Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            let Some((prefix, body)) = rest.split_at_checked(self.length_size) else {
                return Some(Err(H264Error::Truncated("access unit")));
            };
            let length = prefix.iter().fold(0usize, |value, byte| value << 8 | usize::from(*byte));
            let Some((unit, rest)) = body.split_at_checked(length) else {
                return Some(Err(H264Error::Truncated("access unit")));
            };
            self.rest = rest;
            if !unit.is_empty() {
                return Some(Ok(unit));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // x264, High, 1280x720, 30 fps, two B-frames.
    pub(super) const HIGH: &str = "6764001facd94050 05bb011000000300 1000000303c0f183 1960";
    pub(super) const PPS: &str = "68ebe3cb22c0";

    pub(super) fn hex(text: &str) -> Bytes {
        let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        digits
            .chunks(2)
            .map(|pair| {
                let text = std::str::from_utf8(pair).expect("ASCII");
                u8::from_str_radix(text, 16).expect("hexadecimal")
            })
            .collect()
    }

    #[test]
    fn a_record_survives_the_way_there_and_back() {
        let built = AvcConfig::from_parameter_sets(&[hex(HIGH)], &[hex(PPS)]).expect("valid");
        assert_eq!(&built.record()[..6], [1, 0x64, 0x00, 0x1f, 0xff, 0xe1]);
        assert_eq!(&built.record()[built.record().len() - 4..], [0xfd, 0xf8, 0xf8, 0]);
        let parsed = AvcConfig::parse(built.record().clone()).expect("valid");
        assert_eq!(parsed, built);
    }

    #[test]
    fn each_truncation_of_a_record_is_an_error_or_a_record() {
        let built = AvcConfig::from_parameter_sets(&[hex(HIGH)], &[hex(PPS)]).expect("valid");
        for end in 0..built.record().len() - 4 {
            assert!(AvcConfig::parse(built.record().slice(..end)).is_err(), "{end}");
        }
        assert_eq!(AvcConfig::parse(Bytes::from_static(&[0; 9])), Err(H264Error::Version(0)));
        let empty = Bytes::from_static(&[1, 66, 0, 30, 0xff, 0xe0, 0]);
        assert_eq!(AvcConfig::parse(empty), Err(H264Error::Missing("sequence")));
    }

    #[test]
    fn nal_units_end_at_the_first_lie() {
        let data = [0, 0, 0, 2, 0x65, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0x41, 0, 0, 0, 9, 0x41];
        let units: Vec<_> = NalUnits::new(&data, 4).collect();
        let expected = [Ok(&[0x65, 1][..]), Ok(&[0x41][..]), Err(H264Error::Truncated("access unit"))];
        assert_eq!(units, expected);
        assert!(NalUnits::new(&[0xff; 4], 4).next().expect("an error").is_err());
    }

    #[test]
    fn noise_never_panics() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for round in 0..20_000 {
            let mut bytes: Vec<u8> = if round % 2 == 0 { hex(HIGH).to_vec() } else { vec![0x67; 40] };
            for _ in 0..3 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let index = 1 + (state >> 33) as usize % (bytes.len() - 1);
                bytes[index] = (state >> 20) as u8;
            }
            let _ = Sps::parse(&bytes);
            let _ = AvcConfig::parse(Bytes::from(bytes));
        }
    }
}
