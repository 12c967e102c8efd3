//! GStreamer's depayloaders as judges of what real encoders' frames become.

use super::{MAX_PAYLOAD, Packetiser};
use crate::media::h264::{self, NalUnits};
use crate::media::{Codec, VideoTrack, h265};
use crate::pipeline::caps::{self, TrackConfig};
use bytes::Bytes;
use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;

/// A coded frame, and whether it is a keyframe.
type Coded = (bool, Bytes);

/// What comes out of the pipeline `text` for `input`, and the configuration it states.
fn run(text: &str, input: Vec<gst::Buffer>) -> (Option<VideoTrack>, Vec<Coded>) {
    gst::init().expect("installed");
    let pipeline = gst::parse::launch(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let pipeline = pipeline.downcast::<gst::Pipeline>().expect("a pipeline");
    let sink = pipeline.by_name("out").and_downcast::<gst_app::AppSink>().expect("a sink");
    pipeline.set_state(gst::State::Playing).expect("starts");
    if let Some(source) = pipeline.by_name("in").and_downcast::<gst_app::AppSrc>() {
        for buffer in input {
            source.push_buffer(buffer).expect("taken");
        }
        source.end_of_stream().expect("taken");
    }
    let (mut track, mut frames) = (None, vec![]);
    while let Ok(sample) = sink.pull_sample() {
        if let Some(TrackConfig::Video(video)) = sample.caps().and_then(caps::read) {
            track = Some(video);
        }
        let buffer = sample.buffer().expect("a buffer");
        let keyframe = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        frames.push((keyframe, Bytes::copy_from_slice(&buffer.map_readable().expect("readable"))));
    }
    pipeline.set_state(gst::State::Null).expect("stops");
    (track, frames)
}

fn encoded(pattern: &str, encoder: &str) -> (VideoTrack, Vec<Coded>) {
    let text = format!(
        "videotestsrc num-buffers=50 pattern={pattern} ! video/x-raw,format=I420,width=640,height=360,framerate=30/1 \
         ! {encoder} ! appsink name=out sync=false"
    );
    let (track, frames) = run(&text, vec![]);
    assert!(frames.len() > 40, "{} frames", frames.len()); // an encoder may leave some out
    (track.expect("configured"), frames)
}

/// The frames as RTP packets, as another room's packets are sent.
fn packets(track: &VideoTrack, frames: &[Coded]) -> Vec<gst::Buffer> {
    let mut packetiser = Packetiser::new(track).expect("known");
    let (mut sequence, mut buffers) = (0u16, vec![]);
    for (number, (keyframe, data)) in frames.iter().enumerate() {
        let payloads = packetiser.payloads(*keyframe, data);
        assert!(!payloads.is_empty());
        let last = payloads.len() - 1;
        for (index, payload) in payloads.iter().enumerate() {
            assert!((1..=MAX_PAYLOAD).contains(&payload.len()));
            let mut packet = vec![0x80, 96 | if index == last { 0x80 } else { 0 }];
            packet.extend(sequence.to_be_bytes());
            packet.extend((number as u32 * 3000).to_be_bytes());
            packet.extend(1u32.to_be_bytes());
            packet.extend_from_slice(payload);
            sequence += 1;
            let mut buffer = gst::Buffer::from_mut_slice(packet);
            let time = gst::ClockTime::from_mseconds(1000 + number as u64 * 33);
            let own = buffer.get_mut().expect("own");
            own.set_pts(time);
            own.set_dts(time);
            buffers.push(buffer);
        }
    }
    buffers
}

fn depacketised(codec: &str, chain: &str, packets: Vec<gst::Buffer>) -> (Option<VideoTrack>, Vec<Coded>) {
    let text = format!(
        "appsrc name=in format=time max-bytes=0 \
         caps=\"application/x-rtp,media=video,clock-rate=90000,encoding-name={codec},payload=96\" \
         ! {chain} ! appsink name=out sync=false"
    );
    run(&text, packets)
}

/// The slices of an access unit: what else there is may be written elsewhere.
fn slices(frame: &Bytes, is_slice: fn(u8) -> bool) -> Vec<Bytes> {
    let units = NalUnits::new(frame, 4).map(|unit| unit.expect("valid"));
    units.filter(|unit| is_slice(unit[0])).map(Bytes::copy_from_slice).collect()
}

fn compare(sent: &[Coded], received: &[Coded], is_slice: fn(u8) -> bool) {
    assert_eq!(sent.len(), received.len());
    for (number, ((sent_key, sent), (key, received))) in sent.iter().zip(received).enumerate() {
        assert_eq!(sent_key, key, "frame {number}");
        let sent = slices(sent, is_slice);
        assert!(!sent.is_empty());
        assert_eq!(sent, slices(received, is_slice), "frame {number}");
    }
}

#[test]
fn h264_comes_out_of_rtph264depay_as_it_went_in() {
    for (pattern, threads) in [("snow", 1), ("ball", 4)] {
        let encoder = format!(
            "x264enc tune=zerolatency sliced-threads=true threads={threads} key-int-max=20 bitrate=4000 \
             speed-preset=ultrafast ! h264parse ! video/x-h264,stream-format=avc,alignment=au"
        );
        let (track, frames) = encoded(pattern, &encoder);
        let chain = "rtph264depay ! h264parse ! video/x-h264,stream-format=avc,alignment=au";
        let (back, received) = depacketised("H264", chain, packets(&track, &frames));
        compare(&frames, &received, |header| (1..=5).contains(&h264::nal_type(header)));
        let sps = |track: &VideoTrack| h264::AvcConfig::parse(track.codec_data.clone()).expect("valid").sps;
        assert_eq!(sps(&back.expect("configured")), sps(&track));
        assert!(frames.iter().filter(|frame| frame.0).count() >= 3);
    }
}

#[test]
fn h265_comes_out_of_rtph265depay_as_it_went_in() {
    for pattern in ["snow", "ball"] {
        let encoder = "x265enc tune=zerolatency key-int-max=20 bitrate=4000 speed-preset=ultrafast ! h265parse \
                       ! video/x-h265,stream-format=hvc1,alignment=au";
        let (track, frames) = encoded(pattern, encoder);
        let chain = "rtph265depay ! h265parse ! video/x-h265,stream-format=hvc1,alignment=au";
        let (back, received) = depacketised("H265", chain, packets(&track, &frames));
        compare(&frames, &received, |header| h265::nal_type(header) < 32);
        assert_eq!(back.expect("configured").resolution, Some((640, 360)));
    }
}

#[test]
fn vp9_comes_out_of_rtpvp9depay_as_it_went_in() {
    for pattern in ["snow", "ball"] {
        let encoder = "vp9enc deadline=1 cpu-used=8 keyframe-max-dist=20 target-bitrate=4000000 ! vp9parse \
                       ! video/x-vp9,alignment=super-frame";
        let (track, frames) = encoded(pattern, encoder);
        assert_eq!(track.codec, Codec::Vp9);
        let (_, received) = depacketised("VP9", "rtpvp9depay", packets(&track, &frames));
        let data = |frames: &[Coded]| frames.iter().map(|(_, data)| data.clone()).collect::<Vec<_>>();
        assert_eq!(data(&received), data(&frames));
    }
}
