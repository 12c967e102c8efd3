//! The bridge from frames to compatible frames (restreams of VP9, AV1 and H.265): turns video into H.264.
//!
//! Sound, and video that is H.264, pass unchanged. Owns one disposable pipeline for each epoch of the frame
//! lane that needs it. Frames keep their times, so sound and pictures stay together.

use super::assembler::{EpochAssembler, Step};
use super::caps::{self, TrackConfig};
use super::clock::Origin;
use super::encoded::{Encoded, QUEUE, Unit, collect};
use super::encoder::{self, KeyframeClock, Progress, force_keyframe};
use super::graph::{Graph, fail, failure};
use super::{PipelineError, Pipelines};
use crate::media::{Carriage, Epoch, Frame, MediaKind, Output, VideoTrack, VideoTranscoding};
use crate::stream::{BridgeWriter, CompatibleFrame, Stream};
use gstreamer as gst;
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
        let way = match &frame.epoch.tracks.video {
            None => Ok(Carriage::AsItIs),
            Some(video) => transcoding.carriage(video.codec, Output::Restream),
        };
        let source = frame.epoch.clone();
        let mut transcoder = match (way, &source.tracks.video) {
            (Ok(Carriage::Transcoded), Some(video)) => {
                info!(stream = %stream.name(), codec = %video.codec, "The video is encoded again as H.264 for restreams.");
                Some(Transcoder::begin(pipelines, &source, video)?)
            }
            _ => None,
        };
        let passing = matches!(way, Ok(Carriage::AsItIs))
            .then(|| writer.begin_epoch(source.tracks.clone(), source.wall_origin));
        while frame.epoch.id == source.id {
            if let Some(transcoder) = &mut transcoder {
                transcoder.take(&writer, &frame)?;
            } else if let Some(epoch) = &passing {
                writer.write(CompatibleFrame(Frame { epoch: epoch.clone(), ..(*frame).clone() }));
            }
            frame = loop {
                tokio::select! {
                    biased;
                    result = attend(transcoder.as_mut(), &writer) => result?,
                    next = frames.recv() => match next {
                        Some(next) => break next,
                        None => return Ok(()),
                    },
                }
            };
        }
    }
}

/// Writes the next thing that comes out of the transcoder. Cancel safe.
async fn attend(
    transcoder: Option<&mut Transcoder>,
    writer: &BridgeWriter<CompatibleFrame>,
) -> Result<(), PipelineError> {
    match transcoder {
        Some(transcoder) => transcoder.attend(writer).await,
        None => std::future::pending().await,
    }
}

/// The pipeline of one epoch of the frame lane.
struct Transcoder {
    source: Arc<Epoch>,
    target: Option<Arc<Epoch>>,
    graph: Graph,
    epochs: EpochAssembler,
    keyframes: KeyframeClock,
    progress: Progress,
    /// The pipeline has been given its first keyframe.
    started: bool,
    encoded: mpsc::Receiver<Encoded>,
    failed: watch::Receiver<Option<PipelineError>>,
}

impl Transcoder {
    fn begin(pipelines: &Pipelines, source: &Arc<Epoch>, video: &VideoTrack) -> Result<Self, PipelineError> {
        let caps = caps::of_video(video, "decoded")?;
        let unsupported = PipelineError::Unsupported { codec: video.codec, purpose: "decoded" };
        let decoder = pipelines.video_decoder(video.codec).ok_or(unsupported)?;
        let (sender, encoded) = mpsc::channel(QUEUE);
        let (failed_sender, failed) = watch::channel(None);
        let report = failed_sender.clone();
        let graph = Graph::build(pipelines, TRANSCODER, &[("video_decoder", decoder)], move |error| {
            fail(&report, error);
        })?;
        graph.source().set_caps(Some(&caps));
        collect(&graph, MediaKind::Video, 0, sender, failed_sender);
        encoder::follow_resolution(&graph);
        graph.start()?;
        let mut epochs = EpochAssembler::new(true, source.tracks.audio.is_some());
        if let Some(audio) = &source.tracks.audio {
            epochs.configured(TrackConfig::Audio(audio.clone()));
        }
        Ok(Self {
            source: source.clone(),
            target: None,
            graph,
            epochs,
            keyframes: KeyframeClock::default(),
            progress: Progress::new(true),
            started: false,
            encoded,
            failed,
        })
    }

    fn take(&mut self, writer: &BridgeWriter<CompatibleFrame>, frame: &Frame) -> Result<(), PipelineError> {
        if frame.kind == MediaKind::Audio {
            let (kind, pts, keyframe, data) = (frame.kind, frame.pts, frame.keyframe, frame.data.clone());
            let steps = self.epochs.unit(Instant::now(), Unit { kind, pts, keyframe, data });
            self.follow(writer, steps);
            return Ok(());
        }
        self.started |= frame.keyframe;
        if !self.started {
            return Ok(());
        }
        if self.keyframes.is_due(frame.pts) {
            self.graph.send(force_keyframe());
        }
        let mut buffer = gst::Buffer::from_slice(frame.data.clone());
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(Origin::INTERNAL.place(frame.pts)?);
            buffer.set_dts(Origin::INTERNAL.place(frame.dts)?);
            if !frame.keyframe {
                buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
        }
        self.progress.put_in(frame.pts);
        self.progress.check(TRANSCODER)?;
        self.graph.push(buffer)
    }

    async fn attend(&mut self, writer: &BridgeWriter<CompatibleFrame>) -> Result<(), PipelineError> {
        let steps = tokio::select! {
            biased;
            error = failure(&mut self.failed) => return Err(error),
            Some(encoded) = self.encoded.recv() => match encoded {
                Encoded::Configured(config) => self.epochs.configured(config),
                Encoded::Unit(unit) => {
                    self.progress.came_out(&unit);
                    self.epochs.unit(Instant::now(), unit)
                }
            },
            else => return std::future::pending().await,
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
