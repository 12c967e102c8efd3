//! The compatible lanes: the programme as every server and player of the old kind takes it, and as every WebRTC
//! viewer does.

use super::lane::{Lane, Media};
use super::{LaneKind, Stream};
use crate::media::{Epoch, Frame, MediaTime, PacketBatch};
use std::sync::Arc;

/// A frame of H.264 or AAC. No publisher fills this lane; a bridge does while somebody reads it.
#[derive(Clone, Debug)]
pub struct CompatibleFrame(pub Frame);

impl Media for CompatibleFrame {
    const LANE: LaneKind = LaneKind::Compatible;
    fn epoch(&self) -> &Arc<Epoch> {
        &self.0.epoch
    }
    fn starts_group(&self) -> bool {
        self.0.starts_group()
    }
    fn size(&self) -> usize {
        self.0.size()
    }
    fn lane(stream: &Stream) -> &Lane<Self> {
        &stream.compatible
    }
}

/// Packets of H.264 and Opus. No publisher fills this lane; a bridge does while somebody reads it.
#[derive(Clone, Debug)]
pub struct CompatiblePackets(pub PacketBatch);

impl Media for CompatiblePackets {
    const LANE: LaneKind = LaneKind::CompatiblePackets;
    fn epoch(&self) -> &Arc<Epoch> {
        &self.0.epoch
    }
    fn starts_group(&self) -> bool {
        self.0.starts_group()
    }
    fn layer(&self) -> u8 {
        self.0.layer()
    }
    fn size(&self) -> usize {
        self.0.size()
    }
    fn time(&self) -> Option<MediaTime> {
        self.0.time()
    }
    fn lane(stream: &Stream) -> &Lane<Self> {
        &stream.compatible_packets
    }
}
