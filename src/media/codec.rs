//! Codecs and the two kinds of media.

use std::fmt;

/// What an elementary stream carries. A stream has at most one track of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MediaKind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

/// A coding format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// ITU-T H.264.
    H264,
    /// ITU-T H.265.
    H265,
    /// RFC 6386.
    Vp8,
    /// The VP9 bitstream specification.
    Vp9,
    /// The AV1 bitstream specification.
    Av1,
    /// RFC 6716.
    Opus,
    /// ISO/IEC 14496-3.
    Aac,
    /// ISO/IEC 11172-3 and 13818-3, layer III.
    Mp3,
}

impl Codec {
    /// The kind of media this codec codes.
    pub fn kind(self) -> MediaKind {
        match self {
            Self::H264 | Self::H265 | Self::Vp8 | Self::Vp9 | Self::Av1 => MediaKind::Video,
            Self::Opus | Self::Aac | Self::Mp3 => MediaKind::Audio,
        }
    }

    /// The name people use: `H.264`, `Opus`, ….
    pub fn name(self) -> &'static str {
        match self {
            Self::H264 => "H.264",
            Self::H265 => "H.265",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::Av1 => "AV1",
            Self::Opus => "Opus",
            Self::Aac => "AAC",
            Self::Mp3 => "MP3",
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for MediaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Video => "video",
            Self::Audio => "audio",
        })
    }
}
