//! Parts and segments of one rendition, as in RFC 8216bis.
//!
//! Plain values: who makes them is the segmenter, who keeps them is the window.

use crate::media::MediaTime;
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A media segment; while it grows, `data` is empty and `parts` gets longer.
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
    /// At least one.
    pub parts: Vec<Part>,
    /// The concatenation of its parts, once it is complete.
    pub data: Bytes,
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
    /// One or more CMAF chunks.
    pub data: Bytes,
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
    /// Copies the parts into one piece and lets them share it.
    pub fn complete(&mut self) {
        if let [only] = self.parts.as_slice() {
            self.data = only.data.clone();
            return;
        }
        let mut data = BytesMut::with_capacity(self.parts.iter().map(|part| part.data.len()).sum());
        for part in &self.parts {
            data.extend_from_slice(&part.data);
        }
        self.data = data.freeze();
        let mut offset = 0;
        for part in &mut self.parts {
            let end = offset + part.data.len();
            part.data = self.data.slice(offset..end);
            offset = end;
        }
    }

    /// The wall-clock time of its first frame.
    pub fn date_time(&self) -> SystemTime {
        let nanos = self.start.as_nanos();
        let distance = Duration::from_nanos(nanos.unsigned_abs());
        let moved = match nanos {
            0.. => self.stretch.wall_origin.checked_add(distance),
            _ => self.stretch.wall_origin.checked_sub(distance),
        };
        moved.unwrap_or(self.stretch.wall_origin)
    }
}
