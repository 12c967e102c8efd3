//! What one stream's task knows: the muxers of the present stretch, and the renditions that they fill.
//!
//! Muxers are disposable: a new epoch, lost media or a failure of the sound's or the best video rendition's ends
//! all of them, with their drained last parts, and begins a new stretch in all renditions. What is particular to
//! the lower video renditions is in `lower`.

use super::HlsSettings;
use super::live::{Live, Numbers, Programme, RenditionView};
use super::lower::Lower;
use super::multivariant::{Multivariant, Sound, VideoVariant};
use super::names::RenditionName;
use super::pause::{Pause, date_origin};
use super::playlist::Report;
use super::rates::Rates;
use super::rendition::Rendition;
use super::segment::Stretch;
use super::text::Text;
use super::track::{Config, Running, Track};
use crate::media::{Codec, Epoch, Frame, MediaKind, MediaTime, OpusFrames};
use crate::pipeline::{AacSound, MuxOutput, MuxSettings, MuxedPart, Pace, PipelineError, Pipelines};
use crate::stream::{Media, RenditionFrame, Subscriber};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use tracing::{debug, warn};

/// So long the first multivariant playlist waits for promised renditions: players read it once.
const PROMISE_PATIENCE: Duration = Duration::from_secs(2);
/// Frames that may wait in the lane for a part to become complete.
const MOST_FRAMES_ASLEEP: usize = 256;
/// Frames taken after the end: more than a lane holds, and not without end if somebody goes on sending.
const MOST_FRAMES_AT_THE_END: usize = 2048;
/// Between a muxer's failure and the next try: doubled with each failure in a row.
const BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(8);
/// A multiple of the ticks of all timescales.
const CONTAINER_STEP: Duration = Duration::from_millis(40);
/// 2020-01-01T00:00:00Z: sequence numbers count quarters of a second from here. No stream has more segments than that,
/// not even one that is broken off again and again, and the numbers stay below 2^31 until 2037.
const NUMBERS_BEGIN: Duration = Duration::from_secs(1_577_836_800);

/// All of one stream's state.
pub(super) struct Packager<'a> {
    pub(super) settings: &'a HlsSettings,
    pub(super) pipelines: &'a Pipelines,
    pub(super) live: &'a Live,
    rates: &'a Rates,
    first_sequence: u64,
    /// Where the media end that were there before this began.
    pub there: MediaTime,
    pub(super) discontinuity: u64,
    /// Where the media end that there are in the container.
    container_end: MediaTime,
    pub(super) renditions: BTreeMap<RenditionName, Rendition>,
    /// The muxers that run now.
    pub stretch: Option<Running>,
    /// The lower renditions, by their number.
    pub(super) lower: BTreeMap<u8, Lower>,
    /// The best video rendition is not waited for now.
    pub(super) leader_silent: bool,
    /// Since when the promised renditions are waited for.
    incomplete: Option<Instant>,
    failures: u32,
    not_before: Instant,
    multivariant: Option<Text>,
    /// When the last frames of the frame lane came.
    pub heard: Option<Instant>,
    /// The publisher's pause, until media come again.
    pub(super) pause: Option<Pause>,
}

impl<'a> Packager<'a> {
    /// Without media. Sequence numbers are at least those of `first`, and of the settings.
    pub fn new(
        settings: &'a HlsSettings,
        pipelines: &'a Pipelines,
        live: &'a Live,
        rates: &'a Rates,
        first: Numbers,
    ) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let quarters = u64::try_from(now.saturating_sub(NUMBERS_BEGIN).as_millis() / 250).unwrap_or(u64::MAX);
        Self {
            settings,
            pipelines,
            live,
            rates,
            first_sequence: first.sequence.max(quarters),
            there: MediaTime::ZERO,
            discontinuity: first.discontinuity.max(settings.first_discontinuity),
            container_end: MediaTime::ZERO,
            renditions: BTreeMap::new(),
            stretch: None,
            lower: BTreeMap::new(),
            leader_silent: false,
            incomplete: None,
            failures: 0,
            not_before: Instant::now(),
            multivariant: None,
            heard: None,
            pause: None,
        }
    }

    /// Which of the frames to come are worth waking up for: those with which a muxer can complete a part,
    /// and whatever needs a decision.
    pub fn pace(&self) -> impl FnMut(&Frame) -> bool + Send + 'static {
        let mut paces: Vec<(RenditionName, Pace)> = Vec::new();
        let (mut epoch, mut transcodes) = (None, false);
        if let Some(stretch) = &self.stretch {
            transcodes = stretch.tracks.iter().any(|track| track.transcoder.is_some());
            epoch = Some(stretch.epoch.id);
            let muxers = stretch.tracks.iter().filter_map(|track| Some((track.name, track.muxer.as_ref()?)));
            paces.extend(muxers.map(|(name, muxer)| (name, muxer.pace())));
        }
        let awaited = self.is_lower_waiting();
        let mut passed = 0;
        move |frame| {
            passed += 1;
            let name = RenditionName::of(frame.kind);
            let pace = paces.iter_mut().find(|(paced, _)| *paced == name);
            // Frames that become others on their way have other times.
            let due = pace.is_some_and(|(_, pace)| pace.is_due(frame))
                || (transcodes && frame.kind == MediaKind::Audio)
                || (awaited && frame.kind == MediaKind::Video);
            due || epoch != Some(frame.epoch.id) || passed >= MOST_FRAMES_ASLEEP
        }
    }

    /// Takes a frame of the frame lane.
    pub async fn take_frame(&mut self, frame: &Frame) {
        if self.stretch.as_ref().is_some_and(|stretch| frame.epoch.id < stretch.epoch.id) {
            return; // a straggler of the epoch before
        }
        if self
            .stretch
            .as_ref()
            .is_some_and(|stretch| stretch.epoch.id != frame.epoch.id || stretch.jumps(frame))
        {
            self.advance_lower().await;
            self.end_stretch().await;
        }
        if self.stretch.is_none() {
            if !frame.starts_group() || Instant::now() < self.not_before {
                return;
            }
            if let Err(error) = self.begin_stretch(frame.epoch.clone(), frame.pts) {
                self.failed(&error).await;
                return;
            }
        }
        let Some(stretch) = &mut self.stretch else { return };
        let Some(track) = stretch.track(RenditionName::of(frame.kind)) else { return };
        let pushed = track.push(frame);
        if let Err(error) = pushed {
            self.failed(&error).await;
        } else if frame.kind == MediaKind::Video {
            self.leader_silent = false;
            stretch.lead();
        }
    }

    /// Takes what came out of a muxer.
    pub async fn take_output(&mut self, name: RenditionName, output: Option<MuxOutput>) {
        match output {
            Some(MuxOutput::Init(init)) => self.take_init(name, init),
            Some(MuxOutput::Part(part)) => self.take_part(name, part),
            Some(MuxOutput::Failed(_) | MuxOutput::Finished) | None if name.is_lower() => {
                warn!(stream = %self.live.stream().name(), rendition = %name, "HLS muxer failed; a new one begins at the next keyframe.");
                self.end_lower(name).await;
            }
            Some(MuxOutput::Failed(error)) => self.failed(&error).await,
            Some(MuxOutput::Finished) | None => self.failed(&"the muxer ended by itself").await,
        }
    }

    pub(super) fn take_init(&mut self, name: RenditionName, init: Bytes) {
        let stretch = self.stretch.as_mut();
        let Some(track) = stretch.and_then(|stretch| stretch.track(name)) else { return };
        if name.is_lower() && track.init.is_some() {
            return; // the same again: it would not have been begun otherwise
        }
        if track.init.as_ref().is_some_and(|present| *present != init) {
            self.discontinuity += 1; // shows in each rendition with its next part
        }
        track.init = Some(init);
    }

    pub(super) fn take_part(&mut self, name: RenditionName, part: MuxedPart) {
        let now = Instant::now().into_std();
        let tolerance = self.live.limits().part_target;
        let mut discontinuity = self.discontinuity;
        let Some(stretch) = &mut self.stretch else { return };
        let wall_origin = stretch.date_origin;
        self.container_end = self.container_end.max(part.start + part.duration + stretch.shift);
        let Some(track) = stretch.track(name) else { return };
        let Some(init) = track.init.clone() else { return };
        let expected = track.next_start.replace(part.start + part.duration).unwrap_or(part.start);
        if part.start.since(expected).max(expected.since(part.start)) > tolerance
            && track.begun == Some(discontinuity)
        {
            debug!(stream = %self.live.stream().name(), %name, ?expected, start = ?part.start, "Media are missing.");
            discontinuity += 1;
        }
        let begins = track.begun != Some(discontinuity);
        track.begun = Some(discontinuity);
        self.discontinuity = discontinuity;
        let siblings = reports(&self.renditions, name);
        let Some(rendition) = self.renditions.get_mut(&name) else { return };
        let is_first = rendition.report().is_none();
        if begins {
            rendition.begin(now, Stretch { discontinuity, init, wall_origin });
        }
        let grown = rendition.push(now, part, siblings);
        (self.failures, self.pause) = (0, None);
        self.live.set_next_numbers(Numbers { sequence: rendition.next_sequence(), discontinuity });
        if is_first {
            self.tell_siblings(name);
        }
        if grown || self.multivariant.is_none() {
            self.announce();
        }
        if name == RenditionName::VIDEO {
            self.list_gaps();
        }
        self.live.count_viewers(now);
    }

    /// Lists that nothing has come of any rendition for `duration`, in the stretch that was the last.
    pub(super) fn list_missing(&mut self, duration: Duration) {
        let (now, names) = (Instant::now().into_std(), self.renditions.keys().copied().collect::<Vec<_>>());
        let newest = self.renditions.values().filter_map(Rendition::edge).map(|(number, _)| number).max();
        for name in names {
            let siblings = reports(&self.renditions, name);
            let Some(rendition) = self.renditions.get_mut(&name).filter(|one| !one.ended()) else { continue };
            // One that has not come to the last stretch was silent before.
            let Some((number, end)) = rendition.edge().filter(|(number, _)| Some(*number) == newest) else {
                continue;
            };
            rendition.gap(now, end, duration, siblings);
            let sequence = rendition.next_sequence();
            self.live.set_next_numbers(Numbers { sequence, discontinuity: number });
        }
        self.live.count_viewers(now);
    }

    /// The rendition `name` has its first part: the playlists of the others report on it from now on.
    fn tell_siblings(&mut self, name: RenditionName) {
        let others: Vec<_> = self.renditions.keys().copied().filter(|other| *other != name).collect();
        for other in others {
            let siblings = reports(&self.renditions, other);
            if let Some(rendition) = self.renditions.get_mut(&other).filter(|other| other.report().is_some())
            {
                rendition.refresh(siblings);
            }
        }
    }

    fn begin_stretch(&mut self, epoch: Arc<Epoch>, start: MediaTime) -> Result<(), PipelineError> {
        let tracks = &epoch.tracks;
        let (mut transcoder, mut sound) = (None, tracks.audio.clone());
        let stays = |codec| codec == Codec::Opus && self.settings.opus == OpusFrames::Opus;
        let foreign = sound.as_ref().filter(|track| !stays(track.codec));
        if let Some((aac, track)) =
            foreign.map(|track| AacSound::begin(self.pipelines, track)).transpose()?.flatten()
        {
            (transcoder, sound) = (Some(aac), Some(track));
        }
        let shift = behind(self.container_end, start);
        let settings = self.mux_settings(shift);
        let mut started = Vec::new();
        if let Some(track) = &tracks.video {
            let config = Config::Video(track.clone());
            started.push(Track::begin(self.pipelines, RenditionName::VIDEO, config, settings, None)?);
        }
        if let Some(track) = sound {
            let config = Config::Audio(track);
            started.push(Track::begin(self.pipelines, RenditionName::Audio, config, settings, transcoder)?);
        }
        debug!(stream = %self.live.stream().name(), epoch = epoch.id, "HLS stretch begins.");
        let listed = self.renditions.values().filter_map(Rendition::end_date).max();
        let date_origin = date_origin(epoch.wall_origin, start, listed, SystemTime::now());
        self.discontinuity += 1;
        for name in [RenditionName::VIDEO, RenditionName::Audio] {
            if let Some(track) = started.iter().find(|track| track.name == name) {
                self.open(name, &track.config);
            } else if let Some(rendition) = self.renditions.get_mut(&name) {
                // A track that is gone for good, as far as anybody knows.
                rendition.end(Instant::now().into_std());
            }
        }
        let segments = VecDeque::new();
        self.stretch = Some(Running { epoch, date_origin, start, shift, tracks: started, segments });
        Ok(())
    }

    /// Makes the rendition `name` of this form, unless there is one that has not ended.
    pub(super) fn open(&mut self, name: RenditionName, config: &Config) {
        let present = self.renditions.get(&name);
        if present.is_some_and(|rendition| !rendition.ended()) {
            return;
        }
        let first = self.first_sequence;
        let sequence = present.map_or(first, Rendition::next_sequence).max(first);
        let expected = self.rates.expected(self.live.stream().name(), name, config.form());
        let rendition = Rendition::new(name, run_token(), self.live.limits(), sequence, self.there);
        self.renditions.insert(name, rendition.expect(expected));
    }

    pub(super) fn mux_settings(&self, shift: Duration) -> MuxSettings {
        MuxSettings {
            part_duration: self.live.limits().longest_part(),
            segment_duration: self.settings.segment_duration,
            shift,
        }
    }

    /// Ends the muxers; what they still hold becomes the last parts of the stretch.
    pub async fn end_stretch(&mut self) {
        let Some(stretch) = &mut self.stretch else { return };
        let mut drained = Vec::new();
        for track in &mut stretch.tracks {
            let (outputs, in_time) = track.drain().await;
            if !in_time {
                warn!(stream = %self.live.stream().name(), rendition = %track.name, "A muxer did not drain.");
            }
            drained.extend(outputs.into_iter().map(|output| (track.name, output)));
        }
        for (name, output) in drained {
            match output {
                MuxOutput::Init(init) => self.take_init(name, init),
                MuxOutput::Part(part) => self.take_part(name, part),
                MuxOutput::Finished | MuxOutput::Failed(_) => {}
            }
        }
        for track in self.stretch.take().into_iter().flat_map(|stretch| stretch.tracks) {
            self.remember_lower(&track);
        }
    }

    /// Takes what the publisher sent last, then ends the stretch: its last part should not wait for the
    /// publisher's return.
    pub async fn publisher_left(
        &mut self,
        frames: &mut Subscriber<Frame>,
        lower: &mut Subscriber<RenditionFrame>,
    ) {
        for _ in 0..MOST_FRAMES_AT_THE_END {
            let Some(frame) = frames.try_recv() else { break };
            self.take_frame(&frame).await;
        }
        for _ in 0..MOST_FRAMES_AT_THE_END {
            let Some(frame) = lower.try_recv() else { break };
            self.take_lower(frame);
        }
        self.advance_lower().await;
        self.end_stretch().await;
    }

    async fn failed(&mut self, why: &(dyn std::fmt::Display + Sync)) {
        let pause = BACKOFF.saturating_mul(1 << self.failures.min(8)).min(LONGEST_BACKOFF);
        warn!(stream = %self.live.stream().name(), %why, ?pause, "HLS muxer failed; a new one begins at the next keyframe.");
        self.failures += 1;
        self.not_before = Instant::now() + pause;
        self.end_stretch().await;
        self.live.stream().request_keyframe();
    }

    /// Tells readers which playlists there are, once those of the sound and the best pictures can be played; for
    /// lower renditions that are on their way it waits a little.
    fn announce(&mut self) {
        let Some(stretch) = &self.stretch else { return };
        let playable = |track: &&Track| self.renditions.get(&track.name).is_some_and(Rendition::playable);
        if !stretch.tracks.iter().filter(|track| !track.name.is_lower()).all(|track| playable(&track)) {
            return;
        }
        let best = stretch.epoch.tracks.video.as_ref().and_then(|track| track.resolution);
        let (mut video, mut audio) = (Vec::new(), None);
        for track in stretch.tracks.iter().filter(playable) {
            let Some(bandwidth) = self.renditions.get(&track.name).map(Rendition::bandwidth) else {
                continue;
            };
            let (name, pictures) = (track.name, track.pictures.rate());
            self.rates.remember(self.live.stream().name(), name, track.config.form(), bandwidth);
            match &track.config {
                // What is out of step, or the same as the best one, is no choice.
                Config::Video(config)
                    if name.is_lower() && (track.is_astray() || config.resolution == best) => {}
                Config::Video(track) => {
                    let frame_rate = track.frame_rate.or(pictures);
                    video.push(VideoVariant { name, track, frame_rate, bandwidth });
                }
                Config::Audio(track) => audio = Some(Sound { track, bandwidth }),
            }
        }
        let promised = usize::from(self.live.stream().promised_renditions());
        if self.multivariant.is_none() && video.len() < 1 + promised {
            let since = *self.incomplete.get_or_insert_with(Instant::now);
            if since.elapsed() < PROMISE_PATIENCE {
                return;
            }
        }
        video.sort_by_key(|variant| variant.name);
        let audio_only = self.settings.ladders.of(self.live.stream().name()).audio;
        self.multivariant = Some(Multivariant { video, audio, audio_only }.write().into());
        self.live.publish(self.programme(false));
    }

    fn programme(&self, ended: bool) -> Programme {
        let view = |rendition: &Rendition| RenditionView {
            name: rendition.name(),
            run: rendition.run(),
            states: rendition.subscribe(),
        };
        let renditions = self.renditions.values().map(view).collect();
        Programme { multivariant: self.multivariant.clone(), renditions, ended }
    }

    /// Ends all playlists.
    pub async fn end(mut self) {
        self.end_stretch().await;
        let now = Instant::now().into_std();
        self.renditions.values_mut().for_each(|rendition| rendition.end(now));
        self.live.publish(self.programme(true));
        self.live.stream().statistics().set_hls_readers(0);
    }
}

/// How much later media that begin at `start` must be in the container, so that their times there are behind `end`. What
/// follows a discontinuity may have any times, but FFmpeg, and with it mpv, knows no discontinuities: it takes times that
/// fall back as they are.
fn behind(end: MediaTime, start: MediaTime) -> Duration {
    let least = u64::try_from(end.as_nanos().saturating_sub(start.as_nanos())).unwrap_or(0);
    Duration::from_nanos(least.next_multiple_of(CONTAINER_STEP.as_nanos() as u64))
}

/// The last parts of all renditions but `name`.
pub(super) fn reports(renditions: &BTreeMap<RenditionName, Rendition>, name: RenditionName) -> Vec<Report> {
    let others = renditions.values().filter(|other| other.name() != name && !other.ended());
    others.filter_map(Rendition::report).collect()
}

/// A token that tells the media names of this rendition from those of any other before or after it.
fn run_token() -> Arc<str> {
    format!("{:08x}", rand::random::<u32>()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_of_a_new_stretch_lie_behind_what_was_there_in_whole_ticks() {
        let at = MediaTime::from_millis;
        assert_eq!(behind(MediaTime::ZERO, at(300)), Duration::ZERO, "nothing was there");
        assert_eq!(behind(at(5000), at(5000)), Duration::ZERO);
        assert_eq!(behind(at(5000), at(7000)), Duration::ZERO, "times go on by themselves");
        for (end, start) in [(5000, 0), (16_633, 21), (5000, 4999), (20_000, -400)] {
            let shift = behind(at(end), at(start));
            assert!(
                at(start) + shift >= at(end) && at(start) + shift < at(end + 40),
                "{end} {start} {shift:?}"
            );
            for rate in [8000, 11_025, 22_050, 32_000, 44_100, 48_000, 90_000] {
                assert_eq!(shift.as_nanos() * rate % 1_000_000_000, 0, "{shift:?} at {rate}");
            }
        }
    }
}
