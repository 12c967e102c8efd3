//! The HTTP side of a client: its session's URL, PATCH and DELETE.

use reqwest::{Client, RequestBuilder, Response};

use super::client::{RtcClient, RtcOffer};
use super::options::RtcOptions;
use super::sdp;

/// RFC 8840 §9.
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// What the 201 told.
#[derive(Clone, Debug)]
pub struct Session {
    /// Absolute.
    pub url: String,
    /// With its quotation marks; empty if there was none.
    pub etag: String,
    key: Option<String>,
    http: Client,
}

impl RtcClient {
    /// POSTs an offer to `url`; the client when it was answered 201, else the response.
    pub async fn post(
        http: &Client,
        url: &str,
        publishes: bool,
        options: RtcOptions,
    ) -> Result<Self, Response> {
        let offer = RtcOffer::new(publishes, &options);
        let mut request = http.post(url).header("content-type", "application/sdp");
        if let Some(key) = &options.key {
            request = request.bearer_auth(key);
        }
        let response = request.body(offer.sdp().to_owned()).send().await.expect("an HTTP answer");
        if response.status() != 201 {
            return Err(response);
        }
        let header = |name| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let location = header("location").expect("Location");
        let session = Session {
            url: response.url().join(&location).expect("a valid Location").to_string(),
            etag: header("etag").unwrap_or_default(),
            key: options.key.clone(),
            http: http.clone(),
        };
        let answer = response.text().await.expect("an answer");
        let mut client = offer.answer(&answer).await;
        client.session = Some(session);
        Ok(client)
    }

    /// DELETEs its session; the status.
    pub async fn delete(&self) -> u16 {
        let session = self.session.as_ref().expect("a session");
        session.request("DELETE").send().await.expect("an HTTP answer").status().as_u16()
    }

    /// PATCHes a fragment with its entity tag.
    pub async fn patch(&self, fragment: String) -> Response {
        let session = self.session.as_ref().expect("a session");
        session.patch(fragment, &session.etag).await
    }

    /// PATCHes the candidates of its offer.
    pub async fn trickle(&self) -> Response {
        self.patch(sdp::fragment_of(&self.offer)).await
    }

    /// A whole ICE restart (`If-Match: "*"`); panics unless it is answered 200. Takes over the new entity tag.
    pub async fn restart(&mut self) {
        let fragment = self.begin_restart().await;
        let session = self.session.as_mut().expect("a session");
        let response = session.patch(fragment, "\"*\"").await;
        assert_eq!(response.status(), 200, "restart");
        let etag = response.headers().get("etag").expect("ETag");
        session.etag = etag.to_str().expect("ASCII").to_owned();
        let fragment = response.text().await.expect("a fragment");
        self.finish_restart(&fragment).await;
    }
}

impl Session {
    /// A request to the session's URL, with the key.
    pub fn request(&self, method: &str) -> RequestBuilder {
        let request = self.http.request(method.parse().expect("a method"), &self.url);
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// PATCHes a fragment with `If-Match` as given.
    pub async fn patch(&self, fragment: String, if_match: &str) -> Response {
        let request = self.request("PATCH").header("content-type", FRAGMENT).header("if-match", if_match);
        request.body(fragment).send().await.expect("an HTTP answer")
    }
}
