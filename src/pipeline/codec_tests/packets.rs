//! Packets of each video codec, made by GStreamer's encoders from the demo's picture.

use crate::media::{Codec, MediaKind, MediaTime, Packet};
use crate::pipeline::clock::Origin;
use crate::pipeline::demo::painter;
use crate::pipeline::encoder::force_keyframe;
use crate::pipeline::fixture::WALL;
use bytes::Bytes;
use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use std::time::{Duration, UNIX_EPOCH};

/// The pictures between two keyframes.
pub(super) const GROUP: usize = 60;
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
pub(super) fn packets(
    codec: Codec,
    start: MediaTime,
    seconds: i64,
    (width, height): (i32, i32),
) -> Vec<Vec<Packet>> {
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
