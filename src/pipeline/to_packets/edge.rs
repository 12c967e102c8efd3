//! Encoding begins at the live edge.
//!
//! Who comes first to a stream whose pictures are encoded for viewers gets them from the moment of its coming, as
//! steadily as all that follow. The cached group of pictures before it is decoded, because pictures depend on it, and,
//! but for its last moment, not encoded: it would come in a burst and late, and a receiver would hold sound back for it
//! for many seconds.

use crate::media::{Frame, MediaKind, MediaTime};
use crate::pipeline::clock::Origin;
use crate::pipeline::graph::Graph;
use crate::stream::Subscriber;
use gst::prelude::*;
use gstreamer as gst;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// So much of what is cached is encoded, too: decoders keep some pictures until others come, and a viewer is not to wait
/// for those.
const BEFORE: Duration = Duration::from_millis(200);

/// Whether no picture is cached any more of what `frames` reads next.
pub(super) fn is_at_edge(frames: &Subscriber<Frame>) -> bool {
    frames.cached().all(|frame| frame.kind != MediaKind::Video)
}

/// Decides which pictures reach the element `encoder` of a graph: none until the last cached one has come, and
/// then those from right before it on.
#[derive(Debug)]
pub(super) struct LiveEdge {
    /// Pictures before this are left out, in nanoseconds of the timeline.
    from: Arc<AtomicI64>,
    /// The latest that was put in, while the edge is not reached.
    latest: Option<MediaTime>,
    reached: bool,
}

impl LiveEdge {
    /// Stands in front of the encoder, which has seen nothing yet.
    pub(super) fn before_encoder(graph: &Graph) -> Self {
        let from = Arc::new(AtomicI64::new(i64::MAX));
        if let Some(pad) = graph.element("encoder").and_then(|encoder| encoder.static_pad("sink")) {
            let from = from.clone();
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                let pts = info.buffer().and_then(|buffer| buffer.pts());
                let early = |pts| Origin::INTERNAL.read(pts).as_nanos() < from.load(Ordering::Acquire);
                if pts.is_some_and(early) { gst::PadProbeReturn::Drop } else { gst::PadProbeReturn::Ok }
            });
        }
        Self { from, latest: None, reached: false }
    }

    /// A picture shown at `pts` is about to be put in; `at_edge` if it is not followed by another cached one.
    pub(super) fn put_in(&mut self, pts: MediaTime, at_edge: bool) {
        if self.reached {
            return;
        }
        self.latest = self.latest.max(Some(pts));
        self.reached = at_edge;
        if let Some(latest) = self.latest.filter(|_| self.reached) {
            self.from.store((latest - BEFORE).as_nanos(), Ordering::Release);
        }
    }
}
