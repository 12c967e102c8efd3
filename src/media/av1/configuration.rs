//! The AV1CodecConfigurationRecord of AV1 in ISOBMFF §2.3.3 (`av1C` without its box header), and temporal units
//! as files and messages carry them.

use super::{Obu, SequenceHeader, leb128, obu_type, payload::shows_key_frame};
use bytes::Bytes;

/// A decoder configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Av1Config {
    /// The first four bytes of the record.
    pub record: Bytes,
    /// The sequence header among its OBUs, if there is one, and the same as an OBU with its size.
    sequence_header: Option<(SequenceHeader, Bytes)>,
}

/// A temporal unit, fit for the frame lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedUnit {
    /// OBUs, each with its size; no temporal delimiter, no padding.
    pub data: Bytes,
    /// A decoder can start here: a shown key frame behind its sequence header.
    pub keyframe: bool,
    /// The sequence header in it.
    pub sequence_header: Option<SequenceHeader>,
}

impl Av1Config {
    /// Parses a record. `None` if it is cut short, of another version, or its OBUs don't fit.
    pub fn parse(record: &Bytes) -> Option<Self> {
        const MARKER_AND_VERSION: u8 = 0x81;
        if record.len() < 4 || record[0] != MARKER_AND_VERSION {
            return None;
        }
        let mut sequence_header = None;
        let mut rest = &record[4..];
        while !rest.is_empty() {
            let (obu, after) = split_first(rest)?;
            rest = after;
            if obu.kind == obu_type::SEQUENCE_HEADER && sequence_header.is_none() {
                let mut written = Vec::new();
                obu.write(&mut written);
                sequence_header = Some((SequenceHeader::parse(obu.payload)?, written.into()));
            }
        }
        Some(Self { record: record.slice(..4), sequence_header })
    }

    /// The sequence header among its OBUs.
    pub fn sequence_header(&self) -> Option<&SequenceHeader> {
        self.sequence_header.as_ref().map(|(header, _)| header)
    }

    /// Reads a temporal unit. One that is a key frame without a sequence header gets that of the
    /// configuration. Shares memory where nothing needs to be left out or put in. `None` if it is empty or
    /// an OBU does not fit.
    pub fn check(&self, data: &Bytes) -> Option<CheckedUnit> {
        let mut as_it_is = true;
        let mut sequence_header = None;
        let mut shows_key = None;
        let mut count = 0;
        let mut rest = &data[..];
        while !rest.is_empty() {
            let sized = rest[0] & 0x02 != 0;
            let (obu, after) = split_first(rest)?;
            rest = after;
            if !is_media(&obu) {
                as_it_is = false;
                continue;
            }
            as_it_is &= sized;
            count += 1;
            match obu.kind {
                obu_type::SEQUENCE_HEADER => sequence_header = Some(SequenceHeader::parse(obu.payload)?),
                obu_type::FRAME | obu_type::FRAME_HEADER if shows_key.is_none() => {
                    let header = sequence_header.as_ref().or(self.sequence_header());
                    let still = header.is_some_and(|header| header.reduced_still_picture);
                    shows_key = Some(still || shows_key_frame(obu.payload));
                }
                _ => {}
            }
        }
        if count == 0 {
            return None;
        }
        let shows_key = shows_key == Some(true);
        let missing = self.sequence_header.as_ref().filter(|_| shows_key && sequence_header.is_none());
        let keyframe = shows_key && (sequence_header.is_some() || missing.is_some());
        if as_it_is && missing.is_none() {
            return Some(CheckedUnit { data: data.clone(), keyframe, sequence_header });
        }
        let mut whole = missing.map_or_else(Vec::new, |(_, written)| written.to_vec());
        let mut rest = &data[..];
        while let Some((obu, after)) = split_first(rest) {
            rest = after;
            if is_media(&obu) {
                obu.write(&mut whole);
            }
        }
        let sequence_header = sequence_header.or(missing.map(|(header, _)| *header));
        Some(CheckedUnit { data: whole.into(), keyframe, sequence_header })
    }
}

/// AV1 in ISOBMFF §2.4: the others should not be in a sample.
fn is_media(obu: &Obu<'_>) -> bool {
    !matches!(obu.kind, obu_type::TEMPORAL_DELIMITER | obu_type::TILE_LIST | obu_type::PADDING)
}

/// The first OBU and what follows it; one without a size reaches to the end.
fn split_first(data: &[u8]) -> Option<(Obu<'_>, &[u8])> {
    let &header = data.first()?;
    if header & 0x02 == 0 {
        return Some((Obu::read(data)?, &[]));
    }
    let before_size = 1 + usize::from(header & 0x04 != 0);
    let (size, after) = leb128(data.get(before_size..)?)?;
    let length = (data.len() - after.len()).checked_add(size)?;
    let (unit, rest) = data.split_at_checked(length)?;
    Some((Obu::read(unit)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// libaom, real time, 640x360.
    const HEADER: [u8; 14] = [0x0a, 12, 0, 0, 0, 0x0c, 0xc4, 0xff, 0x67, 0xe0, 0x6d, 0x7c, 0x80, 0x20];
    const DELIMITER: [u8; 2] = [0x12, 0];
    const KEY: [u8; 4] = [0x32, 2, 0x10, 7];
    const INTER: [u8; 4] = [0x32, 2, 0x30, 7];

    fn config(header: &[u8]) -> Av1Config {
        Av1Config::parse(&[&[0x81, 1, 0x0c, 0], header].concat().into()).expect("valid")
    }

    #[test]
    fn a_record_tells_the_size_if_it_has_a_sequence_header() {
        let config = config(&HEADER);
        assert_eq!(config.sequence_header().map(|header| header.resolution), Some((640, 360)));
        assert_eq!(config.record[..], [0x81, 1, 0x0c, 0]);
        assert_eq!(self::config(&[]).sequence_header(), None);
        for bad in [&[0x81, 1, 0x0c][..], &[0x01, 1, 0x0c, 0], &[0x81, 1, 0x0c, 0, 0x0a, 50, 0]] {
            assert_eq!(Av1Config::parse(&Bytes::copy_from_slice(bad)), None, "{bad:x?}");
        }
    }

    #[test]
    fn a_unit_that_is_fit_is_shared_and_delimiters_go() {
        let fit: Bytes = [&HEADER[..], &KEY].concat().into();
        let checked = config(&[]).check(&fit).expect("valid");
        assert!(checked.keyframe && checked.data.as_ptr() == fit.as_ptr());
        let unfit: Bytes = [&DELIMITER[..], &HEADER, &KEY].concat().into();
        assert_eq!(config(&[]).check(&unfit), Some(checked));
        let inter: Bytes = INTER.to_vec().into();
        assert!(!config(&HEADER).check(&inter).expect("valid").keyframe);
        let without_size: Bytes = vec![0x30, 0x30, 7].into();
        assert_eq!(config(&[]).check(&without_size).expect("valid").data[..], INTER);
    }

    #[test]
    fn a_key_frame_gets_the_sequence_header_of_the_configuration() {
        let key: Bytes = KEY.to_vec().into();
        let checked = config(&HEADER).check(&key).expect("valid");
        assert!(checked.keyframe);
        assert_eq!(checked.data[..], [&HEADER[..], &KEY].concat()[..]);
        assert!(!config(&[]).check(&key).expect("valid").keyframe, "nobody could start there");
    }

    #[test]
    fn no_input_panics() {
        let (config, mut state) = (config(&HEADER), 0x9e37_79b9_7f4a_7c15u64);
        for _ in 0..20_000 {
            let mut bytes = [&HEADER[..], &KEY, &INTER].concat();
            for _ in 0..3 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let index = (state >> 33) as usize % bytes.len();
                bytes[index] = (state >> 20) as u8;
            }
            let _ = config.check(&bytes.clone().into());
            let _ = Av1Config::parse(&[&[0x81, 1, 0x0c, 0], &bytes[..]].concat().into());
        }
        assert_eq!(config.check(&Bytes::new()), None);
        assert_eq!(config.check(&Bytes::from_static(&DELIMITER)), None);
    }
}
