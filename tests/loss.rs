//! A network that loses, delays and breaks off: REL-12 and REL-13 of the failure modes, through the relay.
//!
//! `LOSS_SECONDS` makes the measured stretch of the loss tests longer than 30 s.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{
    Browser, Conditions, Direction, Hls, Relay, Server, decode_errors, json_number, machine, packets, seconds,
};
use serde_json::{Value, json};

/// Ticks of the source: 30 frames a second.
const FRAME: f64 = 1.0 / 30.0;

#[tokio::test]
async fn a_viewer_with_5_percent_loss_both_ways_does_not_freeze() {
    let _machine = machine().await;
    let server = Server::start().await;
    let relay = Relay::start(server.webrtc, 1);
    relay.set_both(Conditions::loss(0.05));
    let _publisher = Browser::publish(&server.url("/show/whip"), json!({ "source": "flash" })).await;
    let viewer = json!({ "relay": relay.port(), "seconds": stretch().as_secs(), "settle": 2 });
    let viewed = view(&server, viewer).await;
    println!(
        "WHEP, 5 %: {viewed}\nup {:?}\ndown {:?}",
        relay.counts(Direction::Up),
        relay.counts(Direction::Down)
    );
    let down = relay.counts(Direction::Down);
    assert!(down.lost * 30 > down.received, "the relay has lost its share: {down:?}");
    assert_eq!(json_number(&viewed, "/video/freezeCount"), 0.0, "{viewed}");
    assert!(
        json_number(&viewed, "/video/framesDecoded") > 25.0 * json_number(&viewed, "/seconds"),
        "{viewed}"
    );
}

#[tokio::test]
async fn hls_of_a_publisher_with_5_percent_loss_both_ways_is_whole() {
    let lost = hls_through(Conditions::loss(0.05), 2).await;
    assert!(lost.share() <= 0.005, "{lost:?}");
}

#[tokio::test]
async fn rel12_hls_of_a_publisher_with_10_percent_loss_is_whole() {
    let lost = hls_through(Conditions { delay: Duration::from_millis(25), ..Conditions::loss(0.1) }, 3).await;
    assert!(lost.share() <= 0.005, "{lost:?}");
}

#[tokio::test]
async fn rel12_hls_of_a_publisher_with_2_percent_loss_misses_nothing() {
    let lost =
        hls_through(Conditions { delay: Duration::from_millis(25), ..Conditions::loss(0.02) }, 4).await;
    assert_eq!(lost.missing, 0, "{lost:?}");
}

/// What HLS lacks of what the publisher sent.
#[derive(Debug)]
struct Lost {
    frames: usize,
    missing: usize,
}

impl Lost {
    fn share(&self) -> f64 {
        self.missing as f64 / (self.frames + self.missing) as f64
    }
}

/// Publishes through a relay and records HLS; ffmpeg must decode it without a complaint, and the publisher
/// be asked for a keyframe once a second at most.
async fn hls_through(conditions: Conditions, seed: u64) -> Lost {
    let _machine = machine().await;
    let server = Server::start().await;
    let relay = Relay::start(server.webrtc, seed);
    relay.set_both(conditions);
    // Another size would rightly be another epoch, and a discontinuity.
    let options = json!({ "source": "flash", "relay": relay.port(), "keepSize": true });
    let mut publisher = Browser::publish(&server.url("/show/whip"), options).await;
    let started = Instant::now();
    let hls = Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(15)).await;
    let skipped_before = skipped(&stats(&mut publisher).await);
    let folder = tempfile::tempdir().expect("a folder");
    let video = hls.video.as_ref().expect("pictures");
    let audio = hls.audio.as_ref().expect("sound");
    let (video, audio) = tokio::join!(
        hls.record(video, stretch(), folder.path(), "video"),
        hls.record(audio, stretch(), folder.path(), "audio"),
    );
    let sent = stats(&mut publisher).await;
    let elapsed = started.elapsed().as_secs_f64();
    let (up, down) = (relay.counts(Direction::Up), relay.counts(Direction::Down));
    for file in [&video, &audio] {
        assert_eq!(decode_errors(path(file)).await, "", "{file:?}");
    }
    let pictures = of_kind(&sent["outbound"]);
    let (plis, nacks) = (json_number(&pictures, "/pliCount"), json_number(&pictures, "/nackCount"));
    // What the encoder left out for want of bandwidth or processor time was never sent.
    let skipped = skipped(&sent) - skipped_before;
    let mut lost = missing(&video).await;
    lost.missing = lost.missing.saturating_sub(skipped as usize);
    println!(
        "HLS, {conditions:?}: {lost:?} = {:.2} % (the encoder skipped {skipped}); {elapsed:.0} s, {plis} PLI, {nacks} NACK, \
         up {up:?}, down {down:?}",
        lost.share() * 100.0,
    );
    assert!(
        up.lost as f64 > 0.7 * conditions.loss * up.received as f64,
        "the relay has lost its share: {up:?}"
    );
    assert!(plis <= elapsed + 1.0, "{plis} keyframe requests in {elapsed:.0} s");
    lost
}

async fn stats(publisher: &mut Browser) -> Value {
    publisher.command("stats");
    publisher.event("stats", seconds(5)).await
}

/// Frames of the source that the publisher has not encoded.
fn skipped(stats: &Value) -> f64 {
    let encoded = json_number(&of_kind(&stats["outbound"]), "/framesEncoded");
    json_number(&of_kind(&stats["source"]), "/frames") - encoded
}

/// Frames of a recording, and how many are missing between them by their times.
async fn missing(video: &Path) -> Lost {
    let mut times: Vec<f64> = packets(path(video), "v").await.iter().map(|(pts, ..)| *pts).collect();
    times.sort_by(f64::total_cmp);
    let missing = times.windows(2).map(|pair| ((pair[1] - pair[0]) / FRAME).round() as usize);
    Lost { frames: times.len(), missing: missing.map(|steps| steps.saturating_sub(1)).sum() }
}

#[tokio::test]
async fn rel13_a_viewer_with_jitter_and_reordering_stays_in_lip_sync() {
    let _machine = machine().await;
    let server = Server::start().await;
    let relay = Relay::start(server.webrtc, 5);
    let (delay, jitter) = (Duration::from_millis(10), Duration::from_millis(200));
    let bad = Conditions { delay, jitter, reordered: 0.05, ..Conditions::default() };
    relay.set(Direction::Down, bad);
    let _publisher = Browser::publish(&server.url("/show/whip"), json!({ "source": "flash" })).await;
    let viewer = json!({ "relay": relay.port(), "seconds": 15, "settle": 8, "offset": true });
    let viewed = view(&server, viewer).await;
    println!("WHEP, {bad:?}: {viewed}");
    assert!(relay.counts(Direction::Down).reordered > 50, "{:?}", relay.counts(Direction::Down));
    assert!(json_number(&viewed, "/offset/flashes") >= 10.0, "{viewed}");
    assert!(json_number(&viewed, "/offset/medianMs").abs() <= 80.0, "{viewed}");
}

#[tokio::test]
async fn rel13_a_viewer_sees_again_2_s_after_an_outage_of_its_own() {
    let _machine = machine().await;
    let server = Server::start().await;
    let relay = Relay::start(server.webrtc, 6);
    let _publisher = Browser::publish(&server.url("/show/whip"), json!({ "source": "flash" })).await;
    let mut viewer = watching(&server, json!({ "relay": relay.port() })).await;
    for outage in [1, 5] {
        recovers(&relay, &mut viewer, seconds(outage)).await;
    }
}

#[tokio::test]
async fn rel13_viewers_see_again_2_s_after_an_outage_of_the_publisher() {
    let _machine = machine().await;
    let server = Server::start().await;
    let relay = Relay::start(server.webrtc, 7);
    let options = json!({ "source": "flash", "relay": relay.port() });
    let _publisher = Browser::publish(&server.url("/show/whip"), options).await;
    let mut viewer = watching(&server, json!({})).await;
    for outage in [1, 5] {
        recovers(&relay, &mut viewer, seconds(outage)).await;
    }
}

/// A viewer that reports its frames.
async fn watching(server: &Server, mut options: Value) -> Browser {
    options["endpoint"] = server.url("/show/whep").into();
    options["progress"] = true.into();
    options["seconds"] = 60.into();
    let mut viewer = Browser::start("view_whep", options);
    viewer.event("playing", seconds(30)).await;
    while decoded(&mut viewer).await < 60.0 {}
    viewer
}

/// Cuts the relay for so long; a second's worth of frames must be there 2 s after it is joined again.
async fn recovers(relay: &Relay, viewer: &mut Browser, outage: Duration) {
    relay.outage(true);
    let (cut, mut before) = (Instant::now(), 0.0);
    while cut.elapsed() < outage {
        before = decoded(viewer).await;
    }
    relay.outage(false);
    let joined = Instant::now();
    while decoded(viewer).await < before + 5.0 {
        assert!(joined.elapsed() < seconds(10), "no picture 10 s after an outage of {outage:?}");
    }
    println!("outage of {outage:?}: pictures again after {:?}", joined.elapsed());
    assert!(joined.elapsed() < seconds(2), "pictures again after {:?}", joined.elapsed());
    let steady = decoded(viewer).await;
    while decoded(viewer).await < steady + 60.0 {}
}

async fn decoded(viewer: &mut Browser) -> f64 {
    json_number(&viewer.event("frames", seconds(5)).await, "/decoded")
}

async fn view(server: &Server, mut options: Value) -> Value {
    let limit = seconds(60) + stretch();
    options["endpoint"] = server.url("/show/whep").into();
    Browser::start("view_whep", options).event("result", limit).await
}

fn of_kind(entries: &Value) -> Value {
    let entries = entries.as_array().expect("a list");
    entries.iter().find(|entry| entry["kind"] == "video").cloned().expect("one for pictures")
}

fn path(file: &Path) -> &str {
    file.to_str().expect("a plain path")
}

/// How long is looked at.
fn stretch() -> Duration {
    seconds(std::env::var("LOSS_SECONDS").ok().and_then(|count| count.parse().ok()).unwrap_or(30))
}
