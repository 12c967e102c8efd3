//! The ladder: which lower renditions are encoded of a stream that has one. Pure.

use super::StreamName;
use std::collections::BTreeMap;
use std::str::FromStr;

/// Rungs that a ladder may have.
const MOST_RUNGS: usize = 8;

/// The renditions that are made of a stream, besides the one that its publisher sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ladder {
    /// Lines of the pictures, the most first.
    heights: Vec<u32>,
    /// The sound alone is a variant too.
    pub audio: bool,
}

/// The ladders of all streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ladders {
    /// Of streams that are not named in `by_name`.
    pub default: Ladder,
    /// Of these streams.
    pub by_name: BTreeMap<StreamName, Ladder>,
}

/// Not a ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a ladder has up to eight different rungs such as \"720p\", and \"audio\"")]
pub struct InvalidLadder;

impl Ladder {
    /// Reads rungs: `720p` and the like, from 144 to 2160 lines, and `audio`; none is no ladder.
    pub fn new<'a>(rungs: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidLadder> {
        let mut ladder = Self::default();
        for rung in rungs {
            if rung == "audio" && !ladder.audio {
                ladder.audio = true;
                continue;
            }
            let height = rung.strip_suffix('p').and_then(|lines| lines.parse().ok());
            let height = height.filter(|lines| (144..=2160).contains(lines)).ok_or(InvalidLadder)?;
            if ladder.heights.contains(&height) {
                return Err(InvalidLadder);
            }
            ladder.heights.push(height);
        }
        ladder.heights.sort_unstable_by_key(|lines| std::cmp::Reverse(*lines));
        if ladder.heights.len() > MOST_RUNGS { Err(InvalidLadder) } else { Ok(ladder) }
    }

    /// Whether pictures of another size may be made.
    pub fn has_pictures(&self) -> bool {
        !self.heights.is_empty()
    }

    /// The sizes that are made of pictures of `source`: those smaller than it, the largest first, in its shape.
    /// What is upright has so many columns instead of lines.
    pub fn sizes(&self, source: (u32, u32)) -> Vec<(u32, u32)> {
        let (width, height) = source;
        let short = width.min(height);
        let scaled = |side: u32, lines: u32| {
            let exact =
                (u64::from(side) * u64::from(lines) * 2 + u64::from(short)) / (2 * u64::from(short.max(1)));
            (exact as u32).next_multiple_of(2) // chroma has half as many
        };
        let lower = self.heights.iter().filter(|lines| **lines < short);
        lower.map(|lines| (scaled(width, *lines), scaled(height, *lines))).collect()
    }
}

impl FromStr for Ladder {
    type Err = InvalidLadder;

    /// Rungs with `+` between them; `off` for none.
    fn from_str(text: &str) -> Result<Self, InvalidLadder> {
        match text.trim() {
            "off" => Ok(Self::default()),
            text => Self::new(text.split('+').map(str::trim)),
        }
    }
}

impl Ladders {
    /// That of a stream.
    pub fn of(&self, name: &StreamName) -> &Ladder {
        self.by_name.get(name).unwrap_or(&self.default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ladder(text: &str) -> Ladder {
        text.parse().expect("a ladder")
    }

    #[test]
    fn nothing_is_made_larger_and_the_shape_stays() {
        let ladder = ladder("480p + 720p+audio+1080p");
        assert!(ladder.audio);
        assert_eq!(ladder.sizes((1920, 1080)), [(1280, 720), (854, 480)]);
        assert_eq!(ladder.sizes((1080, 1920)), [(720, 1280), (480, 854)]);
        assert_eq!(ladder.sizes((960, 720)), [(640, 480)]);
        assert_eq!(ladder.sizes((640, 480)), []);
        assert_eq!(ladder.sizes((0, 0)), []);
    }

    #[test]
    fn a_rung_is_a_number_of_lines_or_the_sound() {
        assert_eq!(ladder("off"), Ladder::default());
        assert_eq!(Ladder::new([]), Ok(Ladder::default()));
        let many = "200p+201p+202p+203p+204p+205p+206p+207p+208p";
        for wrong in ["", "720", "100p", "9999p", "720p+720p", "audio+audio", "video", "720p+", many] {
            assert_eq!(wrong.parse::<Ladder>(), Err(InvalidLadder), "{wrong}");
        }
    }

    #[test]
    fn a_stream_may_have_its_own() {
        let by_name = BTreeMap::from([("show".parse().expect("a name"), ladder("360p"))]);
        let ladders = Ladders { default: ladder("720p"), by_name };
        let of = |name: &str| ladders.of(&name.parse().expect("a name")).clone();
        assert_eq!((of("show"), of("other")), (ladder("360p"), ladder("720p")));
    }
}
