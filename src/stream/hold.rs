//! What fills the frame lane while no media come: the write half of a hold, and what it begins with.

use super::{Stream, StreamState};
use crate::media::{Epoch, Frame, Tracks};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;
use tokio::time::Instant;

/// The latest group of pictures that a publisher's media made on the frame lane.
#[derive(Clone, Debug)]
pub struct LastGroup {
    /// From a point on where decoding can start; never empty.
    pub frames: Vec<Arc<Frame>>,
    /// When the last of them was written.
    pub written: Instant,
}

/// The write half of the frame lane while its publisher has stalled or left. There is at most one; it is
/// void as soon as frames of a publisher's come again: its own, or what a bridge makes of its packets.
#[derive(Debug)]
pub struct HoldWriter {
    stream: Arc<Stream>,
    id: u64,
}

impl HoldWriter {
    /// `None` while the stream is live or held already.
    pub(super) fn new(stream: &Arc<Stream>) -> Option<Self> {
        // Under this lock nobody's state changes.
        let life = stream.life.lock();
        let turn = &stream.turn;
        if life.state == StreamState::Live || turn.is_held() || stream.watch_lanes().borrow().ended {
            return None;
        }
        let id = stream.next_epoch();
        stream.frames.keep_last();
        turn.floor.store(id, Ordering::Release);
        turn.hold.store(id, Ordering::Release);
        turn.interruptions.fetch_add(1, Ordering::AcqRel);
        stream.lanes.send_modify(|lanes| lanes.held = true);
        Some(Self { stream: stream.clone(), id })
    }

    /// As [`Publisher::begin_epoch`](super::Publisher::begin_epoch).
    pub fn begin_epoch(&self, tracks: Tracks, wall_origin: SystemTime) -> Arc<Epoch> {
        // What a publisher begins from here on has a higher number.
        let id = self.stream.next_epoch();
        if self.stream.turn.hold.load(Ordering::Acquire) == self.id {
            self.stream.turn.floor.fetch_max(id, Ordering::AcqRel);
            self.stream.turn.interruptions.fetch_add(1, Ordering::AcqRel);
        }
        Arc::new(Epoch { id, tracks, wall_origin })
    }

    /// Hands a frame to all subscribers. Never waits. False once the hold is over: the frame is dropped.
    pub fn write(&self, frame: Frame) -> bool {
        let turn = &self.stream.turn;
        self.stream.frames.write_if(frame, || turn.hold.load(Ordering::Acquire) == self.id)
    }

    /// Completes when the hold is over: a publisher's frames have come, or the stream has ended. Cancel safe.
    pub async fn over(&self) {
        let mut lanes = self.stream.watch_lanes();
        let over = |lanes: &super::LaneWatch| lanes.ended || !lanes.held;
        // Otherwise: the sender lives in the stream that is held here.
        let _ = lanes.wait_for(over).await.map(drop);
    }

    /// The stream that is held.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }
}

impl Drop for HoldWriter {
    fn drop(&mut self) {
        self.stream.end_hold(Some(self.id));
    }
}

impl Stream {
    /// The write half of the frame lane while no publisher fills it: `None` while the stream is live, and
    /// while another hold lasts.
    pub fn hold(self: &Arc<Self>) -> Option<HoldWriter> {
        HoldWriter::new(self)
    }

    /// The latest group of pictures of a publisher, kept for its hold: also after the publisher has left, when
    /// new subscribers don't get it any more. `None` if nobody read the lane, or the group was too long.
    pub fn last_group(&self) -> Option<LastGroup> {
        self.frames.last_group(self.turn.is_held())
    }

    /// Whether frames of this epoch are a hold's, the latest one's: nothing that WebRTC viewers want, who keep
    /// the last picture by themselves.
    pub fn is_hold(&self, epoch: &Epoch) -> bool {
        epoch.id == self.turn.floor.load(Ordering::Acquire)
    }

    /// Ends the hold of this id, or any.
    pub(super) fn end_hold(&self, id: Option<u64>) {
        let turn = &self.turn;
        let ended = self.frames.end_hold(|| {
            let hold = turn.hold.load(Ordering::Acquire);
            let ends = hold != 0 && id.is_none_or(|id| id == hold);
            if ends {
                turn.hold.store(0, Ordering::Release);
            }
            ends
        });
        if ended {
            self.lanes.send_modify(|lanes| lanes.held = false);
        }
    }
}
