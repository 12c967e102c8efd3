//! The rungs of a stream's ladder: its pictures, decoded once, and encoded in smaller sizes.
//!
//! Owns disposable pipelines for each epoch of the frame lane: one that decodes, one for each rung. Keyframes are
//! where the source has them, so that segments of all renditions begin together. A rung that is slow holds up the
//! decoder and thereby the others, never the publisher: what waits is bounded, and the bridge fails beyond that.

use super::caps::TrackConfig;
use super::decode::{buffer, decoding};
use super::encoded::{Encoded, QUEUE, collect};
use super::encoder::{self, Progress, force_keyframe};
use super::graph::{Graph, fail, failure};
use super::source::Source;
use super::{PipelineError, Pipelines};
use crate::media::{Epoch, Frame, Ladder, MediaKind, Tracks, VideoTrack};
use crate::stream::{BridgeWriter, RenditionFrame, Stream};
use gstreamer as gst;
use gstreamer_app as gst_app;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use tokio::sync::{mpsc, watch};
use tracing::info;

const DECODER: &str = "ladder-decode.launch";
const RUNG: &str = "ladder-rung.launch";

/// Fills the lane of lower renditions from the frame lane until the stream ends or a pipeline fails. Dropping the
/// future stops it.
pub(super) async fn run(
    pipelines: &Pipelines,
    stream: &Arc<Stream>,
    ladder: &Ladder,
    writer: &BridgeWriter<RenditionFrame>,
) -> Result<(), PipelineError> {
    let mut frames = stream.subscribe::<Frame>();
    let Some(mut frame) = frames.recv().await else {
        return Ok(());
    };
    loop {
        // One epoch of the frame lane after the other.
        let source = frame.epoch.clone();
        let video = source.tracks.video.as_ref();
        let sizes = video.and_then(|track| track.resolution).map_or(vec![], |size| ladder.sizes(size));
        let mut session = match video.filter(|_| !sizes.is_empty()) {
            Some(track) => {
                info!(stream = %stream.name(), ?sizes, "The ladder is encoded.");
                Some(Session::begin(pipelines, &source, track, &sizes)?)
            }
            None => None,
        };
        writer.promise(sizes.len() as u8); // a ladder has few rungs
        while frame.epoch.id == source.id {
            if let Some(session) = &mut session {
                session.take(&frame)?;
            }
            frame = loop {
                tokio::select! {
                    biased;
                    result = attend(session.as_mut(), writer) => result?,
                    next = frames.recv() => match next {
                        Some(next) => break next,
                        None => return Ok(()),
                    },
                }
            };
        }
    }
}

/// Writes the next thing that comes out of a rung. Cancel safe.
async fn attend(
    session: Option<&mut Session>,
    writer: &BridgeWriter<RenditionFrame>,
) -> Result<(), PipelineError> {
    match session {
        Some(session) => session.attend(writer).await,
        None => std::future::pending().await,
    }
}

/// One epoch of the frame lane.
struct Session {
    source: Arc<Epoch>,
    rungs: Vec<Rung>,
    decoder: Graph,
    /// When the keyframes that are on their way are shown.
    keyframes: Arc<Mutex<VecDeque<gst::ClockTime>>>,
    progress: Progress,
    /// The decoder has been given its first keyframe.
    started: bool,
    failed: watch::Receiver<Option<PipelineError>>,
    // Kept, so that the receiver above never sees a closed channel.
    _failed: watch::Sender<Option<PipelineError>>,
}

/// One size.
struct Rung {
    /// The decoder's thread feeds it. When it stops, a thread that waits there goes on.
    graph: Graph,
    encoded: mpsc::Receiver<Encoded>,
    epoch: Option<Arc<Epoch>>,
}

impl Session {
    fn begin(
        pipelines: &Pipelines,
        source: &Arc<Epoch>,
        track: &VideoTrack,
        sizes: &[(u32, u32)],
    ) -> Result<Self, PipelineError> {
        let (failed_sender, failed) = watch::channel(None);
        let rungs = sizes.iter().map(|size| Rung::begin(pipelines, *size, &failed_sender));
        let rungs = rungs.collect::<Result<Vec<_>, _>>()?;
        let decoder = decoding(pipelines, DECODER, track, &failed_sender)?;
        let keyframes = Arc::new(Mutex::new(VecDeque::new()));
        let entrances = rungs.iter().map(|rung| rung.graph.source().clone()).collect();
        distribute(&decoder, entrances, keyframes.clone(), failed_sender.clone());
        decoder.start()?;
        let (source, progress) = (source.clone(), Progress::new(true));
        Ok(Self {
            source,
            rungs,
            decoder,
            keyframes,
            progress,
            started: false,
            failed,
            _failed: failed_sender,
        })
    }

    fn take(&mut self, frame: &Frame) -> Result<(), PipelineError> {
        if frame.kind != MediaKind::Video {
            return Ok(());
        }
        self.started |= frame.keyframe;
        if !self.started {
            return Ok(());
        }
        let buffer = buffer(frame)?;
        if frame.keyframe {
            self.keyframes.lock().extend(buffer.pts());
        }
        self.progress.put_in(frame.pts);
        self.progress.check(DECODER)?;
        self.decoder.push(buffer)
    }

    async fn attend(&mut self, writer: &BridgeWriter<RenditionFrame>) -> Result<(), PipelineError> {
        let (index, encoded) = tokio::select! {
            biased;
            error = failure(&mut self.failed) => return Err(error),
            next = next(&mut self.rungs) => next,
        };
        let last = index + 1 == self.rungs.len();
        let rung = &mut self.rungs[index];
        match encoded {
            Encoded::Configured(TrackConfig::Video(track)) => {
                let tracks = Tracks { video: Some(track), audio: None };
                rung.epoch = Some(writer.begin_epoch(tracks, self.source.wall_origin));
            }
            Encoded::Configured(TrackConfig::Audio(_)) => {}
            Encoded::Unit(unit) => {
                if last {
                    self.progress.came_out(&unit);
                }
                if let Some(epoch) = rung.epoch.clone() {
                    writer
                        .write(RenditionFrame { rendition: index as u8 + 1, frame: unit.into_frame(epoch) });
                }
            }
        }
        Ok(())
    }
}

impl Rung {
    fn begin(
        pipelines: &Pipelines,
        (width, height): (u32, u32),
        failed: &watch::Sender<Option<PipelineError>>,
    ) -> Result<Self, PipelineError> {
        let (sender, encoded) = mpsc::channel(QUEUE);
        let (width, height) = (width.to_string(), height.to_string());
        let values = [("width", width.as_str()), ("height", height.as_str())];
        let report = failed.clone();
        let graph = Graph::build(pipelines, RUNG, &values, move |error| fail(&report, error))?;
        collect(&graph, MediaKind::Video, 0, sender, failed.clone());
        encoder::follow_resolution(&graph);
        graph.start()?;
        Ok(Self { graph, encoded, epoch: None })
    }
}

/// The next thing that comes out of a rung, and of which. Cancel safe.
async fn next(rungs: &mut [Rung]) -> (usize, Encoded) {
    poll_fn(|context| {
        for (index, rung) in rungs.iter_mut().enumerate() {
            if let Poll::Ready(Some(encoded)) = rung.encoded.poll_recv(context) {
                return Poll::Ready((index, encoded));
            }
        }
        Poll::Pending
    })
    .await
}

/// Hands each decoded picture to all rungs, as a keyframe where it was one. Runs in the decoder's thread, which
/// waits for the slowest rung.
fn distribute(
    decoder: &Graph,
    rungs: Vec<Source>,
    keyframes: Arc<Mutex<VecDeque<gst::ClockTime>>>,
    failed: watch::Sender<Option<PipelineError>>,
) {
    let mut known: Option<gst::Caps> = None;
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let Some(buffer) = sample.buffer_owned() else { return Ok(gst::FlowSuccess::Ok) };
        if sample.caps_owned() != known {
            known = sample.caps_owned();
            rungs.iter().for_each(|rung| rung.set_caps(known.as_ref()));
        }
        let keyframe = buffer.pts().is_some_and(|pts| is_keyframe(&mut keyframes.lock(), pts));
        for rung in &rungs {
            if keyframe {
                rung.send(force_keyframe());
            }
            if rung.push(buffer.clone()).is_err() {
                fail(&failed, PipelineError::Ended { file: RUNG });
                return Err(gst::FlowError::Error);
            }
        }
        Ok(gst::FlowSuccess::Ok)
    });
    decoder.sink().set_callbacks(callbacks.build());
}

/// Whether the picture shown at `pts` is one of `keyframes`, or the first after one that was not decoded.
fn is_keyframe(keyframes: &mut VecDeque<gst::ClockTime>, pts: gst::ClockTime) -> bool {
    let passed = keyframes.iter().take_while(|keyframe| **keyframe <= pts).count();
    keyframes.drain(..passed).count() > 0
}
