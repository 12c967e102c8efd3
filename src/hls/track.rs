//! The muxers of one stretch, and what comes out of them.

use super::names::RenditionName;
use super::pictures::PictureClock;
use super::rates::Form;
use crate::media::{AudioTrack, Epoch, Frame, MediaKind, MediaTime, VideoTrack};
use crate::pipeline::{AacSound, MuxOutput, MuxSettings, MuxTrack, Muxer, PipelineError, Pipelines};
use bytes::Bytes;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Outputs of a muxer that may wait; the task takes them at once, so only a burst of a cached group of
/// pictures needs more than one.
const MUXER_QUEUE: usize = 256;
/// A muxer that has not drained by then is given up, with its last part.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);
/// A jump in a track's decoding times beyond this is a hole.
const HOLE: Duration = Duration::from_secs(2);

/// The muxers of one epoch.
pub(super) struct Running {
    pub epoch: Arc<Epoch>,
    /// The wall-clock time of [`MediaTime::ZERO`] for date-times.
    pub date_origin: SystemTime,
    /// When its first frame is shown.
    pub start: MediaTime,
    /// How much later that is in the container.
    pub shift: Duration,
    /// Of each rendition at most one.
    pub tracks: Vec<Track>,
    /// When the latest segments of the best video rendition began.
    pub segments: VecDeque<MediaTime>,
}

/// One rendition's muxer.
pub(super) struct Track {
    pub name: RenditionName,
    /// What the muxer is given.
    pub config: Config,
    /// `None` once it is being ended.
    pub muxer: Option<Muxer>,
    outputs: mpsc::Receiver<MuxOutput>,
    /// Sound that is not AAC becomes it on the way to the muxer.
    pub transcoder: Option<AacSound>,
    pub init: Option<Bytes>,
    /// The discontinuity sequence number its rendition was told.
    pub begun: Option<u64>,
    pub next_start: Option<MediaTime>,
    pub last_dts: Option<MediaTime>,
    pub pictures: PictureClock,
}

/// The configuration of what is muxed.
#[derive(Clone, Debug)]
pub(super) enum Config {
    Video(VideoTrack),
    Audio(AudioTrack),
}

impl Config {
    /// What must be equal for renditions to take about as many bits.
    pub fn form(&self) -> Form {
        match self {
            Self::Video(track) => (track.codec, track.resolution),
            Self::Audio(track) => (track.codec, Some((track.sample_rate, track.channels.into()))),
        }
    }

    fn mux(&self) -> MuxTrack<'_> {
        match self {
            Self::Video(track) => MuxTrack::Video(track),
            Self::Audio(track) => MuxTrack::Audio(track),
        }
    }
}

impl Track {
    /// Starts a muxer for `name`.
    pub fn begin(
        pipelines: &Pipelines,
        name: RenditionName,
        config: Config,
        settings: MuxSettings,
        transcoder: Option<AacSound>,
    ) -> Result<Self, PipelineError> {
        let (sender, outputs) = mpsc::channel(MUXER_QUEUE);
        let muxer = Muxer::start(pipelines, config.mux(), settings, sender)?;
        Ok(Self {
            name,
            config,
            muxer: Some(muxer),
            outputs,
            transcoder,
            init: None,
            begun: None,
            next_start: None,
            last_dts: None,
            pictures: PictureClock::default(),
        })
    }

    /// Hands the muxer a frame, and remembers its time.
    pub fn push(&mut self, frame: &Frame) -> Result<(), PipelineError> {
        self.last_dts = Some(frame.dts);
        if frame.kind == MediaKind::Video {
            self.pictures.count(frame.dts);
        }
        let Some(muxer) = &self.muxer else { return Ok(()) };
        match &mut self.transcoder {
            Some(transcoder) => transcoder.push(frame)?.iter().try_for_each(|frame| muxer.push(frame)),
            None => muxer.push(frame),
        }
    }

    /// Of a lower rendition: whether its last segment did not begin with that of the best one.
    pub fn is_astray(&self) -> bool {
        self.muxer.as_ref().is_some_and(Muxer::is_astray)
    }

    /// Ends the muxer; gives what it still held. False if it did not drain.
    pub async fn drain(&mut self) -> (Vec<MuxOutput>, bool) {
        let mut drained = Vec::new();
        let Some(muxer) = self.muxer.take() else { return (drained, true) };
        if let Some(transcoder) = &mut self.transcoder {
            // What fails now has failed before, and was told then.
            let inside = transcoder.finish().unwrap_or_default();
            let _ = inside.iter().try_for_each(|frame| muxer.push(frame));
        }
        let drain = async {
            muxer.finish().await;
            while let Some(output @ (MuxOutput::Init(_) | MuxOutput::Part(_))) = self.outputs.recv().await {
                drained.push(output);
            }
        };
        let in_time = timeout(DRAIN_PATIENCE, drain).await.is_ok();
        (drained, in_time)
    }
}

/// Beginnings of segments that are remembered, for renditions that lag.
const SEGMENTS: usize = 16;

impl Running {
    /// Tells the other video renditions where the best one begins a segment.
    pub fn lead(&mut self) {
        let leader = self.tracks.iter().find(|track| track.name == RenditionName::VIDEO);
        let segment = leader.and_then(|track| track.muxer.as_ref()).and_then(Muxer::last_segment);
        let Some(segment) = segment.filter(|segment| self.segments.back() != Some(segment)) else { return };
        if self.segments.len() == SEGMENTS {
            self.segments.pop_front();
        }
        self.segments.push_back(segment);
        let lower = self.tracks.iter().filter(|track| track.name.is_lower());
        lower.filter_map(|track| track.muxer.as_ref()).for_each(|muxer| muxer.lead(segment));
    }

    /// The track of `name`.
    pub fn track(&mut self, name: RenditionName) -> Option<&mut Track> {
        self.tracks.iter_mut().find(|track| track.name == name)
    }

    /// Whether media are missing before `frame` of the frame lane, or its time has gone back.
    pub fn jumps(&self, frame: &Frame) -> bool {
        let name = RenditionName::of(frame.kind);
        let track = self.tracks.iter().find(|track| track.name == name);
        track
            .and_then(|track| track.last_dts)
            .is_some_and(|last| frame.dts < last || frame.dts.since(last) > HOLE)
    }
}

/// The next thing that comes out of a muxer, `None` if it has ended by itself. Cancel safe.
pub(super) async fn next_output(stretch: &mut Option<Running>) -> (RenditionName, Option<MuxOutput>) {
    let Some(stretch) = stretch else { return std::future::pending().await };
    poll_fn(|context| {
        for track in &mut stretch.tracks {
            if let Poll::Ready(output) = track.outputs.poll_recv(context) {
                return Poll::Ready((track.name, output));
            }
        }
        Poll::Pending
    })
    .await
}
