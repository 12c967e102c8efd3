//! One epoch's sound on its way to packets: Opus as it is, all else transcoded to Opus.

use super::Channels;
use super::video::buffer;
use crate::media::{AudioTrack, Codec, Frame, MediaKind, MediaTime};
use crate::pipeline::encoded::{Unit, collect};
use crate::pipeline::graph::{Graph, fail};
use crate::pipeline::packetise::opus;
use crate::pipeline::rtp::Packetized;
use crate::pipeline::{PipelineError, Pipelines, caps};
use bytes::Bytes;

/// Samples at 48 kHz that `opusenc` puts in front (the encoder's look-ahead; RFC 7845 §4.2 calls it
/// pre-skip). It stamps its first packet as if they were not there, and all others rightly.
const OPUS_PRE_SKIP: i64 = 312;

/// The sound of one epoch.
pub(super) enum Audio {
    AsItIs,
    Transcoded {
        graph: Graph,
        /// What the next packet is earlier than it is stamped, in nanoseconds.
        early: i64,
    },
}

impl Audio {
    pub(super) fn begin(
        pipelines: &Pipelines,
        track: &AudioTrack,
        channels: &Channels,
    ) -> Result<Self, PipelineError> {
        // RFC 7587 §4.1: over RTP there are one or two channels.
        if track.codec == Codec::Opus && track.channels <= 2 {
            return Ok(Self::AsItIs);
        }
        let unsupported = PipelineError::Unsupported { codec: track.codec, purpose: "decoded" };
        let decoder = pipelines.audio_decoder(track.codec).ok_or(unsupported)?;
        let report = channels.failed.clone();
        let values = [("audio_decoder", decoder)];
        let graph = Graph::build(pipelines, "frames-to-opus.launch", &values, move |error| {
            fail(&report, error);
        })?;
        graph.source().set_caps(Some(&caps::of_sound(track, "decoded")?));
        collect(&graph, MediaKind::Audio, 0, channels.encoded.clone(), channels.failed.clone());
        graph.start()?;
        let early = MediaTime::from_ticks(OPUS_PRE_SKIP, 48_000).as_nanos();
        Ok(Self::Transcoded { graph, early })
    }

    /// Takes the next frame.
    pub(super) fn take(&mut self, frame: &Frame) -> Result<Option<Packetized>, PipelineError> {
        match self {
            Self::AsItIs => Ok(packet(frame.pts, frame.data.clone())),
            Self::Transcoded { graph, .. } => graph.push(buffer(frame)?).map(|()| None),
        }
    }

    /// The encoder has made a packet.
    pub(super) fn encoded(&mut self, unit: Unit) -> Option<Packetized> {
        let Self::Transcoded { early, .. } = self else { return None };
        packet(unit.pts.shifted(-std::mem::take(early)), unit.data)
    }
}

/// `None` for what is no Opus packet.
fn packet(pts: MediaTime, data: Bytes) -> Option<Packetized> {
    let samples = opus::samples(&data)?;
    Some(Packetized { pts, keyframe: true, samples, payloads: vec![data] })
}
