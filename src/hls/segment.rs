//! Parts and segments of one rendition, as in RFC 8216bis.
//!
//! Plain values: who makes them is the segmenter, who keeps them is the window.
//!
//! A segment is put together of its parts when it is first asked for as a whole: most segments of most
//! streams never are.

use crate::media::MediaTime;
use bytes::{Bytes, BytesMut};
use parking_lot::RwLock;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A media segment; while it grows, `parts` gets longer.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// The media sequence number.
    pub sequence: u64,
    /// The stretch it belongs to.
    pub stretch: Arc<Stretch>,
    /// Where its first part begins.
    pub start: MediaTime,
    /// The sum of its parts' durations.
    pub duration: Duration,
    /// At least one, once it is to be seen.
    pub parts: Vec<Part>,
    /// There is nothing in it, nor in its parts: `EXT-X-GAP` and `GAP=YES`.
    pub gap: bool,
    media: Media,
}

/// A partial segment.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Rises by one from part to part of a rendition, over segments and stretches.
    pub number: u64,
    /// What `EXT-X-PART` tells.
    pub duration: Duration,
    /// It begins with a frame that can be decoded by itself.
    pub independent: bool,
    /// Where it lies in the segment.
    range: Range<usize>,
}

/// The bytes of a segment.
#[derive(Debug)]
struct Media(RwLock<Pieces>);

#[derive(Clone, Debug)]
enum Pieces {
    /// One or more CMAF chunks each.
    Parts(Vec<Bytes>),
    /// All of them, one after the other.
    Whole(Bytes),
}

/// Media with one initialisation section and one timeline: what lies between two discontinuities.
#[derive(Debug)]
pub(super) struct Stretch {
    /// The discontinuity sequence number, the same in all renditions.
    pub discontinuity: u64,
    /// The media initialisation section (`ftyp` and `moov`).
    pub init: Bytes,
    /// The wall-clock time of [`MediaTime::ZERO`].
    pub wall_origin: SystemTime,
}

impl Segment {
    /// A segment without parts.
    pub fn new(sequence: u64, stretch: Arc<Stretch>, start: MediaTime) -> Self {
        let media = Media(RwLock::new(Pieces::Parts(Vec::new())));
        Self { sequence, stretch, start, duration: Duration::ZERO, parts: Vec::new(), gap: false, media }
    }

    /// A segment that this rendition does not have, without parts.
    pub fn gap(sequence: u64, stretch: Arc<Stretch>, start: MediaTime) -> Self {
        Self { gap: true, ..Self::new(sequence, stretch, start) }
    }

    /// Appends a part.
    pub fn push(&mut self, number: u64, duration: Duration, independent: bool, data: Bytes) {
        let start = self.size();
        self.duration += duration;
        self.parts.push(Part { number, duration, independent, range: start..start + data.len() });
        match self.media.0.get_mut() {
            Pieces::Parts(parts) => parts.push(data),
            Pieces::Whole(whole) => {
                let parts = vec![std::mem::take(whole), data];
                *self.media.0.get_mut() = Pieces::Whole(joined(&parts));
            }
        }
    }

    /// Appends a part that there is not.
    pub fn push_gap(&mut self, number: u64, duration: Duration) {
        self.duration += duration;
        self.parts.push(Part { number, duration, independent: false, range: 0..0 });
    }

    /// Where its last part ends.
    pub fn end(&self) -> MediaTime {
        self.start + self.duration
    }

    /// How many bytes it has.
    pub fn size(&self) -> usize {
        self.parts.last().map_or(0, |last| last.range.end)
    }

    /// The bytes of a part.
    pub fn part(&self, index: usize) -> Option<Bytes> {
        match &*self.media.0.read() {
            Pieces::Parts(parts) => parts.get(index).cloned(),
            Pieces::Whole(whole) => self.parts.get(index).map(|part| whole.slice(part.range.clone())),
        }
    }

    /// All of its bytes. The first to ask has them copied into one piece, which the parts share then.
    pub fn whole(&self) -> Bytes {
        if let Pieces::Whole(whole) = &*self.media.0.read() {
            return whole.clone();
        }
        let mut pieces = self.media.0.write();
        let whole = match &*pieces {
            Pieces::Parts(parts) => joined(parts),
            Pieces::Whole(whole) => whole.clone(),
        };
        *pieces = Pieces::Whole(whole.clone());
        whole
    }

    /// The wall-clock time of its first frame.
    pub fn date_time(&self) -> SystemTime {
        self.stretch.date(self.start)
    }
}

impl Stretch {
    /// The wall-clock time of `time`.
    pub fn date(&self, time: MediaTime) -> SystemTime {
        date(self.wall_origin, time)
    }
}

/// The wall-clock time of `time`, where that of [`MediaTime::ZERO`] is `origin`.
pub(super) fn date(origin: SystemTime, time: MediaTime) -> SystemTime {
    let nanos = time.as_nanos();
    let distance = Duration::from_nanos(nanos.unsigned_abs());
    let moved = match nanos {
        0.. => origin.checked_add(distance),
        _ => origin.checked_sub(distance),
    };
    moved.unwrap_or(origin)
}

impl Clone for Media {
    fn clone(&self) -> Self {
        Self(RwLock::new(self.0.read().clone()))
    }
}

fn joined(parts: &[Bytes]) -> Bytes {
    if let [only] = parts {
        return only.clone();
    }
    let mut whole = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    parts.iter().for_each(|part| whole.extend_from_slice(part));
    whole.freeze()
}
