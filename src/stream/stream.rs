//! One live programme: its lanes, its publisher, its readers.

use super::compatible::{CompatibleFrame, CompatiblePackets};
use super::lane::{Lane, Media, Subscriber};
use super::layer::{KeyframeWishes, LayerInfo};
use super::life::{Dismissal, Life, StreamState, Turn};
use super::publisher::{BridgeWriter, Source};
use super::rendition::RenditionFrame;
use super::statistics::{ReaderGuard, ReaderKind, Statistics};
use crate::media::{Epoch, Frame, MediaTime, PacketBatch, StreamName};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// The lanes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LaneKind {
    /// RTP packets ([`PacketBatch`]).
    Packets,
    /// Coded frames ([`Frame`]).
    Frames,
    /// Frames of H.264 and AAC only ([`CompatibleFrame`]). No publisher fills it.
    Compatible,
    /// RTP packets of H.264 and Opus only ([`CompatiblePackets`]). No publisher fills it.
    CompatiblePackets,
    /// Frames of lower video renditions ([`RenditionFrame`]). No publisher fills it.
    Renditions,
}

/// What a bridge waits on: who publishes, and how many read each lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneWatch {
    /// Rises with each publisher; with `native`, tells a returning publisher from the old one.
    pub generation: u64,
    /// The lane that the present publisher fills; `None` while there is no publisher.
    pub native: Option<LaneKind>,
    /// There is a publisher, but no media have come from it for 2 s.
    pub stalled: bool,
    /// A hold fills the frame lane, until a publisher's media come.
    pub held: bool,
    /// Subscribers of the packet lane.
    pub packet_readers: usize,
    /// Subscribers of the frame lane.
    pub frame_readers: usize,
    /// Subscribers of the compatible lane.
    pub compatible_readers: usize,
    /// Subscribers of the lane of compatible packets.
    pub compatible_packet_readers: usize,
    /// Subscribers of the lane of lower renditions.
    pub rendition_readers: usize,
    /// The stream is over.
    pub ended: bool,
}

impl LaneWatch {
    /// The lane of packets or frames that a bridge should fill now: the one the publisher doesn't, if
    /// somebody reads it.
    pub fn wanted_bridge(&self) -> Option<LaneKind> {
        match self.native? {
            LaneKind::Packets if self.frame_readers > 0 => Some(LaneKind::Frames),
            LaneKind::Frames if self.packet_readers > 0 => Some(LaneKind::Packets),
            _ => None,
        }
    }

    /// The compatible lane, if a bridge should fill it now. The bridge reads the frame lane, which may
    /// want a bridge of its own.
    pub fn wanted_compatible(&self) -> Option<LaneKind> {
        ((self.native.is_some() || self.held) && self.compatible_readers > 0).then_some(LaneKind::Compatible)
    }

    /// The lane of compatible packets, if a bridge should fill it now. The bridge reads both the packet and the
    /// frame lane, one of which wants a bridge of its own. A hold is nothing for those who read packets.
    pub fn wanted_compatible_packets(&self) -> Option<LaneKind> {
        (self.native.is_some() && self.compatible_packet_readers > 0).then_some(LaneKind::CompatiblePackets)
    }

    /// The lane of lower renditions, if a bridge should fill it now.
    pub fn wanted_renditions(&self) -> Option<LaneKind> {
        ((self.native.is_some() || self.held) && self.rendition_readers > 0).then_some(LaneKind::Renditions)
    }
}

/// One live programme. Made by [`Hub::publish`](super::Hub::publish), gone after its grace period.
#[derive(Debug)]
pub struct Stream {
    name: StreamName,
    since: SystemTime,
    grace: Duration,
    pub(super) life: Mutex<Life>,
    pub(super) turn: Turn,
    pub(super) frames: Lane<Frame>,
    pub(super) packets: Lane<PacketBatch>,
    pub(super) compatible: Lane<CompatibleFrame>,
    pub(super) compatible_packets: Lane<CompatiblePackets>,
    pub(super) renditions: Lane<RenditionFrame>,
    /// How many of them are to be expected.
    promised: AtomicU8,
    pub(super) lanes: watch::Sender<LaneWatch>,
    keyframes_wanted: watch::Sender<KeyframeWishes>,
    compatible_keyframes_wanted: watch::Sender<KeyframeWishes>,
    layers: watch::Sender<Arc<[LayerInfo]>>,
    statistics: Statistics,
    epochs: AtomicU64,
}

impl Stream {
    pub(super) fn new(name: StreamName, grace: Duration) -> Self {
        Self {
            name,
            since: SystemTime::now(),
            grace,
            life: Mutex::new(Life::new()),
            turn: Turn::default(),
            frames: Lane::new(),
            packets: Lane::new(),
            compatible: Lane::new(),
            compatible_packets: Lane::new(),
            renditions: Lane::new(),
            promised: AtomicU8::new(0),
            lanes: watch::Sender::new(LaneWatch::default()),
            keyframes_wanted: watch::Sender::new(KeyframeWishes::default()),
            compatible_keyframes_wanted: watch::Sender::new(KeyframeWishes::default()),
            layers: watch::Sender::new(Arc::default()),
            statistics: Statistics::default(),
            epochs: AtomicU64::new(0),
        }
    }

    /// The name.
    pub fn name(&self) -> &StreamName {
        &self.name
    }

    /// When the stream came to life.
    pub fn since(&self) -> SystemTime {
        self.since
    }

    /// Who publishes now and since when; `None` while the stream waits for its publisher's return.
    pub fn source(&self) -> Option<(Source, SystemTime)> {
        let life = self.life.lock();
        life.publisher.as_ref().map(|publisher| (publisher.source.clone(), publisher.since))
    }

    /// What is wrong with what its publisher sends, so that a part of it is left out; `None` if nothing is.
    pub fn source_problem(&self) -> Option<String> {
        self.life.lock().publisher.as_ref()?.problem.clone()
    }

    /// Where it stands, and since when.
    pub fn state(&self) -> (StreamState, SystemTime) {
        let life = self.life.lock();
        (life.state, life.state_since)
    }

    /// How long it waits for its publisher's return.
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// Reads a lane, from the cached group of pictures on. While it lives, a bridge fills the lane if
    /// the publisher does not.
    pub fn subscribe<T: Media>(self: &Arc<Self>) -> Subscriber<T> {
        Subscriber::new(self.clone())
    }

    /// The longest group of pictures so far, where frames come; zero before the second keyframe.
    pub fn longest_group(&self) -> Duration {
        self.frames.longest_group()
    }

    /// When the last frame is decoded that is there before anybody reads frames: cached, or to be made of cached
    /// packets; `None` if there is none.
    pub fn frames_until(&self) -> Option<MediaTime> {
        self.frames.last_time().or_else(|| self.packets.last_time())
    }

    /// The configurations on a lane now; `None` before its first item.
    pub fn epoch<T: Media>(&self) -> Option<Arc<Epoch>> {
        T::lane(self).epoch()
    }

    /// The write half of a lane that the publisher does not fill, for a bridge.
    pub fn bridge<T: Media>(self: &Arc<Self>) -> BridgeWriter<T> {
        BridgeWriter::new(self.clone())
    }

    /// Changes of publisher and readers, for whoever starts bridges.
    pub fn watch_lanes(&self) -> watch::Receiver<LaneWatch> {
        self.lanes.subscribe()
    }

    /// Asks the publisher for a keyframe, as a viewer's PLI does. The ingest asks at most once a
    /// second; where the protocol knows no such request (RTMP) nothing happens.
    pub fn request_keyframe(&self) {
        self.keyframes_wanted.send_modify(|wishes| wishes.wish(None));
    }

    /// As [`Self::request_keyframe`], for one encoding of a simulcast track.
    pub fn request_layer_keyframe(&self, layer: u8) {
        self.keyframes_wanted.send_modify(|wishes| wishes.wish(Some(layer)));
    }

    /// Asks for a keyframe on the lane of compatible packets. Its bridge makes one, at most one a second; it asks
    /// the publisher only where it passes that one's pictures on.
    pub fn request_compatible_keyframe(&self, layer: u8) {
        self.compatible_keyframes_wanted.send_modify(|wishes| wishes.wish(Some(layer)));
    }

    /// Changes with each [`Self::request_compatible_keyframe`].
    pub fn watch_compatible_keyframe_requests(&self) -> watch::Receiver<KeyframeWishes> {
        self.compatible_keyframes_wanted.subscribe()
    }

    /// The encodings of the present publisher's video, the best first: [`Packet::layer`] counts in this
    /// list. Empty without simulcast.
    ///
    /// [`Packet::layer`]: crate::media::Packet::layer
    pub fn layers(&self) -> Arc<[LayerInfo]> {
        self.layers.borrow().clone()
    }

    /// Changes of [`Self::layers`], at most some a second.
    pub fn watch_layers(&self) -> watch::Receiver<Arc<[LayerInfo]>> {
        self.layers.subscribe()
    }

    /// How many lower renditions the lane of [`RenditionFrame`]s will have, as far as is known.
    pub fn promised_renditions(&self) -> u8 {
        self.promised.load(Ordering::Relaxed)
    }

    pub(super) fn promise_renditions(&self, count: u8) {
        self.promised.store(count, Ordering::Relaxed);
    }

    pub(super) fn set_layers(&self, layers: Vec<LayerInfo>) {
        self.layers.send_if_modified(|known| {
            let news = known[..] != layers[..];
            if news {
                *known = layers.into();
            }
            news
        });
    }

    pub(super) fn watch_keyframe_requests(&self) -> watch::Receiver<KeyframeWishes> {
        self.keyframes_wanted.subscribe()
    }

    /// Ends the present publisher's session, as an operator wishes. False if there is none.
    pub fn kick_publisher(&self) -> bool {
        self.dismiss_publisher(Dismissal::Kicked)
    }

    pub(super) fn dismiss_publisher(&self, why: Dismissal) -> bool {
        let life = self.life.lock();
        life.publisher.as_ref().inspect(|publisher| publisher.notice.give(why)).is_some()
    }

    /// Counters.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Counts one reader of `kind` until the guard is dropped.
    pub fn count_reader(self: &Arc<Self>, kind: ReaderKind) -> ReaderGuard {
        ReaderGuard::new(self.clone(), kind)
    }

    /// A number for a new epoch of this stream.
    pub(super) fn next_epoch(&self) -> u64 {
        self.epochs.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn reader_came(&self, lane: LaneKind) {
        self.lanes.send_modify(|lanes| *readers(lanes, lane) += 1);
    }

    pub(super) fn reader_left(&self, lane: LaneKind) {
        self.lanes.send_modify(|lanes| *readers(lanes, lane) -= 1);
    }

    pub(super) fn close(&self) {
        self.lanes.send_modify(|lanes| {
            lanes.native = None;
            lanes.stalled = false;
            lanes.ended = true;
        });
        self.frames.close();
        self.packets.close();
        self.compatible.close();
        self.compatible_packets.close();
        self.renditions.close();
    }
}

fn readers(lanes: &mut LaneWatch, lane: LaneKind) -> &mut usize {
    match lane {
        LaneKind::Packets => &mut lanes.packet_readers,
        LaneKind::Frames => &mut lanes.frame_readers,
        LaneKind::Compatible => &mut lanes.compatible_readers,
        LaneKind::CompatiblePackets => &mut lanes.compatible_packet_readers,
        LaneKind::Renditions => &mut lanes.rendition_readers,
    }
}
