//! From FLV tags to epochs and frames: which tracks there are, and when each frame is due.
//!
//! Pure: time is an argument, and what comes out is read from [`Assembly::pop`]. Promises frames whose
//! decoding times rise strictly on each track, that a video track begins at a keyframe, that one which comes late or
//! changes begins its epoch there, and that an epoch without a
//! track begins when that has stopped. Holds at
//! most [`PENDING_FRAMES`] frames, and only until the tracks of the first epoch are known.

mod access_unit;
mod breaks;
mod configurations;
#[cfg(test)]
mod tests;
mod video;

use super::flv::{AudioTag, FlvError, Picture, Sound, TrackChoice, VideoConfig, VideoTag};
use super::sender_clock::SenderClock;
use crate::media::{Absence, AudioTrack, Codec, MediaKind, MediaTime, Tracks};
use breaks::Breaks;
use bytes::Bytes;
use configurations::Configurations;
pub(super) use configurations::NoConfiguration;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use video::Video;

/// How long one kind of media waits for the other kind's configuration, in media time …
const PATIENCE_MEDIA: Duration = Duration::from_millis(500);
/// … and in real time.
const PATIENCE: Duration = Duration::from_secs(1);
/// Frames held while waiting.
const PENDING_FRAMES: usize = 512;
/// A sender without a video keyframe for so long is sent away.
const KEYFRAME_PATIENCE: Duration = Duration::from_secs(30);
/// A sender of nothing but frames without configurations is sent away after so long.
const CONFIGURATION_PATIENCE: Duration = Duration::from_secs(30);
/// No picture is shown longer before or after it is decoded: what is stated beyond is a mistake, or meant to
/// make outputs wait.
const LONGEST_COMPOSITION_MS: i32 = 10_000;

/// What a tag led to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Output {
    /// An epoch with these tracks begins.
    Epoch(Tracks),
    /// A frame of that epoch.
    Frame(AssembledFrame),
}

/// A frame without its epoch.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AssembledFrame {
    pub(super) kind: MediaKind,
    pub(super) pts: MediaTime,
    pub(super) dts: MediaTime,
    pub(super) keyframe: bool,
    pub(super) data: Bytes,
}

/// Why a publisher's media can't be used any longer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AssemblyError {
    #[error(transparent)]
    Flv(#[from] FlvError),
    #[error("no video keyframe within {} s", KEYFRAME_PATIENCE.as_secs())]
    NoKeyframe,
    #[error("nothing that can be played came within {limit} s: {0}", limit = CONFIGURATION_PATIENCE.as_secs())]
    NoConfiguration(NoConfiguration),
    #[error("timestamps jump or configurations change too often")]
    Breaks,
}

/// The media of one publisher.
#[derive(Debug)]
pub(super) struct Assembly {
    origin: Instant,
    clock: SenderClock,
    breaks: Breaks,
    /// Which tracks are taken: video, audio.
    choices: (TrackChoice, TrackChoice),
    video: Option<Video>,
    audio: Option<AudioTrack>,
    announced: Option<(bool, bool)>,
    /// The tracks of the epoch that runs; `None` before the first.
    running: Option<Tracks>,
    absence: Absence,
    configurations: Configurations,
    due: Due,
    /// Nothing of a video track is of use before its keyframe.
    needs_keyframe: bool,
    keyframe_wanted_since: Option<Instant>,
    pending: VecDeque<AssembledFrame>,
    pending_since: Option<Instant>,
    outputs: VecDeque<Output>,
}

/// Whether another epoch is to begin: something about the tracks changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Nothing,
    /// At the next keyframe of the video; until then the running epoch goes on.
    AtKeyframe,
    /// At the next frame: the running epoch can't take it.
    AtOnce,
}

impl Assembly {
    /// The timeline begins with the first message, at `now` or later.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            origin: now,
            clock: SenderClock::default(),
            breaks: Breaks::new(now),
            choices: Default::default(),
            video: None,
            audio: None,
            announced: None,
            running: None,
            absence: Absence::default(),
            configurations: Configurations::default(),
            due: Due::Nothing,
            needs_keyframe: true,
            keyframe_wanted_since: None,
            pending: VecDeque::new(),
            pending_since: None,
            outputs: VecDeque::new(),
        }
    }

    /// What `onMetaData` says of the tracks to come: video, audio.
    pub(super) fn announce(&mut self, tracks: (bool, bool)) {
        self.announced = Some(tracks);
    }

    /// A video message.
    pub(super) fn video(&mut self, now: Instant, timestamp: u32, data: &Bytes) -> Result<(), AssemblyError> {
        match VideoTag::parse(data, &mut self.choices.0)? {
            VideoTag::Nothing => Ok(()),
            VideoTag::Config(config) => self.video_config(now, config),
            VideoTag::Picture(picture) => self.picture(now, timestamp, picture),
        }
    }

    /// An audio message.
    pub(super) fn audio(&mut self, now: Instant, timestamp: u32, data: &Bytes) -> Result<(), AssemblyError> {
        match AudioTag::parse(data, &mut self.choices.1)? {
            AudioTag::Nothing => Ok(()),
            AudioTag::Config(track) => self.audio_track(now, track),
            AudioTag::Sound(sound) => self.sound(now, timestamp, sound),
        }
    }

    /// How many timestamps were repaired so far.
    pub(super) fn repaired(&self) -> u64 {
        self.clock.repaired
    }

    /// How many tracks came and are left out: video, audio.
    pub(super) fn left_out(&self) -> (u32, u32) {
        (self.choices.0.left_out(), self.choices.1.left_out())
    }

    /// Tracks that come and are not used for want of a configuration: video, audio.
    pub(super) fn unconfigured(&self) -> [Option<NoConfiguration>; 2] {
        self.configurations.lacking()
    }

    /// Looks at the clock: begins the first epoch when waiting for the other track has taken too long.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), AssemblyError> {
        if self.pending_since.is_some_and(|since| now >= since + PATIENCE) {
            self.begin_with_what_is_there();
        }
        self.check_configurations(now)?;
        self.check_keyframe(now)
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let pending = self.pending_since.map(|since| since + PATIENCE);
        let keyframe = self.keyframe_wanted_since.map(|since| since + KEYFRAME_PATIENCE);
        let longest = self.configurations.longest().filter(|_| self.running.is_none());
        let hopeless = longest.map(|(since, _)| since + CONFIGURATION_PATIENCE);
        let configuration = self.configurations.deadline();
        [pending, keyframe, configuration, hopeless].into_iter().flatten().min()
    }

    /// The next epoch or frame.
    pub(super) fn pop(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn audio_track(&mut self, now: Instant, track: AudioTrack) -> Result<(), AssemblyError> {
        self.configurations.found(MediaKind::Audio);
        if self.audio.as_ref() == Some(&track) {
            return Ok(()); // some senders repeat it every few seconds
        }
        self.breaks(now)?;
        // A late track waits for the next keyframe; a changed one can't: its frames differ.
        self.begin_at_keyframe(now, self.audio.is_none());
        self.forget(MediaKind::Audio);
        self.audio = Some(track);
        Ok(())
    }

    fn sound(&mut self, now: Instant, timestamp: u32, sound: Sound) -> Result<(), AssemblyError> {
        let dts = self.time(now, MediaKind::Audio, timestamp, sound.nanos)?;
        let known = self.audio.as_ref().map(|track| track.codec);
        // A frame of MP3 says all there is to know; Opus needs no configuration.
        if (sound.codec == Codec::Mp3 || known.is_none())
            && let Some(track) = sound.track()
        {
            self.audio_track(now, track)?;
        }
        if self.audio.is_none() {
            self.configurations.wanted(now, sound.codec);
            self.check_configurations(now)?;
        }
        if self.audio.as_ref().is_some_and(|track| track.codec == sound.codec) {
            let kind = MediaKind::Audio;
            self.frame(now, AssembledFrame { kind, pts: dts, dts, keyframe: true, data: sound.data });
        }
        self.check_keyframe(now)
    }

    fn video_config(&mut self, now: Instant, config: VideoConfig) -> Result<(), AssemblyError> {
        if self.video.as_ref().is_some_and(|video| video.has(&config)) {
            return Ok(()); // some senders repeat it every few seconds
        }
        self.breaks(now)?;
        self.video = Some(Video::new(config)?);
        self.configurations.found(MediaKind::Video);
        self.forget(MediaKind::Video);
        // Nobody whose sound is there is sent away for want of pictures.
        let joins = self.running.as_ref().is_some_and(|running| !running.has(MediaKind::Video));
        self.keyframe_wanted_since = (!joins).then_some(now);
        self.needs_keyframe = true;
        // Meanwhile the sound goes on: no output hears of pictures long before it has one.
        self.make_due(Due::AtKeyframe);
        Ok(())
    }

    fn picture(&mut self, now: Instant, timestamp: u32, picture: Picture) -> Result<(), AssemblyError> {
        let dts = self.time(now, MediaKind::Video, timestamp, picture.nanos)?;
        self.check_keyframe(now)?;
        let composition_ms = picture.composition_ms.clamp(-LONGEST_COMPOSITION_MS, LONGEST_COMPOSITION_MS);
        let Some(video) = &mut self.video else {
            self.configurations.wanted(now, picture.codec);
            return self.check_configurations(now);
        };
        let Some(checked) = video.check(picture) else { return Ok(()) };
        if checked.changes && self.running.is_some() {
            self.breaks(now)?;
            self.make_due(Due::AtKeyframe);
        } else if checked.changes && checked.keyframe {
            self.forget(MediaKind::Video);
        }
        if checked.keyframe {
            self.keyframe_wanted_since = None;
            self.needs_keyframe = false;
        } else if self.needs_keyframe {
            return Ok(());
        }
        let pts = MediaTime::from_nanos(dts.as_nanos() + i64::from(composition_ms) * 1_000_000);
        let (kind, keyframe, data) = (MediaKind::Video, checked.keyframe, checked.data);
        self.frame(now, AssembledFrame { kind, pts, dts, keyframe, data });
        Ok(())
    }

    /// Frames of a configuration that was replaced before the first epoch began.
    fn forget(&mut self, kind: MediaKind) {
        self.pending.retain(|frame| frame.kind != kind);
    }

    /// Something begins a new epoch; not too often.
    fn breaks(&mut self, now: Instant) -> Result<(), AssemblyError> {
        if self.breaks.take(now) { Ok(()) } else { Err(AssemblyError::Breaks) }
    }

    /// Places a timestamp; a jump begins a new epoch.
    fn time(
        &mut self,
        now: Instant,
        kind: MediaKind,
        timestamp: u32,
        nanos: u32,
    ) -> Result<MediaTime, AssemblyError> {
        let elapsed_ms = now.saturating_duration_since(self.origin).as_millis() as i64;
        let (time, jumped) = self.clock.place(kind, timestamp, elapsed_ms);
        if jumped {
            self.breaks(now)?;
            self.begin_at_keyframe(now, false);
        }
        // Less than the millisecond by which times rise at least.
        Ok(MediaTime::from_nanos(time.as_nanos() + i64::from(nanos)))
    }

    /// A new epoch is due. With `patient` the running one goes on until the next video keyframe.
    fn begin_at_keyframe(&mut self, now: Instant, patient: bool) {
        if self.running.is_none() {
            return;
        }
        let patient = patient && self.video.is_some();
        self.make_due(if patient { Due::AtKeyframe } else { Due::AtOnce });
        if !patient {
            self.needs_keyframe = true;
            self.keyframe_wanted_since = self.video.is_some().then_some(now);
        }
    }

    /// Something changed the tracks of the running epoch; what is more urgent stays due.
    fn make_due(&mut self, due: Due) {
        if self.running.is_some() {
            self.due = self.due.max(due);
        }
    }

    fn check_configurations(&mut self, now: Instant) -> Result<(), AssemblyError> {
        self.configurations.look(now);
        match self.configurations.longest().filter(|_| self.running.is_none()) {
            Some((since, lacking)) if now >= since + CONFIGURATION_PATIENCE => {
                Err(AssemblyError::NoConfiguration(lacking))
            }
            _ => Ok(()),
        }
    }

    fn check_keyframe(&mut self, now: Instant) -> Result<(), AssemblyError> {
        let late = |since| now.saturating_duration_since(since) >= KEYFRAME_PATIENCE;
        // A group of pictures may be long; only a track that can't begin is hopeless.
        if self.keyframe_wanted_since.is_some_and(late) {
            return Err(AssemblyError::NoKeyframe);
        }
        Ok(())
    }

    fn frame(&mut self, now: Instant, frame: AssembledFrame) {
        let Some(running) = &self.running else {
            self.wait(now, frame);
            return;
        };
        let running_has_it = running.has(frame.kind);
        if self.absence.hear(running, frame.kind, frame.dts) {
            let dark = self.absence.absent() == Some(MediaKind::Video);
            self.make_due(if dark { Due::AtOnce } else { Due::AtKeyframe });
            if dark {
                // Sound goes on at once, and the pictures when one comes that can begin. Nobody is sent away for that.
                self.needs_keyframe = true;
                self.keyframe_wanted_since = None;
            }
        }
        let keyframe = frame.kind == MediaKind::Video && frame.keyframe;
        let begins = match self.due {
            Due::Nothing => false,
            Due::AtKeyframe => keyframe || self.video.is_none(),
            Due::AtOnce => true,
        };
        if begins {
            self.begin();
        } else if !running_has_it {
            return; // a track that came late, until the epoch that knows it
        }
        self.outputs.push_back(Output::Frame(frame));
    }

    /// Holds a frame until the tracks of the first epoch are known.
    fn wait(&mut self, now: Instant, frame: AssembledFrame) {
        self.pending_since.get_or_insert(now);
        self.pending.push_back(frame);
        let have = (self.video.is_some() && !self.needs_keyframe, self.audio.is_some());
        let wanted = self.announced.unwrap_or((true, true));
        let complete = (have.0 || !wanted.0) && (have.1 || !wanted.1);
        let (first, last) = (self.pending.front(), self.pending.back());
        let waited = first.zip(last).map_or(Duration::ZERO, |(first, last)| last.dts.since(first.dts));
        if complete || waited >= PATIENCE_MEDIA || self.pending.len() >= PENDING_FRAMES {
            self.begin_with_what_is_there();
        }
    }

    fn begin_with_what_is_there(&mut self) {
        self.pending_since = None;
        self.begin();
        for frame in std::mem::take(&mut self.pending) {
            self.outputs.push_back(Output::Frame(frame));
        }
    }

    fn begin(&mut self) {
        let video = self.video.as_ref().and_then(|video| video.track().cloned());
        let tracks = self.absence.present(&Tracks { video, audio: self.audio.clone() });
        self.due = Due::Nothing;
        self.outputs.push_back(Output::Epoch(tracks.clone()));
        self.running = Some(tracks);
    }
}
