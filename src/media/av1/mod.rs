//! AV1: open bitstream units, sequence headers, and temporal units put together from RTP payloads.
//!
//! Everything read here came over a network: reads are bounded, nothing panics, nothing is allocated from
//! a declared length.

mod configuration;
mod payload;
mod sequence_header;
mod units;

pub use configuration::{Av1Config, CheckedUnit};
pub use payload::{Depacketizer, TemporalUnit};
pub use sequence_header::SequenceHeader;
pub use units::{Unit, units};

/// `obu_type`, AV1 specification §6.2.2.
mod obu_type {
    pub const SEQUENCE_HEADER: u8 = 1;
    pub const TEMPORAL_DELIMITER: u8 = 2;
    pub const FRAME_HEADER: u8 = 3;
    pub const FRAME: u8 = 6;
    pub const TILE_LIST: u8 = 8;
    pub const PADDING: u8 = 15;
}

/// The sequence header that an open bitstream unit is, with or without its own size; `None` if it is another.
pub fn sequence_header(unit: &[u8]) -> Option<SequenceHeader> {
    let unit = Obu::read(unit).filter(|unit| unit.kind == obu_type::SEQUENCE_HEADER)?;
    SequenceHeader::parse(unit.payload)
}

/// Whether an open bitstream unit with this first byte is a sequence header.
pub const fn is_sequence_header(header: u8) -> bool {
    header >> 3 & 0x0f == obu_type::SEQUENCE_HEADER
}

/// One open bitstream unit, AV1 specification §5.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Obu<'a> {
    kind: u8,
    /// The byte of `obu_extension_header`.
    extension: Option<u8>,
    payload: &'a [u8],
}

impl<'a> Obu<'a> {
    /// Reads one unit that fills `data`, with or without its own size. `None` if it does not fit.
    fn read(data: &'a [u8]) -> Option<Self> {
        let (&header, mut rest) = data.split_first()?;
        let mut extension = None;
        if header & 0x80 != 0 {
            return None; // obu_forbidden_bit
        }
        if header & 0x04 != 0 {
            let (&byte, after) = rest.split_first()?;
            (extension, rest) = (Some(byte), after);
        }
        let payload = match header & 0x02 != 0 {
            true => {
                let (size, after) = leb128(rest)?;
                after.get(..size)?
            }
            false => rest,
        };
        Some(Self { kind: header >> 3 & 0x0f, extension, payload })
    }

    /// Appends the unit with its size, as files and decoders want it.
    fn write(&self, out: &mut Vec<u8>) {
        let extension = if self.extension.is_some() { 0x04 } else { 0 };
        out.push(self.kind << 3 | extension | 0x02);
        out.extend(self.extension);
        let mut size = self.payload.len();
        while size >= 0x80 {
            out.push(size as u8 | 0x80);
            size >>= 7;
        }
        out.push(size as u8);
        out.extend_from_slice(self.payload);
    }
}

/// AV1 specification §4.10.5, as far as lengths of memory go: the value and what follows it.
fn leb128(data: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (index, &byte) in data.iter().enumerate().take(4) {
        value |= usize::from(byte & 0x7f) << (index * 7);
        if byte & 0x80 == 0 {
            return Some((value, &data[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_written_with_its_size_and_read_again() {
        let payload = [7u8; 200];
        for extension in [None, Some(0x48)] {
            let unit = Obu { kind: obu_type::FRAME, extension, payload: &payload };
            let mut out = vec![];
            unit.write(&mut out);
            assert_eq!(out.len(), 200 + 3 + usize::from(extension.is_some()));
            assert_eq!(Obu::read(&out), Some(unit));
            assert_eq!(Obu::read(&out[..out.len() - 1]), None, "cut short");
        }
        assert_eq!(Obu::read(&[]), None);
        assert_eq!(Obu::read(&[0x80]), None);
        assert_eq!(Obu::read(&[0x34]), None, "its extension is missing");
    }

    #[test]
    fn lengths_are_bounded() {
        assert_eq!(leb128(&[0xe5, 0x8e, 0x26, 9]), Some((624_485, &[9][..])));
        assert_eq!(leb128(&[0xff; 9]), None);
        assert_eq!(leb128(&[0x80]), None);
    }
}
