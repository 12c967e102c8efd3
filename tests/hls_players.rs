//! Players of HLS, all on one live stream at once: hls.js and shaka-player in Chromium, hls.js in Firefox, FFmpeg,
//! GStreamer's hlsdemux and mpv. All go on through a publisher's pause, and hls.js from H.264 to VP9; the others are not
//! looked at after the change of codec.

mod common;

use common::{Browser, Ffmpeg, Process, Server, eventually, machine, seconds};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// A small picture, so that six decoders fit beside the encoder; a keyframe every 2 s.
const SMALL: &[&str] = &[
    "-re",
    "-f",
    "lavfi",
    "-i",
    "testsrc2=s=320x180:r=30,format=yuv420p",
    "-re",
    "-f",
    "lavfi",
    "-i",
    "sine=frequency=440:r=48000",
    "-c:v",
    "libx264",
    "-preset",
    "ultrafast",
    "-tune",
    "zerolatency",
    "-profile:v",
    "baseline",
    "-g",
    "60",
    "-sc_threshold",
    "0",
    "-threads",
    "1",
    "-b:v",
    "400k",
    "-c:a",
    "aac",
    "-b:a",
    "96k",
    "-ac",
    "2",
];
/// `hls.part_duration`'s default: how far the latency of a player may move.
const PART: f64 = 0.25;

#[tokio::test]
async fn players_follow_a_live_stream_through_a_pause_and_a_change_of_codec() {
    let _machine = machine().await;
    follow(Duration::from_secs(30)).await;
}

#[tokio::test]
#[ignore = "long: make test-long"]
async fn long_players_follow_a_live_stream_for_ten_minutes() {
    let _machine = machine().await;
    follow(Duration::from_secs(600)).await;
}

/// All players watch for `steady` while nothing happens, then through the pause, then through the change.
async fn follow(steady: Duration) {
    let server = Server::start().await;
    let publisher = Ffmpeg::publish_with(SMALL, &server.rtmp_url("show"));
    let url = server.url("/show/index.m3u8");
    eventually("the stream is playable", seconds(20), || async {
        server.get("/show/index.m3u8").await.status().is_success().then_some(())
    })
    .await;

    let mut browsers: Vec<(&str, Browser)> = [
        ("hls.js in Chromium", json!({ "url": url })),
        ("shaka-player in Chromium", json!({ "url": url, "player": "shaka" })),
        ("hls.js in Firefox", json!({ "url": url, "browser": "firefox" })),
    ]
    .map(|(name, options)| (name, Browser::start("play_hls", options)))
    .into();
    let whole = steady + seconds(50);
    let (ffmpeg, gstreamer, mut mpv) = (FfmpegPlayer::start(&url), GStreamer::start(&url), Mpv::start(&url));
    for (name, browser) in &mut browsers {
        browser.event("playing", seconds(60)).await;
        println!("{name} plays");
    }
    mpv.plays().await;

    // What starting costs is behind them: from here on nobody may stand still.
    tokio::time::sleep(seconds(5)).await;
    look(&mut browsers).await;
    let mpv_before = mpv.position().await;
    let began = Instant::now();
    tokio::time::sleep(steady).await;
    for (name, look) in look(&mut browsers).await {
        println!("{name}, nothing happens: {look}");
        assert_eq!((number(&look, "stalls"), errors(&look)), (0.0, 0), "{name}: {look}");
        assert_eq!(look["failure"], Value::Null, "{name}: {look}");
        assert!(number(&look, "advanced") > number(&look, "seconds") - 0.5, "{name} plays on: {look}");
        let latency = |when: &str| look["latency"][when].as_f64().unwrap_or_else(|| panic!("{name}: {look}"));
        assert!((latency("last") - latency("first")).abs() <= PART, "{name} does not drift: {look}");
    }
    let advanced = mpv.position().await - mpv_before;
    println!("mpv, nothing happens: {advanced:.2} s in {:.2} s", began.elapsed().as_secs_f64());
    assert!((advanced - began.elapsed().as_secs_f64()).abs() < 1.5, "mpv plays on: {advanced} s");

    // The publisher is gone for 4 s, and another encoder comes in its place.
    publisher.leave().await;
    tokio::time::sleep(seconds(4)).await;
    let publisher = Ffmpeg::publish_with(SMALL, &server.rtmp_url("show"));
    tokio::time::sleep(seconds(12)).await;
    for (name, look) in look(&mut browsers).await {
        println!("{name}, a pause: {look}");
        assert_eq!(look["failure"], Value::Null, "{name}: {look}");
        assert!(number(&look, "standing") < 4.0, "{name} goes on: {look}");
    }
    let desktop = async |mpv: &mut Mpv| {
        [
            ("FFmpeg", ffmpeg.pictures().len() as f64 / 30.0),
            ("GStreamer", gstreamer.pictures().len() as f64 / 30.0),
            ("mpv", mpv.position().await),
        ]
    };
    let before = desktop(&mut mpv).await;
    tokio::time::sleep(seconds(3)).await;
    for (name, look) in look(&mut browsers).await {
        assert!(number(&look, "advanced") > 2.0, "{name} goes on after the pause: {look}");
    }
    for ((name, before), (_, after)) in before.into_iter().zip(desktop(&mut mpv).await) {
        println!("{name}, after the pause: {before:.2} s, then {after:.2} s");
        // FFmpeg reads segments of 2 s at once: in 3 s it may have had only one.
        assert!(after - before > 1.9, "{name} goes on after the pause: {before} s, then {after} s");
    }

    // The same stream goes on in another codec.
    publisher.leave().await;
    let options = json!({ "endpoint": server.rtmp_url("show"), "video": "vp9", "audio": "aac" });
    let mut publisher = Browser::start_client("ffmpeg_rtmp.py", options);
    publisher.event("connected", seconds(30)).await;
    tokio::time::sleep(seconds(10)).await;
    look(&mut browsers).await;
    tokio::time::sleep(seconds(4)).await;
    for (name, look) in look(&mut browsers).await {
        println!("{name}, VP9: {look}");
        if name.starts_with("shaka") {
            continue; // it keeps to the codecs of the multivariant playlist that it began with
        }
        assert_eq!(look["failure"], Value::Null, "{name}: {look}");
        assert!(
            number(&look, "advanced") > 3.0 && number(&look, "frames") > 30.0,
            "{name} plays VP9: {look}"
        );
    }
    ffmpeg.saw(steady).await;
    gstreamer.saw(steady);
    assert!(began.elapsed() < whole + seconds(60), "all of that took {:?}", began.elapsed());
    drop(publisher);
}

/// What each browser has seen since the last look.
async fn look<'a>(browsers: &mut [(&'a str, Browser)]) -> Vec<(&'a str, Value)> {
    let mut looks = Vec::new();
    for (name, browser) in browsers {
        browser.command("look");
        looks.push((*name, browser.event("look", seconds(20)).await["look"].take()));
    }
    looks
}

fn number(look: &Value, member: &str) -> f64 {
    look[member].as_f64().unwrap_or_else(|| panic!("{member} of {look}"))
}

/// Errors that a player could not overcome.
fn errors(look: &Value) -> usize {
    let fatal = |error: &&Value| error["fatal"] == true;
    look["errors"].as_array().map_or(0, |errors| errors.iter().filter(fatal).count())
}

/// FFmpeg, reading packets as they come: times must rise, and none of a second may be missing.
struct FfmpegPlayer {
    process: Process,
}

impl FfmpegPlayer {
    fn start(url: &str) -> Self {
        let mut command = Command::new("ffmpeg");
        command.args(["-hide_banner", "-nostats", "-loglevel", "error", "-nostdin", "-i", url]);
        // One line a packet: stream, decoding time, presentation time, duration, size, checksum.
        command.args(["-map", "0:v:0", "-map", "0:a:0", "-c", "copy", "-copyts", "-f", "framecrc", "-"]);
        Self { process: Process::spawn("ffmpeg (player)", &mut command) }
    }

    /// The ticks of the pictures that it has read so far.
    fn pictures(&self) -> Vec<f64> {
        ticks(&self.process.log(), 0)
    }

    /// Asserts that the first `steady` of what it read is whole.
    async fn saw(mut self, steady: Duration) {
        self.process.signal("INT");
        assert!(self.process.wait(seconds(10)).await.is_some(), "ffmpeg ends");
        let log = self.process.log();
        let base = |line: &str| -> Option<f64> {
            let (num, den) = line.split_once(": ")?.1.split_once('/')?;
            Some(num.trim().parse::<f64>().ok()? / den.trim().parse::<f64>().ok()?)
        };
        let bases: Vec<f64> = log.lines().filter(|line| line.starts_with("#tb")).filter_map(base).collect();
        for (stream, kind, step) in [(0, "pictures", 1.0 / 30.0), (1, "sounds", 1024.0 / 48000.0)] {
            let times: Vec<f64> =
                ticks(&log, stream).into_iter().map(|ticks| ticks * bases[stream]).collect();
            let first = *times.first().unwrap_or_else(|| panic!("ffmpeg read no {kind}:\n{log}"));
            let steady: Vec<f64> =
                times.iter().copied().take_while(|time| *time < first + steady.as_secs_f64()).collect();
            println!("ffmpeg read {} {kind}, {} of them steadily", times.len(), steady.len());
            let gaps = steady.windows(2).map(|pair| pair[1] - pair[0]);
            let odd: Vec<f64> = gaps.filter(|gap| *gap <= 0.0 || *gap > step * 1.5).collect();
            assert!(odd.is_empty(), "{kind} follow each other: {odd:?}");
            assert!(steady.len() as f64 * step > 0.9 * (steady.last().unwrap_or(&first) - first));
            assert!(times.last().is_some_and(|last| last - first > 10.0), "ffmpeg reads on: {kind}");
        }
    }
}

/// The decoding times of a stream's packets in a log of `framecrc`.
fn ticks(log: &str, stream: usize) -> Vec<f64> {
    let prefix = format!("{stream},");
    let tick = |line: &str| line.strip_prefix(&prefix)?.split(',').next()?.trim().parse::<f64>().ok();
    log.lines().filter_map(tick).collect()
}

/// GStreamer's hlsdemux behind playbin, on the clock.
struct GStreamer {
    process: Process,
}

impl GStreamer {
    fn start(url: &str) -> Self {
        let mut command = Command::new("gst-launch-1.0");
        let sink = "fakesink sync=true silent=false";
        command.args(["-v", "playbin", &format!("uri={url}")]);
        command.args([format!("video-sink={sink}"), format!("audio-sink={sink}")]);
        Self { process: Process::spawn("gst-launch-1.0", &mut command) }
    }

    /// The times of the pictures that it has rendered so far.
    fn pictures(&self) -> Vec<f64> {
        let picture = |line: &str| -> Option<f64> {
            if !(line.contains("last-message = chain") && line.contains("fakesink0")
                || line.contains("video-sink"))
            {
                return None;
            }
            let time = line.split("pts: ").nth(1)?.split(',').next()?;
            let mut fields = time.split(':').map(|field| field.trim().parse::<f64>());
            Some(fields.next()?.ok()? * 3600.0 + fields.next()?.ok()? * 60.0 + fields.next()?.ok()?)
        };
        self.process.log().lines().filter_map(picture).collect()
    }

    /// Asserts that it rendered nine tenths of `steady`'s pictures.
    fn saw(mut self, steady: Duration) {
        let (times, log) = (self.pictures(), self.process.log());
        self.process.kill();
        println!("GStreamer rendered {} pictures", times.len());
        assert!(
            times.len() as f64 > 0.9 * 30.0 * steady.as_secs_f64(),
            "{} pictures:\n{}",
            times.len(),
            tail(&log)
        );
    }
}

/// mpv, asked over its socket.
struct Mpv {
    process: Process,
    socket: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

impl Mpv {
    fn start(url: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("mpv");
        let mut command = Command::new("mpv");
        command.args(["--no-config", "--vo=null", "--ao=null", "--no-terminal", "--hwdec=no"]);
        command.arg(format!("--input-ipc-server={}", socket.display())).arg(url);
        Self { process: Process::spawn("mpv", &mut command), socket, _folder: folder }
    }

    async fn plays(&mut self) {
        let socket = self.socket.clone();
        eventually("mpv plays", seconds(60), || async { ask(&socket).await.filter(|at| *at > 0.5) }).await;
    }

    /// Where it is, in seconds since it began.
    async fn position(&mut self) -> f64 {
        assert!(self.process.exited().is_none(), "mpv runs");
        ask(&self.socket).await.expect("mpv answers")
    }
}

/// mpv's `playback-time`.
async fn ask(socket: &Path) -> Option<f64> {
    let mut stream = UnixStream::connect(socket).await.ok()?;
    let request = json!({ "command": ["get_property", "playback-time"], "request_id": 7 });
    stream.write_all(format!("{request}\n").as_bytes()).await.ok()?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await.ok()? {
        let answer: Value = serde_json::from_str(&line).ok()?;
        if answer["request_id"] == 7 {
            return answer["data"].as_f64();
        }
    }
    None
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
