//! The open bitstream units of a temporal unit, one after the other.

use super::{Obu, leb128, obu_type};

/// One open bitstream unit.
#[derive(Clone, Copy, Debug)]
pub struct Unit<'a>(Obu<'a>);

/// The units of `data`, each of which has its size. `None` once, and then nothing, where one does not fit.
pub fn units(data: &[u8]) -> impl Iterator<Item = Option<Unit<'_>>> {
    let mut rest = data;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let all = std::mem::take(&mut rest);
        Some(first(all).map(|(unit, after)| {
            rest = after;
            unit
        }))
    })
}

fn first(data: &[u8]) -> Option<(Unit<'_>, &[u8])> {
    let header = *data.first()?;
    let extension = usize::from(header & 0x04 != 0);
    // AV1 specification §5.3.2: without obu_has_size_field a unit reaches to the end.
    let length = match header & 0x02 != 0 {
        true => {
            let (size, after) = leb128(data.get(1 + extension..)?)?;
            (data.len() - after.len()).checked_add(size)?
        }
        false => data.len(),
    };
    let (unit, after) = data.split_at_checked(length)?;
    Some((Unit(Obu::read(unit)?), after))
}

impl<'a> Unit<'a> {
    /// Whether it is a sequence header.
    pub fn is_sequence_header(&self) -> bool {
        self.0.kind == obu_type::SEQUENCE_HEADER
    }

    /// Whether it is sent over RTP: delimiters, tile lists and padding are not (RTP Payload Format for
    /// AV1 §5).
    pub fn travels(&self) -> bool {
        !matches!(self.0.kind, obu_type::TEMPORAL_DELIMITER | obu_type::TILE_LIST | obu_type::PADDING)
    }

    /// The header without a size, and how many bytes of it count.
    pub fn head(&self) -> ([u8; 2], usize) {
        match self.0.extension {
            Some(extension) => ([self.0.kind << 3 | 0x04, extension], 2),
            None => ([self.0.kind << 3, 0], 1),
        }
    }

    /// What follows header and size.
    pub fn payload(&self) -> &'a [u8] {
        self.0.payload
    }
}
