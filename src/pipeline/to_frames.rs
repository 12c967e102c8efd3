//! The bridge from packets to frames (WHIP to HLS and restreams): depacketises video, turns VP8 into H.264
//! and, unless Opus is wanted as it is, Opus into AAC.
//!
//! Owns one disposable pipeline a track for each epoch of the packet lane. Packets reach GStreamer in
//! order and with their times on the stream's timeline, so no jitter buffer and no clock is involved.
//! Of simulcast layers it reads the best that is active.

use super::assembler::{EpochAssembler, Step};
use super::beat::Beat;
use super::bridge::Told;
use super::encoded::{Encoded, QUEUE, VOAACENC_DELAY, collect};
use super::encoder::{self, KeyframeClock, Progress};
use super::feed::{Depacketizing, Feed, PICTURE_WAIT, SOUND_WAIT};
use super::graph::{Graph, fail, failure};
use super::{PipelineError, Pipelines, caps};
use crate::media::{Codec, Epoch, Frame, MediaKind, MediaTime, OpusFrames, Output, PacketBatch, Transcoding};
use crate::stream::{BridgeWriter, LayerInfo, Stream, Subscriber};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, watch};
use tracing::{debug, warn};

/// The pipeline that turns VP8 into H.264.
const TRANSCODER: &str = "vp8-packets-to-h264-frames.launch";
/// Between two wishes for a keyframe.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Browsers send keyframes only when asked; segments begin with one. So one is wished for when the
/// last is so old, in media time.
const KEYFRAME_INTERVAL: Duration = Duration::from_millis(1950);
/// Batches taken in a row, before others have a turn on the thread.
const BATCHES_AT_ONCE: usize = 16;
/// A cached group of pictures longer than this is not worth catching up with: a keyframe is faster.
const MAX_BACKLOG: Duration = Duration::from_secs(3);

/// Fills the frame lane from the packet lane until the stream ends or a pipeline fails. Dropping the
/// future stops the bridge.
pub(super) async fn run(
    pipelines: &Pipelines,
    stream: &Arc<Stream>,
    transcoding: Transcoding,
    told: &Told,
) -> Result<(), PipelineError> {
    let mut packets = stream.subscribe::<PacketBatch>();
    let mut bridge = Bridge {
        writer: stream.bridge::<Frame>(),
        keyframes: KeyframeWishes { stream: stream.clone(), asked: None, waiting: None, last: None },
        epoch: None,
    };
    let mut next = fresh_start(&mut packets);
    if next.is_none() {
        bridge.keyframes.ask(Wish::Any);
    }
    // The first packets wait for nothing but their keyframe.
    while next.is_none() {
        match tokio::time::timeout(ASK_EVERY, packets.recv()).await {
            Ok(Some(batch)) => next = Some(batch),
            Ok(None) => return Ok(()),
            Err(_) => bridge.keyframes.ask(Wish::Any),
        }
    }
    let Some(first) = next else {
        return Ok(());
    };
    let mut session = Session::begin(pipelines, &first.epoch, transcoding, told)?;
    bridge.take(&mut session, &first)?;
    bridge.hand_over(&mut session);
    let mut quiet = true;
    let mut ask_again = tokio::time::interval(ASK_EVERY);
    loop {
        let deadline = session.deadline().into_iter().chain(bridge.keyframes.deadline()).min();
        let lacks_video = session.lacks_video();
        tokio::select! {
            biased;
            error = failure(&mut session.failed) => return Err(error),
            Some(encoded) = session.encoded.recv() => bridge.came_out(&mut session, encoded),
            _ = ask_again.tick(), if lacks_video => bridge.keyframes.ask(Wish::Any),
            () = session.keyframe_wanted.notified() => bridge.keyframes.ask(Wish::Any),
            () = sleep_until(deadline) => {
                if let Some(wish) = session.pump()? {
                    bridge.keyframes.ask(wish);
                }
                bridge.keyframes.tick();
                let steps = session.epochs.tick(Instant::now());
                bridge.follow(steps, &session);
            }
            more = more(&mut packets, pipelines.beat(), quiet) => {
                if !more {
                    return Ok(());
                }
                let mut taken = 0;
                while taken < BATCHES_AT_ONCE && let Some(batch) = packets.try_recv() {
                    if batch.epoch.id != session.source.id {
                        debug!(stream = %stream.name(), "The packets' configuration changed.");
                        session.finish();
                        bridge.hand_over(&mut session);
                        session = Session::begin(pipelines, &batch.epoch, transcoding, told)?;
                    }
                    bridge.take(&mut session, &batch)?;
                    taken += 1;
                }
                bridge.hand_over(&mut session);
                if taken == BATCHES_AT_ONCE {
                    tokio::task::yield_now().await;
                }
                quiet = taken == 0 || taken == BATCHES_AT_ONCE;
            }
        }
    }
}

/// Waits for the next beat; where it is `quiet`, or there is more than was taken, for something to take. False
/// when the stream has ended. Cancel safe.
async fn more(packets: &mut Subscriber<PacketBatch>, beat: Beat, quiet: bool) -> bool {
    if quiet {
        return packets.due(|_| true).await;
    }
    tokio::time::sleep_until(beat.after(Instant::now()).into()).await;
    true
}

/// Where to begin: the cached group of pictures, unless it is too long. `None`: at the next keyframe.
fn fresh_start(packets: &mut Subscriber<PacketBatch>) -> Option<Arc<PacketBatch>> {
    let backlog = packets.backlog();
    if backlog == 0 {
        return None;
    }
    let first = packets.try_recv()?;
    let start = first.packets.first()?.pts;
    let stale = || {
        first.epoch.wall_origin.elapsed().is_ok_and(|age| {
            let shown = Duration::try_from_secs_f64(start.as_secs_f64()).unwrap_or_default();
            age.saturating_sub(shown) > MAX_BACKLOG
        })
    };
    if first.epoch.tracks.video.is_none() || !stale() {
        return Some(first);
    }
    while packets.backlog() > 0 {
        packets.try_recv()?;
    }
    // Live packets follow: the first that a decoder can start with.
    std::iter::from_fn(|| packets.try_recv())
        .find(|batch| batch.packets.first().is_some_and(|packet| packet.keyframe))
}

/// The writing side; outlives the epochs of the packet lane.
struct Bridge {
    writer: BridgeWriter<Frame>,
    keyframes: KeyframeWishes,
    epoch: Option<Arc<Epoch>>,
}

impl Bridge {
    fn take(&mut self, session: &mut Session, batch: &PacketBatch) -> Result<(), PipelineError> {
        let layers = self.writer.stream().layers();
        if let Some(wish) = session.take(batch, &layers)? {
            self.keyframes.ask(wish);
        }
        Ok(())
    }

    /// Writes all that has come out.
    fn hand_over(&mut self, session: &mut Session) {
        while let Ok(encoded) = session.encoded.try_recv() {
            self.came_out(session, encoded);
        }
    }

    fn came_out(&mut self, session: &mut Session, encoded: Encoded) {
        let steps = match encoded {
            Encoded::Configured(config) => session.epochs.configured(config),
            Encoded::Unit(unit) => {
                session.progress.came_out(&unit);
                session.epochs.unit(Instant::now(), unit)
            }
        };
        self.follow(steps, session);
    }

    fn follow(&mut self, steps: Vec<Step>, session: &Session) {
        // The encoder makes its own keyframes: the publisher's are not needed for segments.
        let follows_publisher = session.video.as_ref().is_some_and(|video| !video.transcodes());
        for step in steps {
            match step {
                Step::Begin(tracks) => {
                    self.epoch = Some(self.writer.begin_epoch(tracks, session.source.wall_origin));
                }
                Step::AskForKeyframe if !follows_publisher => {}
                Step::AskForKeyframe => self.keyframes.ask(Wish::Any),
                Step::Write(unit) => {
                    let Some(epoch) = self.epoch.clone() else {
                        continue;
                    };
                    if unit.kind == MediaKind::Video && follows_publisher {
                        self.keyframes.saw(unit.pts, unit.keyframe);
                    }
                    self.writer.write(Frame {
                        epoch,
                        kind: unit.kind,
                        pts: unit.pts,
                        dts: unit.pts,
                        keyframe: unit.keyframe,
                        data: unit.data,
                    });
                }
            }
        }
    }
}

/// Which keyframe is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// One that what is read can begin with, of whatever layer.
    Any,
    /// One of this layer, to change to it.
    Layer(u8),
}

/// Asks the publisher for keyframes, not too often.
struct KeyframeWishes {
    stream: Arc<Stream>,
    asked: Option<Instant>,
    /// A wish that came too soon after the last one.
    waiting: Option<Wish>,
    /// Presentation of the last keyframe.
    last: Option<MediaTime>,
}

impl KeyframeWishes {
    fn ask(&mut self, wish: Wish) {
        let now = Instant::now();
        if self.asked.is_some_and(|asked| now.duration_since(asked) < ASK_EVERY) {
            self.waiting = Some(wish);
            return;
        }
        (self.asked, self.waiting) = (Some(now), None);
        match wish {
            Wish::Any => self.stream.request_keyframe(),
            Wish::Layer(layer) => self.stream.request_layer_keyframe(layer),
        }
    }

    /// When a wish that came too soon is due; it is forgotten if a keyframe comes before.
    fn deadline(&self) -> Option<Instant> {
        self.asked.filter(|_| self.waiting.is_some()).map(|asked| asked + ASK_EVERY)
    }

    fn tick(&mut self) {
        if self.deadline().is_some_and(|deadline| deadline <= Instant::now())
            && let Some(wish) = self.waiting
        {
            self.ask(wish);
        }
    }

    fn saw(&mut self, pts: MediaTime, keyframe: bool) {
        if keyframe {
            (self.last, self.waiting) = (Some(pts), None);
        } else if self.waiting.is_none() && self.last.is_some_and(|last| pts.since(last) >= KEYFRAME_INTERVAL)
        {
            self.ask(Wish::Any);
        }
    }
}

/// The pipelines of one epoch of the packet lane.
struct Session {
    source: Arc<Epoch>,
    video: Option<Feed>,
    audio: Option<Feed>,
    epochs: EpochAssembler,
    progress: Progress,
    encoded: mpsc::Receiver<Encoded>,
    failed: watch::Receiver<Option<PipelineError>>,
    keyframe_wanted: Arc<Notify>,
    // Kept, so that the receivers above never see a closed channel, whatever tracks there are.
    _channels: (mpsc::Sender<Encoded>, watch::Sender<Option<PipelineError>>),
}

impl Session {
    fn begin(
        pipelines: &Pipelines,
        source: &Arc<Epoch>,
        transcoding: Transcoding,
        told: &Told,
    ) -> Result<Self, PipelineError> {
        let (sender, encoded) = mpsc::channel(QUEUE);
        let (failed_sender, failed) = watch::channel(None);
        let keyframe_wanted = Arc::new(Notify::new());
        let graph = |file, kind, delay| {
            let report = failed_sender.clone();
            let graph = Graph::build(pipelines, file, &[], move |error| {
                fail(&report, error);
            })?;
            collect(&graph, kind, delay, sender.clone(), failed_sender.clone());
            if kind == MediaKind::Video {
                graph.on_keyframe_wanted(keyframe_wanted.clone());
                encoder::follow_resolution(&graph);
            }
            graph.start()?;
            Ok::<_, PipelineError>(graph)
        };
        let video = |file| graph(file, MediaKind::Video, 0);
        let depacketizing = match source.tracks.codec(MediaKind::Video) {
            Some(Codec::Vp8) => match transcoding.video.carriage(Codec::Vp8, Output::Hls) {
                Ok(_) => Some(Depacketizing::Transcoding {
                    graph: video(TRANSCODER)?,
                    keyframes: KeyframeClock::default(),
                    timestamp: None,
                }),
                Err(reason) => {
                    told.once(reason);
                    None
                }
            },
            Some(codec) => Depacketizing::unchanged(codec, video, &sender)?,
            None => None,
        };
        let audio = match source.tracks.codec(MediaKind::Audio) {
            Some(Codec::Opus) => {
                let graph = |file, delay| {
                    graph(file, MediaKind::Audio, MediaTime::from_ticks(delay, 48_000).as_nanos())
                };
                Some(match transcoding.opus {
                    OpusFrames::Aac => {
                        let graph = graph("opus-packets-to-frames.launch", VOAACENC_DELAY)?;
                        // RFC 7587 §4.1: what is sent may be either, and is decoded as stereo.
                        graph.source().set_caps(Some(&caps::opus_in_stereo()));
                        Depacketizing::Sound(graph)
                    }
                    OpusFrames::Opus => Depacketizing::Graph(graph("opus-packets-to-opus-frames.launch", 0)?),
                })
            }
            Some(codec) => {
                warn!(%codec, "There is no bridge from packets to frames for this codec; the track is left out.");
                None
            }
            None => None,
        };
        let video = depacketizing.map(|way| Feed::new(way, PICTURE_WAIT));
        let audio = audio.map(|way| Feed::new(way, SOUND_WAIT));
        let epochs = EpochAssembler::new(video.is_some(), audio.is_some());
        let progress = Progress::new(video.as_ref().is_some_and(Feed::transcodes));
        let source = source.clone();
        Ok(Self {
            source,
            video,
            audio,
            epochs,
            progress,
            encoded,
            failed,
            keyframe_wanted,
            _channels: (sender, failed_sender),
        })
    }

    /// The packets of a batch; says whether a keyframe is needed, and of which layer if there are several.
    fn take(&mut self, batch: &PacketBatch, layers: &[LayerInfo]) -> Result<Option<Wish>, PipelineError> {
        let now = Instant::now();
        for packet in &batch.packets {
            let (feed, layers) = match packet.kind {
                MediaKind::Video => (&mut self.video, layers),
                // Sound has no layers; of its packets none is a keyframe.
                MediaKind::Audio => (&mut self.audio, &[][..]),
            };
            if let Some(feed) = feed {
                feed.take(now, packet, layers);
                if packet.kind == MediaKind::Video {
                    self.progress.put_in(packet.pts);
                }
            }
        }
        let wish = self.pump()?;
        self.progress.check(TRANSCODER)?;
        let layer = self.video.as_ref().and_then(|feed| feed.wanted_layer(layers));
        Ok(layer.map(Wish::Layer).or(wish))
    }

    /// Hands over what is in order, or given up.
    fn pump(&mut self) -> Result<Option<Wish>, PipelineError> {
        let now = Instant::now();
        // A pipeline that failed refuses what comes; why, it has told before.
        let cause = |refused| self.failed.borrow().clone().unwrap_or(refused);
        if let Some(audio) = &mut self.audio {
            audio.pump(now).map_err(cause)?;
        }
        let needs_keyframe = match &mut self.video {
            Some(video) => video.pump(now).map_err(cause)?,
            None => false,
        };
        Ok(needs_keyframe.then_some(Wish::Any))
    }

    /// No more comes of this epoch: the sound inside comes out.
    fn finish(&self) {
        if let Some(audio) = &self.audio {
            audio.finish();
        }
    }

    /// There is a video track, and it has not begun.
    fn lacks_video(&self) -> bool {
        self.video.is_some() && !self.epochs.has_video()
    }

    fn deadline(&self) -> Option<Instant> {
        let feeds = [&self.video, &self.audio].into_iter().flatten();
        feeds.filter_map(Feed::deadline).chain(self.epochs.deadline()).min()
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
