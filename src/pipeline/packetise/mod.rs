//! Coded frames into RTP payloads: H.264 (RFC 6184), H.265 (RFC 7798), VP9 (RFC 9628), AV1 (its RTP payload
//! format, version 1.0).
//!
//! Pure, and never late: the payloads of a frame are there when the call returns. What fits a packet as it
//! is shares the frame's memory; everything else of a frame is written into one allocation. Knows no
//! sequence numbers, timestamps and marker bits: those are `rtp`'s.

mod av1;
mod h264;
mod h265;
mod nal_units;
#[cfg(test)]
mod oracle_tests;
mod payloads;
mod vp9;

use super::PipelineError;
use crate::media::{Codec, VideoTrack};
use av1::Av1;
use bytes::Bytes;
use h264::H264;
use h265::H265;
use vp9::Vp9;

/// Bytes of a payload at most: packets of 1200 bytes less the header of RFC 3550 §5.1.
pub(super) const MAX_PAYLOAD: usize = 1200 - 12;

/// Packetises one track of one epoch.
#[derive(Debug)]
pub(super) enum Packetiser {
    H264(H264),
    H265(H265),
    Vp9(Vp9),
    Av1(Av1),
}

impl Packetiser {
    /// For frames as the frame lane carries them, with the decoder configuration of `track`.
    pub(super) fn new(track: &VideoTrack) -> Result<Self, PipelineError> {
        let unsupported = || PipelineError::Unsupported { codec: track.codec, purpose: "packetised" };
        Ok(match track.codec {
            Codec::H264 => Self::H264(H264::new(track.codec_data.clone()).ok_or_else(unsupported)?),
            Codec::H265 => Self::H265(H265::new(&track.codec_data).ok_or_else(unsupported)?),
            Codec::Vp9 => Self::Vp9(Vp9::new()),
            Codec::Av1 => Self::Av1(Av1::new(track.codec_data.clone())),
            _ => return Err(unsupported()),
        })
    }

    /// The payloads of one access unit, in order: none if there is nothing in it, or what there is is
    /// malformed. A keyframe begins with the parameter sets that it needs.
    pub(super) fn payloads(&mut self, keyframe: bool, frame: &Bytes) -> Vec<Bytes> {
        match self {
            Self::H264(packetiser) => packetiser.payloads(keyframe, frame),
            Self::H265(packetiser) => packetiser.payloads(keyframe, frame),
            Self::Vp9(packetiser) => packetiser.payloads(keyframe, frame),
            Self::Av1(packetiser) => packetiser.payloads(keyframe, frame),
        }
    }
}
