//! The bridge from frames to compatible frames (restreams): turns video that is not H.264 into H.264, and
//! sound that is not AAC into AAC.
//!
//! What is H.264 and AAC passes unchanged. Owns disposable pipelines, one a track that needs it, for each
//! epoch of the frame lane. Frames keep their times, so sound and pictures stay together.

use super::assembler::{EpochAssembler, Step};
use super::caps::TrackConfig;
use super::decode::{buffer, decoding};
use super::encoded::{Encoded, QUEUE, Unit, collect};
use super::encoder::{self, KeyframeClock, Progress, force_keyframe};
use super::graph::{Graph, failure};
use super::sound::{self, aac_track, needs_aac};
use super::{PipelineError, Pipelines};
use crate::media::{Carriage, Epoch, Frame, MediaKind, Output, Tracks, VideoTrack, VideoTranscoding};
use crate::stream::{BridgeWriter, CompatibleFrame, Stream};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, watch};
use tracing::info;

const TRANSCODER: &str = "frames-to-h264-frames.launch";

/// Fills the compatible lane from the frame lane until the stream ends or a pipeline fails. Dropping the
/// future stops the bridge.
pub(super) async fn run(
    pipelines: &Pipelines,
    stream: &Arc<Stream>,
    transcoding: VideoTranscoding,
) -> Result<(), PipelineError> {
    let mut frames = stream.subscribe::<Frame>();
    let writer = stream.bridge::<CompatibleFrame>();
    let Some(mut frame) = frames.recv().await else {
        return Ok(());
    };
    loop {
        // One epoch of the frame lane after the other.
        let source = frame.epoch.clone();
        let way = match &source.tracks.video {
            None => Ok(Carriage::AsItIs),
            Some(video) => transcoding.carriage(video.codec, Output::Restream),
        };
        let mut session = match way {
            Ok(way) => Some(Session::begin(pipelines, stream, &writer, &source, way)?),
            Err(_) => None, // a restream says why
        };
        while frame.epoch.id == source.id {
            if let Some(session) = &mut session {
                session.take(&writer, &frame)?;
            }
            frame = loop {
                tokio::select! {
                    biased;
                    result = attend(session.as_mut(), &writer) => result?,
                    next = frames.recv() => match next {
                        Some(next) => break next,
                        None => return Ok(()),
                    },
                }
            };
        }
    }
}

/// Writes the next thing that comes out of a pipeline. Cancel safe.
async fn attend(
    session: Option<&mut Session>,
    writer: &BridgeWriter<CompatibleFrame>,
) -> Result<(), PipelineError> {
    match session {
        Some(session) => session.attend(writer).await,
        None => std::future::pending().await,
    }
}

/// One epoch of the frame lane.
struct Session {
    source: Arc<Epoch>,
    target: Option<Arc<Epoch>>,
    video: Option<Video>,
    audio: Option<sound::Transcoder>,
    /// Where video is transcoded, the tracks are known when its encoder has begun.
    epochs: Option<EpochAssembler>,
    encoded: mpsc::Receiver<Encoded>,
    failed: watch::Receiver<Option<PipelineError>>,
    // Kept, so that the receivers above never see a closed channel, whatever tracks there are.
    _channels: (mpsc::Sender<Encoded>, watch::Sender<Option<PipelineError>>),
}

/// The pipeline of the pictures.
struct Video {
    graph: Graph,
    keyframes: KeyframeClock,
    progress: Progress,
    /// The pipeline has been given its first keyframe.
    started: bool,
}

impl Session {
    fn begin(
        pipelines: &Pipelines,
        stream: &Stream,
        writer: &BridgeWriter<CompatibleFrame>,
        source: &Arc<Epoch>,
        way: Carriage,
    ) -> Result<Self, PipelineError> {
        let (sender, encoded) = mpsc::channel(QUEUE);
        let (failed_sender, failed) = watch::channel(None);
        let stream = stream.name();
        let mut tracks = Tracks::clone(&source.tracks);
        let mut audio = None;
        if let Some(track) = source.tracks.audio.as_ref().filter(|track| needs_aac(track.codec)) {
            info!(%stream, codec = %track.codec, "The sound is encoded again as AAC for restreams.");
            audio = Some(sound::Transcoder::begin(
                pipelines,
                track,
                None,
                sender.clone(),
                failed_sender.clone(),
            )?);
            tracks.audio = Some(aac_track());
        }
        let (mut video, mut epochs, mut target) = (None, None, None);
        match (&source.tracks.video, way) {
            (Some(track), Carriage::Transcoded) => {
                info!(%stream, codec = %track.codec, "The video is encoded again as H.264 for restreams.");
                video = Some(Video::begin(pipelines, track, sender.clone(), failed_sender.clone())?);
                let mut assembler = EpochAssembler::new(true, tracks.audio.is_some());
                if let Some(audio) = tracks.audio {
                    assembler.configured(TrackConfig::Audio(audio));
                }
                epochs = Some(assembler);
            }
            _ => target = Some(writer.begin_epoch(tracks, source.wall_origin)),
        }
        let (source, _channels) = (source.clone(), (sender, failed_sender));
        Ok(Self { source, target, video, audio, epochs, encoded, failed, _channels })
    }

    fn take(&mut self, writer: &BridgeWriter<CompatibleFrame>, frame: &Frame) -> Result<(), PipelineError> {
        match (frame.kind, &self.audio, &mut self.video) {
            (MediaKind::Audio, Some(audio), _) => audio.push(frame),
            (MediaKind::Video, _, Some(video)) => video.take(frame),
            _ => {
                self.pass(writer, frame);
                Ok(())
            }
        }
    }

    /// A frame that needs no pipeline.
    fn pass(&mut self, writer: &BridgeWriter<CompatibleFrame>, frame: &Frame) {
        if let Some(epochs) = &mut self.epochs {
            let (kind, pts, keyframe, data) = (frame.kind, frame.pts, frame.keyframe, frame.data.clone());
            let steps = epochs.unit(Instant::now(), Unit { kind, pts, keyframe, data });
            self.follow(writer, steps);
        } else if let Some(epoch) = &self.target {
            writer.write(CompatibleFrame(Frame { epoch: epoch.clone(), ..frame.clone() }));
        }
    }

    async fn attend(&mut self, writer: &BridgeWriter<CompatibleFrame>) -> Result<(), PipelineError> {
        let encoded = tokio::select! {
            biased;
            error = failure(&mut self.failed) => return Err(error),
            Some(encoded) = self.encoded.recv() => encoded,
            else => return std::future::pending().await,
        };
        if let (Encoded::Unit(unit), Some(video)) = (&encoded, &mut self.video) {
            video.progress.came_out(unit);
        }
        let steps = match (encoded, &mut self.epochs) {
            // Known beforehand.
            (Encoded::Configured(TrackConfig::Audio(_)), _) | (Encoded::Configured(_), None) => vec![],
            (Encoded::Configured(config), Some(epochs)) => epochs.configured(config),
            (Encoded::Unit(unit), Some(epochs)) => epochs.unit(Instant::now(), unit),
            (Encoded::Unit(unit), None) => vec![Step::Write(unit)],
        };
        self.follow(writer, steps);
        Ok(())
    }

    fn follow(&mut self, writer: &BridgeWriter<CompatibleFrame>, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Begin(tracks) => {
                    self.target = Some(writer.begin_epoch(tracks, self.source.wall_origin));
                }
                Step::Write(unit) => {
                    let Some(epoch) = self.target.clone() else { continue };
                    let Unit { kind, pts, keyframe, data } = unit;
                    writer.write(CompatibleFrame(Frame { epoch, kind, pts, dts: pts, keyframe, data }));
                }
                Step::AskForKeyframe => {} // the encoder begins a new configuration with one
            }
        }
    }
}

impl Video {
    fn begin(
        pipelines: &Pipelines,
        track: &VideoTrack,
        encoded: mpsc::Sender<Encoded>,
        failed: watch::Sender<Option<PipelineError>>,
    ) -> Result<Self, PipelineError> {
        let graph = decoding(pipelines, TRANSCODER, track, &failed)?;
        collect(&graph, MediaKind::Video, 0, encoded, failed);
        encoder::follow_resolution(&graph);
        graph.start()?;
        let (keyframes, progress) = (KeyframeClock::default(), Progress::new(true));
        Ok(Self { graph, keyframes, progress, started: false })
    }

    fn take(&mut self, frame: &Frame) -> Result<(), PipelineError> {
        self.started |= frame.keyframe;
        if !self.started {
            return Ok(());
        }
        if self.keyframes.is_due(frame.pts) {
            self.graph.send(force_keyframe());
        }
        let buffer = buffer(frame)?;
        self.progress.put_in(frame.pts);
        self.progress.check(TRANSCODER)?;
        self.graph.push(buffer)
    }
}
