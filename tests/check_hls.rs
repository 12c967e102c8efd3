//! `tidegate check-hls` finds no broken line in what we serve, whatever a publisher sends.
//!
//! All publishers at once, each checked by the binary itself: those of one quality in one test, several renditions and
//! Opus in another. There parts may come late, as the machine is full of encoders; a stream that has it to itself, and
//! those that are checked for ten minutes, are judged by the clock as strictly as anybody's.

mod common;

use common::{Browser, Ffmpeg, Process, Server, Simulcast, eventually, machine, seconds};
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;

const SOUND: [&str; 8] =
    ["-re", "-f", "lavfi", "-i", "aevalsrc='0.1*sin(880*PI*t)':s=48000:c=mono", "-c:a", "aac", "-b:a"];

/// Pictures of an encoder: a second's worth, and those of a group.
#[derive(Clone, Copy)]
struct Pictures {
    size: &'static str,
    rate: &'static str,
    group: &'static str,
    b_frames: &'static str,
}

/// Streams whose publisher goes in the midst of the check. It is noticed, and its last picture encoded, before parts
/// come again.
const INTERRUPTED: [&str; 2] = ["comes-back", "grows"];

/// What `check-hls` allows for the machine (`--tolerance`); without one, its default.
type Tolerance = Option<&'static str>;
/// Encoders fill the machine.
const BUSY: Tolerance = Some("2s");
/// One encoder, one checker.
const ALONE: Tolerance = Some("500ms");
/// Over ten minutes no part may be later than for anybody else's stream.
const STRICT: Tolerance = None;

/// 25 a second, keyframes every two seconds.
const PLAIN: Pictures = Pictures { size: "320x180", rate: "25", group: "50", b_frames: "0" };

/// Streams by name, and what their pictures are: all frame rates, groups of half a second to ten, B-frames.
const ENCODERS: [(&str, Pictures); 5] = [
    ("25-half", Pictures { group: "12", ..PLAIN }),
    ("29-97-one", Pictures { rate: "30000/1001", group: "30", ..PLAIN }),
    ("30-b-frames", Pictures { rate: "30", group: "60", b_frames: "2", ..PLAIN }),
    ("50-four", Pictures { rate: "50", group: "200", ..PLAIN }),
    ("60-ten", Pictures { rate: "60", group: "600", ..PLAIN }),
];

/// A simulcast publisher's layers: rid and size.
const LAYERS: [(&str, (u32, u32)); 3] = [("f", (426, 240)), ("h", (320, 180)), ("q", (256, 144))];

fn publish(server: &Server, stream: &str, pictures: Option<Pictures>, sound: bool) -> Ffmpeg {
    let input =
        pictures.map(|Pictures { size, rate, .. }| format!("testsrc2=s={size}:r={rate},format=yuv420p"));
    let mut args = Vec::new();
    if let Some(input) = &input {
        args.extend(["-re", "-f", "lavfi", "-i", input]);
    }
    if sound {
        args.extend(&SOUND[..5]);
    }
    if let Some(Pictures { group, b_frames, .. }) = pictures {
        args.extend([
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-threads",
            "1",
            "-sc_threshold",
            "0",
            "-bf",
            b_frames,
        ]);
        args.extend([
            "-b:v",
            "300k",
            "-maxrate",
            "300k",
            "-bufsize",
            "300k",
            "-g",
            group,
            "-keyint_min",
            group,
        ]);
    }
    if sound {
        args.extend(&SOUND[5..]);
        args.push("64k");
    }
    Ffmpeg::publish_with(&args, &server.rtmp_url(stream))
}

/// Waits for the stream; gives its URL.
async fn playable(server: &Server, stream: &str) -> String {
    let url = server.url(&format!("/{stream}/index.m3u8"));
    eventually(&format!("{stream} can be played"), seconds(40), || async {
        (server.client.get(&url).send().await.ok()?.status() == 200).then_some(())
    })
    .await;
    url
}

/// Waits for the stream, checks it for `length`, and gives what is wrong with it.
async fn check(server: &Server, stream: &str, length: Duration, tolerance: Tolerance) -> Option<String> {
    let url = playable(server, stream).await;
    let mut command = Command::new(Server::binary());
    command.args(["check-hls", &url, "--json", "--seconds", &length.as_secs().to_string()]);
    command.args(tolerance.map(|tolerance| ["--tolerance", tolerance]).into_iter().flatten());
    command.env_remove("TIDEGATE_BIN");
    let mut process = Process::spawn(&format!("check-hls {stream}"), &mut command);
    let status = process.wait(length + seconds(60)).await.expect("the check ends");
    let log = process.log();
    let report: Value = serde_json::from_str(&log).unwrap_or_else(|error| panic!("{stream}: {error}: {log}"));
    let clean = report["broken"].as_array().is_some_and(Vec::is_empty);
    assert_eq!(status.code(), Some(if clean { 0 } else { 1 }), "{stream}: {log}");
    // It looked at much, so a clean report says something.
    let seen = report["seen"].as_array().expect("a list");
    let enough = |seen: &Value| {
        let at_least = |key: &str, least: u64| seen[key].as_u64().is_some_and(|count| count >= least);
        at_least("versions", length.as_secs())
            && at_least("files", 2 * length.as_secs())
            && at_least("probes", 15)
    };
    let enough = !seen.is_empty() && seen.iter().all(enough);
    (!clean || !enough)
        .then(|| format!("{stream}:\n{}", serde_json::to_string_pretty(&report).expect("JSON")))
}

/// All publishers of one quality at once, each checked for `length`.
async fn all(length: Duration, tolerance: Tolerance) {
    let _machine = machine().await;
    let server = Server::builder().env("TIDEGATE_HTTP_CONNECTIONS_PER_SOURCE", "2000").start().await;
    let encoders = ENCODERS.map(|(name, pictures)| publish(&server, name, Some(pictures), true));
    let single = [publish(&server, "sound", None, true), publish(&server, "silent", Some(PLAIN), false)];
    let mut comes_back = publish(&server, "comes-back", Some(PLAIN), true);
    let smaller = publish(&server, "grows", Some(PLAIN), true);
    let varying = json!({ "source": "flash", "varies": true, "width": 320, "height": 180 });
    let browser = Browser::publish(&server.url("/varies/whip"), varying).await;

    // How slow its pictures may come is known from then on; before, a part may exceed its target by less than one.
    let varies = playable(&server, "varies").await.replace("index", "video");
    eventually("the varying stream has varied", seconds(20), || async {
        let playlist = server.client.get(&varies).send().await.ok()?.text().await.ok()?;
        (playlist.matches("#EXTINF").count() >= 3).then_some(())
    })
    .await;
    let names =
        ENCODERS.iter().map(|(name, _)| *name).chain(["sound", "silent", "varies", "comes-back", "grows"]);
    let checks = names.map(|name| {
        let tolerance = if INTERRUPTED.contains(&name) { BUSY } else { tolerance };
        check(&server, name, length, tolerance)
    });
    let checks = futures_util::future::join_all(checks);
    let changes = async {
        playable(&server, "comes-back").await;
        playable(&server, "grows").await;
        // In the midst of the checks: time passes, nothing is awaited.
        tokio::time::sleep(length / 3).await;
        comes_back.process.kill();
        smaller.leave().await;
        let larger = publish(&server, "grows", Some(Pictures { size: "426x240", ..PLAIN }), true);
        tokio::time::sleep(seconds(2)).await;
        (publish(&server, "comes-back", Some(PLAIN), true), larger)
    };
    let (found, _publishers) = tokio::join!(checks, changes);
    let wrong: Vec<String> = found.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "broken lines:\n{}", wrong.join("\n"));
    drop((encoders, single, browser));
}

/// A simulcast publisher, a stream with a ladder, and Opus that stays Opus, each checked for `length`.
async fn several_renditions(length: Duration, tolerance: Tolerance) {
    let _machine = machine().await;
    let server = Server::builder()
        .env("TIDEGATE_HTTP_CONNECTIONS_PER_SOURCE", "2000")
        .env("TIDEGATE_HLS_AUDIO", "opus")
        .env("TIDEGATE_TRANSCODE_LADDER_FOR", "ladder=180p+144p+audio")
        .start()
        .await;
    let layers = Simulcast::start(&server, "layers", &LAYERS).await;
    let opus = Simulcast::single(&server, "opus", (320, 180)).await;
    let source = Pictures { size: "426x240", b_frames: "2", ..PLAIN };
    let ladder = publish(&server, "ladder", Some(source), true);
    for (name, variants, codec) in [("layers", 3, "opus"), ("opus", 1, "opus"), ("ladder", 4, "mp4a")] {
        let url = playable(&server, name).await;
        eventually(&format!("{name} has all its renditions"), seconds(40), || async {
            let text = server.client.get(&url).send().await.ok()?.text().await.ok()?;
            let listed = text.matches("#EXT-X-STREAM-INF:").count();
            (listed == variants && text.contains(codec)).then_some(())
        })
        .await;
    }
    let checks = ["layers", "opus", "ladder"].map(|name| check(&server, name, length, tolerance));
    let wrong: Vec<String> = futures_util::future::join_all(checks).await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "broken lines:\n{}", wrong.join("\n"));
    drop((layers, opus, ladder));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_line_is_broken_whatever_is_published() {
    all(seconds(25), BUSY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_part_of_a_stream_that_has_the_machine_to_itself_is_late() {
    let _machine = machine().await;
    let server = Server::start().await;
    let publisher = publish(&server, "plain", Some(PLAIN), true);
    let wrong = check(&server, "plain", seconds(25), ALONE).await;
    assert!(wrong.is_none(), "broken lines:\n{}", wrong.unwrap_or_default());
    drop(publisher);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_line_is_broken_by_several_renditions() {
    several_renditions(seconds(25), BUSY).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: make test-long"]
async fn long_no_line_is_broken_by_several_renditions_in_ten_minutes() {
    several_renditions(seconds(600), STRICT).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: make test-long"]
async fn long_no_line_is_broken_in_ten_minutes() {
    all(seconds(600), STRICT).await;
}
