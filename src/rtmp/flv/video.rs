//! Video messages, plain (FLV annex E.4.3) and extended (Enhanced RTMP v2).

use super::enhanced::{self, TrackChoice, packet_type};
use super::{FlvError, four_character_code};
use crate::media::av1::Av1Config;
use crate::media::h264::AvcConfig;
use crate::media::h265::HevcConfig;
use crate::media::{Codec, MediaKind, vp9};
use bytes::Bytes;

/// A video message.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rtmp) enum VideoTag {
    /// The configuration of what follows.
    Config(VideoConfig),
    /// A coded picture.
    Picture(Picture),
    /// Nothing to decode: an empty message, an end of sequence, a command, another track.
    Nothing,
}

/// One coded picture.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rtmp) struct Picture {
    pub(in crate::rtmp) codec: Codec,
    /// The sender calls it a keyframe.
    pub(in crate::rtmp) keyframe: bool,
    /// Presentation minus decoding time in milliseconds, of 24 bits, perhaps negative.
    pub(in crate::rtmp) composition_ms: i32,
    /// To be added to the message's timestamp; less than a millisecond.
    pub(in crate::rtmp) nanos: u32,
    /// H.264 and H.265: lengths and NAL units. AV1: OBUs. VP9: a frame. Shares the message's memory.
    pub(in crate::rtmp) data: Bytes,
}

/// A decoder configuration.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::rtmp) enum VideoConfig {
    H264(AvcConfig),
    H265(HevcConfig),
    Av1(Av1Config),
    /// The VPCodecConfigurationRecord from the profile on.
    Vp9(Bytes),
}

const KEYFRAME: u8 = 1;
const COMMAND: u8 = 5;

impl VideoTag {
    /// Parses the payload of a video message.
    pub(in crate::rtmp) fn parse(data: &Bytes, choice: &mut TrackChoice) -> Result<Self, FlvError> {
        let Some(&first) = data.first() else { return Ok(Self::Nothing) };
        if first & 0x80 != 0 {
            return Self::extended(data, first >> 4 & 7, first & 0x0f, choice);
        }
        let (frame_type, codec) = (first >> 4, first & 0x0f);
        if frame_type == COMMAND {
            return Ok(Self::Nothing); // E.4.3.1: for a player
        }
        let codec = match codec {
            7 => Codec::H264,
            // Not in any specification, but what encoders sent before there was a FourCC.
            12 => Codec::H265,
            other => return Err(FlvError::VideoCodec(codec_name(other))),
        };
        if data.len() == 1 || !choice.takes(0) {
            return Ok(Self::Nothing);
        }
        let header = data.get(1..5).ok_or(FlvError::Truncated(MediaKind::Video))?;
        let composition_ms = signed_24([header[1], header[2], header[3]]);
        let body = data.slice(5..);
        match header[0] {
            _ if body.is_empty() => Ok(Self::Nothing),
            0 => VideoConfig::parse(codec, body).map(Self::Config),
            1 => {
                let keyframe = frame_type == KEYFRAME;
                Ok(Self::Picture(Picture { codec, keyframe, composition_ms, nanos: 0, data: body }))
            }
            _ => Ok(Self::Nothing),
        }
    }

    fn extended(
        data: &Bytes,
        frame_type: u8,
        packet_type: u8,
        choice: &mut TrackChoice,
    ) -> Result<Self, FlvError> {
        // A command is one byte in place of all else, unless metadata stand there.
        if frame_type == COMMAND && packet_type != packet_type::METADATA {
            return Ok(Self::Nothing);
        }
        let Some(packet) = enhanced::read(data, MediaKind::Video, packet_type, choice)? else {
            return Ok(Self::Nothing);
        };
        let codec = match &packet.four_cc {
            b"avc1" => Codec::H264,
            b"hvc1" => Codec::H265,
            b"av01" => Codec::Av1,
            b"vp09" => Codec::Vp9,
            other => return Err(FlvError::VideoCodec(four_character_code(other))),
        };
        let mut body = packet.body;
        let mut composition_ms = 0;
        match packet.packet_type {
            packet_type::SEQUENCE_START if body.is_empty() => return Ok(Self::Nothing),
            packet_type::SEQUENCE_START => return VideoConfig::parse(codec, body).map(Self::Config),
            packet_type::CODED_FRAMES if matches!(codec, Codec::H264 | Codec::H265) => {
                let Some((offset, _)) = body.split_first_chunk() else { return Ok(Self::Nothing) };
                composition_ms = signed_24(*offset);
                body = body.slice(3..);
            }
            packet_type::CODED_FRAMES | packet_type::CODED_FRAMES_X => {}
            // What there is to know of colours stands in the bitstream as well.
            packet_type::SEQUENCE_END | packet_type::METADATA => return Ok(Self::Nothing),
            packet_type::MPEG2_TS_SEQUENCE_START => return Err(FlvError::TransportStream),
            other => return Err(FlvError::PacketType(MediaKind::Video, other)),
        }
        if body.is_empty() {
            return Ok(Self::Nothing);
        }
        let (keyframe, nanos) = (frame_type == KEYFRAME, packet.nanos);
        Ok(Self::Picture(Picture { codec, keyframe, composition_ms, nanos, data: body }))
    }
}

impl VideoConfig {
    fn parse(codec: Codec, record: Bytes) -> Result<Self, FlvError> {
        match codec {
            Codec::H265 => Ok(Self::H265(HevcConfig::parse(record)?)),
            Codec::Av1 => Av1Config::parse(&record).map(Self::Av1).ok_or(FlvError::Configuration(codec)),
            Codec::Vp9 => vp9::configuration(&record).map(Self::Vp9).ok_or(FlvError::Configuration(codec)),
            _ => Ok(Self::H264(AvcConfig::parse(record)?)),
        }
    }

    /// What it configures.
    pub(in crate::rtmp) fn codec(&self) -> Codec {
        match self {
            Self::H264(_) => Codec::H264,
            Self::H265(_) => Codec::H265,
            Self::Av1(_) => Codec::Av1,
            Self::Vp9(_) => Codec::Vp9,
        }
    }
}

fn signed_24([a, b, c]: [u8; 3]) -> i32 {
    i32::from_be_bytes([a, b, c, 0]) >> 8
}

fn codec_name(id: u8) -> String {
    match id {
        2 => "Sorenson H.263".to_owned(),
        3 | 6 => "Screen".to_owned(),
        4 | 5 => "VP6".to_owned(),
        other => format!("codec {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(data: &'static [u8]) -> Result<VideoTag, FlvError> {
        VideoTag::parse(&Bytes::from_static(data), &mut TrackChoice::default())
    }

    fn picture(data: &'static [u8]) -> (Codec, bool, i32, u32, Bytes) {
        match parse(data) {
            Ok(VideoTag::Picture(p)) => (p.codec, p.keyframe, p.composition_ms, p.nanos, p.data),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn r16_pictures_of_each_four_character_code() {
        let body = Bytes::from_static(b"x");
        assert_eq!(picture(b"\x91avc1\x00\x00\x50x"), (Codec::H264, true, 80, 0, body.clone()));
        assert_eq!(picture(b"\xa1hvc1\xff\xff\xfex"), (Codec::H265, false, -2, 0, body.clone()));
        assert_eq!(picture(b"\x93hvc1x"), (Codec::H265, true, 0, 0, body.clone()));
        assert_eq!(picture(b"\x91av01x"), (Codec::Av1, true, 0, 0, body.clone()));
        assert_eq!(picture(b"\xa1vp09x"), (Codec::Vp9, false, 0, 0, body.clone()));
        assert_eq!(picture(b"\x97\x02\x00\x00\x07\x03hvc1x"), (Codec::H265, true, 0, 7, body));
    }

    #[test]
    fn h265_is_also_known_by_its_number() {
        assert_eq!(picture(b"\x1c\x01\x00\x00\x28x"), (Codec::H265, true, 40, 0, Bytes::from_static(b"x")));
        assert!(matches!(parse(b"\x1c\x00\x00\x00\x00\x01\x02"), Err(FlvError::Hevc(_))));
    }

    #[test]
    fn r16_what_holds_no_picture_is_no_error() {
        for data in [&b"\x92hvc1"[..], b"\x94hvc1\x02", b"\xd1\x00", b"\x91hvc1", b"\x91hvc1\x00\x00\x00"] {
            assert_eq!(parse(data), Ok(VideoTag::Nothing), "{data:x?}");
        }
    }

    #[test]
    fn r16_unknown_codecs_and_packet_types_are_named() {
        let told = |data| parse(data).expect_err("refused").to_string();
        assert_eq!(
            told(b"\x90vvc1.."),
            "vvc1 video is not supported over RTMP, send H.264, H.265, AV1 or VP9"
        );
        assert!(told(b"\x90vp08..").starts_with("vp08 video"));
        assert!(told(b"\x98hvc1..").contains("video packet type 8"));
        assert!(told(b"\x95av01..").contains("MPEG-2"));
        assert!(told(b"\x90av01\x00").contains("AV1 configuration"));
    }
}
