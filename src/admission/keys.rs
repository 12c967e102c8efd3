//! Wrong keys, and the sources that have shown too many.

use super::rates::{Rates, SOURCES};
use super::{Exempt, Limit, Refusals, source};
use governor::Quota;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// Counts wrong keys by source, whatever the protocol they came by.
#[derive(Debug)]
pub struct KeyAttempts {
    /// `None`: as many as one likes.
    wrong: Option<Rates>,
    /// Until when no key of a source is looked at.
    locked: Mutex<HashMap<IpAddr, Instant>>,
    exempt: Exempt,
    refusals: Refusals,
}

impl KeyAttempts {
    const LOCKED: Duration = Duration::from_secs(60);

    /// After `per_minute` wrong keys all keys of a source are refused for a minute; `None`: never.
    pub fn new(per_minute: Option<NonZeroU32>, exempt: Exempt) -> Self {
        let wrong = per_minute.map(|rate| Rates::new(Quota::per_minute(rate)));
        Self { wrong, locked: Mutex::default(), exempt, refusals: Refusals::default() }
    }

    /// What is refused is counted there.
    pub fn counting(self, refusals: Refusals) -> Self {
        Self { refusals, ..self }
    }

    /// Whether `peer` may show a key at `now`, be it the right one; else how long it must wait.
    pub fn may_show(&self, peer: IpAddr, now: Instant) -> Result<(), Duration> {
        match self.locked.lock().get(&source(peer)) {
            Some(until) if *until > now && !self.exempt.contains(peer) => {
                self.refusals.count(Limit::KeyAttempts);
                Err(*until - now)
            }
            _ => Ok(()),
        }
    }

    /// `peer` has shown a key that is none of ours.
    pub fn wrong(&self, peer: IpAddr, now: Instant) {
        let Some(wrong) = self.wrong.as_ref().filter(|_| !self.exempt.contains(peer)) else { return };
        let source = source(peer);
        if wrong.take(source).is_err() {
            let mut locked = self.locked.lock();
            if locked.len() < SOURCES && locked.insert(source, now + Self::LOCKED).is_none() {
                tracing::warn!(%source, "Too many wrong keys: keys of this source are refused for a minute.");
            }
        }
    }

    /// Forgets sources that have nothing to be remembered for. Call it every few seconds.
    pub fn sweep(&self, now: Instant) {
        if let Some(wrong) = &self.wrong {
            wrong.sweep();
        }
        self.locked.lock().retain(|_, until| *until > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn after_ten_wrong_keys_a_source_is_locked_out_for_a_minute() {
        let keys = KeyAttempts::new(NonZeroU32::new(10), Exempt::default());
        let now = Instant::now();
        for _ in 0..10 {
            keys.wrong(address(1), now);
            assert!(keys.may_show(address(1), now).is_ok());
        }
        keys.wrong(address(1), now);
        assert_eq!(keys.may_show(address(1), now), Err(KeyAttempts::LOCKED));
        assert!(keys.may_show(address(2), now).is_ok(), "another source");
        let later = now + KeyAttempts::LOCKED;
        assert!(keys.may_show(address(1), later).is_ok());
        keys.sweep(later);
        assert!(keys.locked.lock().is_empty());
    }

    #[test]
    fn exempt_sources_and_an_open_rate_are_never_locked_out() {
        let now = Instant::now();
        let exempt = Exempt::new(["192.0.2.0/24".parse().expect("a network")]);
        for keys in [KeyAttempts::new(NonZeroU32::new(1), exempt), KeyAttempts::new(None, Exempt::default())]
        {
            (0..50).for_each(|_| keys.wrong(address(1), now));
            assert!(keys.may_show(address(1), now).is_ok());
        }
    }
}
