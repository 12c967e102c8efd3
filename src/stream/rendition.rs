//! The lane of lower renditions: the same pictures as on the frame lane, in lower quality.

use super::lane::{Lane, Media};
use super::{LaneKind, Stream};
use crate::media::{Epoch, Frame};
use std::sync::Arc;

/// A frame of a video rendition beside the one on the frame lane. No publisher fills this lane; a bridge does
/// while somebody reads it, from the layers of a simulcast publisher or by encoding. Each rendition has
/// epochs of its own, which lie on the timeline of the frame lane's epoch with the same wall-clock origin.
///
/// The lane keeps no group of pictures: a reader begins each rendition at its next keyframe.
#[derive(Clone, Debug)]
pub struct RenditionFrame {
    /// Which one: from 1 on, the higher the number the lower the quality.
    pub rendition: u8,
    /// Its picture.
    pub frame: Frame,
}

impl Media for RenditionFrame {
    const LANE: LaneKind = LaneKind::Renditions;
    fn epoch(&self) -> &Arc<Epoch> {
        &self.frame.epoch
    }
    /// Where a reader of all renditions can go on; in each of them, at a keyframe.
    fn starts_group(&self) -> bool {
        true
    }
    fn size(&self) -> usize {
        self.frame.size()
    }
    fn lane(stream: &Stream) -> &Lane<Self> {
        &stream.renditions
    }
}
