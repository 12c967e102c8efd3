//! The muxer: coded frames of one track into CMAF chunks.
//!
//! Owns one disposable pipeline around `cmafmux`. Promises that pushing never blocks and copies no
//! media, and that parts carry times on the stream's own timeline. Changes of configuration are not
//! its business: a new epoch is a new muxer.

use super::clock::{Origin, clock_time};
use super::cut::{Cut, Cutter};
use super::graph::{Graph, fail};
use super::part::{MuxOutput, Timescale, read_list};
use super::{PipelineError, Pipelines, caps, vp9};
use crate::media::aac::AudioSpecificConfig;
use crate::media::{AudioTrack, Codec, Frame, MediaKind, MediaTime, VideoTrack};
use gstreamer as gst;
use gstreamer_app as gst_app;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Muxes one track. Dropping it throws away what has not come out yet; see [`Self::finish`].
#[derive(Debug)]
pub struct Muxer {
    graph: Graph,
    input: Mutex<Input>,
    failure: watch::Receiver<Option<PipelineError>>,
    finished: watch::Receiver<bool>,
}

/// What is muxed.
#[derive(Clone, Copy, Debug)]
pub enum MuxTrack<'a> {
    /// H.264, H.265, VP9 or AV1, with its decoder configuration.
    Video(&'a VideoTrack),
    /// AAC, with its AudioSpecificConfig.
    Audio(&'a AudioTrack),
}

/// How it is cut.
#[derive(Clone, Copy, Debug)]
pub struct MuxSettings {
    /// No part is longer, as long as frames come at an even rate.
    pub part_duration: Duration,
    /// A segment ends at the first keyframe after this, less a tolerance of 100 ms.
    pub segment_duration: Duration,
}

/// Samples in a frame of a track whose configuration does not tell, ISO/IEC 14496-3 §4.5.1.1.
const AAC_FRAME: u32 = 1024;
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
                let interval = MediaTime::from_ticks(frame_samples(track), track.sample_rate.max(1));
                (caps::of_audio(track, "muxed")?, "mux-audio.launch", "", interval.since(MediaTime::ZERO))
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
        graph.source().set_caps(Some(&caps));
        let vp9 = match track {
            MuxTrack::Video(track) if track.codec == Codec::Vp9 => Some(track.codec_data.clone()),
            _ => None,
        };
        let (drained, finished) = watch::channel(false);
        let end = output.clone();
        let callbacks = gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let Some(list) = sample.buffer_list() else {
                    return Ok(gst::FlowSuccess::Ok);
                };
                let (mut init, part) = read_list(list, sample.segment(), timescale);
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
        let stamps = Stamps::new(track, interval);
        // Between two anchors there are commonly two or three B-frames.
        let reordered = matches!(track, MuxTrack::Video(track) if track.reordered);
        let group = if reordered { interval * 4 } else { interval };
        let cutter = Cutter::new(kind(track), settings, group);
        Ok(Self { graph, input: Mutex::new(Input { stamps, cutter, started: false }), failure, finished })
    }

    /// Takes the next frame of the track, in decoding order. Never blocks. What precedes the first
    /// keyframe is dropped: no player could show it.
    pub fn push(&self, frame: &Frame) -> Result<(), PipelineError> {
        if let Some(error) = self.failure.borrow().as_ref() {
            return Err(error.clone());
        }
        let mut input = self.input.lock();
        input.started |= frame.keyframe;
        if !input.started {
            return Ok(());
        }
        let (pts, dts, duration) = input.stamps.next(frame);
        if let Some(cut) = input.cutter.before(pts, dts, frame.keyframe) {
            let structure =
                gst::Structure::builder("FMP4MuxSplitNow").field("chunk", cut == Cut::Part).build();
            self.graph.send(gst::event::CustomDownstream::new(structure));
        }
        let mut buffer = gst::Buffer::from_slice(frame.data.clone());
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(Origin::CONTAINER.place(pts)?);
            buffer.set_dts(Origin::CONTAINER.place(dts)?);
            buffer.set_duration(clock_time(duration));
            if !frame.keyframe {
                buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
        }
        self.graph.push(buffer)
    }

    /// Ends the track: the last part, then [`MuxOutput::Finished`] come out. Waits for that, at most
    /// 2 s, and stops the pipeline.
    pub async fn finish(self) {
        let Self { graph, mut finished, mut failure, .. } = self;
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

/// What is remembered from frame to frame.
#[derive(Debug)]
struct Input {
    stamps: Stamps,
    cutter: Cutter,
    started: bool,
}

/// The times that the muxer is told.
#[derive(Debug)]
struct Stamps {
    kind: MediaKind,
    /// From one frame to the next, as far as known.
    interval: Duration,
    /// Video: the last decode time.
    last: Option<MediaTime>,
    /// Audio: samples a second, and the number of the next frame's first sample.
    sample_rate: u32,
    frame_samples: i64,
    next_sample: Option<i64>,
}

impl Stamps {
    fn new(track: MuxTrack<'_>, interval: Duration) -> Self {
        let (sample_rate, frame_samples) = match track {
            MuxTrack::Video(_) => (1, 1),
            MuxTrack::Audio(track) => (track.sample_rate.max(1), frame_samples(track)),
        };
        Self { kind: kind(track), interval, last: None, sample_rate, frame_samples, next_sample: None }
    }

    fn next(&mut self, frame: &Frame) -> (MediaTime, MediaTime, Duration) {
        match self.kind {
            MediaKind::Video => self.video(frame),
            MediaKind::Audio => self.audio(frame),
        }
    }

    /// The muxer wants to know how long the last frame lasts: as long as the one before.
    fn video(&mut self, frame: &Frame) -> (MediaTime, MediaTime, Duration) {
        if let Some(last) = self.last.replace(frame.dts)
            && frame.dts > last
        {
            self.interval = frame.dts.since(last).min(Duration::from_secs(1));
        }
        (frame.pts, frame.dts, self.interval)
    }

    /// Frames of sound join without gap or overlap, counted in samples; senders that count milliseconds
    /// (FLV) jitter around that. A sender whose clock drifts is followed sample by sample.
    fn audio(&mut self, frame: &Frame) -> (MediaTime, MediaTime, Duration) {
        let rate = i64::from(self.sample_rate);
        let (jitter, jump) = (rate / 200, rate / 25);
        let ticks = frame.pts.to_ticks(self.sample_rate);
        let ticks = match self.next_sample {
            Some(next) => match ticks - next {
                error if error.abs() <= jitter => next,
                error if error.abs() <= jump => next + error.signum(),
                _ => ticks,
            },
            None => ticks,
        };
        self.next_sample = Some(ticks + self.frame_samples);
        let time = MediaTime::from_ticks(ticks, self.sample_rate);
        (time, time, self.interval)
    }
}

/// HE-AAC has twice as many as plain AAC.
fn frame_samples(track: &AudioTrack) -> i64 {
    AudioSpecificConfig::parse(&track.codec_data).map_or(AAC_FRAME, |config| config.frame_samples).into()
}

fn kind(track: MuxTrack<'_>) -> MediaKind {
    match track {
        MuxTrack::Video(_) => MediaKind::Video,
        MuxTrack::Audio(_) => MediaKind::Audio,
    }
}
