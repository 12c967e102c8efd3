//! Where a track is cut into parts and segments.
//!
//! Pure. The muxer could cut by itself, but it knows neither the frame rate beforehand, so that parts
//! would exceed their target by a frame, nor where pictures that are decoded out of order are complete. Nor
//! does it know of other renditions: those beside the best one begin segments where that one does.

use super::muxer::MuxSettings;
use crate::media::{MediaKind, MediaTime};
use std::collections::VecDeque;
use std::time::Duration;

/// A cut in front of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// A new part of the same segment.
    Part,
    /// A new segment, and thereby a new part.
    Segment,
}

/// Decides on cuts, frame by frame in the order of decoding.
#[derive(Clone, Debug)]
pub(super) struct Cutter {
    kind: MediaKind,
    settings: MuxSettings,
    /// How long the next frames may last that can only be cut off together: one frame, or with B-frames
    /// a small group. The longest of the last ones, roughly.
    group: Duration,
    position: Option<Position>,
    /// When the last segment began, other than the first.
    last_segment: Option<MediaTime>,
    led: Option<Led>,
}

/// Where another rendition, which leads, begins segments.
#[derive(Clone, Debug, Default)]
struct Led {
    /// Those that are still to come.
    segments: VecDeque<MediaTime>,
    /// The last of those that have passed had no keyframe here.
    missed: bool,
}

#[derive(Clone, Debug)]
struct Position {
    /// When the present segment ends, or may end.
    segment_end: MediaTime,
    part_start: MediaTime,
    group_start: MediaTime,
    /// The latest presentation time so far.
    latest: MediaTime,
    /// From decoding to presentation in the order of presentation: the depth of reordering.
    delay: i64,
}

/// A keyframe this much early still begins a segment.
const EARLY_KEYFRAME: Duration = Duration::from_millis(100);
/// Rounding of times does not make a part too long.
const ROUNDING: Duration = Duration::from_micros(100);
/// Keyframes of two renditions that are so far apart, or a frame, show the same.
const APART: Duration = Duration::from_millis(20);

impl Cutter {
    /// `group`: how long one frame lasts, or what can only be cut off together, as far as known.
    pub(super) fn new(kind: MediaKind, settings: MuxSettings, group: Duration) -> Self {
        Self { kind, settings, group, position: None, last_segment: None, led: None }
    }

    /// From now on segments begin where [`Self::lead`] says, if there is a keyframe.
    pub(super) fn follow(&mut self) {
        self.led = Some(Led::default());
    }

    /// The rendition that leads begins a segment here. Say it before the frame comes.
    pub(super) fn lead(&mut self, segment: MediaTime) {
        if let Some(led) = &mut self.led {
            led.segments.push_back(segment);
        }
    }

    /// When the last segment began, other than the first.
    pub(super) fn last_segment(&self) -> Option<MediaTime> {
        self.last_segment
    }

    /// Whether there was no keyframe where the rendition that leads began its last segment.
    pub(super) fn is_astray(&self) -> bool {
        self.led.as_ref().is_some_and(|led| led.missed)
    }

    /// The cut in front of the next frame, if there is one.
    pub(super) fn before(&mut self, pts: MediaTime, dts: MediaTime, keyframe: bool) -> Option<Cut> {
        match self.kind {
            MediaKind::Video => self.video(pts, dts, keyframe),
            MediaKind::Audio => self.audio(pts),
        }
    }

    fn video(&mut self, pts: MediaTime, dts: MediaTime, keyframe: bool) -> Option<Cut> {
        let delay = pts.as_nanos() - dts.as_nanos();
        let segment = self.settings.segment_duration;
        let Some(at) = &mut self.position else {
            let segment_end = pts + segment;
            let start = Position { segment_end, part_start: pts, group_start: pts, latest: pts, delay };
            self.position = Some(start);
            return None;
        };
        if keyframe {
            at.delay = delay; // what precedes an IDR picture is shown before it
        }
        // The earliest presentation from here on, if all pictures before are complete.
        let here = dts.shifted(at.delay);
        let complete = keyframe || here.as_nanos() > at.latest.as_nanos() + self.group.as_nanos() as i64 / 8;
        at.latest = at.latest.max(pts);
        if !complete {
            return None;
        }
        let length = here.since(at.group_start);
        if !length.is_zero() {
            self.group = length.max(self.group * 255 / 256);
        }
        at.group_start = here;
        let starts_segment = match &mut self.led {
            None => keyframe && here + EARLY_KEYFRAME >= at.segment_end,
            Some(led) => led.starts_segment(here, keyframe, self.group.max(APART) + ROUNDING),
        };
        let cut = if starts_segment {
            at.segment_end = here + segment;
            self.last_segment = Some(here);
            Cut::Segment
        } else if (here + self.group).since(at.part_start) > self.settings.part_duration + ROUNDING {
            Cut::Part
        } else {
            return None;
        };
        at.part_start = here;
        Some(cut)
    }

    /// Each frame of sound can begin a segment: at the nearest to each multiple of the duration.
    fn audio(&mut self, pts: MediaTime) -> Option<Cut> {
        let MuxSettings { part_duration, segment_duration, .. } = self.settings;
        let Some(at) = &mut self.position else {
            let segment_end = pts + segment_duration;
            let start = Position { segment_end, part_start: pts, group_start: pts, latest: pts, delay: 0 };
            self.position = Some(start);
            return None;
        };
        let cut = if pts + self.group / 2 >= at.segment_end {
            // On the grid, unless the sender jumped over more than a segment.
            let regular = at.segment_end + segment_duration;
            at.segment_end = if pts < regular { regular } else { pts + segment_duration };
            Cut::Segment
        } else if (pts + self.group).since(at.part_start) > part_duration + ROUNDING {
            Cut::Part
        } else {
            return None;
        };
        at.part_start = pts;
        Some(cut)
    }
}

impl Led {
    /// Whether a segment begins with the frame shown at `here`: a keyframe within `tolerance` of where one begins
    /// in the other rendition.
    fn starts_segment(&mut self, here: MediaTime, keyframe: bool, tolerance: Duration) -> bool {
        while let Some(segment) = self.segments.front() {
            if here + tolerance < *segment {
                return false;
            }
            let near = here <= *segment + tolerance;
            if near && !keyframe {
                return false; // it may come
            }
            self.segments.pop_front();
            self.missed = !near;
            if near {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: MuxSettings = MuxSettings {
        part_duration: Duration::from_millis(333),
        segment_duration: Duration::from_secs(2),
        shift: Duration::ZERO,
    };

    /// Indices of frames before which there is a cut; `(index, true)` begins a segment.
    fn cuts(kind: MediaKind, frames: &[(i64, i64, bool)], interval: u64) -> Vec<(usize, bool)> {
        let mut cutter = Cutter::new(kind, SETTINGS, Duration::from_micros(interval));
        let micros = |time: i64| MediaTime::from_nanos(time * 1000);
        let cut = |(index, &(pts, dts, keyframe)): (usize, &(i64, i64, bool))| {
            cutter.before(micros(pts), micros(dts), keyframe).map(|cut| (index, cut == Cut::Segment))
        };
        frames.iter().enumerate().filter_map(cut).collect()
    }

    #[test]
    fn parts_stay_below_their_target_at_any_frame_rate() {
        for rate in [10, 15, 24, 25, 30, 50, 60] {
            let time = |number: i64| number * 1_000_000 / rate;
            let frames: Vec<_> =
                (0..rate * 6).map(|number| (time(number), time(number), number % (rate * 2) == 0)).collect();
            // The rate is not known beforehand.
            let cuts = cuts(MediaKind::Video, &frames, 33_333);
            let segments = cuts.iter().filter(|(_, segment)| *segment).count();
            assert_eq!(segments, 2, "{rate}");
            for pair in cuts.windows(2) {
                let part = time(pair[1].0 as i64) - time(pair[0].0 as i64);
                assert!(part <= 333_100, "{part} µs at {rate} frames a second");
            }
        }
    }

    #[test]
    fn pictures_out_of_order_are_not_torn_apart() {
        // Decoded I0 P3 B1 B2 P6 B4 B5 …: a cut only before a P.
        let mut frames = vec![(0, -66_667, true)];
        for group in 0..20 {
            for (index, shown) in [3, 1, 2].into_iter().enumerate() {
                let decoded = group * 3 + index as i64 + 1;
                frames.push(((group * 3 + shown) * 33_333, (decoded - 2) * 33_333 - 1, false));
            }
        }
        let cuts = cuts(MediaKind::Video, &frames, 33_333);
        assert!(cuts.len() >= 5, "{cuts:?}");
        for (index, _) in cuts {
            assert_eq!(index % 3, 1, "before a P");
        }
    }

    #[test]
    fn a_keyframe_slightly_early_begins_a_segment_and_one_too_early_a_part_at_most() {
        let frames = [(0, true), (1_000_000, true), (1_930_000, true), (3_000_000, true), (4_000_000, true)];
        let frames = frames.map(|(time, keyframe)| (time, time, keyframe));
        let segments = cuts(MediaKind::Video, &frames, 33_333);
        assert_eq!(segments, [(1, false), (2, true), (3, false), (4, true)]);
    }

    #[test]
    fn sound_is_cut_evenly() {
        let frames: Vec<_> = (0..48_000 * 10 / 1024).map(|n| n * 1024 * 1_000_000 / 48_000).collect();
        let frames: Vec<_> = frames.into_iter().map(|time| (time, time, true)).collect();
        let even = cuts(MediaKind::Audio, &frames, 21_333);
        let segments: Vec<_> = even.iter().filter(|(_, segment)| *segment).map(|(index, _)| *index).collect();
        assert_eq!(segments, [94, 188, 281, 375]);
        assert_eq!(cuts(MediaKind::Audio, &[(0, 0, true), (i64::MAX / 2000, 0, true)], 21_333).len(), 1);
        assert!(even.windows(2).all(|pair| pair[1].0 - pair[0].0 <= 15));
    }

    #[test]
    fn a_rendition_that_follows_cuts_at_its_keyframes_where_the_leader_does() {
        let mut cutter = Cutter::new(MediaKind::Video, SETTINGS, Duration::from_millis(40));
        cutter.follow();
        for segment in [2000, 4000, 6000] {
            cutter.lead(MediaTime::from_millis(segment));
        }
        // Keyframes: a frame late, one that nobody else has, none, in time.
        let keyframes = [0, 2040, 3000, 6000];
        let mut cuts = Vec::new();
        for millis in (0..6500).step_by(40) {
            let time = MediaTime::from_millis(millis);
            if cutter.before(time, time, keyframes.contains(&millis)) == Some(Cut::Segment) {
                cuts.push((millis, cutter.is_astray()));
            }
            assert_eq!(cutter.is_astray(), (4080..6000).contains(&millis), "{millis}");
        }
        assert_eq!(cuts, [(2040, false), (6000, false)]);
    }
}
