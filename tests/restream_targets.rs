//! Restream targets through the API: made, changed, paused, tried, kept over a killed process, and never with a
//! word of their keys.

mod common;

use std::time::Instant;

use common::{
    EventStream, Ffmpeg, MediaServer, Nginx, Receiver, Reply, Server, Source, eventually, machine, seconds,
    state_of,
};
use serde_json::{Value, json};

const TARGETS: &str = "/api/v1/streams/show/targets";

#[tokio::test]
async fn a_target_is_made_changed_paused_and_tried() {
    let server = Server::start().await;
    let mut target = Nginx::start().await;
    let body = json!({ "url": target.url("one"), "name": "Main", "enabled": false, "audioBitrate": 96_000 });
    let response = server.api("POST", TARGETS).json(&body).send().await.expect("an answer");
    assert_eq!(response.status(), 201);
    let tag = response.headers()["etag"].to_str().expect("text").to_owned();
    let created: Value = response.json().await.expect("JSON");
    let path = format!("{TARGETS}/{}", created["id"].as_str().expect("an id"));
    assert_eq!((state_of(&created).as_str(), &created["audioBitrate"]), ("disabled", &json!(96_000)));
    assert_eq!((&created["enabled"], &created["stream"]), (&json!(false), &json!("show")));

    // A publisher comes, and nothing is sent: it is paused.
    let _publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    eventually("the show runs", seconds(15), || async { server.stream("show").await }).await;
    let renamed = patch(&server, &path, json!({ "name": null }), None).await;
    assert_eq!((&renamed.1["name"], state_of(&renamed.1)), (&json!("127.0.0.1"), "disabled".to_owned()));
    let stale = patch(&server, &path, json!({ "enabled": true }), Some(&tag)).await;
    assert_eq!((stale.0, &stale.1["code"]), (412, &json!("stale-entity-tag")), "{}", stale.1);
    let now = renamed.2.expect("a tag");
    let begun = patch(&server, &path, json!({ "enabled": true }), Some(&now)).await;
    assert_eq!((begun.0, &begun.1["enabled"]), (200, &json!(true)), "{}", begun.1);
    let live = server.target_state("show", created["id"].as_str().expect("an id"), "live", seconds(15)).await;
    assert!(live["lastError"].is_null() && live["nextTry"].is_null(), "{live}");

    // Another key: another publication, after a clean end of the first. A name changes no connection.
    let moved = patch(&server, &path, json!({ "url": target.url("two") }), None).await;
    assert_eq!(moved.0, 200, "{}", moved.1);
    assert!(target.error_log().contains("deleteStream"), "the first has ended:\n{}", target.error_log());
    let id = created["id"].as_str().expect("an id");
    server.target_state("show", id, "live", seconds(15)).await;
    let file = target.recorded("two", seconds(2)).await;
    patch(&server, &path, json!({ "name": "Second" }), None).await;
    target.recorded("two", seconds(4)).await;
    assert_eq!(target.recordings("two"), std::slice::from_ref(&file), "still the same publication");

    for (body, field) in [
        (json!({ "audioBitrate": 5 }), "audioBitrate"),
        (json!({ "url": null }), "url"),
        (json!({ "url": "http://x" }), "rtmp://"),
        (json!({ "state": "live" }), "state"),
        (json!({ "enabled": "no" }), "enabled"),
    ] {
        let refused = patch(&server, &path, body, None).await;
        let detail = refused.1["detail"].as_str().unwrap_or_default();
        assert!(refused.0 == 422 && detail.contains(field), "{}", refused.1);
    }

    // A test goes as far as it disturbs nobody; of a paused target it goes all the way.
    let steps = |trial: &Value| -> Vec<String> {
        let steps = trial["steps"].as_array().expect("steps").iter();
        steps.map(|step| format!("{} {}", step["step"].as_str().expect("a step"), step["outcome"])).collect()
    };
    let test = format!("{path}/test");
    let trial: Value = server.api("POST", &test).send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(steps(&trial).last().map(String::as_str), Some("publish \"skipped\""), "{trial}");
    let paused = patch(&server, &path, json!({ "enabled": false }), None).await;
    assert_eq!(state_of(&paused.1), "disabled", "it has ended: {}", paused.1);
    let trial: Value = server.api("POST", &test).send().await.expect("an answer").json().await.expect("JSON");
    let passed =
        ["nameResolution", "tcp", "handshake", "connect", "publish"].map(|step| format!("{step} \"passed\""));
    assert_eq!((steps(&trial), &trial["ok"]), (passed.to_vec(), &json!(true)), "{trial}");
    assert!(trial["steps"][1]["milliseconds"].as_f64().is_some_and(|time| time >= 0.0), "{trial}");
    target.kill();
    let trial: Value = server.api("POST", &test).send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(steps(&trial).last().map(String::as_str), Some("tcp \"failed\""), "{trial}");
    assert_eq!(trial["error"]["class"], "refused", "{trial}");

    // Media must not run in circles, whatever is allowed.
    let circle = server.add_target("show", &server.rtmp_url("circle")).await;
    let failing =
        server.target_state("show", circle["id"].as_str().expect("an id"), "failing", seconds(10)).await;
    assert_eq!(failing["lastError"]["class"], "notAllowed", "{failing}");

    // The sound went out with its own bitrate, the video as it came.
    let found = common::probe(file.to_str().expect("a path")).await;
    assert_eq!((found.video.as_deref(), found.audio.as_deref()), (Some("h264"), Some("aac")), "{found:?}");
    let rate = audio_bitrate(file.to_str().expect("a path")).await;
    assert!((80_000.0..112_000.0).contains(&rate), "{rate} bits a second");
}

#[tokio::test]
async fn rel10_targets_are_there_again_after_a_kill() {
    let _machine = machine().await;
    let mut server = Server::builder().env("TIDEGATE_STREAM_GRACE", "2s").start().await;
    let target = Nginx::start().await;
    let created = server.add_target("show", &target.url("kept")).await;
    let paused = server.add_target("show", &target.url("paused")).await;
    let gone = server.add_target("show", &target.url("gone")).await;
    let path = |target: &Value| format!("{TARGETS}/{}", target["id"].as_str().expect("an id"));
    patch(&server, &path(&paused), json!({ "enabled": false, "name": "Break" }), None).await;
    let deleted = server.api("DELETE", &path(&gone)).send().await.expect("an answer");
    assert_eq!(deleted.status(), 204);
    let publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    let id = created["id"].as_str().expect("an id").to_owned();
    server.target_state("show", &id, "live", seconds(15)).await;

    drop(publisher);
    server = server.restart().await;
    let list: Value = server.api("GET", TARGETS).send().await.expect("an answer").json().await.expect("JSON");
    let items = list["items"].as_array().expect("items");
    let states: Vec<_> = items.iter().map(|item| (item["id"].clone(), state_of(item))).collect();
    let wanted = [(created["id"].clone(), "waiting".into()), (paused["id"].clone(), "disabled".into())];
    assert_eq!(states, wanted, "{list}");
    assert_eq!((&items[1]["name"], &items[0]["createdAt"]), (&json!("Break"), &created["createdAt"]));
    let _publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    eventually("the publisher is back", seconds(15), || async {
        server.stream("show").await.filter(|stream| !stream["source"].is_null())
    })
    .await;
    let back = Instant::now();
    // nginx may still hold the name for the session that was killed.
    server.target_state("show", &id, "live", seconds(20)).await;
    println!("live {:?} after the publisher's return", back.elapsed());
    assert!(back.elapsed() < seconds(5), "{:?}", back.elapsed());
}

#[tokio::test]
async fn what_was_typed_arrives_as_typed() {
    let server = Server::start().await;
    let media_server = MediaServer::start().await;
    let port = media_server.port();
    let _publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    eventually("the show runs", seconds(15), || async { server.stream("show").await }).await;
    for (authority, app, key) in [
        ("", "live", "plain"),
        ("", "live/with/slashes", "k-e_y.~!$&'()*+,;=:@%20%2F#x"),
        ("user:p@ss:word@", "app", "key?sign=a/b+c==&e=%26&u=ü"),
    ] {
        let url = format!("rtmp://{authority}127.0.0.1:{port}/{app}/{key}");
        let (connects, publishes) =
            (media_server.events("connect").len(), media_server.events("publish").len());
        let created = server.add_target("show", &url).await;
        let id = created["id"].as_str().expect("an id");
        server.target_state("show", id, "live", seconds(20)).await;
        let connect = &media_server.events("connect")[connects];
        // The server takes the first slash out of its copy.
        assert_eq!(connect["tcUrl"], format!("rtmp://{authority}127.0.0.1:{port}/{app}"), "{connect}");
        assert_eq!(media_server.events("publish")[publishes]["name"], key);
        eventually("media arrive", seconds(5), || async {
            (media_server.events("media").len() > publishes).then_some(())
        })
        .await;
        let path = format!("{TARGETS}/{id}");
        assert_eq!(server.api("DELETE", &path).send().await.expect("an answer").status(), 204);
        eventually("it is told of the end", seconds(3), || async {
            (media_server.events("done").len() > publishes).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn no_word_of_a_key_is_ever_shown() {
    let mut server = Server::builder()
        .env("TIDEGATE_LOG", "tidegate=trace,info")
        .env("TIDEGATE_STREAM_GRACE", "1s")
        .env("TIDEGATE_METRICS_PER_STREAM", "true")
        .env("TIDEGATE_WEBHOOKS_EGRESS_ALLOW", "127.0.0.0/8")
        .start()
        .await;
    let target = Nginx::start().await;
    let receiver = Receiver::start(|_| Reply::Status(204)).await;
    let nobody = "http://127.0.0.1:1/canary20?canary21=canary22".to_owned();
    for url in [receiver.url("/canary19"), nobody] {
        let body = json!({ "url": url, "streams": ["show"] });
        let added = server.api("POST", "/api/v1/webhooks").json(&body).send().await.expect("an answer");
        assert_eq!(added.status(), 201);
    }
    let good = format!("rtmp://canary1:canary2@127.0.0.1:{}/app/canary3?canary4=canary5", target.port());
    let mut shown = Vec::new();
    for url in [
        good.as_str(),
        "rtmp://127.0.0.1:1/app/canary6",
        "rtmps://127.0.0.1:1/app?canary7=canary8/canary9",
        "rtmp://canary10.invalid@nowhere.invalid/app/canary11",
        "twitch://canary12",
        "rtmp://10.0.0.1/app/canary13",
    ] {
        // A service's own ingest is never connected to from a test.
        let body = json!({ "url": url, "enabled": !url.starts_with("twitch") });
        let response = server.api("POST", TARGETS).json(&body).send().await.expect("an answer");
        assert_eq!(response.status(), 201);
        shown.push(format!("{:?}", response.headers()));
        shown.push(response.text().await.expect("text"));
    }
    for url in [
        "rtmp://host/canary14",
        "http://host/app/canary15",
        "rtmp://host/app/canary16 x",
        "twitch://canary17/x",
    ] {
        let response =
            server.api("POST", TARGETS).json(&json!({ "url": url })).send().await.expect("an answer");
        assert_eq!(response.status(), 422);
        shown.push(response.text().await.expect("text"));
    }
    let publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    let list = async |server: &Server| -> Value {
        server.api("GET", TARGETS).send().await.expect("an answer").json().await.expect("JSON")
    };
    eventually("each target has got somewhere", seconds(25), async || {
        let all = list(&server).await;
        let items = all["items"].as_array()?.clone();
        let tried = |item: &Value| {
            ["live", "disabled"].contains(&state_of(item).as_str()) || !item["lastError"].is_null()
        };
        items.iter().all(tried).then_some(())
    })
    .await;
    let all = list(&server).await;
    for item in all["items"].as_array().expect("items").iter().take(4) {
        let path = format!("{TARGETS}/{}", item["id"].as_str().expect("an id"));
        let trial = server.api("POST", &format!("{path}/test")).send().await.expect("an answer");
        shown.push(trial.text().await.expect("text"));
        let changed = patch(&server, &path, json!({ "url": "rtmp://127.0.0.1:1/app/canary18" }), None).await;
        shown.push(changed.1.to_string());
    }
    for path in ["/", "/show", "/live", "/show/publish", "/metrics"] {
        shown.push(server.get(path).await.text().await.expect("text"));
    }
    let open_metrics = server.api("GET", "/metrics").header("accept", "application/openmetrics-text");
    shown.push(open_metrics.send().await.expect("an answer").text().await.expect("text"));
    for path in
        ["/metrics", "/api/v1/streams", "/api/v1/streams/show", "/api/v1/info", "/api/v1/sessions", TARGETS]
    {
        let response = server.api("GET", path).send().await.expect("an answer");
        assert_eq!(response.status(), 200, "{path}");
        shown.push(response.text().await.expect("text"));
    }
    drop(publisher);
    // All that has happened, as it is told: each target has changed its state, and most have failed.
    let mut events = EventStream::open(server.api("GET", "/api/v1/events?after=1-1")).await;
    let told = events.until("stream.ended", seconds(15)).await;
    let failures = told.iter().filter(|told| told.data["data"]["failure"].is_object()).count();
    assert!(failures >= 4, "{told:?}");
    shown.extend(told.iter().map(|told| format!("{told:?}")));
    let posts = eventually("the webhook has heard the end", seconds(15), async || {
        let posts = receiver.posts();
        posts.iter().any(|post| post.kind() == "stream.ended").then_some(posts)
    })
    .await;
    let failures = posts.iter().filter(|post| post.body["data"]["failure"].is_object()).count();
    assert!(failures >= 4, "{posts:?}");
    // The path is the receiver's own affair; what it is sent is not.
    shown.extend(posts.iter().map(|post| format!("{:?} {}", post.headers, post.text)));
    let webhooks = server.api("GET", "/api/v1/webhooks").send().await.expect("an answer");
    let webhooks: Value = webhooks.json().await.expect("JSON");
    for webhook in webhooks["items"].as_array().expect("items") {
        let path = format!("/api/v1/webhooks/{}/deliveries", webhook["id"].as_str().expect("an id"));
        let deliveries = server.api("GET", &path).send().await.expect("an answer");
        shown.push(deliveries.text().await.expect("text"));
    }
    shown.push(webhooks.to_string());
    shown.push(server.process.log());
    server = server.restart().await;
    shown.push(list(&server).await.to_string());
    assert!(server.terminate().await.is_some_and(|status| status.success()));
    shown.push(server.process.log());
    for text in shown {
        assert!(
            !text.contains("canary"),
            "{}",
            text.lines().find(|line| line.contains("canary")).unwrap_or(&text)
        );
    }
    // They are kept where they must be, and there only: in a file that nobody else can read.
    use std::os::unix::fs::PermissionsExt;
    for entry in std::fs::read_dir(server.state_dir()).expect("there").flatten() {
        let holds = String::from_utf8_lossy(&std::fs::read(entry.path()).expect("ours")).contains("canary");
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(!holds || name.starts_with("tidegate.db"), "{name}");
        assert_eq!(entry.metadata().expect("there").permissions().mode() & 0o077, 0, "{name}");
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_used_is_an_error_at_start() {
    let server = Server::start().await;
    let second = second_start(server.state_dir());
    assert!(second.contains("tidegate.db") && second.contains("another process"), "{second}");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("tidegate.db"), "no database ".repeat(100)).expect("written");
    let damaged = second_start(folder.path());
    assert!(damaged.contains("tidegate.db") && damaged.contains("damaged"), "{damaged}");
}

/// What a server says that is started with this state folder, and ends at once.
fn second_start(state: &std::path::Path) -> String {
    let output = std::process::Command::new("timeout")
        .arg("15")
        .arg(Server::binary())
        .args([
            "--http-listen",
            "127.0.0.1:0",
            "--rtmp-listen",
            "127.0.0.1:0",
            "--webrtc-listen",
            "127.0.0.1:0",
        ])
        .arg("--state-dir")
        .arg(state)
        .env_remove("TIDEGATE_BIN") // ours, not a setting of the program
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Status, body and entity tag of the answer.
async fn patch(server: &Server, path: &str, body: Value, tag: Option<&str>) -> (u16, Value, Option<String>) {
    let request = server.api("PATCH", path).json(&body);
    let request = match tag {
        Some(tag) => request.header("if-match", tag),
        None => request,
    };
    let response = request.send().await.expect("an answer");
    let tag = response.headers().get("etag").and_then(|tag| tag.to_str().ok()).map(str::to_owned);
    (response.status().as_u16(), response.json().await.expect("JSON"), tag)
}

/// Bits a second of a file's sound.
async fn audio_bitrate(path: &str) -> f64 {
    let output = tokio::process::Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-select_streams",
            "a",
            "-show_entries",
            "packet=size,pts_time",
            "-of",
            "csv=p=0",
            path,
        ])
        .output()
        .await
        .expect("ffprobe runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let packets: Vec<(f64, f64)> = text
        .lines()
        .filter_map(|line| {
            let (time, size) = line.split_once(',')?;
            Some((time.parse().ok()?, size.trim_end_matches(',').parse().ok()?))
        })
        .collect();
    let (first, last) = (packets.first().expect("packets").0, packets.last().expect("packets").0);
    packets.iter().map(|(_, size)| size).sum::<f64>() * 8.0 / (last - first)
}
