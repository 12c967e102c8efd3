//! Frames of each codec on their way to frames that everybody takes.

use super::packets::packets;
use super::{assert_pictures_in_time, bridged, keyframes, tracks};
use crate::media::{Codec, Epoch, Frame, MediaKind, MediaTime, PacketBatch, Tracks, VideoTranscoding};
use crate::pipeline::fixture::*;
use crate::pipeline::live::{Live, encoders, next};
use crate::stream::{CompatibleFrame, Media};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// Frames written to the frame lane, and what of them comes on the compatible lane until `until`.
async fn made_compatible(frames: &[Frame]) -> Vec<Frame> {
    let live = Live::<Frame>::new(None);
    let mut reader = live.stream.subscribe::<CompatibleFrame>();
    live.stream.watch_lanes().wait_for(|lanes| lanes.frame_readers > 0).await.expect("open");
    let epoch = live.publisher.begin_epoch(frames[0].epoch.tracks.clone(), wall_origin());
    for frame in frames {
        live.publisher.write(Frame { epoch: epoch.clone(), ..frame.clone() });
    }
    // An encoder that does not know the frame rate holds the last picture back.
    let reencoded = frames[0].epoch.tracks.codec(MediaKind::Video) != Some(Codec::H264);
    let last = |kind| {
        let held = usize::from(reencoded && kind == MediaKind::Video);
        let mut times: Vec<_> =
            frames.iter().filter(|frame| frame.kind == kind).map(|frame| frame.pts).collect();
        times.sort();
        times.iter().rev().nth(held).copied()
    };
    let mut missing: Vec<_> = [MediaKind::Video, MediaKind::Audio]
        .into_iter()
        .filter_map(|kind| Some((kind, last(kind)?)))
        .collect();
    let mut compatible = vec![];
    while !missing.is_empty() {
        let frame = next(&mut reader).await.0.clone();
        missing.retain(|(kind, last)| frame.kind != *kind || frame.pts.shifted(1000) < *last);
        compatible.push(frame);
    }
    live.end().await;
    compatible.sort_by_key(|frame| frame.dts);
    compatible
}

fn sound(frames: &[Frame]) -> Vec<(MediaTime, Bytes)> {
    let sound = frames.iter().filter(|frame| frame.kind == MediaKind::Audio);
    sound.map(|frame| (frame.pts, frame.data.clone())).collect()
}

#[tokio::test]
async fn other_video_becomes_compatible_in_step_with_sound_that_is_untouched() {
    let _encoders = encoders().await;
    let with_sound = coded(MediaTime::from_millis(500), 4, 0);
    for codec in [Codec::Vp9, Codec::Av1, Codec::H265] {
        let mut frames = bridged(codec, &packets(codec, MediaTime::from_millis(500), 4, (1280, 720))).await;
        let video = frames[0].epoch.tracks.video.clone();
        let audio = with_sound[0].epoch.tracks.audio.clone();
        frames.extend(with_sound.iter().filter(|frame| frame.kind == MediaKind::Audio).cloned());
        frames.sort_by_key(|frame| frame.dts);
        let tracks = Tracks { video, audio };
        let epoch = Epoch { id: 1, tracks, wall_origin: wall_origin() };
        let epoch = Arc::new(epoch);
        frames.iter_mut().for_each(|frame| frame.epoch = epoch.clone());
        let compatible = made_compatible(&frames).await;
        let tracks = &compatible[0].epoch.tracks;
        assert_eq!(tracks.codec(MediaKind::Video), Some(Codec::H264));
        assert_eq!(tracks.audio, with_sound[0].epoch.tracks.audio);
        assert_eq!(keyframes(&compatible), [0, 60], "{codec}");
        let (sent, come) = (sound(&frames), sound(&compatible));
        assert!(sent.ends_with(&come) && come.len() + 20 > sent.len(), "{} of {}", come.len(), sent.len());
        let observed = observe(&compatible).await;
        eprintln!("{codec}: {observed:?} {:?}", observed.offsets());
        let flashes = observed.offsets().len();
        assert!(flashes >= 3, "{observed:?}");
        assert_together(&observed, flashes, Duration::from_millis(10));
        assert_pictures_in_time(&observed, 119);
    }
}

#[tokio::test]
async fn compatible_frames_of_h264_are_the_same_frames() {
    let _encoders = encoders().await;
    let frames = coded(MediaTime::ZERO, 2, 2);
    let compatible = made_compatible(&frames).await;
    assert_eq!(compatible[0].epoch.tracks, frames[0].epoch.tracks);
    let told = |frames: &[Frame]| {
        let mut told: Vec<_> = frames
            .iter()
            .map(|frame| (frame.kind, frame.pts, frame.dts, frame.keyframe, frame.data.clone()))
            .collect();
        told.sort_by_key(|frame| (frame.0, frame.2));
        told
    };
    // Readers skip sound in front of the first keyframe.
    let (sent, come) = (told(&frames), told(&compatible));
    assert!(sent.len() - come.len() < 5 && come.iter().all(|frame| sent.contains(frame)));
}

#[tokio::test]
async fn where_nothing_is_transcoded_vp8_has_no_frames_and_vp9_no_compatible_ones() {
    let _encoders = encoders().await;
    let off = VideoTranscoding::Off;
    let pictures = packets(Codec::Vp8, MediaTime::ZERO, 1, (320, 180));
    let live = Live::<PacketBatch>::with(None, off);
    let mut reader = live.stream.subscribe::<Frame>();
    live.bridged().await;
    let epoch = live.publisher.begin_epoch(tracks(Codec::Vp8), wall_origin());
    for packets in pictures {
        live.publisher.write(PacketBatch { epoch: epoch.clone(), packets });
    }
    // H.264 of the same publisher comes through: the bridge lives and has seen what was before.
    let epoch = live.publisher.begin_epoch(tracks(Codec::H264), wall_origin());
    for packets in packets(Codec::H264, MediaTime::from_millis(2000), 1, (320, 180)) {
        live.publisher.write(PacketBatch { epoch: epoch.clone(), packets });
    }
    assert_eq!(next(&mut reader).await.pts.as_millis(), 2000);
    live.end().await;

    let other = bridged(Codec::Vp9, &packets(Codec::Vp9, MediaTime::ZERO, 1, (320, 180))).await;
    let h264 = coded(MediaTime::from_millis(2000), 1, 0);
    let live = Live::<Frame>::with(None, off);
    let mut reader = live.stream.subscribe::<CompatibleFrame>();
    live.stream.watch_lanes().wait_for(|lanes| lanes.frame_readers > 0).await.expect("open");
    for frames in [&other, &h264] {
        let epoch = live.publisher.begin_epoch(frames[0].epoch.tracks.clone(), wall_origin());
        for frame in frames.iter() {
            live.publisher.write(Frame { epoch: epoch.clone(), ..frame.clone() });
        }
    }
    let first = next(&mut reader).await;
    assert!(first.starts_group() && first.0.pts.as_millis() == 2000, "{first:?}");
    live.end().await;
}
