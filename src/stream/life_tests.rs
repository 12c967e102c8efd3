//! Publishers that come and go, and what is kept for who fills the pause. On tokio's paused clock.

use super::*;
use crate::media::{Codec, Epoch, Frame, MediaKind, MediaTime, PacketBatch, StreamName, Tracks, VideoTrack};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

const GRACE: Duration = Duration::from_secs(60);

fn name() -> StreamName {
    "a".parse().expect("a valid name")
}

fn source(kind: SourceKind) -> Source {
    Source { kind, remote: None }
}

fn tracks() -> Tracks {
    let video = VideoTrack::new(Codec::H264);
    Tracks { video: Some(video), audio: None }
}

fn frame(epoch: &Arc<Epoch>, number: i64, keyframe: bool) -> Frame {
    let pts = MediaTime::from_millis(number * 40);
    Frame {
        epoch: epoch.clone(),
        kind: MediaKind::Video,
        pts,
        dts: pts,
        keyframe,
        data: Bytes::from_static(&[0; 8]),
    }
}

/// As an ingest that waits for a name.
async fn patiently(hub: &Hub) -> Result<Publisher<Frame>, PublishError> {
    hub.settle(&name()).await;
    hub.publish(name(), source(SourceKind::Rtmp))
}

/// A hub with its watcher, and a publisher that has sent a keyframe.
struct World {
    hub: Hub,
    events: broadcast::Receiver<StreamEvent>,
    publisher: Publisher<Frame>,
    epoch: Arc<Epoch>,
    stream: Arc<Stream>,
    _watcher: DropGuard,
}

impl World {
    fn new() -> Self {
        let (hub, watcher) = Hub::new(GRACE);
        let cancel = CancellationToken::new();
        tokio::spawn(watcher.run(cancel.clone()));
        let events = hub.events();
        let publisher = hub.publish::<Frame>(name(), source(SourceKind::Rtmp)).expect("free");
        let epoch = publisher.begin_epoch(tracks(), SystemTime::UNIX_EPOCH);
        publisher.write(frame(&epoch, 0, true));
        let stream = publisher.stream().clone();
        Self { hub, events, publisher, epoch, stream, _watcher: cancel.drop_guard() }
    }

    async fn event(&mut self) -> StreamEvent {
        self.events.recv().await.expect("open")
    }

    async fn stalled(&mut self) {
        while !matches!(self.event().await, StreamEvent::Stalled(_)) {}
    }
}

#[tokio::test(start_paused = true)]
async fn rel01_a_publisher_without_media_stalls_within_3_s_and_resumes_with_its_next_item() {
    let mut world = World::new();
    let began = Instant::now();
    for number in 1..100 {
        sleep(Duration::from_millis(40)).await;
        world.publisher.write(frame(&world.epoch, number, false));
    }
    assert_eq!(world.stream.state().0, StreamState::Live);
    let silent = Instant::now();
    world.stalled().await;
    assert!(silent - began > Duration::from_secs(3), "it had sent for a while");
    assert!(
        (Duration::from_secs(2)..Duration::from_millis(2_500)).contains(&silent.elapsed()),
        "{:?}",
        silent.elapsed()
    );
    assert_eq!(world.stream.state().0, StreamState::Stalled);
    assert!(world.stream.watch_lanes().borrow().stalled);
    let before = world.publisher.interruptions();
    world.publisher.write(frame(&world.epoch, 100, false));
    assert!(matches!(world.event().await, StreamEvent::Resumed(_)));
    assert_eq!(world.stream.state().0, StreamState::Live);
    assert!(!world.stream.watch_lanes().borrow().stalled);
    assert_eq!(world.publisher.interruptions(), before);
    world.stalled().await;
    assert_eq!(world.publisher.interruptions(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn rel03_a_publisher_that_sends_keeps_its_name_and_one_that_has_stalled_loses_it() {
    let mut world = World::new();
    let taken = world.hub.publish::<PacketBatch>(name(), source(SourceKind::Whip)).err();
    assert_eq!(taken, Some(PublishError::Taken(name())));
    world.stalled().await;
    let second = world.hub.publish::<PacketBatch>(name(), source(SourceKind::Whip)).expect("taken over");
    assert!(world.publisher.kicked().is_cancelled() && world.publisher.is_superseded());
    assert_eq!(world.publisher.dismissal(), Some(Dismissal::Superseded));
    assert!(!second.kicked().is_cancelled() && !second.is_superseded());
    assert_eq!(second.dismissal(), None);
    assert_eq!(world.stream.state().0, StreamState::Live);
    assert!(matches!(world.event().await, StreamEvent::PublisherLeft(_)));
    assert!(matches!(world.event().await, StreamEvent::PublisherReturned(_)));
    // What the old one still writes reaches nobody, and its end ends nothing.
    let mut reader = world.stream.subscribe::<Frame>();
    let before = world.stream.statistics().snapshot();
    world.publisher.write(frame(&world.epoch, 1, true));
    assert!(reader.try_recv().is_none());
    assert_eq!(world.stream.statistics().snapshot(), before);
    drop(world.publisher);
    assert_eq!(world.stream.source().map(|(source, _)| source.kind), Some(SourceKind::Whip));
    // Why it must go does not change any more.
    assert!(world.stream.kick_publisher());
    world.hub.close();
    assert_eq!(second.dismissal(), Some(Dismissal::Kicked));
}

#[tokio::test]
async fn a_publisher_learns_that_the_gateway_shuts_down() {
    let world = World::new();
    world.hub.close();
    assert!(world.publisher.kicked().is_cancelled());
    assert_eq!(world.publisher.dismissal(), Some(Dismissal::Closing));
}

#[tokio::test(start_paused = true)]
async fn rel03_a_publisher_that_never_sends_does_not_block_the_name() {
    let mut world = World::new();
    let other: StreamName = "b".parse().expect("a valid name");
    let _mute = world.hub.publish::<Frame>(other.clone(), source(SourceKind::Rtmp)).expect("free");
    world.stalled().await;
    sleep(Duration::from_millis(250)).await;
    assert!(world.hub.publish::<Frame>(other, source(SourceKind::Rtmp)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn rel03_who_waits_gets_the_name_when_the_silence_is_long_enough() {
    let world = World::new();
    let (began, hub) = (Instant::now(), world.hub.clone());
    let second = patiently(&hub).await;
    assert!(second.is_ok() && began.elapsed() <= Duration::from_millis(2_500), "{:?}", began.elapsed());
    // The first is still there, but this one sends: no need to wait for long.
    let second = second.expect("taken over");
    let epoch = second.begin_epoch(tracks(), SystemTime::UNIX_EPOCH);
    let sending = tokio::spawn(async move {
        for number in 0.. {
            second.write(frame(&epoch, number, true));
            sleep(Duration::from_millis(40)).await;
        }
    });
    sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    let refused = patiently(&hub).await.err();
    assert_eq!(refused, Some(PublishError::Taken(name())));
    assert!(began.elapsed() <= Duration::from_millis(500), "{:?}", began.elapsed());
    sending.abort();
}

#[tokio::test(start_paused = true)]
async fn graces_differ_by_stream() {
    let short = Duration::from_secs(3);
    let (hub, watcher) = Hub::new(Graces { default: GRACE, by_name: BTreeMap::from([(name(), short)]) });
    let cancel = CancellationToken::new();
    let _guard = cancel.clone().drop_guard();
    tokio::spawn(watcher.run(cancel));
    let other: StreamName = "b".parse().expect("a valid name");
    for name in [name(), other.clone()] {
        drop(hub.publish::<Frame>(name, source(SourceKind::Rtmp)).expect("free"));
    }
    assert_eq!(hub.get(&name()).map(|stream| stream.state().0), Some(StreamState::Waiting));
    let (mut events, left) = (hub.events(), Instant::now());
    for (name, grace) in [(name(), short), (other, GRACE)] {
        let StreamEvent::Ended(stream) = events.recv().await.expect("open") else { panic!("not an end") };
        assert_eq!((stream.name(), stream.grace()), (&name, grace));
        assert!(left.elapsed() >= grace && left.elapsed() <= grace + Duration::from_millis(500));
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_slept_takes_nobody_for_silent() {
    let world = World::new();
    sleep(Duration::from_millis(300)).await;
    tokio::time::advance(Duration::from_secs(30)).await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(world.stream.state().0, StreamState::Live);
}

#[tokio::test(start_paused = true)]
async fn a_hold_fills_the_frame_lane_until_an_epoch_of_the_publisher_begins() {
    let mut world = World::new();
    assert!(world.stream.hold().is_none(), "live");
    let mut reader = world.stream.subscribe::<Frame>();
    world.stalled().await;
    let last = world.stream.last_group().expect("a keyframe came");
    assert!(last.frames.len() == 1 && last.written.elapsed() >= Duration::from_secs(2));
    let before = world.publisher.interruptions();
    let hold = world.stream.hold().expect("stalled");
    assert!(world.stream.hold().is_none(), "one at a time");
    assert!(world.stream.watch_lanes().borrow().held && world.publisher.interruptions() > before);
    let held = hold.begin_epoch(tracks(), SystemTime::UNIX_EPOCH);
    assert!(hold.write(frame(&held, 50, true)));
    assert!(world.stream.is_hold(&held) && !world.stream.is_hold(&world.epoch));
    let mut ids = [0; 2];
    for id in &mut ids {
        *id = reader.recv().await.expect("live").epoch.id;
    }
    assert_eq!(ids, [world.epoch.id, held.id]);
    // What it replaces can still be had; who comes anew gets what is held.
    assert_eq!(world.stream.last_group().expect("kept").frames[0].epoch.id, world.epoch.id);
    assert_eq!(world.stream.subscribe::<Frame>().try_recv().expect("cached").epoch.id, held.id);
    // Frames of the old epoch are no use after it; the hold goes on, but the publisher is heard.
    world.publisher.write(frame(&world.epoch, 60, false));
    assert!(reader.try_recv().is_none() && hold.write(frame(&held, 51, false)));
    assert_eq!(world.stream.state().0, StreamState::Live);
    let fresh = world.publisher.begin_epoch(tracks(), SystemTime::UNIX_EPOCH);
    world.publisher.write(frame(&fresh, 70, true));
    hold.over().await;
    assert!(!hold.write(frame(&held, 52, false)));
    drop(hold);
    assert!(!world.stream.watch_lanes().borrow().held);
    let mut ids = [0; 2];
    for id in &mut ids {
        *id = reader.recv().await.expect("live").epoch.id;
    }
    assert_eq!(ids, [held.id, fresh.id]);
    assert_eq!(world.stream.subscribe::<Frame>().try_recv().expect("cached").epoch.id, fresh.id);
}

#[tokio::test(start_paused = true)]
async fn a_hold_outlasts_the_publisher_and_the_wait_for_the_next_ones_media() {
    let mut world = World::new();
    let mut compatible = world.stream.subscribe::<CompatibleFrame>();
    drop(world.publisher);
    assert!(world.stream.subscribe::<Frame>().try_recv().is_none(), "old media are not for new readers");
    assert_eq!(world.stream.last_group().expect("kept for the hold").frames.len(), 1);
    assert_eq!(world.stream.watch_lanes().borrow().wanted_compatible(), None);
    let hold = world.stream.hold().expect("waiting");
    assert_eq!(world.stream.watch_lanes().borrow().wanted_compatible(), Some(LaneKind::Compatible));
    let held = hold.begin_epoch(tracks(), SystemTime::UNIX_EPOCH);
    assert!(hold.write(frame(&held, 50, true)));
    let bridge = world.stream.bridge::<CompatibleFrame>();
    bridge.write(CompatibleFrame(frame(&held, 50, true)));
    assert!(compatible.try_recv().is_some());
    let next = world.hub.publish::<PacketBatch>(name(), source(SourceKind::Whip)).expect("free");
    assert!(hold.write(frame(&held, 51, false)), "no media yet");
    let epoch = next.begin_epoch(tracks(), SystemTime::UNIX_EPOCH);
    next.write(PacketBatch { epoch, packets: Vec::new() });
    assert!(hold.write(frame(&held, 52, false)), "no frames yet");
    let bridge = world.stream.bridge::<Frame>();
    bridge.write(frame(&held, 53, false));
    assert!(hold.write(frame(&held, 54, false)), "what was before the hold");
    bridge.write(frame(&bridge.begin_epoch(tracks(), SystemTime::UNIX_EPOCH), 0, true));
    assert!(!hold.write(frame(&held, 55, false)));
    while !matches!(world.events.try_recv().expect("an event"), StreamEvent::PublisherReturned(_)) {}
}

#[tokio::test(start_paused = true)]
async fn what_a_bridge_has_left_from_before_a_hold_is_void() {
    let (hub, watcher) = Hub::new(GRACE);
    let cancel = CancellationToken::new();
    let _guard = cancel.clone().drop_guard();
    tokio::spawn(watcher.run(cancel));
    let mut events = hub.events();
    let publisher = hub.publish::<PacketBatch>(name(), source(SourceKind::Whip)).expect("free");
    let bridge = publisher.stream().bridge::<Frame>();
    let old = bridge.begin_epoch(tracks(), SystemTime::UNIX_EPOCH);
    bridge.write(frame(&old, 0, true));
    while !matches!(events.recv().await.expect("open"), StreamEvent::Stalled(_)) {}
    let stream = publisher.stream();
    let hold = stream.hold().expect("stalled");
    let mut reader = stream.subscribe::<Frame>();
    assert_eq!(reader.try_recv().expect("cached").epoch.id, old.id);
    bridge.write(frame(&old, 1, false));
    let epoch = publisher.begin_epoch(tracks(), SystemTime::UNIX_EPOCH);
    let early = bridge.begin_epoch(tracks(), SystemTime::UNIX_EPOCH);
    bridge.write(frame(&early, 1, true)); // of packets from before the pause, it seems
    publisher.write(PacketBatch { epoch, packets: Vec::new() });
    bridge.write(frame(&old, 2, true));
    assert!(reader.try_recv().is_none());
    let new = bridge.begin_epoch(tracks(), SystemTime::UNIX_EPOCH);
    bridge.write(frame(&new, 3, true));
    hold.over().await;
    assert_eq!(reader.try_recv().expect("written").epoch.id, new.id);
}
