//! The muxer: coded frames of one track into CMAF chunks.
//!
//! Owns one disposable pipeline around `cmafmux`. Promises that pushing never blocks and copies no
//! media, and that parts carry times on the stream's own timeline. Frames wait here until a part can be
//! completed, and reach the pipeline together. Changes of configuration are not its business: a new epoch
//! is a new muxer.

use super::clock::{Origin, clock_time};
use super::cut::{Cut, Cutter};
use super::graph::{Graph, fail};
use super::pace::Pace;
use super::part::{MuxOutput, Timescale, read_list};
use super::stamps::Stamps;
use super::{PipelineError, Pipelines, caps, vp9};
use crate::media::{AudioTrack, Codec, Frame, MediaKind, MediaTime, VideoTrack};
use gstreamer as gst;
use gstreamer_app as gst_app;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Muxes one track. Dropping it throws away what has not come out yet; see [`Self::finish`].
#[derive(Debug)]
pub struct Muxer {
    graph: Graph,
    input: Mutex<Input>,
    origin: Origin,
    failure: watch::Receiver<Option<PipelineError>>,
    finished: watch::Receiver<bool>,
}

/// What is muxed.
#[derive(Clone, Copy, Debug)]
pub enum MuxTrack<'a> {
    /// H.264, H.265, VP9 or AV1, with its decoder configuration.
    Video(&'a VideoTrack),
    /// AAC, with its AudioSpecificConfig, or Opus.
    Audio(&'a AudioTrack),
}

/// How it is cut.
#[derive(Clone, Copy, Debug)]
pub struct MuxSettings {
    /// No part is longer, as long as frames come at an even rate.
    pub part_duration: Duration,
    /// A segment ends at the first keyframe after this, less a tolerance of 100 ms.
    pub segment_duration: Duration,
    /// So much later than on the stream's timeline media are in the container; a multiple of 40 ms, which all
    /// timescales can count.
    pub shift: Duration,
}

/// Bytes inside a muxer: a whole cached group of pictures fits. A part that grows beyond is stuck.
const MOST_INSIDE: usize = 32 << 20;
/// How long the end of stream may take to run through.
const DRAIN: Duration = Duration::from_secs(2);

impl Muxer {
    /// Starts a muxer whose parts come on `output`. If that is full, a part is lost and the muxer fails.
    pub fn start(
        pipelines: &Pipelines,
        track: MuxTrack<'_>,
        settings: MuxSettings,
        output: mpsc::Sender<MuxOutput>,
    ) -> Result<Self, PipelineError> {
        let (caps, file, parser, interval) = match track {
            MuxTrack::Video(track) => {
                let parser = match (track.codec, track.resolution) {
                    (Codec::H264, None) => "h264parse !",
                    _ => "",
                };
                let file = if track.codec == Codec::Vp9 { "mux-vp9.launch" } else { "mux-video.launch" };
                let rate = track.frame_rate.filter(|rate| (1.0..=240.0).contains(rate)).unwrap_or(30.0);
                (caps::of_video(track, "muxed")?, file, parser, Duration::from_secs_f64(1.0 / rate))
            }
            MuxTrack::Audio(track) => {
                let frame = MediaTime::from_ticks(frame_samples(track).into(), track.sample_rate.max(1));
                let interval = frame.since(MediaTime::ZERO);
                (caps::of_muxed_sound(track)?, "mux-audio.launch", "", interval)
            }
        };
        let timescale = match track {
            MuxTrack::Video(_) => Timescale::VIDEO,
            MuxTrack::Audio(track) => Timescale::audio(track.sample_rate),
        };
        let (failed, failure) = watch::channel(None);
        let report = {
            let output = output.clone();
            move |error: PipelineError| {
                fail(&failed, error.clone());
                // A reader that does not read learns it from `push`.
                let _ = output.try_send(MuxOutput::Failed(error));
            }
        };
        let fragment = settings.segment_duration.as_nanos().to_string();
        let chunk = settings.part_duration.as_nanos().to_string();
        let values = [("parser", parser), ("fragment", fragment.as_str()), ("chunk", chunk.as_str())];
        let report = Arc::new(report);
        let graph = Graph::build(pipelines, file, &values, {
            let report = report.clone();
            move |error| report(error)
        })?;
        let vp9 = match track {
            MuxTrack::Video(track) if track.codec == Codec::Vp9 => Some(track.codec_data.clone()),
            _ => None,
        };
        let origin = Origin::CONTAINER.later(settings.shift);
        let (drained, finished) = watch::channel(false);
        let parts = Arc::new(AtomicU64::new(0));
        let end = output.clone();
        let counted = parts.clone();
        let callbacks = gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let Some(list) = sample.buffer_list() else {
                    return Ok(gst::FlowSuccess::Ok);
                };
                let (mut init, part) = read_list(list, sample.segment(), timescale, origin);
                counted.fetch_add(u64::from(part.is_some()), Relaxed);
                if let (Some(init), Some(record)) = (&mut init, &vp9) {
                    *init = vp9::correct_level(init, record);
                }
                for item in init.map(MuxOutput::Init).into_iter().chain(part.map(MuxOutput::Part)) {
                    if output.try_send(item).is_err() {
                        report(PipelineError::OutputLost { file });
                        return Err(gst::FlowError::Error);
                    }
                }
                Ok(gst::FlowSuccess::Ok)
            })
            .eos(move |_| {
                let _ = end.try_send(MuxOutput::Finished);
                drained.send_replace(true);
            })
            .build();
        graph.sink().set_callbacks(callbacks);
        graph.start()?;
        graph.source().set_caps(Some(&caps));
        let stamps = Stamps::new(track, interval);
        // Between two anchors there are commonly two or three B-frames.
        let reordered = matches!(track, MuxTrack::Video(track) if track.reordered);
        let group = if reordered { interval * 4 } else { interval };
        let cutter = Cutter::new(track.kind(), settings, group);
        let pace = Pace::new(stamps, cutter, parts);
        let input = Input { pace, waiting: Vec::new(), inside: VecDeque::from([0]) };
        Ok(Self { graph, input: Mutex::new(input), origin, failure, finished })
    }

    /// Takes the next frame of the track, in decoding order. Never blocks. What precedes the first
    /// keyframe is dropped: no player could show it.
    pub fn push(&self, frame: &Frame) -> Result<(), PipelineError> {
        if let Some(error) = self.failure.borrow().as_ref() {
            return Err(error.clone());
        }
        let mut input = self.input.lock();
        let Some(step) = input.pace.step(frame) else { return Ok(()) };
        let mut buffer = gst::Buffer::from_slice(frame.data.clone());
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(self.origin.place(step.pts)?);
            buffer.set_dts(self.origin.place(step.dts)?);
            buffer.set_duration(clock_time(step.duration));
            if !frame.keyframe {
                buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
        }
        if input.take(frame.data.len(), step.cut.is_some()) > MOST_INSIDE {
            return Err(PipelineError::Overloaded { file: self.graph.file() });
        }
        // A pipeline that failed refuses what comes; why, it has told before.
        let cause = |refused| self.failure.borrow().clone().unwrap_or(refused);
        if let Some(cut) = step.cut {
            input.flush(&self.graph).map_err(cause)?;
            let structure =
                gst::Structure::builder("FMP4MuxSplitNow").field("chunk", cut == Cut::Part).build();
            self.graph.send(gst::event::CustomDownstream::new(structure));
        }
        input.waiting.push(buffer);
        if step.due { input.flush(&self.graph).map_err(cause) } else { Ok(()) }
    }

    /// When the last segment began, other than the first.
    pub fn last_segment(&self) -> Option<MediaTime> {
        self.input.lock().pace.cutter().last_segment()
    }

    /// Of video: from now on, segments begin where [`Self::lead`] says, if there is a keyframe within a frame of
    /// that. Call it before the first push.
    pub fn follow(&self) {
        self.input.lock().pace.cutter().follow();
    }

    /// The rendition that leads begins a segment here. Call it before the frame of that time is pushed.
    pub fn lead(&self, segment: MediaTime) {
        self.input.lock().pace.cutter().lead(segment);
    }

    /// Whether there was no keyframe where the rendition that leads began its last segment.
    pub fn is_astray(&self) -> bool {
        self.input.lock().pace.cutter().is_astray()
    }

    /// Foretells of the frames that follow those pushed so far which of them are worth a [`Self::push`]
    /// at once.
    pub fn pace(&self) -> Pace {
        self.input.lock().pace.clone()
    }

    /// Ends the track: the last part, then [`MuxOutput::Finished`] come out. Waits for that, at most
    /// 2 s, and stops the pipeline.
    pub async fn finish(self) {
        let Self { graph, input, mut finished, mut failure, .. } = self;
        // Refused only by a pipeline that has failed, and then there is nothing to wait for.
        let _ = input.into_inner().flush(&graph);
        graph.end_of_stream();
        let drained = async {
            tokio::select! {
                _ = finished.wait_for(|finished| *finished) => {}
                _ = failure.wait_for(Option::is_some) => {}
            }
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!("A muxer did not drain in time; its last part is lost.");
        }
        graph.stop().await;
    }
}

impl MuxTrack<'_> {
    pub(super) fn kind(self) -> MediaKind {
        match self {
            Self::Video(_) => MediaKind::Video,
            Self::Audio(_) => MediaKind::Audio,
        }
    }
}

/// Samples of a frame of sound, as far as the track tells: Opus has 20 ms commonly.
pub(super) fn frame_samples(track: &AudioTrack) -> u32 {
    match track.codec {
        Codec::Opus => track.sample_rate / 50,
        _ => track.aac_frame_samples(),
    }
}

/// What waits to be muxed.
#[derive(Debug)]
struct Input {
    pace: Pace,
    /// Frames of the part that is not complete.
    waiting: Vec<gst::Buffer>,
    /// Bytes of each part that has not come out, the oldest first.
    inside: VecDeque<usize>,
}

impl Input {
    /// Counts a frame; gives the bytes that are inside now.
    fn take(&mut self, size: usize, begins_part: bool) -> usize {
        if begins_part {
            self.inside.push_back(0);
        }
        let parts = usize::try_from(self.pace.owed()).unwrap_or(usize::MAX).saturating_add(1);
        while self.inside.len() > parts {
            self.inside.pop_front();
        }
        if let Some(last) = self.inside.back_mut() {
            *last += size;
        }
        self.inside.iter().sum()
    }

    fn flush(&mut self, graph: &Graph) -> Result<(), PipelineError> {
        self.waiting.drain(..).try_for_each(|buffer| graph.push(buffer))
    }
}
