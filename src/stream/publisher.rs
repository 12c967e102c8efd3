//! The write halves of a stream.

use super::hub::HubShared;
use super::life::{Dismissal, Notice};
use super::{KeyframeWishes, LaneKind, LayerInfo, Media, RenditionFrame, Stream};
use crate::media::{Epoch, Tracks};
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::SystemTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Where a stream comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The protocol.
    pub kind: SourceKind,
    /// The publisher's address, if it came over a network.
    pub remote: Option<SocketAddr>,
}

/// The protocol a publisher speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// WebRTC-HTTP ingestion, RFC 9725.
    Whip,
    /// RTMP.
    Rtmp,
    /// The built-in demo.
    Demo,
}

impl SourceKind {
    /// The protocol's name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Whip => "whip",
            Self::Rtmp => "rtmp",
            Self::Demo => "demo",
        }
    }
}

/// The one write half of a stream's native lane. Writing never waits; dropping it ends the source.
#[derive(Debug)]
pub struct Publisher<T: Media> {
    hub: Arc<HubShared>,
    stream: Arc<Stream>,
    generation: u64,
    notice: Notice,
    _lane: PhantomData<fn(T)>,
}

impl<T: Media> Publisher<T> {
    pub(super) fn new(hub: Arc<HubShared>, stream: Arc<Stream>, generation: u64, notice: Notice) -> Self {
        Self { hub, stream, generation, notice, _lane: PhantomData }
    }

    /// Begins a stretch with these configurations; `wall_origin` is the wall-clock time of
    /// [`MediaTime::ZERO`](crate::media::MediaTime::ZERO). What is written next carries the epoch.
    pub fn begin_epoch(&self, tracks: Tracks, wall_origin: SystemTime) -> Arc<Epoch> {
        let epoch = Arc::new(Epoch { id: self.stream.next_epoch(), tracks, wall_origin });
        self.hub.tracks(&self.stream, self.generation, &epoch);
        epoch
    }

    /// Hands media to all subscribers. Never waits. Void once another publisher has taken the name over; see
    /// [`Self::interruptions`] for what happens after a pause.
    pub fn write(&self, item: T) {
        let turn = &self.stream.turn;
        if self.is_superseded() {
            return;
        }
        self.stream.statistics().received(item.size());
        if turn.stalled.load(Acquire) {
            self.hub.resumed(&self.stream, self.generation);
        }
        let fresh = item.epoch().id > turn.floor.load(Acquire);
        // Of packets the bridge makes the frames that end a hold.
        if T::LANE == LaneKind::Frames && fresh && turn.is_held() {
            self.stream.end_hold(None);
        }
        T::lane(&self.stream).write_if(item, || {
            let in_place = T::LANE != LaneKind::Frames || (fresh && !turn.is_held());
            in_place && turn.generation.load(Relaxed) == self.generation
        });
    }

    /// Rises with each pause of this stream's media that was long enough for others to fill it. Compare it
    /// before a write: once it has changed, begin a new epoch with the next keyframe, and ask for one. Frames
    /// of an epoch that began before a hold don't reach anybody. Cheap.
    pub fn interruptions(&self) -> u64 {
        self.stream.turn.interruptions.load(Acquire)
    }

    /// Whether another publisher has the name now.
    pub(super) fn is_superseded(&self) -> bool {
        self.stream.turn.generation.load(Relaxed) != self.generation
    }

    /// Rises with each wish for a keyframe. The caller asks its sender at most once a second for each layer.
    pub fn keyframe_requests(&self) -> watch::Receiver<KeyframeWishes> {
        self.stream.watch_keyframe_requests()
    }

    /// States the encodings of a simulcast track, the best first; at most [`MAX_LAYERS`](super::MAX_LAYERS).
    /// Forgotten with the publisher.
    pub fn set_layers(&self, layers: Vec<LayerInfo>) {
        if !self.is_superseded() {
            self.stream.set_layers(layers);
        }
    }

    /// States what is wrong with what is sent, in words for whoever publishes. Forgotten with the publisher.
    pub fn set_problem(&self, problem: Option<String>) {
        self.hub.problem(&self.stream, self.generation, problem);
    }

    /// Cancelled when an operator kicks this publisher, when another takes the name over or when the gateway
    /// shuts down: end the session.
    pub fn kicked(&self) -> CancellationToken {
        self.notice.token().clone()
    }

    /// Why the session must end; known from before [`Self::kicked`] is cancelled.
    pub fn dismissal(&self) -> Option<Dismissal> {
        self.notice.why()
    }

    /// The stream that is published.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }
}

impl<T: Media> Drop for Publisher<T> {
    fn drop(&mut self) {
        self.hub.publisher_left(&self.stream, self.generation);
    }
}

/// The write half of a lane that the publisher does not fill.
#[derive(Debug)]
pub struct BridgeWriter<T: Media> {
    stream: Arc<Stream>,
    generation: u64,
    _lane: PhantomData<fn(T)>,
}

impl<T: Media> BridgeWriter<T> {
    pub(super) fn new(stream: Arc<Stream>) -> Self {
        let generation = stream.lanes.borrow().generation;
        Self { stream, generation, _lane: PhantomData }
    }

    /// As [`Publisher::begin_epoch`].
    pub fn begin_epoch(&self, tracks: Tracks, wall_origin: SystemTime) -> Arc<Epoch> {
        Arc::new(Epoch { id: self.stream.next_epoch(), tracks, wall_origin })
    }

    /// Hands media to all subscribers. Never waits. Ignored once the publisher it was made for is gone, and
    /// what is left from before a hold; the first frame of a publisher that has returned ends the hold.
    pub fn write(&self, item: T) {
        let turn = &self.stream.turn;
        let id = item.epoch().id;
        let returned = || !turn.stalled.load(Acquire) && id > turn.floor.load(Acquire) && self.is_wanted();
        if T::LANE == LaneKind::Frames && turn.is_held() && returned() {
            self.stream.end_hold(None);
        }
        T::lane(&self.stream).write_if(item, || match T::LANE {
            // What the frame lane has, whoever fills it, this lane has.
            LaneKind::Compatible | LaneKind::Renditions => true,
            // What its bridge takes from the frame lane is no hold's.
            LaneKind::CompatiblePackets => self.is_wanted(),
            LaneKind::Packets => !turn.is_held() && self.is_wanted(),
            LaneKind::Frames => !turn.is_held() && id > turn.floor.load(Acquire) && self.is_wanted(),
        });
    }

    fn is_wanted(&self) -> bool {
        let lanes = *self.stream.lanes.borrow();
        lanes.generation == self.generation && lanes.native.is_some_and(|native| native != T::LANE)
    }

    /// The stream that is bridged.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }
}

impl BridgeWriter<RenditionFrame> {
    /// Says how many renditions there will be on this lane, until this is dropped.
    pub fn promise(&self, count: u8) {
        self.stream.promise_renditions(count);
    }
}

impl<T: Media> Drop for BridgeWriter<T> {
    fn drop(&mut self) {
        if T::LANE == LaneKind::Renditions {
            self.stream.promise_renditions(0);
        }
        // A lane that nobody fills must not give its old group of pictures to the next reader.
        let frames = T::LANE == LaneKind::Frames;
        if !frames || !self.stream.turn.is_held() {
            T::lane(&self.stream).forget();
        }
        // While there is a publisher, nobody needs what this bridge left.
        if frames && self.is_wanted() {
            self.stream.frames.forget_last();
        }
    }
}
