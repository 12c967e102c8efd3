//! When the frames of a hold are due, and which times they carry. Pure: the present is an argument.
//!
//! Times go on where the publisher's ended. What is due already comes at once, and then each frame at its
//! own time, as if the publisher went on sending.

use crate::media::{MediaKind, MediaTime};
use std::time::{Duration, Instant};

/// Pictures a second: enough that no HLS part is without one.
pub(super) const PICTURE_RATE: u32 = 10;
/// Nothing is made for a pause that is longer and that nobody saw from its beginning.
const LONGEST_BURST: Duration = Duration::from_secs(6);

/// Where the publisher's media ended, and when that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    /// The end of the last picture; `None` for a stream without pictures.
    pub(super) video: Option<MediaTime>,
    /// The end of the last sound.
    pub(super) audio: Option<MediaTime>,
    /// When the last of both came.
    pub(super) came: Instant,
}

/// The frames of one hold, in order.
#[derive(Debug)]
pub(super) struct Pace {
    /// An instant, and the media time that belongs to it.
    anchor: (Instant, MediaTime),
    video: Option<MediaTime>,
    pictures: u64,
    audio: Option<MediaTime>,
    sounds: u64,
    /// From one frame of sound to the next: samples of a clock.
    samples: u32,
    rate: u32,
}

/// A frame that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) kind: MediaKind,
    pub(super) time: MediaTime,
    /// Counts the frames of this kind, from 0.
    pub(super) number: u64,
}

impl Pace {
    /// From where the publisher ended; from the present if that is long ago. A frame of sound lasts
    /// `samples` of a clock of `rate` Hz.
    pub(super) fn new(ending: Ending, now: Instant, samples: u32, rate: u32) -> Self {
        let ends = ending.video.max(ending.audio).unwrap_or_default();
        let gone = now.saturating_duration_since(ending.came);
        let skipped = if gone > LONGEST_BURST { gone } else { Duration::ZERO };
        let begin = |end: Option<MediaTime>| match skipped {
            // A track that stopped long before the other does not begin there again.
            Duration::ZERO => end.map(|end| end.max(ends - LONGEST_BURST)),
            _ => end.map(|_| ends + skipped), // both tracks anew, together
        };
        Self {
            anchor: (ending.came, ends),
            video: begin(ending.video),
            pictures: 0,
            audio: begin(ending.audio),
            sounds: 0,
            samples,
            rate: rate.max(1),
        }
    }

    /// The next frame that is due at `now`, pictures before sounds of the same time.
    pub(super) fn next(&mut self, now: Instant) -> Option<Due> {
        let present = self.anchor.1 + now.saturating_duration_since(self.anchor.0);
        let (picture, sound) = (self.picture(), self.sound());
        let is_picture =
            picture.is_some_and(|picture| sound.is_none_or(|sound| picture <= sound) || self.pictures == 0);
        let (kind, time) = if is_picture { (MediaKind::Video, picture?) } else { (MediaKind::Audio, sound?) };
        if time > present {
            return None;
        }
        let count = if is_picture { &mut self.pictures } else { &mut self.sounds };
        *count += 1;
        Some(Due { kind, time, number: *count - 1 })
    }

    fn picture(&self) -> Option<MediaTime> {
        self.video
            .map(|start| start.shifted(MediaTime::from_ticks(self.pictures as i64, PICTURE_RATE).as_nanos()))
    }

    fn sound(&self) -> Option<MediaTime> {
        let samples = self.sounds as i64 * i64::from(self.samples);
        self.audio.map(|start| start.shifted(MediaTime::from_ticks(samples, self.rate).as_nanos()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MediaKind::{Audio, Video};

    fn ms(millis: i64) -> MediaTime {
        MediaTime::from_millis(millis)
    }

    fn pace(video: Option<i64>, audio: Option<i64>, came: Instant, now: Instant) -> Pace {
        Pace::new(Ending { video: video.map(ms), audio: audio.map(ms), came }, now, 1024, 48_000)
    }

    fn all(pace: &mut Pace, now: Instant) -> Vec<(MediaKind, i64)> {
        std::iter::from_fn(|| pace.next(now)).map(|due| (due.kind, due.time.as_millis())).collect()
    }

    #[test]
    fn the_pause_up_to_now_comes_at_once_and_then_each_frame_in_its_time() {
        let came = Instant::now();
        let now = came + Duration::from_millis(2_000);
        let mut pace = pace(Some(5_000), Some(4_950), came, now);
        let burst = all(&mut pace, now);
        assert_eq!(burst[0], (Video, 5_000), "a picture to begin with");
        assert_eq!(burst[1..3], [(Audio, 4_950), (Audio, 4_971)], "{burst:?}");
        assert_eq!(burst.iter().filter(|(kind, _)| *kind == Video).count(), 21);
        assert_eq!(burst.iter().filter(|(kind, _)| *kind == Audio).count(), 97);
        assert_eq!(all(&mut pace, now), []);
        let next = all(&mut pace, now + Duration::from_millis(100));
        assert_eq!(next.iter().filter(|(kind, _)| *kind == Video).collect::<Vec<_>>(), [&(Video, 7_100)]);
        // Over a minute both keep to the clock.
        let later = all(&mut pace, now + Duration::from_secs(60));
        assert_eq!(later.iter().rfind(|(kind, _)| *kind == Video), Some(&(Video, 67_000)));
        let sound = later.iter().rfind(|(kind, _)| *kind == Audio).expect("sound").1;
        assert!((66_978..=67_000).contains(&sound), "{sound}");
    }

    #[test]
    fn whoever_comes_late_gets_the_present() {
        let came = Instant::now();
        let now = came + Duration::from_secs(30);
        let mut pace = pace(Some(5_000), Some(4_950), came, now);
        assert_eq!(all(&mut pace, now), [(Video, 35_000), (Audio, 35_000)]);
    }

    #[test]
    fn a_track_that_stopped_long_before_the_other_is_not_made_up_for() {
        let now = Instant::now();
        let burst = all(&mut pace(Some(1_000), Some(60_000), now, now), now);
        assert_eq!(burst[..2], [(Video, 54_000), (Video, 54_100)], "{burst:?}");
    }

    #[test]
    fn one_track_alone_is_paced_as_well() {
        let now = Instant::now();
        assert_eq!(
            all(&mut pace(None, Some(40), now, now), now + Duration::from_millis(30)),
            [(Audio, 40), (Audio, 61)]
        );
        assert_eq!(
            all(&mut pace(Some(40), None, now, now), now + Duration::from_millis(130)),
            [(Video, 40), (Video, 140)]
        );
        assert_eq!(all(&mut pace(None, None, now, now), now + Duration::from_secs(1)), []);
    }
}
