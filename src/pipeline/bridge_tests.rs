//! The bridges' promises, kept with real media and a real hub.

use super::fixture::*;
use super::live::{Live, PATIENCE, encoders, next};
use super::*;
use crate::media::{Frame, MediaKind, MediaTime, PacketBatch, Tracks};
use crate::stream::Hub;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

fn last_of(frames: &[Frame], kind: MediaKind) -> MediaTime {
    frames.iter().filter(|frame| frame.kind == kind).map(|frame| frame.pts).max().expect("frames")
}

/// Frames through the bridge to packets.
async fn packetize(frames: &[Frame]) -> (Vec<Arc<PacketBatch>>, Tracks) {
    let live = Live::<Frame>::new(None);
    let mut reader = live.stream.subscribe::<PacketBatch>();
    live.bridged().await;
    let epoch = live.publisher.begin_epoch(frames[0].epoch.tracks.clone(), wall_origin());
    let write = |frames: &[Frame]| {
        for frame in frames {
            live.publisher.write(Frame { epoch: epoch.clone(), ..frame.clone() });
        }
    };
    // Readers skip sound in front of the first keyframe; faster than real time that could be all of it.
    write(&frames[..30]);
    let mut batches = vec![next(&mut reader).await];
    write(&frames[30..]);
    // What is inside encoders stays there.
    let reordered = frames.iter().any(|frame| frame.pts != frame.dts);
    let inside = Duration::from_millis(if reordered { 200 } else { 0 });
    let mut missing = [
        (MediaKind::Video, last_of(frames, MediaKind::Video) - inside),
        (MediaKind::Audio, last_of(frames, MediaKind::Audio) - Duration::from_millis(150)),
    ];
    while missing.iter().any(|(_, until)| *until > MediaTime::from_nanos(i64::MIN)) {
        let batch = next(&mut reader).await;
        for (kind, until) in &mut missing {
            // Times may be rounded to the nanosecond.
            if batch.packets.iter().any(|packet| packet.kind == *kind && packet.pts.shifted(1000) >= *until) {
                *until = MediaTime::from_nanos(i64::MIN);
            }
        }
        batches.push(batch);
    }
    live.end().await;
    // Faster than real time, one pipeline is ahead of the other.
    batches.sort_by_key(|batch| batch.packets[0].pts);
    let tracks = batches[0].epoch.tracks.clone();
    (batches, tracks)
}

/// Packets through the bridge to frames.
async fn depacketize(batches: &[Arc<PacketBatch>], tracks: Tracks, until: MediaTime) -> Vec<Frame> {
    let live = Live::<PacketBatch>::new(None);
    let mut reader = live.stream.subscribe::<Frame>();
    live.bridged().await;
    let epoch = live.publisher.begin_epoch(tracks, wall_origin());
    for batch in batches {
        live.publisher.write(PacketBatch { epoch: epoch.clone(), packets: batch.packets.clone() });
    }
    let mut frames = vec![];
    let mut reached = [false; 2];
    while reached != [true; 2] {
        let frame = next(&mut reader).await;
        let slack = if frame.kind == MediaKind::Video { 0 } else { 250_000_000 };
        reached[usize::from(frame.kind == MediaKind::Audio)] |= frame.pts.shifted(slack + 1000) >= until;
        frames.push((*frame).clone());
    }
    live.end().await;
    frames
}

fn assert_packets(batches: &[Arc<PacketBatch>]) {
    let sound: Vec<_> = batches
        .iter()
        .flat_map(|batch| &batch.packets)
        .filter(|packet| packet.kind == MediaKind::Audio)
        .collect();
    for pair in sound.windows(2) {
        let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        assert!((959..=961).contains(&step), "{step} ticks from packet to packet");
    }
    for kind in [MediaKind::Video, MediaKind::Audio] {
        let packets: Vec<_> =
            batches.iter().flat_map(|batch| &batch.packets).filter(|packet| packet.kind == kind).collect();
        for pair in packets.windows(2) {
            assert_eq!(pair[1].sequence, pair[0].sequence + 1);
            assert!(pair[1].timestamp.wrapping_sub(pair[0].timestamp) < 1 << 31, "time goes on");
        }
        let rate = if kind == MediaKind::Video { 90_000 } else { 48_000 };
        let (first, last) = (packets[0], packets[packets.len() - 1]);
        let ticks = last.pts.to_ticks(rate) - first.pts.to_ticks(rate);
        assert_eq!(i64::from(last.timestamp.wrapping_sub(first.timestamp)), ticks, "{kind}");
        assert!(packets.iter().all(|packet| (1..=1188).contains(&packet.payload.len())));
    }
    for batch in batches.iter().filter(|batch| batch.packets[0].kind == MediaKind::Video) {
        let (last, others) = batch.packets.split_last().expect("packets");
        assert!(last.marker && others.iter().all(|packet| !packet.marker), "a whole picture in a batch");
        assert!(batch.packets[1..].iter().all(|packet| !packet.keyframe));
    }
}

#[tokio::test]
async fn media_survive_the_way_to_packets_and_back_in_time() {
    let _encoders = encoders().await;
    for b_frames in [0, 2] {
        let frames = coded(MediaTime::from_millis(500), 5, b_frames);
        let (batches, tracks) = packetize(&frames).await;
        assert_packets(&batches);
        let fmtp = &tracks.video.as_ref().expect("video").fmtp;
        let profile = if b_frames == 0 { "4d" } else { "42e01f" };
        assert!(fmtp.contains(&format!("profile-level-id={profile}")), "{fmtp}");
        let keyframes = batches.iter().filter(|batch| batch.packets[0].keyframe).count();
        assert!(if b_frames == 0 { keyframes == 3 } else { keyframes >= 3 }, "{keyframes}");
        let pictures: Vec<_> = batches.iter().map(|batch| &batch.packets[0]).collect();
        let pictures = pictures.into_iter().filter(|packet| packet.kind == MediaKind::Video);
        let last = pictures.clone().map(|packet| packet.pts).max().expect("pictures");
        let pictures = pictures.count();
        let back = depacketize(&batches, tracks, last).await;
        assert!(back.iter().all(|frame| frame.epoch.id == back[0].epoch.id), "one epoch");
        let observed = observe(&back).await;
        eprintln!("there and back, {b_frames} B-frames: {observed:?} {:?}", observed.offsets());
        assert_eq!(observed.pictures, pictures);
        assert!(pictures >= 144 && (b_frames > 0 || pictures == 150), "{pictures}");
        // All was written at once: sound that overtook the first picture is in front of where a reader
        // begins, and the first beep may be in it.
        let flashes = observed.offsets().len();
        assert!(flashes >= 4, "{observed:?}");
        assert_together(&observed, flashes, Duration::from_millis(10));
    }
}

#[tokio::test]
async fn what_is_encoded_for_viewers_begins_when_the_first_of_them_comes() {
    let _encoders = encoders().await;
    let frames = coded(MediaTime::from_millis(500), 4, 2);
    let live = Live::<Frame>::new(None);
    let epoch = live.publisher.begin_epoch(frames[0].epoch.tracks.clone(), wall_origin());
    let write = |frame: &Frame| live.publisher.write(Frame { epoch: epoch.clone(), ..frame.clone() });
    let (before, after) = frames.split_at(frames.len() * 6 / 8);
    before.iter().for_each(write);
    let keyframe = before.iter().rfind(|frame| frame.keyframe && frame.kind == MediaKind::Video);
    let (edge, keyframe) = (last_of(before, MediaKind::Video), keyframe.expect("a group").pts);
    assert!(edge.since(keyframe) > Duration::from_millis(600), "much of a group is cached");

    let mut reader = live.stream.subscribe::<PacketBatch>();
    live.bridged().await;
    // Readers skip sound in front of the first keyframe, which takes its time.
    let (first, rest) = after.split_at(20);
    for frame in first {
        write(frame);
        tokio::task::yield_now().await; // the bridge has read it
    }
    let mut batch = next(&mut reader).await;
    rest.iter().for_each(write);
    let mut first = [None; 2];
    loop {
        for packet in &batch.packets {
            first[usize::from(packet.kind == MediaKind::Audio)].get_or_insert(packet.pts);
        }
        if first.iter().all(Option::is_some) {
            break;
        }
        batch = next(&mut reader).await;
    }
    live.end().await;
    let [video, audio] = first.map(|first| first.expect("both came"));
    for first in [video, audio] {
        let apart = (first.as_nanos() - edge.as_nanos()).abs();
        assert!(apart <= 500_000_000, "{first:?}; the edge is {edge:?}");
    }
}

#[tokio::test]
async fn a_loss_costs_pictures_up_to_the_next_keyframe_and_a_keyframe_is_asked_for() {
    let _encoders = encoders().await;
    let frames = coded(MediaTime::ZERO, 5, 0);
    let (mut batches, tracks) = packetize(&frames).await;
    let at = |millis| batches.iter().position(|batch| batch.packets[0].pts >= MediaTime::from_millis(millis));
    let (lost, second) = (at(1000).expect("long enough"), at(1900).expect("long enough"));
    let mut rest = batches.split_off(second);
    let is_video = |batch: &&Arc<PacketBatch>| batch.packets[0].kind == MediaKind::Video;
    let lost = lost + batches[lost..].iter().position(|batch| is_video(&batch)).expect("video");
    batches.remove(lost);
    let live = Live::<PacketBatch>::new(None);
    let mut wishes = live.publisher.keyframe_requests();
    let mut reader = live.stream.subscribe::<Frame>();
    // One wish comes at the start.
    tokio::time::timeout(PATIENCE, wishes.changed()).await.expect("asked").expect("open");
    live.bridged().await;
    let epoch = live.publisher.begin_epoch(tracks, wall_origin());
    let publish = |batches: &mut Vec<Arc<PacketBatch>>| {
        for batch in batches.drain(..) {
            live.publisher.write(PacketBatch { epoch: epoch.clone(), packets: batch.packets.clone() });
        }
    };
    publish(&mut batches);
    tokio::time::timeout(PATIENCE, wishes.changed()).await.expect("asked").expect("open");
    publish(&mut rest);
    let (mut frames, mut pictures) = (vec![], 0);
    let mut shown = MediaTime::ZERO;
    while shown < MediaTime::from_millis(4950) {
        let frame = next(&mut reader).await;
        if frame.kind == MediaKind::Video {
            (pictures, shown) = (pictures + 1, frame.pts);
        }
        frames.push((*frame).clone());
    }
    // 30 before the loss, 90 from the keyframe at 2 s on.
    assert_eq!(pictures, 120);
    live.end().await;
    // Nothing that a decoder would complain of.
    let folder = tempfile::tempdir().expect("a folder");
    let (init, parts) = mux(&frames, MediaKind::Video).await;
    let path = folder.path().join("v.mp4");
    write(&path, &init, &parts);
    tool("ffmpeg", &["-i", path.to_str().expect("a path"), "-f", "null", "-"]);
}

#[tokio::test]
async fn a_pipeline_that_fails_is_replaced_in_a_new_epoch() {
    let _encoders = encoders().await;
    let frames = coded(MediaTime::ZERO, 8, 0);
    let (batches, tracks) = packetize(&frames).await;
    let folder = tempfile::tempdir().expect("a folder");
    let text = include_str!("../../pipelines/opus-packets-to-frames.launch");
    let failing = text.replace("! appsink", "! identity error-after=150 ! appsink");
    std::fs::write(folder.path().join("opus-packets-to-frames.launch"), failing).expect("written");
    let live = Live::<PacketBatch>::new(Some(folder.path()));
    let mut reader = live.stream.subscribe::<Frame>();
    live.bridged().await;
    let epoch = live.publisher.begin_epoch(tracks, wall_origin());
    let mut epochs = std::collections::BTreeSet::new();
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    for batch in batches {
        live.publisher.write(PacketBatch { epoch: epoch.clone(), packets: batch.packets.clone() });
        pace.tick().await;
        while let Some(frame) = reader.try_recv() {
            if epochs.insert(frame.epoch.id) {
                assert!(frame.keyframe);
            }
        }
    }
    assert!(epochs.len() >= 2, "{epochs:?}");
    live.end().await;
}

#[tokio::test]
async fn a_new_epoch_of_packets_is_a_new_epoch_of_frames() {
    let _encoders = encoders().await;
    let frames = coded(MediaTime::ZERO, 4, 0);
    let (batches, tracks) = packetize(&frames).await;
    let live = Live::<PacketBatch>::new(None);
    let mut reader = live.stream.subscribe::<Frame>();
    live.bridged().await;
    let second = batches.iter().rposition(|batch| batch.packets[0].keyframe).expect("two keyframes");
    let mut begins = vec![];
    for half in [&batches[..second], &batches[second..]] {
        let epoch = live.publisher.begin_epoch(tracks.clone(), wall_origin());
        let written = std::time::Instant::now();
        for batch in half {
            live.publisher.write(PacketBatch { epoch: epoch.clone(), packets: batch.packets.clone() });
        }
        // Both tracks of the new epoch come out.
        let (mut first, mut kinds) = (None, std::collections::BTreeSet::new());
        while kinds.len() < 2 {
            let frame = next(&mut reader).await;
            if begins.last().is_none_or(|last| frame.epoch.id > *last) {
                if first.is_none() {
                    eprintln!("first frame after {:?}", written.elapsed());
                    assert!(written.elapsed() < Duration::from_secs(1));
                    let tracks = &frame.epoch.tracks;
                    assert_eq!(tracks.video.as_ref().and_then(|track| track.resolution), Some((1280, 720)));
                    assert_eq!(tracks.audio.as_ref().map(|track| track.sample_rate), Some(48_000));
                    first = Some(frame.epoch.id);
                }
                kinds.insert(frame.kind);
            }
        }
        begins.extend(first);
    }
    assert_eq!(begins.len(), 2);
    live.end().await;
}

#[tokio::test]
async fn sound_alone_crosses_both_bridges() {
    let _encoders = encoders().await;
    let mut frames = coded(MediaTime::ZERO, 3, 0);
    frames.retain(|frame| frame.kind == MediaKind::Audio);
    let tracks = Tracks { video: None, ..frames[0].epoch.tracks.clone() };
    let there = Live::<Frame>::new(None);
    let mut packets = there.stream.subscribe::<PacketBatch>();
    there.bridged().await;
    let epoch = there.publisher.begin_epoch(tracks, wall_origin());
    for frame in &frames {
        there.publisher.write(Frame { epoch: epoch.clone(), ..frame.clone() });
    }
    let back = Live::<PacketBatch>::new(None);
    let mut reader = back.stream.subscribe::<Frame>();
    back.bridged().await;
    let mut epoch = None;
    loop {
        let batch = next(&mut packets).await;
        let epoch = epoch.get_or_insert_with(|| {
            assert!(!batch.epoch.tracks.has(MediaKind::Video));
            back.publisher.begin_epoch(batch.epoch.tracks.clone(), wall_origin())
        });
        back.publisher.write(PacketBatch { epoch: epoch.clone(), packets: batch.packets.clone() });
        if batch.packets[0].pts > MediaTime::from_millis(2500) {
            break;
        }
    }
    let first = next(&mut reader).await;
    assert!(first.epoch.tracks.has(MediaKind::Audio) && !first.epoch.tracks.has(MediaKind::Video));
    while next(&mut reader).await.pts < MediaTime::from_millis(2300) {}
    there.end().await;
    back.end().await;
}

#[tokio::test]
async fn the_demo_is_live_and_its_flash_and_beep_are_together() {
    let _encoders = encoders().await;
    let (hub, _reaper) = Hub::new(Duration::ZERO);
    let (pipelines, cancel) = (Pipelines::load(None).expect("installed"), CancellationToken::new());
    let name: crate::media::StreamName = "demo".parse().expect("a name");
    let mut events = hub.events();
    let demo = tokio::spawn(run_demo(pipelines, hub.clone(), name, cancel.clone()));
    let crate::stream::StreamEvent::Started(stream) = events.recv().await.expect("started") else {
        panic!("another event");
    };
    let mut reader = stream.subscribe::<Frame>();
    let (mut frames, mut delays) = (vec![], vec![]);
    while frames.len() < 380 {
        let frame = next(&mut reader).await;
        let taken = frame.epoch.wall_origin + frame.pts.since(MediaTime::ZERO);
        delays.push((frame.kind, taken.elapsed().unwrap_or_default()));
        frames.push((*frame).clone());
    }
    cancel.cancel();
    demo.await.expect("no panic");
    let delay = |kind, percent: usize| {
        let mut delays: Vec<_> = delays.iter().filter(|delay| delay.0 == kind).map(|delay| delay.1).collect();
        delays.sort();
        delays[delays.len() * percent / 100]
    };
    let delays = [MediaKind::Video, MediaKind::Audio].map(|kind| (delay(kind, 50), delay(kind, 95)));
    let origin = frames[0].epoch.wall_origin.duration_since(wall_origin()).expect("later than the fixture's");
    // The fixture's clock begins elsewhere.
    for frame in &mut frames {
        (frame.pts, frame.dts) = (frame.pts + origin, frame.dts + origin);
    }
    let observed = observe(&frames).await;
    eprintln!("demo: delay of video and audio (p50, p95) {delays:?}; {observed:?} {:?}", observed.offsets());
    let offsets = observed.offsets();
    assert!(offsets.len() >= 3, "{observed:?}");
    assert_together(&observed, offsets.len(), Duration::from_millis(10));
    assert!(frames.iter().filter(|frame| frame.kind == MediaKind::Video && frame.keyframe).count() >= 2);
}
