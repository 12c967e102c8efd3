//! The task that turns one stream into HLS: frames → muxers → renditions.
//!
//! One task owns all of a stream's state. Muxers are disposable: a new epoch, lost media or a failure
//! ends them, with their drained last parts, and begins a new stretch in all renditions.

use super::HlsSettings;
use super::live::{Live, Numbers, Programme, RenditionView};
use super::multivariant::Variant;
use super::pictures::PictureClock;
use super::rendition::Rendition;
use super::segment::Stretch;
use super::text::Text;
use crate::media::{Epoch, Frame, MediaKind, MediaTime};
use crate::pipeline::{AacSound, MuxOutput, MuxSettings, MuxTrack, MuxedPart, Muxer, Pace, Pipelines};
use crate::stream::{LaneWatch, Media, Subscriber};
use bytes::Bytes;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Outputs of a muxer that may wait; the task takes them at once, so only a burst of a cached group of
/// pictures needs more than one.
const MUXER_QUEUE: usize = 256;
/// A muxer that has not drained by then is given up, with its last part.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);
/// Frames taken in a row, before what the muxers have done is looked at.
const FRAMES_AT_ONCE: usize = 128;
/// Frames that may wait in the lane for a part to become complete.
const MOST_FRAMES_ASLEEP: usize = 256;
/// Frames taken after the end: more than a lane holds, and not without end if somebody goes on sending.
const MOST_FRAMES_AT_THE_END: usize = 2048;
/// A jump in a track's decoding times beyond this is a hole.
const HOLE: Duration = Duration::from_secs(2);
/// Between a muxer's failure and the next try: doubled with each failure in a row.
const BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(8);
/// 2020-01-01T00:00:00Z: sequence numbers count seconds from here, to stay below 2^31 for long.
const NUMBERS_BEGIN: Duration = Duration::from_secs(1_577_836_800);

/// Why segmenting stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The stream has ended, or `cancel` came; the playlists have ended.
    Ended,
    /// Nobody asks for the stream any more; the playlists are taken back.
    Unwanted,
}

/// Runs until the stream ends, `cancel` is cancelled or nobody wants it. Sequence numbers are at least
/// those of `first`.
pub(super) async fn run(
    settings: &HlsSettings,
    pipelines: &Pipelines,
    live: &Live,
    first: Numbers,
    cancel: &CancellationToken,
) -> Stop {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let first_sequence = first.sequence.max(now.saturating_sub(NUMBERS_BEGIN).as_secs());
    let mut packager = Packager {
        settings,
        pipelines,
        live,
        first_sequence,
        there: MediaTime::ZERO,
        discontinuity: first.discontinuity,
        video: None,
        audio: None,
        stretch: None,
        failures: 0,
        not_before: Instant::now(),
        multivariant: None,
    };
    let mut frames = live.stream().subscribe::<Frame>();
    packager.there = frames.last_of_backlog().map_or(MediaTime::ZERO, |last| last.dts);
    let mut lanes = live.stream().watch_lanes();
    info!(stream = %live.stream().name(), "HLS output started.");
    let mut publisher = *lanes.borrow_and_update();
    let mut lost = 0;
    loop {
        let is_due = packager.pace();
        tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            (kind, output) = next_output(&mut packager.stretch) => packager.take_output(kind, output).await,
            more = frames.due(is_due) => {
              if !more { break }
              for _ in 0..FRAMES_AT_ONCE {
                let Some(frame) = frames.try_recv() else { break };
                if lost != frames.lost() {
                    warn!(stream = %live.stream().name(), frames = frames.lost() - lost, "HLS output lagged.");
                    lost = frames.lost();
                    packager.end_stretch().await;
                }
                packager.take_frame(&frame).await;
                if !settings.always && frame.starts_group() && live.is_unwanted(Instant::now().into_std()) {
                    packager.end_stretch().await;
                    live.rest();
                    info!(stream = %live.stream().name(), "HLS output rests until somebody asks for it.");
                    return Stop::Unwanted;
                }
              }
            }
            Ok(now) = publisher_change(&mut lanes, publisher) => {
                publisher = now;
                // Where a hold fills the lane, its first frame has ended the publisher's stretch.
                if publisher.native.is_none() && !publisher.held {
                    packager.publisher_left(&mut frames).await;
                }
            }
        }
    }
    packager.publisher_left(&mut frames).await; // what it had sent when `cancel` came
    packager.end().await;
    info!(stream = %live.stream().name(), "HLS output ended.");
    Stop::Ended
}

/// Waits until another publisher, or none, is there. Cancel safe.
async fn publisher_change(
    lanes: &mut watch::Receiver<LaneWatch>,
    known: LaneWatch,
) -> Result<LaneWatch, watch::error::RecvError> {
    let differs = |now: &LaneWatch| (now.native, now.generation) != (known.native, known.generation);
    lanes.wait_for(differs).await.map(|now| *now)
}

struct Packager<'a> {
    settings: &'a HlsSettings,
    pipelines: &'a Pipelines,
    live: &'a Live,
    first_sequence: u64,
    /// Where the media end that were there before this began.
    there: MediaTime,
    discontinuity: u64,
    video: Option<Rendition>,
    audio: Option<Rendition>,
    stretch: Option<Running>,
    failures: u32,
    not_before: Instant,
    multivariant: Option<Text>,
}

/// The muxers of one epoch.
struct Running {
    epoch: Arc<Epoch>,
    tracks: Vec<Track>,
    pictures: PictureClock,
}

struct Track {
    kind: MediaKind,
    /// `None` once it is being ended.
    muxer: Option<Muxer>,
    outputs: mpsc::Receiver<MuxOutput>,
    /// Sound that is not AAC becomes it on the way to the muxer.
    transcoder: Option<AacSound>,
    init: Option<Bytes>,
    /// The discontinuity sequence number its rendition was told.
    begun: Option<u64>,
    next_start: Option<MediaTime>,
    last_dts: Option<MediaTime>,
}

async fn next_output(stretch: &mut Option<Running>) -> (MediaKind, Option<MuxOutput>) {
    let Some(stretch) = stretch else { return std::future::pending().await };
    poll_fn(|context| {
        for track in &mut stretch.tracks {
            if let Poll::Ready(output) = track.outputs.poll_recv(context) {
                return Poll::Ready((track.kind, output));
            }
        }
        Poll::Pending
    })
    .await
}

impl Packager<'_> {
    /// Which of the frames to come are worth waking up for: those with which a muxer can complete a part,
    /// and whatever needs a decision.
    fn pace(&self) -> impl FnMut(&Frame) -> bool + Send + 'static {
        let mut paces: Vec<(MediaKind, Pace)> = Vec::new();
        let (mut epoch, mut transcodes) = (None, false);
        if let Some(stretch) = &self.stretch {
            transcodes = stretch.tracks.iter().any(|track| track.transcoder.is_some());
            epoch = Some(stretch.epoch.id);
            let muxers = stretch.tracks.iter().filter_map(|track| Some((track.kind, track.muxer.as_ref()?)));
            paces.extend(muxers.map(|(kind, muxer)| (kind, muxer.pace())));
        }
        let mut passed = 0;
        move |frame| {
            passed += 1;
            let pace = paces.iter_mut().find(|(kind, _)| *kind == frame.kind);
            // Frames that become others on their way have other times.
            let due = pace.is_some_and(|(_, pace)| pace.is_due(frame))
                || (transcodes && frame.kind == MediaKind::Audio);
            due || epoch != Some(frame.epoch.id) || passed >= MOST_FRAMES_ASLEEP
        }
    }

    async fn take_frame(&mut self, frame: &Frame) {
        if self.stretch.as_ref().is_some_and(|stretch| frame.epoch.id < stretch.epoch.id) {
            return; // a straggler of the epoch before
        }
        if self
            .stretch
            .as_ref()
            .is_some_and(|stretch| stretch.epoch.id != frame.epoch.id || stretch.jumps(frame))
        {
            self.end_stretch().await;
        }
        if self.stretch.is_none() {
            if !frame.starts_group() || Instant::now() < self.not_before {
                return;
            }
            if let Err(error) = self.begin_stretch(frame.epoch.clone()) {
                self.failed(&error).await;
                return;
            }
        }
        let Some(stretch) = &mut self.stretch else { return };
        if frame.kind == MediaKind::Video {
            stretch.pictures.count(frame.dts);
        }
        let Some(track) = stretch.track(frame.kind) else { return };
        track.last_dts = Some(frame.dts);
        let pushed = track.push(frame);
        if let Err(error) = pushed {
            self.failed(&error).await;
        }
    }

    async fn take_output(&mut self, kind: MediaKind, output: Option<MuxOutput>) {
        match output {
            Some(MuxOutput::Init(init)) => self.take_init(kind, init),
            Some(MuxOutput::Part(part)) => self.take_part(kind, part),
            Some(MuxOutput::Failed(error)) => self.failed(&error).await,
            Some(MuxOutput::Finished) | None => self.failed(&"the muxer ended by itself").await,
        }
    }

    fn take_init(&mut self, kind: MediaKind, init: Bytes) {
        let stretch = self.stretch.as_mut();
        let Some(track) = stretch.and_then(|stretch| stretch.track(kind)) else { return };
        if track.init.as_ref().is_some_and(|present| *present != init) {
            self.discontinuity += 1; // shows in each rendition with its next part
        }
        track.init = Some(init);
    }

    fn take_part(&mut self, kind: MediaKind, part: MuxedPart) {
        let now = Instant::now().into_std();
        let tolerance = self.live.limits().part_target;
        let mut discontinuity = self.discontinuity;
        let Some(stretch) = &mut self.stretch else { return };
        let wall_origin = stretch.epoch.wall_origin;
        let Some(track) = stretch.track(kind) else { return };
        let Some(init) = track.init.clone() else { return };
        let expected = track.next_start.replace(part.start + part.duration).unwrap_or(part.start);
        if part.start.since(expected).max(expected.since(part.start)) > tolerance
            && track.begun == Some(discontinuity)
        {
            debug!(stream = %self.live.stream().name(), %kind, ?expected, start = ?part.start, "Media are missing.");
            discontinuity += 1;
        }
        let begins = track.begun != Some(discontinuity);
        track.begun = Some(discontinuity);
        self.discontinuity = discontinuity;
        let (rendition, sibling) = match kind {
            MediaKind::Video => (&mut self.video, &self.audio),
            MediaKind::Audio => (&mut self.audio, &self.video),
        };
        let Some(rendition) = rendition else { return };
        if begins {
            rendition.begin(now, Stretch { discontinuity, init, wall_origin });
        }
        let grown = rendition.push(now, part, sibling.as_ref().and_then(Rendition::report));
        self.failures = 0;
        self.live.set_next_numbers(Numbers { sequence: rendition.next_sequence(), discontinuity });
        if grown {
            self.announce();
        }
        self.live.count_viewers(now);
    }

    fn begin_stretch(&mut self, epoch: Arc<Epoch>) -> Result<(), crate::pipeline::PipelineError> {
        let tracks = &epoch.tracks;
        let video = tracks.video.as_ref().map(|track| (MediaKind::Video, MuxTrack::Video(track)));
        let (mut transcoder, mut sound) = (None, tracks.audio.clone());
        if let Some((aac, track)) =
            sound.as_ref().map(|track| AacSound::begin(self.pipelines, track)).transpose()?.flatten()
        {
            (transcoder, sound) = (Some(aac), Some(track));
        }
        let audio = sound.as_ref().map(|track| (MediaKind::Audio, MuxTrack::Audio(track)));
        let mut started = Vec::new();
        for (kind, track) in video.into_iter().chain(audio) {
            let settings = MuxSettings {
                part_duration: self.live.limits().longest_part(),
                segment_duration: self.settings.segment_duration,
            };
            let (sender, outputs) = mpsc::channel(MUXER_QUEUE);
            let muxer = Muxer::start(self.pipelines, track, settings, sender)?;
            started.push(Track {
                kind,
                muxer: Some(muxer),
                outputs,
                transcoder: if kind == MediaKind::Audio { transcoder.take() } else { None },
                init: None,
                begun: None,
                next_start: None,
                last_dts: None,
            });
        }
        debug!(stream = %self.live.stream().name(), epoch = epoch.id, "HLS stretch begins.");
        self.discontinuity += 1;
        let (limits, first, now) = (self.live.limits(), self.first_sequence, Instant::now().into_std());
        for (kind, slot) in [(MediaKind::Video, &mut self.video), (MediaKind::Audio, &mut self.audio)] {
            if !tracks.has(kind) {
                // A track that is gone for good, as far as anybody knows.
                if let Some(rendition) = slot {
                    rendition.end(now);
                }
                continue;
            }
            let ended = slot.as_ref().is_some_and(Rendition::ended);
            if slot.is_none() || ended {
                let sequence = slot.as_ref().map_or(first, Rendition::next_sequence).max(first);
                *slot = Some(Rendition::new(kind, run_token(), limits, sequence, self.there));
            }
        }
        self.stretch = Some(Running { epoch, tracks: started, pictures: PictureClock::default() });
        Ok(())
    }

    /// Ends the muxers; what they still hold becomes the last parts of the stretch.
    async fn end_stretch(&mut self) {
        let Some(stretch) = &mut self.stretch else { return };
        let mut drained = Vec::new();
        for track in &mut stretch.tracks {
            let Some(muxer) = track.end(&stretch.epoch) else { continue };
            let drain = async {
                muxer.finish().await;
                while let Some(output @ (MuxOutput::Init(_) | MuxOutput::Part(_))) =
                    track.outputs.recv().await
                {
                    drained.push((track.kind, output));
                }
            };
            if timeout(DRAIN_PATIENCE, drain).await.is_err() {
                warn!(stream = %self.live.stream().name(), kind = %track.kind, "A muxer did not drain.");
            }
        }
        for (kind, output) in drained {
            match output {
                MuxOutput::Init(init) => self.take_init(kind, init),
                MuxOutput::Part(part) => self.take_part(kind, part),
                MuxOutput::Finished | MuxOutput::Failed(_) => {}
            }
        }
        self.stretch = None;
    }

    /// Takes what the publisher sent last, then ends the stretch: its last part should not wait for the
    /// publisher's return.
    async fn publisher_left(&mut self, frames: &mut Subscriber<Frame>) {
        for _ in 0..MOST_FRAMES_AT_THE_END {
            let Some(frame) = frames.try_recv() else { break };
            self.take_frame(&frame).await;
        }
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

    /// Tells readers which playlists there are, once all of them can be played.
    fn announce(&mut self) {
        let Some(stretch) = &self.stretch else { return };
        let tracks = &stretch.epoch.tracks;
        let present =
            || self.video.iter().chain(&self.audio).filter(|rendition| tracks.has(rendition.kind()));
        if !present().all(Rendition::playable) {
            return;
        }
        let Some(bandwidth) = present().map(Rendition::bandwidth).reduce(|one, other| one.plus(other)) else {
            return;
        };
        let variant = Variant {
            video: tracks.video.as_ref(),
            audio: tracks.audio.as_ref(),
            frame_rate: stretch.pictures.rate(),
            bandwidth,
        };
        self.multivariant = Some(variant.write().into());
        self.live.publish(self.programme(false));
    }

    fn programme(&self, ended: bool) -> Programme {
        let view = |rendition: &Option<Rendition>| {
            rendition
                .as_ref()
                .map(|rendition| RenditionView { run: rendition.run(), states: rendition.subscribe() })
        };
        Programme {
            multivariant: self.multivariant.clone(),
            video: view(&self.video),
            audio: view(&self.audio),
            ended,
        }
    }

    async fn end(mut self) {
        self.end_stretch().await;
        let now = Instant::now().into_std();
        for rendition in self.video.iter_mut().chain(&mut self.audio) {
            rendition.end(now);
        }
        self.live.publish(self.programme(true));
        self.live.stream().statistics().set_hls_readers(0);
    }
}

impl Track {
    fn push(&mut self, frame: &Frame) -> Result<(), crate::pipeline::PipelineError> {
        let Some(muxer) = &self.muxer else { return Ok(()) };
        match &mut self.transcoder {
            Some(transcoder) => transcoder.push(frame)?.iter().try_for_each(|frame| muxer.push(frame)),
            None => muxer.push(frame),
        }
    }

    /// The muxer, if it has not been ended, with all that this track has for it.
    fn end(&mut self, epoch: &Arc<Epoch>) -> Option<Muxer> {
        let muxer = self.muxer.take()?;
        if let Some(transcoder) = &mut self.transcoder {
            // What fails now has failed before, and was told then.
            let inside = transcoder.finish(epoch).unwrap_or_default();
            let _ = inside.iter().try_for_each(|frame| muxer.push(frame));
        }
        Some(muxer)
    }
}

impl Running {
    fn track(&mut self, kind: MediaKind) -> Option<&mut Track> {
        self.tracks.iter_mut().find(|track| track.kind == kind)
    }

    /// Whether media are missing before `frame`, or its time has gone back.
    fn jumps(&self, frame: &Frame) -> bool {
        let track = self.tracks.iter().find(|track| track.kind == frame.kind);
        track
            .and_then(|track| track.last_dts)
            .is_some_and(|last| frame.dts < last || frame.dts.since(last) > HOLE)
    }
}

/// A token that tells the media names of this rendition from those of any other before or after it.
fn run_token() -> Arc<str> {
    format!("{:08x}", rand::random::<u32>()).into()
}
