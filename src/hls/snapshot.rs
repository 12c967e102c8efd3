//! One state of a rendition: immutable, swapped as a whole, so that no reader sees half of an update.
//!
//! Its playlists are written when somebody asks for them, once.

use super::limits::Limits;
use super::names::{Piece, RenditionName};
use super::playlist::{PlaylistState, Report};
use super::segment::Segment;
use super::text::Text;
use bytes::Bytes;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How long after it has read a playlist a player may choose where to begin.
const LATE_START: Duration = Duration::from_millis(500);

/// A position in a playlist: what a blocking reload waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The media sequence number.
    pub sequence: u64,
    /// The index of a part in that segment; without it, the whole segment.
    pub part: Option<u64>,
}

/// One state of a rendition.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    /// Complete segments of the playlist, oldest first.
    pub listed: Vec<Arc<Segment>>,
    /// Segments that left the playlist and can be fetched still.
    pub removed: Vec<Arc<Segment>>,
    /// The segment that grows.
    pub open: Option<Segment>,
    /// The number of the part that the preload hint names.
    pub next_part: u64,
    /// The rendition is over: `EXT-X-ENDLIST`.
    pub ended: bool,
    /// A player that comes now begins with an IDR: see [`Snapshot::joins_at_idr`].
    pub joinable: bool,
    /// Whose state it is; `None` before the first.
    pub origin: Option<Origin>,
    /// The other renditions' last parts.
    pub siblings: Vec<Report>,
    /// The playlist, and the delta update, where there is something to skip; see [`Self::playlist`].
    pub texts: (OnceLock<Text>, OnceLock<Option<Text>>),
}

/// What all states of a rendition have in common.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub rendition: RenditionName,
    /// The token in media names.
    pub run: Arc<str>,
    pub limits: Limits,
}

impl Snapshot {
    /// The playlist.
    pub fn playlist(&self) -> &Text {
        let write = || self.state().map(|state| state.full().into()).unwrap_or_default();
        self.texts.0.get_or_init(write)
    }

    /// The delta update, where there is something to skip.
    pub fn delta(&self) -> Option<&Text> {
        self.texts.1.get_or_init(|| self.state()?.delta().map(Text::from)).as_ref()
    }

    fn state(&self) -> Option<PlaylistState<'_>> {
        let Origin { rendition, run, limits } = self.origin.as_ref()?;
        Some(PlaylistState {
            rendition: *rendition,
            run,
            limits,
            listed: &self.listed,
            open: self.open.as_ref(),
            next_part: self.next_part,
            ended: self.ended,
            siblings: &self.siblings,
        })
    }

    /// The media sequence number of the last complete segment.
    pub fn last_complete(&self) -> Option<u64> {
        self.listed.last().map(|segment| segment.sequence)
    }

    /// The last part of all, for a rendition report: sequence number and index.
    pub fn last_part(&self) -> Option<(u64, usize)> {
        let last = self.open.as_ref().or_else(|| self.listed.last().map(AsRef::as_ref))?;
        Some((last.sequence, last.parts.len().saturating_sub(1)))
    }

    /// Whether the playlist holds `wanted` or something later.
    pub fn reached(&self, wanted: Position) -> bool {
        if self.ended {
            return true; // RFC 8216bis §6.2.5.2: directives are ignored after the end
        }
        let Some(last) = self.listed.last() else { return false };
        let Some(part) = wanted.part else { return wanted.sequence <= last.sequence };
        let beyond = |segment: &Segment| part >= segment.parts.len() as u64;
        if wanted.sequence < last.sequence {
            return true; // at worst it means part 0 of the next segment, which is here too
        }
        if wanted.sequence == last.sequence {
            // §6.2.5.2: a part beyond the last of its segment means part 0 of the next segment.
            return !beyond(last) || self.open.is_some();
        }
        self.open.as_ref().is_some_and(|open| open.sequence == wanted.sequence && !beyond(open))
    }

    /// Whether the segment of this number has not left the playlist.
    pub fn lists(&self, sequence: u64) -> bool {
        self.listed.first().is_some_and(|first| first.sequence <= sequence)
    }

    /// Whether a player begins in a segment that begins with an IDR, if it goes to `hold_back` before the
    /// end, or up to [`LATE_START`] after that because it took its time.
    pub fn joins_at_idr(&self, hold_back: Duration) -> bool {
        let latest = hold_back.saturating_sub(LATE_START);
        let (mut from_end, mut segments) = (Duration::ZERO, self.listed.iter().rev().map(AsRef::as_ref));
        let mut next = || -> Option<&Segment> { segments.next() };
        let mut segment = self.open.as_ref().or_else(&mut next);
        while let Some(this) = segment {
            // Players step over what is listed as missing.
            let independent = this.gap || this.parts.first().is_some_and(|part| part.independent);
            from_end += this.duration;
            if from_end > latest && !independent {
                return false;
            }
            if from_end >= hold_back {
                return true;
            }
            segment = next();
        }
        true // shorter than the hold-back: players begin at its start, which the loop has seen
    }

    /// Whether a piece of media is likely to be there within some seconds: a part of which the number is
    /// known, but not hinted yet, or a segment that is growing or follows.
    pub fn expects(&self, piece: Piece, limits: &Limits) -> bool {
        let within = |number: u64, next: u64, limit| (next..=next.saturating_add(limit)).contains(&number);
        match piece {
            _ if self.ended => false,
            Piece::Init(_) => false,
            Piece::Part(number) => within(number, self.next_part, limits.advance_parts()),
            Piece::Segment(number) => self.last_complete().is_some_and(|last| within(number, last + 1, 1)),
        }
    }

    /// The bytes of a piece of media, if it is kept (still).
    pub fn find(&self, piece: Piece) -> Option<Bytes> {
        let mut complete = self.listed.iter().chain(&self.removed).map(AsRef::as_ref);
        let mut all = self.open.iter().chain(complete.clone());
        match piece {
            Piece::Init(number) => all
                .find(|segment| segment.stretch.discontinuity == number)
                .map(|segment| segment.stretch.init.clone()),
            Piece::Segment(number) => {
                let wanted = |segment: &&Segment| segment.sequence == number && !segment.gap;
                complete.find(wanted).map(Segment::whole)
            }
            Piece::Part(number) => all.find_map(|segment| {
                let first = segment.parts.first()?.number;
                let index = usize::try_from(number.checked_sub(first)?).ok()?;
                segment.part(index)
            }),
        }
    }
}
