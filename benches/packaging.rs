//! What packaging costs: one second of a stream through the muxers to CMAF parts.
//!
//! Measured: from `Muxer::push` of 30 H.264 access units and 47 AAC frames to their parts (250 ms each) on
//! the output, in a muxer that runs already. A muxer works on a thread of its own, so the figure is elapsed
//! time, not processor time. Not measured: starting and stopping a pipeline, playlists, HTTP.
//!
//! How to read it: `thrpt` is stream-seconds a second: how many live streams could be packaged at once if
//! nothing else ran. `video_8_mbit` / `video_2_mbit` tells how much of the cost goes with the bytes rather
//! than with the frames; `audio_and_video` (2 Mbit/s) against the sum of its halves, how well two muxers
//! run side by side.
//!
//! The group `processor` counts processor time instead, of all threads and children, for the same second of
//! 2 Mbit/s and sound: `tidegate` in parts of 250 ms, and `ffmpeg_copy`, which is `ffmpeg -c copy` to HLS with
//! fragmented MP4 in segments of 2 s, without parts, its start included. Both as fast as they can. The ratio
//! of the two is what to look at; live, the wake-ups come on top of both.

use bytes::{BufMut, Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tidegate::media::h264::{AvcConfig, NAL_IDR, NAL_SLICE};
use tidegate::media::{AudioTrack, Codec, Epoch, Frame, MediaKind, MediaTime, Tracks, VideoTrack};
use tidegate::pipeline::{MuxOutput, MuxSettings, MuxTrack, MuxedPart, Muxer, Pipelines};
use tokio::runtime::Builder;
use tokio::sync::mpsc;

const SETTINGS: MuxSettings = MuxSettings {
    part_duration: Duration::from_millis(250),
    segment_duration: Duration::from_secs(2),
    shift: Duration::ZERO,
};
const FRAME_RATE: u32 = 30;
const SAMPLE_RATE: u32 = 48_000;
/// Samples in an AAC frame, and bytes of one at 128 kbit/s.
const AAC_SAMPLES: i64 = 1024;
const AAC_BYTES: usize = 341;
/// How much may be inside a muxer while more is pushed.
const INSIDE: Duration = Duration::from_secs(2);
/// Parameter sets of 1280x720 at 30 pictures a second, High profile, as x264 writes them.
const SPS: &[u8] =
    b"\x67\x64\0\x1f\xac\xd9\x40\x50\x05\xbb\x01\x10\0\0\x03\0\x10\0\0\x03\x03\xc0\xf1\x83\x19\x60";
const PPS: &[u8] = b"\x68\xeb\xe3\xcb\x22\xc0";

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = packaging
}
criterion_main!(benches);

fn packaging(criterion: &mut Criterion) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_time().build().expect("a runtime");
    let pipelines = Pipelines::load(None).expect("the GStreamer plugins are installed");
    let (audio, video_2, video_8) = (Track::audio(), Track::video(2_000_000), Track::video(8_000_000));
    let mut group = criterion.benchmark_group("packaging");
    group.throughput(Throughput::Elements(1));
    for (name, tracks) in [
        ("audio", &[&audio][..]),
        ("video_2_mbit", &[&video_2]),
        ("video_8_mbit", &[&video_8]),
        ("audio_and_video", &[&audio, &video_2]),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|seconds| runtime.block_on(packaged(&pipelines, tracks, seconds)));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("processor");
    group.throughput(Throughput::Elements(1));
    group.bench_function("tidegate", |bencher| {
        bencher.iter_custom(|seconds| {
            let before = processor_time();
            runtime.block_on(packaged(&pipelines, &[&audio, &video_2], seconds));
            processor_time() - before
        });
    });
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("in.flv");
    ffmpeg(&format!("{SOURCE} {}", file.display()));
    group.bench_function("ffmpeg_copy", |bencher| {
        bencher.iter_custom(|seconds| {
            let before = processor_time();
            let (input, output) = (file.display(), folder.path().join("out.m3u8"));
            ffmpeg(&format!("-stream_loop -1 -i {input} -t {seconds} {COPY} {}", output.display()));
            processor_time() - before
        });
    });
    group.finish();
}

/// Ten seconds of what [`Track::video`] and [`Track::audio`] stand for.
const SOURCE: &str = "-f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi -i sine=sample_rate=48000 -t 10 \
    -c:v libx264 -preset ultrafast -b:v 2M -g 60 -c:a aac -b:a 128k -ac 2";
/// As live: segments in a window of 7.
const COPY: &str =
    "-c copy -f hls -hls_segment_type fmp4 -hls_time 2 -hls_list_size 7 -hls_flags delete_segments";

fn ffmpeg(arguments: &str) {
    let arguments = arguments.split_whitespace();
    let status = Command::new("ffmpeg").args(["-v", "error", "-nostdin", "-y"]).args(arguments).status();
    assert!(status.expect("ffmpeg is installed").success());
}

/// Processor time of this process and of its children that have ended, in steps of 10 ms.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    // proc(5): the name in parentheses may hold blanks; utime, stime, cutime and cstime are fields 14 to 17.
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    let ticks =
        fields.split_whitespace().skip(11).take(4).map(|field| field.parse::<u64>().expect("a number"));
    Duration::from_millis(10) * u32::try_from(ticks.sum::<u64>()).expect("less than a year")
}

/// How long `seconds` seconds of `tracks` take from the first push to the last part.
async fn packaged(pipelines: &Pipelines, tracks: &[&Track], seconds: u64) -> Duration {
    let mut running: Vec<_> = tracks.iter().map(|track| Running::start(pipelines, track)).collect();
    for track in &mut running {
        track.push_until(MediaTime::ZERO + Duration::from_secs(1));
        track.wait_for_part().await;
    }
    let begin = Instant::now();
    for second in 1..=seconds {
        let end = MediaTime::ZERO + Duration::from_secs(1 + second);
        running.iter_mut().for_each(|track| track.push_until(end));
        for track in &mut running {
            while track.packaged + INSIDE < end {
                track.wait_for_part().await;
            }
        }
    }
    let mut finished = begin;
    for track in running {
        finished = finished.max(track.finish().await);
    }
    finished - begin
}

/// What is muxed: the configuration, and the payloads of a keyframe and another frame.
struct Track {
    epoch: Arc<Epoch>,
    kind: MediaKind,
    keyframe: Bytes,
    frame: Bytes,
}

impl Track {
    /// H.264 at `bitrate` bits a second, all frames of the same size.
    fn video(bitrate: usize) -> Self {
        let config = AvcConfig::from_parameter_sets(&[Bytes::from_static(SPS)], &[Bytes::from_static(PPS)]);
        let video = VideoTrack {
            resolution: Some((1280, 720)),
            frame_rate: Some(FRAME_RATE.into()),
            codec_data: config.expect("valid parameter sets").record().clone(),
            ..VideoTrack::new(Codec::H264)
        };
        let access_unit = |nal_type| {
            let length = bitrate / 8 / FRAME_RATE as usize - 4;
            let mut data = BytesMut::new();
            data.put_u32(length as u32);
            data.put_u8(0x60 | nal_type);
            data.put_bytes(0x9d, length - 1);
            data.freeze()
        };
        Self {
            epoch: epoch(Tracks { video: Some(video), audio: None }),
            kind: MediaKind::Video,
            keyframe: access_unit(NAL_IDR),
            frame: access_unit(NAL_SLICE),
        }
    }

    /// AAC LC, stereo, at 128 kbit/s.
    fn audio() -> Self {
        let audio = AudioTrack {
            codec: Codec::Aac,
            sample_rate: SAMPLE_RATE,
            channels: 2,
            codec_data: Bytes::from_static(&[0x11, 0x90]),
            fmtp: String::new(),
        };
        let frame = Bytes::from(vec![0x21; AAC_BYTES]);
        let epoch = epoch(Tracks { video: None, audio: Some(audio) });
        Self { epoch, kind: MediaKind::Audio, keyframe: frame.clone(), frame }
    }

    /// Frame `number`; a video keyframe comes every two seconds.
    fn frame(&self, number: i64) -> Frame {
        let (pts, keyframe) = match self.kind {
            MediaKind::Video => {
                (MediaTime::from_ticks(number, FRAME_RATE), number % (2 * i64::from(FRAME_RATE)) == 0)
            }
            MediaKind::Audio => (MediaTime::from_ticks(number * AAC_SAMPLES, SAMPLE_RATE), true),
        };
        let data = if keyframe { self.keyframe.clone() } else { self.frame.clone() };
        Frame { epoch: self.epoch.clone(), kind: self.kind, pts, dts: pts, keyframe, data }
    }
}

fn epoch(tracks: Tracks) -> Arc<Epoch> {
    Arc::new(Epoch { id: 1, tracks, wall_origin: SystemTime::UNIX_EPOCH })
}

/// A muxer at work.
struct Running<'a> {
    track: &'a Track,
    muxer: Muxer,
    output: mpsc::Receiver<MuxOutput>,
    /// The next frame's number.
    next: i64,
    /// Where the last part ended.
    packaged: MediaTime,
}

impl<'a> Running<'a> {
    fn start(pipelines: &Pipelines, track: &'a Track) -> Self {
        let (sender, output) = mpsc::channel(64);
        let tracks = &track.epoch.tracks;
        let video = tracks.video.as_ref().map(MuxTrack::Video);
        let mux_track = video.or(tracks.audio.as_ref().map(MuxTrack::Audio)).expect("a track of one kind");
        let muxer = Muxer::start(pipelines, mux_track, SETTINGS, sender).expect("the pipeline starts");
        Self { track, muxer, output, next: 0, packaged: MediaTime::ZERO }
    }

    /// Pushes all frames that begin before `end`.
    fn push_until(&mut self, end: MediaTime) {
        loop {
            let frame = self.track.frame(self.next);
            if frame.pts >= end {
                return;
            }
            self.muxer.push(&frame).expect("the muxer runs");
            self.next += 1;
        }
    }

    async fn wait_for_part(&mut self) {
        let part = next_part(&mut self.output).await.expect("a part before the end");
        self.packaged = part.start + part.duration;
    }

    /// Ends the track; when its last part was there. Everything pushed must have come out.
    async fn finish(self) -> Instant {
        let Self { track, muxer, mut output, next, mut packaged } = self;
        let last_part = async {
            while let Some(part) = next_part(&mut output).await {
                packaged = part.start + part.duration;
            }
            Instant::now()
        };
        let (last_part, ()) = tokio::join!(last_part, muxer.finish());
        let missing = track.frame(next).pts.since(packaged);
        assert!(missing < Duration::from_millis(1), "the last {missing:?} did not come out");
        last_part
    }
}

/// The next part; `None` at the end.
async fn next_part(output: &mut mpsc::Receiver<MuxOutput>) -> Option<MuxedPart> {
    loop {
        match output.recv().await.expect("the end is told") {
            MuxOutput::Init(_) => {}
            MuxOutput::Part(part) => return Some(part),
            MuxOutput::Finished => return None,
            MuxOutput::Failed(error) => panic!("{error}"),
        }
    }
}
