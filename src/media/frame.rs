//! One access unit or one audio frame.

use super::{Epoch, MediaKind, MediaTime};
use bytes::Bytes;
use std::sync::Arc;

/// A coded frame on the frame lane.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The epoch it belongs to: a change of `id` announces new configurations.
    pub epoch: Arc<Epoch>,
    /// Which track.
    pub kind: MediaKind,
    /// When it is shown or heard.
    pub pts: MediaTime,
    /// When it is decoded; rises from frame to frame of a track, and equals `pts` without B-frames.
    pub dts: MediaTime,
    /// Video: a decoder can start here (H.264: an IDR access unit). Audio: always true.
    pub keyframe: bool,
    /// H.264, H.265: the access unit with NAL units prefixed by their length in 4 bytes. VP9: a frame or
    /// superframe. AV1: a temporal unit of OBUs with sizes, without delimiter. AAC: one raw frame. MP3: one frame.
    /// Opus: one packet.
    pub data: Bytes,
}
