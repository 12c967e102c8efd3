//! The room's promises, kept with real media.

use super::fixture::*;
use super::*;
use crate::media::{MediaKind, MediaTime};
use std::time::Duration;

/// Parts join, obey the part target, and begin segments at the keyframes.
fn assert_parts(parts: &[MuxedPart], start: MediaTime, keyframes: usize) {
    assert!(parts[0].starts_segment && parts[0].independent);
    assert!((parts[0].start.as_nanos() - start.as_nanos()).abs() < 50_000, "{:?}", parts[0].start);
    for pair in parts.windows(2) {
        let gap = (pair[0].start + pair[0].duration).as_nanos() - pair[1].start.as_nanos();
        assert!(gap.abs() < 200_000, "{gap} ns between {:?} and {:?}", pair[0].start, pair[1].start);
    }
    let longest = parts.iter().map(|part| part.duration).max().expect("parts");
    assert!(longest <= SETTINGS.part_duration, "{longest:?}");
    assert_eq!(parts.iter().filter(|part| part.starts_segment).count(), keyframes);
}

#[tokio::test]
async fn video_parts_are_on_the_timeline() {
    for (start, b_frames) in [(0, 0), (-1500, 0), (86_400_000, 0), (0, 2), (7_000, 2)] {
        let start = MediaTime::from_millis(start);
        let frames = coded(start, 5, b_frames);
        assert_eq!(frames.iter().any(|frame| frame.pts != frame.dts), b_frames > 0);
        let (init, parts) = mux(&frames, MediaKind::Video).await;
        assert_parts(&parts, start, 3);
        assert_eq!(
            parts.iter().filter(|part| part.independent).count(),
            3,
            "as many independent parts as keyframes"
        );
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("v.mp4");
        write(&path, &init, &parts);
        let packets = probe(&path);
        assert_eq!(packets.len(), 150);
        // ffmpeg shows a track with negative composition offsets late by the largest of them; players
        // of fragmented MP4 don't.
        let first = first_presentation(&parts[0].data);
        assert!((first - 10.0 - start.as_secs_f64()).abs() < 0.000_1, "{first}");
        let shift = packets[0].0 - first;
        assert!(shift.abs() < 0.000_1 || b_frames > 0, "{shift}");
        assert!(packets.windows(2).all(|pair| pair[0].1 < pair[1].1), "decode times rise");
        let video: Vec<_> = frames.iter().filter(|frame| frame.kind == MediaKind::Video).collect();
        for ((pts, _, key), frame) in packets.iter().zip(video) {
            assert!((pts - shift - 10.0 - frame.pts.as_secs_f64()).abs() < 0.000_1, "{pts} {:?}", frame.pts);
            assert_eq!(*key, frame.keyframe);
        }
    }
}

#[tokio::test]
async fn a_track_of_unknown_resolution_is_parsed() {
    let mut frames = coded(MediaTime::ZERO, 3, 0);
    let mut tracks = frames[0].epoch.tracks.clone();
    tracks.video.as_mut().expect("video").resolution = None;
    let epoch = crate::media::Epoch { id: 2, tracks, wall_origin: wall_origin() };
    let epoch = std::sync::Arc::new(epoch);
    frames.iter_mut().for_each(|frame| frame.epoch = epoch.clone());
    let (_, parts) = mux(&frames, MediaKind::Video).await;
    assert_parts(&parts, MediaTime::ZERO, 2);
}

#[tokio::test]
async fn audio_parts_are_smooth_though_the_sender_counts_milliseconds() {
    let start = MediaTime::from_millis(123);
    let mut frames = coded(start, 5, 0);
    for frame in &mut frames {
        frame.pts = MediaTime::from_millis(frame.pts.as_millis());
        frame.dts = frame.pts;
    }
    let first = frames.iter().find(|frame| frame.kind == MediaKind::Audio).expect("sound").pts;
    let (init, parts) = mux(&frames, MediaKind::Audio).await;
    assert!(parts.iter().all(|part| part.independent));
    let segments = parts.iter().filter(|part| part.starts_segment).count();
    assert!((3..=4).contains(&segments), "{segments} segments of 2 s in 5 s");
    assert_parts(&parts, first, segments);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.mp4");
    write(&path, &init, &parts);
    let packets = probe(&path);
    for pair in packets.windows(2) {
        let step = pair[1].0 - pair[0].0;
        assert!((step - 1024.0 / 48_000.0).abs() < 0.000_1, "a frame of {step} s");
    }
}

#[tokio::test]
async fn flash_and_beep_of_coded_media_are_together() {
    for b_frames in [0, 2] {
        let observed = observe(&coded(MediaTime::from_millis(500), 4, b_frames)).await;
        eprintln!("muxed, {b_frames} B-frames: {observed:?} {:?}", observed.offsets());
        assert_together(&observed, 4, Duration::from_millis(10));
    }
}

#[tokio::test]
async fn a_track_that_does_not_begin_with_a_keyframe_begins_with_the_next_one() {
    let frames: Vec<_> = coded(MediaTime::ZERO, 5, 0).into_iter().skip(10).collect();
    let (_, parts) = mux(&frames, MediaKind::Video).await;
    assert_parts(&parts, MediaTime::from_millis(2000), 2);
}

#[tokio::test]
async fn a_muxer_whose_output_is_not_read_fails_instead_of_waiting() {
    let frames = coded(MediaTime::ZERO, 5, 0);
    let pipelines = Pipelines::load(None).expect("installed");
    let (sender, mut output) = tokio::sync::mpsc::channel(3);
    let track = frames[0].epoch.tracks.video.as_ref().expect("video");
    let muxer = Muxer::start(&pipelines, MuxTrack::Video(track), SETTINGS, sender).expect("starts");
    let video: Vec<_> = frames.iter().filter(|frame| frame.kind == MediaKind::Video).collect();
    let error = loop {
        // The muxer runs on threads of its own: it may take all frames before it fails.
        if let Some(error) = video.iter().find_map(|frame| muxer.push(frame).err()) {
            break error;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(error, PipelineError::OutputLost { file: "mux-video.launch" });
    assert!(matches!(output.recv().await, Some(MuxOutput::Init(_))));
    muxer.finish().await;
}

#[tokio::test]
async fn no_part_waits_for_the_next_one_and_few_frames_are_due() {
    for (kind, b_frames, slack) in
        [(MediaKind::Video, 0, 1), (MediaKind::Video, 2, 3), (MediaKind::Audio, 0, 1)]
    {
        let frames = coded(MediaTime::ZERO, 5, b_frames);
        let (_, expected) = mux(&frames, kind).await;
        let pipelines = Pipelines::load(None).expect("installed");
        let (sender, mut output) = tokio::sync::mpsc::channel(64);
        let tracks = &frames[0].epoch.tracks;
        let track = match kind {
            MediaKind::Video => MuxTrack::Video(tracks.video.as_ref().expect("video")),
            MediaKind::Audio => MuxTrack::Audio(tracks.audio.as_ref().expect("audio")),
        };
        let muxer = Muxer::start(&pipelines, track, SETTINGS, sender).expect("starts");
        let (mut missing, mut due) = (expected.iter().peekable(), 0);
        for frame in frames.iter().filter(|frame| frame.kind == kind) {
            due += usize::from(muxer.pace().is_due(frame));
            muxer.push(frame).expect("taken");
            let complete = |part: &&MuxedPart| {
                part.start + part.duration + Duration::from_millis(33) * slack < frame.dts
            };
            while let Some(expected) = missing.next_if(complete) {
                let part = loop {
                    let next = tokio::time::timeout(super::live::PATIENCE, output.recv()).await;
                    match next.expect("a complete part comes at once").expect("the muxer lives") {
                        MuxOutput::Part(part) => break part,
                        MuxOutput::Init(_) => {}
                        other => panic!("{other:?}"),
                    }
                };
                assert_eq!((part.start, part.data), (expected.start, expected.data.clone()));
            }
        }
        assert!(missing.count() <= 2, "only the end is missing");
        // Here frames come faster than parts leave; live it is one a part, and some more a segment.
        let most = expected.len() * (slack as usize + 3);
        assert!(due <= most, "{due} frames for {} parts", expected.len());
        muxer.finish().await;
    }
}
