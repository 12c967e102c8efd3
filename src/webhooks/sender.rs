//! One attempt: resolve, check, connect to what was checked, POST, read the status.
//!
//! The door for reqwest. A redirect is not followed, a proxy of the environment is not used, and of an answer at
//! most 64 KiB are read and forgotten. A client, with its connection, is kept while its webhook leads to the
//! same addresses.

use super::Webhook;
use super::WebhookSettings;
use super::retry;
use crate::admission::NotAllowed;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use url::{Host, Url};

/// Of an answer's body; more would only keep the connection from being used again.
const ANSWER: usize = 64 * 1024;
/// An idle connection is kept for so long.
const IDLE: Duration = Duration::from_secs(30);
const USER_AGENT: &str = concat!("Tidegate/", env!("CARGO_PKG_VERSION"));

/// An attempt that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempted {
    /// The status of the answer, a 2xx.
    pub status: u16,
    /// How long it took.
    pub took: Duration,
}

/// Why an attempt failed, in words for the operator, without the URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttemptError {
    /// The name has no address.
    #[error("{host} can't be resolved: {why}")]
    Unresolved {
        /// The name.
        host: String,
        /// What the system said.
        why: String,
    },
    /// The address is not one that connections may go to.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    /// No answer within the time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// No connection, or it broke.
    #[error("{0}")]
    Failed(String),
    /// A redirect.
    #[error("answered {0}: redirects are not followed; change the webhook's URL")]
    Redirected(u16),
    /// Neither a 2xx nor a redirect.
    #[error("answered {0}")]
    Refused(u16),
    /// 429 or 503, and when to come back.
    #[error("answered {status}, and asked for {pause:?} of rest")]
    Busy {
        /// The status.
        status: u16,
        /// How long to stay away.
        pause: Duration,
    },
}

impl AttemptError {
    /// How long the receiver wants to be left alone, if it said so.
    pub(super) fn pause(&self) -> Option<Duration> {
        match self {
            Self::Busy { pause, .. } => Some(*pause),
            _ => None,
        }
    }
}

/// What is to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    /// The same for all attempts.
    pub(super) id: &'a str,
    pub(super) body: &'a str,
}

/// The way to one webhook's receiver.
#[derive(Debug, Default)]
pub(super) struct Sender {
    client: Mutex<Option<Pinned>>,
}

/// A client that connects to these addresses and no others.
#[derive(Debug)]
struct Pinned {
    origin: url::Origin,
    addresses: Vec<SocketAddr>,
    client: Client,
}

impl Sender {
    /// Makes one attempt.
    pub(super) async fn attempt(
        &self,
        webhook: &Webhook,
        message: Message<'_>,
        settings: &WebhookSettings,
        now: DateTime<Utc>,
    ) -> Result<Attempted, AttemptError> {
        let began = Instant::now();
        let post = self.post(webhook, message, settings, now);
        let (status, pause) = tokio::time::timeout(settings.timeout, post)
            .await
            .map_err(|_| AttemptError::TimedOut(settings.timeout))??;
        match (status, pause) {
            (200..300, _) => Ok(Attempted { status, took: began.elapsed() }),
            (300..400, _) => Err(AttemptError::Redirected(status)),
            (_, Some(pause)) => Err(AttemptError::Busy { status, pause }),
            (_, None) => Err(AttemptError::Refused(status)),
        }
    }

    /// The status, and the pause that the receiver asks for with it.
    async fn post(
        &self,
        webhook: &Webhook,
        message: Message<'_>,
        settings: &WebhookSettings,
        now: DateTime<Utc>,
    ) -> Result<(u16, Option<Duration>), AttemptError> {
        let addresses = resolve(webhook.url()).await?;
        settings.guard.check(&addresses)?;
        let client = self.client(webhook.url(), addresses)?;
        let timestamp = now.timestamp();
        let response = client
            .post(webhook.url().clone())
            .header("Webhook-Id", message.id)
            .header("Webhook-Timestamp", timestamp)
            .header("Webhook-Signature", webhook.secret.sign(message.id, timestamp, message.body))
            .header(CONTENT_TYPE, "application/json")
            .body(message.body.to_owned())
            .send()
            .await
            .map_err(|error| AttemptError::Failed(in_words(error)))?;
        let (status, pause) = (response.status().as_u16(), pause(&response));
        forget(response).await;
        Ok((status, pause))
    }

    fn client(&self, url: &Url, addresses: Vec<SocketAddr>) -> Result<Client, AttemptError> {
        let mut known = self.client.lock();
        let origin = url.origin();
        if let Some(pinned) = known.as_ref().filter(|p| p.origin == origin && p.addresses == addresses) {
            return Ok(pinned.client.clone());
        }
        let client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .resolve_to_addrs(url.host_str().unwrap_or_default(), &addresses)
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(IDLE)
            .user_agent(USER_AGENT)
            .build()
            .map_err(|error| AttemptError::Failed(in_words(error)))?;
        *known = Some(Pinned { origin, addresses, client: client.clone() });
        Ok(client)
    }
}

/// All addresses of the URL's host, in one order.
async fn resolve(url: &Url) -> Result<Vec<SocketAddr>, AttemptError> {
    let port = url.port_or_known_default().unwrap_or_default();
    let name = match url.host() {
        Some(Host::Ipv4(ip)) => return Ok(vec![SocketAddr::new(ip.into(), port)]),
        Some(Host::Ipv6(ip)) => return Ok(vec![SocketAddr::new(ip.into(), port)]),
        Some(Host::Domain(name)) => name,
        None => "",
    };
    let unresolved = |why: String| AttemptError::Unresolved { host: name.to_owned(), why };
    let found = tokio::net::lookup_host((name, port)).await.map_err(|error| unresolved(error.to_string()))?;
    let mut addresses: Vec<SocketAddr> = found.collect();
    addresses.sort();
    addresses.dedup();
    if addresses.is_empty() { Err(unresolved("it has no address".to_owned())) } else { Ok(addresses) }
}

/// What `Retry-After` says, with the statuses that mean that the receiver has too much to do (RFC 6585 §4,
/// RFC 9110 §15.6.4).
fn pause(response: &Response) -> Option<Duration> {
    if !matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    retry::asked_for(response.headers().get(RETRY_AFTER)?.to_str().ok()?, Utc::now())
}

/// Reads a body within bounds, so that its connection can be used again. A fault in it changes nothing: the
/// status was there.
async fn forget(mut response: Response) {
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read > ANSWER {
            return;
        }
    }
}

/// The causes of an error, the deepest last, without the URL.
fn in_words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        words = format!("{words}: {deeper}");
        cause = deeper.source();
    }
    words
}
