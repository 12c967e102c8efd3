//! Players of HLS, all on one live stream at once: hls.js and shaka-player in Chromium, hls.js in Firefox, FFmpeg,
//! GStreamer's hlsdemux and mpv. All go on through a publisher's pause, and hls.js from H.264 to VP9. For that change
//! FFmpeg, hlsdemux and mpv are started anew; shaka-player is looked at before it only.

mod common;

use common::{Browser, Ffmpeg, Playlist, Process, Server, Small, eventually, machine, seconds};
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// `hls.part_duration`'s default: how far the latency of a player may move.
const PART: f64 = 0.25;
/// Seconds of pictures that a player may lack at the end of all, however long that was. The pause costs it some 4:
/// there are 10 pictures a second in it, not 30. And FFmpeg reads whole segments.
const LACKED: f64 = 8.0;

#[tokio::test]
async fn players_follow_a_live_stream_through_a_pause_and_a_change_of_codec() {
    let _machine = machine().await;
    follow(seconds(60)).await;
}

#[tokio::test]
#[ignore = "long: make test-long"]
async fn long_players_follow_a_live_stream_for_ten_minutes() {
    let _machine = machine().await;
    follow(seconds(600)).await;
}

/// All players watch for `steady` while nothing happens, then through the pause, then through the change.
async fn follow(steady: Duration) {
    let server = Server::start().await;
    let publisher = Ffmpeg::publish_small(Small::default(), &server.rtmp_url("show"));
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
    let mut desktop = Desktop::start(&url, "playbin");
    for (name, browser) in &mut browsers {
        browser.event("playing", seconds(60)).await;
        println!("{name} plays");
    }
    desktop.plays().await;

    // What starting costs is behind them: from here on nobody may stand still.
    tokio::time::sleep(seconds(5)).await;
    look(&mut browsers).await;
    let began = Instant::now();
    let at_first = desktop.positions().await;
    tokio::time::sleep(steady).await;
    for (name, look) in look(&mut browsers).await {
        println!("{name}, nothing happens: {look}");
        assert_eq!((number(&look, "stalls"), errors(&look)), (0.0, 0), "{name}: {look}");
        assert_eq!(look["failure"], Value::Null, "{name}: {look}");
        assert!(number(&look, "advanced") > number(&look, "seconds") - 0.5, "{name} plays on: {look}");
        assert!(number(&look, "frames") > 0.95 * 30.0 * number(&look, "seconds"), "{name} shows all: {look}");
        let latency = |when: &str| look["latency"][when].as_f64().unwrap_or_else(|| panic!("{name}: {look}"));
        assert!((latency("last") - latency("first")).abs() <= PART, "{name} does not drift: {look}");
        assert!(latency("most") <= latency("first") + 2.0 * PART, "{name} falls behind at no time: {look}");
    }
    let advanced = desktop.mpv.position().await - at_first[2].1;
    println!("mpv, nothing happens: {advanced:.2} s in {:.2} s", began.elapsed().as_secs_f64());
    assert!((advanced - began.elapsed().as_secs_f64()).abs() < 1.5, "mpv plays on: {advanced} s");

    // The publisher is gone for 4 s, and another encoder comes in its place.
    publisher.leave().await;
    tokio::time::sleep(seconds(4)).await;
    let publisher = Ffmpeg::publish_small(Small::default(), &server.rtmp_url("show"));
    tokio::time::sleep(seconds(12)).await;
    for (name, look) in look(&mut browsers).await {
        println!("{name}, a pause: {look}");
        assert_eq!(look["failure"], Value::Null, "{name}: {look}");
        assert!(number(&look, "standing") < 4.0, "{name} goes on: {look}");
    }
    let before = desktop.positions().await;
    tokio::time::sleep(seconds(3)).await;
    for (name, look) in look(&mut browsers).await {
        assert!(number(&look, "advanced") > 2.0, "{name} goes on after the pause: {look}");
    }
    desktop.went_on("after the pause", before).await;
    let (ran, at_last) = (began.elapsed().as_secs_f64(), desktop.positions().await);
    for ((name, first), (_, last)) in at_first.into_iter().zip(at_last) {
        println!("{name} in all: {:.2} s of {ran:.2} s", last - first);
        assert!(last - first > ran - LACKED, "{name} played all: {:.2} s of {ran:.2} s", last - first);
    }
    desktop.ffmpeg.saw(steady).await;
    drop((desktop.gstreamer, desktop.mpv));

    // The same stream goes on in another codec. FFmpeg's demuxer, which is mpv's too, takes the first initialisation
    // section only ("Found duplicated MOOV Atom. Skipped it") and goes on to call the pictures H.264; playbin has
    // linked a decoder of H.264 behind hlsdemux. So these are started anew. hlsdemux that joins a stream waits as long as
    // it has run before it shows the second picture; hlsdemux2 does not.
    publisher.leave().await;
    let options = json!({ "endpoint": server.rtmp_url("show"), "video": "vp9", "audio": "aac" });
    let mut publisher = Browser::start_client("ffmpeg_rtmp.py", options);
    publisher.event("connected", seconds(30)).await;
    // Players that begin anew should find one codec only.
    eventually("nothing but VP9 is listed", seconds(40), || async {
        let multivariant = server.get("/show/index.m3u8").await.text().await.ok()?;
        let playlist = Playlist::parse(&server.get("/show/video.m3u8").await.text().await.ok()?);
        (multivariant.contains("vp09") && playlist.last_run().len() == playlist.segments.len()).then_some(())
    })
    .await;
    let mut desktop = Desktop::start(&url, "playbin3");
    desktop.plays().await;
    look(&mut browsers).await;
    let before = desktop.positions().await;
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
    desktop.went_on("VP9", before).await;
    desktop.play_vp9().await;
    assert!(began.elapsed() < steady + seconds(120), "all of that took {:?}", began.elapsed());
    drop(publisher);
}

/// The players without a browser.
struct Desktop {
    ffmpeg: FfmpegPlayer,
    gstreamer: GStreamer,
    mpv: Mpv,
}

impl Desktop {
    /// `playbin`: which of GStreamer's.
    fn start(url: &str, playbin: &str) -> Self {
        let gstreamer = GStreamer::start(url, playbin);
        Self { ffmpeg: FfmpegPlayer::start(url), gstreamer, mpv: Mpv::start(url) }
    }

    /// Waits until all of them play.
    async fn plays(&mut self) {
        let (ffmpeg, gstreamer) = (&self.ffmpeg, &self.gstreamer);
        eventually("FFmpeg reads", seconds(60), || async { (ffmpeg.pictures().len() > 15).then_some(()) })
            .await;
        eventually("GStreamer plays", seconds(60), || async {
            (gstreamer.pictures().len() > 15).then_some(())
        })
        .await;
        self.mpv.plays().await;
    }

    /// How many seconds each has played, by pictures or by its clock.
    async fn positions(&mut self) -> [(&'static str, f64); 3] {
        [
            ("FFmpeg", self.ffmpeg.pictures().len() as f64 / 30.0),
            ("GStreamer", self.gstreamer.pictures().len() as f64 / 30.0),
            ("mpv", self.mpv.position().await),
        ]
    }

    /// Asserts that each has gone on since `before`, at least 3 s ago. FFmpeg reads segments of 2 s at once, so in that
    /// time it may have had only one.
    async fn went_on(&mut self, when: &str, before: [(&'static str, f64); 3]) {
        for ((name, before), (_, after)) in before.into_iter().zip(self.positions().await) {
            println!("{name}, {when}: {before:.2} s, then {after:.2} s");
            assert!(after - before > 1.9, "{name} goes on, {when}: {before} s, then {after} s");
        }
    }

    /// Asserts that what they play is VP9, and that mpv has decoded it.
    async fn play_vp9(&self) {
        let (ffmpeg, gstreamer) = (self.ffmpeg.process.log(), self.gstreamer.process.log());
        assert!(ffmpeg.contains("#codec_id 0: vp9"), "FFmpeg reads VP9:\n{}", tail(&ffmpeg));
        assert!(gstreamer.contains("video/x-vp9"), "GStreamer plays VP9:\n{}", tail(&gstreamer));
        let (codec, width) = (self.mpv.ask("video-format").await, self.mpv.ask("video-params/w").await);
        assert_eq!((&codec, &width), (&Some(json!("vp9")), &Some(json!(640))), "mpv plays VP9");
    }
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
        }
    }
}

/// The decoding times of a stream's packets in a log of `framecrc`.
fn ticks(log: &str, stream: usize) -> Vec<f64> {
    let prefix = format!("{stream},");
    let tick = |line: &str| line.strip_prefix(&prefix)?.split(',').next()?.trim().parse::<f64>().ok();
    log.lines().filter_map(tick).collect()
}

/// GStreamer's hlsdemux behind playbin, or hlsdemux2 behind playbin3, on the clock.
struct GStreamer {
    process: Process,
}

impl GStreamer {
    fn start(url: &str, playbin: &str) -> Self {
        let mut command = Command::new("gst-launch-1.0");
        let sink = "fakesink sync=true silent=false";
        command.args(["-v", playbin, &format!("uri={url}")]);
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

    async fn plays(&self) {
        eventually("mpv plays", seconds(60), || async {
            self.ask("playback-time").await?.as_f64().filter(|at| *at > 0.5)
        })
        .await;
    }

    /// Where it is, in seconds since it began.
    async fn position(&mut self) -> f64 {
        assert!(self.process.exited().is_none(), "mpv runs");
        self.ask("playback-time").await.and_then(|at| at.as_f64()).expect("mpv answers")
    }

    /// A property, where it has one.
    async fn ask(&self, property: &str) -> Option<Value> {
        let mut stream = UnixStream::connect(&self.socket).await.ok()?;
        let request = json!({ "command": ["get_property", property], "request_id": 7 });
        stream.write_all(format!("{request}\n").as_bytes()).await.ok()?;
        let mut lines = BufReader::new(stream).lines();
        while let Some(line) = lines.next_line().await.ok()? {
            let mut answer: Value = serde_json::from_str(&line).ok()?;
            if answer["request_id"] == 7 {
                return answer.get_mut("data").map(Value::take);
            }
        }
        None
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
