//! The names of everything a stream serves below its folder.
//!
//! A media name says the rendition, a token of this run of the stream, and a number that is never used
//! twice in the run: what is served under a name never changes. Parts are numbered through, so that the
//! name of the next part is known before anybody knows which segment it will belong to.

use crate::media::MediaKind;
use std::fmt;

/// A file a player can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum File<'a> {
    /// The multivariant playlist.
    Multivariant,
    /// The media playlist of a rendition.
    Playlist(MediaKind),
    /// Media: of which rendition, of which run, and what.
    Media(MediaKind, &'a str, Piece),
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

impl<'a> File<'a> {
    /// Reads a file name; `None` if nothing of ours is called so.
    pub fn parse(name: &'a str) -> Option<Self> {
        match name {
            "index.m3u8" => return Some(Self::Multivariant),
            "video.m3u8" => return Some(Self::Playlist(MediaKind::Video)),
            "audio.m3u8" => return Some(Self::Playlist(MediaKind::Audio)),
            _ => {}
        }
        let (kind, rest) = name.split_once('_')?;
        let kind = match kind {
            "video" => MediaKind::Video,
            "audio" => MediaKind::Audio,
            _ => return None,
        };
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
        Some(Self::Media(kind, run, piece))
    }
}

impl fmt::Display for File<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Multivariant => f.write_str("index.m3u8"),
            Self::Playlist(kind) => write!(f, "{kind}.m3u8"),
            Self::Media(kind, run, Piece::Init(number)) => write!(f, "{kind}_{run}_init{number}.mp4"),
            Self::Media(kind, run, Piece::Segment(number)) => write!(f, "{kind}_{run}_{number}.m4s"),
            Self::Media(kind, run, Piece::Part(number)) => write!(f, "{kind}_{run}_p{number}.m4s"),
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
        for kind in [MediaKind::Video, MediaKind::Audio] {
            for piece in [Piece::Init(7), Piece::Segment(217_000_001), Piece::Part(0)] {
                let file = File::Media(kind, "1a2b", piece);
                assert_eq!(File::parse(&file.to_string()), Some(file));
            }
            assert_eq!(File::parse(&File::Playlist(kind).to_string()), Some(File::Playlist(kind)));
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
        ] {
            assert_eq!(File::parse(name), None, "{name}");
        }
    }
}
