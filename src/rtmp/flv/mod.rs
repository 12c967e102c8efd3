//! The bodies of RTMP audio and video messages: FLV tags (Adobe Flash Video File Format 10.1, annex E).
//!
//! Parses H.264 and AAC tags without copying, names every other codec in its error, and writes the tag
//! headers that a push needs. Timestamps belong to the message, not to the tag.

mod audio;
mod metadata;
mod video;
mod write;

pub(super) use audio::{AudioTag, audio_track};
pub(super) use metadata::{announced, metadata};
pub(super) use video::{VideoTag, video_track};
pub(super) use write::{audio_header, video_header};

use crate::media::aac::AacError;
use crate::media::h264::H264Error;

/// Why a tag can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FlvError {
    #[error("{0} video is not supported over RTMP, send H.264")]
    VideoCodec(String),
    #[error("{0} audio is not supported over RTMP, send AAC")]
    AudioCodec(String),
    #[error("bad H.264 configuration: {0}")]
    Avc(#[from] H264Error),
    #[error("bad AAC configuration: {0}")]
    Aac(#[from] AacError),
    #[error("a {0} message is too short")]
    Truncated(&'static str),
}

fn four_character_code(data: &[u8]) -> String {
    match data.get(1..5) {
        Some(code) => code.escape_ascii().to_string(),
        None => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn messages_without_media_are_no_error() {
        for bytes in [&[][..], &[0x17], &[0x17, 2, 0, 0, 0], &[0x57, 0], &[0x27, 1, 0, 0, 0]] {
            assert_eq!(VideoTag::parse(&Bytes::copy_from_slice(bytes)), Ok(VideoTag::Nothing), "{bytes:?}");
        }
        for bytes in [&[][..], &[0xaf], &[0xaf, 1]] {
            assert_eq!(AudioTag::parse(&Bytes::copy_from_slice(bytes)), Ok(AudioTag::Nothing), "{bytes:?}");
        }
    }

    #[test]
    fn other_codecs_are_named() {
        let video = |bytes: &'static [u8]| VideoTag::parse(&Bytes::from_static(bytes)).expect_err("refused");
        assert_eq!(video(&[0x12, 0, 0, 0, 0]), FlvError::VideoCodec("Sorenson H.263".into()));
        assert_eq!(video(b"\x90hvc1...."), FlvError::VideoCodec("hvc1".into()));
        assert_eq!(video(b"\x90\x00\n\xff\x1b"), FlvError::VideoCodec(r"\x00\n\xff\x1b".into()));
        let audio = AudioTag::parse(&Bytes::from_static(&[0x2f, 0, 0]));
        assert_eq!(audio, Err(FlvError::AudioCodec("MP3".into())));
    }
}
