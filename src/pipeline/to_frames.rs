//! The bridge from packets to frames (WHIP to HLS and restreams): depacketises H.264 and turns Opus
//! into AAC.
//!
//! Owns one disposable pipeline a track for each epoch of the packet lane. Packets reach GStreamer in
//! order and with their times on the stream's timeline, so no jitter buffer and no clock is involved.

use super::assembler::{EpochAssembler, Step};
use super::clock::Origin;
use super::encoded::{Encoded, QUEUE, VOAACENC_DELAY, collect};
use super::graph::{Graph, fail, failure};
use super::{PipelineError, Pipelines};
use crate::media::{
    Codec, Epoch, Frame, MediaKind, MediaTime, Packet, PacketBatch, ReorderBuffer, Reordered,
};
use crate::stream::{BridgeWriter, Stream, Subscriber};
use gstreamer as gst;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, watch};
use tracing::{debug, warn};

/// A hole in the packets is waited for this long: several round trips of retransmission.
const REORDER_WAIT: Duration = Duration::from_millis(150);
/// Packets that wait behind a hole at most: a large keyframe.
const REORDER_PACKETS: usize = 1024;
/// Between two wishes for a keyframe.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Browsers send keyframes only when asked; segments begin with one. So one is wished for when the
/// last is so old, in media time.
const KEYFRAME_INTERVAL: Duration = Duration::from_millis(1950);
/// A cached group of pictures longer than this is not worth catching up with: a keyframe is faster.
const MAX_BACKLOG: Duration = Duration::from_secs(3);

/// Fills the frame lane from the packet lane until the stream ends or a pipeline fails. Dropping the
/// future stops the bridge.
pub(super) async fn run(pipelines: &Pipelines, stream: &Arc<Stream>) -> Result<(), PipelineError> {
    let mut packets = stream.subscribe::<PacketBatch>();
    let mut bridge = Bridge {
        writer: stream.bridge::<Frame>(),
        keyframes: KeyframeWishes { stream: stream.clone(), asked: None, waiting: false, last: None },
        epoch: None,
    };
    let mut next = fresh_start(&mut packets);
    if next.is_none() {
        bridge.keyframes.ask();
    }
    // The first packets wait for nothing but their keyframe.
    while next.is_none() {
        match tokio::time::timeout(ASK_EVERY, packets.recv()).await {
            Ok(Some(batch)) => next = Some(batch),
            Ok(None) => return Ok(()),
            Err(_) => bridge.keyframes.ask(),
        }
    }
    let Some(first) = next else {
        return Ok(());
    };
    let mut session = Session::begin(pipelines, &first.epoch)?;
    session.take(&first)?;
    let mut ask_again = tokio::time::interval(ASK_EVERY);
    loop {
        let deadline = session.deadline().into_iter().chain(bridge.keyframes.deadline()).min();
        let lacks_video = session.lacks_video();
        tokio::select! {
            biased;
            error = failure(&mut session.failed) => return Err(error),
            Some(encoded) = session.encoded.recv() => {
                let steps = match encoded {
                    Encoded::Configured(config) => session.epochs.configured(config),
                    Encoded::Unit(unit) => session.epochs.unit(Instant::now(), unit),
                };
                bridge.follow(steps, &session.source);
            }
            _ = ask_again.tick(), if lacks_video => bridge.keyframes.ask(),
            () = session.keyframe_wanted.notified() => bridge.keyframes.ask(),
            () = sleep_until(deadline) => {
                session.pump()?;
                bridge.keyframes.tick();
                let steps = session.epochs.tick(Instant::now());
                bridge.follow(steps, &session.source);
            }
            batch = packets.recv() => {
                let Some(batch) = batch else {
                    return Ok(());
                };
                if batch.epoch.id != session.source.id {
                    debug!(stream = %stream.name(), "The packets' configuration changed.");
                    session = Session::begin(pipelines, &batch.epoch)?;
                }
                session.take(&batch)?;
            }
        }
    }
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
    fn follow(&mut self, steps: Vec<Step>, source: &Epoch) {
        for step in steps {
            match step {
                Step::Begin(tracks) => self.epoch = Some(self.writer.begin_epoch(tracks, source.wall_origin)),
                Step::AskForKeyframe => self.keyframes.ask(),
                Step::Write(unit) => {
                    let Some(epoch) = self.epoch.clone() else {
                        continue;
                    };
                    if unit.kind == MediaKind::Video {
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

/// Asks the publisher for keyframes, not too often.
struct KeyframeWishes {
    stream: Arc<Stream>,
    asked: Option<Instant>,
    /// A wish came too soon after the last one.
    waiting: bool,
    /// Presentation of the last keyframe.
    last: Option<MediaTime>,
}

impl KeyframeWishes {
    fn ask(&mut self) {
        let now = Instant::now();
        self.waiting = self.asked.is_some_and(|asked| now.duration_since(asked) < ASK_EVERY);
        if !self.waiting {
            self.asked = Some(now);
            self.stream.request_keyframe();
        }
    }

    /// When a wish that came too soon is due; it is forgotten if a keyframe comes before.
    fn deadline(&self) -> Option<Instant> {
        self.asked.filter(|_| self.waiting).map(|asked| asked + ASK_EVERY)
    }

    fn tick(&mut self) {
        if self.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
            self.ask();
        }
    }

    fn saw(&mut self, pts: MediaTime, keyframe: bool) {
        if keyframe {
            (self.last, self.waiting) = (Some(pts), false);
        } else if !self.waiting && self.last.is_some_and(|last| pts.since(last) >= KEYFRAME_INTERVAL) {
            self.ask();
        }
    }
}

/// The pipelines of one epoch of the packet lane.
struct Session {
    source: Arc<Epoch>,
    video: Option<Feed>,
    audio: Option<Feed>,
    epochs: EpochAssembler,
    encoded: mpsc::Receiver<Encoded>,
    failed: watch::Receiver<Option<PipelineError>>,
    keyframe_wanted: Arc<Notify>,
    // Kept, so that the receivers above never see a closed channel, whatever tracks there are.
    _channels: (mpsc::Sender<Encoded>, watch::Sender<Option<PipelineError>>),
}

impl Session {
    fn begin(pipelines: &Pipelines, source: &Arc<Epoch>) -> Result<Self, PipelineError> {
        let (sender, encoded) = mpsc::channel(QUEUE);
        let (failed_sender, failed) = watch::channel(None);
        let keyframe_wanted = Arc::new(Notify::new());
        let feed = |kind, delay| {
            let file = match source.tracks.codec(kind) {
                Some(Codec::H264) => "h264-packets-to-frames.launch",
                Some(Codec::Opus) => "opus-packets-to-frames.launch",
                Some(codec) => {
                    warn!(%codec, "There is no bridge from packets to frames for this codec; the track is left out.");
                    return Ok(None);
                }
                None => return Ok(None),
            };
            let report = failed_sender.clone();
            let graph = Graph::build(pipelines, file, &[], move |error| {
                fail(&report, error);
            })?;
            collect(&graph, kind, delay, sender.clone(), failed_sender.clone());
            if kind == MediaKind::Video {
                graph.on_keyframe_wanted(keyframe_wanted.clone());
            }
            graph.start()?;
            Ok(Some(Feed { graph, reorder: ReorderBuffer::new(REORDER_WAIT, REORDER_PACKETS) }))
        };
        let video = feed(MediaKind::Video, 0)?;
        let audio = feed(MediaKind::Audio, MediaTime::from_ticks(VOAACENC_DELAY, 48_000).as_nanos())?;
        let epochs = EpochAssembler::new(video.is_some(), audio.is_some());
        let source = source.clone();
        Ok(Self {
            source,
            video,
            audio,
            epochs,
            encoded,
            failed,
            keyframe_wanted,
            _channels: (sender, failed_sender),
        })
    }

    fn take(&mut self, batch: &PacketBatch) -> Result<(), PipelineError> {
        let now = Instant::now();
        for packet in &batch.packets {
            let feed = match packet.kind {
                MediaKind::Video => &mut self.video,
                MediaKind::Audio => &mut self.audio,
            };
            if let Some(feed) = feed {
                feed.reorder.push(now, packet.clone());
            }
        }
        self.pump()
    }

    /// Hands over what is in order, or given up.
    fn pump(&mut self) -> Result<(), PipelineError> {
        let now = Instant::now();
        for feed in [&mut self.video, &mut self.audio].into_iter().flatten() {
            while let Some(next) = feed.reorder.pop(now) {
                match next {
                    Reordered::Packet(packet) => feed.graph.push(rtp(&packet)?)?,
                    // The depacketiser sees it in the sequence numbers, drops what depends on it and
                    // wishes for a keyframe.
                    Reordered::Lost(packets) => debug!(packets, file = feed.graph.file(), "Packets lost."),
                }
            }
        }
        Ok(())
    }

    /// There is a video track, and it has not begun.
    fn lacks_video(&self) -> bool {
        self.video.is_some() && !self.epochs.has_video()
    }

    fn deadline(&self) -> Option<Instant> {
        let feeds = [&self.video, &self.audio].into_iter().flatten();
        feeds.filter_map(|feed| feed.reorder.deadline()).chain(self.epochs.deadline()).min()
    }
}

/// One track's way into its pipeline.
struct Feed {
    graph: Graph,
    reorder: ReorderBuffer,
}

/// The packet with a header again, RFC 3550 §5.1. The payload is shared.
fn rtp(packet: &Packet) -> Result<gst::Buffer, PipelineError> {
    const VERSION: u8 = 2 << 6;
    let payload_type = match packet.kind {
        MediaKind::Video => 96,
        MediaKind::Audio => 111,
    };
    let mut header = [0u8; 12];
    header[0] = VERSION;
    header[1] = payload_type | if packet.marker { 0x80 } else { 0 };
    header[2..4].copy_from_slice(&(packet.sequence as u16).to_be_bytes());
    header[4..8].copy_from_slice(&packet.timestamp.to_be_bytes());
    header[8..12].copy_from_slice(&1u32.to_be_bytes());
    let mut buffer = gst::Buffer::from_slice(header);
    if let Some(buffer) = buffer.get_mut() {
        buffer.append_memory(gst::Memory::from_slice(packet.payload.clone()));
        let time = Origin::INTERNAL.place(packet.pts)?;
        buffer.set_pts(time);
        buffer.set_dts(time);
    }
    Ok(buffer)
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
