//! The bridge from frames to packets (RTMP and the demo to WHEP): packetises video and Opus, turns other
//! sound into Opus, and does with B-frames what is configured.
//!
//! What only has to be packetised needs no pipeline and no other thread: its packets are written while the
//! frame is taken. Owns one disposable pipeline a track and epoch where something has to be transcoded. Where
//! pictures would be encoded but for want of processor time, that is looked at again at each keyframe.

mod audio;
pub(super) mod compatible;
mod edge;
mod fmtp;
mod order;
mod video;

use super::bridge::Told;
use super::budget::Decision;
use super::encoded::{Encoded, QUEUE};
use super::graph::failure;
use super::rtp::{PacketCounter, Packetized};
use super::{PipelineError, Pipelines};
use crate::media::{
    BFramesRefused, Epoch, Frame, MediaKind, PacketBatch, PacketVideo, Shortage, Tracks, Transcoding,
    VideoTrack,
};
use crate::stream::{BridgeWriter, Stream};
use audio::Audio;
use edge::is_at_edge;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, watch};
use video::{TRANSCODER, Took, Video};

/// Fills the packet lane from the frame lane until the stream ends or a pipeline fails. Dropping the
/// future stops the bridge.
pub(super) async fn run(
    pipelines: &Pipelines,
    stream: &Arc<Stream>,
    transcoding: Transcoding,
    told: &Told,
) -> Result<(), PipelineError> {
    let decision = pipelines.budget().decision(stream.name());
    let result = fill(pipelines, stream, transcoding, told, &decision).await;
    if let Err(PipelineError::Overloaded { file: TRANSCODER }) = result {
        decision.fell_behind(Instant::now());
    }
    result
}

async fn fill(
    pipelines: &Pipelines,
    stream: &Arc<Stream>,
    transcoding: Transcoding,
    told: &Told,
    decision: &Decision<'_>,
) -> Result<(), PipelineError> {
    let mut frames = stream.subscribe::<Frame>();
    let mut output = Output {
        writer: stream.bridge::<PacketBatch>(),
        video: PacketCounter::new(MediaKind::Video),
        audio: PacketCounter::new(MediaKind::Audio),
    };
    let mut frame = loop {
        match frames.recv().await {
            Some(frame) if stream.is_hold(&frame.epoch) => {}
            Some(frame) => break frame,
            None => return Ok(()),
        }
    };
    let begin = |output: &Output, source: &Arc<Epoch>, seen, encodes| {
        let shortage = decision.take(Instant::now(), encodes);
        Session::begin(pipelines, output, source, transcoding, seen, shortage, told)
    };
    let mut session = begin(&output, &frame.epoch, Seen::default(), false)?;
    loop {
        if frame.epoch.id != session.source.id {
            session = begin(&output, &frame.epoch, Seen::default(), session.encodes())?;
        } else if session.lacks_time
            && frame.kind == MediaKind::Video
            && frame.keyframe
            && decision.take(Instant::now(), false).is_none()
        {
            session = begin(&output, &frame.epoch, session.seen, false)?;
        }
        if let Some(seen) = session.take(&frame, is_at_edge(&frames), &mut output)? {
            session = begin(&output, &frame.epoch, seen, session.encodes())?;
        }
        frame = loop {
            tokio::select! {
                biased;
                error = failure(&mut session.failed) => return Err(error),
                Some(encoded) = session.encoded.recv() => session.encoded(encoded, &mut output)?,
                frame = frames.recv() => match frame {
                    Some(frame) if stream.is_hold(&frame.epoch) => {}
                    Some(frame) => break frame,
                    None => return Ok(()),
                },
            }
        };
    }
}

/// What the frames of an epoch have shown, beyond what its configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Pictures come in another order than they are shown.
    reordered: bool,
    /// Pictures that come out of order are depended on by others.
    depended_on: bool,
}

/// The writing side. Sequence numbers and time stamps go on from epoch to epoch.
struct Output {
    writer: BridgeWriter<PacketBatch>,
    video: PacketCounter,
    audio: PacketCounter,
}

impl Output {
    fn write(&mut self, epoch: &Arc<Epoch>, kind: MediaKind, group: Packetized) {
        if group.payloads.is_empty() {
            return;
        }
        let counter = match kind {
            MediaKind::Video => &mut self.video,
            MediaKind::Audio => &mut self.audio,
        };
        let packets = counter.number(group);
        self.writer.write(PacketBatch { epoch: epoch.clone(), packets });
    }
}

/// One epoch of the frame lane on its way.
struct Session {
    source: Arc<Epoch>,
    target: Arc<Epoch>,
    seen: Seen,
    /// The pictures would be encoded if there were processor time for it.
    lacks_time: bool,
    video: Option<Video>,
    audio: Option<Audio>,
    encoded: mpsc::Receiver<Encoded>,
    failed: watch::Receiver<Option<PipelineError>>,
    // Kept, so that the receivers above never see a closed channel, whatever tracks there are.
    _channels: Channels,
}

/// Where pipelines send what comes out of them, and how they end.
#[derive(Clone)]
struct Channels {
    encoded: mpsc::Sender<Encoded>,
    failed: watch::Sender<Option<PipelineError>>,
}

impl Session {
    fn begin(
        pipelines: &Pipelines,
        output: &Output,
        source: &Arc<Epoch>,
        transcoding: Transcoding,
        seen: Seen,
        shortage: Option<Shortage>,
        told: &Told,
    ) -> Result<Self, PipelineError> {
        let (sender, encoded) = mpsc::channel(QUEUE);
        let (failed_sender, failed) = watch::channel(None);
        let channels = Channels { encoded: sender, failed: failed_sender };
        let mut tracks = Tracks::default();
        let mut video = None;
        let mut lacks_time = false;
        if let Some(track) = &source.tracks.video {
            let track = VideoTrack { reordered: track.reordered || seen.reordered, ..track.clone() };
            let way = transcoding.to_packets(&track, seen.depended_on, shortage);
            lacks_time = way != transcoding.to_packets(&track, seen.depended_on, None);
            told.b_frames(&track, way);
            match begin_video(pipelines, &track, way, &channels) {
                Some(Ok(begun)) => {
                    tracks.video = Some(fmtp::video(&track, begun.transcodes()));
                    video = Some(begun);
                }
                Some(Err(error @ PipelineError::Unsupported { .. })) => {
                    tracing::warn!(%error, "The video is left out for WebRTC viewers.");
                }
                Some(Err(error)) => return Err(error),
                None => {}
            }
        }
        let audio = match &source.tracks.audio {
            Some(track) => Some(Audio::begin(pipelines, track, &channels)?),
            None => None,
        };
        tracks.audio = audio.as_ref().map(|_| fmtp::audio());
        let target = output.writer.begin_epoch(tracks, source.wall_origin);
        let source = source.clone();
        Ok(Self { source, target, seen, lacks_time, video, audio, encoded, failed, _channels: channels })
    }

    /// Whether pictures are encoded.
    fn encodes(&self) -> bool {
        self.video.as_ref().is_some_and(Video::transcodes)
    }

    /// Takes a frame; `at_edge` if it is not followed by a cached picture. If it shows something new, this session is
    /// over and another one takes the frame's successors.
    fn take(
        &mut self,
        frame: &Frame,
        at_edge: bool,
        output: &mut Output,
    ) -> Result<Option<Seen>, PipelineError> {
        match frame.kind {
            // Sound begins with the pictures, see [`edge`].
            MediaKind::Audio if !at_edge && self.encodes() => {}
            MediaKind::Audio => {
                let Some(audio) = &mut self.audio else { return Ok(None) };
                if let Some(group) = audio.take(frame)? {
                    output.write(&self.target, MediaKind::Audio, group);
                }
            }
            MediaKind::Video => {
                let Some(video) = &mut self.video else { return Ok(None) };
                match video.take(frame, at_edge)? {
                    Took::Packets(group) => output.write(&self.target, MediaKind::Video, group),
                    Took::Nothing => {}
                    Took::OutOfOrder => return Ok(Some(Seen { reordered: true, ..self.seen })),
                    Took::DependedOn => return Ok(Some(Seen { reordered: true, depended_on: true })),
                }
            }
        }
        Ok(None)
    }

    /// Something came out of a pipeline.
    fn encoded(&mut self, encoded: Encoded, output: &mut Output) -> Result<(), PipelineError> {
        let (kind, group) = match encoded {
            Encoded::Configured(config) => {
                return self.video.as_mut().map_or(Ok(()), |video| video.configured(config));
            }
            Encoded::Unit(unit) => match unit.kind {
                MediaKind::Video => (unit.kind, self.video.as_mut().and_then(|video| video.encoded(unit))),
                MediaKind::Audio => (unit.kind, self.audio.as_mut().and_then(|audio| audio.encoded(unit))),
            },
        };
        if let Some(group) = group {
            output.write(&self.target, kind, group);
        }
        Ok(())
    }
}

fn begin_video(
    pipelines: &Pipelines,
    track: &VideoTrack,
    way: Result<PacketVideo, BFramesRefused>,
    channels: &Channels,
) -> Option<Result<Video, PipelineError>> {
    match way {
        Ok(way) => Some(Video::begin(pipelines, track, way, channels)),
        Err(_) => None,
    }
}
