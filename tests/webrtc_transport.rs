//! How WebRTC peers reach the gateway and stay: workers, ICE restarts, TCP, full ICE, IPv6.

mod common;

use common::{Browser, MediaKind, Programme, Publishing, RtcClient, RtcEvent, RtcOptions, Server};
use common::{eventually, machine, seconds};
use serde_json::json;
use std::net::{Ipv6Addr, UdpSocket};

/// A publisher that is connected, and its media.
async fn publisher(server: &Server, stream: &str, options: RtcOptions) -> (RtcClient, Publishing) {
    let mut publisher = RtcClient::publish(server, stream, options).await;
    let media = Publishing::start(publisher.sender(), Programme::default());
    publisher.connected().await;
    (publisher, media)
}

/// A viewer that has got a picture's packet and a sound's.
async fn viewer(server: &Server, stream: &str, options: RtcOptions) -> RtcClient {
    let mut viewer = RtcClient::view(server, stream, options).await;
    viewer.connected().await;
    gets_media(&mut viewer).await;
    viewer
}

/// Waits for media that was sent from now on.
async fn gets_media(viewer: &mut RtcClient) {
    viewer.drain();
    viewer.packet(MediaKind::Video).await;
    viewer.packet(MediaKind::Audio).await;
}

#[tokio::test]
async fn sessions_on_several_workers_get_what_the_kernel_gives_to_any() {
    let _machine = machine().await;
    let server = Server::builder().env("TIDEGATE_WEBRTC_WORKERS", "4").start().await;
    let mut sessions = Vec::new();
    // The kernel spreads these by their ports: nearly all reach a socket that is not their worker's.
    for number in 0..6 {
        let stream = format!("show{number}");
        let (publisher, media) = publisher(&server, &stream, RtcOptions::default()).await;
        let viewer = viewer(&server, &stream, RtcOptions::default()).await;
        sessions.push((publisher, media, viewer));
    }
    for (_, _, viewer) in &mut sessions {
        gets_media(viewer).await;
    }
    for (publisher, _, viewer) in &mut sessions {
        assert_eq!((viewer.delete().await, publisher.delete().await), (200, 200));
    }
}

#[tokio::test]
async fn w31_w36_a_viewers_restart_brings_media_by_the_new_credentials_and_a_keyframe() {
    let _machine = machine().await;
    let server = Server::builder().env("TIDEGATE_WEBRTC_WORKERS", "2").start().await;
    let (publisher, _media) = publisher(&server, "show", RtcOptions::default()).await;
    let mut viewer = viewer(&server, "show", RtcOptions::default()).await;
    let before = publisher.sender().keyframe_requests();
    let session = viewer.session.clone().expect("a session");
    viewer.restart().await;
    let renewed = viewer.session.clone().expect("a session");
    assert_ne!(session.etag, renewed.etag);
    assert!(renewed.etag.starts_with('"') && !renewed.etag.is_empty());
    let asked = || async { (publisher.sender().keyframe_requests() > before).then_some(()) };
    eventually("the publisher is asked for a keyframe", seconds(5), asked).await;
    gets_media(&mut viewer).await;
    // Consent has moved to the new credentials: the old entity tag is over, the new one counts.
    assert_eq!(session.patch("a=end-of-candidates\r\n".into(), &session.etag).await.status(), 412);
    assert_eq!(renewed.patch("a=end-of-candidates\r\n".into(), &renewed.etag).await.status(), 204);
}

#[tokio::test]
async fn w31_a_publishers_restart_goes_on_with_a_keyframe() {
    let _machine = machine().await;
    let server = Server::start().await;
    let (mut publisher, _media) = publisher(&server, "show", RtcOptions::default()).await;
    let mut viewer = viewer(&server, "show", RtcOptions::default()).await;
    let before = publisher.sender().keyframe_requests();
    publisher.restart().await;
    let asked = || async { (publisher.sender().keyframe_requests() > before).then_some(()) };
    eventually("it is asked for a keyframe", seconds(5), asked).await;
    gets_media(&mut viewer).await;
}

#[tokio::test]
async fn w37_after_a_restart_that_fails_or_is_not_gone_through_with_media_flows_on() {
    let _machine = machine().await;
    let server = Server::start().await;
    let (_publisher, _media) = publisher(&server, "show", RtcOptions::default()).await;
    let mut viewer = viewer(&server, "show", RtcOptions::default()).await;
    let session = viewer.session.clone().expect("a session");
    for fragment in ["a=ice-ufrag:newer\r\n", "a=ice-ufrag:newer\r\na=ice-pwd:short\r\n", "nonsense"] {
        let response = session.patch(fragment.into(), "*").await;
        assert_eq!(response.status(), 400, "{fragment}");
    }
    gets_media(&mut viewer).await;
    // Accepted by the server, and the client does nothing about it.
    let fragment = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na=ice-ufrag:newer\r\n\
                    a=ice-pwd:0123456789012345678901\r\n";
    let response = session.patch(fragment.into(), "*").await;
    assert_eq!(response.status(), 200);
    let text = response.text().await.expect("a fragment");
    for part in ["a=ice-lite\r\n", "\r\na=mid:1\r\n", "a=ice-pwd:", "a=candidate:", "a=end-of-candidates"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    gets_media(&mut viewer).await;
    let events = viewer.collect(seconds(3)).await;
    let lost = |event: &RtcEvent| matches!(event, RtcEvent::Disconnected | RtcEvent::Closed);
    assert!(!events.iter().any(lost), "the old credentials hold");
}

#[tokio::test]
async fn w38_overlapping_restarts_leave_one_that_works() {
    let _machine = machine().await;
    let server = Server::start().await;
    let (_publisher, _media) = publisher(&server, "show", RtcOptions::default()).await;
    let mut viewer = viewer(&server, "show", RtcOptions::default()).await;
    let session = viewer.session.clone().expect("a session");
    let fragment = viewer.begin_restart().await;
    let (first, second) = tokio::join!(
        session.patch(fragment.clone(), &session.etag),
        session.patch(fragment.clone(), &session.etag)
    );
    let mut statuses = [first.status().as_u16(), second.status().as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412], "one of the two wins");
    let winner = if first.status() == 200 { first } else { second };
    let fragment = winner.text().await.expect("a fragment");
    // What comes late belongs to the session before.
    assert_eq!(viewer.trickle().await.status(), 412);
    viewer.finish_restart(&fragment).await;
    gets_media(&mut viewer).await;
}

#[tokio::test]
async fn peers_come_by_tcp_to_the_same_port_number() {
    let _machine = machine().await;
    let server = Server::builder().env("TIDEGATE_WEBRTC_WORKERS", "2").start().await;
    let by_tcp = || RtcOptions { tcp: true, ..RtcOptions::default() };
    let (publisher, _media) = publisher(&server, "show", by_tcp()).await;
    let candidate = format!(" {} typ host tcptype passive\r\n", server.webrtc);
    assert!(publisher.answer.contains(&candidate), "{}", publisher.answer);
    let mut by_tcp = viewer(&server, "show", by_tcp()).await;
    let mut by_udp = viewer(&server, "show", RtcOptions::default()).await;
    gets_media(&mut by_tcp).await;
    gets_media(&mut by_udp).await;
    assert_eq!(by_tcp.delete().await, 200);
    by_tcp
        .wait_for("the end of the session", seconds(5), |event| {
            matches!(event, RtcEvent::Closed).then_some(())
        })
        .await;
    gets_media(&mut by_udp).await;
}

#[tokio::test]
async fn a_browser_that_can_not_use_udp_views_by_tcp() {
    let _machine = machine().await;
    let server = Server::start().await;
    let (_publisher, _media) =
        publisher(&server, "show", RtcOptions { audio: false, ..RtcOptions::default() }).await;
    let options = json!({ "tcp": true, "audio": false, "seconds": 3, "progress": false });
    let mut browser = Browser::start("view_whep", with_endpoint(options, &server.url("/show/whep")));
    browser.event("playing", seconds(30)).await;
}

#[tokio::test]
async fn without_tcp_none_is_offered() {
    let server = Server::builder().env("TIDEGATE_WEBRTC_TCP", "false").start().await;
    let publisher = RtcClient::publish(&server, "show", RtcOptions::default()).await;
    assert!(
        publisher.answer.contains(" udp ") && !publisher.answer.contains(" tcp "),
        "{}",
        publisher.answer
    );
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", server.webrtc)).await.is_err());
}

#[tokio::test]
async fn a_full_agent_sends_checks_to_a_client_that_sends_none() {
    for (mode, lite) in [("full", false), ("lite", true)] {
        let server = Server::builder().env("TIDEGATE_WEBRTC_ICE", mode).start().await;
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let port = socket.local_addr().expect("an address").port();
        // Of its own it sends nothing: the socket is not the client's.
        let edit = move |offer: String| {
            let candidate = format!("a=candidate:9 1 udp 99 127.0.0.1 {port} typ host\r\na=ice-ufrag:");
            offer.replacen("a=ice-ufrag:", &candidate, 1)
        };
        let options = RtcOptions { candidates: false, ..RtcOptions::default() }.edit(edit);
        let silent = RtcClient::publish(&server, "show", options).await;
        assert_eq!(silent.answer.contains("a=ice-lite"), lite);
        let wait = if lite { 1 } else { 10 };
        socket.set_read_timeout(Some(seconds(wait))).expect("a timeout");
        let mut buffer = [0; 1500];
        let received = socket.recv_from(&mut buffer);
        assert_eq!(received.is_err(), lite, "{received:?}");
        if let Ok((length, from)) = received {
            assert_eq!((from.port(), &buffer[..2]), (server.webrtc, &[0, 1][..]), "a binding request");
            let (ours, theirs) =
                (common::credentials(&silent.answer).0, common::credentials(&silent.offer).0);
            let username = format!("{theirs}:{ours}");
            let found = buffer[..length].windows(username.len()).any(|part| part == username.as_bytes());
            assert!(found, "of this session");
        }
    }
}

#[tokio::test]
async fn with_full_ice_media_flows_also_when_the_client_says_that_it_is_lite() {
    let _machine = machine().await;
    let server = Server::builder().env("TIDEGATE_WEBRTC_ICE", "full").start().await;
    let (mut publisher, _media) = publisher(&server, "show", RtcOptions::default()).await;
    // It is a full agent, and so both believe to control: a role conflict.
    let lite = RtcOptions::default().edit(|offer| offer.replacen("a=group:", "a=ice-lite\r\na=group:", 1));
    let mut conflicting = viewer(&server, "show", lite).await;
    let mut usual = viewer(&server, "show", RtcOptions::default()).await;
    usual.restart().await;
    publisher.restart().await;
    gets_media(&mut usual).await;
    gets_media(&mut conflicting).await;
}

#[tokio::test]
async fn a_browser_views_with_full_ice() {
    let _machine = machine().await;
    let server = Server::builder().env("TIDEGATE_WEBRTC_ICE", "full").start().await;
    let (_publisher, _media) =
        publisher(&server, "show", RtcOptions { audio: false, ..RtcOptions::default() }).await;
    let mut browser = Browser::start(
        "view_whep",
        with_endpoint(json!({ "audio": false, "seconds": 1 }), &server.url("/show/whep")),
    );
    browser.event("playing", seconds(30)).await;
}

#[tokio::test]
async fn peers_come_by_ipv6_as_well_as_by_ipv4() {
    if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        eprintln!("This machine has no IPv6.");
        return;
    }
    let _machine = machine().await;
    let server = Server::builder().dual_stack().start().await;
    let (publisher, _media) = publisher(&server, "show", RtcOptions::default()).await;
    for address in ["127.0.0.1", "::1"] {
        let candidate = format!(" {address} {} typ host\r\n", server.webrtc);
        assert!(publisher.answer.contains(&candidate), "{candidate} in\n{}", publisher.answer);
    }
    let six = RtcOptions { bind: Ipv6Addr::LOCALHOST.into(), ..RtcOptions::default() };
    let mut by_six = viewer(&server, "show", six).await;
    let mut by_four = viewer(&server, "show", RtcOptions::default()).await;
    gets_media(&mut by_six).await;
    gets_media(&mut by_four).await;
}

fn with_endpoint(mut options: serde_json::Value, endpoint: &str) -> serde_json::Value {
    options["endpoint"] = endpoint.into();
    options
}
