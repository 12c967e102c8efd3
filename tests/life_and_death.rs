//! How streams and the process end: politely, by force, without a word.

mod common;

use std::time::{Duration, Instant};

use common::{
    Browser, Ffmpeg, Hls, Nginx, Playlist, RtmpClient, Server, Source, eventually, machine, seconds,
};
use serde_json::json;

/// A publisher that has gone is found within this time.
const FOUND: Duration = Duration::from_secs(10);
/// HLS waits this long for the publisher's return before it ends.
const GRACE: Duration = Duration::from_secs(15);

#[tokio::test]
async fn when_an_rtmp_publisher_leaves_hls_ends_and_viewers_are_told() {
    let _machine = machine().await;
    let server = with_short_grace().await;
    let publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    let hls = Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(15)).await;
    let options = json!({ "endpoint": server.url("/show/whep"), "seconds": 0.2, "untilClosed": 20 });
    let mut viewer = Browser::start("view_whep", options);
    viewer.event("result", seconds(30)).await;
    publisher.leave().await;
    viewer.event("closed", GRACE + seconds(5)).await;
    ended(&server, &hls).await;
}

#[tokio::test]
async fn when_a_whip_publisher_leaves_hls_ends() {
    let _machine = machine().await;
    let server = with_short_grace().await;
    let mut publisher = Browser::publish(&server.url("/show/whip"), json!({ "source": "camera" })).await;
    let hls = Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(15)).await;
    publisher.command("delete");
    let deleted = publisher.event("deleted", seconds(5)).await;
    assert_eq!(deleted["status"], 200);
    ended(&server, &hls).await;
}

#[tokio::test]
async fn a_publisher_is_kicked_by_the_api() {
    let _machine = machine().await;
    let server = Server::start().await;
    let mut rtmp = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("rtmp"));
    let mut whip = Browser::publish(&server.url("/whip-in/whip"), json!({ "source": "camera" })).await;
    for name in ["rtmp", "whip-in"] {
        live(&server, name).await;
        let path = format!("/api/v1/streams/{name}/publisher");
        let response = server.api("DELETE", &path).send().await.expect("an answer");
        assert!(response.status().is_success(), "{name}: {}", response.status());
        not_live(&server, name, seconds(3)).await;
    }
    // The states before it may not have been read yet.
    while whip.event("transport", seconds(5)).await["state"] != "closed" {}
    assert!(rtmp.process.wait(seconds(5)).await.is_some(), "ffmpeg is told");
    // The name is free again.
    let _again = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("rtmp"));
    live(&server, "rtmp").await;
}

#[tokio::test]
async fn a_publisher_that_vanishes_is_found() {
    let _machine = machine().await;
    let server = Server::start().await;
    // Killed: the kernel still says goodbye. Stopped: nobody does.
    let mut killed = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("killed"));
    let stopped = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("stopped"));
    let mut browser = Browser::publish(&server.url("/browser/whip"), json!({ "source": "camera" })).await;
    for name in ["killed", "stopped", "browser"] {
        live(&server, name).await;
    }
    killed.process.kill();
    stopped.process.signal("STOP");
    browser.kill();
    for name in ["killed", "stopped", "browser"] {
        // One second more than promised: the three share one deadline.
        not_live(&server, name, FOUND).await;
    }
    stopped.process.signal("CONT");
}

#[tokio::test]
async fn a_second_publisher_is_refused_and_the_first_goes_on() {
    let _machine = machine().await;
    let server = Server::start().await;
    let _first = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    live(&server, "show").await;
    let code = RtmpClient::connect(server.rtmp).await.try_publish("show").await;
    assert_eq!(code, "NetStream.Publish.BadName");
    let mut second =
        Browser::start("publish", json!({ "endpoint": server.url("/show/whip"), "source": "camera" }));
    let failed = second.event_or_failure("connected", seconds(20)).await;
    assert!(failed["message"].as_str().is_some_and(|message| message.contains("answered 409")), "{failed}");
    let hls = Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(10)).await;
    let video = hls.video.clone().expect("a video rendition");
    let playlist = hls.wait_for(&video, seconds(4)).await;
    assert!(!playlist.text.contains("#EXT-X-DISCONTINUITY\n"), "{}", playlist.text);
}

#[tokio::test]
async fn sigterm_ends_everything_in_order() {
    let _machine = machine().await;
    let mut server = Server::builder().demo().start().await;
    let target = Nginx::start().await;
    let created = server.add_target("show", &target.url("show")).await;
    let id = created["id"].as_str().expect("an id").to_owned();
    let mut publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    let whip = Browser::publish(&server.url("/browser/whip"), json!({ "source": "camera" })).await;
    let hls = Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(15)).await;
    server.target_state("show", &id, "live", seconds(10)).await;
    let options = json!({ "endpoint": server.url("/demo/whep"), "seconds": 0.2, "untilClosed": 20 });
    let mut viewer = Browser::start("view_whep", options);
    viewer.event("result", seconds(30)).await;
    // A player that waits for the next part must not hold up the end.
    let video = hls.video.clone().expect("a video rendition");
    let next = hls.playlist(&video).await.next_sequence() + 1;
    let blocked = tokio::spawn(server.client.get(format!("{video}?_HLS_msn={next}")).send());

    let started = Instant::now();
    let status = server.terminate().await.expect("it ends within 10 s");
    assert_eq!(status.code(), Some(0), "after {:?}:\n{}", started.elapsed(), server.process.log());
    println!("ended {:?} after SIGTERM", started.elapsed());
    viewer.event("closed", seconds(5)).await;
    assert!(publisher.process.wait(seconds(5)).await.is_some(), "ffmpeg is told");
    assert!(target.error_log().contains("deleteStream"), "the target is told:\n{}", target.error_log());
    let _ = blocked.await.expect("the request does not panic");
    drop(whip);
    assert!(!server.process.log().contains("panicked"), "{}", server.process.log());
}

async fn with_short_grace() -> Server {
    Server::builder().env("TIDEGATE_STREAM_GRACE", "5s").start().await
}

async fn live(server: &Server, name: &str) {
    eventually(&format!("{name} is live"), seconds(15), || async {
        is_live(server, name).await.then_some(())
    })
    .await;
}

async fn not_live(server: &Server, name: &str, limit: Duration) {
    let started = Instant::now();
    eventually(&format!("{name} is not live"), limit, || async {
        (!is_live(server, name).await).then_some(())
    })
    .await;
    println!("{name} was gone after {:?}", started.elapsed());
}

/// Whether the stream has a publisher; within its grace it has none, but is still known.
async fn is_live(server: &Server, name: &str) -> bool {
    server.stream(name).await.is_some_and(|stream| !stream["source"].is_null())
}

/// The stream is not live and both its renditions end with ENDLIST.
async fn ended(server: &Server, hls: &Hls) {
    not_live(server, "show", FOUND).await;
    for (kind, rendition) in hls.renditions() {
        let playlist: Playlist = eventually(&format!("{kind} ends"), GRACE, || async {
            let playlist = hls.playlist(rendition).await;
            playlist.ended.then_some(playlist)
        })
        .await;
        // What is listed can still be fetched.
        let last = playlist.segments.last().expect("a segment");
        assert!(!hls.media(rendition, &last.uri).await.is_empty());
    }
}
