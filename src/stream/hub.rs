//! The registry of live streams.

use super::publisher::{Publisher, Source};
use super::stream::PublisherState;
use super::{Media, Stream, StreamEvent};
use crate::media::StreamName;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

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
    orphans: mpsc::UnboundedSender<Orphan>,
}

#[derive(Debug)]
struct Registry {
    streams: BTreeMap<StreamName, Arc<Stream>>,
    closing: bool,
}

/// A stream whose publisher left.
#[derive(Debug)]
struct Orphan {
    stream: Arc<Stream>,
    generation: u64,
    left: Instant,
}

/// Ends streams whose publisher did not return: see [`Reaper::run`].
#[derive(Debug)]
pub struct Reaper {
    shared: Arc<HubShared>,
    orphans: mpsc::UnboundedReceiver<Orphan>,
    grace: Duration,
}

impl Hub {
    /// A hub and the task that ends its streams `grace` after their publisher left.
    pub fn new(grace: Duration) -> (Self, Reaper) {
        // Bounded by the number of sessions: one entry for each publisher that leaves.
        let (orphans, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(HubShared {
            registry: Mutex::new(Registry { streams: BTreeMap::new(), closing: false }),
            events: broadcast::Sender::new(1024),
            orphans,
        });
        (Self { shared: shared.clone() }, Reaper { shared, orphans: receiver, grace })
    }

    /// Takes the name `name` and becomes its publisher.
    pub fn publish<T: Media>(&self, name: StreamName, source: Source) -> Result<Publisher<T>, PublishError> {
        let mut registry = self.shared.registry.lock();
        if registry.closing {
            return Err(PublishError::Closing);
        }
        let known = registry.streams.get(&name).cloned();
        if known.as_ref().is_some_and(|stream| stream.source().is_some()) {
            return Err(PublishError::Taken(name));
        }
        let stream = known.clone().unwrap_or_else(|| Arc::new(Stream::new(name.clone())));
        registry.streams.insert(name, stream.clone());
        let kicked = CancellationToken::new();
        info!(stream = %stream.name(), source = source.kind.as_str(), "Publisher connected.");
        stream.publisher.send_replace(Some(PublisherState {
            source,
            since: SystemTime::now(),
            kicked: kicked.clone(),
        }));
        let mut generation = 0;
        stream.lanes.send_modify(|lanes| {
            lanes.generation += 1;
            lanes.native = Some(T::LANE);
            generation = lanes.generation;
        });
        let publisher = Publisher::new(self.shared.clone(), stream.clone(), generation, kicked);
        // Sent under the lock, so that events come in the order in which things happened.
        let _ = self.shared.events.send(match known {
            None => StreamEvent::Started(stream),
            Some(_) => StreamEvent::PublisherReturned(stream),
        });
        Ok(publisher)
    }

    /// A live stream, or one that waits for its publisher's return.
    pub fn get(&self, name: &StreamName) -> Option<Arc<Stream>> {
        self.shared.registry.lock().streams.get(name).cloned()
    }

    /// All of them, by name.
    pub fn list(&self) -> Vec<Arc<Stream>> {
        self.shared.registry.lock().streams.values().cloned().collect()
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
            std::mem::take(&mut registry.streams)
        };
        for stream in streams.into_values() {
            stream.kick_publisher();
            self.shared.end(&stream);
        }
    }
}

impl HubShared {
    pub(super) fn publisher_left(&self, stream: &Arc<Stream>, generation: u64) {
        let _registry = self.registry.lock();
        if stream.lanes.borrow().generation != generation {
            return;
        }
        info!(stream = %stream.name(), "Publisher left.");
        stream.publisher.send_replace(None);
        stream.lanes.send_modify(|lanes| lanes.native = None);
        stream.frames.forget();
        stream.packets.forget();
        stream.compatible.forget();
        stream.set_layers(Vec::new());
        let _ = self.events.send(StreamEvent::PublisherLeft(stream.clone()));
        // A closed channel means shutdown: `close` has ended the stream already.
        let _ = self.orphans.send(Orphan { stream: stream.clone(), generation, left: Instant::now() });
    }

    fn end(&self, stream: &Arc<Stream>) {
        stream.close();
        info!(stream = %stream.name(), "Stream ended.");
        let _ = self.events.send(StreamEvent::Ended(stream.clone()));
    }
}

impl Reaper {
    /// Runs until `cancel`. The grace is the same for all, so those who left first are due first.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            let orphan = tokio::select! {
                () = cancel.cancelled() => return,
                Some(orphan) = self.orphans.recv() => orphan,
                else => return,
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep_until(orphan.left + self.grace) => {}
            }
            let mut registry = self.shared.registry.lock();
            let lanes = *orphan.stream.lanes.borrow();
            if lanes.generation != orphan.generation || lanes.ended {
                continue; // a publisher returned, or `close` was faster
            }
            registry.streams.remove(orphan.stream.name());
            self.shared.end(&orphan.stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Codec, Frame, MediaKind, MediaTime, Tracks, VideoTrack};
    use crate::stream::SourceKind;
    use bytes::Bytes;

    fn name(text: &str) -> StreamName {
        text.parse().expect("a valid name")
    }

    fn source() -> Source {
        Source { kind: SourceKind::Rtmp, remote: None }
    }

    fn tracks() -> Tracks {
        let video = VideoTrack {
            codec: Codec::H264,
            resolution: None,
            frame_rate: None,
            codec_data: Bytes::new(),
            fmtp: String::new(),
            reordered: false,
        };
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
        let (hub, _reaper) = Hub::new(Duration::ZERO);
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
        let (hub, _reaper) = Hub::new(Duration::ZERO);
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
        let (hub, _reaper) = Hub::new(Duration::ZERO);
        let first = hub.publish::<Frame>(name("a"), source()).expect("free");
        assert_eq!(hub.publish::<Frame>(name("a"), source()).err(), Some(PublishError::Taken(name("a"))));
        drop(first);
        hub.publish::<Frame>(name("a"), source()).expect("free again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_after_its_grace_unless_the_publisher_returns() {
        let (hub, reaper) = Hub::new(Duration::from_secs(5));
        let cancel = CancellationToken::new();
        let task = tokio::spawn(reaper.run(cancel.clone()));
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
        cancel.cancel();
        task.await.expect("no panic");
    }

    #[tokio::test]
    async fn closing_ends_streams_and_refuses_publishers() {
        let (hub, _reaper) = Hub::new(Duration::from_secs(60));
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
        use crate::stream::LaneKind;
        let (hub, _reaper) = Hub::new(Duration::ZERO);
        let publisher = hub.publish::<Frame>(name("a"), source()).expect("free");
        let lanes = publisher.stream().watch_lanes();
        let _frames = publisher.stream().subscribe::<Frame>();
        assert_eq!(lanes.borrow().wanted_bridge(), None);
        let packets = publisher.stream().subscribe::<PacketBatch>();
        assert_eq!(lanes.borrow().wanted_bridge(), Some(LaneKind::Packets));
        drop(packets);
        assert_eq!(lanes.borrow().wanted_bridge(), None);
    }
}
