//! What the bridge to packets makes of B-frames when there is no processor time, and when there is again.

use super::fixture::{coded, wall_origin};
use super::live::{Live, encoders, next};
use crate::media::{Frame, MediaKind, MediaTime, PacketBatch, Shortage};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Of the fixture's pictures as they are, and of those that are encoded again.
const MAIN: &str = "profile-level-id=4d";
const BASELINE: &str = "profile-level-id=42e0";

/// The next picture and the parameters that it is offered with.
async fn picture(reader: &mut crate::stream::Subscriber<PacketBatch>) -> (MediaTime, String) {
    loop {
        let batch: Arc<PacketBatch> = next(reader).await;
        if batch.packets[0].kind == MediaKind::Video {
            let track = batch.epoch.tracks.video.as_ref().expect("a track");
            return (batch.packets[0].pts, track.fmtp.clone());
        }
    }
}

#[tokio::test]
async fn b_frames_are_left_out_while_the_budget_is_spent_and_the_pictures_encoded_when_it_is_free() {
    let _encoders = encoders().await;
    let frames = coded(MediaTime::ZERO, 5, 1);
    let keyframe = |frame: &Frame| frame.kind == MediaKind::Video && frame.keyframe;
    let last = frames.iter().rposition(keyframe).expect("a keyframe");
    let until = frames[last].pts - Duration::from_millis(200);
    let live = Live::<Frame>::new(None);
    let (budget, name) = (live.pipelines.budget().clone(), live.stream.name().clone());
    let spent = budget.spend(Instant::now());
    let mut reader = live.stream.subscribe::<PacketBatch>();
    live.bridged().await;
    let epoch = live.publisher.begin_epoch(frames[0].epoch.tracks.clone(), wall_origin());
    let write = |frames: &[Frame]| {
        for frame in frames {
            live.publisher.write(Frame { epoch: epoch.clone(), ..frame.clone() });
        }
    };
    write(&frames[..last]);
    let mut times = vec![];
    while times.last().is_none_or(|time| *time < until) {
        let (time, fmtp) = picture(&mut reader).await;
        assert!(fmtp.contains(MAIN), "{fmtp}");
        times.push(time);
    }
    assert!(times.is_sorted() && (38..110).contains(&times.len()), "of 115: {times:?}");
    assert_eq!(budget.shortage(&name, spent), Some(Shortage::Budget));
    budget.relieve(spent);
    write(&frames[last..]);
    while picture(&mut reader).await.1.contains(MAIN) {}
    let (time, fmtp) = picture(&mut reader).await;
    assert!(fmtp.contains(BASELINE) && time > frames[last].pts, "{fmtp} at {time:?}");
    assert_eq!(budget.shortage(&name, spent), None);
    live.end().await;
}

#[tokio::test]
async fn an_encoder_that_falls_behind_gives_way_to_fewer_pictures() {
    let _encoders = encoders().await;
    let folder = tempfile::tempdir().expect("a folder");
    let slow = include_str!("../../pipelines/frames-to-baseline-frames.launch")
        .replace("! videoconvert", "! identity sleep-time=200000 ! videoconvert");
    std::fs::write(folder.path().join("frames-to-baseline-frames.launch"), slow).expect("written");
    let mut frames = coded(MediaTime::ZERO, 3, 1);
    // The second group comes ten seconds after the first: more than an encoder may have inside.
    let keyframe = |frame: &Frame| frame.kind == MediaKind::Video && frame.keyframe;
    let second = frames.iter().rposition(keyframe).expect("a keyframe");
    for frame in &mut frames[second..] {
        let later = Duration::from_secs(10);
        (frame.pts, frame.dts) = (frame.pts + later, frame.dts + later);
    }
    let live = Live::<Frame>::new(Some(folder.path()));
    let (budget, name) = (live.pipelines.budget().clone(), live.stream.name().clone());
    let mut reader = live.stream.subscribe::<PacketBatch>();
    live.bridged().await;
    let epoch = live.publisher.begin_epoch(frames[0].epoch.tracks.clone(), wall_origin());
    for frame in frames {
        live.publisher.write(Frame { epoch: epoch.clone(), ..frame });
    }
    while !picture(&mut reader).await.1.contains(MAIN) {}
    assert_eq!(budget.shortage(&name, Instant::now()), Some(Shortage::Behind));
    live.end().await;
}
