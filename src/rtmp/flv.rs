//! The bodies of RTMP audio and video messages: FLV tags (Adobe Flash Video File Format 10.1, annex E).
//!
//! Parses H.264 and AAC tags without copying, names every other codec in its error, and writes the tag
//! headers that a push needs. Timestamps belong to the message, not to the tag.

use crate::media::aac::{AacError, AudioSpecificConfig};
use crate::media::h264::{AvcConfig, H264Error};
use crate::media::{AudioTrack, Codec, Tracks, VideoTrack};
use bytes::Bytes;
use rml_rtmp::rml_amf0::Amf0Value;

/// A video message.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum VideoTag {
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

/// An audio message.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum AudioTag {
    /// The configuration of what follows, and the same as bytes.
    Config(AudioSpecificConfig, Bytes),
    /// One raw AAC frame; shares the message's memory.
    Raw(Bytes),
    /// An empty message.
    Nothing,
}

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

impl VideoTag {
    /// Parses the payload of a video message.
    pub(super) fn parse(data: &Bytes) -> Result<Self, FlvError> {
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

impl AudioTag {
    /// Parses the payload of an audio message.
    pub(super) fn parse(data: &Bytes) -> Result<Self, FlvError> {
        let Some(&first) = data.first() else { return Ok(Self::Nothing) };
        match first >> 4 {
            10 => {}
            9 => return Err(FlvError::AudioCodec(four_character_code(data))),
            other => return Err(FlvError::AudioCodec(audio_codec_name(other))),
        }
        if data.len() <= 2 {
            return Ok(Self::Nothing);
        }
        let body = data.slice(2..);
        if data[1] == 0 {
            return Ok(Self::Config(AudioSpecificConfig::parse(&body)?, body));
        }
        Ok(Self::Raw(body))
    }
}

/// Which tracks `onMetaData` announces; `None` if it tells nothing.
pub(super) fn announced(metadata: &Amf0Value) -> Option<(bool, bool)> {
    let Amf0Value::Object(properties) = metadata else { return None };
    let states = |name: &str| match properties.get(name) {
        Some(Amf0Value::Number(id)) => *id > 0.0,
        Some(Amf0Value::Utf8String(id)) => !id.is_empty(),
        _ => false,
    };
    match (states("videocodecid"), states("audiocodecid")) {
        (false, false) => None,
        tracks => Some(tracks),
    }
}

/// The first bytes of a video message: 5 bytes, then the configuration record or the access unit.
pub(super) fn video_header(keyframe: bool, config: bool, composition_ms: i32) -> [u8; 5] {
    let [_, a, b, c] = composition_ms.to_be_bytes();
    [if keyframe { 0x17 } else { 0x27 }, u8::from(!config), a, b, c]
}

/// The first bytes of an audio message. E.4.2.1: AAC says 44 kHz, 16 bits, stereo, whatever it is.
pub(super) fn audio_header(config: bool) -> [u8; 2] {
    [0xaf, u8::from(!config)]
}

/// The `onMetaData` of these tracks.
pub(super) fn metadata(tracks: &Tracks) -> Amf0Value {
    let mut properties = std::collections::HashMap::new();
    let mut put = |name: &str, value| properties.insert(name.to_owned(), value);
    put("duration", Amf0Value::Number(0.0));
    put("encoder", Amf0Value::Utf8String(concat!("Tidegate/", env!("CARGO_PKG_VERSION")).into()));
    if let Some(VideoTrack { resolution, frame_rate, .. }) = &tracks.video {
        put("videocodecid", Amf0Value::Number(7.0));
        if let Some((width, height)) = resolution {
            put("width", Amf0Value::Number((*width).into()));
            put("height", Amf0Value::Number((*height).into()));
        }
        if let Some(rate) = frame_rate {
            put("framerate", Amf0Value::Number(*rate));
        }
    }
    if let Some(AudioTrack { sample_rate, channels, .. }) = &tracks.audio {
        put("audiocodecid", Amf0Value::Number(10.0));
        put("audiosamplerate", Amf0Value::Number((*sample_rate).into()));
        put("audiosamplesize", Amf0Value::Number(16.0));
        put("audiochannels", Amf0Value::Number((*channels).into()));
        put("stereo", Amf0Value::Boolean(*channels >= 2));
    }
    Amf0Value::Object(properties)
}

/// The track of a frame lane that a video configuration describes.
pub(super) fn video_track(config: &AvcConfig, composition_seen: bool) -> Result<VideoTrack, FlvError> {
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

/// The track of a frame lane that an audio configuration describes.
pub(super) fn audio_track(config: &AudioSpecificConfig, record: Bytes) -> AudioTrack {
    AudioTrack {
        codec: Codec::Aac,
        sample_rate: config.sample_rate,
        channels: config.channels,
        codec_data: record,
        fmtp: String::new(),
    }
}

fn four_character_code(data: &[u8]) -> String {
    match data.get(1..5) {
        Some(code) => code.escape_ascii().to_string(),
        None => "unknown".to_owned(),
    }
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

fn audio_codec_name(id: u8) -> String {
    match id {
        0 | 3 => "PCM".to_owned(),
        1 => "ADPCM".to_owned(),
        2 | 14 => "MP3".to_owned(),
        4..=6 => "Nellymoser".to_owned(),
        7 | 8 => "G.711".to_owned(),
        11 => "Speex".to_owned(),
        other => format!("format {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composition_offsets_are_signed() {
        let tag = |bytes: &'static [u8]| VideoTag::parse(&Bytes::from_static(bytes)).expect("valid");
        let offset = |tag| match tag {
            VideoTag::AccessUnit { composition_ms, .. } => composition_ms,
            other => panic!("{other:?}"),
        };
        assert_eq!(offset(tag(&[0x17, 1, 0, 0, 80, 9])), 80);
        assert_eq!(offset(tag(&[0x27, 1, 0xff, 0xff, 0xfe, 9])), -2);
        assert_eq!(video_header(true, false, 80), [0x17, 1, 0, 0, 80]);
        assert_eq!(video_header(false, false, -2), [0x27, 1, 0xff, 0xff, 0xfe]);
    }

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

    #[test]
    fn metadata_announces_tracks() {
        let tracks = |properties: Vec<(&str, Amf0Value)>| {
            announced(&Amf0Value::Object(properties.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()))
        };
        assert_eq!(tracks(vec![("videocodecid", Amf0Value::Number(7.0))]), Some((true, false)));
        assert_eq!(tracks(vec![("audiocodecid", Amf0Value::Utf8String("mp4a".into()))]), Some((false, true)));
        assert_eq!(tracks(vec![("title", Amf0Value::Null)]), None);
        assert_eq!(announced(&Amf0Value::Null), None);
    }
}
