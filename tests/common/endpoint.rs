//! WHIP and WHEP endpoints as the checklists look at them: requests with texts, answers to the letter.

use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::{RequestBuilder, Response};
use serde_json::Value;

use super::{Programme, Publishing, RtcClient, RtcOptions, Server, ServerBuilder, eventually, seconds};

/// RFC 8840 §9.
pub const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// A server and one of its two endpoints.
pub struct Endpoint {
    pub server: Server,
    pub publishes: bool,
    pub key: Option<String>,
    /// Who publishes what viewers see.
    source: Option<(RtcClient, Publishing)>,
    streams: AtomicUsize,
}

/// A session whose offer was accepted. Nobody connects to it.
pub struct Opened {
    /// Its path.
    pub path: String,
    /// With its quotation marks.
    pub etag: String,
    pub answer: String,
    pub headers: reqwest::header::HeaderMap,
}

impl Endpoint {
    /// For publishers.
    pub async fn whip(builder: ServerBuilder) -> Self {
        let server = builder.start().await;
        Self { server, publishes: true, key: None, source: None, streams: AtomicUsize::new(0) }
    }

    /// With a token that its requests show.
    pub fn with_key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// For viewers of the stream `show`, which is live, with H.264 and Opus.
    pub async fn whep(builder: ServerBuilder) -> Self {
        Self::whep_of(builder, RtcOptions::default(), Programme::default()).await
    }

    /// For viewers of the stream `show`.
    pub async fn whep_of(builder: ServerBuilder, options: RtcOptions, programme: Programme) -> Self {
        let server = builder.start().await;
        let key = options.key.clone();
        let mut publisher = RtcClient::publish(&server, "show", options).await;
        let media = Publishing::start(publisher.sender(), programme);
        publisher.connected().await;
        eventually("the stream has its tracks", seconds(10), || async {
            let stream = server.stream("show").await?;
            (!stream["tracks"].as_array()?.is_empty()).then_some(())
        })
        .await;
        let source = Some((publisher, media));
        Self { server, publishes: false, key, source, streams: AtomicUsize::new(0) }
    }

    /// A client of it: a publisher, or a viewer of `show`.
    pub async fn client(&self) -> RtcClient {
        if self.publishes {
            RtcClient::publish(&self.server, "show", RtcOptions::default()).await
        } else {
            RtcClient::view(&self.server, "show", RtcOptions::default()).await
        }
    }

    /// The path of the endpoint: that of a stream without publisher, or that of `show`.
    pub fn path(&self) -> String {
        if self.publishes {
            format!("/free-{}/whip", self.streams.fetch_add(1, Ordering::Relaxed))
        } else {
            "/show/whep".to_owned()
        }
    }

    /// The publisher of `show`.
    pub fn publisher(&mut self) -> &mut RtcClient {
        &mut self.source.as_mut().expect("a viewer's endpoint").0
    }

    /// The publisher of `show` goes without a word.
    pub fn end_publisher(&mut self) {
        self.source = None;
    }

    /// A request, with the key if there is one.
    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let request = self.server.client.request(method.parse().expect("a method"), self.server.url(path));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// A good offer for this endpoint.
    pub fn offer(&self) -> String {
        offer(if self.publishes { "sendonly" } else { "recvonly" })
    }

    /// POSTs an offer.
    pub async fn post(&self, offer: impl Into<String>) -> Response {
        self.post_to(&self.path(), offer).await
    }

    /// POSTs an offer to this path.
    pub async fn post_to(&self, path: &str, offer: impl Into<String>) -> Response {
        let request = self.request("POST", path).header("content-type", "application/sdp");
        request.body(offer.into()).send().await.expect("an answer")
    }

    /// A new session of a good offer.
    pub async fn open(&self) -> Opened {
        self.open_with(self.offer()).await
    }

    /// A new session; panics unless the answer is 201.
    pub async fn open_with(&self, offer: impl Into<String>) -> Opened {
        let response = self.post(offer).await;
        let (status, headers) = (response.status(), response.headers().clone());
        let answer = response.text().await.expect("a body");
        assert_eq!(status, 201, "{answer}");
        let text = |name: &str| headers[name].to_str().expect("text").to_owned();
        Opened { path: text("location"), etag: text("etag"), answer, headers }
    }

    /// PATCHes a fragment.
    pub async fn patch(&self, session: &Opened, if_match: &str, fragment: impl Into<String>) -> Response {
        let request = self.request("PATCH", &session.path).header("content-type", FRAGMENT);
        request.header("if-match", if_match).body(fragment.into()).send().await.expect("an answer")
    }

    /// A request without a body; its status.
    pub async fn status(&self, method: &str, path: &str) -> u16 {
        self.request(method, path).send().await.expect("an answer").status().as_u16()
    }
}

/// An offer of Opus and H.264 with RTX, as a browser would write it.
pub fn offer(direction: &str) -> String {
    let fingerprint = ["AB"; 32].join(":");
    let section = |mid: usize, head: &str, formats: &str| {
        format!(
            "{head}\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\n\
             a=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=ice-options:trickle\r\n\
             a=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\na=mid:{mid}\r\na={direction}\r\n\
             a=msid:- {mid}\r\na=rtcp-mux\r\na=rtcp-rsize\r\n{formats}"
        )
    };
    let audio = section(
        0,
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n",
    );
    let video = section(
        1,
        "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
        "a=rtpmap:96 H264/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n\
         a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n\
         a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n",
    );
    format!("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n{audio}{video}")
}

/// A header as text; empty if it is not there.
pub fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// The response is a problem document (RFC 9457) of this status. Its detail.
pub async fn problem(response: Response, status: u16) -> String {
    let (found, kind) = (response.status().as_u16(), header(&response, "content-type"));
    let url = response.url().clone();
    let text = response.text().await.expect("a body");
    assert_eq!(found, status, "{url}: {text}");
    assert_eq!(kind, "application/problem+json", "{url}: {text}");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(document["status"], status, "{document}");
    assert!(document["title"].as_str().is_some_and(|title| !title.is_empty()), "{document}");
    document["detail"].as_str().expect("a detail").to_owned()
}
