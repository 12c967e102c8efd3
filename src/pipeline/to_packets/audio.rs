//! One epoch's sound on its way to packets: Opus as it is, all else transcoded to Opus.

use super::Channels;
use crate::media::opus::packet_samples;
use crate::media::{AudioTrack, Codec, Frame, MediaKind, MediaTime};
use crate::pipeline::decode::buffer;
use crate::pipeline::encoded::{Unit, collect};
use crate::pipeline::graph::{Graph, fail};
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
        let decoder = match unplaced_channels(track) {
            Some(mask) => {
                format!("{decoder} ! capssetter caps=\"audio/x-raw,channel-mask=(bitmask){mask:#x}\"")
            }
            None => decoder.to_owned(),
        };
        let values = [("audio_decoder", decoder.as_str())];
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

/// AAC whose channels only a program config element describes (ISO/IEC 14496-3 §1.6.2.1: configuration 0) comes
/// out of decoders without places, and what has none can't be mixed down: the usual places for that many
/// channels, as a mask.
fn unplaced_channels(track: &AudioTrack) -> Option<u32> {
    let &[first, second, ..] = &track.codec_data[..] else { return None };
    // Object type, rate and configuration in 5, 4 and 4 bits, as all but exotic encoders write them.
    let plain = track.codec == Codec::Aac && first >> 3 != 31 && (first & 7) << 1 | second >> 7 != 15;
    let configuration = second >> 3 & 0x0f;
    match track.channels {
        3 => Some(0x7),
        4 => Some(0x107),
        5 => Some(0x37),
        6 => Some(0x3f),
        8 => Some(0xff),
        _ => None,
    }
    .filter(|_| plain && configuration == 0)
}

/// `None` for what is no Opus packet.
fn packet(pts: MediaTime, data: Bytes) -> Option<Packetized> {
    // RFC 6716 §3.4 [R5]: 120 ms at most.
    let samples = packet_samples(&data).filter(|samples| (1..=5760).contains(samples))?;
    Some(Packetized { pts, keyframe: true, samples: samples.into(), payloads: vec![data] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_without_frames_or_longer_than_120_ms_are_no_opus() {
        let samples = |data: &'static [u8]| packet(MediaTime::ZERO, data.into()).map(|packet| packet.samples);
        // CELT, 20 ms: once, twice, six times; then too often, never, and cut short.
        assert_eq!(samples(&[31 << 3]), Some(960));
        assert_eq!(samples(&[31 << 3 | 1]), Some(1920));
        assert_eq!(samples(&[31 << 3 | 3, 6]), Some(5760));
        assert_eq!(samples(&[31 << 3 | 3, 7]), None);
        assert_eq!(samples(&[31 << 3 | 3, 0]), None);
        assert_eq!(samples(&[31 << 3 | 3]), None);
        assert_eq!(samples(&[]), None);
    }
}
