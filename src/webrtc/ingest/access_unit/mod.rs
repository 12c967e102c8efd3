//! Where access units begin in RTP payloads, and what they tell of their pictures. Reads a few bytes, copies
//! nothing that does not describe a picture.

mod av1;
mod h264;
mod h265;
mod vp8;
mod vp9;

use crate::media::Codec;

/// What a payload tells about its access unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    /// Decoding can start here: a sequence parameter set or the beginning of a picture that needs no other.
    Start,
    /// Only what may stand before it: delimiter, supplemental information.
    Prefix,
    /// Anything else.
    Other,
}

/// What the first packet of a keyframe says of the pictures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Picture {
    /// Width and height in pixels.
    pub(super) resolution: (u32, u32),
    /// Pictures a second, where the sender states a constant rate.
    pub(super) frame_rate: Option<f64>,
    /// Pictures may be decoded in another order than they are shown.
    pub(super) reordered: bool,
}

impl Picture {
    /// Of a codec that says no more.
    fn of_size(resolution: (u32, u32)) -> Self {
        Self { resolution, frame_rate: None, reordered: false }
    }
}

/// Looks into a payload of a video codec.
pub(super) fn contents(codec: Codec, payload: &[u8]) -> Contents {
    match codec {
        Codec::H264 => h264::contents(payload),
        Codec::H265 => h265::contents(payload),
        Codec::Vp8 => starts(vp8::keyframe(payload).is_some()),
        Codec::Vp9 => starts(vp9::begins_keyframe(payload)),
        Codec::Av1 => starts(av1::begins_sequence(payload)),
        Codec::Opus | Codec::Aac | Codec::Mp3 => Contents::Other,
    }
}

/// What a payload that starts decoding says of the pictures; `None` if it does not.
pub(super) fn picture(codec: Codec, payload: &[u8]) -> Option<Picture> {
    match codec {
        Codec::H264 => h264::picture(payload),
        Codec::H265 => h265::picture(payload),
        Codec::Vp8 => vp8::keyframe(payload).map(Picture::of_size),
        Codec::Vp9 => vp9::size(payload).map(Picture::of_size),
        Codec::Av1 => av1::size(payload).map(Picture::of_size),
        Codec::Opus | Codec::Aac | Codec::Mp3 => None,
    }
}

fn starts(yes: bool) -> Contents {
    if yes { Contents::Start } else { Contents::Other }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_never_panics() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for round in 0..100_000usize {
            let bytes: Vec<u8> = (0..round % 40)
                .map(|_| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    (state >> 33) as u8
                })
                .collect();
            for codec in [Codec::H264, Codec::H265, Codec::Vp8, Codec::Vp9, Codec::Av1] {
                let _ = (contents(codec, &bytes), picture(codec, &bytes));
            }
        }
    }
}
