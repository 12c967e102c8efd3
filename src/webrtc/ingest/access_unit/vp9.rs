//! VP9 in RTP payloads (RFC 9628 §4.2).

use crate::media::vp9;

/// Width and height in pixels.
type Size = (u32, u32);

/// What a payload descriptor says.
struct Descriptor<'a> {
    /// The first packet of a frame that is predicted from none, of the lowest spatial layer.
    begins_keyframe: bool,
    /// Of the highest spatial layer.
    size: Option<Size>,
    frame: &'a [u8],
}

/// Whether a keyframe begins in a payload.
pub(super) fn begins_keyframe(payload: &[u8]) -> bool {
    // An intra-only frame is no point to begin at: it leaves old references in place.
    read(payload).is_some_and(|read| read.begins_keyframe && vp9::keyframe(read.frame).is_some())
}

/// Width and height of the keyframe that begins in a payload.
pub(super) fn size(payload: &[u8]) -> Option<Size> {
    let read = read(payload)?;
    read.size.or_else(|| vp9::keyframe(read.frame))
}

fn read(payload: &[u8]) -> Option<Descriptor<'_>> {
    let (first, mut rest) = payload.split_first()?;
    let flag = |bit: u8| first & (0x80 >> bit) != 0;
    let (id, predicted, layers, flexible) = (flag(0), flag(1), flag(2), flag(3));
    let (begins, structure) = (flag(4), flag(6));
    if id {
        let long = rest.first()? & 0x80 != 0;
        rest = rest.get(if long { 2 } else { 1 }..)?;
    }
    let mut spatial = 0;
    if layers {
        spatial = rest.first()? >> 1 & 7;
        rest = rest.get(if flexible { 1 } else { 2 }..)?; // with TL0PICIDX
    }
    if flexible && predicted {
        // P_DIFF, at most three, the last without the lowest bit
        let count = rest.iter().take(3).position(|difference| difference & 1 == 0)? + 1;
        rest = rest.get(count..)?;
    }
    let mut size = None;
    if structure {
        (size, rest) = scalability(rest)?;
    }
    Some(Descriptor { begins_keyframe: begins && !predicted && spatial == 0, size, frame: rest })
}

/// Reads a scalability structure (§4.2.1): the size of the highest spatial layer, and what follows.
fn scalability(data: &[u8]) -> Option<(Option<Size>, &[u8])> {
    let (first, mut rest) = data.split_first()?;
    let mut size = None;
    if first & 0x10 != 0 {
        let sizes;
        (sizes, rest) = rest.split_at_checked(4 * (usize::from(first >> 5) + 1))?;
        let number = |at: usize| u32::from(u16::from_be_bytes([sizes[at], sizes[at + 1]]));
        let last = sizes.len() - 4;
        size = Some((number(last), number(last + 2)));
    }
    if first & 0x08 != 0 {
        let (count, mut pictures) = rest.split_first()?;
        for _ in 0..*count {
            let references = usize::from(pictures.first()? >> 2 & 3);
            pictures = pictures.get(1 + references..)?;
        }
        rest = pictures;
    }
    Some((size, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: [u8; 10] = [0x82, 0x49, 0x83, 0x42, 0x00, 0x28, 0x10, 0x16, 0x96, 0x38];

    fn seen(descriptor: &[u8]) -> (bool, Option<(u32, u32)>) {
        let payload = [descriptor, &FRAME].concat();
        (begins_keyframe(&payload), size(&payload))
    }

    #[test]
    fn a_keyframe_is_found_behind_each_form_of_descriptor() {
        let plain = Some((642, 362));
        assert_eq!(seen(&[0x08]), (true, plain));
        assert_eq!(seen(&[0x88, 0x12]), (true, plain));
        // As Chromium writes it: long picture id, layer indices, a scalability structure with sizes and a group.
        let chromium = [0xaa, 0x81, 0x12, 0x00, 0x05, 0x18, 0x05, 0x00, 0x02, 0xd0, 0x01, 0x04, 0x01];
        assert_eq!(seen(&chromium), (true, Some((1280, 720))));
        let two_layers = [0x2a, 0x00, 0x05, 0x30, 0x02, 0x80, 0x01, 0x68, 0x05, 0x00, 0x02, 0xd0];
        assert_eq!(seen(&two_layers), (true, Some((1280, 720))));
        // Flexible mode.
        assert!(seen(&[0x38, 0x00]).0);
        assert!(!seen(&[0x78, 0x00, 0x03, 0x02]).0, "predicted");
    }

    #[test]
    fn other_frames_begin_nothing() {
        assert!(!seen(&[0x48]).0, "predicted");
        assert!(!seen(&[0x00]).0, "not the beginning");
        assert!(!seen(&[0x28, 0x02, 0x05]).0, "a higher spatial layer");
        assert!(!begins_keyframe(&[0x08, 0x86, 0, 0, 0]), "an interframe");
        for broken in [&[0x88][..], &[0x88, 0x80], &[0x0a, 0xff, 1, 2], &[0x78, 0, 1, 1, 1], &[]] {
            assert!(!begins_keyframe(broken), "{broken:x?}");
        }
    }
}
