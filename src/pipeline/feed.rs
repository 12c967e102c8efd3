//! One track's way from packets to coded frames: put in order, one layer of several, and depacketised.
//!
//! What must be decoded has a pipeline, and so have H.265 and VP9. H.264 and AV1 are put together in Rust.

use super::PipelineError;
use super::clock::Origin;
use super::encoded::Encoded;
use super::encoder::{KeyframeClock, force_keyframe};
use super::graph::Graph;
use super::layer::{TopLayer, Verdict};
use super::sound;
use super::units::{Av1Units, H264Units};
use crate::media::{Codec, MediaKind, MediaTime, Packet, ReorderBuffer, Reordered};
use crate::stream::LayerInfo;
use gstreamer as gst;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::debug;

/// A hole in the picture's packets is waited for this long: all requests for a packet that are made (ingest's
/// five, 60 ms apart), and the round trip of the last.
pub(super) const PICTURE_WAIT: Duration = Duration::from_millis(400);
/// A hole in the sound is waited for this long: it may be overtaken, but few ask for it again.
pub(super) const SOUND_WAIT: Duration = Duration::from_millis(150);
/// Packets that wait behind a hole at most: a large keyframe.
const REORDER_PACKETS: usize = 1024;

/// Nanoseconds from the last picture of one layer to the first of another, at least.
const APART: i64 = 1_000_000;

/// One track on its way.
#[derive(Debug)]
pub(super) struct Feed {
    depacketizing: Depacketizing,
    wait: Duration,
    reorder: ReorderBuffer,
    layer: TopLayer,
    /// Numbers for the depacketiser.
    sequence: u16,
    /// The time of the last packet handed over.
    last: Option<MediaTime>,
    /// After a change of layer: no picture is earlier.
    not_before: Option<MediaTime>,
}

/// How packets become frames.
#[derive(Debug)]
pub(super) enum Depacketizing {
    /// A pipeline does it, also after losses.
    Graph(Graph),
    /// A pipeline does it, which must not be given anything between a loss and the next keyframe.
    Gated { graph: Graph, open: bool },
    /// A pipeline takes payloads as they are, decodes, and encodes again: sound.
    Sound(Graph),
    /// A pipeline does it, decodes, and encodes again.
    Transcoding { graph: Graph, keyframes: KeyframeClock, timestamp: Option<u32> },
    /// H.264, without a pipeline.
    H264(H264Units),
    /// AV1, without a pipeline.
    Av1(Av1Units),
}

impl Depacketizing {
    /// For a codec that frames can have: `graph` starts the pipeline of a description, `output` takes what needs
    /// none. `None` for the other codecs.
    pub(super) fn unchanged(
        codec: Codec,
        graph: impl FnOnce(&'static str) -> Result<Graph, PipelineError>,
        output: &mpsc::Sender<Encoded>,
    ) -> Result<Option<Self>, PipelineError> {
        Ok(Some(match codec {
            Codec::H264 => Self::H264(H264Units::new(output.clone())),
            Codec::Vp9 => Self::Graph(graph("vp9-packets-to-frames.launch")?),
            Codec::H265 => Self::Gated { graph: graph("h265-packets-to-frames.launch")?, open: false },
            Codec::Av1 => Self::Av1(Av1Units::new(output.clone())),
            Codec::Vp8 | Codec::Opus | Codec::Aac | Codec::Mp3 => return Ok(None),
        }))
    }
}

impl Feed {
    /// A feed that waits so long for a hole to be filled.
    pub(super) fn new(depacketizing: Depacketizing, wait: Duration) -> Self {
        Self {
            depacketizing,
            wait,
            reorder: ReorderBuffer::new(wait, REORDER_PACKETS),
            layer: TopLayer::default(),
            sequence: 0,
            last: None,
            not_before: None,
        }
    }

    /// Takes a packet that arrived at `now`; it waits for [`Self::pump`].
    pub(super) fn take(&mut self, now: Instant, packet: &Packet, layers: &[LayerInfo]) {
        match self.layer.judge(packet.layer, packet.keyframe, layers) {
            Verdict::Ignore => return,
            Verdict::Follow => {}
            Verdict::Switch => {
                debug!(layer = packet.layer, "Another layer is read.");
                // What has not come of the other layer is not waited for; a keyframe needs none of it. The
                // hole makes depacketisers and parsers begin anew: they take a change of parameter sets
                // in an unbroken stream one picture late.
                self.reorder = ReorderBuffer::new(self.wait, REORDER_PACKETS);
                self.lose(1);
                // Layers show the same instants, and two pictures of one instant would become one.
                self.not_before = self.last.map(|last| last.shifted(APART));
            }
        }
        self.reorder.push(now, packet.clone());
    }

    /// Hands over what is in order, or given up. True if a keyframe is needed.
    pub(super) fn pump(&mut self, now: Instant) -> Result<bool, PipelineError> {
        let mut needs_keyframe = false;
        while let Some(next) = self.reorder.pop(now) {
            match next {
                Reordered::Packet(mut packet) => {
                    packet.pts = self.not_before.map_or(packet.pts, |earliest| packet.pts.max(earliest));
                    self.last = Some(packet.pts);
                    needs_keyframe = self.push(&packet)?;
                }
                Reordered::Lost(packets) => {
                    debug!(packets, "Packets lost.");
                    self.lose(packets);
                }
            }
        }
        Ok(needs_keyframe)
    }

    /// The layer of which a keyframe is needed for a change.
    pub(super) fn wanted_layer(&self, layers: &[LayerInfo]) -> Option<u8> {
        self.layer.wanted(layers)
    }

    /// When [`Self::pump`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.reorder.deadline()
    }

    /// Whether the frames are encoded here.
    pub(super) fn transcodes(&self) -> bool {
        matches!(self.depacketizing, Depacketizing::Transcoding { .. })
    }

    /// Says that no more comes: what a pipeline for sound has inside comes out.
    pub(super) fn finish(&self) {
        if let Depacketizing::Sound(graph) = &self.depacketizing {
            sound::drain(graph);
        }
    }

    /// Pipelines see a loss in the sequence numbers, drop what depends on it and wish for a keyframe.
    fn lose(&mut self, packets: u64) {
        self.sequence = self.sequence.wrapping_add(packets as u16);
        match &mut self.depacketizing {
            Depacketizing::Graph(_) | Depacketizing::Sound(_) | Depacketizing::Transcoding { .. } => {}
            Depacketizing::Gated { open, .. } => *open = false,
            Depacketizing::H264(units) => units.lost(),
            Depacketizing::Av1(units) => units.lost(),
        }
    }

    fn push(&mut self, packet: &Packet) -> Result<bool, PipelineError> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        match &mut self.depacketizing {
            Depacketizing::Graph(graph) => graph.push(rtp(packet, sequence)?).map(|()| false),
            Depacketizing::Sound(graph) => graph
                .push(timed(gst::Buffer::from_slice(packet.payload.clone()), packet.pts)?)
                .map(|()| false),
            Depacketizing::Gated { graph, open } => {
                *open |= packet.keyframe;
                if *open {
                    graph.push(rtp(packet, sequence)?)?;
                }
                Ok(!*open)
            }
            Depacketizing::Transcoding { graph, keyframes, timestamp } => {
                if timestamp.replace(packet.timestamp) != Some(packet.timestamp)
                    && keyframes.is_due(packet.pts)
                {
                    graph.send(force_keyframe());
                }
                graph.push(rtp(packet, sequence)?).map(|()| false)
            }
            Depacketizing::H264(units) => units.push(packet),
            Depacketizing::Av1(units) => units.push(packet),
        }
    }
}

/// The packet with a header again, RFC 3550 §5.1. The payload is shared.
fn rtp(packet: &Packet, sequence: u16) -> Result<gst::Buffer, PipelineError> {
    const VERSION: u8 = 2 << 6;
    let payload_type = match packet.kind {
        MediaKind::Video => 96,
        MediaKind::Audio => 111,
    };
    let mut header = [0u8; 12];
    header[0] = VERSION;
    header[1] = payload_type | if packet.marker { 0x80 } else { 0 };
    header[2..4].copy_from_slice(&sequence.to_be_bytes());
    header[4..8].copy_from_slice(&packet.timestamp.to_be_bytes());
    header[8..12].copy_from_slice(&1u32.to_be_bytes());
    let mut buffer = gst::Buffer::from_slice(header);
    if let Some(buffer) = buffer.get_mut() {
        buffer.append_memory(gst::Memory::from_slice(packet.payload.clone()));
    }
    timed(buffer, packet.pts)
}

fn timed(mut buffer: gst::Buffer, pts: MediaTime) -> Result<gst::Buffer, PipelineError> {
    if let Some(buffer) = buffer.get_mut() {
        let time = Origin::INTERNAL.place(pts)?;
        buffer.set_pts(time);
        buffer.set_dts(time);
    }
    Ok(buffer)
}
