//! The names of everything a stream serves below its folder.
//!
//! A media name says the rendition, a token of this run of the stream, and a number that is never used
//! twice in the run: what is served under a name never changes. Parts are numbered through, so that the
//! name of the next part is known before anybody knows which segment it will belong to.
//!
//! The best video rendition is `video`, as if there were no other; the others are `video-2`, `video-3` and so
//! on, the next best first. The sound, which all of them share, is `audio`.

use crate::media::MediaKind;
use std::fmt;

/// Video renditions beside the best one that a stream may have.
pub(super) const MOST_LOWER: u8 = 15;

/// A rendition of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum RenditionName {
    /// Pictures: 0 is the best, the higher the number the lower the quality.
    Video(u8),
    /// The sound.
    Audio,
}

/// A file a player can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum File<'a> {
    /// The multivariant playlist.
    Multivariant,
    /// The media playlist of a rendition.
    Playlist(RenditionName),
    /// Media: of which rendition, of which run, and what.
    Media(RenditionName, &'a str, Piece),
}

/// A piece of media of a rendition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// The initialisation section of the stretch with this discontinuity sequence number.
    Init(u64),
    /// The segment with this media sequence number.
    Segment(u64),
    /// The part with this number.
    Part(u64),
}

impl RenditionName {
    /// The best video rendition, and the only one of most streams.
    pub const VIDEO: Self = Self::Video(0);

    /// The name of the first rendition of `kind`.
    pub fn of(kind: MediaKind) -> Self {
        match kind {
            MediaKind::Video => Self::VIDEO,
            MediaKind::Audio => Self::Audio,
        }
    }

    /// What it consists of.
    pub fn kind(self) -> MediaKind {
        match self {
            Self::Video(_) => MediaKind::Video,
            Self::Audio => MediaKind::Audio,
        }
    }

    /// Whether it is a video rendition beside the best one.
    pub fn is_lower(self) -> bool {
        matches!(self, Self::Video(1..))
    }

    fn parse(name: &str) -> Option<Self> {
        match name {
            "video" => Some(Self::VIDEO),
            "audio" => Some(Self::Audio),
            _ => {
                let place = number_of(name.strip_prefix("video-")?)?;
                let number = u8::try_from(place.checked_sub(1)?).ok()?;
                (1..=MOST_LOWER).contains(&number).then_some(Self::Video(number))
            }
        }
    }
}

impl fmt::Display for RenditionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Video(0) => f.write_str("video"),
            Self::Video(number) => write!(f, "video-{}", u16::from(*number) + 1),
            Self::Audio => f.write_str("audio"),
        }
    }
}

impl<'a> File<'a> {
    /// Reads a file name; `None` if nothing of ours is called so.
    pub fn parse(name: &'a str) -> Option<Self> {
        if name == "index.m3u8" {
            return Some(Self::Multivariant);
        }
        if let Some(rendition) = name.strip_suffix(".m3u8") {
            return RenditionName::parse(rendition).map(Self::Playlist);
        }
        let (rendition, rest) = name.split_once('_')?;
        let rendition = RenditionName::parse(rendition)?;
        let (run, rest) = rest.split_once('_')?;
        let piece = if let Some(number) = rest.strip_prefix("init").and_then(|rest| rest.strip_suffix(".mp4"))
        {
            Piece::Init(number_of(number)?)
        } else {
            let number = rest.strip_suffix(".m4s")?;
            match number.strip_prefix('p') {
                Some(number) => Piece::Part(number_of(number)?),
                None => Piece::Segment(number_of(number)?),
            }
        };
        Some(Self::Media(rendition, run, piece))
    }
}

impl fmt::Display for File<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Multivariant => f.write_str("index.m3u8"),
            Self::Playlist(rendition) => write!(f, "{rendition}.m3u8"),
            Self::Media(rendition, run, Piece::Init(number)) => {
                write!(f, "{rendition}_{run}_init{number}.mp4")
            }
            Self::Media(rendition, run, Piece::Segment(number)) => {
                write!(f, "{rendition}_{run}_{number}.m4s")
            }
            Self::Media(rendition, run, Piece::Part(number)) => write!(f, "{rendition}_{run}_p{number}.m4s"),
        }
    }
}

/// Decimal digits only: one name for each number, no sign, no leading zero.
fn number_of(text: &str) -> Option<u64> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    canonical.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written() {
        for (rendition, name) in [
            (RenditionName::VIDEO, "video"),
            (RenditionName::Video(1), "video-2"),
            (RenditionName::Video(MOST_LOWER), "video-16"),
            (RenditionName::Audio, "audio"),
        ] {
            assert_eq!(rendition.to_string(), name);
            for piece in [Piece::Init(7), Piece::Segment(217_000_001), Piece::Part(0)] {
                let file = File::Media(rendition, "1a2b", piece);
                assert_eq!(File::parse(&file.to_string()), Some(file));
            }
            assert_eq!(File::parse(&File::Playlist(rendition).to_string()), Some(File::Playlist(rendition)));
        }
        assert_eq!(File::parse("index.m3u8"), Some(File::Multivariant));
    }

    #[test]
    fn nothing_else_is_a_name() {
        for name in [
            "",
            "x",
            "video_",
            "video_a_",
            "video_a_p.m4s",
            "video_a_p+1.m4s",
            "video_a_01.m4s",
            "text_a_1.m4s",
            "video_a_1.mp4",
            "video_a_init1.m4s",
            "video_a_99999999999999999999.m4s",
            "../index.m3u8",
            "video-1.m3u8",
            "video-02.m3u8",
            "video-17.m3u8",
            "video-.m3u8",
            "audio-2.m3u8",
            "video-0_a_1.m4s",
        ] {
            assert_eq!(File::parse(name), None, "{name}");
        }
    }
}
