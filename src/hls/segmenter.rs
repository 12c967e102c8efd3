//! Where segments begin and end: turns the parts of one rendition into segments.
//!
//! A segment begins where the muxer says a group of pictures begins. Two exceptions, both without an IDR
//! at the start of the next segment, which is why the video playlist does not claim
//! `EXT-X-INDEPENDENT-SEGMENTS`:
//! - the very first segment ends as soon as the publisher is caught up with, of a stream that has just begun
//!   with its first part, so that a playlist with a whole segment exists at once: players refuse or ignore
//!   playlists that hold parts only;
//! - a group of pictures longer than the target duration is cut on a part boundary, because
//!   `EXT-X-TARGETDURATION` never changes and is never exceeded.
//!
//! Pure: no clock, no I/O. Knows neither playlists nor how long segments are kept.

use super::segment::{Segment, Stretch};
use crate::media::MediaTime;
use crate::pipeline::MuxedPart;
use std::sync::Arc;
use std::time::Duration;

/// The segmenter of one rendition.
#[derive(Debug)]
pub(super) struct Segmenter {
    longest: Duration,
    next_sequence: u64,
    next_part: u64,
    /// Until the first segment is complete: where the media end that are there already.
    first_until: Option<MediaTime>,
    stretch: Option<Arc<Stretch>>,
    open: Option<Segment>,
    /// Where the parts of the present stretch end.
    end: Option<MediaTime>,
}

impl Segmenter {
    /// The first segment gets `first_sequence` and holds the parts that end before `there`, or one; no
    /// segment is longer than `longest` unless a single part is.
    pub fn new(first_sequence: u64, there: MediaTime, longest: Duration) -> Self {
        let first_until = Some(there);
        Self {
            longest,
            next_sequence: first_sequence,
            next_part: 0,
            first_until,
            stretch: None,
            open: None,
            end: None,
        }
    }

    /// Begins a stretch; gives the segment that this completes.
    pub fn begin(&mut self, stretch: Stretch) -> Option<Segment> {
        let completed = self.finish();
        self.stretch = Some(Arc::new(stretch));
        self.end = None;
        completed
    }

    /// Takes the next part; gives the segments that are complete now. A part before the first stretch
    /// has no initialisation section and is dropped.
    pub fn push(&mut self, part: MuxedPart) -> Vec<Segment> {
        let Some(stretch) = self.stretch.clone() else { return Vec::new() };
        let mut completed = Vec::new();
        let over = |open: &Segment| open.gap || open.duration + part.duration > self.longest;
        if part.starts_segment || self.open.as_ref().is_some_and(over) {
            completed.extend(self.finish());
        }
        let open = self.open.get_or_insert_with(|| {
            let sequence = self.next_sequence;
            self.next_sequence += 1;
            Segment::new(sequence, stretch, part.start)
        });
        open.push(self.next_part, part.duration, part.independent, part.data);
        self.next_part += 1;
        self.end = Some(open.end());
        // The next part is yet to come.
        let end = open.start + open.duration + part.duration;
        if self.first_until.is_some_and(|there| end > there) {
            completed.extend(self.finish());
        }
        completed
    }

    /// Media of the present stretch that do not come, as segments of their own in parts of at most `part`; gives the
    /// segments that are complete now. Before the first stretch nothing can be missing.
    pub fn gap(&mut self, start: MediaTime, duration: Duration, part: Duration) -> Vec<Segment> {
        let Some(stretch) = self.stretch.clone() else { return Vec::new() };
        let mut completed = Vec::new();
        self.first_until = None;
        let (mut start, mut rest) = (start, duration);
        while !rest.is_zero() {
            let piece = rest.min(part);
            let grows =
                |open: &Segment| open.gap && open.end() == start && open.duration + piece <= self.longest / 2;
            if !self.open.as_ref().is_some_and(grows) {
                completed.extend(self.finish());
            }
            let open = self.open.get_or_insert_with(|| {
                let sequence = self.next_sequence;
                self.next_sequence += 1;
                Segment::gap(sequence, stretch.clone(), start)
            });
            open.push_gap(self.next_part, piece);
            self.next_part += 1;
            (start, rest) = (start + piece, rest - piece);
        }
        self.end = Some(start);
        completed
    }

    /// Completes the segment that grows, if there is one.
    pub fn finish(&mut self) -> Option<Segment> {
        let completed = self.open.take()?;
        self.first_until = None;
        Some(completed)
    }

    /// The segment that grows.
    pub fn open(&self) -> Option<&Segment> {
        self.open.as_ref()
    }

    /// The present stretch, and where its parts end; `None` before its first part.
    pub fn end(&self) -> Option<(&Stretch, MediaTime)> {
        self.stretch.as_deref().zip(self.end)
    }

    /// The number the next part gets.
    pub fn next_part(&self) -> u64 {
        self.next_part
    }

    /// The sequence number the next new segment gets.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }
}
