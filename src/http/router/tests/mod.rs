//! Answers that need no media: statuses, headers, problems.

mod api;

use super::*;
use crate::auth::{Access, Keyring, Publishing};
use crate::declarations::Declarations;
use crate::events::Journal;
use crate::hls::{Hls, HlsSettings};
use crate::http::api::EventReaders;
use crate::http::bitrate::Bitrates;
use crate::http::rates::Rates;
use crate::http::sessions::Sessions;
use crate::http::{About, IceServers, Origins, RateSettings, Rooms};
use crate::media::{Codec, Frame, MediaKind, MediaTime, Packet, PacketBatch, Secret, Tracks, VideoTrack};
use crate::metrics::{Metrics, Sources};
use crate::pipeline::Pipelines;
use crate::restream::{RestreamSettings, Restreams};
use crate::store::Store;
use crate::stream::{Hub, Publisher, Source, SourceKind};
use crate::webhooks::Webhooks;
use crate::webrtc::{WebRtc, WebRtcSettings};
use axum::body::{Body, Bytes};
use axum::http::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ALLOW, AUTHORIZATION, CONTENT_ENCODING, LOCATION, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use axum::http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const SESSION: &str = "/demo/whip/0123456789abcdef0123456789abcdef";

/// A site with the publish key "publish-key" and the admin token "admin-token".
struct Site {
    router: Router,
    hub: Hub,
    closing: CancellationToken,
}

impl Site {
    async fn new() -> Self {
        Self::with(RateSettings::off(), None).await
    }

    async fn with(rates: RateSettings, hosts: Option<Vec<String>>) -> Self {
        let store = Store::in_memory();
        let (hub, _reaper) = Hub::new(Duration::from_secs(60));
        let pipelines = Pipelines::load(None).expect("GStreamer");
        let settings = HlsSettings::default();
        let listen = "127.0.0.1:0".parse().expect("an address");
        let webrtc = WebRtcSettings::new(listen);
        let journal = Journal::new(std::time::SystemTime::now(), 100);
        let webhooks = Webhooks::idle();
        let restreams = Restreams::new(hub.clone(), Store::in_memory(), RestreamSettings::default());
        let webrtc = WebRtc::start(webrtc, hub.clone()).expect("a port");
        let sources = Sources {
            webhooks: webhooks.clone(),
            hub: hub.clone(),
            restreams: restreams.clone(),
            webrtc: webrtc.clone(),
            rtmp: Arc::default(),
            refusals: Default::default(),
            pipelines: pipelines.clone(),
            journal: journal.clone(),
        };
        let rooms = Rooms {
            hub: hub.clone(),
            hls: Hls::new(settings, pipelines),
            webrtc,
            restreams,
            rtmp: Arc::default(),
            declarations: Declarations::load(store, hub.clone()).await.expect("empty"),
            journal,
            webhooks,
            metrics: Metrics::new(sources, false),
        };
        let access = Access {
            admin_token: Secret::new("admin-token"),
            publishing: Publishing::Key(Secret::new("publish-key")),
            keyring: Keyring::empty(),
        };
        let closing = CancellationToken::new();
        let app = App {
            rooms,
            access,
            bitrates: Bitrates::default(),
            rates: Rates::new(&rates),
            proxies: crate::http::Proxies::default(),
            origins: Origins::Any,
            ice_servers: IceServers::none(),
            sessions: Sessions::default(),
            event_readers: EventReaders::default(),
            open_metrics: false,
            idempotency: Default::default(),
            about: About::nothing(),
            local: listen,
            hosts,
            closing: closing.clone(),
        };
        Self { router: router(Arc::new(app)), hub, closing }
    }

    fn publish(&self, name: &str) -> Publisher<Frame> {
        let source = Source { kind: SourceKind::Rtmp, remote: None };
        self.hub.publish(name.parse().expect("a name"), source).expect("free")
    }

    /// `headers`: "name: value" lines.
    async fn ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for header in headers {
            let (name, value) = header.split_once(": ").expect("a header line");
            request = request.header(name, value);
        }
        let request = request.body(Body::from(body.to_owned())).expect("a request");
        let Ok(response) = self.router.clone().oneshot(request).await;
        response
    }

    async fn status(&self, method: &str, path: &str, headers: &[&str], body: &str) -> u16 {
        let response = self.ask(method, path, headers, body).await;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json", "{method} {path}");
        }
        status.as_u16()
    }

    async fn api(&self, path: &str) -> (u16, Value) {
        let response = self.ask("GET", path, &[ADMIN], "").await;
        (response.status().as_u16(), document(response).await)
    }
}

const ADMIN: &str = "authorization: Bearer admin-token";
const KEY: &str = "authorization: Bearer publish-key";
const SDP: &str = "content-type: application/sdp";
const FRAGMENT: &str = "content-type: application/trickle-ice-sdpfrag";

async fn document(response: Response<Body>) -> Value {
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    serde_json::from_slice(&body).expect("JSON")
}

#[tokio::test]
async fn w01_w16_an_offer_needs_a_key_and_a_type() {
    let site = Site::new().await;
    assert_eq!(site.status("POST", "/demo/whip", &[SDP], "v=0").await, 401);
    assert_eq!(site.status("POST", "/demo/whip", &[SDP, ADMIN], "v=0").await, 403);
    assert_eq!(site.status("POST", "/demo/whip", &[KEY], "v=0").await, 415);
    assert_eq!(site.status("POST", "/demo/whip", &[KEY, "content-type: text/plain"], "v=0").await, 415);
    let response = site.ask("POST", "/demo/whip", &[], "").await;
    assert!(response.headers()[WWW_AUTHENTICATE].to_str().expect("text").starts_with("Bearer"));
    assert_eq!(site.status("POST", "/demo/whep", &[], "v=0").await, 415);
}

#[tokio::test]
async fn w02_a_malformed_offer_is_400() {
    let site = Site::new().await;
    assert_eq!(site.status("POST", "/demo/whip", &[KEY, SDP], "garbage").await, 400);
    assert_eq!(site.status("POST", "/demo/whip", &[KEY, SDP], &"a=x\r\n".repeat(16_000)).await, 413);
}

#[tokio::test]
async fn w07_e02_get_and_head_succeed_without_a_body() {
    let site = Site::new().await;
    for method in ["GET", "HEAD"] {
        for (path, status) in [
            ("/demo/whip", 204),
            ("/demo/whep", 200),
            (SESSION, 204),
            ("/demo/whep/0123456789abcdef0123456789abcdef", 204),
        ] {
            let response = site.ask(method, path, &[], "").await;
            assert_eq!(response.status().as_u16(), status, "{method} {path}");
            if path == "/demo/whep" {
                assert_eq!(response.headers()[CONTENT_TYPE], "application/sdp");
            }
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            assert!(body.is_empty(), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn w08_w41_preflights_need_no_key() {
    let site = Site::new().await;
    for path in ["/demo/whip", "/demo/whep", SESSION] {
        let preflight = ["origin: https://other.example", "access-control-request-method: POST"];
        let response = site.ask("OPTIONS", path, &preflight, "").await;
        assert_eq!(response.status().as_u16(), 200, "{path}");
        let header = |name: &str| response.headers()[name].to_str().expect("text").to_owned();
        assert_eq!(header(ACCESS_CONTROL_ALLOW_ORIGIN.as_str()), "*");
        assert_eq!(
            header(ACCESS_CONTROL_EXPOSE_HEADERS.as_str()),
            "Location, Link, ETag, Accept-Patch, Retry-After, WWW-Authenticate"
        );
        assert_eq!(header(ACCESS_CONTROL_ALLOW_HEADERS.as_str()), "Authorization, Content-Type, If-Match");
        assert_eq!(header(ACCESS_CONTROL_ALLOW_METHODS.as_str()), "OPTIONS, GET, HEAD, POST, PATCH, DELETE");
        let accept = if path == SESSION { "accept-patch" } else { "accept-post" };
        assert!(header(accept).starts_with("application/"));
        assert!(!response.headers().contains_key("link"), "W09");
    }
}

#[tokio::test]
async fn w41_problems_can_be_read_by_other_origins() {
    let site = Site::new().await;
    for method in ["POST", "PUT"] {
        let response = site.ask(method, "/demo/whip", &[], "").await;
        assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "*", "{method}");
        assert!(response.headers().contains_key(ACCESS_CONTROL_EXPOSE_HEADERS));
    }
}

#[tokio::test]
async fn w30_w33_w39_sessions_answer_exactly() {
    let site = Site::new().await;
    let whep = "/demo/whep/0123456789abcdef0123456789abcdef";
    assert_eq!(site.status("PATCH", SESSION, &[FRAGMENT], "").await, 401);
    assert_eq!(site.status("PATCH", SESSION, &[KEY, SDP], "").await, 415);
    assert_eq!(site.status("PATCH", SESSION, &[KEY, FRAGMENT], "").await, 428);
    assert_eq!(site.status("PATCH", SESSION, &[KEY, FRAGMENT, "if-match: \"x\""], "a=x\r\n").await, 404);
    assert_eq!(site.status("DELETE", SESSION, &[], "").await, 401);
    assert_eq!(site.status("DELETE", SESSION, &[KEY], "").await, 404);
    assert_eq!(site.status("DELETE", "/demo/whip/short", &[KEY], "").await, 404);
    assert_eq!(site.status("PATCH", whep, &[FRAGMENT], "").await, 428);
    assert_eq!(site.status("DELETE", whep, &[], "").await, 404);
}

/// An offer of one H.264 track.
fn offer(direction: &str) -> String {
    let fingerprint = ["AB"; 32].join(":");
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=ice-ufrag:abcd\r\n\
         a=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\n\
         a=rtcp-mux\r\na={direction}\r\na=rtpmap:96 H264/90000\r\n\
         a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n"
    )
}

/// W03, W32, W34, W38 and W39 in the order of a session's life.
async fn lives(site: &Site, endpoint: &str, direction: &str) {
    let response = site.ask("POST", endpoint, &[KEY, SDP], &offer(direction)).await;
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    assert_eq!(head.status.as_u16(), 201, "{body:?}");
    assert_eq!(head.headers[CONTENT_TYPE], "application/sdp");
    assert!(body.starts_with(b"v=0\r\n"));
    let text = |name: &str| head.headers[name].to_str().expect("text").to_owned();
    let (session, etag) = (text("location"), text("etag"));
    let id = session.strip_prefix(&format!("{endpoint}/")).expect("below the endpoint");
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 2, "strong: {etag}");

    let fragment = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n\
                    m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n\
                    a=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host\r\n";
    let if_match = format!("if-match: {etag}");
    for _ in 0..2 {
        let response = site.ask("PATCH", &session, &[KEY, FRAGMENT, &if_match], fragment).await;
        assert_eq!(response.status().as_u16(), 204);
        assert!(!response.headers().contains_key("etag"));
    }
    assert_eq!(site.status("DELETE", &session, &[KEY, "if-match: \"stale\""], "").await, 200);
    assert_eq!(site.status("DELETE", &session, &[KEY], "").await, 404);
    assert_eq!(site.status("PATCH", &session, &[KEY, FRAGMENT, &if_match], fragment).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn w03_w32_w34_w39_a_publishers_session() {
    lives(&Site::new().await, "/demo/whip", "sendonly").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn w03_w32_w34_w39_a_viewers_session() {
    let site = Site::new().await;
    let source = Source { kind: SourceKind::Whip, remote: None };
    let publisher = site.hub.publish::<PacketBatch>("demo".parse().expect("a name"), source).expect("free");
    let video = VideoTrack {
        codec: Codec::H264,
        resolution: None,
        frame_rate: None,
        codec_data: Bytes::new(),
        fmtp: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f".to_owned(),
        reordered: false,
    };
    let epoch = publisher.begin_epoch(Tracks { video: Some(video), audio: None }, SystemTime::now());
    let packet = Packet {
        kind: MediaKind::Video,
        layer: 0,
        sequence: 1,
        timestamp: 0,
        pts: MediaTime::ZERO,
        marker: true,
        keyframe: true,
        payload: Bytes::from_static(&[0x65, 0]),
    };
    publisher.write(PacketBatch { epoch, packets: vec![packet] });
    lives(&site, "/demo/whep", "recvonly").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn w22_a_name_that_is_live_is_refused() {
    let site = Site::new().await;
    let _publisher = site.publish("demo");
    let response = site.ask("POST", "/demo/whip", &[KEY, SDP], &offer("sendonly")).await;
    assert_eq!(response.status().as_u16(), 409);
    let problem = document(response).await;
    assert_eq!(problem["code"], "stream-taken");
}

#[tokio::test]
async fn e03_an_unknown_stream_can_not_be_watched() {
    let site = Site::new().await;
    let offer = "v=0\r\n";
    let status = site.status("POST", "/nobody/whep", &[SDP], offer).await;
    assert!(status == 404 || status == 400, "{status}");
    assert_eq!(site.status("GET", "/nobody/index.m3u8", &[], "").await, 404);
}

#[tokio::test]
async fn w18_while_closing_nobody_new_is_taken() {
    let site = Site::new().await;
    assert_eq!(site.status("GET", "/readyz", &[], "").await, 200);
    site.closing.cancel();
    for (method, path, headers) in [
        ("GET", "/readyz", &[][..]),
        ("POST", "/demo/whip", &[KEY, SDP][..]),
        ("POST", "/demo/whep", &[SDP][..]),
        ("POST", "/api/v1/streams/demo/targets", &[ADMIN][..]),
    ] {
        let response = site.ask(method, path, headers, "v=0").await;
        assert_eq!(response.status().as_u16(), 503, "{method} {path}");
        assert!(response.headers().contains_key(RETRY_AFTER));
    }
    assert_eq!(site.status("GET", "/healthz", &[], "").await, 200);
}

#[tokio::test]
async fn the_api_always_needs_the_admin_token() {
    let site = Site::new().await;
    for path in
        ["/api/v1/streams", "/api/v1/streams/demo", "/api/v1/streams/demo/targets/1", "/api/v1/nothing"]
    {
        let response = site.ask("GET", path, &[], "").await;
        assert_eq!(response.status().as_u16(), 401, "{path}");
        assert!(response.headers().contains_key(WWW_AUTHENTICATE));
        assert!(
            !response.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN),
            "no foreign page reads the API"
        );
        assert_eq!(site.status("GET", path, &[KEY], "").await, 403, "{path}");
        assert_eq!(site.status("GET", path, &["authorization: Bearer wrong"], "").await, 401, "{path}");
    }
    assert_eq!(site.status("DELETE", "/api/v1/streams/demo/publisher", &[], "").await, 401);
    assert_eq!(site.status("PUT", "/api/v1/streams", &[], "").await, 401);
    assert_eq!(site.status("PUT", "/api/v1/streams", &[ADMIN], "").await, 405);
    assert_eq!(site.status("GET", "/api/v1/nothing", &[ADMIN], "").await, 404);
}

#[tokio::test]
async fn the_api_lists_streams() {
    let site = Site::new().await;
    let (status, empty) = site.api("/api/v1/streams").await;
    assert_eq!((status, empty), (200, json!({"items": [], "itemCount": 0, "pageCount": 0})));
    let _publishers = ["a", "b", "c"].map(|name| site.publish(name));
    let (_, list) = site.api("/api/v1/streams?page=1&itemsPerPage=2").await;
    assert_eq!((&list["itemCount"], &list["pageCount"]), (&json!(3), &json!(2)));
    assert_eq!(list["items"][0]["name"], "c");
    for query in ["itemsPerPage=0", "itemsPerPage=x", "pages=1"] {
        let (status, problem) = site.api(&format!("/api/v1/streams?{query}")).await;
        assert_eq!(status, 400, "{query}: {problem}");
    }
}

#[tokio::test]
async fn the_api_shows_one_stream_and_kicks_its_publisher() {
    let site = Site::new().await;
    assert_eq!(site.status("GET", "/api/v1/streams/demo", &[ADMIN], "").await, 404);
    assert_eq!(site.status("DELETE", "/api/v1/streams/demo/publisher", &[ADMIN], "").await, 404);
    let publisher = site.publish("demo");
    let (status, stream) = site.api("/api/v1/streams/demo").await;
    assert_eq!(status, 200);
    assert_eq!(stream["source"]["kind"], "rtmp");
    assert_eq!(stream["readers"], json!({"hls": 0, "whep": 0, "restream": 0}));
    assert_eq!(stream["bytesReceived"], 0);
    assert!(stream["since"].as_str().expect("a time").ends_with('Z'));
    assert_eq!(site.status("DELETE", "/api/v1/streams/demo/publisher", &[ADMIN], "").await, 204);
    assert!(publisher.kicked().is_cancelled());
    drop(publisher);
    let (_, waiting) = site.api("/api/v1/streams/demo").await;
    assert_eq!(waiting["source"], Value::Null);
    assert_eq!(site.status("DELETE", "/api/v1/streams/demo/publisher", &[ADMIN], "").await, 409);
}

#[tokio::test]
async fn a_posted_target_is_checked_field_by_field() {
    let site = Site::new().await;
    let path = "/api/v1/streams/demo/targets";
    let json = "content-type: application/json";
    assert_eq!(site.status("POST", path, &[ADMIN], "{}").await, 415);
    assert_eq!(site.status("POST", path, &[ADMIN, json], "{").await, 400);
    let response = site.ask("POST", path, &[ADMIN, json], r#"{"url": 7}"#).await;
    assert_eq!(response.status().as_u16(), 422);
    let detail = document(response).await["detail"].as_str().expect("a detail").to_owned();
    assert!(detail.contains("\"url\"") && detail.contains("a string"), "{detail}");
    let body = r#"{"url": "rtmp://127.0.0.1:1/app/canary", "name": "x"}"#;
    let response = site.ask("POST", path, &[ADMIN, json], body).await;
    assert_eq!(response.status().as_u16(), 201);
    let location = response.headers()[LOCATION].to_str().expect("text").to_owned();
    let target = document(response).await;
    assert_eq!(location, format!("{path}/{}", target["id"].as_str().expect("an id")));
    assert!(!target.to_string().contains("canary"));
    assert_eq!(site.status("GET", &format!("{path}/nope"), &[ADMIN], "").await, 404);
    assert_eq!(site.status("DELETE", &format!("{path}/nope"), &[ADMIN], "").await, 404);
}

#[tokio::test]
async fn the_public_list_shows_streams_that_are_live_or_may_come_back() {
    let site = Site::new().await;
    let publisher = site.publish("demo");
    let list = document(site.ask("GET", "/live", &[], "").await).await;
    assert_eq!(list["items"][0]["name"], "demo");
    assert_eq!(list["items"][0]["whep"], "/demo/whep");
    assert_eq!(list["items"][0]["hls"], "/demo/index.m3u8");
    assert_eq!(list["items"][0]["state"], "live");
    drop(publisher);
    let list = document(site.ask("GET", "/live", &[], "").await).await;
    assert_eq!(list["items"][0]["state"], "waiting");
}

#[tokio::test]
async fn what_is_not_there_is_a_problem() {
    let site = Site::new().await;
    for path in ["/api/v2/x", "/a/b/c/d", "/.git", "/assets/nothing.js", "/demo/whip/x/y"] {
        assert_eq!(site.status("GET", path, &[], "").await, 404, "{path}");
    }
    assert_eq!(site.status("POST", "/bad%20name/whip", &[KEY, SDP], "v=0").await, 400);
    assert_eq!(site.status("GET", "/assets/%ff", &[], "").await, 400);
    for (method, path, allow) in [
        ("PUT", "/demo/whip", "POST"),
        ("POST", "/demo/index.m3u8", "GET"),
        ("DELETE", "/", "GET"),
        ("POST", "/healthz", "GET"),
    ] {
        let response = site.ask(method, path, &[], "").await;
        assert_eq!(response.status().as_u16(), 405, "{method} {path}");
        let allowed = response.headers()[ALLOW].to_str().expect("text");
        assert!(allowed.contains(allow), "{method} {path}: {allowed}");
        assert_eq!(document(response).await["status"], 405);
    }
}

#[tokio::test]
async fn l17_errors_of_media_are_cached_for_a_second_and_readable_everywhere() {
    let site = Site::new().await;
    let response = site.ask("GET", "/demo/index.m3u8", &[], "").await;
    assert_eq!(response.headers()[CACHE_CONTROL], "public, max-age=1");
    assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    assert_eq!(response.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
}

#[tokio::test]
async fn pages_are_compressed_here_and_nothing_else() {
    let body = "#EXTM3U\n".repeat(500);
    for (media_type, compressed) in
        [("text/html; charset=utf-8", true), ("application/vnd.apple.mpegurl", false), ("video/mp4", false)]
    {
        let body = body.clone();
        let router: Router = Router::new()
            .route("/", get(move || async move { ([(CONTENT_TYPE, media_type)], body) }))
            .layer(compression());
        let request = Request::get("/").header(ACCEPT_ENCODING, "gzip").body(Body::empty());
        let Ok(response) = router.oneshot(request.expect("a request")).await;
        assert_eq!(response.headers().contains_key(CONTENT_ENCODING), compressed, "{media_type}");
    }
}

#[tokio::test]
async fn a_panic_is_one_answer_of_500() {
    async fn fails() -> &'static str {
        panic!("canary")
    }
    let router: Router =
        Router::new().route("/", get(fails)).layer(CatchPanicLayer::custom(problem::panicked));
    let request = Request::get("/").header(AUTHORIZATION, "x").body(Body::empty());
    let Ok(response) = router.oneshot(request.expect("a request")).await;
    assert_eq!(response.status().as_u16(), 500);
    assert!(!document(response).await.to_string().contains("canary"));
}
