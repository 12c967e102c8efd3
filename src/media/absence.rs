//! A track that stops while the other goes on: outputs should not wait for it.

use super::{MediaKind, MediaTime, Tracks};
use std::time::Duration;

/// Sound that stays away for so long, while pictures come, has stopped …
const SILENCE: Duration = Duration::from_secs(3);
/// … and pictures while sound comes: some send one every few seconds.
const DARKNESS: Duration = Duration::from_secs(10);
/// Both stayed away: that is the publisher's pause, and no track's.
const PAUSE: Duration = Duration::from_secs(2);
/// Each time that a track stops, it is waited for twice as long as the time before, so often.
const DOUBLINGS: u32 = 6;

/// Which of two tracks has stopped, by the media times of both.
#[derive(Debug, Default)]
pub struct Absence {
    /// The kind that comes alone, and since when.
    alone: Option<(MediaKind, MediaTime)>,
    last: Option<MediaTime>,
    absent: Option<MediaKind>,
    times: u32,
}

impl Absence {
    /// A frame of `kind` came, one of those `tracks`. True if the other track counts as stopped from now on, or this
    /// one as back.
    pub fn hear(&mut self, tracks: &Tracks, kind: MediaKind, time: MediaTime) -> bool {
        let last = self.last.replace(time).unwrap_or(time);
        let goes_on = time.since(last).max(last.since(time)) < PAUSE;
        let since = match self.alone {
            Some((alone, since)) if alone == kind && goes_on => since,
            _ => time,
        };
        self.alone = Some((kind, since));
        if self.absent == Some(kind) {
            self.absent = None;
            return true;
        }
        let (other, patience) = match kind {
            MediaKind::Video => (MediaKind::Audio, SILENCE),
            MediaKind::Audio => (MediaKind::Video, DARKNESS),
        };
        let gone = self.absent.is_none()
            && tracks.has(other)
            && time.since(since) >= patience * (1 << self.times.min(DOUBLINGS));
        if gone {
            self.absent = Some(other);
            self.times += 1;
        }
        gone
    }

    /// The track that has stopped.
    pub fn absent(&self) -> Option<MediaKind> {
        self.absent
    }

    /// Those of `tracks` that have not stopped.
    pub fn present(&self, tracks: &Tracks) -> Tracks {
        let kept = |kind| self.absent != Some(kind);
        Tracks {
            video: tracks.video.clone().filter(|_| kept(MediaKind::Video)),
            audio: tracks.audio.clone().filter(|_| kept(MediaKind::Audio)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{AudioTrack, Codec, VideoTrack};
    use MediaKind::{Audio, Video};

    fn both() -> Tracks {
        let audio = AudioTrack {
            codec: Codec::Opus,
            sample_rate: 48_000,
            channels: 2,
            codec_data: Default::default(),
            fmtp: String::new(),
        };
        Tracks { video: Some(VideoTrack::new(Codec::H264)), audio: Some(audio) }
    }

    /// Times, in milliseconds, at which something changed.
    fn changes(absence: &mut Absence, frames: impl IntoIterator<Item = (MediaKind, i64)>) -> Vec<i64> {
        let heard = |(kind, ms): &(MediaKind, i64)| absence.hear(&both(), *kind, MediaTime::from_millis(*ms));
        frames.into_iter().filter(heard).map(|(_, ms)| ms).collect()
    }

    fn every(kind: MediaKind, step: usize, from: i64, to: i64) -> impl Iterator<Item = (MediaKind, i64)> {
        (from..to).step_by(step).map(move |ms| (kind, ms))
    }

    #[test]
    fn sound_that_stops_is_found_and_waited_for_longer_the_next_time() {
        let mut absence = Absence::default();
        let frames = [(Audio, 0)].into_iter().chain(every(Video, 40, 0, 8000));
        assert_eq!(changes(&mut absence, frames), [3000]);
        assert_eq!(absence.absent(), Some(Audio));
        assert!(absence.present(&both()).audio.is_none() && absence.present(&both()).video.is_some());
        let frames = [(Audio, 8000)].into_iter().chain(every(Video, 40, 8000, 13_000));
        assert_eq!(changes(&mut absence, frames), [8000], "it is back, and missing for 5 s only");
        assert_eq!(absence.absent(), None);
        assert_eq!(changes(&mut absence, every(Video, 40, 13_000, 15_000)), [14_000]);
    }

    #[test]
    fn pictures_may_be_slow() {
        let mut absence = Absence::default();
        let slow = |to| {
            every(Audio, 20, 0, to).flat_map(|(kind, ms)| {
                (ms % 9000 == 0).then_some((Video, ms)).into_iter().chain([(kind, ms)])
            })
        };
        assert_eq!(changes(&mut absence, slow(60_000)), Vec::<i64>::new());
        let mut absence = Absence::default();
        let frames = [(Video, 0)].into_iter().chain(every(Audio, 20, 0, 12_000));
        assert_eq!(changes(&mut absence, frames), [10_000]);
    }

    #[test]
    fn a_pause_of_both_and_a_stream_of_one_are_no_absence() {
        let mut absence = Absence::default();
        let before = [(Audio, 0)].into_iter().chain(every(Video, 40, 0, 1000));
        let after = every(Video, 40, 9000, 11_000).chain([(Audio, 11_000)]);
        assert_eq!(changes(&mut absence, before.chain(after)), Vec::<i64>::new());
        let alone = Tracks { audio: None, ..both() };
        let heard = |ms| absence.hear(&alone, Video, MediaTime::from_millis(ms));
        assert!(!(11_000..60_000).step_by(40).any(heard));
    }
}
