//! A publisher's pauses are filled: targets stay connected on one timeline, and HLS players play on.

mod common;

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{
    Browser, Ffmpeg, Hls, Nginx, Server, Source, decode_errors, eventually, json_number, machine, packets,
    seconds,
};
use serde_json::{Value, json};

/// Pictures are compared at this size.
const WIDTH: usize = 32;
const HEIGHT: usize = 18;
/// Mean difference of luma within which two pictures show the same.
const SAME: f64 = 1.5;

#[tokio::test]
async fn rel02_one_publication_through_blips_and_across_protocols() {
    let _machine = machine().await;
    let server = Server::builder().env("TIDEGATE_STREAM_GRACE", "60s").start().await;
    let target = Nginx::start().await;
    let created = server.add_target("show", &target.url("show")).await;
    let id = created["id"].as_str().expect("an id").to_owned();
    let first = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    server.target_state("show", &id, "live", seconds(10)).await;
    let file = target.recorded("show", seconds(3)).await;
    let begun = (Instant::now(), length(&file));

    // Shorter than a stall: nothing is held.
    first.process.signal("STOP");
    tokio::time::sleep(seconds(1)).await;
    first.process.signal("CONT");
    target.recorded("show", begun.1 + seconds(3)).await;
    assert_eq!(server.target_state("show", &id, "live", seconds(1)).await["state"]["held"], false);

    // A line that breaks for some seconds, and then brings all that was on its way.
    first.process.signal("STOP");
    let stopped = Instant::now();
    held(&server, &id, true, seconds(15)).await;
    tokio::time::sleep(seconds(4).saturating_sub(stopped.elapsed())).await;
    first.process.signal("CONT");
    held(&server, &id, false, seconds(15)).await;
    tokio::time::sleep(seconds(2)).await;

    // A publisher that dies; another comes from the same encoder, and then one from a browser.
    drop(first);
    held(&server, &id, true, seconds(15)).await;
    tokio::time::sleep(seconds(3)).await;
    let second = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    held(&server, &id, false, seconds(15)).await;
    tokio::time::sleep(seconds(2)).await;
    drop(second);
    held(&server, &id, true, seconds(15)).await;
    tokio::time::sleep(seconds(2)).await;
    let _third = Browser::publish(&server.url("/show/whip"), json!({ "source": "camera" })).await;
    held(&server, &id, false, seconds(15)).await;
    tokio::time::sleep(seconds(3)).await;
    let (wall, media) = (begun.0.elapsed(), length(&file) - begun.1);
    // The recording is whole once the target has been told of the end.
    let path = format!("/api/v1/streams/show/targets/{id}");
    let deleted = server.api("DELETE", &path).send().await.expect("an answer");
    assert!(deleted.status().is_success(), "{}", deleted.status());
    let path = file.to_str().expect("a path");
    eventually("a whole recording", seconds(10), async || {
        errors_of_decoders(path).await.is_empty().then_some(())
    })
    .await;

    assert_eq!(target.recordings("show").len(), 1, "one publication");
    let publications = target.error_log().matches("publish: name='show'").count();
    assert_eq!(publications, 1, "one publish command:\n{}", target.error_log());
    for kind in ["v", "a"] {
        let packets = packets(path, kind).await;
        let back = packets.windows(2).find(|pair| pair[1].1 <= pair[0].1);
        assert!(back.is_none(), "decoding times of {kind} rise: {back:?}");
        let steps = packets.windows(2).map(|pair| (pair[1].1 - pair[0].1, pair[0].1));
        let longest = steps.max_by(|one, other| one.0.total_cmp(&other.0)).expect("packets");
        println!(
            "{kind}: {} packets, the longest step {:.3} s at {:.3} s",
            packets.len(),
            longest.0,
            longest.1
        );
        assert!(longest.0 < 0.5, "no gap in {kind}: {longest:?}");
    }
    let drift = media.as_secs_f64() - wall.as_secs_f64();
    println!("{:.2} s of media in {:.2} s", media.as_secs_f64(), wall.as_secs_f64());
    assert!(drift.abs() < 1.0, "drift {drift:.3} s");

    // The pauses show what was shown last.
    let shown = pictures(path).await;
    let stills = stills(&shown);
    println!("stills: {stills:?}");
    assert_eq!(stills.len(), 3, "{stills:?}");
    for (begin, end) in stills {
        assert!(shown[end].0 - shown[begin].0 > 1.5, "held from {} to {}", shown[begin].0, shown[end].0);
        // A flash lasts 0.1 s, so one that stays is held; its first picture is the publisher's. Behind a flash, what
        // is held is like the picture before it, as far as pictures differ from one to the next.
        let is_flash = |index: usize| mean(&shown[index].1) > 200.0;
        let before = (0..begin).rev().find(|index| !is_flash(*index)).expect("a picture before");
        let difference = difference(&shown[before].1, &shown[begin].1);
        let most = 4.0 * (begin - before) as f64;
        assert!(
            is_flash(begin) || difference < most,
            "the last picture stays: {difference:.2} at {}",
            shown[begin].0
        );
    }
}

#[tokio::test]
async fn rel02_a_slate_is_shown_also_to_a_target_that_comes_during_the_pause() {
    let _machine = machine().await;
    let folder = tempfile::tempdir().expect("a folder");
    let slate = folder.path().join("slate.png");
    let arguments = ["-v", "error", "-f", "lavfi", "-i", "color=red:s=320x180", "-frames:v", "1"];
    let drawn = std::process::Command::new("ffmpeg").args(arguments).arg(&slate).status();
    assert!(drawn.is_ok_and(|status| status.success()), "a slate");
    let server = Server::builder()
        .env("TIDEGATE_STREAM_GRACE", "8s")
        .env("TIDEGATE_STREAM_HOLD", "slate")
        .env("TIDEGATE_STREAM_SLATE", slate.to_str().expect("a path"))
        .start()
        .await;
    let target = Nginx::start().await;
    let publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    // Media flow already when a target is live.
    let early = server.add_target("show", &target.url("early")).await;
    server.target_state("show", early["id"].as_str().expect("an id"), "live", seconds(10)).await;
    target.recorded("early", seconds(3)).await;
    publisher.leave().await;
    let late = server.add_target("show", &target.url("late")).await;
    let id = late["id"].as_str().expect("an id");
    let live = server.target_state("show", id, "live", seconds(5)).await;
    assert_eq!(live["state"]["held"], true, "{live}");
    let file = target.recorded("late", seconds(3)).await;
    // At the end of the grace the connection ends as a show does.
    server.target_state("show", id, "waiting", seconds(12)).await;
    assert!(target.error_log().matches("deleteStream").count() >= 2, "{}", target.error_log());
    let path = file.to_str().expect("a path");
    eventually("a whole recording", seconds(5), async || decode_errors(path).await.is_empty().then_some(()))
        .await;
    let video = packets(path, "v").await;
    assert!(video[0].2, "it begins with a keyframe");
    let luma: Vec<_> = pictures(path).await.iter().map(|(_, picture)| mean(picture)).collect();
    // Red, 1280x720's shape like the stream's: no borders.
    assert!(luma.len() > 25 && luma.iter().all(|luma| (70.0..95.0).contains(luma)), "{luma:?}");
    assert!(packets(path, "a").await.len() > 120, "and silence");
}

#[tokio::test]
async fn rel02_hls_plays_through_a_blip_without_a_reload() {
    let _machine = machine().await;
    let server = Server::builder().env("TIDEGATE_STREAM_GRACE", "60s").start().await;
    let publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    let url = server.url("/show/index.m3u8");
    let hls = Hls::open(&server.client, &url, seconds(15)).await;
    let video = hls.video.clone().expect("a video rendition");
    let mut viewer = Browser::start("view_hls", json!({ "url": url, "seconds": 16, "clock": true }));
    viewer.event("playing", seconds(20)).await;
    let mut reader = tokio::process::Command::new("ffmpeg");
    let arguments = ["-v", "error", "-nostdin", "-i", &url, "-t", "14", "-f", "null", "-"];
    let reader = tokio::spawn(reader.args(arguments).kill_on_drop(true).output());
    tokio::time::sleep(seconds(4)).await;
    let sequence = hls.playlist(&video).await.next_sequence();
    drop(publisher);
    let gone = now();
    tokio::time::sleep(seconds(5)).await;
    let playlist = hls.playlist(&video).await;
    assert!(playlist.next_sequence() >= sequence + 2 && !playlist.ended, "it goes on:\n{}", playlist.text);
    let _publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    let viewed = viewer.event("result", seconds(40)).await;
    let back = now();

    let playlist = hls.playlist(&video).await;
    let discontinuities = playlist.text.matches("#EXT-X-DISCONTINUITY\n").count();
    assert!((1..=2).contains(&discontinuities), "one as the hold begins, one as it ends:\n{}", playlist.text);
    let stood = longest_standstill(&viewed, gone, back);
    println!("standstill {stood:.2} s, latency {}", json_number(&viewed, "/latency"));
    assert!(stood < 1.0, "{stood:.2} s without progress: {viewed}");
    assert!(json_number(&viewed, "/advanced") > 14.0, "{viewed}");
    let fatal =
        viewed["errors"].as_array().and_then(|errors| errors.iter().find(|error| error["fatal"] == true));
    assert!(fatal.is_none(), "{viewed}");
    let output = tokio::time::timeout(seconds(30), reader).await.expect("it ends").expect("no panic");
    assert!(output.expect("it runs").status.success(), "ffmpeg reads on");
}

/// What decoders complain of. ffmpeg's parser in front of them goes on with the first of the configurations
/// that a recording has one after the other, and complains of what fits the next.
async fn errors_of_decoders(path: &str) -> String {
    let errors = decode_errors(path).await;
    let of_parser = |line: &&str| line.starts_with("[NULL @") || line.contains("Last message repeated");
    errors.lines().filter(|line| !of_parser(line)).collect::<Vec<_>>().join("\n")
}

/// Waits until the target is live with what a hold sends, or with the publisher's own.
async fn held(server: &Server, id: &str, wanted: bool, limit: Duration) {
    eventually(&format!("held: {wanted}"), limit, || async {
        let view = server.target_state("show", id, "live", seconds(1)).await;
        (view["state"]["held"] == wanted).then_some(())
    })
    .await;
}

/// Milliseconds of the day's clock, as the browser has it.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64() * 1000.0
}

/// Seconds of playback's longest standstill between two times.
fn longest_standstill(viewed: &Value, from: f64, to: f64) -> f64 {
    let samples = viewed["clock"].as_array().expect("samples");
    let of = |sample: &Value, index: usize| sample[index].as_f64().expect("a number");
    let (mut longest, mut since) = (0.0f64, None);
    for pair in samples.windows(2) {
        let (time, moved) = (of(&pair[1], 0), of(&pair[1], 1) > of(&pair[0], 1));
        if !(from..to).contains(&time) || moved {
            since = None;
            continue;
        }
        let since = *since.get_or_insert(of(&pair[0], 0));
        longest = longest.max((time - since) / 1000.0);
    }
    longest
}

/// The media time that a recording holds so far.
fn length(file: &Path) -> Duration {
    common::recorded_length(file).expect("media")
}

/// The pictures of a recording, small, with their times in seconds.
async fn pictures(path: &str) -> Vec<(f64, Vec<u8>)> {
    let mut times: Vec<f64> = packets(path, "v").await.into_iter().map(|(pts, ..)| pts).collect();
    times.sort_by(f64::total_cmp);
    let filter = format!("scale={WIDTH}:{HEIGHT}:flags=area,format=gray");
    let output = tokio::process::Command::new("ffmpeg")
        .args(["-v", "error", "-i", path, "-vf", &filter, "-fps_mode", "passthrough", "-f", "rawvideo", "-"])
        .output()
        .await
        .expect("ffmpeg runs");
    let pictures: Vec<_> = output.stdout.chunks_exact(WIDTH * HEIGHT).map(<[u8]>::to_vec).collect();
    assert_eq!(pictures.len(), times.len(), "every packet gives a picture");
    times.into_iter().zip(pictures).collect()
}

/// First and last number of the pictures of each stretch of more than a second in which nothing moves.
fn stills(shown: &[(f64, Vec<u8>)]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut begin = 0;
    for number in 1..=shown.len() {
        let moves =
            shown.get(number).is_none_or(|(_, picture)| difference(picture, &shown[number - 1].1) > SAME);
        if moves {
            if shown[number - 1].0 - shown[begin].0 > 1.0 {
                found.push((begin, number - 1));
            }
            begin = number;
        }
    }
    found
}

fn difference(one: &[u8], other: &[u8]) -> f64 {
    let sum: u64 = one.iter().zip(other).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / one.len() as f64
}

fn mean(picture: &[u8]) -> f64 {
    picture.iter().map(|&pixel| f64::from(pixel)).sum::<f64>() / picture.len() as f64
}
