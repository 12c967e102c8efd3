//! The headers of the messages that a push sends.

/// The first bytes of a video message: 5 bytes, then the configuration record or the access unit.
pub(in crate::rtmp) fn video_header(keyframe: bool, config: bool, composition_ms: i32) -> [u8; 5] {
    let [_, a, b, c] = composition_ms.to_be_bytes();
    [if keyframe { 0x17 } else { 0x27 }, u8::from(!config), a, b, c]
}

/// The first bytes of an audio message. E.4.2.1: AAC says 44 kHz, 16 bits, stereo, whatever it is.
pub(in crate::rtmp) fn audio_header(config: bool) -> [u8; 2] {
    [0xaf, u8::from(!config)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::flv::{TrackChoice, VideoTag};

    #[test]
    fn composition_offsets_are_signed() {
        for offset in [0, 80, -2, -8_388_608, 8_388_607] {
            let tag = [&video_header(false, false, offset)[..], &[9]].concat().into();
            match VideoTag::parse(&tag, &mut TrackChoice::default()) {
                Ok(VideoTag::Picture(picture)) => assert_eq!(picture.composition_ms, offset),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(video_header(true, false, 80), [0x17, 1, 0, 0, 80]);
        assert_eq!(video_header(false, false, -2), [0x27, 1, 0xff, 0xff, 0xfe]);
    }
}
