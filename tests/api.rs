//! The HTTP API: who may, what it says, and how it says no.

mod common;

use common::{ADMIN_TOKEN, Ffmpeg, Server, Source, eventually, machine, seconds};
use reqwest::Response;
use serde_json::{Value, json};

#[tokio::test]
async fn the_api_always_needs_the_admin_token() {
    let server = Server::start().await;
    for (method, path) in [
        ("GET", "/api/v1/streams"),
        ("GET", "/api/v1/streams/show"),
        ("DELETE", "/api/v1/streams/show/publisher"),
        ("GET", "/api/v1/streams/show/targets"),
        ("POST", "/api/v1/streams/show/targets"),
    ] {
        for token in [None, Some("wrong"), Some("")] {
            let request = server.client.request(method.parse().expect("a method"), server.url(path));
            let request = match token {
                Some(token) => request.bearer_auth(token),
                None => request,
            };
            let response =
                request.json(&json!({ "url": "rtmp://127.0.0.1/app/key" })).send().await.expect("an answer");
            assert_eq!(response.status(), 401, "{method} {path} with {token:?}");
            let challenge = response.headers().get("www-authenticate").and_then(|value| value.to_str().ok());
            assert!(
                challenge.is_some_and(|value| value.starts_with("Bearer")),
                "{method} {path}: {challenge:?}"
            );
            problem(response, 401).await;
        }
    }
    assert_eq!(server.get("/healthz").await.status(), 200);
}

#[tokio::test]
async fn streams_are_listed_with_what_they_are() {
    let _machine = machine().await;
    let server = Server::start().await;
    let list: Value =
        server.api("GET", "/api/v1/streams").send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(streams_in(&list).len(), 0, "{list}");

    let _publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    let stream = eventually("both tracks are known", seconds(15), || async {
        let stream = server.stream("show").await?;
        (stream["tracks"].as_array()?.len() == 2).then_some(stream)
    })
    .await;
    let text = stream.to_string();
    assert_eq!(stream["name"], "show", "{text}");
    assert_eq!(stream["source"]["kind"], "rtmp", "{text}");
    assert!(stream["source"]["since"].as_str().is_some_and(|since| since.ends_with('Z')), "{text}");
    let [video, audio] = [&stream["tracks"][0], &stream["tracks"][1]];
    assert_eq!(
        (&video["codec"], &video["width"], &video["height"]),
        (&json!("H.264"), &json!(640), &json!(360))
    );
    assert_eq!(
        (&audio["codec"], &audio["sampleRate"], &audio["channels"]),
        (&json!("AAC"), &json!(48000), &json!(2))
    );
    for readers in ["hls", "whep", "restream"] {
        assert_eq!(stream["readers"][readers], 0, "{text}");
    }
    let moving = eventually("bitrate and frames are counted", seconds(10), || async {
        let stream = server.stream("show").await?;
        (stream["bitrate"].as_u64()? > 0 && stream["videoFrames"].as_u64()? > 60).then_some(stream)
    })
    .await;
    let bitrate = moving["bitrate"].as_u64().expect("a number");
    assert!((200_000..4_000_000).contains(&bitrate), "{bitrate}");
    let list: Value =
        server.api("GET", "/api/v1/streams").send().await.expect("an answer").json().await.expect("JSON");
    let names: Vec<_> = streams_in(&list).iter().map(|stream| stream["name"].clone()).collect();
    assert_eq!(names, ["show"], "{list}");
}

#[tokio::test]
async fn targets_are_created_listed_and_deleted() {
    let server = Server::start().await;
    let base = "/api/v1/streams/show/targets";
    let body =
        json!({ "url": "rtmp://user:pass@127.0.0.1:1/app/secret-key?sign=secret-query", "name": "A target" });
    let response = server.api("POST", base).json(&body).send().await.expect("an answer");
    assert_eq!(response.status(), 201);
    let location = response.headers()["location"].to_str().expect("text").to_owned();
    let created: Value = response.json().await.expect("JSON");
    let id = created["id"].as_str().expect("an id");
    assert!(location.ends_with(&format!("{base}/{id}")), "{location}");
    assert_eq!(created["name"], "A target");
    assert_eq!(common::state_of(&created), "waiting", "nothing to send yet: {created}");

    let one: Value = server
        .api("GET", &format!("{base}/{id}"))
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    let list: Value = server.api("GET", base).send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(one["id"], created["id"]);
    for text in [created.to_string(), one.to_string(), list.to_string(), server.process.log()] {
        assert!(!text.contains("secret") && !text.contains("user:pass"), "no secret in {text}");
    }
    assert!(
        one["url"]
            .as_str()
            .is_some_and(|url| url.starts_with("rtmp://127.0.0.1:1/app") || url.contains("127.0.0.1:1/app")),
        "{one}"
    );
    assert!(list.to_string().contains(id), "{list}");

    let deleted = server.api("DELETE", &format!("{base}/{id}")).send().await.expect("an answer");
    assert!([200, 204].contains(&deleted.status().as_u16()), "{}", deleted.status());
    for method in ["GET", "DELETE"] {
        let gone = server.api(method, &format!("{base}/{id}")).send().await.expect("an answer");
        problem(gone, 404).await;
    }
}

#[tokio::test]
async fn lists_of_streams_count_targets_and_one_stream_has_them() {
    let server = Server::start().await;
    let declared = server.api("POST", "/api/v1/streams").json(&json!({ "name": "show" })).send().await;
    assert_eq!(declared.expect("an answer").status(), 201);
    let get = async |path: &str| -> Value {
        server.api("GET", path).send().await.expect("an answer").json().await.expect("JSON")
    };
    let counts = |total, waiting, disabled| {
        json!({
            "total": total, "waiting": waiting, "connecting": 0, "live": 0, "retrying": 0, "failing": 0,
            "disabled": disabled,
        })
    };
    let empty = get("/api/v1/streams").await;
    assert_eq!(empty["items"][0]["targetCounts"], counts(0, 0, 0), "{empty}");
    let mut last = Value::Null;
    for number in 0..20 {
        last = server.add_target("show", &format!("rtmp://127.0.0.1:1/app/key{number}")).await;
    }
    let path = format!("/api/v1/streams/show/targets/{}", last["id"].as_str().expect("an id"));
    let paused = server.api("PATCH", &path).json(&json!({ "enabled": false })).send().await;
    assert_eq!(paused.expect("an answer").status(), 200);

    let list = get("/api/v1/streams").await;
    assert_eq!(list["items"][0]["targetCounts"], counts(20, 19, 1), "{list}");
    assert!(list["items"][0].get("targets").is_none(), "{list}");
    let grown = list.to_string().len() - empty.to_string().len();
    assert!(grown < 10, "however many targets there are, a page is no larger: {grown} bytes");
    let one = get("/api/v1/streams/show").await;
    assert_eq!(one["targetCounts"], counts(20, 19, 1), "{one}");
    assert_eq!(one["targets"], get("/api/v1/streams/show/targets").await["items"], "{one}");
    let gone = server.api("DELETE", &path).send().await.expect("an answer");
    assert_eq!(gone.status(), 204);
    assert_eq!(get("/api/v1/streams/show").await["targetCounts"], counts(19, 19, 0));
}

#[tokio::test]
async fn faults_of_the_client_are_problem_documents() {
    let server = Server::start().await;
    let targets = "/api/v1/streams/show/targets";
    for (body, what) in [
        (json!({ "url": "http://127.0.0.1/app/key" }), "not RTMP"),
        (json!({ "url": "rtmp://127.0.0.1" }), "no application"),
        (json!({ "url": "nonsense" }), "no URL"),
        (json!({ "url": 5 }), "no text"),
        (json!({}), "no url"),
        (json!({ "url": "rtmp://127.0.0.1/app/key", "name": "x".repeat(5000) }), "a long name"),
    ] {
        let response = server.api("POST", targets).json(&body).send().await.expect("an answer");
        let status = response.status().as_u16();
        assert!([400, 422].contains(&status), "{what}: {status}");
        problem(response, status).await;
    }
    let response =
        server.api("POST", targets).body("{").header("content-type", "application/json").send().await;
    problem(response.expect("an answer"), 400).await;
    let response = server.api("POST", targets).body("{}").header("content-type", "text/plain").send().await;
    problem(response.expect("an answer"), 415).await;
    for path in ["/api/v1/streams/nobody", "/api/v1/nothing", "/api/v2/streams"] {
        problem(server.api("GET", path).send().await.expect("an answer"), 404).await;
    }
    problem(server.api("DELETE", "/api/v1/streams/nobody/publisher").send().await.expect("an answer"), 404)
        .await;
    problem(server.api("PUT", "/api/v1/streams").send().await.expect("an answer"), 405).await;
}

#[tokio::test]
async fn names_outside_the_grammar_are_refused_everywhere() {
    let server = Server::start().await;
    let long = "x".repeat(65);
    for name in [".hidden", "a%20b", "a%2Fb", "%C3%A9", "live", "api", long.as_str()] {
        for path in [format!("/{name}/whip"), format!("/{name}/whep")] {
            let request = server.client.post(server.url(&path)).header("content-type", "application/sdp");
            let response = request.body("v=0").send().await.expect("an answer");
            let status = response.status().as_u16();
            assert!([400, 404].contains(&status), "POST {path}: {status}");
            problem(response, status).await;
        }
        let response = server.api("POST", &format!("/api/v1/streams/{name}/targets"));
        let response =
            response.json(&json!({ "url": "rtmp://127.0.0.1/app/key" })).send().await.expect("an answer");
        let status = response.status().as_u16();
        assert!([400, 404].contains(&status), "a target of {name}: {status}");
        let response = server.get(&format!("/{name}/index.m3u8")).await;
        assert!([400, 404].contains(&response.status().as_u16()), "{name}: {}", response.status());
    }
}

#[tokio::test]
async fn without_open_publishing_needs_the_key() {
    let server = Server::builder()
        .guarded()
        .env("TIDEGATE_AUTH_PUBLISH_KEY", "publish-key-of-the-tests")
        .start()
        .await;
    for (token, expected) in [(None, 401), (Some("wrong"), 401), (Some(ADMIN_TOKEN), 403)] {
        let request = server.client.post(server.url("/show/whip")).header("content-type", "application/sdp");
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        problem(request.body("v=0").send().await.expect("an answer"), expected).await;
    }
    let request = server.client.post(server.url("/show/whip")).header("content-type", "application/sdp");
    let response =
        request.bearer_auth("publish-key-of-the-tests").body("v=0").send().await.expect("an answer");
    assert_eq!(response.status(), 400, "the key opens the door, the SDP is still broken");

    let mut refused = common::RtmpClient::connect(server.rtmp).await;
    let code = refused.try_publish("show").await;
    assert_ne!(code, "NetStream.Publish.Start", "a stream's name is no key");
    assert!(refused.closed_within(seconds(10)).await);
    let mut accepted = common::RtmpClient::connect(server.rtmp).await;
    accepted.publish("show?key=publish-key-of-the-tests").await;
}

#[tokio::test]
async fn a_streams_own_key_publishes_by_rtmp_and_its_session_can_be_kicked() {
    let server = Server::builder().guarded().env("TIDEGATE_AUTH_PUBLISH_KEY", "off").start().await;
    let issued =
        server.api("POST", "/api/v1/streams/show/keys").json(&json!({})).send().await.expect("an answer");
    assert_eq!(issued.status(), 201);
    let issued: Value = issued.json().await.expect("JSON");
    let key = issued["key"].as_str().expect("the key");
    for refused in [format!("other?key={key}"), "show".to_owned(), "show?key=off".to_owned()] {
        let mut client = common::RtmpClient::connect(server.rtmp).await;
        assert_ne!(client.try_publish(&refused).await, "NetStream.Publish.Start", "{refused}");
    }
    // OBS's whole stream key.
    let mut publisher = common::RtmpClient::connect(server.rtmp).await;
    publisher.publish(key).await;
    let stream = eventually("the stream is there", seconds(10), || server.stream("show")).await;
    assert_eq!(stream["source"]["kind"], "rtmp");

    let path = "/api/v1/sessions?stream=show&kind=rtmp";
    let list: Value = server.api("GET", path).send().await.expect("an answer").json().await.expect("JSON");
    let session = &streams_in(&list)[0];
    assert_eq!((&session["stream"], &session["kind"]), (&json!("show"), &json!("rtmp")), "{list}");
    for bytes in ["bytesReceived", "bytesSent"] {
        assert!(session[bytes].as_u64().is_some_and(|bytes| bytes > 100), "{list}");
    }
    let none = server.api("GET", "/api/v1/sessions?kind=whep").send().await.expect("an answer");
    assert_eq!(none.json::<Value>().await.expect("JSON")["itemCount"], 0);
    problem(server.api("GET", "/api/v1/sessions?kind=hls").send().await.expect("an answer"), 400).await;
    let one = format!("/api/v1/sessions/{}", session["id"].as_str().expect("an id"));
    assert_eq!(server.api("DELETE", &one).send().await.expect("an answer").status(), 204);
    assert!(publisher.closed_within(seconds(10)).await, "the publisher is kicked");
    eventually("the session is gone", seconds(10), || async {
        (server.api("GET", &one).send().await.ok()?.status() == 404).then_some(())
    })
    .await;
    let log = server.process.log();
    assert!(log.contains("Session kicked by the API") && !log.contains(key), "{log}");
    let info: Value =
        server.api("GET", "/api/v1/info").send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!((&info["counts"]["rtmpSessions"], &info["name"]), (&json!(0), &json!("tidegate")), "{info}");
}

/// The response is a problem document of this status.
#[track_caller]
fn problem(response: Response, status: u16) -> impl Future<Output = Value> {
    assert_eq!(response.status().as_u16(), status, "{}", response.url());
    let kind =
        response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    assert!(kind.starts_with("application/problem+json"), "{}: {kind:?}", response.url());
    async move {
        let body: Value = response.json().await.expect("JSON");
        assert_eq!(body["status"], status, "{body}");
        assert!(body["title"].as_str().is_some_and(|title| !title.is_empty()), "{body}");
        body
    }
}

/// The items of a list.
fn streams_in(list: &Value) -> Vec<Value> {
    list["items"].as_array().cloned().unwrap_or_else(|| panic!("a list: {list}"))
}
