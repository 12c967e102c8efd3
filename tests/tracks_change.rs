//! Tracks that change in the middle of a stream: every output goes on.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{
    Ffmpeg, Hls, MediaKind, Message, Nginx, RtcClient, RtcEvent, RtcOptions, RtmpClient, Server,
    decode_errors, eventually, machine, messages_of, seconds,
};

/// Seconds of each stretch.
const STRETCH: u64 = 6;

/// A stretch of a show: a file's messages.
fn stretch(folder: &Path, size: &str, b_frames: u32, sound: bool) -> Vec<Message> {
    let file = folder.join(format!("{size}-{b_frames}-{sound}.flv"));
    let picture = format!("testsrc2=s={size}:r=30,format=yuv420p");
    let (b_frames, length) = (b_frames.to_string(), STRETCH.to_string());
    let mut args = vec!["-f", "lavfi", "-i", &picture];
    if sound {
        args.extend(["-f", "lavfi", "-i", "sine=f=1000:sample_rate=48000", "-c:a", "aac", "-ac", "2"]);
    }
    args.extend(["-c:v", "libx264", "-preset", "ultrafast", "-g", "30", "-bf", &b_frames, "-b:v", "600k"]);
    args.extend(["-t", &length]);
    Ffmpeg::render_with(&args, &file);
    messages_of(&file)
}

/// Publishes the stretches one after the other, each with its configurations, in real time.
async fn publish(server: &Server, stretches: &[Vec<Message>]) {
    let port = server.rtmp_url("x").split(':').nth(2).and_then(|rest| rest.split('/').next()?.parse().ok());
    let mut client = RtmpClient::connect(port.expect("a port")).await;
    client.publish("show").await;
    let begin = Instant::now();
    // The last one goes on and on.
    let last = stretches.last().into_iter().cycle();
    for (number, stretch) in stretches.iter().chain(last).enumerate() {
        let start = number as u64 * STRETCH * 1000;
        for message in stretch {
            let time = start + u64::from(message.time);
            tokio::time::sleep_until((begin + Duration::from_millis(time)).into()).await;
            client.send(&Message { time: time as u32, ..message.clone() }).await;
        }
    }
}

/// The sizes of the pictures in a recording, in order, each once.
async fn sizes(file: &Path) -> Vec<String> {
    let args =
        ["-v", "error", "-select_streams", "v", "-show_entries", "frame=width,height", "-of", "csv=p=0"];
    let output = tokio::process::Command::new("ffprobe").args(args).arg(file).output().await.expect("starts");
    let mut sizes: Vec<String> = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let size = line.trim_end_matches(',').replace(',', "x");
        // Side data of a frame may end its line with a comma, and add one.
        if !size.is_empty() && sizes.last() != Some(&size) {
            sizes.push(size);
        }
    }
    sizes
}

/// Frames of sound in a recording.
async fn sounds(file: &Path) -> usize {
    let args = ["-v", "error", "-select_streams", "a", "-show_entries", "packet=pts", "-of", "csv=p=0"];
    let output = tokio::process::Command::new("ffprobe").args(args).arg(file).output().await.expect("starts");
    String::from_utf8_lossy(&output.stdout).lines().count()
}

/// Packets of both kinds that came within the last of `length` seconds, and whether the session stayed.
struct Watched {
    video: usize,
    audio: usize,
    closed: bool,
}

async fn watch(viewer: &mut RtcClient, length: u64) -> Watched {
    let events = viewer.collect(seconds(length)).await;
    let late = Instant::now() - Duration::from_millis(1500);
    let count = |kind| {
        let of = |event: &&RtcEvent| matches!(event, RtcEvent::Media(packet) if packet.kind == kind && packet.at > late);
        events.iter().filter(of).count()
    };
    let closed = events.iter().any(|event| matches!(event, RtcEvent::Closed | RtcEvent::Disconnected));
    Watched { video: count(MediaKind::Video), audio: count(MediaKind::Audio), closed }
}

/// The stretches reach HLS with a discontinuity and another initialisation, the recorder with all sizes.
async fn check_others(server: &Server, target: &Nginx, changes: usize, expected: &[&str]) {
    let hls = Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(10)).await;
    let video = hls.video.clone().expect("a video rendition");
    let playlist = eventually("the discontinuities", seconds(12), async || {
        let playlist = hls.playlist(&video).await;
        let breaks = playlist.segments.iter().skip(1).filter(|segment| segment.discontinuity).count();
        (breaks >= changes).then_some(playlist)
    })
    .await;
    for pair in playlist.segments.windows(2) {
        assert_eq!(pair[1].discontinuity, pair[0].map != pair[1].map, "{}", playlist.text);
    }
    let folder = tempfile::tempdir().expect("a folder");
    for (kind, rendition) in hls.renditions() {
        let file = hls.download(rendition, folder.path(), kind).await;
        assert_eq!(decode_errors(file.to_str().expect("a path")).await, "", "{kind}");
    }
    let recordings = target.recordings("show");
    assert_eq!(recordings.len(), 1, "one connection: {recordings:?}");
    let found = eventually("all sizes at the target", seconds(10), async || {
        let found = sizes(&recordings[0]).await;
        (found == expected).then_some(())
    });
    found.await;
}

#[tokio::test]
async fn another_resolution_and_b_frames_in_mid_stream() {
    let _machine = machine().await;
    let (server, target) = (
        Server::builder().env("TIDEGATE_HLS_WINDOW", "40").env("TIDEGATE_HLS_ALWAYS", "true").start().await,
        Nginx::start().await,
    );
    server.add_target("show", &target.url("show")).await;
    let folder = tempfile::tempdir().expect("a folder");
    let stretches = [
        stretch(folder.path(), "640x360", 0, true),
        stretch(folder.path(), "320x180", 0, true),
        stretch(folder.path(), "320x180", 2, true),
    ];
    let check = async {
        let known = async || server.stream("show").await?.pointer("/tracks/0").cloned();
        eventually("the stream", seconds(10), known).await;
        let mut viewer = RtcClient::view(&server, "show", RtcOptions::default()).await;
        viewer.packet(MediaKind::Video).await;
        for (length, what) in [(3, "the first size"), (STRETCH, "the second size"), (STRETCH, "B-frames")] {
            let watched = watch(&mut viewer, length).await;
            assert!(!watched.closed, "{what}");
            assert!(watched.video > 30 && watched.audio > 50, "{what}: {} {}", watched.video, watched.audio);
        }
        check_others(&server, &target, 2, &["640x360", "320x180"]).await;
    };
    tokio::select! {
        () = publish(&server, &stretches) => unreachable!("it goes on"),
        () = check => {}
    }
}

#[tokio::test]
async fn sound_that_comes_late_and_stops_again() {
    let _machine = machine().await;
    let (server, target) = (
        Server::builder().env("TIDEGATE_HLS_WINDOW", "40").env("TIDEGATE_HLS_ALWAYS", "true").start().await,
        Nginx::start().await,
    );
    server.add_target("show", &target.url("show")).await;
    let folder = tempfile::tempdir().expect("a folder");
    let mute = stretch(folder.path(), "640x360", 0, false);
    let stretches = [mute.clone(), stretch(folder.path(), "640x360", 0, true), mute];
    let check = async {
        let known = async || server.stream("show").await?.pointer("/tracks/0").cloned();
        eventually("the stream", seconds(10), known).await;
        let mut viewer = RtcClient::view(&server, "show", RtcOptions::default()).await;
        viewer.packet(MediaKind::Video).await;
        let watched = watch(&mut viewer, 3).await;
        assert!(watched.video > 30 && watched.audio == 0 && !watched.closed, "before the sound");
        let watched = watch(&mut viewer, STRETCH).await;
        assert!(!watched.closed, "the session stays");
        assert!(watched.video > 30 && watched.audio > 50, "with sound: {} {}", watched.video, watched.audio);
        let watched = watch(&mut viewer, STRETCH).await;
        assert!(
            watched.video > 30 && watched.audio == 0 && !watched.closed,
            "after the sound: {}",
            watched.video
        );
        eventually("the sound has left the stream", seconds(6), async || {
            let tracks = server.stream("show").await?.get("tracks")?.as_array()?.len();
            (tracks == 1).then_some(())
        })
        .await;
        // It came at one discontinuity and left at another, and the target got it in between.
        check_others(&server, &target, 2, &["640x360"]).await;
        let sounds = sounds(&target.recordings("show")[0]).await;
        let expected = STRETCH as usize * 48_000 / 1024;
        assert!(sounds.abs_diff(expected) < 60, "{sounds} frames of sound at the target, not {expected}");
    };
    tokio::select! {
        () = publish(&server, &stretches) => unreachable!("it goes on"),
        () = check => {}
    }
}
