//! From FLV tags to epochs and frames: which tracks there are, and when each frame is due.
//!
//! Pure: time is an argument, and what comes out is read from [`Assembly::pop`]. Promises frames whose
//! decoding times rise strictly on each track, and that a video track begins at a keyframe. Holds at
//! most [`PENDING_FRAMES`] frames, and only until the tracks of the first epoch are known.

mod access_unit;
#[cfg(test)]
mod tests;

use super::flv::{self, AudioTag, FlvError, VideoTag};
use super::sender_clock::SenderClock;
use crate::media::h264::AvcConfig;
use crate::media::{AudioTrack, MediaKind, MediaTime, Tracks, VideoTrack};
use access_unit::four_byte_lengths;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long one kind of media waits for the other kind's configuration, in media time …
const PATIENCE_MEDIA: Duration = Duration::from_millis(500);
/// … and in real time.
const PATIENCE: Duration = Duration::from_secs(1);
/// Frames held while waiting.
const PENDING_FRAMES: usize = 512;
/// A sender without a video keyframe for so long is sent away.
const KEYFRAME_PATIENCE: Duration = Duration::from_secs(30);
/// More jumps than this on one connection are an attack or a broken clock.
const JUMPS: u32 = 100;

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
    #[error("timestamps jump too often")]
    Jumps,
}

/// The media of one publisher.
#[derive(Debug)]
pub(super) struct Assembly {
    origin: Instant,
    clock: SenderClock,
    video: Option<Video>,
    audio: Option<AudioTrack>,
    announced: Option<(bool, bool)>,
    /// The tracks of the epoch that runs; `None` before the first.
    running: Option<Tracks>,
    /// Something about the tracks changed: a new epoch begins at the next frame that can begin it.
    stale: bool,
    /// Nothing of a video track is of use before its keyframe.
    needs_keyframe: bool,
    keyframe_wanted_since: Option<Instant>,
    pending: VecDeque<AssembledFrame>,
    pending_since: Option<Instant>,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Video {
    config: AvcConfig,
    track: VideoTrack,
}

impl Assembly {
    /// The timeline begins with the first message, at `now` or later.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            origin: now,
            clock: SenderClock::default(),
            video: None,
            audio: None,
            announced: None,
            running: None,
            stale: false,
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
        match VideoTag::parse(data)? {
            VideoTag::Nothing => Ok(()),
            VideoTag::Config(config) => self.video_config(now, config),
            VideoTag::AccessUnit { keyframe, composition_ms, data } => {
                self.access_unit(now, timestamp, keyframe, composition_ms, data)
            }
        }
    }

    /// An audio message.
    pub(super) fn audio(&mut self, now: Instant, timestamp: u32, data: &Bytes) -> Result<(), AssemblyError> {
        match AudioTag::parse(data)? {
            AudioTag::Nothing => Ok(()),
            AudioTag::Config(config, record) => {
                let track = flv::audio_track(&config, record);
                if self.audio.as_ref() != Some(&track) {
                    // A late track waits for the next keyframe; a changed one can't: its frames differ.
                    self.begin_at_keyframe(now, self.audio.is_none());
                    self.audio = Some(track);
                }
                Ok(())
            }
            AudioTag::Raw(data) => {
                let dts = self.time(now, MediaKind::Audio, timestamp)?;
                if self.audio.is_some() {
                    let kind = MediaKind::Audio;
                    self.frame(now, AssembledFrame { kind, pts: dts, dts, keyframe: true, data });
                }
                self.check_keyframe(now)
            }
        }
    }

    /// Looks at the clock: begins the first epoch when waiting for the other track has taken too long.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), AssemblyError> {
        if self.pending_since.is_some_and(|since| now >= since + PATIENCE) {
            self.begin_with_what_is_there();
        }
        self.check_keyframe(now)
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let pending = self.pending_since.map(|since| since + PATIENCE);
        let keyframe = self.keyframe_wanted_since.map(|since| since + KEYFRAME_PATIENCE);
        pending.into_iter().chain(keyframe).min()
    }

    /// The next epoch or frame.
    pub(super) fn pop(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn video_config(&mut self, now: Instant, config: AvcConfig) -> Result<(), AssemblyError> {
        if self.video.as_ref().is_some_and(|video| video.config == config) {
            return Ok(()); // some senders repeat it every few seconds
        }
        let track = flv::video_track(&config, false)?;
        self.video = Some(Video { config, track });
        self.keyframe_wanted_since = Some(now);
        self.needs_keyframe = true;
        if self.running.is_some() {
            self.stale = true;
        }
        Ok(())
    }

    fn access_unit(
        &mut self,
        now: Instant,
        timestamp: u32,
        keyframe: bool,
        composition_ms: i32,
        data: Bytes,
    ) -> Result<(), AssemblyError> {
        let dts = self.time(now, MediaKind::Video, timestamp)?;
        self.check_keyframe(now)?;
        let Some(video) = &mut self.video else { return Ok(()) };
        let Some((data, idr)) = four_byte_lengths(data, video.config.length_size) else { return Ok(()) };
        let keyframe = keyframe || idr;
        if composition_ms != 0 && !video.track.reordered {
            let track = flv::video_track(&video.config, true)?;
            if track.reordered {
                video.track = track;
                if self.running.is_some() {
                    self.stale = true;
                }
            }
        }
        if keyframe {
            self.keyframe_wanted_since = None;
            self.needs_keyframe = false;
        } else if self.needs_keyframe {
            return Ok(());
        }
        // Before its decoding time nothing can be shown.
        let pts = dts + Duration::from_millis(u64::try_from(composition_ms).unwrap_or(0));
        self.frame(now, AssembledFrame { kind: MediaKind::Video, pts, dts, keyframe, data });
        Ok(())
    }

    /// Places a timestamp; a jump begins a new epoch.
    fn time(&mut self, now: Instant, kind: MediaKind, timestamp: u32) -> Result<MediaTime, AssemblyError> {
        let elapsed_ms = now.saturating_duration_since(self.origin).as_millis() as i64;
        let (time, jumped) = self.clock.place(kind, timestamp, elapsed_ms);
        if jumped {
            if self.clock.jumps > JUMPS {
                return Err(AssemblyError::Jumps);
            }
            self.begin_at_keyframe(now, false);
        }
        Ok(time)
    }

    /// A new epoch is due. With `patient` the running one goes on until the next video keyframe.
    fn begin_at_keyframe(&mut self, now: Instant, patient: bool) {
        if self.running.is_none() {
            return;
        }
        self.stale = true;
        if !patient || self.video.is_none() {
            self.needs_keyframe = true;
            self.keyframe_wanted_since = self.video.is_some().then_some(now);
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
        let begins = frame.kind == MediaKind::Video && frame.keyframe;
        if self.stale && (begins || self.video.is_none() || self.needs_keyframe) {
            self.begin();
        } else if !running.has(frame.kind) {
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
        let video = self.video.as_ref().map(|video| video.track.clone());
        let tracks = Tracks { video, audio: self.audio.clone() };
        self.stale = false;
        self.outputs.push_back(Output::Epoch(tracks.clone()));
        self.running = Some(tracks);
    }
}
