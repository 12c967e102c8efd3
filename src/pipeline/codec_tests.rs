//! Codecs other than H.264 on their way from packets to frames, and to frames that everybody takes.

use super::clock::Origin;
use super::demo::painter;
use super::encoder::force_keyframe;
use super::fixture::*;
use super::live::{Live, PATIENCE, encoders, next};
use crate::media::{
    Codec, Frame, MediaKind, MediaTime, Packet, PacketBatch, Tracks, VideoTrack, VideoTranscoding,
};
use crate::stream::{CompatibleFrame, LayerInfo, Media, Subscriber};
use bytes::Bytes;
use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// The pictures between two keyframes.
const GROUP: usize = 60;
const MTU: usize = 1200;

fn encoder(codec: Codec) -> &'static str {
    match codec {
        Codec::Vp8 => {
            "vp8enc deadline=1 cpu-used=16 keyframe-mode=disabled target-bitrate=4000000 \
             ! rtpvp8pay mtu=1200"
        }
        Codec::Vp9 => {
            "vp9enc deadline=1 cpu-used=8 keyframe-mode=disabled target-bitrate=4000000 ! rtpvp9pay mtu=1200"
        }
        Codec::H265 => {
            "x265enc speed-preset=ultrafast tune=zerolatency key-int-max=60 bitrate=4000 \
             option-string=scenecut=0 ! rtph265pay mtu=1200 config-interval=-1"
        }
        Codec::Av1 => {
            "av1enc usage-profile=realtime cpu-used=9 keyframe-max-dist=60 target-bitrate=4000 ! av1parse \
             ! video/x-av1,stream-format=obu-stream,alignment=tu"
        }
        Codec::H264 => {
            "x264enc tune=zerolatency speed-preset=superfast threads=1 aud=false key-int-max=60 bitrate=2000 \
             option-string=scenecut=0 ! h264parse ! rtph264pay mtu=1200 config-interval=-1"
        }
        _ => panic!("no video"),
    }
}

/// Packets of `seconds` of the demo's picture from `start` on, a picture in each group of packets.
fn packets(codec: Codec, start: MediaTime, seconds: i64, (width, height): (i32, i32)) -> Vec<Vec<Packet>> {
    gst::init().expect("installed");
    let text = format!(
        "appsrc name=in format=time max-bytes=30000000 block=true \
         caps=video/x-raw,format=I420,width=1280,height=720,framerate=30/1,colorimetry=bt709,\
         interlace-mode=progressive ! videoscale ! video/x-raw,width={width},height={height} \
         ! {} ! appsink name=out sync=false async=false max-buffers=0",
        encoder(codec)
    );
    let pipeline = gst::parse::launch(&text).expect("valid").downcast::<gst::Pipeline>().expect("a pipeline");
    let source = pipeline.by_name("in").and_downcast::<gst_app::AppSrc>().expect("a source");
    let sink = pipeline.by_name("out").and_downcast::<gst_app::AppSink>().expect("a sink");
    pipeline.set_state(gst::State::Playing).expect("starts");
    let feeding = std::thread::spawn(move || {
        let painter = painter();
        for number in 0..seconds * 30 {
            let pts = start + MediaTime::from_ticks(number, 30).since(MediaTime::ZERO);
            let wall = WALL.as_nanos() as i64 + pts.as_nanos();
            let mut buffer =
                gst::Buffer::from_mut_slice(painter.paint(UNIX_EPOCH + Duration::from_nanos(wall as u64)));
            let own = buffer.get_mut().expect("own");
            own.set_pts(Origin::INTERNAL.place(pts).expect("in range"));
            own.set_duration(gst::ClockTime::from_nseconds(33_333_333));
            if number > 0 && number % GROUP as i64 == 0 {
                assert!(source.send_event(force_keyframe()));
            }
            source.push_buffer(buffer).expect("taken");
        }
        source.end_of_stream().expect("taken");
    });
    let mut pictures: Vec<Vec<Packet>> = vec![];
    let mut whole = true;
    let mut sequence = 0;
    while let Ok(sample) = sink.pull_sample() {
        let list: Vec<gst::Buffer> = match sample.buffer_list_owned() {
            Some(list) => list.iter_owned().collect(),
            None => sample.buffer_owned().into_iter().collect(),
        };
        for buffer in list {
            let pts = Origin::INTERNAL.presentation(&sample, &buffer).expect("a time");
            let data = Bytes::copy_from_slice(&buffer.map_readable().expect("readable"));
            let payloads = match codec {
                Codec::Av1 => {
                    let keyframe = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
                    let payloads = av1_payloads(&data, keyframe);
                    let last = payloads.len() - 1;
                    payloads.into_iter().enumerate().map(|(n, payload)| (n == last, payload)).collect()
                }
                _ => vec![(data[1] & 0x80 != 0, data.slice(12..))],
            };
            for (marker, payload) in payloads {
                sequence += 1;
                let keyframe = whole && begins_keyframe(codec, &payload);
                let packet = Packet {
                    kind: MediaKind::Video,
                    layer: 0,
                    sequence,
                    timestamp: pts.to_ticks(90_000) as u32,
                    pts,
                    marker,
                    keyframe,
                    payload,
                };
                match pictures.last_mut().filter(|_| !whole) {
                    Some(picture) => picture.push(packet),
                    None => pictures.push(vec![packet]),
                }
                whole = marker;
            }
        }
    }
    feeding.join().expect("no panic");
    pipeline.set_state(gst::State::Null).expect("stops");
    for picture in pictures.iter_mut().filter(|_| codec == Codec::H264) {
        // What precedes the slices differs from picture to picture.
        let idr = |packet: &Packet| match packet.payload[0] & 0x1f {
            28 => packet.payload[1] & 0x1f == 5,
            kind => kind == 5,
        };
        picture[0].keyframe = picture.iter().any(idr);
    }
    assert_eq!(pictures.len() as i64, seconds * 30, "{codec}");
    pictures
}

/// As the payloaders used here write it.
fn begins_keyframe(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        // RFC 7741 §4.2 without extensions, then RFC 6386 §9.1
        Codec::Vp8 => payload[0] & 0x90 == 0x10 && payload[1] & 1 == 0,
        // RFC 9628 §4.2: begins a frame that depends on none
        Codec::Vp9 => payload[0] & 0x48 == 0x08,
        // RFC 7798 §4.4: a video parameter set, alone or in front of others
        Codec::H265 => match payload[0] >> 1 & 0x3f {
            48 => payload[4] >> 1 & 0x3f == 32,
            kind => kind == 32,
        },
        Codec::Av1 => payload[0] & 0x08 != 0,
        _ => false,
    }
}

/// A temporal unit as the RTP Payload Format for AV1 has it: OBUs without sizes, as elements with lengths
/// except the last; cut where a packet is full.
fn av1_payloads(unit: &[u8], keyframe: bool) -> Vec<Bytes> {
    let mut obus: Vec<Vec<u8>> = vec![];
    let mut rest = unit;
    while let [header, after @ ..] = rest {
        assert_eq!(header & 0x06, 0x02, "a size and no extension");
        let (mut size, mut used) = (0usize, 0);
        for (n, byte) in after.iter().enumerate() {
            size |= usize::from(byte & 0x7f) << (7 * n);
            used = n + 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let payload = &after[used..used + size];
        if header >> 3 & 0x0f != 2 {
            obus.push([&[header & !0x02], payload].concat());
        }
        rest = &after[used + size..];
    }
    let mut payloads = vec![];
    let (last, others) = obus.split_last().expect("a frame");
    let mut payload = vec![if keyframe { 0x08 } else { 0 }];
    for obu in others {
        assert!(obu.len() < 128);
        payload.push(obu.len() as u8);
        payload.extend_from_slice(obu);
    }
    // The last element without length: as many elements as there are.
    payload[0] |= (obus.len() as u8) << 4;
    let mut last = &last[..];
    loop {
        let (now, later) = last.split_at(last.len().min(MTU - payload.len()));
        payload.extend_from_slice(now);
        if !later.is_empty() {
            payload[0] |= 0x40;
        }
        payloads.push(Bytes::from(std::mem::take(&mut payload)));
        if later.is_empty() {
            return payloads;
        }
        last = later;
        payload.push(0x90); // goes on, one element
    }
}

fn tracks(codec: Codec) -> Tracks {
    let video = VideoTrack {
        codec,
        resolution: None,
        frame_rate: None,
        codec_data: Bytes::new(),
        fmtp: String::new(),
        reordered: false,
    };
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
    let pictures = packets(Codec::Vp8, MediaTime::from_millis(500), 5, (1280, 720));
    assert!(pictures[0][0].keyframe);
    let frames = bridged(Codec::Vp8, &pictures).await;
    let track = frames[0].epoch.tracks.video.as_ref().expect("video");
    assert_eq!((track.codec, track.resolution), (Codec::H264, Some((1280, 720))));
    assert_eq!(keyframes(&frames), [0, 60, 120]);
    let bits = frames.iter().map(|frame| frame.data.len() * 8).sum::<usize>() / 5;
    assert!(bits < 3_500_000, "{bits} bits a second are more than the resolution needs");
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
        let epoch = crate::media::Epoch { id: 1, tracks, wall_origin: wall_origin() };
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
    for packets in self::packets(Codec::H264, MediaTime::from_millis(2000), 1, (320, 180)) {
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

#[tokio::test]
async fn the_best_active_layer_is_read_and_changed_at_its_keyframe() {
    let _encoders = encoders().await;
    let layer = |number: u8, size| {
        let mut pictures = packets(Codec::H264, MediaTime::ZERO, 7, size);
        for packet in pictures.iter_mut().flatten() {
            packet.layer = number;
            // Each has numbers and a clock of its own.
            packet.timestamp = packet.timestamp.wrapping_add(u32::from(number) * 1_000_000_007);
            packet.sequence += u64::from(number) * 30_000;
        }
        pictures
    };
    let layers = [layer(0, (1280, 720)), layer(1, (640, 360))];
    let live = Live::<PacketBatch>::new(None);
    let active = |active: bool| {
        let info = |rid: &str, active| LayerInfo { rid: rid.into(), resolution: None, bitrate: 0, active };
        live.publisher.set_layers(vec![info("h", active), info("l", true)]);
    };
    active(true);
    let mut reader = live.stream.subscribe::<Frame>();
    live.bridged().await;
    let epoch = live.publisher.begin_epoch(tracks(Codec::H264), wall_origin());
    let mut sizes: Vec<((u32, u32), i64, bool)> = vec![];
    let mut read = async |until: i64| {
        loop {
            let frame = next(&mut reader).await;
            let size = frame.epoch.tracks.video.as_ref().and_then(|track| track.resolution).expect("known");
            if sizes.last().is_none_or(|last| last.0 != size) {
                sizes.push((size, frame.pts.as_millis(), frame.keyframe));
            }
            if frame.pts.as_millis() >= until {
                return;
            }
        }
    };
    let send = |layer: usize, range: std::ops::Range<usize>| {
        for packets in &layers[layer][range] {
            live.publisher.write(PacketBatch { epoch: epoch.clone(), packets: packets.clone() });
        }
    };
    for number in 0..70 {
        send(0, number..number + 1);
        send(1, number..number + 1);
    }
    read(2290).await;
    // The upper layer ends within a picture.
    active(false);
    let mut torn = layers[0][70].clone();
    torn.truncate(torn.len().div_ceil(2));
    torn.last_mut().expect("a packet").marker = false;
    live.publisher.write(PacketBatch { epoch: epoch.clone(), packets: torn });
    send(1, 70..150);
    read(4960).await;
    active(true);
    // It comes back in the middle of a group: not before its keyframe.
    for number in 150..210 {
        send(1, number..number + 1);
        send(0, number..number + 1);
    }
    read(6960).await;
    live.end().await;
    // The lower layer's picture of that instant had been read already.
    assert_eq!(sizes, [((1280, 720), 0, true), ((640, 360), 4000, true), ((1280, 720), 6001, true)]);
}

#[tokio::test]
async fn single_nal_units_are_enough() {
    let _encoders = encoders().await;
    // RFC 6184 §6.2: packetisation mode 0, each NAL unit a packet, whatever its size.
    let coded = coded(MediaTime::ZERO, 3, 0);
    let track = coded[0].epoch.tracks.video.clone().expect("video");
    let config = crate::media::h264::AvcConfig::parse(track.codec_data).expect("valid");
    let mut sequence = 0;
    let pictures: Vec<Vec<Packet>> = coded
        .iter()
        .filter(|frame| frame.kind == MediaKind::Video)
        .map(|frame| {
            let units = crate::media::h264::NalUnits::new(&frame.data, 4).map(|unit| unit.expect("whole"));
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
