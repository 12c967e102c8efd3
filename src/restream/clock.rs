//! Timestamps of one connection: they begin near 0 and never fall back, whatever the stream does.
//!
//! Audio and video of one epoch move together, so they stay aligned. A publisher's pause that was filled
//! is not shown again: what comes late of it is made up for in a moment. Pure.

use crate::media::{Epoch, Frame, MediaKind, MediaTime};
use std::time::{Duration, SystemTime};

/// A new epoch that begins within this of where the last one ended keeps its place on the timeline.
const CONTINUOUS: Duration = Duration::from_secs(10);
/// The steps between epochs whose timelines have nothing to do with each other: what has passed, in bounds.
const STEP_MS: (i64, i64) = (40, 400);
/// A sound that is later than this beside what was sent is dropped; rounding is no reason.
const LATE_MS: i64 = 10;

/// Media time to milliseconds of a connection.
#[derive(Debug, Default)]
pub(super) struct OutputClock {
    /// Output time minus media time, in milliseconds; set by the first keyframe.
    offset: Option<i64>,
    /// Which timeline that holds for: all epochs of one publisher have one origin.
    origin: Option<SystemTime>,
    /// The last time given out: video, audio.
    last: [Option<i64>; 2],
}

impl OutputClock {
    /// `epoch` begins with a frame that is decoded at `start`, and comes so long after the last one. Gives
    /// the time of its sequence headers.
    pub(super) fn begin_epoch(&mut self, epoch: &Epoch, start: MediaTime, passed: Duration) -> u32 {
        let last = self.last.iter().flatten().max().copied();
        let start = start.as_millis();
        let same = self.origin.replace(epoch.wall_origin) == Some(epoch.wall_origin);
        let (Some(offset), Some(last)) = (self.offset, last) else {
            self.offset = Some(-start);
            return 0;
        };
        let goes_on = start + offset;
        let near = CONTINUOUS.as_millis() as i64;
        // On its own timeline an epoch may begin before the last one ended: a hold has filled the time.
        let keeps_place = goes_on < last + near && (goes_on > last || (same && goes_on > last - near));
        let step = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX).clamp(STEP_MS.0, STEP_MS.1);
        let place = if keeps_place { goes_on } else { last + step };
        self.offset = Some(place - start);
        place.max(last) as u32
    }

    /// The decoding time of a frame, modulo 2^32; rises strictly on each track. `None` if the frame lies
    /// before the beginning of the connection, or is a sound for which it is too late.
    pub(super) fn place(&mut self, frame: &Frame) -> Option<u32> {
        let time = frame.dts.as_millis() + self.offset?;
        let is_audio = frame.kind == MediaKind::Audio;
        let last = &mut self.last[usize::from(is_audio)];
        let time = match *last {
            // Pictures are needed by those that follow: they go by in a moment.
            Some(last) if is_audio && time + LATE_MS < last => return None,
            Some(last) => time.max(last + 1),
            None if time < 0 => return None,
            None => time,
        };
        *last = Some(time);
        Some(time as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Tracks;
    use MediaKind::{Audio, Video};
    use bytes::Bytes;
    use std::sync::Arc;

    const NONE: Duration = Duration::ZERO;

    /// An epoch of the publisher whose timeline begins in this second.
    fn of(publisher: u64) -> Epoch {
        let wall_origin = SystemTime::UNIX_EPOCH + Duration::from_secs(publisher);
        Epoch { id: 1, tracks: Tracks::default(), wall_origin }
    }

    fn frame(kind: MediaKind, ms: i64) -> Frame {
        let epoch = of(0);
        let dts = MediaTime::from_millis(ms);
        Frame { epoch: Arc::new(epoch), kind, pts: dts, dts, keyframe: true, data: Bytes::new() }
    }

    fn at(ms: i64) -> MediaTime {
        MediaTime::from_millis(ms)
    }

    #[test]
    fn a_connection_begins_at_its_keyframe() {
        let mut clock = OutputClock::default();
        assert_eq!(clock.begin_epoch(&of(0), at(5000), NONE), 0);
        assert_eq!(clock.place(&frame(Video, 5000)), Some(0));
        assert_eq!(clock.place(&frame(Audio, 4990)), None, "sound from before the first picture");
        assert_eq!(clock.place(&frame(Audio, 5011)), Some(11));
        assert_eq!(clock.place(&frame(Video, 5040)), Some(40));
    }

    #[test]
    fn an_epoch_on_the_same_timeline_keeps_its_place() {
        let mut clock = OutputClock::default();
        clock.begin_epoch(&of(0), at(1000), NONE);
        clock.place(&frame(Video, 1000));
        clock.place(&frame(Audio, 1100));
        assert_eq!(clock.begin_epoch(&of(0), at(3000), NONE), 2000);
        assert_eq!(clock.place(&frame(Video, 3000)), Some(2000));
        assert_eq!(clock.place(&frame(Audio, 2990)), Some(1990));
    }

    #[test]
    fn another_timeline_goes_on_after_the_last_frame() {
        for start in [0, 1_000_000] {
            // As much later as it was, in bounds.
            for (passed, step) in [(0, 40), (90, 90), (30_000, 400)] {
                let mut clock = OutputClock::default();
                clock.begin_epoch(&of(0), at(500_000), NONE);
                clock.place(&frame(Video, 500_000));
                clock.place(&frame(Audio, 500_100));
                let begins = clock.begin_epoch(&of(1), at(start), Duration::from_millis(passed));
                assert_eq!(begins, 100 + step);
                assert_eq!(clock.place(&frame(Video, start)), Some(begins));
                assert_eq!(clock.place(&frame(Audio, start - 500)), None, "sound from before what was heard");
                assert_eq!(clock.place(&frame(Audio, start + 10)), Some(begins + 10));
            }
        }
    }

    #[test]
    fn what_comes_late_of_a_pause_that_was_filled_goes_by_in_a_moment() {
        let mut clock = OutputClock::default();
        clock.begin_epoch(&of(0), at(0), NONE);
        clock.place(&frame(Video, 0));
        // The hold, in an epoch of its own on the same timeline.
        assert_eq!(clock.begin_epoch(&of(0), at(40), NONE), 40);
        assert_eq!(clock.place(&frame(Video, 4_040)), Some(4_040));
        assert_eq!(clock.place(&frame(Audio, 4_030)), Some(4_030));
        // All that was on its way meanwhile comes at once.
        assert_eq!(clock.begin_epoch(&of(0), at(1_000), NONE), 4_040);
        let pictures: Vec<_> = (0..100).filter_map(|n| clock.place(&frame(Video, 1_000 + n * 40))).collect();
        assert_eq!((pictures.len(), pictures[0]), (100, 4_041), "each is needed by the next");
        assert!(pictures.windows(2).all(|pair| pair[0] < pair[1]), "{pictures:?}");
        assert_eq!(pictures[99], 4_960, "and then it is in time again");
        let sounds: Vec<_> = (0..200).filter_map(|n| clock.place(&frame(Audio, 1_000 + n * 21))).collect();
        assert_eq!((sounds.len(), sounds[0]), (56, 4_031), "{sounds:?}");
    }

    #[test]
    fn a_clock_that_was_set_back_far_goes_on_after_the_last_frame() {
        let mut clock = OutputClock::default();
        clock.begin_epoch(&of(0), at(0), NONE);
        clock.place(&frame(Video, 60_000));
        assert_eq!(clock.begin_epoch(&of(0), at(1_000), NONE), 60_040);
    }

    #[test]
    fn times_rise_strictly_even_if_they_round_to_the_same_millisecond() {
        let mut clock = OutputClock::default();
        clock.begin_epoch(&of(0), at(0), NONE);
        let times: Vec<_> =
            [0, 0, 0, 3].map(|ms| clock.place(&frame(Video, ms))).into_iter().flatten().collect();
        assert_eq!(times, [0, 1, 2, 3]);
    }
}
