//! AV1 in RTP payloads (the AV1 RTP payload format §4.4).

use crate::media::av1::{OBU_SEQUENCE_HEADER, obu_type, sequence_size};

/// OBU elements looked at in one payload.
const MAX_ELEMENTS: usize = 8;

/// Whether a payload is the first of a coded video sequence.
pub(super) fn begins_sequence(payload: &[u8]) -> bool {
    // N is set on it; senders that leave it out have been seen, and a sequence header is never far from a key
    // frame.
    payload.first().is_some_and(|header| header & 0x88 == 0x08) || sequence_header(payload).is_some()
}

/// Width and height in the sequence header of a payload.
pub(super) fn size(payload: &[u8]) -> Option<(u32, u32)> {
    sequence_size(sequence_header(payload)?)
}

fn sequence_header(payload: &[u8]) -> Option<&[u8]> {
    let (header, mut rest) = payload.split_first()?;
    let (continues, count) = (header & 0x80 != 0, usize::from(header >> 4 & 3));
    for number in 1..=MAX_ELEMENTS {
        let element;
        if number == count {
            (element, rest) = (rest, &[][..]); // the last of a stated number has no length
        } else {
            let length;
            (length, rest) = leb128(rest)?;
            (element, rest) = rest.split_at_checked(length)?;
        }
        let whole = number > 1 || !continues;
        if whole && element.first().is_some_and(|header| obu_type(*header) == OBU_SEQUENCE_HEADER) {
            return Some(element);
        }
        if rest.is_empty() {
            return None;
        }
    }
    None
}

fn leb128(data: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (index, byte) in data.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &data[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEQUENCE: [u8; 12] = [0x08, 0, 0, 0, 0x0c, 0xc5, 0x03, 0x69, 0x36, 0xbe, 0x40, 0x10];

    #[test]
    fn a_sequence_is_known_by_its_flag_or_its_header() {
        let last = [&[0x10][..], &SEQUENCE].concat();
        assert_eq!((begins_sequence(&last), size(&last)), (true, Some((642, 362))));
        let first = [&[0x28, 12][..], &SEQUENCE, &[0x30, 1, 2, 3]].concat();
        assert_eq!((begins_sequence(&first), size(&first)), (true, Some((642, 362))));
        let counted = [&[0x00, 2, 0x30, 1, 12][..], &SEQUENCE].concat();
        assert_eq!((begins_sequence(&counted), size(&counted)), (true, Some((642, 362))));
        assert!(begins_sequence(&[0x18, 0x30, 1]), "by its flag alone");
    }

    #[test]
    fn other_payloads_begin_nothing() {
        let continued = [&[0x90][..], &SEQUENCE].concat();
        for other in [&continued[..], &[0x10, 0x30, 1], &[0x00, 0x83], &[0x00, 9, 8], &[0x00, 0, 0], &[]] {
            assert!(!begins_sequence(other), "{other:x?}");
        }
    }
}
