//! The bridge from frames to packets (RTMP and the demo to WHEP): packetises H.264 and turns AAC into
//! Opus.
//!
//! Owns one disposable pipeline a track for each epoch of the frame lane. A stream with B-frames is
//! encoded again without, because WebRTC receivers show pictures in the order of decoding.

use super::clock::Origin;
use super::encoder::bitrate;
use super::graph::{Graph, fail, failure};
use super::rtp::{PacketCounter, Packetized, collect};
use super::{PipelineError, Pipelines, caps};
use crate::media::{AudioTrack, Codec, Epoch, Frame, MediaKind, MediaTime, PacketBatch, Tracks, VideoTrack};
use crate::stream::{BridgeWriter, Stream};
use gstreamer as gst;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

/// Samples at 48 kHz that `opusenc` puts in front (the encoder's look-ahead; RFC 7845 §4.2 calls it
/// pre-skip). It stamps its first packet as if they were not there, and all others rightly.
const OPUS_PRE_SKIP: i64 = 312;
/// Batches that may wait for their reader.
const QUEUE: usize = 2048;

/// Fills the packet lane from the frame lane until the stream ends or a pipeline fails. Dropping the
/// future stops the bridge.
pub(super) async fn run(pipelines: &Pipelines, stream: &Arc<Stream>) -> Result<(), PipelineError> {
    let mut frames = stream.subscribe::<Frame>();
    let writer = stream.bridge::<PacketBatch>();
    let mut counters = Counters { video: PacketCounter::new(90_000), audio: PacketCounter::new(48_000) };
    let Some(mut frame) = frames.recv().await else {
        return Ok(());
    };
    let mut session = Session::begin(pipelines, &writer, &frame.epoch, false)?;
    loop {
        if frame.epoch.id != session.source.id {
            session = Session::begin(pipelines, &writer, &frame.epoch, false)?;
        } else if frame.kind == MediaKind::Video && frame.pts != frame.dts && !session.reencodes {
            info!(stream = %stream.name(), "The video has B-frames: it is encoded again for WebRTC viewers.");
            session = Session::begin(pipelines, &writer, &frame.epoch, true)?;
        }
        session.take(&frame)?;
        frame = loop {
            tokio::select! {
                biased;
                error = failure(&mut session.failed) => return Err(error),
                Some(packetized) = session.packetized.recv() => {
                    let packets = counters.of(packetized.kind).number(packetized);
                    writer.write(PacketBatch { epoch: session.target.clone(), packets });
                }
                frame = frames.recv() => match frame {
                    Some(frame) => break frame,
                    None => return Ok(()),
                },
            }
        };
    }
}

/// Sequence numbers and time stamps go on from epoch to epoch.
struct Counters {
    video: PacketCounter,
    audio: PacketCounter,
}

impl Counters {
    fn of(&mut self, kind: MediaKind) -> &mut PacketCounter {
        match kind {
            MediaKind::Video => &mut self.video,
            MediaKind::Audio => &mut self.audio,
        }
    }
}

/// The pipelines of one epoch of the frame lane.
struct Session {
    source: Arc<Epoch>,
    target: Arc<Epoch>,
    reencodes: bool,
    video: Option<Graph>,
    audio: Option<Graph>,
    /// The video pipeline has been given its first keyframe.
    started: bool,
    packetized: mpsc::Receiver<Packetized>,
    failed: watch::Receiver<Option<PipelineError>>,
    // Kept, so that the receivers above never see a closed channel, whatever tracks there are.
    _channels: (mpsc::Sender<Packetized>, watch::Sender<Option<PipelineError>>),
}

impl Session {
    fn begin(
        pipelines: &Pipelines,
        writer: &BridgeWriter<PacketBatch>,
        source: &Arc<Epoch>,
        reordered: bool,
    ) -> Result<Self, PipelineError> {
        let (sender, packetized) = mpsc::channel(QUEUE);
        let (failed_sender, failed) = watch::channel(None);
        let build = |file, values: &[(&str, &str)], kind, caps: &gst::Caps, pre_skip| {
            let report = failed_sender.clone();
            let graph = Graph::build(pipelines, file, values, move |error| {
                fail(&report, error);
            })?;
            graph.source().set_caps(Some(caps));
            collect(&graph, kind, pre_skip, sender.clone(), failed_sender.clone());
            graph.start()?;
            Ok::<_, PipelineError>(graph)
        };
        let mut tracks = Tracks::default();
        let mut reencodes = false;
        let video = match &source.tracks.video {
            Some(track) if track.codec == Codec::H264 => {
                let caps = caps::of_video(track, "packetised")?;
                reencodes = reordered || track.reordered;
                tracks.video = Some(packet_video(track, reencodes));
                let (file, bitrate) = match reencodes {
                    true => {
                        ("h264-reordered-frames-to-packets.launch", bitrate(track.resolution).to_string())
                    }
                    false => ("h264-frames-to-packets.launch", String::new()),
                };
                Some(build(file, &[("bitrate", bitrate.as_str())], MediaKind::Video, &caps, 0)?)
            }
            track => left_out(track.as_ref().map(|track| track.codec)),
        };
        let audio = match &source.tracks.audio {
            Some(track) if track.codec == Codec::Aac => {
                let caps = caps::of_audio(track, "packetised")?;
                tracks.audio = Some(packet_audio());
                let pre_skip = MediaTime::from_ticks(OPUS_PRE_SKIP, 48_000).as_nanos();
                Some(build("aac-frames-to-packets.launch", &[], MediaKind::Audio, &caps, pre_skip)?)
            }
            track => left_out(track.as_ref().map(|track| track.codec)),
        };
        let target = writer.begin_epoch(tracks, source.wall_origin);
        let source = source.clone();
        let _channels = (sender, failed_sender);
        Ok(Self { source, target, reencodes, video, audio, started: false, packetized, failed, _channels })
    }

    fn take(&mut self, frame: &Frame) -> Result<(), PipelineError> {
        let graph = match frame.kind {
            MediaKind::Video => {
                self.started |= frame.keyframe;
                self.video.as_ref().filter(|_| self.started)
            }
            MediaKind::Audio => self.audio.as_ref(),
        };
        let Some(graph) = graph else {
            return Ok(());
        };
        let mut buffer = gst::Buffer::from_slice(frame.data.clone());
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(Origin::INTERNAL.place(frame.pts)?);
            buffer.set_dts(Origin::INTERNAL.place(frame.dts)?);
            if !frame.keyframe {
                buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
        }
        graph.push(buffer)
    }
}

fn left_out(codec: Option<Codec>) -> Option<Graph> {
    if let Some(codec) = codec {
        warn!(%codec, "There is no bridge from frames to packets for this codec; the track is left out.");
    }
    None
}

/// The track as it is offered to viewers.
fn packet_video(track: &VideoTrack, reencoded: bool) -> VideoTrack {
    // ISO/IEC 14496-15 §5.3.3.1: profile, constraints and level are bytes 1 to 3 of the record.
    let profile = match track.codec_data.get(1..4) {
        Some(&[profile, constraints, level]) if !reencoded => [profile, constraints, level],
        _ => [0x42, 0xe0, level(track.resolution)],
    };
    let [profile, constraints, level] = profile;
    VideoTrack {
        codec_data: Default::default(),
        // RFC 6184 §8.1
        fmtp: format!(
            "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={profile:02x}{constraints:02x}{level:02x}"
        ),
        reordered: false,
        ..track.clone()
    }
}

fn packet_audio() -> AudioTrack {
    AudioTrack {
        codec: Codec::Opus,
        sample_rate: 48_000,
        channels: 2,
        codec_data: Default::default(),
        // RFC 7587 §6.1
        fmtp: "minptime=10;useinbandfec=1".into(),
    }
}

/// The level that what is encoded again needs: ITU-T H.264 table A-1, by macroblocks a frame, for up
/// to 30 pictures a second.
fn level(resolution: Option<(u32, u32)>) -> u8 {
    let (width, height) = resolution.unwrap_or((1920, 1080));
    match width.div_ceil(16) * height.div_ceil(16) {
        0..=3600 => 31,
        3601..=8192 => 40,
        _ => 51,
    }
}
