//! The registry of live streams.

use super::life::{Dismissal, Graces, Notice, PublisherState, StreamState};
use super::publisher::{Publisher, Source};
use super::statistics::Totals;
use super::watcher::{Verdict, Watcher};
use super::{Media, Stream, StreamEvent};
use crate::media::{Epoch, StreamName};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};
use tokio::sync::broadcast;
use tokio::time::Instant;
use tracing::info;

/// Between two looks at a name that somebody waits for.
const PATIENCE_STEP: Duration = Duration::from_millis(100);
/// Who sends in so many of them in a row is not silent.
const SENDING_STEPS: u32 = 5;
/// So long after its last media a publisher counts as stalled, and the watcher has noticed.
const PATIENCE: Duration = Duration::from_millis(2_500);
/// None is waited for longer.
const LONGEST_PATIENCE: Duration = Duration::from_secs(4);

/// Why a stream can't be published now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Another publisher is live on this name.
    #[error("stream {0} already has a publisher")]
    Taken(StreamName),
    /// The gateway is shutting down.
    #[error("the server is shutting down")]
    Closing,
}

/// All live streams. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hub {
    shared: Arc<HubShared>,
}

#[derive(Debug)]
pub(super) struct HubShared {
    registry: Mutex<Registry>,
    events: broadcast::Sender<StreamEvent>,
    graces: Graces,
    /// Of streams that were declared with a grace of their own.
    declared_graces: Mutex<BTreeMap<StreamName, Duration>>,
}

#[derive(Debug)]
struct Registry {
    streams: BTreeMap<StreamName, Arc<Stream>>,
    /// Of streams that have ended.
    ended: Totals,
    closing: bool,
}

impl Hub {
    /// A hub, and the task that notices stalls and ends its streams when their grace is over.
    pub fn new(graces: impl Into<Graces>) -> (Self, Watcher) {
        let shared = Arc::new(HubShared {
            registry: Mutex::new(Registry {
                streams: BTreeMap::new(),
                ended: Totals::default(),
                closing: false,
            }),
            events: broadcast::Sender::new(1024),
            graces: graces.into(),
            declared_graces: Mutex::default(),
        });
        (Self { shared: shared.clone() }, Watcher::new(shared))
    }

    /// Takes the name `name` and becomes its publisher. One that has stalled loses it: its session is ended,
    /// and what it writes is void.
    pub fn publish<T: Media>(&self, name: StreamName, source: Source) -> Result<Publisher<T>, PublishError> {
        let mut registry = self.shared.registry.lock();
        if registry.closing {
            return Err(PublishError::Closing);
        }
        let known = registry.streams.get(&name).cloned();
        if known.as_ref().is_some_and(|stream| stream.state().0 == StreamState::Live) {
            return Err(PublishError::Taken(name));
        }
        let is_new = known.is_none();
        let stream = known.unwrap_or_else(|| {
            let declared = self.shared.declared_graces.lock().get(&name).copied();
            let grace = declared.unwrap_or_else(|| self.shared.graces.of(&name));
            Arc::new(Stream::new(name.clone(), grace))
        });
        registry.streams.insert(name, stream.clone());
        if let Some(former) = self.shared.remove_publisher(&stream) {
            former.notice.give(Dismissal::Superseded);
            info!(stream = %stream.name(), "The publisher was silent: another takes the name over.");
        }
        info!(stream = %stream.name(), source = source.kind.as_str(), "Publisher connected.");
        let notice = Notice::default();
        let mut life = stream.life.lock();
        let since = SystemTime::now();
        life.publisher = Some(PublisherState { source, since, notice: notice.clone(), problem: None });
        life.heard = (stream.statistics().items(), Instant::now());
        life.enter(StreamState::Live);
        let generation = stream.turn.generation.fetch_add(1, Ordering::AcqRel) + 1;
        drop(life);
        stream.lanes.send_modify(|lanes| {
            lanes.generation = generation;
            lanes.native = Some(T::LANE);
        });
        let publisher = Publisher::new(self.shared.clone(), stream.clone(), generation, notice);
        // Sent under the lock, so that events come in the order in which things happened.
        self.shared.tell(match is_new {
            true => StreamEvent::Started(stream),
            false => StreamEvent::PublisherReturned(stream),
        });
        Ok(publisher)
    }

    /// Waits while the present publisher of `name` is silent but has not stalled yet: an encoder whose line
    /// broke tries again at once, and [`Self::publish`] a moment later gives it the name. A publisher that
    /// sends costs 0.5 s, for what was on its way when it fell silent still comes; one that sends now and then is
    /// waited for 4 s at most. Cancel safe.
    pub async fn settle(&self, name: &StreamName) {
        let begin = Instant::now();
        let mut deadline = begin + PATIENCE;
        let items = || {
            let stream = self.get(name).filter(|stream| stream.state().0 == StreamState::Live);
            stream.map(|stream| stream.statistics().items())
        };
        let (mut known, mut moving) = (items(), 0);
        while known.is_some() && moving < SENDING_STEPS && Instant::now() < deadline {
            tokio::time::sleep(PATIENCE_STEP).await;
            let now = items();
            moving = if now == known { 0 } else { moving + 1 };
            if now != known {
                deadline = (Instant::now() + PATIENCE).min(begin + LONGEST_PATIENCE);
            }
            known = now;
        }
    }

    /// How long the stream `name` waits for its publisher's return, from its next start on; `None`: as long as
    /// the configuration says.
    pub fn set_grace(&self, name: &StreamName, grace: Option<Duration>) {
        let mut declared = self.shared.declared_graces.lock();
        match grace {
            Some(grace) => declared.insert(name.clone(), grace),
            None => declared.remove(name),
        };
    }

    /// A live stream, or one that waits for its publisher's return.
    pub fn get(&self, name: &StreamName) -> Option<Arc<Stream>> {
        self.shared.registry.lock().streams.get(name).cloned()
    }

    /// All of them, by name.
    pub fn list(&self) -> Vec<Arc<Stream>> {
        self.shared.registry.lock().streams.values().cloned().collect()
    }

    /// What all streams have been since the start.
    pub fn totals(&self) -> Totals {
        let registry = self.shared.registry.lock();
        let mut totals = registry.ended;
        registry.streams.values().for_each(|stream| totals.add(stream));
        totals
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<StreamEvent> {
        self.shared.events.subscribe()
    }

    /// Refuses new publishers, kicks the present ones and ends every stream without grace.
    pub fn close(&self) {
        let streams = {
            let mut registry = self.shared.registry.lock();
            registry.closing = true;
            let streams = std::mem::take(&mut registry.streams);
            streams.values().for_each(|stream| registry.ended.add(stream));
            streams
        };
        for stream in streams.into_values() {
            stream.dismiss_publisher(Dismissal::Closing);
            self.shared.end(&stream);
        }
    }
}

impl HubShared {
    /// The publisher of this generation ends its source.
    pub(super) fn publisher_left(&self, stream: &Arc<Stream>, generation: u64) {
        let _registry = self.registry.lock();
        if stream.turn.generation.load(Ordering::Acquire) == generation
            && self.remove_publisher(stream).is_some()
        {
            info!(stream = %stream.name(), "Publisher left.");
        }
    }

    /// The publisher of this generation had stalled and sends again.
    pub(super) fn resumed(&self, stream: &Arc<Stream>, generation: u64) {
        let _registry = self.registry.lock();
        if stream.turn.generation.load(Ordering::Acquire) != generation {
            return;
        }
        let mut life = stream.life.lock();
        if life.publisher.is_none() || life.state != StreamState::Stalled {
            return;
        }
        life.heard = (stream.statistics().items(), Instant::now());
        life.enter(StreamState::Live);
        drop(life);
        stream.turn.stalled.store(false, Ordering::Release);
        stream.lanes.send_modify(|lanes| lanes.stalled = false);
        info!(stream = %stream.name(), "The publisher sends again.");
        self.tell(StreamEvent::Resumed(stream.clone()));
    }

    /// The publisher of this generation begins an epoch.
    pub(super) fn tracks(&self, stream: &Arc<Stream>, generation: u64, epoch: &Arc<Epoch>) {
        let _registry = self.registry.lock();
        if stream.turn.generation.load(Ordering::Acquire) != generation {
            return;
        }
        let before = stream.life.lock().sent.replace(epoch.clone());
        if before.is_none_or(|before| !before.tracks.look_like(&epoch.tracks)) {
            self.tell(StreamEvent::TracksChanged(stream.clone(), epoch.clone()));
        }
    }

    /// What is wrong with what the publisher of this generation sends.
    pub(super) fn problem(&self, stream: &Stream, generation: u64, problem: Option<String>) {
        let _registry = self.registry.lock();
        if stream.turn.generation.load(Ordering::Acquire) == generation
            && let Some(publisher) = &mut stream.life.lock().publisher
        {
            publisher.problem = problem;
        }
    }

    /// Asks for a verdict on each stream and carries it out.
    pub(super) fn watch(&self, judge: impl Fn(&Stream) -> Option<Verdict>) {
        let mut registry = self.registry.lock();
        let mut over = Vec::new();
        for stream in registry.streams.values() {
            match judge(stream) {
                None => {}
                Some(Verdict::Over) => over.push(stream.name().clone()),
                Some(Verdict::Stalled) => self.stall(stream),
            }
        }
        for name in over {
            let Some(stream) = registry.streams.remove(&name) else { continue };
            registry.ended.add(&stream);
            self.end(&stream);
        }
    }

    fn stall(&self, stream: &Arc<Stream>) {
        stream.life.lock().enter(StreamState::Stalled);
        stream.turn.interruptions.fetch_add(1, Ordering::AcqRel);
        stream.turn.stalled.store(true, Ordering::Release);
        stream.lanes.send_modify(|lanes| lanes.stalled = true);
        info!(stream = %stream.name(), "The publisher has stalled: no media come.");
        self.tell(StreamEvent::Stalled(stream.clone()));
    }

    /// From now on the stream has no publisher; the one that it had, if any. Called under the lock.
    fn remove_publisher(&self, stream: &Arc<Stream>) -> Option<PublisherState> {
        let publisher = stream.life.lock().publisher.take()?;
        {
            let mut life = stream.life.lock();
            life.left = Instant::now();
            life.enter(StreamState::Waiting);
        }
        // A generation without a publisher: whoever wrote up to now is void.
        let generation = stream.turn.generation.fetch_add(1, Ordering::AcqRel) + 1;
        stream.turn.stalled.store(false, Ordering::Release);
        let held = stream.turn.is_held();
        if !held {
            stream.frames.keep_last();
        }
        stream.lanes.send_modify(|lanes| {
            lanes.generation = generation;
            lanes.native = None;
            lanes.stalled = false;
        });
        if !held {
            stream.frames.forget();
        }
        stream.packets.forget();
        stream.compatible.forget();
        stream.compatible_packets.forget();
        stream.renditions.forget();
        stream.set_layers(Vec::new());
        // After the end nothing is told of a stream: at a shutdown it ends before its publisher has gone.
        if !stream.lanes.borrow().ended {
            self.tell(StreamEvent::PublisherLeft(stream.clone()));
        }
        Some(publisher)
    }

    fn end(&self, stream: &Arc<Stream>) {
        stream.close();
        info!(stream = %stream.name(), "Stream ended.");
        self.tell(StreamEvent::Ended(stream.clone()));
    }

    fn tell(&self, event: StreamEvent) {
        // No receiver is no error: nobody wants to know.
        let _ = self.events.send(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Codec, Frame, MediaKind, MediaTime, Tracks, VideoTrack};
    use crate::stream::SourceKind;
    use bytes::Bytes;
    use tokio_util::sync::CancellationToken;

    fn name(text: &str) -> StreamName {
        text.parse().expect("a valid name")
    }

    fn source() -> Source {
        Source { kind: SourceKind::Rtmp, remote: None }
    }

    fn tracks() -> Tracks {
        let video = VideoTrack::new(Codec::H264);
        Tracks { video: Some(video), audio: None }
    }

    fn frames(publisher: &Publisher<Frame>, keyframes_every: u64, range: std::ops::Range<u64>) {
        let epoch = publisher.begin_epoch(tracks(), SystemTime::UNIX_EPOCH);
        for number in range {
            let pts = MediaTime::from_millis(number as i64 * 40);
            publisher.write(Frame {
                epoch: epoch.clone(),
                kind: MediaKind::Video,
                pts,
                dts: pts,
                keyframe: number.is_multiple_of(keyframes_every),
                data: Bytes::from_static(&[0; 8]),
            });
        }
    }

    #[tokio::test]
    async fn a_reader_begins_with_the_cached_group_of_pictures() {
        let (hub, _watcher) = Hub::new(Duration::ZERO);
        let publisher = hub.publish::<Frame>(name("a"), source()).expect("free");
        frames(&publisher, 10, 0..25);
        let mut reader = publisher.stream().subscribe::<Frame>();
        assert_eq!(reader.backlog(), 5);
        let first = reader.recv().await.expect("live");
        assert!(first.keyframe);
        assert_eq!(first.pts, MediaTime::from_millis(20 * 40));
    }

    #[tokio::test]
    async fn a_reader_that_lags_loses_the_oldest_and_goes_on_at_a_keyframe() {
        let (hub, _watcher) = Hub::new(Duration::ZERO);
        let publisher = hub.publish::<Frame>(name("a"), source()).expect("free");
        let mut reader = publisher.stream().subscribe::<Frame>();
        let keyframe_requests = publisher.keyframe_requests();
        frames(&publisher, 100, 1..3000);
        let first = reader.recv().await.expect("live");
        assert!(first.keyframe && reader.lost() > 1900, "{} lost", reader.lost());
        assert_eq!(publisher.stream().statistics().snapshot().items_lagged, reader.lost());
        assert!(keyframe_requests.has_changed().expect("open"));
    }

    #[tokio::test]
    async fn a_second_publisher_is_refused_while_the_first_lives() {
        let (hub, _watcher) = Hub::new(Duration::ZERO);
        let first = hub.publish::<Frame>(name("a"), source()).expect("free");
        assert_eq!(hub.publish::<Frame>(name("a"), source()).err(), Some(PublishError::Taken(name("a"))));
        drop(first);
        hub.publish::<Frame>(name("a"), source()).expect("free again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_after_its_grace_unless_the_publisher_returns() {
        let (hub, watcher) = Hub::new(Duration::from_secs(5));
        let cancel = CancellationToken::new();
        let task = tokio::spawn(watcher.run(cancel.clone()));
        drop(hub.publish::<Frame>(name("a"), source()).expect("free"));
        let mut reader = hub.get(&name("a")).expect("in its grace").subscribe::<Frame>();
        tokio::time::sleep(Duration::from_secs(4)).await;
        let returned = hub.publish::<Frame>(name("a"), source()).expect("free");
        tokio::time::sleep(Duration::from_secs(4)).await;
        frames(&returned, 1, 0..1);
        assert!(reader.recv().await.is_some());
        drop(returned);
        assert!(reader.recv().await.is_none());
        assert!(hub.get(&name("a")).is_none());
        let totals = hub.totals();
        assert_eq!((totals.streams, totals.statistics.bytes_received), (1, 8), "it is not forgotten");
        cancel.cancel();
        task.await.expect("no panic");
    }

    #[tokio::test]
    async fn closing_ends_streams_and_refuses_publishers() {
        let (hub, _watcher) = Hub::new(Duration::from_secs(60));
        let publisher = hub.publish::<Frame>(name("a"), source()).expect("free");
        let mut reader = publisher.stream().subscribe::<Frame>();
        hub.close();
        assert!(publisher.kicked().is_cancelled());
        assert!(reader.recv().await.is_none());
        assert_eq!(hub.publish::<Frame>(name("b"), source()).err(), Some(PublishError::Closing));
    }

    #[tokio::test]
    async fn a_bridge_is_wanted_only_while_the_other_lane_has_readers() {
        use crate::media::PacketBatch;
        use crate::stream::{CompatiblePackets, LaneKind};
        let (hub, _watcher) = Hub::new(Duration::ZERO);
        let publisher = hub.publish::<Frame>(name("a"), source()).expect("free");
        let lanes = publisher.stream().watch_lanes();
        let _frames = publisher.stream().subscribe::<Frame>();
        assert_eq!(lanes.borrow().wanted_bridge(), None);
        let packets = publisher.stream().subscribe::<PacketBatch>();
        assert_eq!(lanes.borrow().wanted_bridge(), Some(LaneKind::Packets));
        drop(packets);
        assert_eq!(lanes.borrow().wanted_bridge(), None);
        let compatible = publisher.stream().subscribe::<CompatiblePackets>();
        assert_eq!(lanes.borrow().wanted_compatible_packets(), Some(LaneKind::CompatiblePackets));
        drop(compatible);
        assert_eq!(lanes.borrow().wanted_compatible_packets(), None);
    }

    #[tokio::test]
    async fn compatible_packets_are_those_of_the_present_publisher() {
        use crate::media::PacketBatch;
        use crate::stream::CompatiblePackets;
        let (hub, _watcher) = Hub::new(Duration::from_secs(60));
        let publisher = hub.publish::<Frame>(name("a"), source()).expect("free");
        let stream = publisher.stream().clone();
        let _reader = stream.subscribe::<CompatiblePackets>();
        let bridge = stream.bridge::<CompatiblePackets>();
        let write = || {
            let epoch = bridge.begin_epoch(tracks(), SystemTime::UNIX_EPOCH);
            bridge.write(CompatiblePackets(PacketBatch { epoch, packets: Vec::new() }));
        };
        write();
        assert!(stream.epoch::<CompatiblePackets>().is_some());
        drop(publisher);
        assert!(stream.epoch::<CompatiblePackets>().is_none(), "forgotten with the publisher");
        assert_eq!(stream.watch_lanes().borrow().wanted_compatible_packets(), None);
        write();
        assert!(stream.epoch::<CompatiblePackets>().is_none(), "its bridge is void");
    }
}
