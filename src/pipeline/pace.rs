//! When the muxer has work: frames go to it in bursts, one for each part.
//!
//! Handing each frame over by itself would wake the muxer's threads a hundred times a second for the
//! three times that something comes out.

use super::cut::{Cut, Cutter};
use super::stamps::Stamps;
use crate::media::{Frame, MediaTime};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Foretells, frame by frame, when a [`Muxer`](super::Muxer) can complete a part: until then it may wait
/// for its frames without being late. A copy of the muxer's own state; ask it for each frame once.
#[derive(Clone, Debug)]
pub struct Pace {
    stamps: Stamps,
    cutter: Cutter,
    started: bool,
    /// Parts begun, except the first …
    cuts: u64,
    /// … and parts that have come out.
    parts: Arc<AtomicU64>,
}

/// What is to be done with a frame.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) pts: MediaTime,
    pub(super) dts: MediaTime,
    pub(super) duration: Duration,
    /// The cut in front of it.
    pub(super) cut: Option<Cut>,
    /// The muxer can complete a part with it.
    pub(super) due: bool,
}

impl Pace {
    pub(super) fn new(stamps: Stamps, cutter: Cutter, parts: Arc<AtomicU64>) -> Self {
        Self { stamps, cutter, started: false, cuts: 0, parts }
    }

    /// Whether the muxer should be given this frame, and all before it, now.
    pub fn is_due(&mut self, frame: &Frame) -> bool {
        self.step(frame).is_some_and(|step| step.due)
    }

    /// The next frame in decoding order; `None` for what precedes the first keyframe: no player could
    /// show it.
    pub(super) fn step(&mut self, frame: &Frame) -> Option<Step> {
        self.started |= frame.keyframe;
        if !self.started {
            return None;
        }
        let (pts, dts, duration) = self.stamps.next(frame);
        let cut = self.cutter.before(pts, dts, frame.keyframe);
        // A group of pictures is complete for the muxer when it has seen some of the next one, so
        // after a cut it gets each frame until the part is out.
        let owed = self.owed() > 0;
        self.cuts += u64::from(cut.is_some());
        Some(Step { pts, dts, duration, cut, due: cut.is_some() || owed })
    }

    pub(super) fn cutter(&mut self) -> &mut Cutter {
        &mut self.cutter
    }

    /// Parts that were cut off and have not come out.
    pub(super) fn owed(&self) -> u64 {
        self.cuts.saturating_sub(self.parts.load(Relaxed))
    }
}
