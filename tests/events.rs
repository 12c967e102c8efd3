//! `GET /api/v1/events`: the life of a stream as it is told, and how a reader goes on where it was.

mod common;

use common::{ADMIN_TOKEN, EventStream, Ffmpeg, Hls, RtmpClient, Server, Source, Told, machine, seconds};
use serde_json::json;
use std::time::{Duration, Instant};

const EVENTS: &str = "/api/v1/events";

fn names(told: &[Told]) -> Vec<&str> {
    told.iter().map(|told| told.event.as_str()).collect()
}

/// `START-SEQUENCE` as numbers.
fn order(told: &Told) -> (u64, u64) {
    let (start, sequence) = told.id.as_deref().and_then(|id| id.split_once('-')).expect("an id");
    (start.parse().expect("a number"), sequence.parse().expect("a number"))
}

#[tokio::test]
async fn the_life_of_a_stream_is_told_and_can_be_read_again() {
    let _machine = machine().await;
    let mut server = Server::builder().env("TIDEGATE_STREAM_GRACE", "1s").start().await;
    let mut events = EventStream::open(server.api("GET", EVENTS)).await;
    let filter = format!("{EVENTS}?type=publisher,stream.ended&stream=other,show");
    let mut filtered = EventStream::open(server.api("GET", &filter)).await;
    let mut others = EventStream::open(server.api("GET", &format!("{EVENTS}?stream=other"))).await;

    // A publisher comes, is watched, falls silent, sends again, leaves.
    let publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    let mut told = events.until("stream.tracksChanged", seconds(15)).await;
    assert_eq!(names(&told)[0], "stream.started");
    let source = &told[0].data["data"]["source"];
    assert_eq!(source["kind"], "rtmp");
    assert!(source["remote"].as_str().is_some_and(|remote| remote.starts_with("127.0.0.1:")), "{source}");
    while told.last().expect("an event").data["data"]["tracks"].as_array().map(Vec::len) != Some(2) {
        told.extend(events.until("stream.tracksChanged", seconds(5)).await);
    }
    let tracks = &told.last().expect("an event").data["data"]["tracks"];
    assert_eq!(tracks[0], json!({ "kind": "video", "codec": "H.264", "width": 640, "height": 360 }));
    assert_eq!(tracks[1]["codec"], "AAC");
    let _viewer = Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(15)).await;
    told.extend(events.until("viewers.joined", seconds(10)).await);
    let joined = &told.last().expect("an event").data["data"];
    assert_eq!((&joined["threshold"], &joined["hls"], &joined["whep"]), (&json!(1), &json!(1), &json!(0)));
    let target = server.add_target("show", "rtmp://127.0.0.1:1/app/canary-key").await;
    let states = ["connecting", "retrying"];
    for (old, new) in [("waiting", states[0]), (states[0], states[1])] {
        told.extend(events.until("target.stateChanged", seconds(10)).await);
        let change = told.last().expect("an event").data["data"].clone();
        assert_eq!((change["old"].as_str(), change["new"].as_str()), (Some(old), Some(new)), "{change}");
        assert_eq!(change["target"]["id"], target["id"]);
        assert_eq!(change["failure"]["reason"].is_string(), new == "retrying", "{change}");
        assert!(!change.to_string().contains("canary"), "{change}");
    }
    publisher.process.signal("STOP");
    let silent = Instant::now();
    told.extend(events.until("stream.stalled", seconds(10)).await);
    // 3 s, and a little for the event's way here.
    let stalled = silent.elapsed();
    assert!(stalled <= Duration::from_millis(3300), "REL-01: stalled after {stalled:?}");
    publisher.process.signal("CONT");
    told.extend(events.until("stream.resumed", seconds(10)).await);
    publisher.leave().await;
    told.extend(events.until("stream.ended", seconds(10)).await);

    let last = told.last().expect("an event");
    assert!(last.data["data"]["videoFrames"].as_u64().is_some_and(|frames| frames > 5), "{last:?}");
    assert_eq!(names(&told).iter().filter(|name| **name == "publisher.left").count(), 1, "{told:?}");
    for pair in told.windows(2) {
        assert!(order(&pair[0]) < order(&pair[1]), "{pair:?}");
    }
    for told in &told {
        assert_eq!(told.data["id"].as_str(), told.id.as_deref());
        assert_eq!(
            (told.data["type"].as_str(), told.data["stream"].as_str()),
            (Some(&*told.event), Some("show"))
        );
        assert!(told.data["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{told:?}");
    }
    // A filter leaves out what it says.
    let some = filtered.until("stream.ended", seconds(5)).await;
    assert_eq!(names(&some), ["publisher.left", "stream.ended"]);

    // Who was away goes on behind the last event it knows, by header or query.
    let known = told[1].id.clone().expect("an id");
    let again = server.api("GET", &format!("{EVENTS}?after=1-1")).header("last-event-id", &known);
    let again = EventStream::open(again).await.until("stream.ended", seconds(5)).await;
    let ids = |told: &[Told]| told.iter().map(|told| told.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&again), ids(&told[2..]));
    let by_query = server.api("GET", &format!("{EVENTS}?after={known}"));
    let by_query = EventStream::open(by_query).await.until("stream.ended", seconds(5)).await;
    assert_eq!(ids(&by_query), ids(&told[2..]));
    // What is from before the start, or never was, is a gap; all that is there follows.
    for id in ["1-1", "99999999999999-1"] {
        let mut lost = EventStream::open(server.api("GET", EVENTS).header("last-event-id", id)).await;
        let gap = lost.next(seconds(5)).await.expect("a gap");
        assert_eq!((gap.event.as_str(), &gap.data["after"], gap.id), ("gap", &json!(id), None));
        assert_eq!(ids(&lost.until("stream.ended", seconds(5)).await), ids(&told));
    }

    // At the end all is told, readiness is gone at once, and the readers' streams end whole.
    let _publisher = Ffmpeg::publish(Source::VideoOnly, &server.rtmp_url("late"));
    events.until("stream.tracksChanged", seconds(15)).await;
    let terminated = Instant::now();
    server.process.signal("TERM");
    let ready = server.url("/readyz");
    let mut asked = Instant::now();
    while server.client.get(&ready).send().await.expect("it still serves").status() != 503 {
        asked = Instant::now();
    }
    // From the signal to the last request that was still answered with 200: our own waiting for a processor
    // is no fault of the server's.
    let unready = asked.duration_since(terminated);
    assert!(unready <= Duration::from_millis(100), "REL-09: ready for {unready:?}");
    let last = events.until("stream.ended", seconds(5)).await;
    assert_eq!(last.last().expect("an event").data["stream"], "late");
    // Targets end last.
    while let Some(after) = events.next(seconds(5)).await {
        let ends = after.event == "target.stateChanged" && after.data["data"]["new"] == "ended";
        assert!(ends, "{after:?}");
    }
    assert!(others.next(seconds(5)).await.is_none(), "nothing was told of a stream that never was");
    assert!(server.process.wait(seconds(10)).await.is_some_and(|status| status.success()));
}

#[tokio::test]
async fn a_reader_over_http_2_that_asks_for_nothing_else_is_not_cut_off() {
    let server = Server::start().await;
    let client = common::http_client().http2_prior_knowledge().build().expect("a client");
    let request = client.get(server.url(EVENTS)).bearer_auth(ADMIN_TOKEN);
    let mut response = request.send().await.expect("an answer");
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    let mut text = String::new();
    let mut more = async |wanted: &str, count: usize| {
        while text.matches(wanted).count() < count {
            let chunk = tokio::time::timeout(seconds(20), response.chunk()).await;
            let chunk = chunk.expect("a comment each 15 s").expect("an unbroken stream");
            text += std::str::from_utf8(&chunk.expect("more")).expect("text");
        }
    };
    let began = Instant::now();
    more("\n:\n", 2).await;
    assert!(began.elapsed() > seconds(25), "{:?}: long enough to be taken for idle", began.elapsed());
    let mut publisher = RtmpClient::connect(server.rtmp).await;
    publisher.publish("show").await;
    more("event: stream.started", 1).await;
}

#[tokio::test]
async fn wrong_questions_are_answered_with_what_would_be_right() {
    let server = Server::start().await;
    assert_eq!(server.get(EVENTS).await.status(), 401);
    for (query, word) in [
        ("?type=weather", "stream.tracksChanged"),
        ("?stream=a/b", "a/b"),
        ("?after=yesterday", "1764422024123-42"),
        ("?since=1", "since"),
    ] {
        let response = server.api("GET", &format!("{EVENTS}{query}")).send().await.expect("an answer");
        assert_eq!(response.status(), 400, "{query}");
        let document = response.text().await.expect("a body");
        assert!(document.contains(word), "{query}: {document}");
    }
    let head = server.api("HEAD", EVENTS).send().await.expect("an answer");
    assert_eq!(
        (head.status().as_u16(), head.headers()["content-type"].as_bytes()),
        (200, &b"text/event-stream"[..])
    );
}
