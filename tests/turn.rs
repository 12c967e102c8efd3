//! Clients behind a firewall: a browser that may use relay candidates only publishes and views through
//! coturn, with nothing but what the answer to its POST told it.

mod common;

use common::{Browser, Server, Turn, TurnAuth, assert_plays_whep, machine, seconds};
use serde_json::json;

#[tokio::test]
async fn a_relayed_browser_publishes_and_views_with_static_credentials() {
    let (username, password) = ("viewer", "pass-of-the-tests");
    let turn = Turn::start(TurnAuth::Static { username, password }).await;
    let settings =
        [("TIDEGATE_WEBRTC_TURN_USERNAME", username), ("TIDEGATE_WEBRTC_TURN_CREDENTIAL", password)];
    goes_through(&turn, "udp", &settings).await;
}

#[tokio::test]
async fn a_relayed_browser_publishes_and_views_with_time_limited_credentials() {
    let turn = Turn::start(TurnAuth::Secret("secret-of-the-tests")).await;
    goes_through(&turn, "udp", &[("TIDEGATE_WEBRTC_TURN_SECRET", "secret-of-the-tests")]).await;
}

#[tokio::test]
async fn a_browser_reaches_its_relay_over_tcp() {
    let turn = Turn::start(TurnAuth::Secret("secret-of-the-tests")).await;
    goes_through(&turn, "tcp", &[("TIDEGATE_WEBRTC_TURN_SECRET", "secret-of-the-tests")]).await;
}

async fn goes_through(turn: &Turn, transport: &str, settings: &[(&str, &str)]) {
    let _machine = machine().await;
    let mut server = Server::builder().env("TIDEGATE_WEBRTC_ICE_SERVERS", &turn.url(transport));
    for (key, value) in settings {
        server = server.env(key, value);
    }
    let server = server.start().await;
    let options = json!({ "endpoint": server.url("/show/whip"), "source": "camera", "turn": true });
    let mut publisher = Browser::start("publish", options);
    let connected = publisher.event("connected", seconds(30)).await;
    assert_eq!(connected["local"]["candidateType"], "relay", "{connected}");
    assert_eq!(connected["local"]["relayProtocol"], transport, "{connected}");
    let viewer = json!({ "turn": true, "seconds": 4, "settle": 2 });
    let viewed = Browser::view_whep(&server.url("/show/whep"), viewer).await;
    assert_plays_whep(&viewed, 10.0);
    assert_eq!(viewed["local"]["candidateType"], "relay", "{viewed}");
    let allocations = turn.log().matches("ALLOCATE processed, success").count();
    assert!(allocations >= 2, "{allocations} allocations:\n{}", turn.log());
}
