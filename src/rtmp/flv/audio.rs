//! Audio messages.

use super::{FlvError, four_character_code};
use crate::media::aac::AudioSpecificConfig;
use crate::media::{AudioTrack, Codec};
use bytes::Bytes;

/// An audio message.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rtmp) enum AudioTag {
    /// The configuration of what follows, and the same as bytes.
    Config(AudioSpecificConfig, Bytes),
    /// One raw AAC frame; shares the message's memory.
    Raw(Bytes),
    /// An empty message.
    Nothing,
}

impl AudioTag {
    /// Parses the payload of an audio message.
    pub(in crate::rtmp) fn parse(data: &Bytes) -> Result<Self, FlvError> {
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

/// The track of a frame lane that an audio configuration describes.
pub(in crate::rtmp) fn audio_track(config: &AudioSpecificConfig, record: Bytes) -> AudioTrack {
    AudioTrack {
        codec: Codec::Aac,
        sample_rate: config.sample_rate,
        channels: config.channels,
        codec_data: record,
        fmtp: String::new(),
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
