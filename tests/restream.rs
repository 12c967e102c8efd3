//! Streams are sent on to an RTMP target, which comes and goes while nobody else notices.

mod common;

use std::time::Instant;

use common::{Browser, Ffmpeg, Hls, Nginx, Server, Source, decode_errors, machine, packets, probe, seconds};
use serde_json::json;

#[tokio::test]
async fn rtmp_to_a_target_that_is_there_from_the_start() {
    let _machine = machine().await;
    let server = Server::builder().env("TIDEGATE_STREAM_GRACE", "2s").start().await;
    let target = Nginx::start().await;
    for source in [Source::Baseline, Source::BFrames] {
        let name = format!("{source:?}");
        let created = server.add_target(&name, &target.url(&name)).await;
        let id = created["id"].as_str().expect("an id");
        server.target_state(&name, id, "waiting", seconds(2)).await;
        let publisher = Ffmpeg::publish(source, &server.rtmp_url(&name));
        server.target_state(&name, id, "live", seconds(10)).await;
        target.recorded(&name, seconds(5)).await;
        publisher.leave().await;
        server.target_state(&name, id, "waiting", seconds(10)).await;
        check_recordings(&target, &name, 130).await;
    }
}

#[tokio::test]
async fn whip_to_a_target_that_is_added_while_the_show_runs() {
    let _machine = machine().await;
    let server = Server::start().await;
    let target = Nginx::start().await;
    let _publisher = Browser::publish(&server.url("/show/whip"), json!({ "source": "camera" })).await;
    Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(15)).await;

    let created = server.add_target("show", &target.url("show")).await;
    let id = created["id"].as_str().expect("an id").to_owned();
    let live = server.target_state("show", &id, "live", seconds(8)).await;
    assert!(!live.to_string().contains("/app/show"), "the key is hidden: {live}");
    target.recorded("show", seconds(5)).await;

    // DELETE answers once the target has been told that this is the end.
    let path = format!("/api/v1/streams/show/targets/{id}");
    let deleted = server.api("DELETE", &path).send().await.expect("an answer");
    assert!(deleted.status().is_success(), "{}", deleted.status());
    assert!(target.error_log().contains("deleteStream"), "ended cleanly:\n{}", target.error_log());
    let gone = server.api("GET", &path).send().await.expect("an answer");
    assert_eq!(gone.status(), 404);
    check_recordings(&target, "show", 60).await;
}

#[tokio::test]
async fn a_target_that_dies_is_retried_and_hls_goes_on() {
    let _machine = machine().await;
    let server = Server::start().await;
    let mut target = Nginx::start().await;
    let other = Nginx::start().await;
    let _publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    let hls = Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(15)).await;
    let video = hls.video.clone().expect("a video rendition");
    let id = |created: serde_json::Value| created["id"].as_str().expect("an id").to_owned();
    let dying = id(server.add_target("show", &target.url("dying")).await);
    let steady = id(server.add_target("show", &other.url("steady")).await);
    server.target_state("show", &dying, "live", seconds(8)).await;
    server.target_state("show", &steady, "live", seconds(8)).await;
    target.recorded("dying", seconds(2)).await;
    let (before, started) = (hls.playlist(&video).await, Instant::now());

    target.kill();
    let retrying = server.target_state("show", &dying, "retrying", seconds(10)).await;
    let text = retrying.to_string();
    assert!(text.contains("attempt") && text.contains("reason"), "{text}");
    // Down long enough for more than one attempt.
    common::eventually("a second attempt", seconds(10), || async {
        let view: serde_json::Value = server
            .api("GET", &format!("/api/v1/streams/show/targets/{dying}"))
            .send()
            .await
            .ok()?
            .json()
            .await
            .ok()?;
        let attempt =
            view.pointer("/state/attempt").or_else(|| view.pointer("/state/retrying/attempt"))?.as_u64()?;
        (attempt >= 2).then_some(())
    })
    .await;
    target.revive().await;
    server.target_state("show", &dying, "live", seconds(35)).await;
    target.recorded("dying", seconds(3)).await;

    // Neither HLS nor the other target noticed.
    let folder = tempfile::tempdir().expect("a folder");
    let (after, elapsed) = (hls.playlist(&video).await, started.elapsed());
    assert!(!after.text.contains("DISCONTINUITY\n") && !after.text.contains("GAP"), "{}", after.text);
    let made = (after.next_sequence() - before.next_sequence()) as f64 * 2.0;
    assert!(made > elapsed.as_secs_f64() - 4.0, "{made} s of HLS within {elapsed:?}");
    let file = hls.download(&video, folder.path(), "video").await;
    assert_no_hole(file.to_str().expect("a path")).await;
    let recordings = other.recordings("steady");
    assert_eq!(recordings.len(), 1, "one publication without a break");
    assert_no_hole(recordings[0].to_str().expect("a path")).await;
    check_recordings(&target, "dying", 30).await;
}

async fn assert_no_hole(path: &str) {
    let video = packets(path, "v").await;
    let hole = video.windows(2).find(|pair| pair[1].1 - pair[0].1 > 0.1);
    assert!(video.len() > 100 && hole.is_none(), "{} packets, hole {hole:?} in {path}", video.len());
}

/// The newest recording of `key` has both tracks in the right codecs, rising decoding times and no errors.
async fn check_recordings(target: &Nginx, key: &str, at_least: usize) {
    let file = target.recordings(key).pop().expect("a recording");
    let path = file.to_str().expect("a path");
    // nginx writes the last tags a moment after the publication.
    let whole = async || decode_errors(path).await.is_empty().then_some(());
    common::eventually("a recording without errors", seconds(5), whole).await;
    let found = probe(path).await;
    assert_eq!((found.video.as_deref(), found.audio.as_deref()), (Some("h264"), Some("aac")), "{found:?}");
    for kind in ["v", "a"] {
        let packets = packets(path, kind).await;
        assert!(packets.len() >= at_least, "{} packets of {kind} in {path}", packets.len());
        let back = packets.windows(2).find(|pair| pair[1].1 <= pair[0].1);
        assert!(back.is_none(), "decoding times of {kind} rise: {back:?}");
        if kind == "v" {
            assert!(packets[0].2, "it begins with a keyframe");
        }
    }
}
