//! One webhook: what was asked for, checked.

use super::secret::{InvalidSecret, SigningSecret};
use crate::admission::{EgressGuard, NotAllowed};
use crate::events::{Event, EventFilter, InvalidFilter};
use crate::media::Secret;
use crate::store::{StoreError, StoredWebhook};
use chrono::{DateTime, Utc};
use std::net::{IpAddr, SocketAddr};
use url::{Host, Url};

const LONGEST_URL: usize = 2048;
/// Names of a filter.
const MOST_NAMES: usize = 100;

/// A request for a webhook.
#[derive(Clone, Debug, Default)]
pub struct NewWebhook {
    /// Where events are sent to.
    pub url: String,
    /// Types and groups of types; empty: all.
    pub events: Vec<String>,
    /// Names of streams; empty: all.
    pub streams: Vec<String>,
    /// `whsec_…`; one is made if there is none.
    pub secret: Option<String>,
    /// False: nothing is sent yet.
    pub enabled: bool,
}

/// What is to change; `None` stays.
#[derive(Clone, Debug, Default)]
pub struct WebhookChange {
    /// As in [`NewWebhook`].
    pub url: Option<String>,
    /// As in [`NewWebhook`].
    pub events: Option<Vec<String>>,
    /// As in [`NewWebhook`].
    pub streams: Option<Vec<String>>,
    /// A secret, or `None` for one that is made.
    pub secret: Option<Option<String>>,
    /// As in [`NewWebhook`].
    pub enabled: Option<bool>,
}

/// Why something can't be done with a webhook.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// Nothing can be sent there.
    #[error("field \"url\": {0}")]
    BadUrl(String),
    /// The address is not one that connections may go to.
    #[error("field \"url\": {0}")]
    NotAllowed(#[from] NotAllowed),
    /// It can't be signed with that.
    #[error("field \"secret\": {0}")]
    BadSecret(#[from] InvalidSecret),
    /// No such events or streams.
    #[error("{0}")]
    BadFilter(#[from] InvalidFilter),
    /// The filter is too long.
    #[error(
        "a webhook names at most {MOST_NAMES} events and {MOST_NAMES} streams; leave the field out for all"
    )]
    TooManyNames,
    /// No more are allowed.
    #[error("there are {0} webhooks already, no more are allowed; remove one first")]
    TooMany(usize),
    /// There is none of this id.
    #[error("there is no webhook with this id")]
    Unknown,
    /// There is none of this id that is dead.
    #[error("the webhook has no dead delivery with this id")]
    UnknownDelivery,
    /// It can't be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The gateway is shutting down.
    #[error("the server is shutting down")]
    Closing,
}

/// A webhook.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Names it in URLs.
    pub id: String,
    /// Types and groups of types that it wants; empty: all.
    pub events: Vec<String>,
    /// Streams that it wants; empty: all.
    pub streams: Vec<String>,
    /// Whether anything is sent.
    pub enabled: bool,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// Rises with each change.
    pub version: u32,
    /// What deliveries are signed with.
    pub secret: SigningSecret,
    url: Url,
    filter: EventFilter,
}

impl Webhook {
    pub(super) fn new(
        new: NewWebhook,
        guard: &EgressGuard,
        now: DateTime<Utc>,
    ) -> Result<Self, WebhookError> {
        let secret = match &new.secret {
            Some(text) => SigningSecret::parse(text)?,
            None => SigningSecret::random(),
        };
        Ok(Self {
            id: format!("{:016x}", rand::random::<u64>()),
            filter: filter(&new.events, &new.streams)?,
            url: checked(&new.url, guard)?,
            events: new.events,
            streams: new.streams,
            enabled: new.enabled,
            created_at: now,
            version: 1,
            secret,
        })
    }

    /// From the store: it was checked when it was put there.
    pub(super) fn restore(stored: StoredWebhook) -> Result<Self, WebhookError> {
        Ok(Self {
            filter: filter(&stored.events, &stored.streams)?,
            url: parsed(stored.url.reveal())?,
            secret: SigningSecret::parse(stored.secret.reveal())?,
            id: stored.id,
            events: stored.events,
            streams: stored.streams,
            enabled: stored.enabled,
            created_at: stored.created_at,
            version: stored.version,
        })
    }

    pub(super) fn stored(&self) -> StoredWebhook {
        StoredWebhook {
            id: self.id.clone(),
            url: Secret::new(self.url.as_str()),
            events: self.events.clone(),
            streams: self.streams.clone(),
            secret: Secret::new(self.secret.reveal()),
            enabled: self.enabled,
            created_at: self.created_at,
            version: self.version,
        }
    }

    pub(super) fn changed(&self, change: WebhookChange, guard: &EgressGuard) -> Result<Self, WebhookError> {
        let mut changed = self.clone();
        if let Some(url) = &change.url {
            changed.url = checked(url, guard)?;
        }
        if let Some(secret) = &change.secret {
            changed.secret = match secret {
                Some(text) => SigningSecret::parse(text)?,
                None => SigningSecret::random(),
            };
        }
        changed.events = change.events.unwrap_or(changed.events);
        changed.streams = change.streams.unwrap_or(changed.streams);
        changed.filter = filter(&changed.events, &changed.streams)?;
        changed.enabled = change.enabled.unwrap_or(changed.enabled);
        changed.version += 1;
        Ok(changed)
    }

    /// Whether `event` is to be sent.
    pub(super) fn wants(&self, event: &Event) -> bool {
        self.enabled && self.filter.wants(event)
    }

    /// Where it is sent to. Holds secrets, maybe: for the wire.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// The URL without what may be secret: user info, path and query.
    pub fn masked_url(&self) -> String {
        let origin = self.url.origin().ascii_serialization();
        let rest = if self.url.path().len() > 1 || self.url.query().is_some() { "/***" } else { "/" };
        format!("{origin}{rest}")
    }
}

fn filter(events: &[String], streams: &[String]) -> Result<EventFilter, WebhookError> {
    if events.len() > MOST_NAMES || streams.len() > MOST_NAMES {
        return Err(WebhookError::TooManyNames);
    }
    Ok(EventFilter::new(events.iter().map(String::as_str), streams.iter().map(String::as_str))?)
}

/// A URL that may be sent to, as far as can be told without asking a name server.
fn checked(text: &str, guard: &EgressGuard) -> Result<Url, WebhookError> {
    let url = parsed(text)?;
    let ip: Option<IpAddr> = match url.host() {
        Some(Host::Ipv4(ip)) => Some(ip.into()),
        Some(Host::Ipv6(ip)) => Some(ip.into()),
        _ => None,
    };
    if let (Some(ip), Some(port)) = (ip, url.port_or_known_default()) {
        guard.check(&[SocketAddr::new(ip, port)])?;
    }
    Ok(url)
}

fn parsed(text: &str) -> Result<Url, WebhookError> {
    let bad = |why: &str| WebhookError::BadUrl(why.to_owned());
    if text.len() > LONGEST_URL {
        return Err(bad("it has more than 2048 characters"));
    }
    let mut url =
        Url::parse(text).map_err(|error| bad(&format!("{error}; it must be like https://host/path")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("it must begin with https:// or http://"));
    }
    url.set_fragment(None);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(url: &str) -> Result<Webhook, WebhookError> {
        let new = NewWebhook { url: url.to_owned(), enabled: true, ..NewWebhook::default() };
        Webhook::new(new, &EgressGuard::default(), DateTime::UNIX_EPOCH)
    }

    #[test]
    fn a_url_is_checked_and_never_shown_whole() {
        let webhook = new("https://user:canary@example.net:8443/canary?canary=1#canary").expect("a webhook");
        assert_eq!(webhook.masked_url(), "https://example.net:8443/***");
        assert!(webhook.stored().url.reveal().contains("user:canary@"));
        assert!(!format!("{:?}", webhook.stored()).contains("canary"));
        assert_eq!(new("http://example.net").expect("a webhook").masked_url(), "http://example.net/");
        for (url, word) in [
            ("ftp://example.net/", "https://"),
            ("example.net", "https://host/path"),
            ("https://", "https://host/path"),
            ("http://127.0.0.1/", "loopback"),
            ("http://[::ffff:10.0.0.1]:80/", "10.0.0.1"),
            ("http://2130706433/", "loopback"),
        ] {
            let error = new(url).expect_err(url).to_string();
            assert!(error.contains(word) && error.contains("url"), "{url}: {error}");
        }
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let webhook = new("https://example.net/a").expect("a webhook");
        let change = WebhookChange { events: Some(vec!["stream".to_owned()]), ..WebhookChange::default() };
        let changed = webhook.changed(change, &EgressGuard::default()).expect("fine");
        assert_eq!((changed.url(), changed.version, changed.enabled), (webhook.url(), 2, true));
        assert!(changed.secret == webhook.secret);
        let change = WebhookChange { secret: Some(None), ..WebhookChange::default() };
        assert!(changed.changed(change, &EgressGuard::default()).expect("fine").secret != webhook.secret);
        let change = WebhookChange { streams: Some(vec!["a b".to_owned()]), ..WebhookChange::default() };
        assert!(changed.changed(change, &EgressGuard::default()).is_err());
    }
}
