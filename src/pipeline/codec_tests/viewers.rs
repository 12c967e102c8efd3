//! What viewers get that lack the stream's codec: H.264 in step with the stream's own sound.

use super::packets::packets;
use super::{assert_pictures_in_time, bridged, tracks};
use crate::media::{AudioTrack, Codec, Epoch, Frame, MediaKind, MediaTime, Packet, PacketBatch, Tracks};
use crate::pipeline::fixture::*;
use crate::pipeline::live::{Live, PATIENCE, encoders, next};
use crate::stream::{CompatiblePackets, LaneWatch, Media, Stream, Subscriber};
use bytes::Bytes;
use std::sync::Arc;

/// Pictures that are written before the first has come out.
const AHEAD: usize = 30;
/// Where a keyframe is that was asked for behind those.
const ASKED: std::ops::Range<usize> = AHEAD..AHEAD + 15;

fn opus() -> AudioTrack {
    AudioTrack {
        codec: Codec::Opus,
        sample_rate: 48_000,
        channels: 2,
        codec_data: Bytes::new(),
        fmtp: String::new(),
    }
}

/// Silence, a packet for each 20 ms from `start` on.
fn silence(start: MediaTime, count: u64) -> impl Iterator<Item = Packet> {
    (0..count).map(move |number| Packet {
        kind: MediaKind::Audio,
        layer: 0,
        sequence: 700 + number,
        timestamp: 960 * number as u32,
        pts: start + MediaTime::from_ticks(960 * number as i64, 48_000).since(MediaTime::ZERO),
        marker: false,
        keyframe: false,
        payload: Bytes::from_static(&[0xf8, 0xff, 0xfe]),
    })
}

async fn lanes(stream: &Stream, what: &str, fit: impl FnMut(&LaneWatch) -> bool) {
    let mut lanes = stream.watch_lanes();
    let fit = lanes.wait_for(fit);
    tokio::time::timeout(PATIENCE, fit).await.unwrap_or_else(|_| panic!("in time: {what}")).expect("open");
}

/// Reads up to the picture shown at `until`, and all sound up to there.
async fn read(reader: &mut Subscriber<CompatiblePackets>, until: MediaTime) -> Vec<PacketBatch> {
    let mut batches: Vec<PacketBatch> = vec![];
    let reached = |batch: &PacketBatch| {
        // Times may be rounded to the nanosecond.
        batch
            .packets
            .iter()
            .any(|packet| packet.kind == MediaKind::Video && packet.pts.shifted(1000) >= until)
    };
    while batches.last().is_none_or(|batch| !reached(batch)) {
        batches.push(next(reader).await.0.clone());
    }
    batches
}

fn of(kind: MediaKind, batches: &[PacketBatch]) -> Vec<Packet> {
    let packets = batches.iter().flat_map(|batch| &batch.packets);
    packets.filter(|packet| packet.kind == kind).cloned().collect()
}

#[tokio::test]
async fn viewers_without_the_codec_get_h264_and_the_publishers_own_sound() {
    let _encoders = encoders().await;
    let start = MediaTime::from_millis(500);
    for codec in [Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::H265] {
        let pictures = packets(codec, start, 4, (1280, 720));
        let live = Live::<PacketBatch>::new(None);
        let mut reader = live.stream.subscribe::<CompatiblePackets>();
        let both = Tracks { audio: Some(opus()), ..tracks(codec) };
        let write = |epoch: &Arc<Epoch>, packets: Vec<Packet>| {
            live.publisher.write(PacketBatch { epoch: epoch.clone(), packets });
        };
        // An epoch that tells what to do; then the bridges read.
        write(&live.publisher.begin_epoch(both.clone(), wall_origin()), pictures[0].clone());
        lanes(&live.stream, "bridges", |lanes| lanes.frame_readers > 0 && lanes.packet_readers > 1).await;
        let epoch = live.publisher.begin_epoch(both, wall_origin());
        let mut sound = silence(start, 200).peekable();
        let mut publish = |pictures: &[Vec<Packet>]| {
            for picture in pictures {
                write(&epoch, picture.clone());
                while let Some(packet) = sound.next_if(|packet| packet.pts <= picture[0].pts) {
                    write(&epoch, vec![packet]);
                }
            }
        };
        publish(&pictures[..AHEAD]);
        // An encoder that does not know the frame rate holds the last picture back.
        let mut batches = read(&mut reader, pictures[AHEAD - 2][0].pts).await;
        live.stream.request_compatible_keyframe(0);
        publish(&pictures[AHEAD..]);
        batches.extend(read(&mut reader, pictures[pictures.len() - 2][0].pts).await);

        let tracks = batches[0].epoch.tracks.clone();
        assert!(batches.iter().all(|batch| batch.epoch.id == batches[0].epoch.id), "one epoch of {codec}");
        let video = tracks.video.as_ref().expect("video");
        assert_eq!((video.codec, tracks.codec(MediaKind::Audio)), (Codec::H264, Some(Codec::Opus)));
        let baseline = codec != Codec::Vp8; // which is made for HLS as well
        assert_eq!(video.fmtp.contains("profile-level-id=42e01f"), baseline, "{codec}: {}", video.fmtp);

        let sent = of(MediaKind::Video, &batches);
        assert!(batches[0].starts_group() && sent[0].keyframe);
        assert!(sent.windows(2).all(|pair| pair[1].sequence == pair[0].sequence + 1));
        let shown = |index: usize| pictures[index][0].pts.shifted(-1000);
        let asked = shown(ASKED.start)..shown(ASKED.end);
        let granted = sent.iter().any(|packet| packet.keyframe && asked.contains(&packet.pts));
        assert_eq!(granted, baseline, "a keyframe that was asked for, of {codec}");

        // Once it has begun, the sound is the publisher's own, packet for packet.
        let heard = of(MediaKind::Audio, &batches);
        assert!(heard.len() > 120, "{} packets of sound with {codec}", heard.len());
        for packet in &heard {
            let original = silence(start, 200).nth((packet.sequence - 700) as usize).expect("sent");
            assert_eq!((packet.timestamp, packet.pts), (original.timestamp, original.pts));
            assert_eq!(packet.payload, original.payload);
        }
        assert!(heard.windows(2).all(|pair| pair[1].sequence == pair[0].sequence + 1));

        // Another publisher's H.264 passes as it is.
        let h264 = Tracks { audio: Some(opus()), ..super::tracks(Codec::H264) };
        let packet = Packet { sequence: 9, payload: Bytes::from_static(&[0x65, 1]), ..sent[0].clone() };
        write(&live.publisher.begin_epoch(h264.clone(), wall_origin()), vec![packet]);
        let passed = loop {
            let batch = next(&mut reader).await.0.clone();
            if batch.epoch.tracks == h264 {
                break batch;
            }
        };
        assert_eq!((passed.packets[0].sequence, &passed.packets[0].payload[..]), (9, &[0x65, 1][..]));
        drop(reader);
        if codec == Codec::Vp9 {
            let idle = |lanes: &LaneWatch| lanes.frame_readers == 0 && lanes.packet_readers == 0;
            lanes(&live.stream, "the end of the bridges", idle).await;
        }
        live.end().await;

        // What a receiver makes of it.
        let mut received: Vec<Vec<Packet>> = vec![];
        for packet in sent {
            match received.last_mut().filter(|picture| picture[0].timestamp == packet.timestamp) {
                Some(picture) => picture.push(packet),
                None => received.push(vec![packet]),
            }
        }
        let frames = bridged(Codec::H264, &received).await;
        assert_pictures_in_time(&observe(&frames).await, 119);
    }
}

#[tokio::test]
async fn of_a_publisher_of_frames_they_get_opus_that_is_made_once() {
    let _encoders = encoders().await;
    let with_sound = coded(MediaTime::from_millis(500), 4, 0);
    let mut frames =
        bridged(Codec::Vp9, &packets(Codec::Vp9, MediaTime::from_millis(500), 4, (640, 360))).await;
    let video = frames[0].epoch.tracks.video.clone();
    let audio = with_sound[0].epoch.tracks.audio.clone();
    frames.extend(with_sound.iter().filter(|frame| frame.kind == MediaKind::Audio).cloned());
    frames.sort_by_key(|frame| frame.dts);

    let live = Live::<Frame>::new(None);
    let mut reader = live.stream.subscribe::<CompatiblePackets>();
    let mut published = live.stream.subscribe::<PacketBatch>();
    let epoch = live.publisher.begin_epoch(Tracks { video, audio }, wall_origin());
    let write = |frames: &[Frame]| {
        for frame in frames {
            live.publisher.write(Frame { epoch: epoch.clone(), ..frame.clone() });
        }
    };
    let (first, rest) = frames.split_at(frames.len() / 4);
    write(first);
    let begun = next(&mut reader).await.0.clone();
    assert_eq!(begun.epoch.tracks.codec(MediaKind::Video), Some(Codec::H264));
    assert_eq!(begun.epoch.tracks.codec(MediaKind::Audio), Some(Codec::Opus));
    write(rest);
    let batches = read(&mut reader, MediaTime::from_millis(4300)).await;
    assert!(batches.iter().all(|batch| batch.epoch.id == begun.epoch.id), "one epoch");
    let heard = of(MediaKind::Audio, &batches);
    assert!(!heard.is_empty());
    // The same packets as other viewers have, who get the pictures as they are.
    let mut others: Vec<PacketBatch> = vec![];
    while of(MediaKind::Audio, &others)
        .last()
        .is_none_or(|last| last.sequence < heard[heard.len() - 1].sequence)
    {
        others.push((*next(&mut published).await).clone());
    }
    assert_eq!(others[0].epoch.tracks.codec(MediaKind::Video), Some(Codec::Vp9));
    let others = of(MediaKind::Audio, &others);
    let same = |packet: &Packet| {
        let told = |packet: &Packet| (packet.sequence, packet.timestamp, packet.payload.clone());
        others.iter().any(|other| told(other) == told(packet))
    };
    assert!(heard.iter().all(same));
    live.end().await;
}
