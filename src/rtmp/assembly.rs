//! From FLV tags to epochs and frames: which tracks there are, and when each frame is due.
//!
//! Pure: time is an argument, and what comes out is read from [`Assembly::pop`]. Promises frames whose
//! decoding times rise strictly on each track, and that a video track begins at a keyframe. Holds at
//! most [`PENDING_FRAMES`] frames, and only until the tracks of the first epoch are known.

use super::flv::{self, AudioTag, FlvError, VideoTag};
use super::sender_clock::SenderClock;
use crate::media::h264::{self, AvcConfig, NalUnits};
use crate::media::{AudioTrack, MediaKind, MediaTime, Tracks, VideoTrack};
use bytes::{BufMut, Bytes, BytesMut};
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

/// The access unit with NAL units prefixed by 4 bytes, and whether it has an IDR slice; `None` if it is
/// malformed or empty. Shares memory unless the sender's lengths are shorter.
fn four_byte_lengths(data: Bytes, length_size: u8) -> Option<(Bytes, bool)> {
    let (mut idr, mut units, mut size) = (false, 0, 0);
    for unit in NalUnits::new(&data, length_size) {
        let unit = unit.ok()?;
        idr |= h264::nal_type(unit[0]) == h264::NAL_IDR;
        units += 1;
        size += 4 + unit.len();
    }
    if units == 0 {
        return None;
    }
    if length_size == 4 {
        return Some((data, idr));
    }
    let mut converted = BytesMut::with_capacity(size);
    for unit in NalUnits::new(&data, length_size).flatten() {
        converted.put_u32(unit.len() as u32);
        converted.put_slice(unit);
    }
    Some((converted.freeze(), idr))
}

#[cfg(test)]
mod tests {
    use super::*;
    use MediaKind::{Audio, Video};

    // x264, High, no B-frames stated; 4-byte lengths.
    const RECORD: &[u8] = &[
        1, 0x42, 0xc0, 0x0c, 0xff, 0xe1, 0, 0x19, 0x67, 0x42, 0xc0, 0x0c, 0xd9, 0x01, 0x41, 0x9f, 0x9f, 0x01,
        0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0x20, 0xf1, 0x42, 0xa4, 0x80, 1, 0, 5, 0x68, 0xcb, 0x83, 0xcb,
        0x20,
    ];

    struct Feed {
        assembly: Assembly,
        start: Instant,
    }

    impl Feed {
        fn new() -> Self {
            let start = Instant::now();
            Self { assembly: Assembly::new(start), start }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn video_config(&mut self, level: u8) {
            let mut record = RECORD.to_vec();
            record[11] = level;
            let data = [&[0x17, 0, 0, 0, 0], &record[..]].concat().into();
            self.assembly.video(self.start, 0, &data).expect("valid");
        }

        fn audio_config(&mut self, config: &'static [u8]) {
            let data = [&[0xaf, 0], config].concat().into();
            self.assembly.audio(self.start, 0, &data).expect("valid");
        }

        fn video(&mut self, ms: u64, timestamp: u32, key: bool) {
            let nal = if key { 0x65 } else { 0x41 };
            let data = vec![if key { 0x17 } else { 0x27 }, 1, 0, 0, 0, 0, 0, 0, 2, nal, 0x80].into();
            self.assembly.video(self.at(ms), timestamp, &data).expect("valid");
        }

        fn audio(&mut self, ms: u64, timestamp: u32) {
            let data = Bytes::from_static(&[0xaf, 1, 0x21, 0]);
            self.assembly.audio(self.at(ms), timestamp, &data).expect("valid");
        }

        /// `E` and the tracks of an epoch, or the kind and decoding time of a frame.
        fn outputs(&mut self) -> Vec<String> {
            std::iter::from_fn(|| self.assembly.pop())
                .map(|output| match output {
                    Output::Epoch(tracks) => {
                        let track = |kind| if tracks.has(kind) { kind.to_string() } else { String::new() };
                        format!("E {}{}", track(Video), track(Audio))
                    }
                    Output::Frame(frame) => format!(
                        "{}{} {}",
                        frame.kind,
                        if frame.keyframe && frame.kind == Video { "!" } else { "" },
                        frame.dts.as_millis()
                    ),
                })
                .collect()
        }
    }

    const AAC: &[u8] = &[0x11, 0x90];

    #[test]
    fn the_first_epoch_begins_when_both_tracks_are_there() {
        let mut feed = Feed::new();
        feed.video_config(12);
        feed.video(0, 0, true);
        assert_eq!(feed.outputs(), [""; 0]);
        feed.audio_config(AAC);
        feed.audio(5, 3);
        assert_eq!(feed.outputs(), ["E videoaudio", "video! 0", "audio 3"]);
    }

    #[test]
    fn an_announced_single_track_begins_at_once() {
        let mut feed = Feed::new();
        feed.assembly.announce((true, false));
        feed.video_config(12);
        feed.video(0, 0, true);
        assert_eq!(feed.outputs(), ["E video", "video! 0"]);
        let mut feed = Feed::new();
        feed.assembly.announce((false, true));
        feed.audio_config(AAC);
        feed.audio(0, 7);
        assert_eq!(feed.outputs(), ["E audio", "audio 0"]);
    }

    #[test]
    fn one_kind_waits_half_a_second_of_media_or_a_second_of_time() {
        let mut feed = Feed::new();
        feed.audio_config(AAC);
        for n in 0..25 {
            feed.audio(0, n * 20);
        }
        assert_eq!(feed.outputs(), [""; 0]);
        feed.audio(0, 500);
        assert_eq!(feed.outputs().len(), 27);
        let mut feed = Feed::new();
        feed.video_config(12);
        feed.video(0, 0, true);
        assert_eq!(feed.assembly.deadline(), Some(feed.at(1000)));
        feed.assembly.handle_timeout(feed.at(1000)).expect("fine");
        assert_eq!(feed.outputs(), ["E video", "video! 0"]);
    }

    #[test]
    fn a_late_track_joins_at_the_next_keyframe() {
        let mut feed = Feed::new();
        feed.assembly.announce((true, false));
        feed.video_config(12);
        feed.video(0, 0, true);
        feed.outputs();
        feed.audio_config(AAC);
        feed.audio(0, 40);
        feed.video(0, 40, false);
        feed.video(0, 80, true);
        feed.audio(0, 90);
        assert_eq!(feed.outputs(), ["video 40", "E videoaudio", "video! 80", "audio 90"]);
    }

    #[test]
    fn a_changed_configuration_begins_an_epoch_and_a_repeated_one_does_not() {
        let mut feed = Feed::new();
        feed.video_config(12);
        feed.audio_config(AAC);
        feed.video(0, 0, true);
        feed.audio(0, 1);
        feed.video_config(12);
        feed.audio_config(AAC);
        feed.video(0, 40, false);
        assert_eq!(feed.outputs(), ["E videoaudio", "video! 0", "audio 1", "video 40"]);
        feed.video_config(13);
        feed.video(0, 80, false);
        feed.video(0, 120, true);
        assert_eq!(feed.outputs(), ["E videoaudio", "video! 120"]);
        feed.audio_config(&[0x12, 0x10]);
        feed.video(0, 160, false);
        feed.audio(0, 170);
        feed.video(0, 200, true);
        assert_eq!(feed.outputs(), ["E videoaudio", "audio 170", "video! 200"]);
    }

    #[test]
    fn timestamps_wrap_without_a_jump_and_rise_strictly() {
        let mut feed = Feed::new();
        feed.assembly.announce((true, false));
        feed.video_config(12);
        for (n, timestamp) in [u32::MAX - 39, 0, 40, 40, 35, 80].into_iter().enumerate() {
            feed.video(0, timestamp, n == 0);
        }
        let expected = ["E video", "video! 0", "video 40", "video 80", "video 81", "video 82", "video 120"];
        assert_eq!(feed.outputs(), expected);
    }

    #[test]
    fn a_jump_begins_an_epoch_that_goes_on_by_real_time() {
        let mut feed = Feed::new();
        feed.video_config(12);
        feed.audio_config(AAC);
        feed.video(0, 1000, true);
        feed.audio(0, 1000);
        feed.outputs();
        feed.video(7000, 90_000, false);
        feed.audio(7000, 90_005);
        feed.video(7040, 90_040, true);
        assert_eq!(feed.outputs(), ["E videoaudio", "audio 7005", "video! 7040"]);
    }

    #[test]
    fn video_without_a_keyframe_is_refused_after_30_seconds() {
        let mut feed = Feed::new();
        feed.assembly.announce((true, false));
        feed.video_config(12);
        feed.video(100, 100, false);
        feed.assembly.handle_timeout(feed.at(29_999)).expect("patient");
        assert_eq!(feed.assembly.handle_timeout(feed.at(30_000)), Err(AssemblyError::NoKeyframe));
        let mut feed = Feed::new();
        feed.assembly.announce((true, false));
        feed.video_config(12);
        feed.video(0, 0, true);
        assert_eq!(feed.assembly.deadline(), None, "a group of pictures may be long");
    }

    #[test]
    fn short_lengths_become_four_bytes() {
        let (data, idr) =
            four_byte_lengths(Bytes::from_static(&[0, 2, 0x65, 7, 0, 1, 0x06]), 2).expect("valid");
        assert_eq!(data, [0, 0, 0, 2, 0x65, 7, 0, 0, 0, 1, 0x06].as_slice());
        assert!(idr);
        assert_eq!(four_byte_lengths(Bytes::from_static(&[0, 9, 0x65]), 2), None);
        assert_eq!(four_byte_lengths(Bytes::from_static(&[0, 0, 0, 0]), 4), None);
    }
}
