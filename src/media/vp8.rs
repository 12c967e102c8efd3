//! VP8 frames (RFC 6386 §9.1): whether one is a keyframe, and its size.

/// Width and height in pixels of the keyframe that `frame` begins; `None` if it is not the beginning of one.
pub fn keyframe(frame: &[u8]) -> Option<(u32, u32)> {
    let head: &[u8; 10] = frame.first_chunk()?;
    // The lowest bit of the frame tag: 0 for keyframes, which have a start code.
    if head[0] & 1 != 0 || head[3..6] != [0x9d, 0x01, 0x2a] {
        return None;
    }
    // 14 bits each; the upper two are a scale for the display.
    let size = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    Some((size(head[6], head[7]), size(head[8], head[9])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyframe_tells_its_size() {
        let frame = [0x30, 0xce, 0, 0x9d, 0x01, 0x2a, 0x82, 0x02, 0x6a, 0x01];
        assert_eq!(keyframe(&frame), Some((642, 362)));
        let mut other = frame;
        other[0] |= 1;
        assert_eq!(keyframe(&other), None, "an interframe");
        other = frame;
        other[4] = 0;
        assert_eq!(keyframe(&other), None, "no start code");
        assert_eq!(keyframe(&frame[..9]), None);
    }
}
