//! The bodies of RTMP audio and video messages: FLV tags (Adobe Flash Video File Format 10.1, annex E) and
//! their extensions (Enhanced RTMP v2).
//!
//! Parses without copying, takes one track of each kind, names every codec that is not taken in its error, and
//! writes the tag headers that a push needs. Timestamps belong to the message, not to the tag.

mod audio;
mod enhanced;
mod metadata;
mod video;
mod write;

pub(super) use audio::{AudioTag, Sound};
pub(super) use enhanced::TrackChoice;
pub(super) use metadata::{announced, metadata};
pub(super) use video::{Picture, VideoConfig, VideoTag};
pub(super) use write::{audio_header, video_header};

use crate::media::aac::AacError;
use crate::media::h264::H264Error;
use crate::media::h265::HevcConfigError;
use crate::media::opus::OpusError;
use crate::media::{Codec, MediaKind};

/// Why a tag can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FlvError {
    #[error("{0} video is not supported over RTMP, send H.264, H.265, AV1 or VP9")]
    VideoCodec(String),
    #[error("{0} audio is not supported over RTMP, send AAC, Opus or MP3")]
    AudioCodec(String),
    #[error("{0} packet type {1} is unknown, send what Enhanced RTMP v2 defines")]
    PacketType(MediaKind, u8),
    #[error("AV1 with a configuration for MPEG-2 transport streams is not supported, send an av1C record")]
    TransportStream,
    #[error("a {0} message has tracks in an unknown order, send what Enhanced RTMP v2 defines")]
    Multitrack(MediaKind),
    #[error("a {0} message has too many modifiers")]
    Modifiers(MediaKind),
    #[error("bad H.264 configuration: {0}")]
    Avc(#[from] H264Error),
    #[error("bad H.265 configuration: {0}")]
    Hevc(#[from] HevcConfigError),
    #[error("bad {0} configuration: it is cut short or of an unknown version")]
    Configuration(Codec),
    #[error("bad AAC configuration: {0}")]
    Aac(#[from] AacError),
    #[error("bad Opus configuration: {0}")]
    Opus(#[from] OpusError),
    #[error("a {0} message is too short")]
    Truncated(MediaKind),
}

fn four_character_code(code: &[u8]) -> String {
    code.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn messages_without_media_are_no_error() {
        for bytes in [&[][..], &[0x17], &[0x17, 2, 0, 0, 0], &[0x57, 0], &[0x27, 1, 0, 0, 0]] {
            assert_eq!(
                VideoTag::parse(&Bytes::copy_from_slice(bytes), &mut TrackChoice::default()),
                Ok(VideoTag::Nothing),
                "{bytes:?}"
            );
        }
        for bytes in [&[][..], &[0xaf], &[0xaf, 1]] {
            assert_eq!(
                AudioTag::parse(&Bytes::copy_from_slice(bytes), &mut TrackChoice::default()),
                Ok(AudioTag::Nothing),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn other_codecs_are_named() {
        let video = |bytes: &'static [u8]| {
            VideoTag::parse(&Bytes::from_static(bytes), &mut TrackChoice::default()).expect_err("refused")
        };
        assert_eq!(video(&[0x12, 0, 0, 0, 0]), FlvError::VideoCodec("Sorenson H.263".into()));
        assert_eq!(video(b"\x90vvc1...."), FlvError::VideoCodec("vvc1".into()));
        assert_eq!(video(b"\x90\x00\n\xff\x1b"), FlvError::VideoCodec(r"\x00\n\xff\x1b".into()));
    }

    #[test]
    fn r16_no_message_panics() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut choice = (TrackChoice::default(), TrackChoice::default());
        for round in 0..40_000 {
            let mut bytes = [0u8; 48];
            for byte in &mut bytes {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                // Small numbers are types and lengths.
                *byte = if state >> 62 == 0 { (state >> 33) as u8 } else { (state >> 33) as u8 & 0x17 };
            }
            bytes[0] = 0x90 | bytes[0] & 7;
            if round % 2 == 0 {
                bytes[2..6].copy_from_slice([b"hvc1", b"av01", b"Opus", b"mp4a"][round / 2 % 4]);
            }
            let data = Bytes::copy_from_slice(&bytes[..1 + round % 48]);
            let _ = VideoTag::parse(&data, &mut choice.0);
            let _ = AudioTag::parse(&data, &mut choice.1);
        }
        assert!(choice.0.left_out() <= 255);
    }
}
