//! The HEVCDecoderConfigurationRecord of ISO/IEC 14496-15 §8.3.3.1 (`hvcC` without its box header).

use super::{NAL_SPS, Sps, nal_type};
use bytes::{Bytes, BytesMut};

/// Before the arrays of parameter sets.
const HEADER: usize = 23;
/// Where `lengthSizeMinusOne` stands, in the lowest two bits.
const LENGTH_SIZE: usize = 21;

/// A decoder configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HevcConfig {
    /// Bytes of each NAL unit's length prefix: 1, 2 or 4.
    pub length_size: u8,
    /// The first sequence parameter set.
    pub sps: Sps,
    record: Bytes,
}

/// Why a decoder configuration can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HevcConfigError {
    /// It ends before its fields do.
    #[error("the HEVC configuration ends too early")]
    Truncated,
    /// A configuration record of another version.
    #[error("HEVC configuration version {0}, not 1")]
    Version(u8),
    /// Lengths of three bytes don't exist.
    #[error("the HEVC configuration has an impossible length size")]
    LengthSize,
    /// None of its arrays holds a sequence parameter set that can be read.
    #[error("the HEVC configuration lacks a valid sequence parameter set")]
    NoSps,
}

impl HevcConfig {
    /// Parses a record; what follows its arrays is ignored.
    pub fn parse(record: Bytes) -> Result<Self, HevcConfigError> {
        let header = record.get(..HEADER).ok_or(HevcConfigError::Truncated)?;
        if header[0] != 1 {
            return Err(HevcConfigError::Version(header[0]));
        }
        let length_size = (header[LENGTH_SIZE] & 3) + 1;
        if length_size == 3 {
            return Err(HevcConfigError::LengthSize);
        }
        let mut sps = None;
        let mut rest = &record[HEADER..];
        for _ in 0..header[22] {
            let ([_kind, high, low], after) = rest.split_first_chunk().ok_or(HevcConfigError::Truncated)?;
            rest = after;
            for _ in 0..u16::from_be_bytes([*high, *low]) {
                let (length, after) = rest.split_first_chunk().ok_or(HevcConfigError::Truncated)?;
                let length = usize::from(u16::from_be_bytes(*length));
                let (unit, after) = after.split_at_checked(length).ok_or(HevcConfigError::Truncated)?;
                rest = after;
                if sps.is_none() && unit.first().is_some_and(|header| nal_type(*header) == NAL_SPS) {
                    sps = Sps::parse(unit);
                }
            }
        }
        let sps = sps.ok_or(HevcConfigError::NoSps)?;
        Ok(Self { length_size, sps, record })
    }

    /// The record for access units whose NAL units have 4-byte lengths, whatever the sender's had.
    pub fn record_with_four_byte_lengths(&self) -> Bytes {
        if self.length_size == 4 {
            return self.record.clone();
        }
        let mut record = BytesMut::from(&self.record[..]);
        record[LENGTH_SIZE] |= 3;
        record.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::super::sps::tests::unit;
    use super::*;

    fn record(length_size: u8, arrays: &[(u8, &[&[u8]])]) -> Bytes {
        let mut record =
            vec![1, 1, 0x60, 0, 0, 0, 0xb0, 0, 0, 0, 0, 0, 93, 0xf0, 0, 0xfc, 0xfd, 0xf8, 0xf8, 0, 0];
        record.extend([0x0c | (length_size - 1), arrays.len() as u8]);
        for (kind, units) in arrays {
            record.push(0x80 | kind);
            record.extend((units.len() as u16).to_be_bytes());
            for unit in *units {
                record.extend((unit.len() as u16).to_be_bytes());
                record.extend(*unit);
            }
        }
        record.into()
    }

    #[test]
    fn a_record_tells_size_and_lengths() {
        let sps = unit();
        let record = record(2, &[(32, &[&[0x40, 1, 2]]), (33, &[&sps]), (34, &[&[0x44, 1]])]);
        let config = HevcConfig::parse(record.clone()).expect("valid");
        assert_eq!((config.length_size, config.sps.width, config.sps.height), (2, 642, 362));
        let four = config.record_with_four_byte_lengths();
        assert_eq!((four[LENGTH_SIZE] & 3, four.len()), (3, record.len()));
        for end in 0..record.len() {
            assert!(HevcConfig::parse(record.slice(..end)).is_err(), "{end}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let sps = unit();
        assert_eq!(HevcConfig::parse(record(3, &[(33, &[&sps])])), Err(HevcConfigError::LengthSize));
        assert_eq!(HevcConfig::parse(record(4, &[(33, &[&[0x42, 1]])])), Err(HevcConfigError::NoSps));
        assert_eq!(HevcConfig::parse(Bytes::from_static(&[0; 40])), Err(HevcConfigError::Version(0)));
        let mut liar = record(4, &[(33, &[&sps])]).to_vec();
        liar[24..26].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(HevcConfig::parse(liar.into()), Err(HevcConfigError::Truncated));
    }
}
