//! Real clients, each publishing and, where it can, viewing: what the README's interoperability table says.
//!
//! Each publisher is watched by WHEP and, with H.264, read by HLS until ffmpeg has decoded it without a word.

mod common;

use common::{
    Browser, Hls, Server, assert_plays_whep, assert_receives_h265, decode_errors, json_number, machine,
    probe, seconds,
};
use serde_json::{Value, json};

mod chromium {
    use super::*;

    #[tokio::test]
    async fn publishes_and_views_h264() {
        publishes_and_views("H264").await;
    }

    #[tokio::test]
    async fn publishes_and_views_vp8() {
        publishes_and_views("VP8").await;
    }

    #[tokio::test]
    async fn publishes_and_views_vp9() {
        publishes_and_views("VP9").await;
    }

    #[tokio::test]
    async fn publishes_and_views_av1() {
        publishes_and_views("AV1").await;
    }

    async fn publishes_and_views(codec: &str) {
        let _machine = machine().await;
        let server = Server::start().await;
        let options = json!({ "source": "camera", "codec": codec });
        let _publisher = Browser::publish(&server.url("/show/whip"), options).await;
        sees(&server, json!({}), codec).await;
        if codec == "H264" {
            reads_hls(&server).await;
        }
    }
}

mod firefox {
    use super::*;

    #[tokio::test]
    async fn publishes_and_views_vp8() {
        let _machine = machine().await;
        let server = Server::start().await;
        let options = json!({ "browser": "firefox", "source": "camera", "codec": "VP8" });
        let _publisher = Browser::publish(&server.url("/show/whip"), options).await;
        sees(&server, json!({ "browser": "firefox" }), "VP8").await;
        sees(&server, json!({}), "VP8").await;
    }

    #[tokio::test]
    async fn views_vp8_of_another_browser() {
        let _machine = machine().await;
        let server = Server::start().await;
        let options = json!({ "source": "camera", "codec": "VP8" });
        let _publisher = Browser::publish(&server.url("/show/whip"), options).await;
        sees(&server, json!({ "browser": "firefox" }), "VP8").await;
    }

    /// E04: Firefox as Debian packages it has no H.264.
    #[tokio::test]
    async fn is_told_why_it_cannot_view_h264() {
        let _machine = machine().await;
        let server = Server::start().await;
        let _publisher = Browser::publish(&server.url("/show/whip"), json!({ "source": "camera" })).await;
        let endpoint = server.url("/show/whep");
        let mut viewer = Browser::start(
            "view_whep",
            json!({ "browser": "firefox", "endpoint": endpoint, "codec": "VP8" }),
        );
        let refused = viewer.event_or_failure("result", seconds(30)).await;
        let message = refused["message"].as_str().unwrap_or_else(|| panic!("a failure: {refused}"));
        assert!(message.contains("POST answered 422"), "{message}");
        assert!(message.contains("H.264") && message.contains("VP8"), "{message}");
    }
}

mod ffmpeg_8 {
    use super::*;

    #[tokio::test]
    async fn publishes_h264() {
        let _machine = machine().await;
        let server = Server::start().await;
        let mut publisher =
            Browser::publish_with("ffmpeg_whip.py", &server.url("/show/whip"), json!({})).await;
        sees(&server, json!({}), "H264").await;
        reads_hls(&server).await;
        publisher.leave().await;
        leaves(&server).await;
    }
}

mod aiortc {
    use super::*;

    #[tokio::test]
    async fn publishes_and_views_h264() {
        publishes_and_views("H264").await;
    }

    #[tokio::test]
    async fn publishes_and_views_vp8() {
        publishes_and_views("VP8").await;
    }

    #[tokio::test]
    async fn views_h264_of_a_browser() {
        let _machine = machine().await;
        let server = Server::start().await;
        let _publisher = Browser::publish(&server.url("/show/whip"), json!({ "source": "flash" })).await;
        views(&server, "H264").await;
    }

    /// SRTP's protection profile: AEAD_AES_128_GCM wherever the client has it, in whatever order.
    #[tokio::test]
    async fn views_with_the_best_protection_profile_that_it_has() {
        let _machine = machine().await;
        let server = Server::start().await;
        let _publisher = Browser::publish(&server.url("/show/whip"), json!({ "source": "flash" })).await;
        let (gcm, sha1) = ("SRTP_AEAD_AES_128_GCM", "SRTP_AES128_CM_SHA1_80");
        for (offered, agreed) in [(json!([sha1, gcm]), gcm), (json!([gcm, sha1]), gcm), (json!([sha1]), sha1)]
        {
            let seen = views_with(&server, "H264", json!({ "profiles": offered })).await;
            assert_eq!(seen["profile"], agreed, "of {offered}: {seen}");
        }
    }

    async fn publishes_and_views(codec: &str) {
        let _machine = machine().await;
        let server = Server::start().await;
        let options = json!({ "codec": codec });
        let mut publisher =
            Browser::publish_with("aiortc_publish.py", &server.url("/show/whip"), options).await;
        sees(&server, json!({}), codec).await;
        views(&server, codec).await;
        if codec == "H264" {
            reads_hls(&server).await;
        }
        assert_eq!(publisher.leave().await["status"], 200);
        leaves(&server).await;
    }

    /// aiortc decodes pictures and sound of the stream.
    async fn views(server: &Server, codec: &str) {
        views_with(server, codec, json!({})).await;
    }

    /// The same with these options; what it counted.
    async fn views_with(server: &Server, codec: &str, mut options: Value) -> Value {
        options["endpoint"] = server.url("/show/whep").into();
        options["seconds"] = 4.into();
        let mut viewer = Browser::start_client("aiortc_view.py", options);
        let seen = viewer.event("result", seconds(30)).await;
        assert_eq!(seen["codec"], codec, "{seen}");
        assert!(json_number(&seen, "/frames") > 15.0 * json_number(&seen, "/seconds"), "{seen}");
        assert!(json_number(&seen, "/samples") > 40_000.0 * json_number(&seen, "/seconds"), "{seen}");
        assert!(json_number(&seen, "/energy") > 1e-4, "{seen}");
        assert!(json_number(&seen, "/flashes") >= 2.0, "{seen}");
        assert_eq!(viewer.event("left", seconds(10)).await["status"], 200);
        seen
    }
}

/// The stack inside OBS, with OBS's habits.
mod libdatachannel {
    use super::*;

    #[tokio::test]
    async fn publishes_h264() {
        let _machine = machine().await;
        let server = Server::start().await;
        let endpoint = server.url("/show/whip");
        let mut publisher = Browser::publish_with("libdatachannel_publish.mjs", &endpoint, json!({})).await;
        let viewed = sees(&server, json!({}), "H264").await;
        assert!(json_number(&viewed, "/video/framesDecoded") > 25.0 * json_number(&viewed, "/seconds"));
        reads_hls(&server).await;
        assert_eq!(publisher.leave().await["status"], 200);
        leaves(&server).await;
    }

    #[tokio::test]
    async fn publishes_h265() {
        let _machine = machine().await;
        let server = Server::start().await;
        let (endpoint, options) = (server.url("/show/whip"), json!({ "codec": "H265" }));
        let mut publisher = Browser::publish_with("libdatachannel_publish.mjs", &endpoint, options).await;
        assert_receives_h265(&server).await;
        assert_eq!(publisher.leave().await["status"], 200);
        leaves(&server).await;
    }
}

/// A browser views the stream by WHEP: pictures in this codec, and sound.
async fn sees(server: &Server, mut viewer: Value, codec: &str) -> Value {
    viewer["seconds"] = 4.into();
    viewer["settle"] = 2.into();
    let chromium = viewer["browser"] != "firefox"; // Firefox may not tell its cipher
    let viewed = Browser::view_whep(&server.url("/show/whep"), viewer).await;
    println!("{codec}: {viewed}");
    assert_eq!(viewed["video"]["codec"], format!("video/{codec}"), "{viewed}");
    if chromium {
        // It offers SRTP_AES128_CM_HMAC_SHA1_80 first.
        assert_eq!(viewed["cipher"], "SRTP_AEAD_AES_128_GCM", "{viewed}");
    }
    assert_plays_whep(&viewed, 10.0);
    viewed
}

/// HLS has H.264 and AAC that ffmpeg decodes without a complaint.
async fn reads_hls(server: &Server) {
    let hls = Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(15)).await;
    let folder = tempfile::tempdir().expect("a folder");
    for (kind, rendition) in hls.renditions() {
        hls.wait_for(rendition, seconds(4)).await;
        let file = hls.download(rendition, folder.path(), kind).await;
        let path = file.to_str().expect("a plain path");
        let found = probe(path).await;
        let codec = if kind == "video" { found.video.as_deref() } else { found.audio.as_deref() };
        assert_eq!(codec, Some(if kind == "video" { "h264" } else { "aac" }), "{kind}: {found:?}");
        assert_eq!(decode_errors(path).await, "", "{kind}");
    }
}

/// The publisher's goodbye is understood at once, not by its silence.
async fn leaves(server: &Server) {
    common::eventually("the publisher has left", seconds(2), async || {
        server.process.log().contains("Publisher left").then_some(())
    })
    .await;
}
