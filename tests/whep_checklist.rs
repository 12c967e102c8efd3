//! The WHEP server checklist (draft-ietf-wish-whep), line by line: what is its own, and the lines of WHIP that
//! hold here too. What both share is in `common::checklist`.

mod common;

use common::checklist::{self, CANDIDATE, fragment, links, parameter, retry_after, sections};
use common::{
    Endpoint, MediaKind, Opened, Pictures, Programme, Publishing, RtcClient, RtcEvent, RtcOptions, Server,
    VideoCodec, eventually, header, is_stun, offer, problem, seconds,
};
use reqwest::Response;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const TURN: &str = "stun:stun.example.net,turn:turn.example.net:3478?transport=udp";
const EVENTS: &str = "urn:ietf:params:whep:ext:core:server-sent-events";
const LAYER: &str = "urn:ietf:params:whep:ext:core:layer";

async fn endpoint() -> Endpoint {
    Endpoint::whep(Server::builder()).await
}

#[tokio::test]
async fn w01_only_application_sdp_is_taken() {
    checklist::w01(&endpoint().await).await;
}

#[tokio::test]
async fn w02_a_malformed_offer_is_400_with_a_problem_document() {
    checklist::w02(&endpoint().await).await;
}

#[tokio::test]
async fn w03_success_is_201_with_an_answer_and_a_location_that_can_not_be_guessed() {
    checklist::w03(&endpoint().await).await;
}

#[tokio::test]
async fn w06_every_candidate_is_in_the_answer() {
    checklist::w06(&endpoint().await).await;
}

#[tokio::test]
async fn w07_get_and_head_succeed_without_a_body() {
    checklist::w07(&endpoint().await).await;
}

#[tokio::test]
async fn w08_options_needs_no_auth_and_says_what_can_be_posted() {
    checklist::w08(&endpoint().await).await;
}

#[tokio::test]
async fn w09_no_turn_credentials_in_a_preflight() {
    let builder = Server::builder()
        .env("TIDEGATE_WEBRTC_ICE_SERVERS", TURN)
        .env("TIDEGATE_WEBRTC_TURN_SECRET", "shared-secret");
    checklist::w09(&Endpoint::whep(builder).await).await;
}

#[tokio::test]
async fn w10_all_media_share_one_transport() {
    checklist::w10(&endpoint().await).await;
}

#[tokio::test]
async fn w13_the_role_in_dtls_is_chosen_as_offered() {
    checklist::w13(&endpoint().await).await;
}

#[tokio::test]
async fn w14_stun_and_turn_servers_are_told_with_the_session() {
    let builder = Server::builder()
        .env("TIDEGATE_WEBRTC_ICE_SERVERS", TURN)
        .env("TIDEGATE_WEBRTC_TURN_USERNAME", "tide")
        .env("TIDEGATE_WEBRTC_TURN_CREDENTIAL", "gate");
    let links = links(&Endpoint::whep(builder).await.open().await);
    let servers: Vec<&String> =
        links.iter().filter(|link| parameter(link, "rel") == Some("ice-server")).collect();
    assert_eq!(servers.len(), 2, "{links:?}");
    assert!(servers[0].starts_with("<stun:stun.example.net>;"));
    assert_eq!(parameter(servers[1], "username"), Some("tide"));
    assert_eq!(parameter(servers[1], "credential"), Some("gate"));
    assert_eq!(parameter(servers[1], "credential-type"), Some("password"));
}

#[tokio::test]
async fn w15_extensions_are_told_by_link_and_never_required() {
    checklist::w15(&endpoint().await, &[EVENTS, LAYER]).await;
}

#[tokio::test]
async fn w16_viewers_may_show_a_token_and_need_none() {
    let builder = Server::builder().guarded().env("TIDEGATE_AUTH_PUBLISH_KEY", "publish-key");
    let options = RtcOptions::default().key("publish-key");
    let mut endpoint = Endpoint::whep_of(builder, options, Programme::default()).await;
    for key in [None, Some("whatever"), Some("publish-key")] {
        endpoint.key = key.map(str::to_owned);
        let session = endpoint.open().await;
        assert_eq!(endpoint.patch(&session, &session.etag, fragment(CANDIDATE)).await.status(), 204);
        assert_eq!(endpoint.status("DELETE", &session.path).await, 200);
    }
}

#[tokio::test]
async fn w17_nothing_is_redirected() {
    checklist::w17(&endpoint().await).await;
}

#[tokio::test]
async fn w18_overload_is_503_with_retry_after() {
    let off = ("TIDEGATE_LIMITS_POSTS_PER_SECOND", "off");
    let endpoint = Endpoint::whep(Server::builder().limited().env(off.0, off.1)).await;
    let mut taken = 0;
    let refused = loop {
        let response = endpoint.post(endpoint.offer()).await;
        if response.status() != 201 {
            break response;
        }
        taken += 1;
        assert!(taken <= 500, "sessions that never connect have no limit");
    };
    assert!(taken >= 20, "{taken}");
    retry_after(&refused);
    problem(refused, 503).await;
}

#[tokio::test]
async fn w19_requests_are_limited_by_source() {
    let limit = ("TIDEGATE_LIMITS_SESSION_REQUESTS_PER_SECOND", "10");
    checklist::w19(&Endpoint::whep(Server::builder().limited().env(limit.0, limit.1)).await).await;
}

#[tokio::test]
async fn w20_a_session_is_its_whole_path() {
    checklist::w20(&endpoint().await).await;
}

#[tokio::test]
async fn w20_a_session_is_its_principals() {
    checklist::w20_principal(&mut endpoint().await, "whoever-views").await;
}

#[tokio::test]
async fn w30_a_patch_is_a_fragment() {
    checklist::w30(&endpoint().await).await;
}

#[tokio::test]
async fn w32_the_201_has_a_strong_entity_tag() {
    checklist::w32(&endpoint().await).await;
}

#[tokio::test]
async fn w33_patch_without_if_match_is_428_and_a_stale_one_is_412() {
    checklist::w33(&endpoint().await).await;
}

#[tokio::test]
async fn w34_trickling_is_answered_with_204_alone() {
    checklist::w34(&endpoint().await).await;
}

#[tokio::test]
async fn w35_candidates_that_are_of_no_use_are_passed_over() {
    checklist::w35(&endpoint().await).await;
}

#[tokio::test]
async fn w35_host_names_are_never_looked_up() {
    let full = Server::builder().env("TIDEGATE_WEBRTC_ICE", "full");
    checklist::w35_names(&Endpoint::whep(full).await).await;
}

#[tokio::test]
async fn w36_other_credentials_are_a_restart() {
    checklist::w36(&endpoint().await).await;
}

#[tokio::test]
async fn w37_a_restart_that_fails_leaves_the_session_alive() {
    let endpoint = endpoint().await;
    let mut viewer = RtcClient::view(&endpoint.server, "show", RtcOptions::default()).await;
    viewer.connected().await;
    let session = viewer.session.clone().expect("a session");
    let bad = fragment(CANDIDATE).replace("a=ice-pwd:abcdefghijklmnopqrstuvwx", "a=ice-pwd:short");
    let status = session.patch(bad, "\"*\"").await.status().as_u16();
    assert!((400..500).contains(&status), "{status}");
    viewer.drain();
    viewer.packet(MediaKind::Video).await;
    viewer.packet(MediaKind::Audio).await;
    assert_eq!(viewer.trickle().await.status(), 204, "its entity tag is still good");
}

#[tokio::test]
async fn w38_patches_may_overlap() {
    checklist::w38(&endpoint().await).await;
}

#[tokio::test]
async fn w40_after_the_end_no_stun_is_answered() {
    let endpoint = endpoint().await;
    let mut viewer = RtcClient::view(&endpoint.server, "show", RtcOptions::default()).await;
    viewer.connected().await;
    let answers = Arc::new(AtomicUsize::new(0));
    let count = answers.clone();
    viewer
        .filter_incoming(move |data| {
            count.fetch_add(usize::from(is_stun(data)), Ordering::Relaxed);
            common::Fate::Pass
        })
        .await;
    eventually("its checks are answered", seconds(10), || async {
        (answers.load(Ordering::Relaxed) > 0).then_some(())
    })
    .await;
    assert_eq!(viewer.delete().await, 200);
    tokio::time::sleep(Duration::from_millis(200)).await; // what is on its way
    let before = answers.load(Ordering::Relaxed);
    viewer.collect(seconds(6)).await;
    assert_eq!(answers.load(Ordering::Relaxed), before);
}

#[tokio::test]
async fn w40_a_session_without_consent_ends() {
    let endpoint = endpoint().await;
    let mut viewer = RtcClient::view(&endpoint.server, "show", RtcOptions::default()).await;
    viewer.connected().await;
    viewer.set_checking(false).await;
    let session = viewer.session.clone().expect("a session");
    eventually("the session is gone", seconds(40), || async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let patched = session.patch(checklist::WITHOUT_CREDENTIALS.to_owned(), &session.etag).await;
        (patched.status() == 404).then_some(())
    })
    .await;
}

#[tokio::test]
async fn w41_pages_of_all_origins_may_use_it() {
    checklist::w41(&endpoint().await).await;
}

#[tokio::test]
async fn w41_or_those_of_the_origins_that_were_chosen() {
    let builder = Server::builder().env("TIDEGATE_HTTP_CORS_ORIGINS", "https://studio.example");
    checklist::w41_some_origins(&Endpoint::whep(builder).await).await;
}

#[tokio::test]
async fn e01_the_answer_is_sendonly_to_those_who_receive() {
    let endpoint = endpoint().await;
    for direction in ["recvonly", "sendrecv"] {
        let answer = endpoint.open_with(offer(direction)).await.answer;
        assert_eq!(sections(&answer).len(), 2);
        for section in sections(&answer) {
            assert!(section.contains("\r\na=sendonly\r\n") && !section.contains("\r\na=recv"), "{section}");
        }
    }
    for direction in ["sendonly", "inactive"] {
        let detail = problem(endpoint.post(offer(direction)).await, 422).await;
        assert!(detail.contains(direction), "{detail}");
    }
}

#[tokio::test]
async fn e02_head_discovers_the_endpoint() {
    let server = Server::start().await;
    for stream in ["show", "nobody"] {
        let url = server.url(&format!("/{stream}/whep"));
        let response = server.client.head(url).send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "content-type"), "application/sdp");
        assert_eq!(response.bytes().await.expect("a body").len(), 0);
    }
    // The endpoint of publishers is not taken for one.
    let response = server.client.head(server.url("/show/whip")).send().await.expect("an answer");
    assert_ne!(header(&response, "content-type"), "application/sdp");
}

#[tokio::test]
async fn e03_a_known_stream_that_is_not_live_is_409_and_an_unknown_one_404() {
    let mut endpoint = Endpoint::whep(Server::builder().env("TIDEGATE_STREAM_GRACE", "1m")).await;
    problem(endpoint.post_to("/nobody/whep", endpoint.offer()).await, 404).await;
    assert_eq!(endpoint.post(endpoint.offer()).await.status(), 201);
    assert_eq!(endpoint.publisher().delete().await, 200);
    let waiting = eventually("the stream waits for its publisher", seconds(10), || async {
        let response = endpoint.post(endpoint.offer()).await;
        (response.status() != 201).then_some(response)
    })
    .await;
    retry_after(&waiting);
    let detail = problem(waiting, 409).await;
    assert!(detail.contains("show"), "{detail}");
}

#[tokio::test]
async fn e04_no_codec_in_common_is_422_and_names_both_sides() {
    let endpoint = endpoint().await;
    let vp8 = RtcOptions { video: vec![VideoCodec::Vp8, VideoCodec::Vp9], ..RtcOptions::default() };
    let refused = RtcClient::try_view(&endpoint.server, "show", vp8).await;
    let detail = problem(refused.err().expect("no H.264"), 422).await;
    for word in ["H.264", "VP8", "VP9"] {
        assert!(detail.contains(word), "{detail:?} lacks {word}");
    }
    assert!(!detail.contains("AV1"), "{detail}");
    let without_opus = endpoint.offer().replace("opus/48000/2", "PCMU/8000");
    let detail = problem(endpoint.post(without_opus).await, 422).await;
    assert!(detail.contains("Opus") && detail.contains("PCMU"), "{detail}");
}

#[tokio::test]
async fn e05_candidates_are_trickled_and_ice_is_restarted() {
    let endpoint = endpoint().await;
    let options = RtcOptions { candidates: false, ..RtcOptions::default() };
    let mut viewer = RtcClient::view(&endpoint.server, "show", options).await;
    assert_eq!(viewer.trickle().await.status(), 204);
    viewer.connected().await;
    viewer.packet(MediaKind::Video).await;
    let before = viewer.session.clone().expect("a session").etag;
    viewer.restart().await;
    assert_ne!(viewer.session.clone().expect("a session").etag, before);
    // After it a keyframe comes, although the group of pictures is long from over.
    let mut pictures = Pictures::default();
    viewer.drain();
    viewer
        .wait_for("a keyframe", seconds(5), |event| match event {
            RtcEvent::Media(packet) if packet.kind == MediaKind::Video => {
                pictures.push(&packet).filter(|picture| picture.is_decodable_start()).map(|_| ())
            }
            _ => None,
        })
        .await;
    let events = viewer.collect(seconds(2)).await;
    assert!(events.iter().any(|event| matches!(event, RtcEvent::Media(_))));
    assert!(!events.iter().any(|event| matches!(event, RtcEvent::Disconnected | RtcEvent::Closed)));
    // The new entity tag is good, the old one and the old credentials are stale.
    let late = format!("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n{CANDIDATE}\r\n");
    assert_eq!(viewer.patch(late.clone()).await.status(), 204);
    assert_eq!(viewer.trickle().await.status(), 412);
    let session = viewer.session.clone().expect("a session");
    assert_eq!(session.patch(late, &before).await.status(), 412);
}

#[tokio::test]
async fn e06_delete_is_200_and_ends_the_session() {
    let endpoint = endpoint().await;
    checklist::w39(&endpoint).await;
    let mut viewer = RtcClient::view(&endpoint.server, "show", RtcOptions::default()).await;
    viewer.connected().await;
    assert_eq!(viewer.delete().await, 200);
    let closed = |event| matches!(event, RtcEvent::Closed).then_some(());
    viewer.wait_for("the end of DTLS", seconds(2), closed).await;
    assert!(!viewer.collect(seconds(1)).await.iter().any(|event| matches!(event, RtcEvent::Media(_))));
}

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

#[tokio::test]
async fn e08_the_first_picture_comes_from_the_cached_group_of_pictures() {
    // One keyframe in 60 s, whatever is asked for.
    let programme = Programme { group: 1800, answers_requests: false, ..Programme::default() };
    let endpoint = Endpoint::whep_of(Server::builder(), RtcOptions::default(), programme).await;
    tokio::time::sleep(seconds(2)).await; // live is 60 pictures ahead of the keyframe
    let mut viewer = RtcClient::view(&endpoint.server, "show", RtcOptions::default()).await;
    viewer.connected().await;
    let connected = Instant::now();
    let mut pictures = Pictures::default();
    let mut next = |event| match event {
        RtcEvent::Media(packet) if packet.kind == MediaKind::Video => pictures.push(&packet),
        _ => None,
    };
    let first = viewer.wait_for("a picture", seconds(2), &mut next).await;
    assert!(first.is_decodable_start() && connected.elapsed() < seconds(1), "{first:?}");
    // Then all the others, faster than they were made, until there is nothing left to catch up with.
    let mut number = first.number().expect("a number");
    let mut live = None;
    let began = Instant::now();
    while live.is_none() {
        let picture = viewer.wait_for("the next picture", seconds(2), &mut next).await;
        assert!(picture.complete && picture.number() == Some(number + 1), "{picture:?} after {number}");
        number += 1;
        let behind = f64::from(number) - began.elapsed().as_secs_f64() * 30.0;
        live = (behind >= 60.0 || number >= 150).then_some(number);
    }
    assert!(began.elapsed() < seconds(4), "live after {:?} at {number}", began.elapsed());
}

#[tokio::test]
async fn e09_the_publisher_is_asked_for_a_keyframe_at_most_once_a_second() {
    let programme = Programme { group: 1800, answers_requests: false, ..Programme::default() };
    let mut endpoint = Endpoint::whep_of(Server::builder(), RtcOptions::default(), programme).await;
    let mut viewers = Vec::new();
    for _ in 0..4 {
        let mut viewer = RtcClient::view(&endpoint.server, "show", RtcOptions::default()).await;
        viewer.connected().await;
        viewers.push(viewer);
    }
    endpoint.publisher().drain();
    let began = Instant::now();
    while began.elapsed() < seconds(4) {
        for viewer in &viewers {
            viewer.request_keyframe().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let asked: Vec<Instant> = endpoint
        .publisher()
        .drain()
        .into_iter()
        .filter_map(|event| match event {
            RtcEvent::KeyframeRequest { at, .. } => Some(at),
            _ => None,
        })
        .collect();
    assert!((3..=6).contains(&asked.len()), "{} in 4 s", asked.len());
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] > Duration::from_millis(900)), "{asked:?}");
}

#[tokio::test]
async fn e10_a_viewers_nack_is_answered_from_our_own_buffer() {
    let mut endpoint = endpoint().await;
    let mut viewer = RtcClient::view(&endpoint.server, "show", RtcOptions::default()).await;
    viewer.connected().await;
    viewer.packet(MediaKind::Video).await;
    endpoint.publisher().drain();
    // One in ten of the video's packets is lost on the way here; their retransmissions are not.
    let (lost, count) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (lose, seen) = (lost.clone(), count.clone());
    let media = viewer.packet(MediaKind::Video).await.payload_type;
    viewer
        .filter_incoming(move |data| {
            let video = common::is_rtp(data) && data[1] & 0x7f == media;
            let drops = video && seen.fetch_add(1, Ordering::Relaxed) % 10 == 9;
            lose.fetch_add(usize::from(drops), Ordering::Relaxed);
            if drops { common::Fate::Drop } else { common::Fate::Pass }
        })
        .await;
    let events = viewer.collect(seconds(3)).await;
    let mut sequences: Vec<u64> = events
        .iter()
        .filter_map(|event| match event {
            RtcEvent::Media(packet) if packet.kind == MediaKind::Video => Some(packet.sequence),
            _ => None,
        })
        .collect();
    assert!(lost.load(Ordering::Relaxed) > 10, "{lost:?}");
    sequences.sort_unstable();
    sequences.dedup();
    let (first, last) = (sequences[0], sequences[sequences.len() - 1]);
    let missing = (first..=last).filter(|sequence| sequences.binary_search(sequence).is_err()).count();
    // The newest may still be on their way.
    assert!(missing <= 2, "{missing} of {} were not repaired", lost.load(Ordering::Relaxed));
    // The publisher, whose way lost nothing, was asked for nothing.
    let asked = endpoint.publisher().drain().into_iter().filter(|event| match event {
        RtcEvent::Rtcp(packet) => matches!(**packet, common::Rtcp::Nack(_)),
        _ => false,
    });
    assert_eq!(asked.count(), 0, "NACKs went on to the publisher");
}
