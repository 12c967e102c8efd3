//! A media playlist (RFC 8216bis §4.4) as it was read, each thing with its line.
//!
//! Lenient: what is missing or malformed is `None` or a [`Fault`]. Knows nothing of who wrote it.

mod reader;

use chrono::{DateTime, FixedOffset};
use std::sync::Arc;
use url::Url;

/// Something that can be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Resource {
    pub url: Url,
    /// Offset and length in bytes, where it is a part of a file; a hint may leave the length open.
    pub range: Option<(u64, Option<u64>)>,
}

/// One version of a media playlist.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Playlist {
    /// `EXT-X-VERSION`; 1 where there is none.
    pub version: u64,
    /// The highest version that a tag or attribute in use needs, and what needs it.
    pub needs: (u64, &'static str),
    /// `EXT-X-TARGETDURATION` in seconds.
    pub target: Option<u64>,
    /// `PART-TARGET` in seconds.
    pub part_target: Option<f64>,
    pub media_sequence: u64,
    pub discontinuity_sequence: u64,
    pub independent_segments: bool,
    /// `EXT-X-PLAYLIST-TYPE`.
    pub kind: Option<String>,
    pub ended: bool,
    pub control: Option<Control>,
    /// This is a delta update, which leaves so many segments out.
    pub skipped: Option<u64>,
    /// Complete segments, oldest first.
    pub segments: Vec<Segment>,
    /// What follows the last complete segment.
    pub open: Segment,
    pub hints: Vec<Hint>,
    pub reports: Vec<RenditionReport>,
    pub faults: Vec<Fault>,
}

/// `EXT-X-SERVER-CONTROL`, durations in seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Control {
    pub can_block_reload: bool,
    pub can_skip_until: Option<f64>,
    pub hold_back: Option<f64>,
    pub part_hold_back: Option<f64>,
    pub line: usize,
}

/// A segment, or its beginning.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Segment {
    pub sequence: u64,
    /// Discontinuities before it: those of the head and those of the tags.
    pub discontinuity_number: u64,
    /// `EXT-X-DISCONTINUITY` tags right before it.
    pub discontinuities: u64,
    /// `EXT-X-MAP` right before it.
    pub own_map: Option<Resource>,
    /// The `EXT-X-MAP` that holds for it.
    pub map: Option<Resource>,
    pub date: Option<DateTime<FixedOffset>>,
    /// Whether `EXT-X-KEY` right before it begins (`Some(true)`) or ends encryption.
    pub own_key: Option<bool>,
    pub encrypted: bool,
    pub gap: bool,
    /// Seconds; 0 for what has no `EXTINF` yet.
    pub duration: f64,
    /// Where it is; `None` for what has no `EXTINF` yet.
    pub media: Option<Resource>,
    pub parts: Arc<[Part]>,
    /// The line of its `EXTINF`, 0 if there is none.
    pub line: usize,
}

/// `EXT-X-PART`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    pub media: Resource,
    /// Seconds.
    pub duration: f64,
    pub independent: bool,
    pub gap: bool,
    pub line: usize,
}

/// `EXT-X-PRELOAD-HINT`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Hint {
    pub kind: String,
    pub media: Resource,
    pub line: usize,
}

/// `EXT-X-RENDITION-REPORT`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RenditionReport {
    pub url: Url,
    pub last_sequence: Option<u64>,
    pub last_part: Option<u64>,
    pub line: usize,
}

/// What cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub line: usize,
    pub what: String,
}

/// The last thing in a playlist: media sequence number and part index. `None` for the part means the
/// whole segment; it is the greater.
pub(super) type Position = (u64, Option<u64>);

impl Playlist {
    /// Reads `text`; relative URIs are below `base`.
    pub fn parse(text: &str, base: &Url) -> Self {
        reader::read(text, base)
    }

    /// A delta update made whole with what an earlier version said (RFC 8216bis §6.2.5.1).
    ///
    /// # Errors
    /// What `earlier` does not have.
    pub fn completed(mut self, earlier: &Self) -> Result<Self, String> {
        let Some(count) = self.skipped else { return Ok(self) };
        let mut whole = Vec::with_capacity(self.segments.len() + count as usize);
        for sequence in self.media_sequence..self.media_sequence.saturating_add(count) {
            let Some(segment) = earlier.segment(sequence) else {
                return Err(format!(
                    "segment {sequence} is skipped, but the version before does not list it"
                ));
            };
            // Of segments that are skipped, parts are skipped too.
            whole.push(Segment { line: 0, parts: Arc::default(), ..segment.clone() });
        }
        whole.append(&mut self.segments);
        self.segments = whole;
        self.number(earlier);
        Ok(self)
    }

    /// The complete segment with this media sequence number.
    pub fn segment(&self, sequence: u64) -> Option<&Segment> {
        let index = sequence.checked_sub(self.media_sequence)?;
        self.segments.get(usize::try_from(index).ok()?)
    }

    /// All segments, the one that grows too.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        let open = Some(&self.open).filter(|open| !open.parts.is_empty());
        self.segments.iter().chain(open)
    }

    /// The last part or segment; `None` for an empty playlist.
    pub fn last(&self) -> Option<Position> {
        match self.open.parts.len() as u64 {
            0 => self.segments.last().map(|last| (last.sequence, None)),
            parts => Some((self.open.sequence, Some(parts - 1))),
        }
    }

    /// Seconds of all that is listed.
    pub fn duration(&self) -> f64 {
        let open: f64 = self.open.parts.iter().map(|part| part.duration).sum();
        self.segments.iter().map(|segment| segment.duration).sum::<f64>() + open
    }

    /// Whether it offers blocking reload of parts.
    pub fn is_low_latency(&self) -> bool {
        self.part_target.is_some() && self.can_block()
    }

    pub fn can_block(&self) -> bool {
        self.control.as_ref().is_some_and(|control| control.can_block_reload)
    }

    /// Gives each segment its numbers and what it inherits.
    fn number(&mut self, earlier: &Self) {
        let skipped = self.skipped.unwrap_or_default();
        let mut number = self.discontinuity_sequence;
        let (mut map, mut encrypted) = (None, false);
        if let Some(first) = self.segments.first().filter(|_| skipped > 0) {
            // The head counts what left the playlist; tags of the first skipped segment are not among them.
            number = earlier.segment(first.sequence).map_or(number, |segment| segment.discontinuity_number);
            number -= first.discontinuities.min(number);
        }
        let all = self.segments.iter_mut().chain([&mut self.open]);
        for (sequence, segment) in (self.media_sequence..).zip(all) {
            number += segment.discontinuities;
            if segment.own_map.is_some() {
                map = segment.own_map.clone();
            } else if sequence < self.media_sequence + skipped {
                // It was numbered before: the tag may have left with the segment that it stood at.
                map = segment.map.clone();
                encrypted = segment.encrypted;
            }
            encrypted = segment.own_key.unwrap_or(encrypted);
            (segment.sequence, segment.discontinuity_number) = (sequence, number);
            (segment.map, segment.encrypted) = (map.clone(), encrypted);
        }
    }
}

#[cfg(test)]
mod tests;
