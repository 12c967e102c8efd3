//! Access units as the frame lane carries them.

use crate::media::h264::NalUnits;
use bytes::{BufMut, Bytes, BytesMut};

/// The access unit with NAL units prefixed by 4 bytes, and whether `starts` is true of the first byte of one;
/// `None` if it is malformed or empty. Shares memory unless the sender's lengths are shorter.
pub(super) fn four_byte_lengths(
    data: Bytes,
    length_size: u8,
    starts: impl Fn(u8) -> bool,
) -> Option<(Bytes, bool)> {
    let (mut start, mut units, mut size) = (false, 0, 0);
    for unit in NalUnits::new(&data, length_size) {
        let unit = unit.ok()?;
        start |= starts(unit[0]);
        units += 1;
        size += 4 + unit.len();
    }
    if units == 0 {
        return None;
    }
    if length_size == 4 {
        return Some((data, start));
    }
    let mut converted = BytesMut::with_capacity(size);
    for unit in NalUnits::new(&data, length_size).flatten() {
        converted.put_u32(unit.len() as u32);
        converted.put_slice(unit);
    }
    Some((converted.freeze(), start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_lengths_become_four_bytes() {
        let convert = |data: &'static [u8], size| {
            four_byte_lengths(Bytes::from_static(data), size, |header| header == 0x65)
        };
        let (data, starts) = convert(&[0, 2, 0x65, 7, 0, 1, 0x06], 2).expect("valid");
        assert_eq!(data, [0, 0, 0, 2, 0x65, 7, 0, 0, 0, 1, 0x06].as_slice());
        assert!(starts);
        assert!(!convert(&[1, 0x41], 1).expect("valid").1);
        assert_eq!(convert(&[0, 9, 0x65], 2), None);
        assert_eq!(convert(&[0, 0, 0, 0], 4), None);
    }
}
