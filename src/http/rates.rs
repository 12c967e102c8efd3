//! How often a source may ask: offers, requests to sessions, keys that are not ours.
//!
//! The buckets are those of `admission`; here they get their names, and a refusal becomes a problem document.

use super::problem::Problem;
use crate::admission::{self, Exempt, KeyAttempts, Limit, Refusals, SessionRate, source};
use axum::http::StatusCode;
use governor::Quota;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a source may do how often; `None`: as often as it likes.
#[derive(Clone, Debug)]
pub struct RateSettings {
    /// WHIP and WHEP offers a second.
    pub posts_per_second: Option<NonZeroU32>,
    /// Offers at once before that rate holds.
    pub post_burst: NonZeroU32,
    /// PATCH requests a second to one session.
    pub patches_per_second: Option<NonZeroU32>,
    /// PATCH and DELETE requests a second, to whatever sessions.
    pub session_requests_per_second: Option<NonZeroU32>,
    /// Wrong keys and tokens; other listeners count theirs here as well.
    pub key_attempts: Arc<KeyAttempts>,
    /// Networks that may do everything as often as they like.
    pub exempt: Exempt,
    /// What is refused is counted there; other listeners count theirs here as well.
    pub refusals: Refusals,
}

impl RateSettings {
    /// No limits.
    pub fn off() -> Self {
        Self {
            posts_per_second: None,
            post_burst: NonZeroU32::MIN,
            patches_per_second: None,
            session_requests_per_second: None,
            key_attempts: Arc::new(KeyAttempts::new(None, Exempt::default())),
            exempt: Exempt::default(),
            refusals: Refusals::default(),
        }
    }
}

/// The buckets of all sources.
pub(super) struct Rates {
    posts: Option<admission::Rates>,
    session_requests: Option<admission::Rates>,
    patches: Option<Quota>,
    keys: Arc<KeyAttempts>,
    exempt: Exempt,
    refusals: Refusals,
}

/// How often one session may be PATCHed.
pub(super) struct PatchRate {
    bucket: SessionRate,
    refusals: Refusals,
}

impl Rates {
    pub(super) fn new(settings: &RateSettings) -> Self {
        let buckets = |rate, burst| admission::Rates::new(Quota::per_second(rate).allow_burst(burst));
        let post = |rate| buckets(rate, settings.post_burst);
        let request = |rate: NonZeroU32| buckets(rate, rate.saturating_mul(TWO));
        Self {
            posts: settings.posts_per_second.map(post),
            session_requests: settings.session_requests_per_second.map(request),
            patches: settings.patches_per_second.map(Quota::per_second),
            keys: settings.key_attempts.clone(),
            exempt: settings.exempt.clone(),
            refusals: settings.refusals.clone(),
        }
    }

    /// An offer from `peer`.
    pub(super) fn post(&self, peer: IpAddr) -> Result<(), Problem> {
        self.take(Limit::Posts, self.posts.as_ref(), peer)
    }

    /// A PATCH or DELETE from `peer`.
    pub(super) fn session_request(&self, peer: IpAddr) -> Result<(), Problem> {
        self.take(Limit::SessionRequests, self.session_requests.as_ref(), peer)
    }

    /// The bucket for a new session of `peer`.
    pub(super) fn for_session(&self, peer: IpAddr) -> Option<PatchRate> {
        let quota = self.patches.filter(|_| !self.exempt.contains(peer))?;
        Some(PatchRate { bucket: SessionRate::new(quota), refusals: self.refusals.clone() })
    }

    /// Whether `peer` may show a key now, be it the right one.
    pub(super) fn may_show_key(&self, peer: IpAddr) -> Result<(), Problem> {
        self.keys.may_show(peer, Instant::now()).map_err(too_many)
    }

    /// `peer` has shown a key that is none of ours.
    pub(super) fn wrong_key(&self, peer: IpAddr) {
        self.keys.wrong(peer, Instant::now());
    }

    /// Forgets sources that have nothing to be remembered for. Call it every few seconds.
    pub(super) fn sweep(&self) {
        for rate in self.posts.iter().chain(&self.session_requests) {
            rate.sweep();
        }
        self.keys.sweep(Instant::now());
    }

    fn take(&self, limit: Limit, rate: Option<&admission::Rates>, peer: IpAddr) -> Result<(), Problem> {
        let Some(rate) = rate.filter(|_| !self.exempt.contains(peer)) else { return Ok(()) };
        rate.take(source(peer)).map_err(|wait| {
            self.refusals.count(limit);
            too_many(wait)
        })
    }
}

impl PatchRate {
    /// One more PATCH.
    pub(super) fn take(&self) -> Result<(), Problem> {
        self.bucket.take().map_err(|wait| {
            self.refusals.count(Limit::Patches);
            too_many(wait)
        })
    }
}

const TWO: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

/// RFC 6585 §4: 429, and when to come back, in whole seconds.
fn too_many(wait: Duration) -> Problem {
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
    let detail = format!("too many requests from this address; try again in {seconds} s");
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", detail).retry_after(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: u32) -> NonZeroU32 {
        NonZeroU32::new(value).expect("not zero")
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn exempt_networks_and_rates_that_are_off_refuse_nobody() {
        let mut settings = RateSettings { posts_per_second: Some(number(1)), ..RateSettings::off() };
        settings.exempt = Exempt::new(["192.0.2.0/28".parse().expect("a network")]);
        let rates = Rates::new(&settings);
        let refused = |last| (0..50).any(|_| rates.post(address(last)).is_err());
        assert!(!refused(1) && refused(200));
        assert!((0..1000).all(|_| rates.session_request(address(200)).is_ok()), "off");
        assert!(rates.for_session(address(200)).is_none());
    }

    #[test]
    fn what_is_refused_is_counted_by_limit() {
        let one = Some(number(1));
        let rates = Rates::new(&RateSettings {
            posts_per_second: one,
            patches_per_second: one,
            session_requests_per_second: one,
            ..RateSettings::off()
        });
        let refused = |mut act: Box<dyn FnMut() -> bool + '_>| (0..20).filter(|_| act()).count() as u64;
        let posts = refused(Box::new(|| rates.post(address(1)).is_err()));
        let requests = refused(Box::new(|| rates.session_request(address(1)).is_err()));
        let session = rates.for_session(address(1)).expect("limited");
        let patches = refused(Box::new(|| session.take().is_err()));
        assert!(posts > 0 && requests > 0 && patches > 0);
        let counted = rates.refusals.snapshot();
        for expected in [(Limit::Posts, posts), (Limit::SessionRequests, requests), (Limit::Patches, patches)]
        {
            assert!(counted.contains(&expected), "{expected:?} in {counted:?}");
        }
    }
}
