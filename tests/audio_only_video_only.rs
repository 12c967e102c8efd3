//! Streams of one track only, from both protocols to both viewers.

mod common;

use common::{
    Browser, Ffmpeg, Hls, Server, Source, assert_hls_runs, assert_whep_hears, assert_whep_sees, json_number,
    machine, seconds,
};
use serde_json::{Value, json};

#[tokio::test]
async fn rtmp_with_sound_alone() {
    let _machine = machine().await;
    let server = Server::start().await;
    let _publisher = Ffmpeg::publish(Source::AudioOnly, &server.rtmp_url("radio"));
    hears_alone(&server, "radio").await;
}

#[tokio::test]
async fn rtmp_with_a_picture_alone() {
    let _machine = machine().await;
    let server = Server::start().await;
    let _publisher = Ffmpeg::publish(Source::VideoOnly, &server.rtmp_url("mute"));
    sees_alone(&server, "mute").await;
}

#[tokio::test]
async fn whip_with_sound_alone() {
    let _machine = machine().await;
    let server = Server::start().await;
    let _publisher =
        Browser::publish(&server.url("/radio/whip"), json!({ "source": "camera", "video": false })).await;
    hears_alone(&server, "radio").await;
}

#[tokio::test]
async fn whip_with_a_picture_alone() {
    let _machine = machine().await;
    let server = Server::start().await;
    let _publisher =
        Browser::publish(&server.url("/mute/whip"), json!({ "source": "camera", "audio": false })).await;
    sees_alone(&server, "mute").await;
}

async fn hears_alone(server: &Server, name: &str) {
    let hls = Hls::open(&server.client, &server.url(&format!("/{name}/index.m3u8")), seconds(15)).await;
    assert_eq!(
        hls.renditions().iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
        ["audio"],
        "{}",
        hls.multivariant
    );
    let viewed = view_hls(server, name, json!({ "seconds": 3, "video": false })).await;
    assert_hls_runs(&viewed);
    assert!(json_number(&viewed, "/sound/energy") > 1e-5, "the sound has energy: {viewed}");
    // A viewer that also asks for video, as every player does, must be served what there is.
    let viewed = view_whep(server, name, json!({ "seconds": 2, "video": false })).await;
    assert_whep_hears(&viewed);
}

async fn sees_alone(server: &Server, name: &str) {
    let hls = Hls::open(&server.client, &server.url(&format!("/{name}/index.m3u8")), seconds(15)).await;
    assert_eq!(
        hls.renditions().iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
        ["video"],
        "{}",
        hls.multivariant
    );
    let viewed = view_hls(server, name, json!({ "seconds": 3 })).await;
    assert_hls_runs(&viewed);
    assert!(json_number(&viewed, "/pictures") > 10.0, "the picture moves: {viewed}");
    let viewed = view_whep(server, name, json!({ "seconds": 2, "settle": 2 })).await;
    assert_whep_sees(&viewed, 15.0);
}

async fn view_hls(server: &Server, name: &str, options: Value) -> Value {
    Browser::view_hls(&server.url(&format!("/{name}/index.m3u8")), options).await
}

/// The viewer offers both kinds, as every player does; `video: false` here only means that none is waited for.
async fn view_whep(server: &Server, name: &str, mut options: Value) -> Value {
    options["offerVideo"] = true.into();
    Browser::view_whep(&server.url(&format!("/{name}/whep")), options).await
}
