//! RTP packets as they travel between rooms.

use super::{Epoch, MediaKind, MediaTime};
use bytes::Bytes;
use std::sync::Arc;

/// One RTP packet without its header: payload type, SSRC and header extensions belong to one hop only.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Which track.
    pub kind: MediaKind,
    /// Which encoding of a simulcast video track (RFC 8853): 0 is the best, and the only one without
    /// simulcast. The stream's `layers` describe them.
    pub layer: u8,
    /// The sequence number unwrapped to 64 bits; unique within a track, layer and epoch. Packets may come
    /// out of order (retransmissions), never twice.
    pub sequence: u64,
    /// The RTP timestamp as the publisher sent it, in the track's clock rate (RFC 3550 §5.1).
    pub timestamp: u32,
    /// The timestamp on the stream's timeline.
    pub pts: MediaTime,
    /// The marker bit: the last packet of a video frame.
    pub marker: bool,
    /// Video: the first packet of an access unit that can be decoded by itself. Audio: false.
    pub keyframe: bool,
    /// The RTP payload, without padding.
    pub payload: Bytes,
}

/// Packets that arrived together. If one is a keyframe's first packet, it is the batch's first packet.
#[derive(Clone, Debug)]
pub struct PacketBatch {
    /// The epoch they belong to.
    pub epoch: Arc<Epoch>,
    /// At least one packet, in order of arrival.
    pub packets: Vec<Packet>,
}
