//! Browsers publish VP8, VP9 and AV1; browsers view them by LL-HLS, and an RTMP server gets H.264.

mod common;

use common::{Browser, Hls, Nginx, Server, decode_errors, eventually, machine, packets, probe, seconds};
use serde_json::json;

async fn reaches_hls_and_restream(codec: &str, over_hls: &str, probed: &str) {
    let _machine = machine().await;
    let server = Server::start().await;
    let target = Nginx::start().await;
    let created = server.add_target("show", &target.url("show")).await;
    let id = created["id"].as_str().expect("an id").to_owned();
    let options = json!({ "source": "camera", "codec": codec });
    let _publisher = Browser::publish(&server.url("/show/whip"), options).await;

    let viewed = Browser::view_hls(&server.url("/show/index.m3u8"), json!({ "seconds": 5 })).await;
    common::assert_plays_hls(&viewed);
    let hls = Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(15)).await;
    let multivariant = server.client.get(server.url("/show/index.m3u8")).send().await.expect("an answer");
    let multivariant = multivariant.text().await.expect("text");
    assert!(multivariant.contains(&format!("CODECS=\"{over_hls}")), "{multivariant}");
    let found = probe(&server.url("/show/index.m3u8")).await;
    assert_eq!((found.video.as_deref(), found.audio.as_deref()), (Some(probed), Some("aac")), "{found:?}");
    let folder = tempfile::tempdir().expect("a folder");
    let video = hls.video.clone().expect("a video rendition");
    let file = hls.download(&video, folder.path(), "video").await;
    let errors = decode_errors(file.to_str().expect("a path")).await;
    assert!(errors.is_empty(), "{errors}");

    server.target_state("show", &id, "live", seconds(10)).await;
    let stream = server.stream("show").await.expect("the API knows the stream");
    assert_eq!(stream["outputs"]["restream"]["transcoded"], true, "{stream}");
    target.recorded("show", seconds(8)).await;
    let path = format!("/api/v1/streams/show/targets/{id}");
    assert!(server.api("DELETE", &path).send().await.expect("an answer").status().is_success());
    let file = target.recordings("show").pop().expect("a recording");
    let path = file.to_str().expect("a path");
    let whole = async || decode_errors(path).await.is_empty().then_some(());
    eventually("a recording without errors", seconds(5), whole).await;
    let found = probe(path).await;
    assert_eq!((found.video.as_deref(), found.audio.as_deref()), (Some("h264"), Some("aac")), "{found:?}");
    assert!(packets(path, "v").await.len() > 60 && packets(path, "a").await.len() > 60);
}

#[tokio::test]
async fn vp8_is_transcoded_once_for_both() {
    reaches_hls_and_restream("VP8", "avc1.", "h264").await;
}

#[tokio::test]
async fn vp9_goes_into_hls_as_it_is() {
    reaches_hls_and_restream("VP9", "vp09.00.", "vp9").await;
}

#[tokio::test]
async fn av1_goes_into_hls_as_it_is() {
    reaches_hls_and_restream("AV1", "av01.0.", "av1").await;
}
