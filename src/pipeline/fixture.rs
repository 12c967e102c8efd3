//! Real media for the tests of this room, and what a player would see and hear of it.
//!
//! Pictures carry their own time (the demo's mark), and flash and beep begin together on each full
//! second, so that every path can be checked for the times it tells.

use super::caps::{self, TrackConfig};
use super::clock::Origin;
use super::demo::{painter, read_mark, sound_block};
use super::graph::Graph;
use super::part::{child, word};
use super::{MuxOutput, MuxSettings, MuxTrack, MuxedPart, Muxer, Pipelines};
use crate::media::{Epoch, Frame, MediaKind, MediaTime, Tracks};
use bytes::Bytes;
use gstreamer as gst;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

pub(super) const SETTINGS: MuxSettings = MuxSettings {
    part_duration: Duration::from_millis(333),
    segment_duration: Duration::from_secs(2),
    shift: Duration::ZERO,
};
/// The wall clock at the origin: a full second.
pub(super) const WALL: Duration = Duration::from_secs(1_795_000_000);

pub(super) fn wall_origin() -> SystemTime {
    UNIX_EPOCH + WALL
}

/// What an encoder makes of `seconds` of the demo, beginning at `start`, in the order of decoding times. From two
/// B-frames in a row on, B-frames depend on B-frames.
pub(super) fn coded(start: MediaTime, seconds: i64, b_frames: u32) -> Vec<Frame> {
    let folder = tempfile::tempdir().expect("a folder");
    let text = include_str!("../../pipelines/demo-video.launch");
    let reordered = format!("key-int-max=60 bframes={b_frames}");
    let text = text.replace("key-int-max=60", &reordered).replace("tune=zerolatency", "");
    if b_frames > 0 {
        std::fs::write(folder.path().join("demo-video.launch"), text).expect("written");
    }
    let pipelines = Pipelines::load(Some(folder.path())).expect("installed");
    let painter = painter();
    let pictures = (0..seconds * 30).map(|number| {
        let pts = start + MediaTime::from_ticks(number, 30).since(MediaTime::ZERO);
        let wall = WALL.as_nanos() as i64 + pts.as_nanos();
        (pts, painter.paint(UNIX_EPOCH + Duration::from_nanos(wall as u64)))
    });
    let (video, mut frames) = encode(&pipelines, "demo-video.launch", MediaKind::Video, pictures, 0);
    let first = start.to_ticks(48_000);
    let blocks = (0..seconds * 48_000 / 1024).map(|number| {
        let sample = first + number * 1024;
        (MediaTime::from_ticks(sample, 48_000), sound_block(sample, 1024))
    });
    let delay = MediaTime::from_ticks(1600, 48_000).as_nanos();
    let (audio, sound) = encode(&pipelines, "demo-audio.launch", MediaKind::Audio, blocks, delay);
    frames.extend(sound);
    frames.sort_by_key(|frame| frame.dts);
    let (TrackConfig::Video(mut video), TrackConfig::Audio(audio)) = (video, audio) else {
        panic!("the wrong kinds of media");
    };
    video.reordered = b_frames > 0;
    let tracks = Tracks { video: Some(video), audio: Some(audio) };
    let epoch = Arc::new(Epoch { id: 1, tracks, wall_origin: wall_origin() });
    frames.iter_mut().for_each(|frame| frame.epoch = epoch.clone());
    frames
}

fn encode(
    pipelines: &Pipelines,
    file: &'static str,
    kind: MediaKind,
    input: impl Iterator<Item = (MediaTime, Vec<u8>)>,
    delay: i64,
) -> (TrackConfig, Vec<Frame>) {
    let epoch = Arc::new(Epoch { id: 0, tracks: Tracks::default(), wall_origin: wall_origin() });
    let graph = Graph::build(pipelines, file, &[], |error| eprintln!("{error}")).expect("builds");
    graph.start().expect("starts");
    let mut frames = vec![];
    let mut config = None;
    let mut pull = |wait: gst::ClockTime| {
        while let Some(sample) = graph.sink().try_pull_sample(wait) {
            config = sample.caps().and_then(caps::read);
            let buffer = sample.buffer().expect("a buffer");
            let pts = Origin::INTERNAL.presentation(&sample, buffer).expect("a time").shifted(-delay);
            let reorder = buffer
                .dts()
                .map_or(0, |dts| buffer.pts().expect("a time").nseconds() as i64 - dts.nseconds() as i64);
            let data = Bytes::copy_from_slice(&buffer.map_readable().expect("readable"));
            frames.push(Frame {
                epoch: epoch.clone(),
                kind,
                pts,
                dts: if kind == MediaKind::Video { pts.shifted(-reorder) } else { pts },
                keyframe: kind == MediaKind::Audio || !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
                data,
            });
        }
    };
    for (time, data) in input {
        let mut buffer = gst::Buffer::from_mut_slice(data);
        buffer.get_mut().expect("own").set_pts(Origin::INTERNAL.place(time).expect("in range"));
        // At most a second of pictures waits.
        while graph.source().current_level_bytes() > 30 << 20 {
            pull(gst::ClockTime::from_mseconds(5));
        }
        graph.push(buffer).expect("taken");
        pull(gst::ClockTime::ZERO);
    }
    graph.end_of_stream();
    while !graph.sink().is_eos() {
        pull(gst::ClockTime::from_mseconds(5));
    }
    (config.expect("configured"), frames)
}

/// Muxes the frames of one track.
pub(super) async fn mux(frames: &[Frame], kind: MediaKind) -> (Bytes, Vec<MuxedPart>) {
    let pipelines = Pipelines::load(None).expect("installed");
    let (sender, mut output) = mpsc::channel(4096);
    let tracks = &frames[0].epoch.tracks;
    let track = match kind {
        MediaKind::Video => MuxTrack::Video(tracks.video.as_ref().expect("video")),
        MediaKind::Audio => MuxTrack::Audio(tracks.audio.as_ref().expect("audio")),
    };
    let muxer = Muxer::start(&pipelines, track, SETTINGS, sender).expect("starts");
    for frame in frames.iter().filter(|frame| frame.kind == kind) {
        muxer.push(frame).expect("taken");
    }
    muxer.finish().await;
    let (mut init, mut parts) = (None, vec![]);
    loop {
        match output.recv().await.expect("the end comes first") {
            MuxOutput::Init(data) => assert!(init.replace(data).is_none(), "one initialisation segment"),
            MuxOutput::Part(part) => parts.push(part),
            MuxOutput::Finished => return (init.expect("an initialisation segment"), parts),
            MuxOutput::Failed(error) => panic!("{error}"),
        }
    }
}

/// The file that a player puts together.
pub(super) fn write(path: &Path, init: &Bytes, parts: &[MuxedPart]) {
    let mut file = init.to_vec();
    parts.iter().for_each(|part| file.extend_from_slice(&part.data));
    std::fs::write(path, file).expect("written");
}

/// Runs a tool and gives what it prints; it must succeed and complain of nothing.
pub(super) fn tool(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(["-v", "error"]).args(arguments).output().expect("installed");
    let complaint = String::from_utf8_lossy(&output.stderr).to_string();
    assert!(output.status.success() && complaint.is_empty(), "{program} {arguments:?}: {complaint}");
    output.stdout
}

/// Packets of a file as ffprobe sees them: presentation and decode time in seconds, and key flag.
pub(super) fn probe(path: &Path) -> Vec<(f64, f64, bool)> {
    let path = path.to_str().expect("a path");
    let text = tool("ffprobe", &["-show_entries", "packet=pts_time,dts_time,flags", "-of", "csv=p=0", path]);
    let text = String::from_utf8(text).expect("text");
    let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).expect("a number");
    let line = |line: &str| {
        let mut fields = line.split(',');
        (
            number(fields.next()),
            number(fields.next()),
            fields.next().is_some_and(|flags| flags.starts_with('K')),
        )
    };
    text.lines().map(line).collect()
}

/// The first sample's presentation time in seconds, by the video timescale.
pub(super) fn first_presentation(part: &[u8]) -> f64 {
    let fragment = child(part, b"moof").and_then(|moof| child(moof, b"traf")).expect("a fragment");
    let decode = child(fragment, b"tfdt").expect("a decode time");
    let ticks = match word(decode, 0).expect("flags") >> 24 {
        0 => u64::from(word(decode, 4).expect("a time")),
        _ => u64::from(word(decode, 4).expect("a time")) << 32 | u64::from(word(decode, 8).expect("a time")),
    };
    let run = child(fragment, b"trun").expect("a run");
    let flags = word(run, 0).expect("flags");
    // Data offset, first sample flags, then the first sample's duration, size and flags, if present.
    let before = [0x1, 0x4, 0x100, 0x200, 0x400].iter().filter(|flag| flags & *flag != 0).count();
    let offset = if flags & 0x800 != 0 { word(run, 8 + before * 4).expect("an offset") as i32 } else { 0 };
    (ticks as i64 + i64::from(offset)) as f64 / 90_000.0
}

/// What a player sees and hears, in seconds.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// Pictures decoded, and those whose mark could be read.
    pub(super) pictures: usize,
    pub(super) marks: usize,
    /// The largest and smallest of presentation time minus marked time.
    pub(super) latest: f64,
    pub(super) earliest: f64,
    /// When flashes begin, and when beeps begin.
    pub(super) flashes: Vec<f64>,
    pub(super) beeps: Vec<f64>,
}

impl Observed {
    /// From each flash to the beep nearest to it, from the first beep on.
    pub(super) fn offsets(&self) -> Vec<f64> {
        let first = self.beeps.first().expect("a beep") - 0.5;
        let nearest = |flash: f64| {
            let offsets = self.beeps.iter().map(|beep| beep - flash);
            offsets.min_by(|a, b| a.abs().total_cmp(&b.abs()))
        };
        let flashes = self.flashes.iter().filter(|flash| **flash > first);
        flashes.filter_map(|&flash| nearest(flash)).collect()
    }
}

/// Muxes and decodes frames, and looks and listens. Times are on the stream's timeline.
pub(super) async fn observe(frames: &[Frame]) -> Observed {
    const ORIGIN: f64 = 10.0;
    let folder = tempfile::tempdir().expect("a folder");
    let mut observed = Observed { latest: f64::MIN, earliest: f64::MAX, ..Default::default() };
    let (init, parts) = mux(frames, MediaKind::Video).await;
    let path = folder.path().join("video.mp4");
    write(&path, &init, &parts);
    let packets = probe(&path);
    // ffmpeg shows a track with negative composition offsets late by the largest of them.
    let shift = packets[0].0 - first_presentation(&parts[0].data);
    let mut times: Vec<_> = packets.into_iter().map(|(pts, ..)| pts - shift - ORIGIN).collect();
    times.sort_by(f64::total_cmp);
    let path = path.to_str().expect("a path");
    let size = 1280 * 720;
    // The mark is read in the size in which it is drawn.
    let pictures = ["-i", path, "-vsync", "passthrough", "-s", "1280x720"];
    let pictures = tool("ffmpeg", &[&pictures[..], &["-f", "rawvideo", "-pix_fmt", "gray", "-"]].concat());
    assert_eq!(pictures.len() / size, times.len(), "every packet gives a picture");
    let mut white = true;
    for (picture, time) in pictures.chunks_exact(size).zip(&times) {
        observed.pictures += 1;
        if let Some(millis) = read_mark(picture) {
            observed.marks += 1;
            let error = time - (millis as f64 / 1000.0 - WALL.as_secs_f64());
            observed.latest = observed.latest.max(error);
            observed.earliest = observed.earliest.min(error);
        }
        let bright =
            picture.iter().step_by(97).map(|&pixel| u64::from(pixel)).sum::<u64>() / (size as u64 / 97) > 215;
        if bright && !white {
            observed.flashes.push(*time);
        }
        white = bright;
    }
    if !frames[0].epoch.tracks.has(MediaKind::Audio) {
        return observed;
    }
    let (init, parts) = mux(frames, MediaKind::Audio).await;
    let path = folder.path().join("audio.mp4");
    write(&path, &init, &parts);
    let start = probe(&path)[0].0 - ORIGIN;
    let path = path.to_str().expect("a path");
    let sound = tool("ffmpeg", &["-i", path, "-f", "s16le", "-ac", "1", "-ar", "48000", "-"]);
    let mut quiet_since = 0;
    for (number, sample) in sound.chunks_exact(2).enumerate() {
        if i16::from_le_bytes([sample[0], sample[1]]).unsigned_abs() > 2500 {
            if number - quiet_since > 24_000 {
                observed.beeps.push(start + number as f64 / 48_000.0);
            }
            quiet_since = number;
        }
    }
    observed
}

/// Pictures are shown at their marked times, and beeps heard with the flashes.
pub(super) fn assert_together(observed: &Observed, flashes: usize, tolerance: Duration) {
    assert!(observed.marks * 100 >= observed.pictures * 95, "{observed:?}");
    assert!(observed.earliest > -0.002 && observed.latest < 0.002, "{observed:?}");
    let offsets = observed.offsets();
    assert_eq!(offsets.len(), flashes, "{observed:?}");
    assert!(offsets.iter().all(|offset| offset.abs() <= tolerance.as_secs_f64()), "{offsets:?}");
}
