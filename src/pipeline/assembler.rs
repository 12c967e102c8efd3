//! Puts the coded frames of separate pipelines into epochs.
//!
//! An epoch needs the configurations of all its tracks, and these come out of pipelines at different
//! times. A track that stops leaves the epoch, and joins again when it is back. Pure: time is an argument.

use super::caps::TrackConfig;
use super::encoded::Unit;
use crate::media::{Absence, MediaKind, Tracks};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Decides when epochs begin, and holds units back until then.
#[derive(Debug)]
pub(super) struct EpochAssembler {
    /// The tracks that are expected.
    video: bool,
    audio: bool,
    /// What is known of them.
    tracks: Tracks,
    absence: Absence,
    /// The track that had stopped when the present epoch began.
    lacks: Option<MediaKind>,
    state: State,
    pending: VecDeque<Unit>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Configurations are missing; since when there has been media.
    Gathering(Option<Instant>),
    /// The epoch has begun.
    Running,
    /// A configuration changed: the next epoch begins where a decoder can start.
    Changed,
    /// A track stopped or is back: the next epoch begins where a decoder can start, and this goes on until then.
    Regrouping,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Begin an epoch with these tracks.
    Begin(Tracks),
    /// Write this unit.
    Write(Unit),
    /// Ask the publisher for a keyframe: an epoch waits for it.
    AskForKeyframe,
}

/// How long media of one track wait for the other track to show up.
const PATIENCE: Duration = Duration::from_secs(2);
/// Units that are held back at most.
const MAX_PENDING: usize = 1024;

impl EpochAssembler {
    pub(super) fn new(video: bool, audio: bool) -> Self {
        Self {
            video,
            audio,
            tracks: Tracks::default(),
            absence: Absence::default(),
            lacks: None,
            state: State::Gathering(None),
            pending: VecDeque::new(),
        }
    }

    /// A track has a new configuration; units that follow obey it.
    pub(super) fn configured(&mut self, config: TrackConfig) -> Vec<Step> {
        match config {
            TrackConfig::Video(track) => self.tracks.video = Some(track),
            TrackConfig::Audio(track) => self.tracks.audio = Some(track),
        }
        match self.state {
            State::Gathering(_) => self.begin_if(self.is_complete()),
            State::Running | State::Changed | State::Regrouping => {
                let asked = self.state == State::Changed;
                self.state = State::Changed;
                if asked || self.tracks.video.is_none() { vec![] } else { vec![Step::AskForKeyframe] }
            }
        }
    }

    /// A coded frame came out of a pipeline at `now`.
    pub(super) fn unit(&mut self, now: Instant, unit: Unit) -> Vec<Step> {
        match self.state {
            State::Running => {
                let (kind, pts) = (unit.kind, unit.pts);
                let mut steps = self.write(unit);
                if self.absence.hear(&self.tracks, kind, pts) {
                    self.state = State::Regrouping;
                    steps.extend(self.starts_with_video().then_some(Step::AskForKeyframe));
                }
                steps
            }
            State::Regrouping => {
                self.absence.hear(&self.tracks, unit.kind, unit.pts);
                match self.starts(&unit) {
                    true => self.begin_with(unit),
                    false => self.write(unit),
                }
            }
            State::Gathering(since) => {
                self.state = State::Gathering(Some(since.unwrap_or(now)));
                self.pending.push_back(unit);
                self.begin_if(self.is_complete() || self.pending.len() >= MAX_PENDING)
            }
            State::Changed => {
                self.absence.hear(&self.tracks, unit.kind, unit.pts);
                match self.starts(&unit) {
                    true => self.begin_with(unit),
                    false => vec![], // of the new configuration perhaps, and of no use before its keyframe
                }
            }
        }
    }

    /// The next epoch has pictures.
    fn starts_with_video(&self) -> bool {
        self.tracks.video.is_some() && self.absence.absent() != Some(MediaKind::Video)
    }

    /// The next epoch can begin with this unit.
    fn starts(&self, unit: &Unit) -> bool {
        !self.starts_with_video() || (unit.kind == MediaKind::Video && unit.keyframe)
    }

    /// For the present epoch, if that has such a track.
    fn write(&self, unit: Unit) -> Vec<Step> {
        if self.lacks == Some(unit.kind) { vec![] } else { vec![Step::Write(unit)] }
    }

    fn begin_with(&mut self, unit: Unit) -> Vec<Step> {
        self.state = State::Running;
        self.lacks = self.absence.absent();
        vec![Step::Begin(self.absence.present(&self.tracks)), Step::Write(unit)]
    }

    /// Whether the video's configuration is known.
    pub(super) fn has_video(&self) -> bool {
        self.tracks.video.is_some()
    }

    /// When [`Self::tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Gathering(since) => since.map(|since| since + PATIENCE),
            State::Running | State::Changed | State::Regrouping => None,
        }
    }

    /// The epoch begins without the track that did not come.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<Step> {
        self.begin_if(self.deadline().is_some_and(|deadline| now >= deadline))
    }

    /// All tracks are known, and a decoder can start: readers skip sound in front of the first keyframe.
    fn is_complete(&self) -> bool {
        let known = self.tracks.video.is_some() >= self.video && self.tracks.audio.is_some() >= self.audio;
        known && (!self.video || self.pending.iter().any(|unit| unit.kind == MediaKind::Video))
    }

    fn begin_if(&mut self, due: bool) -> Vec<Step> {
        if !due || self.pending.is_empty() {
            return vec![];
        }
        self.state = State::Running;
        let mut pending: Vec<_> = self.pending.drain(..).collect();
        pending.sort_by_key(|unit| unit.pts);
        let begin = Step::Begin(self.tracks.clone());
        std::iter::once(begin).chain(pending.into_iter().map(Step::Write)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{AudioTrack, Codec, MediaTime, VideoTrack};
    use bytes::Bytes;

    fn video(width: u32) -> TrackConfig {
        TrackConfig::Video(VideoTrack {
            resolution: Some((width, 360)),
            codec_data: Bytes::from_static(b"avcC"),
            ..VideoTrack::new(Codec::H264)
        })
    }

    fn audio() -> TrackConfig {
        TrackConfig::Audio(AudioTrack {
            codec: Codec::Aac,
            sample_rate: 48_000,
            channels: 2,
            codec_data: Bytes::from_static(b"\x11\x90"),
            fmtp: String::new(),
        })
    }

    fn unit(kind: MediaKind, millis: i64, keyframe: bool) -> Unit {
        Unit { kind, pts: MediaTime::from_millis(millis), keyframe, data: Bytes::new() }
    }

    /// Steps as words.
    fn told(steps: Vec<Step>) -> Vec<String> {
        let word = |step| match step {
            Step::Begin(tracks) => {
                format!("begin v{} a{}", u8::from(tracks.video.is_some()), u8::from(tracks.audio.is_some()))
            }
            Step::Write(unit) => format!("{} {}", unit.kind, unit.pts.as_millis()),
            Step::AskForKeyframe => "ask".into(),
        };
        steps.into_iter().map(word).collect()
    }

    #[test]
    fn an_epoch_begins_when_both_tracks_are_known() {
        let (mut epochs, now) = (EpochAssembler::new(true, true), Instant::now());
        assert!(epochs.configured(video(640)).is_empty());
        assert!(epochs.unit(now, unit(MediaKind::Video, 20, true)).is_empty());
        assert!(epochs.configured(audio()).len() == 2);
        assert_eq!(told(epochs.unit(now, unit(MediaKind::Audio, 0, true))), ["audio 0"]);
    }

    #[test]
    fn a_track_that_does_not_come_is_not_waited_for_long_and_joins_at_a_keyframe() {
        let (mut epochs, now) = (EpochAssembler::new(true, true), Instant::now());
        epochs.configured(video(640));
        epochs.unit(now, unit(MediaKind::Video, 0, true));
        assert_eq!(epochs.deadline(), Some(now + PATIENCE));
        assert!(epochs.tick(now + PATIENCE / 2).is_empty());
        assert_eq!(told(epochs.tick(now + PATIENCE)), ["begin v1 a0", "video 0"]);
        assert_eq!(told(epochs.configured(audio())), ["ask"]);
        assert!(epochs.unit(now, unit(MediaKind::Audio, 33, true)).is_empty());
        assert!(epochs.unit(now, unit(MediaKind::Video, 33, false)).is_empty());
        assert_eq!(told(epochs.unit(now, unit(MediaKind::Video, 66, true))), ["begin v1 a1", "video 66"]);
    }

    #[test]
    fn a_track_that_stops_leaves_the_epoch_and_joins_it_again() {
        let (mut epochs, now) = (EpochAssembler::new(true, true), Instant::now());
        epochs.configured(video(640));
        epochs.configured(audio());
        epochs.unit(now, unit(MediaKind::Audio, 0, true));
        epochs.unit(now, unit(MediaKind::Video, 0, true));
        let mut told_of = |kind, range: std::ops::Range<i64>| -> Vec<String> {
            let steps = range.step_by(500).flat_map(|ms| epochs.unit(now, unit(kind, ms, ms % 4000 == 0)));
            told(steps.filter(|step| !matches!(step, Step::Write(_))).collect())
        };
        assert_eq!(told_of(MediaKind::Video, 500..3500), [""; 0]);
        assert_eq!(told_of(MediaKind::Video, 3500..4500), ["ask", "begin v1 a0"]);
        assert_eq!(told_of(MediaKind::Audio, 4500..5000), ["ask"]);
        assert_eq!(told_of(MediaKind::Video, 5000..8500), ["begin v1 a1"]);
        assert_eq!(told_of(MediaKind::Audio, 8500..28_500), [""; 0]);
        assert_eq!(told_of(MediaKind::Audio, 28_500..29_500), ["begin v0 a1"]);
        assert_eq!(told_of(MediaKind::Video, 31_500..32_500), ["ask", "begin v1 a1"]);
        assert_eq!(told_of(MediaKind::Video, 32_500..46_000), ["ask", "begin v1 a0"]);
        // The present epoch has no such track: this waits for the next.
        assert_eq!(told(epochs.unit(now, unit(MediaKind::Audio, 46_000, true))), ["ask"]);
    }

    #[test]
    fn another_resolution_is_another_epoch() {
        let (mut epochs, now) = (EpochAssembler::new(true, false), Instant::now());
        epochs.configured(video(640));
        assert_eq!(told(epochs.unit(now, unit(MediaKind::Video, 0, true))), ["begin v1 a0", "video 0"]);
        epochs.configured(video(1280));
        assert_eq!(told(epochs.unit(now, unit(MediaKind::Video, 33, true))), ["begin v1 a0", "video 33"]);
    }

    #[test]
    fn what_was_held_back_comes_in_the_order_of_time() {
        let (mut epochs, now) = (EpochAssembler::new(true, true), Instant::now());
        epochs.configured(audio());
        for millis in [0, 21, 43] {
            epochs.unit(now, unit(MediaKind::Audio, millis, true));
        }
        epochs.configured(video(640));
        let steps = epochs.unit(now, unit(MediaKind::Video, 30, true));
        assert_eq!(told(steps), ["begin v1 a1", "audio 0", "audio 21", "video 30", "audio 43"]);
    }
}
