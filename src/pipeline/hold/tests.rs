//! The held picture: which one it is, and what decoders make of it.

use super::picture::last_shown;
use super::still::Still;
use super::{HoldPicture, run_holds};
use crate::media::h264::{AvcConfig, NAL_IDR, NAL_SLICE, NalUnits, nal_type};
use crate::media::{Codec, Epoch, Frame, MediaKind, MediaTime, Tracks};
use crate::pipeline::Pipelines;
use crate::pipeline::demo::read_mark;
use crate::pipeline::fixture::{WALL, coded, observe, wall_origin};
use crate::pipeline::live::next;
use crate::stream::{Hub, Source, SourceKind};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The last group of pictures of a source, cut off after `count` frames in decoding order.
fn group(b_frames: u32, count: usize) -> Vec<Arc<Frame>> {
    let frames = coded(MediaTime::from_millis(500), 3, b_frames);
    let keyframe = frames.iter().rposition(|frame| frame.kind == MediaKind::Video && frame.keyframe);
    frames.into_iter().skip(keyframe.expect("keyframes")).take(count).map(Arc::new).collect()
}

/// The time that is marked in the picture which is kept of `group`.
async fn marked(pipelines: &Pipelines, group: &[Arc<Frame>]) -> MediaTime {
    let picture = last_shown(pipelines, group).await.expect("decodes").expect("a picture");
    let luma = picture.buffer.map_readable().expect("readable");
    let millis = read_mark(&luma[..1280 * 720]).expect("a mark");
    MediaTime::from_millis(millis as i64 - WALL.as_millis() as i64)
}

#[tokio::test]
async fn the_picture_shown_last_is_held_not_the_one_decoded_last() {
    let pipelines = Pipelines::load(None).expect("installed");
    let mut reordered = 0;
    for (b_frames, count) in [(0, 1), (0, 30), (2, 40), (2, 41), (2, 42), (2, 43), (2, 44)] {
        let group = group(b_frames, count);
        let pictures = || group.iter().filter(|frame| frame.kind == MediaKind::Video);
        let last = pictures().map(|frame| frame.pts).max().expect("pictures");
        reordered += usize::from(pictures().next_back().is_some_and(|frame| frame.pts != last));
        let error = marked(&pipelines, &group).await.as_nanos() - last.as_nanos();
        assert!(error.abs() <= 1_000_000, "{b_frames} B-frames, {count} frames: {error} ns beside {last:?}");
    }
    assert!(reordered > 0, "some group ended with a B-frame");
}

#[tokio::test]
async fn what_cannot_be_decoded_is_an_error_and_what_is_cut_short_is_not() {
    let pipelines = Pipelines::load(None).expect("installed");
    let group = group(0, 40);
    let mut damaged = group.clone();
    let last = damaged.last().expect("frames").clone();
    damaged.push(Arc::new(Frame {
        kind: MediaKind::Video,
        keyframe: false,
        data: vec![0, 0, 0, 9, 0x41].into(),
        ..(*last).clone()
    }));
    marked(&pipelines, &damaged).await;
    let mut epoch = Epoch { id: 9, tracks: group[0].epoch.tracks.clone(), wall_origin: wall_origin() };
    if let Some(video) = &mut epoch.tracks.video {
        video.codec = Codec::Vp8;
    }
    let unknown = Arc::new(Frame { epoch: Arc::new(epoch), ..(*group[0]).clone() });
    last_shown(&pipelines, &[unknown]).await.expect_err("no decoder for VP8 frames");
    assert!(last_shown(&pipelines, &[]).await.expect("nothing to do").is_none());
}

#[tokio::test]
async fn a_still_repeats_for_ever_and_shows_the_picture() {
    let pipelines = Pipelines::load(None).expect("installed");
    let group = group(0, 30);
    let time = marked(&pipelines, &group).await;
    let picture = last_shown(&pipelines, &group).await.expect("decodes").expect("a picture");
    let still = Still::encode(&pipelines, &picture).await.expect("encodes");
    assert_eq!(
        (still.track.codec, still.track.resolution, still.track.frame_rate),
        (Codec::H264, Some((1280, 720)), Some(10.0))
    );
    let config = AvcConfig::parse(still.track.codec_data.clone()).expect("a configuration");
    let sps = config.first_sps().expect("parses");
    assert_eq!(
        (config.length_size, sps.profile, sps.max_reorder_frames),
        (4, 77, Some(0)),
        "Main without reordering"
    );
    assert!((31..=32).contains(&sps.level), "level {}", sps.level);

    // Eight seconds of it: a keyframe every two, each unlike the one before, and no detail in between.
    let mut identifiers = Vec::new();
    let mut bytes = 0;
    for number in 0..80 {
        let (keyframe, data) = still.unit(number);
        assert_eq!(keyframe, number % 20 == 0, "{number}");
        let slices: Vec<_> = NalUnits::new(&data, 4)
            .map(|unit| unit.expect("whole"))
            .filter(|unit| matches!(nal_type(unit[0]), NAL_SLICE | NAL_IDR))
            .collect();
        assert_eq!((slices.len(), nal_type(slices[0][0]) == NAL_IDR), (1, keyframe), "{number}");
        if keyframe {
            identifiers.push(slices[0][1..12].to_vec());
        } else {
            assert!(data.len() < 1000, "{} bytes for nothing new", data.len());
        }
        bytes += data.len();
    }
    assert!(
        identifiers.windows(2).all(|pair| pair[0] != pair[1]),
        "consecutive IDR pictures have one idr_pic_id"
    );
    assert!(bytes / 8 < 100_000, "{} bytes a second", bytes / 8);

    // Every picture decodes, and shows the time of the last one.
    let tracks = Tracks { video: Some(still.track.clone()), audio: None };
    let epoch = Arc::new(Epoch { id: 2, tracks, wall_origin: wall_origin() });
    let frames: Vec<Frame> = (0..80)
        .map(|number| {
            let (keyframe, data) = still.unit(number);
            let pts = MediaTime::from_ticks(number as i64, 10);
            Frame { epoch: epoch.clone(), kind: MediaKind::Video, pts, dts: pts, keyframe, data }
        })
        .collect();
    let observed = observe(&frames).await;
    assert_eq!((observed.pictures, observed.marks), (80, 80));
    // The mark stays while the time goes on.
    let shown = Duration::from_secs_f64(observed.latest - observed.earliest);
    assert!(
        (shown.as_secs_f64() - 7.9).abs() < 0.01 && (observed.earliest + time.as_secs_f64()).abs() < 0.01,
        "{observed:?}"
    );
}

#[tokio::test]
async fn a_pause_is_filled_while_somebody_reads_until_the_publishers_media_come() {
    let pipelines = Pipelines::load(None).expect("installed");
    let (hub, _watcher) = Hub::new(Duration::from_secs(60));
    let source = Source { kind: SourceKind::Rtmp, remote: None };
    let name = || "a".parse().expect("a name");
    let publisher = hub.publish::<Frame>(name(), source.clone()).expect("free");
    let stream = publisher.stream().clone();
    let cancel = CancellationToken::new();
    let holds = tokio::spawn(run_holds(pipelines, stream.clone(), HoldPicture::Last, cancel.clone()));
    let group = coded(MediaTime::ZERO, 1, 0);
    let write = |publisher: &crate::stream::Publisher<Frame>| {
        let epoch = publisher.begin_epoch(group[0].epoch.tracks.clone(), wall_origin());
        group.iter().for_each(|frame| publisher.write(Frame { epoch: epoch.clone(), ..frame.clone() }));
        epoch.id
    };
    let published = write(&publisher);
    let ends =
        |kind| group.iter().filter(|frame| frame.kind == kind).map(|frame| frame.pts).max().expect("frames");
    let (video, audio) = (ends(MediaKind::Video), ends(MediaKind::Audio));
    drop(publisher);

    // Nobody reads: nothing is held.
    let lanes = stream.watch_lanes();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(!lanes.borrow().held);

    // A reader, and it goes on where the publisher ended, without a hole.
    let mut reader = stream.subscribe::<Frame>();
    let first = next(&mut reader).await;
    assert!(first.keyframe && first.kind == MediaKind::Video && first.epoch.id > published);
    assert_eq!(first.epoch.wall_origin, wall_origin());
    let step = first.pts.since(video);
    assert!(
        (Duration::from_millis(30)..Duration::from_millis(40)).contains(&step),
        "{step:?} after the last picture"
    );
    let mut lasts = [first.pts, audio];
    let (config, codec_data) = (
        first.epoch.tracks.audio.clone().expect("sound"),
        group[0].epoch.tracks.audio.clone().expect("sound").codec_data,
    );
    assert_eq!(config.codec_data, codec_data, "the sound's configuration stays");
    while lasts.iter().any(|last| last.since(video) < Duration::from_secs(1)) {
        let frame = next(&mut reader).await;
        let last = &mut lasts[usize::from(frame.kind == MediaKind::Audio)];
        let step = frame.pts.since(*last);
        assert!(step > Duration::ZERO && step <= Duration::from_millis(101), "{:?}: {step:?}", frame.kind);
        *last = frame.pts;
    }
    assert!(lanes.borrow().held);

    // Another reader begins with a keyframe as well.
    assert!(stream.subscribe::<Frame>().try_recv().expect("cached").keyframe);

    // The publisher is back: nothing of the hold comes after its first frame.
    let publisher = hub.publish::<Frame>(name(), source).expect("free");
    let returned = write(&publisher);
    while next(&mut reader).await.epoch.id != returned {}
    for _ in 1..group.len() {
        assert_eq!(next(&mut reader).await.epoch.id, returned);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(reader.try_recv().is_none() && !lanes.borrow().held);
    cancel.cancel();
    holds.await.expect("no panic");
}
