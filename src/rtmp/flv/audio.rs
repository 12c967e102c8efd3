//! Audio messages, plain (FLV annex E.4.2) and extended (Enhanced RTMP v2).

use super::enhanced::{self, TrackChoice, packet_type};
use super::{FlvError, four_character_code};
use crate::media::aac::AudioSpecificConfig;
use crate::media::mp3;
use crate::media::opus::{OpusError, OpusHead};
use crate::media::{AudioTrack, Codec, MediaKind};
use bytes::Bytes;

/// An audio message.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rtmp) enum AudioTag {
    /// The track that follows.
    Config(AudioTrack),
    /// A coded frame.
    Sound(Sound),
    /// Nothing to decode: silence, an end of sequence, another track.
    Nothing,
}

/// One coded frame.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rtmp) struct Sound {
    pub(in crate::rtmp) codec: Codec,
    /// To be added to the message's timestamp; less than a millisecond.
    pub(in crate::rtmp) nanos: u32,
    /// AAC: a raw frame. Opus: a packet. MP3: a frame. Shares the message's memory.
    pub(in crate::rtmp) data: Bytes,
}

const MP3: u8 = 2;
const EXTENDED: u8 = 9;
const AAC: u8 = 10;
const MP3_8_KHZ: u8 = 14;

impl AudioTag {
    /// Parses the payload of an audio message.
    pub(in crate::rtmp) fn parse(data: &Bytes, choice: &mut TrackChoice) -> Result<Self, FlvError> {
        let Some(&first) = data.first() else { return Ok(Self::Nothing) };
        let (codec, header) = match first >> 4 {
            EXTENDED => return Self::extended(data, first & 0x0f, choice),
            AAC => (Codec::Aac, 2),
            MP3 | MP3_8_KHZ => (Codec::Mp3, 1),
            other => return Err(FlvError::AudioCodec(codec_name(other))),
        };
        if data.len() <= header || !choice.takes(0) {
            return Ok(Self::Nothing);
        }
        let body = data.slice(header..);
        if codec == Codec::Aac && data[1] == 0 {
            return aac_track(body).map(Self::Config);
        }
        Ok(Self::Sound(Sound { codec, nanos: 0, data: body }))
    }

    fn extended(data: &Bytes, packet_type: u8, choice: &mut TrackChoice) -> Result<Self, FlvError> {
        let Some(packet) = enhanced::read(data, MediaKind::Audio, packet_type, choice)? else {
            return Ok(Self::Nothing);
        };
        let codec = match &packet.four_cc {
            b"mp4a" => Codec::Aac,
            b"Opus" => Codec::Opus,
            b".mp3" => Codec::Mp3,
            other => return Err(FlvError::AudioCodec(four_character_code(other))),
        };
        let body = packet.body;
        match packet.packet_type {
            packet_type::SEQUENCE_START => match codec {
                Codec::Opus => opus_track(body).map(Self::Config),
                Codec::Aac if !body.is_empty() => aac_track(body).map(Self::Config),
                _ => Ok(Self::Nothing), // frames of MP3 describe themselves
            },
            packet_type::CODED_FRAMES if body.is_empty() => Ok(Self::Nothing),
            packet_type::CODED_FRAMES => Ok(Self::Sound(Sound { codec, nanos: packet.nanos, data: body })),
            packet_type::SEQUENCE_END => Ok(Self::Nothing),
            packet_type::MULTICHANNEL_CONFIG => match body.get(1) {
                // Opus of more channels has several packets in each message, which no output here knows.
                Some(&channels) if codec == Codec::Opus && !(1..=2).contains(&channels) => {
                    Err(OpusError::Channels(channels).into())
                }
                Some(_) => Ok(Self::Nothing),
                None => Err(FlvError::Truncated(MediaKind::Audio)),
            },
            other => Err(FlvError::PacketType(MediaKind::Audio, other)),
        }
    }
}

impl Sound {
    /// The track it belongs to, as far as it tells by itself.
    pub(in crate::rtmp) fn track(&self) -> Option<AudioTrack> {
        match self.codec {
            Codec::Mp3 => mp3::FrameHeader::parse(&self.data)
                .map(|header| track(Codec::Mp3, header.sample_rate, header.channels, Bytes::new())),
            Codec::Opus => Some(track(Codec::Opus, 48_000, 2, Bytes::new())),
            _ => None,
        }
    }
}

fn aac_track(record: Bytes) -> Result<AudioTrack, FlvError> {
    let config = AudioSpecificConfig::parse(&record)?;
    Ok(track(Codec::Aac, config.sample_rate, config.channels, record))
}

/// Enhanced RTMP v2: without a header Opus is mono or stereo, and a decoder of stereo decodes both.
fn opus_track(head: Bytes) -> Result<AudioTrack, FlvError> {
    let channels = if head.is_empty() { 2 } else { OpusHead::parse(&head)?.channels };
    Ok(track(Codec::Opus, 48_000, channels, head))
}

fn track(codec: Codec, sample_rate: u32, channels: u16, codec_data: Bytes) -> AudioTrack {
    AudioTrack { codec, sample_rate, channels, codec_data, fmtp: String::new() }
}

fn codec_name(id: u8) -> String {
    match id {
        0 | 3 => "PCM".to_owned(),
        1 => "ADPCM".to_owned(),
        4..=6 => "Nellymoser".to_owned(),
        7 | 8 => "G.711".to_owned(),
        11 => "Speex".to_owned(),
        other => format!("format {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(data: &'static [u8]) -> Result<AudioTag, FlvError> {
        AudioTag::parse(&Bytes::from_static(data), &mut TrackChoice::default())
    }

    fn config(data: &'static [u8]) -> (Codec, u32, u16, usize) {
        match parse(data) {
            Ok(AudioTag::Config(t)) => (t.codec, t.sample_rate, t.channels, t.codec_data.len()),
            other => panic!("{other:?}"),
        }
    }

    fn sound(data: &'static [u8]) -> Sound {
        match parse(data) {
            Ok(AudioTag::Sound(sound)) => sound,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn r16_configurations_of_each_four_character_code() {
        assert_eq!(config(b"\xaf\x00\x11\x90"), (Codec::Aac, 48_000, 2, 2));
        assert_eq!(config(b"\x90mp4a\x12\x08"), (Codec::Aac, 44_100, 1, 2));
        assert_eq!(config(b"\x90Opus"), (Codec::Opus, 48_000, 2, 0));
        let head = b"\x90OpusOpusHead\x01\x01\x38\x01\x80\xbb\x00\x00\x00\x00\x00";
        assert_eq!(config(head), (Codec::Opus, 48_000, 1, 19));
        assert_eq!(parse(b"\x90.mp3"), Ok(AudioTag::Nothing));
    }

    #[test]
    fn r16_frames_of_each_four_character_code() {
        let data = Bytes::from_static(b"x");
        assert_eq!(sound(b"\x91mp4ax"), Sound { codec: Codec::Aac, nanos: 0, data: data.clone() });
        assert_eq!(sound(b"\x91Opusx"), Sound { codec: Codec::Opus, nanos: 0, data: data.clone() });
        assert_eq!(sound(b"\x97\x02\x00\x00\x09\x01Opusx"), Sound { codec: Codec::Opus, nanos: 9, data });
        let mp3 = sound(b"\x2f\xff\xfb\x90\x64");
        assert_eq!(mp3.track().map(|track| (track.codec, track.sample_rate)), Some((Codec::Mp3, 44_100)));
        assert_eq!(sound(b"\x91.mp3\xff\xfb\x90\x64"), mp3);
        assert_eq!(sound(b"\x2fwhat").track(), None);
    }

    #[test]
    fn r16_what_holds_no_sound_is_no_error_and_the_rest_is_named() {
        for data in [&b"\x92Opus"[..], b"\x91Opus", b"\x94mp4a\x01\x06", b"\x94Opus\x01\x02\0\0\0\x03"] {
            assert_eq!(parse(data), Ok(AudioTag::Nothing), "{data:x?}");
        }
        let told = |data| parse(data).expect_err("refused").to_string();
        for (data, name) in [(&b"\x91ac-3x"[..], "ac-3"), (b"\x90ec-3x", "ec-3"), (b"\x91fLaCx", "fLaC")] {
            let expected = format!("{name} audio is not supported over RTMP, send AAC, Opus or MP3");
            assert_eq!(told(data), expected);
        }
        assert!(told(b"\xb2x").starts_with("Speex audio"));
        assert!(told(b"\x93Opusx").contains("audio packet type 3"));
        assert!(told(b"\x94Opus\x00\x06").contains("6 channels"));
        assert!(told(b"\x94Opus\x00").contains("too short"));
    }
}
