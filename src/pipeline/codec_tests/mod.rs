//! Codecs other than H.264 on their way from packets to frames; `compatible` goes on to frames that everybody
//! takes, `viewers` to packets that every viewer takes, `layers` has several qualities, `packets` is where all of them
//! come from.

mod compatible;
mod layers;
mod packets;
mod viewers;

use super::fixture::*;
use super::live::{Live, PATIENCE, encoders, next};
use crate::media::h264::{AvcConfig, NalUnits};
use crate::media::{Codec, Frame, MediaKind, MediaTime, Packet, PacketBatch, Tracks, VideoTrack};
use crate::stream::Subscriber;
use bytes::Bytes;
use packets::{GROUP, packets};
use std::time::Duration;

fn tracks(codec: Codec) -> Tracks {
    let video = VideoTrack::new(codec);
    Tracks { video: Some(video), audio: None }
}

async fn pictures_until(reader: &mut Subscriber<Frame>, until: MediaTime) -> Vec<Frame> {
    let mut frames: Vec<Frame> = vec![];
    // Times may be rounded to the nanosecond.
    while frames.last().is_none_or(|frame| frame.pts.shifted(1000) < until) {
        frames.push((*next(reader).await).clone());
    }
    frames
}

/// Packets of video alone through the bridge, up to the last picture.
async fn bridged(codec: Codec, pictures: &[Vec<Packet>]) -> Vec<Frame> {
    let live = Live::<PacketBatch>::new(None);
    let mut reader = live.stream.subscribe::<Frame>();
    live.bridged().await;
    let epoch = live.publisher.begin_epoch(tracks(codec), wall_origin());
    for packets in pictures {
        live.publisher.write(PacketBatch { epoch: epoch.clone(), packets: packets.clone() });
    }
    // An encoder that does not know the frame rate holds the last picture back.
    let held = usize::from(codec == Codec::Vp8);
    let last = pictures[pictures.len() - 1 - held][0].pts;
    let frames = pictures_until(&mut reader, last).await;
    live.end().await;
    frames
}

fn assert_pictures_in_time(observed: &Observed, pictures: usize) {
    assert_eq!(observed.pictures, pictures, "{observed:?}");
    assert!(observed.marks * 100 >= pictures * 95, "{observed:?}");
    assert!(observed.earliest > -0.002 && observed.latest < 0.002, "{observed:?}");
}

fn keyframes(frames: &[Frame]) -> Vec<usize> {
    let pictures = frames.iter().filter(|frame| frame.kind == MediaKind::Video);
    pictures.enumerate().filter(|(_, frame)| frame.keyframe).map(|(index, _)| index).collect()
}

#[tokio::test]
async fn vp9_av1_and_h265_reach_the_frame_lane_as_they_are() {
    let _encoders = encoders().await;
    for codec in [Codec::Vp9, Codec::Av1, Codec::H265] {
        let pictures = packets(codec, MediaTime::from_millis(500), 4, (1280, 720));
        let frames = bridged(codec, &pictures).await;
        let track = frames[0].epoch.tracks.video.as_ref().expect("video");
        eprintln!("{codec}: {:02x?}", &track.codec_data[..]);
        assert_eq!((track.codec, track.resolution), (codec, Some((1280, 720))));
        assert!(frames.iter().all(|frame| frame.epoch.id == frames[0].epoch.id), "one epoch");
        let sent_keyframes = pictures.iter().enumerate().filter(|(_, packets)| packets[0].keyframe);
        let sent_keyframes: Vec<_> = sent_keyframes.map(|(index, _)| index).collect();
        assert!(sent_keyframes.starts_with(&[0]) && sent_keyframes.contains(&GROUP), "{sent_keyframes:?}");
        assert_eq!(keyframes(&frames), sent_keyframes, "{codec}");
        // Nothing but the media: no sizes of packets, headers or paddings.
        let sent: usize = pictures.iter().flatten().map(|packet| packet.payload.len()).sum();
        let read: usize = frames.iter().map(|frame| frame.data.len()).sum();
        assert!(read * 100 > sent * 90 && read * 100 < sent * 102, "{read} of {sent} bytes of {codec}");
        assert_pictures_in_time(&observe(&frames).await, 120);
    }
}

#[tokio::test]
async fn parts_of_each_codec_say_where_a_decoder_can_start() {
    let _encoders = encoders().await;
    for codec in [Codec::Vp9, Codec::Av1, Codec::H265] {
        let frames = bridged(codec, &packets(codec, MediaTime::ZERO, 5, (640, 360))).await;
        let (init, parts) = mux(&frames, MediaKind::Video).await;
        let name = match codec {
            Codec::Vp9 => b"vpcC",
            Codec::Av1 => b"av1C",
            _ => b"hvcC",
        };
        let at = init.windows(4).position(|window| window == name).expect("a configuration box");
        let record = &frames[0].epoch.tracks.video.as_ref().expect("video").codec_data;
        let at = at + 4 + if codec == Codec::Vp9 { 4 } else { 0 };
        assert_eq!(init[at..at + record.len()], record[..], "{codec}");
        let starts = |pick: fn(&super::MuxedPart) -> bool| {
            parts.iter().filter(|part| pick(part)).map(|part| part.start.as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(starts(|part| part.independent), [0, 2000, 4000], "{codec}");
        assert_eq!(starts(|part| part.starts_segment), [0, 2000, 4000], "{codec}");
        let longest = parts.iter().map(|part| part.duration).max().expect("parts");
        assert!(longest <= Duration::from_millis(334), "{longest:?} of {codec}");
    }
}

#[tokio::test]
async fn vp8_becomes_h264_with_a_keyframe_every_two_seconds() {
    let _encoders = encoders().await;
    let pictures = packets(Codec::Vp8, MediaTime::from_millis(500), 5, (640, 360));
    assert!(pictures[0][0].keyframe);
    let frames = bridged(Codec::Vp8, &pictures).await;
    let track = frames[0].epoch.tracks.video.as_ref().expect("video");
    assert_eq!((track.codec, track.resolution), (Codec::H264, Some((640, 360))));
    assert_eq!(keyframes(&frames), [0, 60, 120]);
    assert_pictures_in_time(&observe(&frames).await, 149);
}

#[tokio::test]
async fn after_a_loss_every_codec_goes_on_at_a_keyframe_that_is_asked_for() {
    let _encoders = encoders().await;
    for codec in [Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::H265] {
        let mut pictures = packets(codec, MediaTime::ZERO, 4, (1280, 720));
        let rest = pictures.split_off(50);
        let lost = pictures.iter_mut().skip(30).find(|picture| picture.len() > 2).expect("a large picture");
        lost.remove(1);
        let at = lost[0].pts;
        let live = Live::<PacketBatch>::new(None);
        let mut wishes = live.publisher.keyframe_requests();
        let mut reader = live.stream.subscribe::<Frame>();
        // One wish comes at the start.
        tokio::time::timeout(PATIENCE, wishes.changed()).await.expect("asked").expect("open");
        live.bridged().await;
        let epoch = live.publisher.begin_epoch(tracks(codec), wall_origin());
        let publish = |pictures: Vec<Vec<Packet>>| {
            for packets in pictures {
                live.publisher.write(PacketBatch { epoch: epoch.clone(), packets });
            }
        };
        publish(pictures);
        tokio::time::timeout(PATIENCE, wishes.changed()).await.expect("asked").expect("open");
        publish(rest);
        let frames = pictures_until(&mut reader, MediaTime::from_ticks(118, 30)).await;
        live.end().await;
        let missing = |frame: &Frame| frame.pts.shifted(1000) >= at && frame.pts.as_millis() < 1999;
        assert!(!frames.iter().any(missing), "{codec} after the loss at {at:?}");
        assert_eq!(
            frames.iter().filter(|frame| (1999..3960).contains(&frame.pts.as_millis())).count(),
            59,
            "{codec}"
        );
        // Nothing that a decoder would complain of.
        let folder = tempfile::tempdir().expect("a folder");
        let (init, parts) = mux(&frames, MediaKind::Video).await;
        let path = folder.path().join("v.mp4");
        write(&path, &init, &parts);
        tool("ffmpeg", &["-i", path.to_str().expect("a path"), "-f", "null", "-"]);
    }
}

#[tokio::test]
async fn single_nal_units_are_enough() {
    let _encoders = encoders().await;
    // RFC 6184 §6.2: packetisation mode 0, each NAL unit a packet, whatever its size.
    let coded = coded(MediaTime::ZERO, 3, 0);
    let track = coded[0].epoch.tracks.video.clone().expect("video");
    let config = AvcConfig::parse(track.codec_data).expect("valid");
    let mut sequence = 0;
    let pictures: Vec<Vec<Packet>> = coded
        .iter()
        .filter(|frame| frame.kind == MediaKind::Video)
        .map(|frame| {
            let units = NalUnits::new(&frame.data, 4).map(|unit| unit.expect("whole"));
            let sets = config.sps.iter().chain(&config.pps).filter(|_| frame.keyframe);
            let payloads: Vec<Bytes> = sets.cloned().chain(units.map(Bytes::copy_from_slice)).collect();
            let last = payloads.len() - 1;
            let packet = |(index, payload): (usize, Bytes)| {
                sequence += 1;
                Packet {
                    kind: MediaKind::Video,
                    layer: 0,
                    sequence,
                    timestamp: frame.pts.to_ticks(90_000) as u32,
                    pts: frame.pts,
                    marker: index == last,
                    keyframe: frame.keyframe && index == 0,
                    payload,
                }
            };
            payloads.into_iter().enumerate().map(packet).collect()
        })
        .collect();
    let frames = bridged(Codec::H264, &pictures).await;
    assert_eq!(keyframes(&frames), [0, 60]);
    assert_pictures_in_time(&observe(&frames).await, 90);
}
