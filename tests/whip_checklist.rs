//! The WHIP server checklist (RFC 9725), line by line: what is its own. The lines that hold for WHEP too are in
//! `both`.

#[path = "common/checklist/both.rs"]
mod both;
mod common;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use common::checklist::{self, CANDIDATE, TURN, fragment, links, parameter, retry_after, sections};
use common::{
    ADMIN_TOKEN, Endpoint, Fate, MediaKind, Programme, Publishing, RtcClient, RtcEvent, RtcOptions, Server,
    ServerBuilder, attribute, eventually, header, is_rtcp, is_rtp, lines_without, offer, problem, seconds,
};
use std::time::{SystemTime, UNIX_EPOCH};

const KEY: &str = "publish-key-of-the-tests";

/// What `both` looks at.
async fn on(builder: ServerBuilder) -> Endpoint {
    Endpoint::whip(builder).await
}

async fn endpoint() -> Endpoint {
    on(Server::builder()).await
}

/// Publishing needs [`KEY`], and the endpoint shows it.
async fn guarded() -> Endpoint {
    let builder = Server::builder().guarded().env("TIDEGATE_AUTH_PUBLISH_KEY", KEY);
    Endpoint::whip(builder).await.with_key(KEY)
}

#[tokio::test]
async fn w04_the_answer_is_recvonly() {
    let endpoint = endpoint().await;
    for direction in ["sendonly", "sendrecv"] {
        let answer = endpoint.open_with(offer(direction)).await.answer;
        assert_eq!(sections(&answer).len(), 2);
        for section in sections(&answer) {
            assert!(section.contains("\r\na=recvonly\r\n"), "{section}");
            assert!(!section.contains("\r\na=send") && !section.contains("\r\na=inactive"), "{section}");
        }
    }
}

#[tokio::test]
async fn w05_offers_that_send_are_taken_and_others_are_422() {
    let endpoint = endpoint().await;
    for direction in ["recvonly", "inactive"] {
        let detail = problem(endpoint.post(offer(direction)).await, 422).await;
        assert!(detail.contains(direction), "{detail}");
    }
    // One section of the two is enough.
    let mixed = offer("sendonly").replacen("a=sendonly", "a=recvonly", 1);
    problem(endpoint.post(mixed).await, 422).await;
    // No direction is sendrecv (RFC 8866 §6.7).
    endpoint.open_with(lines_without(&offer("sendonly"), "a=sendonly")).await;
}

#[tokio::test]
async fn w08_options_needs_no_auth_and_says_what_can_be_posted() {
    checklist::w08(&guarded().await).await;
}

#[tokio::test]
async fn w11_at_most_one_audio_and_one_video() {
    let endpoint = endpoint().await;
    let whole = offer("sendonly");
    for (kind, index) in [("audio", 0), ("video", 1)] {
        let more = sections(&whole)[index].replace(&format!("a=mid:{index}"), "a=mid:2");
        let more = whole.replace("BUNDLE 0 1", "BUNDLE 0 1 2") + &more;
        let detail = problem(endpoint.post(more).await, 422).await;
        assert!(detail.contains(kind), "{detail}");
    }
    // Either alone is fine.
    let parts = sections(&whole);
    let head = whole.split("m=").next().expect("a head");
    for (index, part) in parts.iter().enumerate() {
        endpoint.open_with(head.replace("BUNDLE 0 1", &format!("BUNDLE {index}")) + part).await;
    }
}

#[tokio::test]
async fn w12_an_offer_is_taken_whole_or_not_at_all() {
    let endpoint = endpoint().await;
    let whole = offer("sendonly");
    let data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:2\r\na=sctp-port:5000\r\n";
    for (bad, words) in [
        (whole.replace("BUNDLE 0 1", "BUNDLE 0 1 2") + data, ["application", "data channels"]),
        (whole.replace("opus/48000/2", "PCMU/8000"), ["audio", "Opus"]),
        (whole.replace("H264/90000", "weather/90000"), ["video", "H.264"]),
        (whole.replacen("m=audio 9 ", "m=audio 0 ", 1), ["audio", "port"]),
        (whole.replacen("m=video 9 UDP/TLS/RTP/SAVPF", "m=video 9 RTP/AVP", 1), ["video", "SAVPF"]),
    ] {
        let path = endpoint.path();
        let detail = problem(endpoint.post_to(&path, bad).await, 422).await;
        for word in words {
            assert!(detail.contains(word), "{detail:?} lacks {word:?}");
        }
        // Nothing of it holds the name.
        assert_eq!(endpoint.post_to(&path, whole.clone()).await.status(), 201);
    }
}

#[tokio::test]
async fn w14_stun_and_turn_servers_are_told_with_the_session() {
    let endpoint = Endpoint::whip(
        Server::builder()
            .env("TIDEGATE_WEBRTC_ICE_SERVERS", TURN)
            .env("TIDEGATE_WEBRTC_TURN_USERNAME", "tide")
            .env("TIDEGATE_WEBRTC_TURN_CREDENTIAL", "gate \"1\""),
    )
    .await;
    assert_eq!(
        links(&endpoint.open().await),
        [
            r#"<stun:stun.example.net>; rel="ice-server""#,
            r#"<turn:turn.example.net:3478?transport=udp>; rel="ice-server"; username="tide"; credential="gate \"1\""; credential-type="password""#
        ]
    );
    let log = endpoint.server.process.log();
    assert!(!log.contains("gate \"1\""), "{log}");
}

#[tokio::test]
async fn w14_a_shared_secret_gives_each_session_credentials_that_expire() {
    let secret = "shared-secret-of-the-tests";
    let endpoint = Endpoint::whip(
        Server::builder()
            .env("TIDEGATE_WEBRTC_ICE_SERVERS", TURN)
            .env("TIDEGATE_WEBRTC_TURN_SECRET", secret)
            .env("TIDEGATE_WEBRTC_TURN_TTL", "1h"),
    )
    .await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let mut names = Vec::new();
    for _ in 0..2 {
        let links = links(&endpoint.open().await);
        let [stun, turn] = &links[..] else { panic!("{links:?}") };
        assert_eq!(parameter(stun, "username"), None);
        assert_eq!(parameter(turn, "credential-type"), Some("password"));
        let name = parameter(turn, "username").expect("a user name");
        let expiry: u64 = name.split(':').next().and_then(|expiry| expiry.parse().ok()).expect("a time");
        assert!((now + 3595..now + 3660).contains(&expiry), "{name} at {now}");
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
        let expected = BASE64_STANDARD.encode(hmac::sign(&key, name.as_bytes()));
        // `=` ends the value: the parameter is cut at the first one only.
        assert_eq!(parameter(turn, "credential"), Some(expected.as_str()), "{turn}");
        names.push(name.to_owned());
    }
    assert_ne!(names[0], names[1]);
    assert!(!endpoint.server.process.log().contains(secret));
}

#[tokio::test]
async fn w15_extensions_are_told_by_link_and_never_required() {
    checklist::w15(&endpoint().await, &[]).await;
    let builder = Server::builder().env("TIDEGATE_WEBRTC_ICE_SERVERS", "stun:stun.example.net");
    checklist::w15(&Endpoint::whip(builder).await, &["ice-server"]).await;
}

#[tokio::test]
async fn w16_bearer_tokens_open_endpoint_and_session() {
    let mut endpoint = guarded().await;
    let session = endpoint.open().await;
    for (key, status, challenge) in [
        (None, 401, "Bearer realm=\"tidegate\""),
        (Some("wrong"), 401, "invalid_token"),
        (Some(ADMIN_TOKEN), 403, "insufficient_scope"),
    ] {
        endpoint.key = key.map(str::to_owned);
        for response in [
            endpoint.post(endpoint.offer()).await,
            endpoint.patch(&session, &session.etag, fragment(CANDIDATE)).await,
            endpoint.request("DELETE", &session.path).send().await.expect("an answer"),
        ] {
            let found = header(&response, "www-authenticate");
            assert!(found.starts_with("Bearer") && found.contains(challenge), "{found}");
            problem(response, status).await;
        }
    }
    endpoint.key = Some(KEY.to_owned());
    assert_eq!(endpoint.patch(&session, &session.etag, fragment(CANDIDATE)).await.status(), 204);
    assert_eq!(endpoint.status("DELETE", &session.path).await, 200);
}

#[tokio::test]
async fn w19_keys_can_not_be_tried_without_end() {
    let builder = Server::builder().guarded().limited().env("TIDEGATE_AUTH_PUBLISH_KEY", KEY);
    let mut endpoint = Endpoint::whip(builder).await.with_key(KEY);
    let session = endpoint.open().await;
    let mut tried = 0;
    let refused = loop {
        endpoint.key = Some(format!("guess-{tried}"));
        let response = endpoint.request("DELETE", &session.path).send().await.expect("an answer");
        if response.status() != 401 {
            break response;
        }
        tried += 1;
        assert!(tried <= 20, "no limit");
    };
    assert!(tried >= 10, "{tried}");
    retry_after(&refused);
    let wrong = problem(refused, 429).await;
    // Now not even the right one is listened to, and the answer does not tell it from a wrong one.
    endpoint.key = Some(KEY.to_owned());
    let right = endpoint.request("DELETE", &session.path).send().await.expect("an answer");
    let right = problem(right, 429).await;
    let words = |detail: &str| detail.split(" in ").next().expect("words").to_owned();
    assert_eq!(words(&wrong), words(&right));
    // Nor that of the API.
    let api = endpoint.server.api("GET", "/api/v1/streams").send().await.expect("an answer");
    problem(api, 429).await;
    // Who shows none is told to.
    endpoint.key = None;
    problem(endpoint.request("DELETE", &session.path).send().await.expect("an answer"), 401).await;
}

#[tokio::test]
async fn w20_a_session_is_its_whole_path_where_a_key_is_needed_too() {
    checklist::w20(&guarded().await).await;
}

#[tokio::test]
async fn w21_all_layers_of_simulcast_are_taken() {
    let server = Server::start().await;
    for (number, rids) in
        [vec!["0"], vec!["a", "b"], vec!["f", "h", "q"], vec!["0", "1", "2", "3"]].iter().enumerate()
    {
        let options =
            RtcOptions { rids: rids.iter().map(|rid| rid.to_string()).collect(), ..RtcOptions::default() };
        let client = RtcClient::publish(&server, &format!("show-{number}"), options).await;
        let answer = &client.answer;
        let wanted = format!("recv {}", rids.join(";"));
        assert_eq!(attribute(answer, "simulcast"), Some(wanted.as_str()), "{answer}");
        for rid in rids {
            assert!(answer.contains(&format!("a=rid:{rid} recv")), "{answer}");
        }
    }
    let rids = ["0", "1", "2", "3", "4"].map(str::to_owned).to_vec();
    let refused =
        RtcClient::try_publish(&server, "show-5", RtcOptions { rids, ..RtcOptions::default() }).await;
    problem(refused.err().expect("five are too many"), 422).await;
}

#[tokio::test]
async fn w22_a_name_that_is_live_is_409() {
    let server = Server::start().await;
    let mut first = RtcClient::publish(&server, "show", RtcOptions::default()).await;
    let _media = Publishing::start(first.sender(), Programme::default());
    first.connected().await;
    let refused = RtcClient::try_publish(&server, "show", RtcOptions::default()).await;
    problem(refused.err().expect("taken"), 409).await;
    assert_eq!(first.delete().await, 200);
    RtcClient::publish(&server, "show", RtcOptions::default()).await;
}

#[tokio::test]
async fn w31_candidates_are_trickled_and_ice_is_restarted() {
    let server = Server::start().await;
    let options = RtcOptions { candidates: false, ..RtcOptions::default() };
    let mut publisher = RtcClient::publish(&server, "show", options).await;
    let _media = Publishing::start(publisher.sender(), Programme::default());
    assert_eq!(publisher.trickle().await.status(), 204);
    publisher.connected().await;
    let mut viewer = RtcClient::view(&server, "show", RtcOptions::default()).await;
    viewer.connected().await;
    viewer.packet(MediaKind::Video).await;
    let before = publisher.sender().keyframe_requests();
    publisher.restart().await;
    // The restart asks for a keyframe, and media go on.
    eventually("a keyframe is asked for", seconds(5), || async {
        (publisher.sender().keyframe_requests() > before).then_some(())
    })
    .await;
    viewer.drain();
    viewer.packet(MediaKind::Video).await;
    // The old ICE session gets no answer; the new one does, for as long as consent takes to fail.
    let events = publisher.collect(seconds(2)).await;
    assert!(
        !events.iter().any(|event| matches!(event, RtcEvent::Disconnected | RtcEvent::Closed)),
        "{events:?}"
    );
}

#[tokio::test]
async fn w37_a_restart_that_fails_leaves_the_session_alive() {
    let server = Server::start().await;
    let mut publisher = RtcClient::publish(&server, "show", RtcOptions::default()).await;
    let _media = Publishing::start(publisher.sender(), Programme::default());
    publisher.connected().await;
    let mut viewer = RtcClient::view(&server, "show", RtcOptions::default()).await;
    viewer.connected().await;
    for bad in [
        fragment(CANDIDATE).replace("a=ice-pwd:abcdefghijklmnopqrstuvwx", "a=ice-pwd:short"),
        fragment(CANDIDATE).replace("a=ice-pwd:abcdefghijklmnopqrstuvwx\r\n", ""),
        "a=ice-ufrag:what ever\r\na=ice-pwd:0123456789012345678901\r\n".to_owned(),
    ] {
        let session = publisher.session.clone().expect("a session");
        let status = session.patch(bad.clone(), "\"*\"").await.status().as_u16();
        assert!((400..500).contains(&status), "{status} for {bad}");
    }
    viewer.drain();
    viewer.packet(MediaKind::Video).await;
    viewer.packet(MediaKind::Audio).await;
    assert_eq!(publisher.trickle().await.status(), 204, "its entity tag is still good");
    assert_eq!(publisher.delete().await, 200);
}

#[tokio::test]
async fn w39_delete_is_200_and_ends_the_session() {
    checklist::w39(&endpoint().await).await;
    let server = Server::start().await;
    let mut publisher = RtcClient::publish(&server, "show", RtcOptions::default()).await;
    publisher.connected().await;
    assert_eq!(publisher.delete().await, 200);
    let closed = |event| matches!(event, RtcEvent::Closed).then_some(());
    publisher.wait_for("the end of DTLS", seconds(2), closed).await;
    // The name is free.
    RtcClient::publish(&server, "show", RtcOptions::default()).await;
}

#[tokio::test]
async fn w40_a_session_without_consent_ends() {
    let server = Server::start().await;
    let mut publisher = RtcClient::publish(&server, "show", RtcOptions::default()).await;
    publisher.connected().await;
    // No checks: RFC 7675 §5.1 gives it 30 s. Authentic media and reports are signs of life of a publisher, to
    // which we send nothing but feedback: FFmpeg sends one check only. So they are missing as well.
    publisher.set_checking(false).await;
    let sign_of_life = |data: &[u8]| is_rtp(data) || is_rtcp(data);
    publisher.filter_outgoing(move |data| if sign_of_life(data) { Fate::Drop } else { Fate::Pass }).await;
    checklist::gone(publisher.session.clone().expect("a session")).await;
}
