//! What a target has not taken yet. Pure.
//!
//! Bounded by bytes and by media time: beyond that whole groups of pictures are left out, the oldest first,
//! so that what goes out can always be decoded. Frames share their payload with all other readers.

use crate::media::Frame;
use crate::stream::Media;
use std::collections::VecDeque;
use std::time::Duration;

/// The most that is kept.
const BYTES: usize = 4_000_000;
const LONGEST: Duration = Duration::from_secs(10);

/// Frames in the order in which they go out.
#[derive(Debug, Default)]
pub(super) struct Queue {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// Nothing is of use before the next group of pictures.
    broken: bool,
    dropped: u64,
}

impl Queue {
    /// Adds a frame; leaves out what is too much.
    pub(super) fn push(&mut self, frame: Frame) {
        if self.broken && !frame.starts_group() {
            self.dropped += 1;
            return;
        }
        self.broken = false;
        self.bytes += frame.size();
        self.frames.push_back(frame);
        if self.is_too_much() {
            self.shorten();
        }
    }

    pub(super) fn pop(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.size();
        Some(frame)
    }

    /// Frames waiting, and their payload in bytes.
    pub(super) fn depth(&self) -> (usize, usize) {
        (self.frames.len(), self.bytes)
    }

    /// Frames left out so far.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn is_too_much(&self) -> bool {
        let span = match (self.frames.front(), self.frames.back()) {
            // Times of another epoch say nothing.
            (Some(first), Some(last)) if first.epoch.id == last.epoch.id => last.dts.since(first.dts),
            _ => Duration::ZERO,
        };
        self.bytes > BYTES || span > LONGEST
    }

    /// Goes on at the newest group of pictures, or at the next one if that is too much itself.
    fn shorten(&mut self) {
        let newest = self.frames.iter().rposition(Media::starts_group).filter(|index| *index > 0);
        let count = newest.unwrap_or(self.frames.len());
        self.dropped += count as u64;
        self.bytes -= self.frames.drain(..count).map(|frame| frame.size()).sum::<usize>();
        self.broken = self.frames.is_empty();
        if self.is_too_much() {
            self.shorten();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Codec, Epoch, MediaKind, MediaTime, Tracks, VideoTrack};
    use bytes::Bytes;
    use std::sync::Arc;
    use std::time::SystemTime;

    fn epoch(id: u64) -> Arc<Epoch> {
        let video = VideoTrack::new(Codec::H264);
        let tracks = Tracks { video: Some(video), ..Tracks::default() };
        Arc::new(Epoch { id, tracks, wall_origin: SystemTime::UNIX_EPOCH })
    }

    fn frame(epoch: &Arc<Epoch>, ms: i64, keyframe: bool, size: usize) -> Frame {
        let dts = MediaTime::from_millis(ms);
        let data = Bytes::from(vec![0; size]);
        Frame { epoch: epoch.clone(), kind: MediaKind::Video, pts: dts, dts, keyframe, data }
    }

    #[test]
    fn what_comes_goes_out_in_order_and_is_counted() {
        let (epoch, mut queue) = (epoch(1), Queue::default());
        for n in 0..100 {
            queue.push(frame(&epoch, n * 40, n % 50 == 0, 1000));
        }
        assert_eq!((queue.depth(), queue.dropped()), ((100, 100_000), 0));
        assert_eq!(queue.pop().map(|frame| frame.dts), Some(MediaTime::ZERO));
        assert_eq!(queue.depth(), (99, 99_000));
    }

    #[test]
    fn too_many_bytes_leave_the_older_groups_out() {
        let (epoch, mut queue) = (epoch(1), Queue::default());
        for n in 0..150 {
            queue.push(frame(&epoch, n * 40, n % 50 == 0, 30_000));
            assert!(queue.depth().1 <= BYTES);
        }
        let first = queue.pop().expect("a frame");
        assert!(first.keyframe && first.dts == MediaTime::from_millis(100 * 40), "the newest group");
        assert_eq!(queue.dropped(), 100);
    }

    #[test]
    fn a_group_that_is_too_much_itself_is_left_out_to_the_next() {
        let (epoch, mut queue) = (epoch(1), Queue::default());
        for n in 0..50 {
            queue.push(frame(&epoch, n * 40, n == 0, 100_000));
        }
        assert_eq!(queue.depth(), (0, 0));
        assert_eq!(queue.dropped(), 50);
        queue.push(frame(&epoch, 2000, true, 10));
        assert_eq!(queue.depth(), (1, 10));
    }

    #[test]
    fn too_long_is_too_much_also_of_few_bytes() {
        let (one, mut queue) = (epoch(1), Queue::default());
        for n in 0..300 {
            queue.push(frame(&one, n * 40, n % 50 == 0, 10));
        }
        assert!(queue.depth().0 <= 250, "{:?}", queue.depth());
        // A new epoch has another timeline.
        queue.push(frame(&epoch(2), 1_000_000, true, 10));
        assert!(queue.depth().0 > 1);
    }
}
