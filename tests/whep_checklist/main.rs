//! The WHEP server checklist (draft-ietf-wish-whep), line by line: what is its own, and the lines of WHIP that
//! hold here too, in `both`; the extensions (E07) are in `extensions`, pictures and
//! their repair (E08 to E10) in `media`.

#[path = "../common/checklist/both.rs"]
mod both;
#[path = "../common/mod.rs"]
mod common;
mod extensions;
mod media;

use serde_json::json;
use std::time::Instant;

use common::checklist::{self, CANDIDATE, TURN, fragment, links, parameter, retry_after, sections};
use common::{
    Endpoint, MediaKind, Pictures, Programme, RtcClient, RtcEvent, RtcOptions, Server, ServerBuilder,
    VideoCodec, eventually, header, offer, problem, seconds,
};

const EVENTS: &str = "urn:ietf:params:whep:ext:core:server-sent-events";
const LAYER: &str = "urn:ietf:params:whep:ext:core:layer";

/// What `both` looks at.
async fn on(builder: ServerBuilder) -> Endpoint {
    Endpoint::whep(builder).await
}

async fn endpoint() -> Endpoint {
    on(Server::builder()).await
}

#[tokio::test]
async fn w08_options_needs_no_auth_and_says_what_can_be_posted() {
    checklist::w08(&endpoint().await).await;
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
async fn w40_a_session_without_consent_ends() {
    let endpoint = endpoint().await;
    let mut viewer = RtcClient::view(&endpoint.server, "show", RtcOptions::default()).await;
    viewer.connected().await;
    viewer.set_checking(false).await;
    checklist::gone(viewer.session.clone().expect("a session")).await;
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
    // One that was declared is known before it is live for the first time.
    let declared = endpoint.server.api("POST", "/api/v1/streams").json(&json!({ "name": "later" }));
    assert_eq!(declared.send().await.expect("an answer").status(), 201);
    let later = endpoint.post_to("/later/whep", endpoint.offer()).await;
    retry_after(&later);
    problem(later, 409).await;
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
    // A keyframe every 60 s, unless one is asked for.
    let programme = Programme { group: 1800, ..Programme::default() };
    let mut endpoint = Endpoint::whep_of(Server::builder(), RtcOptions::default(), programme).await;
    let options = RtcOptions { candidates: false, ..RtcOptions::default() };
    let mut viewer = RtcClient::view(&endpoint.server, "show", options).await;
    assert_eq!(viewer.trickle().await.status(), 204);
    viewer.connected().await;
    // What was asked for until now has come.
    let (mut pictures, mut keyframe) = (Pictures::default(), Instant::now());
    viewer
        .wait_for("a second without a keyframe", seconds(10), |event| {
            let RtcEvent::Media(packet) = event else { return None };
            let picture = (packet.kind == MediaKind::Video).then(|| pictures.push(&packet)).flatten()?;
            if picture.is_keyframe() {
                keyframe = picture.at;
            }
            (picture.at.saturating_duration_since(keyframe) >= seconds(1)).then_some(())
        })
        .await;
    let before = viewer.session.clone().expect("a session").etag;
    endpoint.publisher().drain();
    viewer.drain();
    viewer.restart().await;
    assert_ne!(viewer.session.clone().expect("a session").etag, before);
    // After it a keyframe comes, although the group of pictures is long from over.
    let mut pictures = Pictures::default();
    viewer
        .wait_for("a keyframe", seconds(5), |event| match event {
            RtcEvent::Media(packet) if packet.kind == MediaKind::Video => {
                pictures.push(&packet).filter(|picture| picture.is_decodable_start()).map(|_| ())
            }
            _ => None,
        })
        .await;
    let told = endpoint.publisher().drain();
    let asked = told.iter().any(|event| matches!(event, RtcEvent::KeyframeRequest { .. }));
    assert!(asked, "a keyframe came without being asked for: {told:?}");
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
