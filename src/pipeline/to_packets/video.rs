//! One epoch's pictures on their way to packets: as they are, without B-frames, or encoded again.

use super::Channels;
use super::edge::LiveEdge;
use super::order::{Order, is_disposable};
use crate::media::{Codec, Frame, MediaKind, MediaTime, PacketVideo, VideoTrack};
use crate::pipeline::caps::TrackConfig;
use crate::pipeline::decode::{buffer, decoding};
use crate::pipeline::encoded::{Unit, collect};
use crate::pipeline::encoder::{self, Progress, force_keyframe};
use crate::pipeline::graph::Graph;
use crate::pipeline::packetise::Packetiser;
use crate::pipeline::rtp::Packetized;
use crate::pipeline::{PipelineError, Pipelines};
use bytes::Bytes;

pub(super) const TRANSCODER: &str = "frames-to-baseline-frames.launch";

/// The pictures of one epoch.
pub(super) struct Video {
    way: Way,
    /// The first keyframe has come.
    started: bool,
}

enum Way {
    Packetised { codec: Codec, packetiser: Packetiser, order: Order, thinned: bool },
    Transcoded { graph: Graph, packetiser: Option<Packetiser>, progress: Progress, edge: LiveEdge },
}

/// What a frame led to.
pub(super) enum Took {
    Packets(Packetized),
    Nothing,
    /// It comes in another order than it is shown, which nobody said.
    OutOfOrder,
    /// It is out of order, and others depend on it.
    DependedOn,
}

impl Video {
    pub(super) fn begin(
        pipelines: &Pipelines,
        track: &VideoTrack,
        way: PacketVideo,
        channels: &Channels,
    ) -> Result<Self, PipelineError> {
        let way = match way {
            PacketVideo::AsItIs | PacketVideo::Thinned { .. } => Way::Packetised {
                codec: track.codec,
                packetiser: Packetiser::new(track)?,
                order: Order::default(),
                thinned: matches!(way, PacketVideo::Thinned { .. }),
            },
            PacketVideo::Transcoded => {
                let graph = transcoder(pipelines, track, channels)?;
                let edge = LiveEdge::before_encoder(&graph);
                Way::Transcoded { graph, packetiser: None, progress: Progress::new(true), edge }
            }
        };
        Ok(Self { way, started: false })
    }

    pub(super) fn transcodes(&self) -> bool {
        matches!(self.way, Way::Transcoded { .. })
    }

    /// Takes the next frame; `at_edge` if it is not followed by another cached picture.
    pub(super) fn take(&mut self, frame: &Frame, at_edge: bool) -> Result<Took, PipelineError> {
        self.started |= frame.keyframe;
        if !self.started {
            return Ok(Took::Nothing);
        }
        match &mut self.way {
            Way::Packetised { codec, packetiser, order, thinned } => {
                Ok(match (order.goes_on(frame), *thinned && is_disposable(*codec, frame)) {
                    (true, _) => Took::Packets(packets(packetiser, frame.pts, frame.keyframe, &frame.data)),
                    (false, true) => Took::Nothing,
                    (false, false) if *thinned => Took::DependedOn,
                    (false, false) => Took::OutOfOrder,
                })
            }
            Way::Transcoded { graph, progress, edge, .. } => {
                edge.put_in(frame.pts, at_edge);
                if at_edge {
                    progress.put_in(frame.pts);
                }
                progress.check(TRANSCODER)?;
                graph.push(buffer(frame)?).map(|()| Took::Nothing)
            }
        }
    }

    /// The next picture is to be a keyframe. What is not encoded here has its keyframes where they are.
    pub(super) fn force_keyframe(&self) {
        if let Way::Transcoded { graph, .. } = &self.way {
            graph.send(force_keyframe());
        }
    }

    /// The encoder has a configuration.
    pub(super) fn configured(&mut self, config: TrackConfig) -> Result<(), PipelineError> {
        if let (Way::Transcoded { packetiser, .. }, TrackConfig::Video(track)) = (&mut self.way, config) {
            *packetiser = Some(Packetiser::new(&track)?);
        }
        Ok(())
    }

    /// The encoder has made a picture.
    pub(super) fn encoded(&mut self, unit: Unit) -> Option<Packetized> {
        let Way::Transcoded { packetiser, progress, .. } = &mut self.way else { return None };
        progress.came_out(&unit);
        Some(packets(packetiser.as_mut()?, unit.pts, unit.keyframe, &unit.data))
    }
}

fn packets(packetiser: &mut Packetiser, pts: MediaTime, keyframe: bool, data: &Bytes) -> Packetized {
    Packetized { pts, keyframe, samples: 0, payloads: packetiser.payloads(keyframe, data) }
}

fn transcoder(
    pipelines: &Pipelines,
    track: &VideoTrack,
    channels: &Channels,
) -> Result<Graph, PipelineError> {
    let graph = decoding(pipelines, TRANSCODER, track, &channels.failed)?;
    collect(&graph, MediaKind::Video, 0, channels.encoded.clone(), channels.failed.clone());
    encoder::follow_resolution(&graph);
    graph.start()?;
    Ok(graph)
}
