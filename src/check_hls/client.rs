//! The door for HTTP: requests with the moments at which things happened.

use super::evidence::Answer;
use super::playlist::Resource;
use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, HeaderMap, RANGE};
use reqwest::{Client, redirect};
use std::time::{Duration, Instant};
use url::Url;

/// A connection that takes longer is none.
const CONNECT: Duration = Duration::from_secs(10);
/// A request without an answer for so long has none.
const PATIENCE: Duration = Duration::from_secs(60);
/// No playlist and no segment is larger.
const LARGEST: usize = 256 << 20;

/// Requests of one check. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Http {
    /// Takes gzip, as players do.
    unpacking: Client,
    plain: Client,
    start: Instant,
    patience: Duration,
}

impl Http {
    /// # Errors
    /// The system's certificates can't be read.
    pub fn new(start: Instant) -> Result<Self, reqwest::Error> {
        crate::tls::install_provider();
        let builder = || {
            Client::builder()
                .user_agent(concat!("tidegate-check-hls/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT)
                .redirect(redirect::Policy::limited(10))
        };
        Ok(Self {
            unpacking: builder().build()?,
            plain: builder().no_gzip().build()?,
            start,
            patience: PATIENCE,
        })
    }

    /// The same, but a request without an answer for so long has none.
    pub fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Seconds since the check began.
    pub fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// A playlist, with these parameters added to its query.
    pub async fn playlist(&self, url: &Url, parameters: &[(&str, String)]) -> Answer {
        let mut url = url.clone();
        if !parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(parameters);
        }
        let (mut answer, body) = self.get(&self.unpacking, &url, HeaderMap::new()).await;
        answer.text = String::from_utf8_lossy(&body).into();
        answer
    }

    /// A playlist as it comes from the server that is told that gzip is welcome; the body is dropped.
    pub async fn packed(&self, url: &Url) -> Answer {
        let gzip =
            HeaderMap::from_iter([(ACCEPT_ENCODING, reqwest::header::HeaderValue::from_static("gzip"))]);
        self.get(&self.plain, url, gzip).await.0
    }

    /// A file of media.
    pub async fn media(&self, media: &Resource) -> (Answer, Bytes) {
        let range = media.range.map(|(start, length)| match length {
            Some(length) => format!("bytes={start}-{}", (start + length).saturating_sub(1)),
            None => format!("bytes={start}-"),
        });
        let value = range.and_then(|range| range.parse().ok());
        self.get(&self.plain, &media.url, value.into_iter().map(|value| (RANGE, value)).collect()).await
    }

    async fn get(&self, client: &Client, url: &Url, headers: HeaderMap) -> (Answer, Bytes) {
        let sent = self.now();
        let mut answer = Answer {
            url: url.clone(),
            sent,
            headed: sent,
            done: sent,
            status: 0,
            cache_control: None,
            content_encoding: None,
            text: "".into(),
            error: None,
        };
        let mut body = BytesMut::new();
        if let Err(error) = self
            .receive(client.get(url.clone()).timeout(self.patience).headers(headers), &mut answer, &mut body)
            .await
        {
            (answer.status, answer.error) = (0, Some(causes(&error)));
        }
        answer.done = self.now();
        (answer, body.freeze())
    }

    async fn receive(
        &self,
        request: reqwest::RequestBuilder,
        answer: &mut Answer,
        body: &mut BytesMut,
    ) -> Result<(), reqwest::Error> {
        let mut response = request.send().await?;
        answer.headed = self.now();
        answer.status = response.status().as_u16();
        let header = |name| response.headers().get(name)?.to_str().ok().map(str::to_owned);
        answer.cache_control = header(CACHE_CONTROL);
        answer.content_encoding = header(CONTENT_ENCODING);
        // Blocking reload resolves against the URL that was asked for, unless it was redirected.
        if response.url().path() != answer.url.path() || response.url().host() != answer.url.host() {
            answer.url = response.url().clone();
        }
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > LARGEST {
                break;
            }
            body.extend_from_slice(&chunk);
        }
        Ok(())
    }
}

/// The error with its causes: reqwest's own words stop at "error sending request".
fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
