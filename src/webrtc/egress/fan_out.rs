//! One lane of a stream on its way to all its viewers of one worker.
//!
//! Owns the lane's history; the viewers are known by id and owned by the driver.

use super::history::History;
use super::lane::ViewerLane;
use super::template::Template;
use super::viewer::Viewer;
use crate::media::{Epoch, PacketBatch};
use crate::stream::{LayerInfo, Stream};
use crate::webrtc::SessionId;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// A stream that nobody watches is read for so long still: a reload of the page begins at once.
const LINGER: Duration = Duration::from_secs(2);

/// How often the stream's layers are looked at.
const LAYERS_INTERVAL: Duration = Duration::from_millis(200);

/// The state of one stream on one worker.
pub(in crate::webrtc) struct FanOut {
    stream: Arc<Stream>,
    lane: ViewerLane,
    history: History,
    epoch: Option<Arc<Epoch>>,
    viewers: Vec<SessionId>,
    empty_since: Instant,
    lost: u64,
    layers: Arc<[LayerInfo]>,
    layers_read: Instant,
    /// The task that reads the stream.
    task: Option<JoinHandle<()>>,
}

/// What the viewers must do about a batch, besides sending it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::webrtc) enum Change {
    /// Nothing.
    None,
    /// Another epoch begins with it.
    Epoch,
    /// Media before it was lost.
    Gap,
}

impl FanOut {
    /// Nothing read yet, nobody watching.
    pub(in crate::webrtc) fn new(stream: Arc<Stream>, lane: ViewerLane, now: Instant) -> Self {
        Self {
            layers: lane.layers(&stream),
            stream,
            lane,
            history: History::default(),
            epoch: None,
            viewers: Vec::new(),
            empty_since: now,
            lost: 0,
            layers_read: now,
            task: None,
        }
    }

    /// The task that reads the stream, to be aborted with the fan-out.
    pub(in crate::webrtc) fn set_task(&mut self, task: JoinHandle<()>) {
        self.task = Some(task);
    }

    /// Whether it is this lane of this stream.
    pub(in crate::webrtc) fn is_of(&self, stream: &Arc<Stream>, lane: ViewerLane) -> bool {
        Arc::ptr_eq(&self.stream, stream) && self.lane == lane
    }

    /// The present epoch.
    pub(super) fn epoch(&self) -> Option<&Arc<Epoch>> {
        self.epoch.as_ref()
    }

    /// What was sent lately.
    pub(super) fn history(&self) -> &History {
        &self.history
    }

    /// How much later sound comes than the pictures of the same instant, in nanoseconds.
    pub(in crate::webrtc) fn sound_lag(&self) -> Option<i64> {
        self.history.sound_lag()
    }

    /// The stream's layers, as they were lately.
    pub(super) fn layers(&self) -> &[LayerInfo] {
        &self.layers
    }

    /// Who watches.
    pub(in crate::webrtc) fn viewers(&self) -> &[SessionId] {
        &self.viewers
    }

    /// A viewer comes.
    pub(in crate::webrtc) fn add(&mut self, viewer: SessionId) {
        self.viewers.push(viewer);
    }

    /// A viewer has gone.
    pub(in crate::webrtc) fn remove(&mut self, viewer: SessionId, now: Instant) {
        self.viewers.retain(|known| *known != viewer);
        self.empty_since = now;
    }

    /// Whether nobody has watched for a while.
    pub(in crate::webrtc) fn is_idle(&self, now: Instant) -> bool {
        self.viewers.is_empty() && now.saturating_duration_since(self.empty_since) > LINGER
    }

    /// Makes a batch ready for sending and remembers it. `lost`: items that the reader has lost so far.
    pub(in crate::webrtc) fn take(
        &mut self,
        now: Instant,
        batch: &PacketBatch,
        lost: u64,
    ) -> (Arc<Template>, Change) {
        let change = if self.history.enter(batch.epoch.id, now) {
            self.epoch = Some(batch.epoch.clone());
            Change::Epoch
        } else if lost != self.lost {
            Change::Gap
        } else {
            Change::None
        };
        self.lost = lost;
        if change == Change::Epoch || now.saturating_duration_since(self.layers_read) > LAYERS_INTERVAL {
            (self.layers, self.layers_read) = (self.lane.layers(&self.stream), now);
        }
        let template =
            Arc::new(Template::new(batch, |kind, layer, sequence| self.history.fresh(kind, layer, sequence)));
        self.history.push(&template, now);
        (template, change)
    }
}

impl Change {
    /// Tells a viewer.
    pub(in crate::webrtc) fn tell(self, viewer: &mut Viewer, epoch: &Epoch) {
        match self {
            Self::None => {}
            Self::Epoch => viewer.enter_epoch(&epoch.tracks),
            Self::Gap => viewer.skip_to_keyframe(),
        }
    }
}

impl Drop for FanOut {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
