//! How often a source may ask: offers, requests to sessions, keys that are not ours.
//!
//! A source is an IPv4 address or an IPv6 /64. Each rate is a token bucket; what is known of a source is
//! forgotten when its bucket is full again, and of at most [`SOURCES`] sources something is known.

use super::limits::source;
use super::problem::Problem;
use axum::http::StatusCode;
use governor::clock::{Clock, DefaultClock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::state::InMemoryState;
use governor::state::keyed::HashMapStateStore;
use governor::{NotUntil, Quota, RateLimiter};
use ipnet::IpNet;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// Sources that one rate remembers. While there are more, all share one bucket.
const SOURCES: usize = 65_536;
/// The bucket that all share then.
const CROWD: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

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
    /// Wrong keys and tokens a minute. After that all keys of the source are refused, for a minute.
    pub key_attempts_per_minute: Option<NonZeroU32>,
    /// Networks that may do everything as often as they like.
    pub exempt: Vec<IpNet>,
}

impl RateSettings {
    /// No limits.
    pub const fn off() -> Self {
        Self {
            posts_per_second: None,
            post_burst: NonZeroU32::MIN,
            patches_per_second: None,
            session_requests_per_second: None,
            key_attempts_per_minute: None,
            exempt: Vec::new(),
        }
    }
}

/// The buckets of all sources.
pub(super) struct Rates {
    posts: Option<BySource>,
    session_requests: Option<BySource>,
    patches: Option<Quota>,
    keys: Option<KeyAttempts>,
    exempt: Vec<IpNet>,
}

/// The bucket of one session's PATCH requests.
pub(super) type SessionRate = RateLimiter<governor::state::NotKeyed, InMemoryState, DefaultClock>;

impl Rates {
    pub(super) fn new(settings: &RateSettings) -> Self {
        let post = |rate| BySource::new(Quota::per_second(rate).allow_burst(settings.post_burst));
        let request =
            |rate: NonZeroU32| BySource::new(Quota::per_second(rate).allow_burst(rate.saturating_mul(TWO)));
        Self {
            posts: settings.posts_per_second.map(post),
            session_requests: settings.session_requests_per_second.map(request),
            patches: settings.patches_per_second.map(Quota::per_second),
            keys: settings.key_attempts_per_minute.map(KeyAttempts::new),
            exempt: settings.exempt.clone(),
        }
    }

    /// An offer from `peer`.
    pub(super) fn post(&self, peer: IpAddr) -> Result<(), Problem> {
        self.take(self.posts.as_ref(), peer)
    }

    /// A PATCH or DELETE from `peer`.
    pub(super) fn session_request(&self, peer: IpAddr) -> Result<(), Problem> {
        self.take(self.session_requests.as_ref(), peer)
    }

    /// The bucket for a new session of `peer`.
    pub(super) fn for_session(&self, peer: IpAddr) -> Option<SessionRate> {
        let quota = self.patches.filter(|_| !self.is_exempt(peer))?;
        Some(RateLimiter::direct(quota))
    }

    /// Whether `peer` may show a key now, be it the right one.
    pub(super) fn may_show_key(&self, peer: IpAddr) -> Result<(), Problem> {
        match &self.keys {
            Some(keys) if !self.is_exempt(peer) => keys.check(source(peer), Instant::now()),
            _ => Ok(()),
        }
    }

    /// `peer` has shown a key that is none of ours.
    pub(super) fn wrong_key(&self, peer: IpAddr) {
        if let Some(keys) = self.keys.as_ref().filter(|_| !self.is_exempt(peer)) {
            keys.failed(source(peer), Instant::now());
        }
    }

    /// Forgets sources that have nothing to be remembered for. Call it every few seconds.
    pub(super) fn sweep(&self) {
        for rate in self.posts.iter().chain(&self.session_requests) {
            rate.sweep();
        }
        if let Some(keys) = &self.keys {
            keys.sweep(Instant::now());
        }
    }

    fn take(&self, rate: Option<&BySource>, peer: IpAddr) -> Result<(), Problem> {
        match rate {
            Some(rate) if !self.is_exempt(peer) => rate.take(source(peer)).map_err(too_many),
            _ => Ok(()),
        }
    }

    fn is_exempt(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.exempt.iter().any(|network| network.contains(&peer))
    }
}

/// A PATCH to a session with this bucket.
pub(super) fn take(rate: &SessionRate) -> Result<(), Problem> {
    rate.check().map_err(|refusal| too_many(wait(&refusal, DefaultClock::default().now())))
}

const TWO: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

/// One bucket a source.
struct BySource<C: Clock = DefaultClock> {
    buckets: RateLimiter<IpAddr, HashMapStateStore<IpAddr>, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    most: usize,
}

impl BySource {
    fn new(quota: Quota) -> Self {
        Self::with_clock(quota, DefaultClock::default(), SOURCES)
    }
}

impl<C: Clock + Clone> BySource<C> {
    fn with_clock(quota: Quota, clock: C, most: usize) -> Self {
        Self { buckets: RateLimiter::hashmap_with_clock(quota, clock.clone()), clock, most }
    }

    /// The time to wait, if there is nothing left to take.
    fn take(&self, source: IpAddr) -> Result<(), Duration> {
        let source = if self.buckets.len() < self.most { source } else { CROWD };
        self.buckets.check_key(&source).map_err(|refusal| wait(&refusal, self.clock.now()))
    }

    fn sweep(&self) {
        self.buckets.retain_recent();
        self.buckets.shrink_to_fit();
    }
}

/// Wrong keys, and the sources that have shown too many.
struct KeyAttempts {
    wrong: BySource,
    /// Until when no key of a source is looked at.
    locked: Mutex<HashMap<IpAddr, Instant>>,
}

impl KeyAttempts {
    const LOCKED: Duration = Duration::from_secs(60);

    fn new(per_minute: NonZeroU32) -> Self {
        Self { wrong: BySource::new(Quota::per_minute(per_minute)), locked: Mutex::default() }
    }

    fn check(&self, source: IpAddr, now: Instant) -> Result<(), Problem> {
        match self.locked.lock().get(&source) {
            Some(until) if *until > now => Err(too_many(*until - now)),
            _ => Ok(()),
        }
    }

    fn failed(&self, source: IpAddr, now: Instant) {
        if self.wrong.take(source).is_err() {
            let mut locked = self.locked.lock();
            if locked.len() < SOURCES && locked.insert(source, now + Self::LOCKED).is_none() {
                tracing::warn!(%source, "Too many wrong keys: keys of this source are refused for a minute.");
            }
        }
    }

    fn sweep(&self, now: Instant) {
        self.wrong.sweep();
        self.locked.lock().retain(|_, until| *until > now);
    }
}

fn wait<R: Reference>(refusal: &NotUntil<R>, now: R) -> Duration {
    refusal.wait_time_from(now)
}

/// RFC 6585 §4: 429, and when to come back, in whole seconds.
fn too_many(wait: Duration) -> Problem {
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
    let detail = format!("too many requests from this address; try again in {seconds} s");
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", detail).retry_after(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;

    fn number(value: u32) -> NonZeroU32 {
        NonZeroU32::new(value).expect("not zero")
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn w19_a_bucket_holds_its_burst_and_fills_at_its_rate() {
        let clock = FakeRelativeClock::default();
        let quota = Quota::per_second(number(5)).allow_burst(number(20));
        let rate = BySource::with_clock(quota, clock.clone(), SOURCES);
        let taken = |last| (0..100).filter(|_| rate.take(address(last)).is_ok()).count();
        assert_eq!(taken(1), 20);
        assert_eq!(taken(2), 20, "another source has its own");
        clock.advance(Duration::from_secs(1));
        assert_eq!(taken(1), 5);
        assert!(rate.take(address(1)).expect_err("empty") <= Duration::from_millis(200));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten() {
        let clock = FakeRelativeClock::default();
        let rate = BySource::with_clock(Quota::per_second(number(1)), clock.clone(), 3);
        for last in 1..=3 {
            assert!(rate.take(address(last)).is_ok());
        }
        assert!(rate.take(address(4)).is_ok(), "the first of the crowd");
        assert!(rate.take(address(5)).is_err(), "the crowd shares one bucket");
        assert_eq!(rate.buckets.len(), 4);
        clock.advance(Duration::from_secs(60));
        rate.sweep();
        assert_eq!(rate.buckets.len(), 0);
    }

    #[test]
    fn after_ten_wrong_keys_a_source_is_locked_out_for_a_minute() {
        let keys = KeyAttempts::new(number(10));
        let now = Instant::now();
        for _ in 0..10 {
            keys.failed(address(1), now);
            assert!(keys.check(address(1), now).is_ok());
        }
        keys.failed(address(1), now);
        let problem = keys.check(address(1), now).expect_err("locked");
        assert_eq!(problem.status().as_u16(), 429);
        assert!(keys.check(address(2), now).is_ok(), "another source");
        let later = now + KeyAttempts::LOCKED;
        assert!(keys.check(address(1), later).is_ok());
        keys.sweep(later);
        assert!(keys.locked.lock().is_empty());
    }

    #[test]
    fn exempt_networks_and_rates_that_are_off_refuse_nobody() {
        let mut settings = RateSettings { posts_per_second: Some(number(1)), ..RateSettings::off() };
        settings.exempt = vec!["192.0.2.0/28".parse().expect("a network")];
        let rates = Rates::new(&settings);
        let refused = |last| (0..50).any(|_| rates.post(address(last)).is_err());
        assert!(!refused(1) && refused(200));
        assert!((0..1000).all(|_| rates.session_request(address(200)).is_ok()), "off");
        assert!(rates.for_session(address(200)).is_none());
    }
}
