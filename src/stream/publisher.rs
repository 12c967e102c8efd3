//! The write halves of a stream.

use super::hub::HubShared;
use super::{KeyframeWishes, LayerInfo, Media, Stream};
use crate::media::{Epoch, Tracks};
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
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
    kicked: CancellationToken,
    _lane: PhantomData<fn(T)>,
}

impl<T: Media> Publisher<T> {
    pub(super) fn new(
        hub: Arc<HubShared>,
        stream: Arc<Stream>,
        generation: u64,
        kicked: CancellationToken,
    ) -> Self {
        Self { hub, stream, generation, kicked, _lane: PhantomData }
    }

    /// Begins a stretch with these configurations; `wall_origin` is the wall-clock time of
    /// [`MediaTime::ZERO`](crate::media::MediaTime::ZERO). What is written next carries the epoch.
    pub fn begin_epoch(&self, tracks: Tracks, wall_origin: SystemTime) -> Arc<Epoch> {
        Arc::new(Epoch { id: self.stream.next_epoch(), tracks, wall_origin })
    }

    /// Hands media to all subscribers. Never waits.
    pub fn write(&self, item: T) {
        self.stream.statistics().received(item.size());
        T::lane(&self.stream).write(item);
    }

    /// Rises with each wish for a keyframe. The caller asks its sender at most once a second for each layer.
    pub fn keyframe_requests(&self) -> watch::Receiver<KeyframeWishes> {
        self.stream.watch_keyframe_requests()
    }

    /// States the encodings of a simulcast track, the best first; at most [`MAX_LAYERS`](super::MAX_LAYERS).
    /// Forgotten with the publisher.
    pub fn set_layers(&self, layers: Vec<LayerInfo>) {
        self.stream.set_layers(layers);
    }

    /// Cancelled when an operator kicks this publisher or the gateway shuts down: end the session.
    pub fn kicked(&self) -> CancellationToken {
        self.kicked.clone()
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

    /// Hands media to all subscribers. Never waits. Ignored once the publisher it was made for is gone.
    pub fn write(&self, item: T) {
        let lanes = *self.stream.lanes.borrow();
        if lanes.generation == self.generation && lanes.native.is_some_and(|native| native != T::LANE) {
            T::lane(&self.stream).write(item);
        }
    }

    /// The stream that is bridged.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }
}

impl<T: Media> Drop for BridgeWriter<T> {
    fn drop(&mut self) {
        // A lane that nobody fills must not give its old group of pictures to the next reader.
        T::lane(&self.stream).forget();
    }
}
