//! Video messages.

use super::{FlvError, four_character_code};
use crate::media::h264::AvcConfig;
use crate::media::{Codec, VideoTrack};
use bytes::Bytes;

/// A video message.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rtmp) enum VideoTag {
    /// The configuration of what follows.
    Config(AvcConfig),
    /// An access unit, as lengths and NAL units.
    AccessUnit {
        /// The sender calls it a keyframe.
        keyframe: bool,
        /// Presentation minus decoding time in milliseconds.
        composition_ms: i32,
        /// Shares the message's memory.
        data: Bytes,
    },
    /// Nothing to decode: an empty message, an end of sequence, a command frame.
    Nothing,
}

impl VideoTag {
    /// Parses the payload of a video message.
    pub(in crate::rtmp) fn parse(data: &Bytes) -> Result<Self, FlvError> {
        let Some(&first) = data.first() else { return Ok(Self::Nothing) };
        if first & 0x80 != 0 {
            // Enhanced RTMP: the codec stands as a FourCC after the first byte.
            return Err(FlvError::VideoCodec(four_character_code(data)));
        }
        let (frame_type, codec) = (first >> 4, first & 0x0f);
        if frame_type == 5 {
            return Ok(Self::Nothing); // E.4.3.1: a command frame for the player
        }
        if codec != 7 {
            return Err(FlvError::VideoCodec(video_codec_name(codec)));
        }
        if data.len() == 1 {
            return Ok(Self::Nothing);
        }
        let header = data.get(1..5).ok_or(FlvError::Truncated("video"))?;
        // E.4.3.1: a signed number of 24 bits.
        let composition_ms = i32::from_be_bytes([header[1], header[2], header[3], 0]) >> 8;
        let data = data.slice(5..);
        match header[0] {
            0 if data.is_empty() => Ok(Self::Nothing),
            0 => Ok(Self::Config(AvcConfig::parse(data)?)),
            1 if data.is_empty() => Ok(Self::Nothing),
            1 => Ok(Self::AccessUnit { keyframe: frame_type == 1, composition_ms, data }),
            _ => Ok(Self::Nothing),
        }
    }
}

/// The track of a frame lane that a video configuration describes.
pub(in crate::rtmp) fn video_track(
    config: &AvcConfig,
    composition_seen: bool,
) -> Result<VideoTrack, FlvError> {
    let sps = config.first_sps()?;
    Ok(VideoTrack {
        codec: Codec::H264,
        resolution: Some((sps.width, sps.height)),
        frame_rate: sps.frame_rate,
        codec_data: config.record_with_four_byte_lengths(),
        fmtp: String::new(),
        reordered: sps.max_reorder_frames.map_or(composition_seen, |frames| frames > 0),
    })
}

fn video_codec_name(id: u8) -> String {
    match id {
        2 => "Sorenson H.263".to_owned(),
        3 => "Screen".to_owned(),
        4 | 5 => "VP6".to_owned(),
        12 => "H.265 (codec 12)".to_owned(),
        other => format!("codec {other}"),
    }
}
