//! Timestamps of one connection: they begin near 0 and never fall back, whatever the stream does.
//!
//! Audio and video of one epoch move together, so they stay aligned. Pure.

use crate::media::{Frame, MediaKind, MediaTime};
use std::time::Duration;

/// A new epoch that begins within this of where the last one ended keeps its place on the timeline.
const CONTINUOUS: Duration = Duration::from_secs(10);
/// The step between epochs whose timelines have nothing to do with each other.
const STEP_MS: i64 = 40;

/// Media time to milliseconds of a connection.
#[derive(Debug, Default)]
pub(super) struct OutputClock {
    /// Output time minus media time, in milliseconds; set by the first keyframe.
    offset: Option<i64>,
    /// The last time given out: video, audio.
    last: [Option<i64>; 2],
}

impl OutputClock {
    /// An epoch begins with a frame that is decoded at `start`. Gives the time of its sequence headers.
    pub(super) fn begin_epoch(&mut self, start: MediaTime) -> u32 {
        let last = self.last.iter().flatten().max().copied();
        let start = start.as_millis();
        let (Some(offset), Some(last)) = (self.offset, last) else {
            self.offset = Some(-start);
            return 0;
        };
        let goes_on = start + offset;
        let limit = last + CONTINUOUS.as_millis() as i64;
        let place = if goes_on > last && goes_on < limit { goes_on } else { last + STEP_MS };
        self.offset = Some(place - start);
        place as u32
    }

    /// The decoding time of a frame, modulo 2^32; rises strictly on each track. `None` if the frame lies
    /// before the beginning of the connection.
    pub(super) fn place(&mut self, frame: &Frame) -> Option<u32> {
        let time = frame.dts.as_millis() + self.offset?;
        let last = &mut self.last[usize::from(frame.kind == MediaKind::Audio)];
        let time = match *last {
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
    use crate::media::{Epoch, Tracks};
    use MediaKind::{Audio, Video};
    use bytes::Bytes;
    use std::sync::Arc;
    use std::time::SystemTime;

    fn frame(kind: MediaKind, ms: i64) -> Frame {
        let epoch = Epoch { id: 1, tracks: Tracks::default(), wall_origin: SystemTime::UNIX_EPOCH };
        let dts = MediaTime::from_millis(ms);
        Frame { epoch: Arc::new(epoch), kind, pts: dts, dts, keyframe: true, data: Bytes::new() }
    }

    fn at(ms: i64) -> MediaTime {
        MediaTime::from_millis(ms)
    }

    #[test]
    fn a_connection_begins_at_its_keyframe() {
        let mut clock = OutputClock::default();
        assert_eq!(clock.begin_epoch(at(5000)), 0);
        assert_eq!(clock.place(&frame(Video, 5000)), Some(0));
        assert_eq!(clock.place(&frame(Audio, 4990)), None, "sound from before the first picture");
        assert_eq!(clock.place(&frame(Audio, 5011)), Some(11));
        assert_eq!(clock.place(&frame(Video, 5040)), Some(40));
    }

    #[test]
    fn an_epoch_on_the_same_timeline_keeps_its_place() {
        let mut clock = OutputClock::default();
        clock.begin_epoch(at(1000));
        clock.place(&frame(Video, 1000));
        clock.place(&frame(Audio, 1100));
        assert_eq!(clock.begin_epoch(at(3000)), 2000);
        assert_eq!(clock.place(&frame(Video, 3000)), Some(2000));
        assert_eq!(clock.place(&frame(Audio, 2990)), Some(1990));
    }

    #[test]
    fn another_timeline_goes_on_after_the_last_frame() {
        for start in [0, 1_000_000] {
            let mut clock = OutputClock::default();
            clock.begin_epoch(at(500_000));
            clock.place(&frame(Video, 500_000));
            clock.place(&frame(Audio, 500_100));
            assert_eq!(clock.begin_epoch(at(start)), 140);
            assert_eq!(clock.place(&frame(Video, start)), Some(140));
            assert_eq!(clock.place(&frame(Audio, start - 500)), Some(101), "never back");
        }
    }

    #[test]
    fn times_rise_strictly_even_if_they_round_to_the_same_millisecond() {
        let mut clock = OutputClock::default();
        clock.begin_epoch(at(0));
        let times: Vec<_> =
            [0, 0, 0, 3].map(|ms| clock.place(&frame(Video, ms))).into_iter().flatten().collect();
        assert_eq!(times, [0, 1, 2, 3]);
    }
}
