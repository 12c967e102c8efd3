//! E07: the two extensions, server-sent events and the choice of a layer.

use super::common::checklist::{links, parameter};
use super::common::{
    Endpoint, MediaKind, Opened, Pictures, Programme, Publishing, RtcClient, RtcEvent, RtcOptions, Server,
    header, problem, seconds,
};
use super::{EVENTS, LAYER, common, endpoint};
use reqwest::Response;
use serde_json::{Value, json};
use std::collections::VecDeque;

/// What a player reads of `text/event-stream`.
struct Events {
    response: Response,
    text: String,
    found: VecDeque<(String, Value)>,
}

impl Events {
    /// Subscribes to `wanted` (all, if `None`) and reads. The path of the subscription, too.
    async fn open(endpoint: &Endpoint, session: &Opened, wanted: Option<Value>) -> (Self, String) {
        let request = endpoint.request("POST", &format!("{}/sse", session.path));
        let request = match wanted {
            Some(wanted) => request.json(&wanted),
            None => request,
        };
        let created = request.send().await.expect("an answer");
        assert_eq!(created.status(), 201);
        let path = header(&created, "location");
        assert!(path.starts_with(&format!("{}/sse/", session.path)), "{path}");
        (Self::read(endpoint, &path).await, path)
    }

    async fn read(endpoint: &Endpoint, path: &str) -> Self {
        let response = endpoint.request("GET", path).send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "content-type"), "text/event-stream");
        Self { response, text: String::new(), found: VecDeque::new() }
    }

    /// The next event within 10 s; `None` when there will be no more.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(event) = self.found.pop_front() {
                return Some(event);
            }
            let chunk = tokio::time::timeout(seconds(10), self.response.chunk()).await.expect("an event");
            let chunk = chunk.ok().flatten()?;
            self.text += std::str::from_utf8(&chunk).expect("UTF-8");
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let mut lines =
                        block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                    let value = lines.next().map(str::to_owned);
                    assert!(lines.next().is_none(), "one {name} line: {block:?}");
                    value
                };
                if let (Some(name), Some(data)) = (field("event"), field("data")) {
                    self.found.push_back((name, serde_json::from_str(&data).expect("JSON")));
                }
                self.text = rest.to_owned();
            }
        }
    }

    /// Reads until this event; its data.
    async fn wait_for(&mut self, name: &str) -> Value {
        loop {
            let (found, data) = self.next().await.unwrap_or_else(|| panic!("the end before {name}"));
            if found == name {
                return data;
            }
        }
    }
}

#[tokio::test]
async fn e07_extensions_are_told_of() {
    let endpoint = endpoint().await;
    let session = endpoint.open().await;
    let links = links(&session);
    let link = |relation| {
        let found = links.iter().find(|link| parameter(link, "rel") == Some(relation));
        found.unwrap_or_else(|| panic!("no {relation} in {links:?}")).clone()
    };
    assert!(link(EVENTS).starts_with(&format!("<{}/sse>", session.path)));
    assert_eq!(parameter(&link(EVENTS), "events"), Some("active,inactive,layers,reconnect,viewercount"));
    assert!(link(LAYER).starts_with(&format!("<{}/layer>", session.path)));
}

#[tokio::test]
async fn e07_events_tell_of_publisher_layers_and_viewers() {
    let mut endpoint = Endpoint::whep(Server::builder().env("TIDEGATE_STREAM_GRACE", "1m")).await;
    let session = endpoint.open().await;
    let (mut events, _) = Events::open(&endpoint, &session, None).await;
    assert_eq!(events.next().await, Some(("active".to_owned(), json!({}))));
    // The video is the second m-section of the offer, and not simulcast.
    assert_eq!(events.next().await, Some(("layers".to_owned(), json!({ "1": [] }))));
    assert_eq!(events.next().await, Some(("viewercount".to_owned(), json!({ "viewercount": 1 }))));
    let other = endpoint.open().await;
    assert_eq!(events.wait_for("viewercount").await, json!({ "viewercount": 2 }));
    assert_eq!(endpoint.status("DELETE", &other.path).await, 200);
    assert_eq!(events.wait_for("viewercount").await, json!({ "viewercount": 1 }));
    assert_eq!(endpoint.publisher().delete().await, 200);
    assert_eq!(events.wait_for("inactive").await, json!({}));
    endpoint.end_publisher();
    let mut publisher = RtcClient::publish(&endpoint.server, "show", RtcOptions::default()).await;
    let _media = Publishing::start(publisher.sender(), Programme::default());
    publisher.connected().await;
    assert_eq!(events.wait_for("active").await, json!({}));
}

#[tokio::test]
async fn e07_a_player_gets_the_events_it_asked_for() {
    let endpoint = endpoint().await;
    let session = endpoint.open().await;
    let (mut events, _) = Events::open(&endpoint, &session, Some(json!(["viewercount"]))).await;
    for viewers in [1, 2, 3] {
        assert_eq!(events.next().await, Some(("viewercount".into(), json!({ "viewercount": viewers }))));
        endpoint.open().await;
    }
    let request = endpoint.request("POST", &format!("{}/sse", session.path));
    let refused = request.json(&json!(["active", "weather"])).send().await.expect("an answer");
    let detail = problem(refused, 400).await;
    assert!(detail.contains("weather") && detail.contains("viewercount"), "{detail}");
}

#[tokio::test]
async fn e07_event_streams_end_by_delete_and_with_their_session() {
    let endpoint = endpoint().await;
    let session = endpoint.open().await;
    let (mut first, path) = Events::open(&endpoint, &session, Some(json!(["active"]))).await;
    first.wait_for("active").await;
    // A newer reader takes the place of one that may be dead.
    let mut second = Events::read(&endpoint, &path).await;
    second.wait_for("active").await;
    assert_eq!(first.next().await, None);
    assert_eq!(endpoint.status("DELETE", &path).await, 200);
    assert_eq!(second.next().await, None);
    problem(endpoint.request("GET", &path).send().await.expect("an answer"), 404).await;
    problem(endpoint.request("DELETE", &path).send().await.expect("an answer"), 404).await;

    let (mut third, path) = Events::open(&endpoint, &session, None).await;
    third.wait_for("active").await;
    assert_eq!(endpoint.status("DELETE", &session.path).await, 200);
    while third.next().await.is_some() {}
    problem(endpoint.request("GET", &path).send().await.expect("an answer"), 404).await;
    let late = endpoint.request("POST", &format!("{}/sse", session.path)).send().await.expect("an answer");
    problem(late, 404).await;
}

#[tokio::test]
async fn e07_a_session_has_few_event_streams() {
    let endpoint = endpoint().await;
    let session = endpoint.open().await;
    let mut paths = Vec::new();
    let refused = loop {
        let request = endpoint.request("POST", &format!("{}/sse", session.path));
        let response = request.send().await.expect("an answer");
        if response.status() != 201 {
            break response;
        }
        paths.push(header(&response, "location"));
        assert!(paths.len() < 20, "no bound");
    };
    problem(refused, 409).await;
    assert_eq!(endpoint.status("DELETE", &paths[0]).await, 200);
    let (mut events, _) = Events::open(&endpoint, &session, None).await;
    events.wait_for("active").await;
}

#[tokio::test]
async fn e07_players_are_told_to_reconnect_when_the_server_goes() {
    let mut endpoint = endpoint().await;
    let session = endpoint.open().await;
    let (mut events, _) = Events::open(&endpoint, &session, Some(json!(["reconnect"]))).await;
    let told = async {
        assert_eq!(events.wait_for("reconnect").await, json!({}));
        while events.next().await.is_some() {}
    };
    endpoint.server.process.signal("TERM");
    told.await;
    let ended = endpoint.server.process.wait(seconds(10)).await;
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
}

#[tokio::test]
async fn e07_a_layer_can_be_chosen() {
    let layers = [("f", (1280, 720), 6000), ("h", (640, 360), 3000), ("q", (320, 180), 1000)];
    let options = RtcOptions::default().simulcast(["f", "h", "q"]);
    let endpoint = Endpoint::whep_of(Server::builder(), options, Programme::simulcast(layers)).await;
    let mut viewer = RtcClient::view(&endpoint.server, "show", RtcOptions::default()).await;
    viewer.connected().await;
    let url = viewer.session.clone().expect("a session").url;
    let path = reqwest::Url::parse(&url).expect("a URL").path().to_owned();
    let session = Opened { path, etag: String::new(), answer: String::new(), headers: Default::default() };
    let (mut events, _) = Events::open(&endpoint, &session, Some(json!(["layers"]))).await;
    let told = tokio::time::timeout(seconds(10), async {
        loop {
            let told = events.wait_for("layers").await;
            let layers = told.as_object().and_then(|told| told.values().next()?.as_array().cloned());
            let layers = layers.unwrap_or_else(|| panic!("{told}"));
            if layers.len() == 3 && layers.iter().all(|layer| layer["bitrate"].as_u64() > Some(10_000)) {
                break layers;
            }
        }
    });
    let told = told.await.expect("three layers");
    for (layer, (rid, (width, height), _)) in told.iter().zip(layers) {
        assert_eq!(
            (&layer["rid"], &layer["width"], &layer["height"]),
            (&json!(rid), &json!(width), &json!(height)),
            "the best first"
        );
    }
    for (rid, (width, height), _) in [layers[2], layers[0], layers[1]] {
        assert_eq!(choose(&endpoint, &session, json!({ "rid": rid })).await.status(), 200);
        let parameters = common::parameter_sets(width, height);
        let mut pictures = Pictures::default();
        viewer.drain();
        viewer
            .wait_for("a keyframe of the layer", seconds(5), |event| match event {
                RtcEvent::Media(packet) if packet.kind == MediaKind::Video => {
                    let picture = pictures.push(&packet)?;
                    (picture.is_decodable_start() && picture.units.contains(&parameters[0])).then_some(())
                }
                _ => None,
            })
            .await;
    }
    assert_eq!(choose(&endpoint, &session, json!({})).await.status(), 200, "automatic again");
    let detail = problem(choose(&endpoint, &session, json!({ "rid": "x" })).await, 422).await;
    assert!(detail.contains("f, h, q"), "{detail}");
}

#[tokio::test]
async fn e07_layers_are_asked_for_to_the_letter() {
    let endpoint = endpoint().await;
    let session = endpoint.open().await;
    assert_eq!(choose(&endpoint, &session, json!({})).await.status(), 200);
    assert_eq!(choose(&endpoint, &session, json!({ "mediaId": "1" })).await.status(), 200);
    for wish in
        [json!({ "rid": "h" }), json!({ "mediaId": "0" }), json!({ "temporalLayerId": 1 }), json!([1])]
    {
        problem(choose(&endpoint, &session, wish).await, 422).await;
    }
    let request = endpoint.request("POST", &format!("{}/layer", session.path)).body("{}");
    problem(request.send().await.expect("an answer"), 415).await;
    let publisher = endpoint.server.url("/show/whip");
    let other = format!("/show/whep/{}/layer", "0".repeat(32));
    problem(endpoint.request("POST", &other).json(&json!({})).send().await.expect("an answer"), 404).await;
    let status = endpoint.server.client.post(format!("{publisher}/{}/layer", "0".repeat(32))).send().await;
    assert_eq!(status.expect("an answer").status(), 404);
}

async fn choose(endpoint: &Endpoint, session: &Opened, wish: Value) -> Response {
    let request = endpoint.request("POST", &format!("{}/layer", session.path));
    request.json(&wish).send().await.expect("an answer")
}
