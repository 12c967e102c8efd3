//! A browser publishes by WHIP; a browser views by LL-HLS and another by WHEP.

mod common;

use common::{Browser, Server, machine};
use serde_json::json;

#[tokio::test]
async fn a_browser_publishes_and_browsers_view_it_both_ways() {
    let _machine = machine().await;
    let server = Server::start().await;
    let _publisher = Browser::publish(&server.url("/show/whip"), json!({ "source": "camera" })).await;

    let viewed = Browser::view_hls(&server.url("/show/index.m3u8"), json!({ "seconds": 5 })).await;
    common::assert_plays_hls(&viewed);
    let viewed = Browser::view_whep(&server.url("/show/whep"), json!({ "seconds": 4, "settle": 2 })).await;
    common::assert_plays_whep(&viewed, 15.0);
    assert_eq!(viewed["video"]["codec"], "video/H264", "{viewed}");

    let stream = server.stream("show").await.expect("the API knows the stream");
    assert!(stream.to_string().to_lowercase().contains("whip"), "{stream}");
}
