//! Sessions that never come about: how many there may be, and for how long.

mod common;

use common::{
    Fate, MediaKind, Programme, Publishing, RtcClient, RtcOffer, RtcOptions, Server, eventually, is_dtls,
    seconds,
};
use reqwest::{Client, Response};

/// Sessions of one source that have not passed a connectivity check.
const PER_SOURCE: usize = 50;

#[tokio::test]
async fn w18_half_open_sessions_are_limited_for_each_source_and_freed() {
    let server = Server::builder().limited().env("TIDEGATE_LIMITS_EXEMPT", "127.0.0.0/8").start().await;
    let mut publisher = RtcClient::publish(&server, "show", RtcOptions::default()).await;
    let _media = Publishing::start(publisher.sender(), Programme::default());
    publisher.connected().await;
    let mut viewer = eventually("the stream is live", seconds(5), || async {
        RtcClient::try_view(&server, "show", RtcOptions::default()).await.ok()
    })
    .await;
    viewer.connected().await;
    // Publishers and viewers that say no more than their offer, up to the limit; the connected don't count.
    let mut urls = Vec::new();
    for number in 0..PER_SOURCE {
        let response = match number % 2 {
            0 => post(&server, &server.client, &format!("/half-{number}/whip"), true).await,
            _ => post(&server, &server.client, "/show/whep", false).await,
        };
        assert_eq!(response.status(), 201, "number {number}");
        let location = response.headers()["location"].to_str().expect("ASCII");
        urls.push(response.url().join(location).expect("a URL"));
    }
    for (path, publishes) in [("/one-more/whip", true), ("/show/whep", false)] {
        let response = post(&server, &server.client, path, publishes).await;
        assert_eq!(response.status(), 503, "{path}");
        let wait: u64 = response.headers()["retry-after"].to_str().expect("ASCII").parse().expect("seconds");
        assert!((1..=15).contains(&wait), "{wait}");
        let kind = response.headers()["content-type"].to_str().expect("ASCII");
        assert!(kind.starts_with("application/problem+json"), "{kind}");
    }
    // Another source is let in.
    let elsewhere = common::http_client().local_address("127.0.0.2".parse().ok()).build();
    let elsewhere = elsewhere.expect("a client");
    let response = post(&server, &elsewhere, "/show/whep", false).await;
    assert_eq!(response.status(), 201);
    // So is one more of this source as soon as another's place is free.
    assert_eq!(server.client.delete(urls[0].clone()).send().await.expect("an answer").status(), 200);
    assert_eq!(post(&server, &server.client, "/half-0/whip", true).await.status(), 201);
    assert_eq!(post(&server, &server.client, "/one-more/whip", true).await.status(), 503);
    // Ten seconds later all are forgotten, and their names are free.
    eventually("there is room again", seconds(15), || async {
        (post(&server, &server.client, "/one-more/whip", true).await.status() == 201).then_some(())
    })
    .await;
    for url in &urls[2..] {
        eventually("the session is forgotten", seconds(5), || async {
            (server.client.delete(url.clone()).send().await.ok()?.status() == 404).then_some(())
        })
        .await;
    }
    assert_eq!(post(&server, &server.client, "/half-2/whip", true).await.status(), 201);
    // The connected have noticed nothing.
    viewer.drain();
    viewer.packet(MediaKind::Video).await;
}

#[tokio::test]
async fn handshakes_that_never_end_are_forgotten() {
    let server = Server::start().await;
    let stuck = RtcClient::publish(&server, "stuck", RtcOptions::default()).await;
    // ICE goes on for ever, DTLS never begins.
    stuck.filter_outgoing(|data| if is_dtls(data) { Fate::Drop } else { Fate::Pass }).await;
    eventually("the session is forgotten", seconds(20), || async {
        (stuck.trickle().await.status() == 404).then_some(())
    })
    .await;
    let mut next = RtcClient::publish(&server, "stuck", RtcOptions::default()).await;
    next.connected().await;
}

/// POSTs an offer of a client that never says anything else.
async fn post(server: &Server, client: &Client, path: &str, publishes: bool) -> Response {
    let offer = RtcOffer::new(publishes, &RtcOptions::default());
    let request = client.post(server.url(path)).header("content-type", "application/sdp");
    request.body(offer.sdp().to_owned()).send().await.expect("an answer")
}
