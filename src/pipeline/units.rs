//! Packets whose frames are put together without a pipeline: H.264 and AV1.
//!
//! Putting together is copying, so a pipeline would be a thread and many wake-ups for nothing; and GStreamer
//! 1.22 knows no AV1 over RTP.

use super::PipelineError;
use super::caps::TrackConfig;
use super::encoded::{Encoded, Unit, rising};
use crate::media::av1::{self, SequenceHeader};
use crate::media::{Codec, MediaKind, MediaTime, Packet, VideoTrack, h264};
use bytes::Bytes;
use tokio::sync::mpsc;

/// H.264 packets into access units.
#[derive(Debug)]
pub(super) struct H264Units {
    depacketizer: h264::Depacketizer,
    output: Output,
}

impl H264Units {
    /// Whose access units go to `output`.
    pub(super) fn new(output: mpsc::Sender<Encoded>) -> Self {
        Self { depacketizer: h264::Depacketizer::default(), output: Output::new(output) }
    }

    /// Takes the next packet. True if a keyframe is needed.
    pub(super) fn push(&mut self, packet: &Packet) -> Result<bool, PipelineError> {
        let Self { depacketizer, output } = self;
        let mut sent = Ok(());
        depacketizer.push(packet, |unit| {
            let config = unit.config.map(|config| avc_track(&config));
            sent = sent.clone().and_then(|()| output.send(config, unit.pts, unit.keyframe, unit.data));
        });
        sent.map(|()| depacketizer.needs_keyframe())
    }

    /// Packets before the next one are lost.
    pub(super) fn lost(&mut self) {
        self.depacketizer.lost();
    }
}

/// AV1 packets into temporal units.
#[derive(Debug)]
pub(super) struct Av1Units {
    depacketizer: av1::Depacketizer,
    output: Output,
    sequence_header: Option<SequenceHeader>,
}

impl Av1Units {
    /// Whose temporal units go to `output`.
    pub(super) fn new(output: mpsc::Sender<Encoded>) -> Self {
        let depacketizer = av1::Depacketizer::default();
        Self { depacketizer, output: Output::new(output), sequence_header: None }
    }

    /// Takes the next packet. True if a keyframe is needed.
    pub(super) fn push(&mut self, packet: &Packet) -> Result<bool, PipelineError> {
        if let Some(unit) = self.depacketizer.push(packet) {
            let is_news = self.sequence_header.replace(unit.sequence_header) != Some(unit.sequence_header);
            let config = is_news.then(|| av1_track(&unit.sequence_header));
            self.output.send(config, packet.pts, unit.keyframe, unit.data)?;
        }
        Ok(self.depacketizer.needs_keyframe())
    }

    /// Packets before the next one are lost.
    pub(super) fn lost(&mut self) {
        self.depacketizer.lost();
    }
}

/// Where the frames go, at times that rise.
#[derive(Debug)]
struct Output {
    sender: mpsc::Sender<Encoded>,
    last: Option<MediaTime>,
}

impl Output {
    fn new(sender: mpsc::Sender<Encoded>) -> Self {
        Self { sender, last: None }
    }

    fn send(
        &mut self,
        config: Option<VideoTrack>,
        pts: MediaTime,
        keyframe: bool,
        data: Bytes,
    ) -> Result<(), PipelineError> {
        let (kind, pts) = (MediaKind::Video, rising(&mut self.last, pts));
        let config = config.map(|track| Encoded::Configured(TrackConfig::Video(track)));
        for item in config.into_iter().chain([Encoded::Unit(Unit { kind, pts, keyframe, data })]) {
            let lost = |_| PipelineError::OutputLost { file: "packets to frames" };
            self.sender.try_send(item).map_err(lost)?;
        }
        Ok(())
    }
}

fn avc_track(config: &h264::AvcConfig) -> VideoTrack {
    let sps = config.first_sps().ok();
    VideoTrack {
        resolution: sps.as_ref().map(|sps| (sps.width, sps.height)),
        frame_rate: sps.and_then(|sps| sps.frame_rate),
        codec_data: config.record().clone(),
        ..VideoTrack::new(Codec::H264)
    }
}

fn av1_track(header: &SequenceHeader) -> VideoTrack {
    VideoTrack {
        resolution: Some(header.resolution),
        codec_data: header.record(),
        transfer: header.transfer,
        ..VideoTrack::new(Codec::Av1)
    }
}
