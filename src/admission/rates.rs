//! Token buckets, one a source.

use governor::clock::{Clock, DefaultClock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::state::InMemoryState;
use governor::state::keyed::HashMapStateStore;
use governor::{NotUntil, Quota, RateLimiter};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Sources that one rate remembers. While there are more, all share one bucket.
pub(super) const SOURCES: usize = 65_536;
/// The bucket that all share then.
const CROWD: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// One bucket a source (see [`super::source`]); it is forgotten when it is full again.
#[derive(Debug)]
pub struct Rates<C: Clock = DefaultClock> {
    buckets: RateLimiter<IpAddr, HashMapStateStore<IpAddr>, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    most: usize,
}

/// One bucket by itself.
#[derive(Debug)]
pub struct SessionRate(RateLimiter<governor::state::NotKeyed, InMemoryState, DefaultClock>);

impl Rates {
    /// Buckets of this size that fill at this rate.
    pub fn new(quota: Quota) -> Self {
        Self::with_clock(quota, DefaultClock::default(), SOURCES)
    }
}

impl<C: Clock + Clone> Rates<C> {
    fn with_clock(quota: Quota, clock: C, most: usize) -> Self {
        Self { buckets: RateLimiter::hashmap_with_clock(quota, clock.clone()), clock, most }
    }

    /// Takes one from the bucket of `source`; else the time to wait.
    pub fn take(&self, source: IpAddr) -> Result<(), Duration> {
        let source = if self.buckets.len() < self.most { source } else { CROWD };
        self.buckets.check_key(&source).map_err(|refusal| wait(&refusal, self.clock.now()))
    }

    /// Forgets full buckets. Call it every few seconds.
    pub fn sweep(&self) {
        self.buckets.retain_recent();
        self.buckets.shrink_to_fit();
    }
}

impl SessionRate {
    /// A bucket of this size that fills at this rate.
    pub fn new(quota: Quota) -> Self {
        Self(RateLimiter::direct(quota))
    }

    /// Takes one; else the time to wait.
    pub fn take(&self) -> Result<(), Duration> {
        self.0.check().map_err(|refusal| wait(&refusal, DefaultClock::default().now()))
    }
}

fn wait<R: Reference>(refusal: &NotUntil<R>, now: R) -> Duration {
    refusal.wait_time_from(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;
    use std::num::NonZeroU32;

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
        let rate = Rates::with_clock(quota, clock.clone(), SOURCES);
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
        let rate = Rates::with_clock(Quota::per_second(number(1)), clock.clone(), 3);
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
}
