//! Sound of every codec on its way to WHEP, and to outputs that take AAC only: that it is heard, at its time.

use super::fixture::{mux, tool, wall_origin, write};
use super::live::{Live, encoders, next};
use super::{AacSound, Pipelines, caps};
use crate::media::{AudioTrack, Codec, Epoch, Frame, MediaKind, MediaTime, PacketBatch, Tracks};
use crate::stream::CompatibleFrame;
use bytes::Bytes;
use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use std::sync::Arc;
use std::time::Duration;

/// Where the timeline begins, and when the tone does.
const START: f64 = 1.0;
const ONSET: f64 = 2.0;
const TONE: f64 = 1000.0;

/// Sound that is silent until `onset`, counted from a second before the first sample.
#[derive(Clone, Copy)]
pub(super) struct Tone {
    pub(super) onset: f64,
    pub(super) seconds: u32,
}

const SHORT: Tone = Tone { onset: ONSET, seconds: 3 };

/// Silence and then a tone, as `encoder` codes it.
pub(super) fn coded(
    encoder: &str,
    rate: u32,
    channels: u16,
    codec: Codec,
    config: &'static [u8],
    tone: Tone,
) -> Vec<Frame> {
    gst::init().expect("installed");
    let text = format!(
        "appsrc name=in format=time max-bytes=0 caps=audio/x-raw,format=S16LE,layout=interleaved,rate={rate},channels=1 \
         ! audioconvert ! audio/x-raw,channels={channels} ! {encoder} ! appsink name=out sync=false"
    );
    let pipeline = gst::parse::launch(&text).expect("valid").downcast::<gst::Pipeline>().expect("a pipeline");
    let source = pipeline.by_name("in").and_downcast::<gst_app::AppSrc>().expect("a source");
    let sink = pipeline.by_name("out").and_downcast::<gst_app::AppSink>().expect("a sink");
    pipeline.set_state(gst::State::Playing).expect("starts");
    let track = AudioTrack {
        codec,
        sample_rate: rate,
        channels,
        codec_data: Bytes::from_static(config),
        fmtp: String::new(),
    };
    let tracks = Tracks { video: None, audio: Some(track) };
    let epoch = Arc::new(Epoch { id: 1, tracks, wall_origin: wall_origin() });
    for block in 0..tone.seconds * 50 {
        let first = block * rate / 50;
        let samples = (first..first + rate / 50).flat_map(|sample| {
            let time = f64::from(sample) / f64::from(rate);
            let loud = START + time >= tone.onset;
            let value = if loud { (time * TONE * std::f64::consts::TAU).sin() * 12_000.0 } else { 0.0 };
            (value as i16).to_le_bytes()
        });
        let mut buffer = gst::Buffer::from_mut_slice(samples.collect::<Vec<_>>());
        let pts = START + f64::from(first) / f64::from(rate);
        buffer.get_mut().expect("own").set_pts(gst::ClockTime::from_nseconds((pts * 1e9) as u64));
        source.push_buffer(buffer).expect("taken");
    }
    source.end_of_stream().expect("taken");
    let mut frames = vec![];
    while let Ok(sample) = sink.pull_sample() {
        let buffer = sample.buffer().expect("a buffer");
        let pts = MediaTime::from_nanos(buffer.pts().expect("a time").nseconds() as i64);
        let data = Bytes::copy_from_slice(&buffer.map_readable().expect("readable"));
        let kind = MediaKind::Audio;
        frames.push(Frame { epoch: epoch.clone(), kind, pts, dts: pts, keyframe: true, data });
    }
    pipeline.set_state(gst::State::Null).expect("stops");
    frames
}

fn opus() -> Vec<Frame> {
    // 312 samples of pre-skip, which `opusenc` stamps its first packet without.
    let mut frames = coded("opusenc frame-size=20", 48_000, 2, Codec::Opus, b"", SHORT);
    frames[0].pts = frames[0].pts.shifted(-6_500_000);
    frames[0].dts = frames[0].pts;
    frames
}

/// `lamemp3enc` stamps frames as they go in; a decoder's output is 1105 samples later.
fn mp3(rate: u32, channels: u16) -> Vec<Frame> {
    let mut frames = coded(
        "lamemp3enc target=bitrate cbr=true bitrate=128 ! mpegaudioparse",
        rate,
        channels,
        Codec::Mp3,
        b"",
        SHORT,
    );
    for frame in &mut frames {
        frame.pts = frame.pts.shifted(-MediaTime::from_ticks(1105, rate).as_nanos());
        frame.dts = frame.pts;
    }
    frames
}

/// Samples of 48 kHz, one channel: when the tone begins, in seconds behind `start`, and its frequency.
fn heard(start: f64, samples: &[i16]) -> (f64, f64) {
    let loud = samples.iter().position(|sample| sample.unsigned_abs() > 3000).expect("a tone");
    let tone = &samples[loud + 4800..loud + 4800 + 24_000];
    let crossings = tone.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
    (start + loud as f64 / 48_000.0, crossings as f64 * 2.0)
}

fn assert_heard(what: &str, (onset, frequency): (f64, f64)) {
    eprintln!("{what}: {frequency} Hz from {onset:.4} s on");
    assert!((frequency - TONE).abs() < 10.0, "{what}: {frequency} Hz");
    // A tone fades in a little, and resamplers ring.
    assert!((onset - ONSET).abs() < 0.006, "{what}: {onset} s");
}

fn samples(bytes: &[u8]) -> Vec<i16> {
    bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// What a receiver that knows nothing but the packets decodes.
pub(super) fn decode_opus(batches: &[Arc<PacketBatch>]) -> (f64, Vec<i16>) {
    let text = "appsrc name=in format=time max-bytes=0 caps=audio/x-opus,channel-mapping-family=0,channels=2,rate=48000 \
                ! opusdec ! audioconvert ! audio/x-raw,format=S16LE,channels=1,rate=48000 ! appsink name=out sync=false";
    let pipeline = gst::parse::launch(text).expect("valid").downcast::<gst::Pipeline>().expect("a pipeline");
    let source = pipeline.by_name("in").and_downcast::<gst_app::AppSrc>().expect("a source");
    let sink = pipeline.by_name("out").and_downcast::<gst_app::AppSink>().expect("a sink");
    pipeline.set_state(gst::State::Playing).expect("starts");
    for packet in batches.iter().flat_map(|batch| &batch.packets) {
        let mut buffer = gst::Buffer::from_slice(packet.payload.clone());
        let pts = packet.pts.as_nanos().max(0) as u64;
        buffer.get_mut().expect("own").set_pts(gst::ClockTime::from_nseconds(pts));
        source.push_buffer(buffer).expect("taken");
    }
    source.end_of_stream().expect("taken");
    let mut decoded = vec![];
    while let Ok(sample) = sink.pull_sample() {
        decoded.extend(samples(&sample.buffer().expect("a buffer").map_readable().expect("readable")));
    }
    pipeline.set_state(gst::State::Null).expect("stops");
    (batches[0].packets[0].pts.as_secs_f64(), decoded)
}

async fn to_packets(frames: &[Frame]) -> Vec<Arc<PacketBatch>> {
    let live = Live::<Frame>::new(None);
    let mut reader = live.stream.subscribe::<PacketBatch>();
    live.bridged().await;
    let epoch = live.publisher.begin_epoch(frames[0].epoch.tracks.clone(), wall_origin());
    for frame in frames {
        live.publisher.write(Frame { epoch: epoch.clone(), ..frame.clone() });
    }
    let until = frames[frames.len() - 1].pts - Duration::from_millis(150);
    let mut batches: Vec<Arc<PacketBatch>> = vec![];
    while batches.last().is_none_or(|batch| batch.packets[0].pts < until) {
        batches.push(next(&mut reader).await);
    }
    live.end().await;
    for pair in batches.windows(2) {
        let step = pair[1].packets[0].timestamp.wrapping_sub(pair[0].packets[0].timestamp);
        assert!((959..=961).contains(&step), "{step} ticks from packet to packet");
    }
    batches
}

#[tokio::test]
async fn opus_passes_and_mp3_becomes_opus_at_its_time() {
    let _encoders = encoders().await;
    let opus = opus();
    let batches = to_packets(&opus).await;
    assert!(opus.iter().any(|frame| frame.data == batches[20].packets[0].payload), "not transcoded");
    let (start, decoded) = decode_opus(&batches);
    assert_heard("Opus", heard(start, &decoded));
    for (rate, channels) in [(44_100, 2), (48_000, 1), (22_050, 2)] {
        let (start, decoded) = decode_opus(&to_packets(&mp3(rate, channels)).await);
        assert_heard(&format!("MP3 {rate} Hz, {channels} channels"), heard(start, &decoded));
    }
}

async fn as_aac(what: &str, frames: &[Frame]) {
    let folder = tempfile::tempdir().expect("a folder");
    let (init, parts) = mux(frames, MediaKind::Audio).await;
    let path = folder.path().join("audio.mp4");
    write(&path, &init, &parts);
    let start = super::fixture::probe(&path)[0].0 - 10.0;
    let path = path.to_str().expect("a path");
    let sound = tool("ffmpeg", &["-i", path, "-f", "s16le", "-ac", "1", "-ar", "48000", "-"]);
    assert_heard(what, heard(start, &samples(&sound)));
}

#[tokio::test]
async fn opus_and_mp3_become_aac_at_their_time_for_hls_and_restreams() {
    let _encoders = encoders().await;
    let pipelines = Pipelines::load(None).expect("installed");
    for frames in [opus(), mp3(44_100, 2)] {
        let track = frames[0].epoch.tracks.audio.clone().expect("sound");
        let codec = track.codec;
        let (mut sound, aac) = AacSound::begin(&pipelines, &track).expect("begins").expect("is needed");
        let tracks = Tracks { video: None, audio: Some(aac) };
        let epoch = Arc::new(Epoch { id: 2, tracks: tracks.clone(), wall_origin: wall_origin() });
        let mut ready = vec![];
        for frame in &frames {
            ready.extend(sound.push(&Frame { epoch: epoch.clone(), ..frame.clone() }).expect("taken"));
        }
        let last = frames[frames.len() - 1].pts;
        // The encoder is behind by its delay of 33 ms and a frame of 21 ms that is not full, until the end.
        assert!(ready.last().is_some_and(|frame: &Frame| frame.pts + Duration::from_millis(90) > last));
        ready.extend(sound.finish().expect("runs"));
        let end = ready.last().expect("frames").pts + Duration::from_micros(21_334);
        assert!(
            end >= last + Duration::from_millis(20) && end < last + Duration::from_millis(60),
            "all of it"
        );
        as_aac(&format!("{codec} as AAC for HLS"), &ready).await;

        let live = Live::<Frame>::new(None);
        let mut reader = live.stream.subscribe::<CompatibleFrame>();
        let reads = |lanes: &crate::stream::LaneWatch| lanes.frame_readers > 0;
        live.stream.watch_lanes().wait_for(reads).await.expect("open");
        let epoch = live.publisher.begin_epoch(frames[0].epoch.tracks.clone(), wall_origin());
        for frame in &frames {
            live.publisher.write(Frame { epoch: epoch.clone(), ..frame.clone() });
        }
        let mut received = vec![];
        while received.last().is_none_or(|frame: &Frame| frame.pts + Duration::from_millis(200) < last) {
            received.push(next(&mut reader).await.0.clone());
        }
        live.end().await;
        assert_eq!(received[0].epoch.tracks, tracks);
        as_aac(&format!("{codec} as AAC for restreams"), &received).await;
    }
}

#[test]
fn a_header_tells_how_channels_are_mapped() {
    gst::init().expect("installed");
    let header: &[u8] =
        b"OpusHead\x01\x06\x38\x01\x80\xbb\x00\x00\x00\x00\x01\x04\x02\x00\x04\x01\x02\x03\x05";
    let mut track = AudioTrack {
        codec: Codec::Opus,
        sample_rate: 48_000,
        channels: 6,
        codec_data: Bytes::from_static(header),
        fmtp: String::new(),
    };
    let caps = caps::of_sound(&track, "decoded").expect("caps").to_string();
    for field in
        ["channel-mapping-family=(int)1", "channels=(int)6", "stream-count=(int)4", "coupled-count=(int)2"]
    {
        assert!(caps.contains(field), "{caps}");
    }
    track.codec_data = Bytes::from_static(&header[..20]);
    assert!(caps::of_sound(&track, "decoded").expect("caps").to_string().contains("family=(int)0"));
}
