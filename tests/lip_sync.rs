//! Sound and picture of a WHEP viewer are together from its first second on, and stay so.
//!
//! Several viewers come one after the other, and what is printed is the median of |beep − flash| in each
//! second since the POST. In the long test the last viewer stays for ten minutes.

mod common;

use std::collections::BTreeMap;

use common::{Browser, Ffmpeg, Server, Source, json_number, machine, seconds};
use serde_json::{Value, json};

/// Viewers of one stream.
const VIEWERS: usize = 3;
/// Seconds that each stays.
const STAY: u64 = 8;
/// … and the last one in the long test.
const LONG: u64 = 600;
/// Milliseconds between sound and picture.
const LIMIT: f64 = 40.0;
/// The same where pictures are encoded again: browsers hold back sound that comes unsteadily by steps, and learn how long
/// from it.
const OF_ENCODED: f64 = 80.0;

#[tokio::test]
async fn from_whip() {
    whip(STAY).await;
}

#[tokio::test]
#[ignore = "long, 11 minutes: make test-long"]
async fn long_from_whip() {
    whip(LONG).await;
}

async fn whip(last_stays: u64) {
    let _machine = machine().await;
    let server = Server::start().await;
    let _publisher = Browser::publish(&server.url("/show/whip"), json!({ "source": "flash" })).await;
    stays_together(&server, "WHIP", last_stays, LIMIT).await;
}

#[tokio::test]
async fn from_rtmp() {
    rtmp(Source::Baseline, "RTMP", LIMIT).await;
}

/// The picture is decoded and encoded again for WHEP, which takes its time; the sound is not.
#[tokio::test]
async fn from_rtmp_with_b_frames() {
    rtmp(Source::BFrames, "RTMP with B-frames", OF_ENCODED).await;
}

async fn rtmp(sent: Source, source: &str, limit: f64) {
    let _machine = machine().await;
    let server = Server::start().await;
    let _publisher = Ffmpeg::publish(sent, &server.rtmp_url("show"));
    stays_together(&server, source, STAY, limit).await;
}

async fn stays_together(server: &Server, source: &str, last_stays: u64, limit: f64) {
    let mut offsets: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for viewer in 1..=VIEWERS {
        let stay = if viewer == VIEWERS { last_stays } else { STAY };
        let options = json!({ "endpoint": server.url("/show/whep"), "seconds": stay, "offset": true, "fromStart": true });
        let viewed = Browser::start("view_whep", options).event("result", seconds(stay + 40)).await;
        println!("{source}, viewer {viewer}: {}", viewed["offset"]["timed"]);
        for [at, offset] in timed(&viewed) {
            offsets.entry(at as u64).or_default().push(offset.abs());
        }
    }
    for (second, all) in &offsets {
        println!("{source}, second {second}: median |offset| {:.0} ms of {}", median(all), all.len());
    }
    let within = |from: u64, to: u64| {
        median(&offsets.range(from..to).flat_map(|(_, all)| all.clone()).collect::<Vec<_>>())
    };
    let last = offsets.keys().next_back().copied().unwrap_or(0);
    assert!(offsets.values().map(Vec::len).sum::<usize>() >= VIEWERS * 5, "too few flashes: {offsets:?}");
    assert!(within(0, 4) <= limit, "in the first seconds: {offsets:?}");
    assert!(within(last.saturating_sub(4), last + 1) <= limit, "in the last seconds: {offsets:?}");
    // From the time on that a browser needs to lay both side by side, in every half minute.
    for from in (30..last.saturating_sub(30)).step_by(30) {
        let apart = within(from, from + 30);
        println!("{source}, seconds {from} to {}: median |offset| {apart:.0} ms", from + 30);
        assert!(apart <= limit, "in the half minute from {from} s on: {apart} ms");
    }
}

/// `[seconds since the POST, milliseconds]` of each pair.
fn timed(viewed: &Value) -> Vec<[f64; 2]> {
    let pairs = viewed["offset"]["timed"].as_array().unwrap_or_else(|| panic!("no offsets: {viewed}"));
    pairs.iter().map(|pair| [json_number(pair, "/0"), json_number(pair, "/1")]).collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
