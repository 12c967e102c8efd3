//! The WHEP server checklist (draft-ietf-wish-whep), line by line: what is its own, and the lines of WHIP that
//! hold here too. What both share is in `common::checklist`; the extensions (E07) are in `extensions`, pictures and
//! their repair (E08 to E10) in `media`.

#[path = "../common/mod.rs"]
mod common;
mod extensions;
mod media;

use common::checklist::{self, CANDIDATE, fragment, links, parameter, retry_after, sections};
use common::{
    Endpoint, MediaKind, Pictures, Programme, RtcClient, RtcEvent, RtcOptions, Server, VideoCodec,
    eventually, header, is_stun, offer, problem, seconds,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

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
