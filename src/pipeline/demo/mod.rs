//! The demo stream: what a live encoder would send, made inside the process.
//!
//! A moving picture of 1280x720 at 30 frames a second with the wall clock in milliseconds burnt in, and
//! on each full second of it a white flash (100 ms) together with a beep (1 kHz, 80 ms). H.264 with a
//! keyframe every 2 s, AAC at 48 kHz. The clock shown in a frame is the wall-clock time of the frame's
//! time stamp, so whoever sees the picture can read the delay, and whoever sees and hears the stream
//! can read the offset of picture and sound.
//!
//! The clock is also there for machines: in the top left corner a row of 64 blocks of 16x16 pixels,
//! white for 1 and black for 0, the most significant bit first: 48 bits of milliseconds since the Unix
//! epoch, then 16 bits of checksum, the sum of the three 16-bit words before modulo 65 536. It stays
//! during the flash.

mod mark;
mod picture;
mod sound;

use super::assembler::{EpochAssembler, Step};
use super::caps::TrackConfig;
use super::clock::{Origin, clock_time};
use super::encoded::{Encoded, QUEUE, VOAACENC_DELAY, collect};
use super::graph::{Graph, fail, failure};
use super::{PipelineError, Pipelines};
use crate::media::{Epoch, Frame, MediaKind, MediaTime, StreamName};
use crate::stream::{Hub, PublishError, Publisher, Source, SourceKind};
use gstreamer as gst;
use picture::Painter;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Frames a second.
const FRAME_RATE: u32 = 30;
/// Samples a second.
const SAMPLE_RATE: u32 = 48_000;
/// Samples handed over at once: an AAC frame.
const BLOCK: i64 = 1024;
/// When the wall clock is so far from where it was expected, it has been set: a new epoch begins.
const CLOCK_STEP: Duration = Duration::from_secs(1);
/// Before another try.
const RETRY: Duration = Duration::from_secs(5);

/// Publishes the demo stream as `name` until `cancel`, until an operator kicks it, or until the hub closes.
/// A name that is taken is tried again every 5 s.
pub async fn run_demo(pipelines: Arc<Pipelines>, hub: Hub, name: StreamName, cancel: CancellationToken) {
    loop {
        let source = Source { kind: SourceKind::Demo, remote: None };
        match hub.publish::<Frame>(name.clone(), source) {
            Ok(publisher) => {
                let kicked = publisher.kicked();
                tokio::select! {
                    () = cancel.cancelled() => {}
                    () = kicked.cancelled() => info!(stream = %name, "The demo was ended by an operator."),
                    () = broadcast(&pipelines, &publisher) => {}
                }
                return;
            }
            Err(PublishError::Closing) => return,
            Err(error @ PublishError::Taken(_)) => warn!(%error, "The demo waits for its name."),
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// Broadcasts for ever; a failed pipeline or a clock that was set begins a new epoch.
async fn broadcast(pipelines: &Pipelines, publisher: &Publisher<Frame>) {
    loop {
        let result = match Demo::start(pipelines) {
            Ok(demo) => demo.run(publisher).await,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            warn!(stream = %publisher.stream().name(), %error, "The demo failed and is started again.");
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// One epoch of the demo.
struct Demo {
    video: Graph,
    audio: Graph,
    encoded: mpsc::Receiver<Encoded>,
    failed: watch::Receiver<Option<PipelineError>>,
    /// The whole second of the wall clock at which the timeline begins.
    wall_origin: SystemTime,
    /// The next frame and the next sample, counted from there.
    frame: i64,
    sample: i64,
    painter: Painter,
}

impl Demo {
    fn start(pipelines: &Pipelines) -> Result<Self, PipelineError> {
        let (sender, encoded) = mpsc::channel(QUEUE);
        let (failed_sender, failed) = watch::channel(None);
        let build = |file, kind, delay| {
            let report = failed_sender.clone();
            let graph = Graph::build(pipelines, file, &[], move |error| {
                fail(&report, error);
            })?;
            collect(&graph, kind, delay, sender.clone(), failed_sender.clone());
            graph.start()?;
            Ok::<_, PipelineError>(graph)
        };
        let video = build("demo-video.launch", MediaKind::Video, 0)?;
        let delay = MediaTime::from_ticks(VOAACENC_DELAY, SAMPLE_RATE).as_nanos();
        let audio = build("demo-audio.launch", MediaKind::Audio, delay)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_origin = UNIX_EPOCH + Duration::from_secs(now.as_secs());
        let into = MediaTime::ZERO + Duration::from_nanos(u64::from(now.subsec_nanos()));
        Ok(Self {
            video,
            audio,
            encoded,
            failed,
            wall_origin,
            frame: into.to_ticks(FRAME_RATE) + 1,
            sample: into.to_ticks(SAMPLE_RATE),
            painter: Painter::new(),
        })
    }

    /// Runs until a pipeline fails (an error) or the wall clock is set (no error).
    async fn run(mut self, publisher: &Publisher<Frame>) -> Result<(), PipelineError> {
        let mut epochs = EpochAssembler::new(true, true);
        let (mut epoch, mut interruptions) = (None, publisher.interruptions());
        loop {
            // A frame is taken at its time, a block of sound when its last sample is there.
            let (frame, block) = (frame_time(self.frame), sample_time(self.sample + BLOCK));
            let due = frame.min(block).as_nanos() - self.now();
            if due.unsigned_abs() > CLOCK_STEP.as_nanos() as u64 {
                info!("The wall clock was set: the demo begins a new epoch.");
                return Ok(());
            }
            tokio::select! {
                biased;
                error = failure(&mut self.failed) => return Err(error),
                Some(encoded) = self.encoded.recv() => {
                    let steps = match encoded {
                        Encoded::Configured(config) => epochs.configured(with_frame_rate(config)),
                        Encoded::Unit(unit) => epochs.unit(Instant::now(), unit),
                    };
                    publish(publisher, self.wall_origin, (&mut epoch, &mut interruptions), steps);
                }
                () = tokio::time::sleep(Duration::from_nanos(due.max(0) as u64)) => {
                    if frame <= block { self.take_frame()?; } else { self.take_block()?; }
                }
            }
        }
    }

    /// Nanoseconds from the origin to now.
    fn now(&self) -> i64 {
        match SystemTime::now().duration_since(self.wall_origin) {
            Ok(after) => after.as_nanos() as i64,
            Err(before) => -(before.duration().as_nanos() as i64),
        }
    }

    fn take_frame(&mut self) -> Result<(), PipelineError> {
        let time = frame_time(self.frame);
        let wall = self.wall_origin + time.since(MediaTime::ZERO);
        self.frame += 1;
        let duration = Duration::from_secs(1) / FRAME_RATE;
        self.video.push(buffer(self.painter.paint(wall), time, duration)?)
    }

    fn take_block(&mut self) -> Result<(), PipelineError> {
        let time = sample_time(self.sample);
        let samples = sound::block(self.sample, BLOCK);
        self.sample += BLOCK;
        let duration = sample_time(BLOCK).since(MediaTime::ZERO);
        self.audio.push(buffer(samples, time, duration)?)
    }
}

fn frame_time(frame: i64) -> MediaTime {
    MediaTime::from_ticks(frame, FRAME_RATE)
}

fn sample_time(sample: i64) -> MediaTime {
    MediaTime::from_ticks(sample, SAMPLE_RATE)
}

fn with_frame_rate(config: TrackConfig) -> TrackConfig {
    match config {
        TrackConfig::Video(mut track) => {
            track.frame_rate = Some(f64::from(FRAME_RATE));
            TrackConfig::Video(track)
        }
        audio => audio,
    }
}

fn buffer(data: Vec<u8>, time: MediaTime, duration: Duration) -> Result<gst::Buffer, PipelineError> {
    let mut buffer = gst::Buffer::from_mut_slice(data);
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_pts(Origin::INTERNAL.place(time)?);
        buffer.set_duration(clock_time(duration));
    }
    Ok(buffer)
}

fn publish(
    publisher: &Publisher<Frame>,
    wall_origin: SystemTime,
    (epoch, interruptions): (&mut Option<Arc<Epoch>>, &mut u64),
    steps: Vec<Step>,
) {
    for step in steps {
        match step {
            Step::Begin(tracks) => *epoch = Some(publisher.begin_epoch(tracks, wall_origin)),
            Step::AskForKeyframe => {} // one comes every 2 s
            Step::Write(unit) => {
                let Some(running) = epoch.clone() else {
                    continue;
                };
                // A machine that stood still is a pause, too, and pauses may be filled.
                let now = publisher.interruptions();
                let mends = now != *interruptions && unit.kind == MediaKind::Video && unit.keyframe;
                let running = match mends {
                    true => publisher.begin_epoch(running.tracks.clone(), wall_origin),
                    false => running,
                };
                if mends {
                    (*epoch, *interruptions) = (Some(running.clone()), now);
                }
                if unit.kind == MediaKind::Video {
                    publisher.stream().statistics().video_frame(unit.keyframe);
                }
                let (kind, keyframe, pts) = (unit.kind, unit.keyframe, unit.pts);
                publisher.write(Frame { epoch: running, kind, pts, dts: pts, keyframe, data: unit.data });
            }
        }
    }
}

#[cfg(test)]
pub(super) fn painter() -> Painter {
    Painter::new()
}

#[cfg(test)]
pub(super) fn read_mark(luma: &[u8]) -> Option<u64> {
    mark::read(luma, picture::WIDTH)
}

#[cfg(test)]
pub(super) fn sound_block(first: i64, count: i64) -> Vec<u8> {
    sound::block(first, count)
}
