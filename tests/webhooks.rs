//! Webhooks: what a receiver gets, in what order, and what one that fails costs.

mod common;

use common::{Receiver, Reply, RtmpClient, Server, ServerBuilder, eventually, machine, seconds};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::{Duration, Instant};

const WEBHOOKS: &str = "/api/v1/webhooks";
const LIFE: [&str; 3] = ["stream.started", "publisher.left", "stream.ended"];

/// A server whose streams end at once and whose deliveries are given up within a second or two.
fn quick() -> ServerBuilder {
    Server::builder()
        .env("TIDEGATE_STREAM_GRACE", "0s")
        .env("TIDEGATE_WEBHOOKS_EGRESS_ALLOW", "127.0.0.0/8")
        .env("TIDEGATE_WEBHOOKS_FIRST_RETRY", "100ms")
        .env("TIDEGATE_WEBHOOKS_TRIES", "3")
        .env("TIDEGATE_WEBHOOKS_TIMEOUT", "1s")
}

async fn add(server: &Server, body: Value) -> Value {
    let response = server.api("POST", WEBHOOKS).json(&body).send().await.expect("an answer");
    assert_eq!(response.status(), 201, "{}", response.text().await.unwrap_or_default());
    assert!(response.headers()["location"].to_str().is_ok_and(|path| path.starts_with(WEBHOOKS)));
    response.json().await.expect("JSON")
}

async fn ask(server: &Server, method: &str, path: &str) -> Value {
    let response = server.api(method, path).send().await.expect("an answer");
    assert!(response.status().is_success(), "{method} {path}: {}", response.status());
    response.json().await.expect("JSON")
}

fn path(webhook: &Value, below: &str) -> String {
    format!("{WEBHOOKS}/{}{below}", webhook["id"].as_str().expect("an id"))
}

/// A stream comes to life and is over.
async fn live_and_die(server: &Server, stream: &str) {
    let mut publisher = RtmpClient::connect(server.rtmp).await;
    publisher.publish(stream).await;
}

fn kinds(receiver: &Receiver, stream: &str) -> Vec<String> {
    let posts = receiver.posts();
    posts.iter().filter(|post| post.stream() == stream).map(|post| post.kind().to_owned()).collect()
}

async fn dead(server: &Server, webhook: &Value, count: usize) -> Vec<Value> {
    eventually(&format!("{count} dead deliveries"), seconds(20), || async {
        let list = ask(server, "GET", &path(webhook, "/deliveries?state=dead")).await;
        let items = list["items"].as_array()?.clone();
        (items.len() >= count).then_some(items)
    })
    .await
}

#[tokio::test]
async fn events_are_signed_in_order_and_tried_again() {
    let _machine = machine().await;
    let server = quick().start().await;
    // It fails twice for the first event of "a": what comes later of "a" waits, what comes of "b" does not.
    let mut failures = 0;
    let receiver = Receiver::start(move |post| match (post.stream(), post.kind()) {
        ("a", "stream.started") if failures < 2 => {
            failures += 1;
            Reply::Status(500)
        }
        _ => Reply::Status(204),
    })
    .await;
    // One that hangs, one that redirects to the good one, one that never ends its answer.
    let hanging = Receiver::start(|_| Reply::Nothing).await;
    let elsewhere = receiver.url("/redirected");
    let redirecting = Receiver::start(move |_| Reply::Redirect(elsewhere.clone())).await;
    let endless = Receiver::start(|_| Reply::Endless).await;
    let events = json!(["stream", "publisher"]);
    let good = add(&server, json!({ "url": receiver.url("/hook?canary=canary"), "events": events })).await;
    let stuck = add(&server, json!({ "url": hanging.url("/"), "events": ["stream.started"] })).await;
    let moved =
        add(&server, json!({ "url": redirecting.url("/"), "streams": ["a"], "events": events })).await;
    let chatty = add(&server, json!({ "url": endless.url("/"), "events": events })).await;
    let secret = good["secret"].as_str().expect("shown once").to_owned();

    let began = Instant::now();
    live_and_die(&server, "a").await;
    live_and_die(&server, "b").await;
    eventually("all is delivered to the one that answers", seconds(20), || async {
        (kinds(&receiver, "a").len() >= 5 && kinds(&receiver, "b").len() >= 3).then_some(())
    })
    .await;
    let took = began.elapsed();
    assert!(took < seconds(3), "one that hangs for 1 s at each attempt costs the others nothing: {took:?}");
    assert_eq!(
        kinds(&receiver, "a"),
        [&[LIFE[0]; 2][..], &LIFE[..]].concat(),
        "in order, the first tried thrice"
    );
    assert_eq!(kinds(&receiver, "b"), LIFE);
    let posts = receiver.posts();
    let position =
        |stream, kind| posts.iter().rposition(|post| post.stream() == stream && post.kind() == kind);
    assert!(position("b", LIFE[2]) < position("a", LIFE[2]), "b did not wait for a");
    let mut ids: HashMap<&str, Vec<&str>> = HashMap::new();
    for post in &posts {
        assert!(post.is_signed_with(&secret), "{post:?}");
        assert!(!post.is_signed_with("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
        assert_eq!(post.headers["content-type"], "application/json");
        assert_eq!(post.headers["webhook-id"], post.body["id"].as_str().expect("an id"));
        let stamped =
            std::time::UNIX_EPOCH + seconds(post.headers["webhook-timestamp"].parse().expect("seconds"));
        let age = post.at.duration_since(stamped).expect("not from the future");
        assert!(age < seconds(5), "{age:?}");
        ids.entry(post.kind()).or_default().push(&post.headers["webhook-id"]);
    }
    let started = &ids[LIFE[0]];
    assert!(
        started.iter().filter(|id| **id == started[0]).count() == 3,
        "the same id at each attempt: {started:?}"
    );

    // Those that fail say why, and nothing was redirected.
    let stuck_dead = dead(&server, &stuck, 2).await;
    assert!(
        stuck_dead.iter().all(|one| one["error"].as_str().is_some_and(|why| why.contains("1s"))),
        "{stuck_dead:?}"
    );
    assert!(stuck_dead.iter().all(|one| one["attempts"] == 3 && one["state"] == "dead"), "{stuck_dead:?}");
    let moved_dead = dead(&server, &moved, 3).await;
    assert!(moved_dead[0]["error"].as_str().is_some_and(|why| why.contains("302")), "{moved_dead:?}");
    assert_eq!(moved_dead.iter().map(|one| one["type"].clone()).collect::<Vec<_>>(), LIFE, "in order");
    assert!(redirecting.posts().iter().all(|post| post.stream() == "a"), "its filter holds");
    assert_eq!(receiver.posts().len(), posts.len());
    // An answer that never ends counts by its status, once.
    assert_eq!(kinds(&endless, "a"), LIFE);
    assert_eq!(ask(&server, "GET", &path(&chatty, "/deliveries")).await["itemCount"], 0);

    // A dead delivery is sent again when it is asked for.
    hanging.behave(|_| Reply::Status(200));
    let before = hanging.posts().len();
    let id = stuck_dead[0]["id"].as_i64().expect("an id");
    let again = server.api("POST", &path(&stuck, &format!("/deliveries/{id}/redeliver"))).send().await;
    assert_eq!(again.expect("an answer").status(), 202);
    eventually("it is delivered", seconds(5), || async { (hanging.posts().len() > before).then_some(()) })
        .await;
    eventually("it is forgotten", seconds(5), || async {
        (ask(&server, "GET", &path(&stuck, "/deliveries")).await["itemCount"] == 1).then_some(())
    })
    .await;
    let twice = server.api("POST", &path(&stuck, &format!("/deliveries/{id}/redeliver"))).send().await;
    assert_eq!(twice.expect("an answer").status(), 404, "it is dead no more");

    // What may be secret is shown by nothing.
    let list = ask(&server, "GET", WEBHOOKS).await.to_string();
    let metrics = server.api("GET", "/metrics").send().await.expect("an answer").text().await.expect("text");
    for text in [&list, &server.process.log(), &metrics] {
        assert!(!text.contains("canary") && !text.contains(&secret[6..]), "{text}");
    }
    assert!(metrics.contains("tidegate_webhook_attempts_total{result=\"dead\"} 5"), "{metrics}");
}

#[tokio::test]
async fn a_receiver_that_asks_for_rest_gets_it() {
    let server = quick().start().await;
    for status in [429, 503] {
        let mut asked = false;
        let receiver = Receiver::start(move |_| match std::mem::replace(&mut asked, true) {
            false => Reply::Busy(status, 3),
            true => Reply::Status(204),
        })
        .await;
        let events = json!(["stream.started"]);
        let webhook = add(&server, json!({ "url": receiver.url("/"), "events": events })).await;
        let stream = format!("s{status}");
        live_and_die(&server, &stream).await;
        let waiting = eventually("the first attempt has failed", seconds(5), || async {
            let list = ask(&server, "GET", &path(&webhook, "/deliveries")).await;
            (list["items"][0]["attempts"] == 1).then_some(list)
        })
        .await;
        let error = waiting["items"][0]["error"].as_str().expect("a reason");
        assert!(error.contains(&status.to_string()) && error.contains("3s"), "{error}");
        // Another stream's event waits, too: it is the receiver that has too much to do.
        live_and_die(&server, &format!("t{status}")).await;
        eventually("both are delivered", seconds(10), || async {
            (receiver.posts().len() == 3).then_some(())
        })
        .await;
        let posts = receiver.posts();
        let streams: Vec<&str> = posts.iter().map(|post| post.stream()).collect();
        assert_eq!(streams[0], stream);
        for post in &posts[1..] {
            let waited = post.at.duration_since(posts[0].at).expect("later");
            assert!(waited >= Duration::from_millis(2_900), "{waited:?} of 3 s, where 0.1 s are usual");
        }
        let removed = server.api("DELETE", &path(&webhook, "")).send().await.expect("an answer");
        assert_eq!(removed.status(), 204);
    }
}

#[tokio::test]
async fn webhooks_and_what_waits_survive_a_kill() {
    let server = quick().env("TIDEGATE_WEBHOOKS_TRIES", "10").start().await;
    let receiver = Receiver::start(|_| Reply::Status(503)).await;
    let body = json!({ "url": receiver.url("/"), "events": ["stream", "publisher"], "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" });
    let webhook = add(&server, body).await;
    live_and_die(&server, "show").await;
    eventually("all of it waits", seconds(10), || async {
        let list = ask(&server, "GET", &path(&webhook, "/deliveries?state=pending")).await;
        (list["itemCount"] == 3 && !receiver.posts().is_empty()).then_some(())
    })
    .await;
    let server = server.restart().await;
    receiver.behave(|_| Reply::Status(200));
    let known = ask(&server, "GET", &path(&webhook, "")).await;
    assert_eq!((&known["url"], &known["events"]), (&webhook["url"], &webhook["events"]));
    eventually("nothing waits any more", seconds(10), || async {
        (ask(&server, "GET", &path(&webhook, "/deliveries")).await["itemCount"] == 0).then_some(())
    })
    .await;
    let last = kinds(&receiver, "show");
    assert_eq!(last[last.len() - 3..], LIFE, "in order");
    assert!(
        receiver.posts().iter().all(|post| post.is_signed_with("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
    );
}

#[tokio::test]
async fn webhooks_are_created_tested_changed_and_deleted() {
    let server = quick().start().await;
    let receiver = Receiver::start(|_| Reply::Late(Duration::from_millis(50), 200)).await;
    let webhook = add(&server, json!({ "url": receiver.url("/one"), "enabled": false })).await;
    let test = ask(&server, "POST", &path(&webhook, "/test")).await;
    assert_eq!((&test["delivered"], &test["status"]), (&json!(true), &json!(200)), "{test}");
    assert!(test["tookMs"].as_u64().is_some_and(|took| took >= 50), "{test}");
    assert_eq!(receiver.posts()[0].kind(), "webhook.test");

    let change = |body: Value| server.api("PATCH", &path(&webhook, "")).json(&body).send();
    let changed = change(json!({ "enabled": true, "events": ["stream.started"] })).await.expect("an answer");
    assert_eq!(changed.status(), 200);
    let tag = changed.headers()["etag"].clone();
    let changed: Value = changed.json().await.expect("JSON");
    assert_eq!((&changed["enabled"], &changed["events"]), (&json!(true), &json!(["stream.started"])));
    assert!(changed["secret"].is_null(), "shown only when it is new: {changed}");
    let rotated: Value =
        change(json!({ "secret": null })).await.expect("an answer").json().await.expect("JSON");
    let secret = rotated["secret"].as_str().expect("a new one");
    assert_ne!(rotated["secret"], webhook["secret"]);
    let stale = server.api("PATCH", &path(&webhook, "")).header("if-match", &tag).json(&json!({}));
    assert_eq!(stale.send().await.expect("an answer").status(), 412);
    live_and_die(&server, "show").await;
    eventually("the event comes", seconds(5), || async { (receiver.posts().len() == 2).then_some(()) }).await;
    assert!(receiver.posts()[1].is_signed_with(secret));

    for (body, word) in [
        (json!({}), "url"),
        (json!({ "url": "ftp://example.net" }), "https://"),
        (json!({ "url": receiver.url("/"), "events": ["weather"] }), "stream.tracksChanged"),
        (json!({ "url": receiver.url("/"), "streams": ["a/b"] }), "a/b"),
        (json!({ "url": receiver.url("/"), "secret": "short" }), "whsec_"),
        (json!({ "url": receiver.url("/"), "color": "red" }), "color"),
        (json!({ "url": "http://192.168.1.1/" }), "webhooks.egress_allow"),
        (json!({ "url": server.url("/") }), "itself"),
    ] {
        let response = server.api("POST", WEBHOOKS).json(&body).send().await.expect("an answer");
        assert_eq!(response.status(), 422, "{body}");
        let text = response.text().await.expect("a body");
        assert!(text.contains(word), "{body}: {text}");
    }
    let deleted = server.api("DELETE", &path(&webhook, "")).send().await.expect("an answer");
    assert_eq!(deleted.status(), 204);
    for (method, below) in [("GET", ""), ("DELETE", ""), ("POST", "/test"), ("GET", "/deliveries")] {
        let gone = server.api(method, &path(&webhook, below)).send().await.expect("an answer");
        assert_eq!(gone.status(), 404, "{method} {below}");
    }
    assert_eq!(ask(&server, "GET", WEBHOOKS).await["itemCount"], 0);
}

#[tokio::test]
async fn nothing_is_sent_into_our_own_network_unless_it_is_allowed() {
    let server = Server::start().await;
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    let refused = server.api("POST", WEBHOOKS).json(&json!({ "url": receiver.url("/") })).send().await;
    assert_eq!(refused.expect("an answer").status(), 422);
    // A name is judged by what it resolves to, when it is sent to.
    let by_name = format!("http://localhost:{}/", receiver.port);
    let webhook = add(&server, json!({ "url": by_name })).await;
    let test = ask(&server, "POST", &path(&webhook, "/test")).await;
    assert_eq!(test["delivered"], false, "{test}");
    assert!(test["error"].as_str().is_some_and(|why| why.contains("webhooks.egress_allow")), "{test}");
    assert!(receiver.posts().is_empty());
}
