//! VP8 in RTP payloads (RFC 7741 §4.2).

use crate::media::vp8;

/// Width and height of the keyframe that begins in a payload.
pub(super) fn keyframe(payload: &[u8]) -> Option<(u32, u32)> {
    let (first, mut rest) = payload.split_first()?;
    // S, the start of a partition, and the partition's index: the frame begins with the first one.
    if first & 0x17 != 0x10 {
        return None;
    }
    if first & 0x80 != 0 {
        let extension;
        (extension, rest) = rest.split_first()?;
        if extension & 0x80 != 0 {
            let long = rest.first()? & 0x80 != 0;
            rest = rest.get(if long { 2 } else { 1 }..)?; // picture id
        }
        let index = usize::from(extension & 0x40 != 0); // TL0PICIDX
        let layer = usize::from(extension & 0x30 != 0); // TID, KEYIDX
        rest = rest.get(index + layer..)?;
    }
    vp8::keyframe(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: [u8; 10] = [0x30, 0xce, 0, 0x9d, 0x01, 0x2a, 0x82, 0x02, 0x6a, 0x01];

    fn size(descriptor: &[u8]) -> Option<(u32, u32)> {
        keyframe(&[descriptor, &FRAME].concat())
    }

    #[test]
    fn a_keyframe_is_found_behind_each_form_of_descriptor() {
        let forms: [&[u8]; 6] = [
            &[0x10],
            &[0x90, 0x00],
            &[0x90, 0x80, 0x12],
            &[0x90, 0x80, 0x81, 0x12],
            &[0x90, 0xe0, 0x81, 0x12, 5, 0x20],
            &[0x90, 0x10, 0x05],
        ];
        for form in forms {
            assert_eq!(size(form), Some((642, 362)), "{form:x?}");
        }
        for other in [&[0x00][..], &[0x11], &[0x12], &[0x90, 0x80], &[]] {
            assert_eq!(size(other), None, "{other:x?}");
        }
        assert_eq!(keyframe(&[0x90, 0xf0, 0x80]), None);
    }
}
