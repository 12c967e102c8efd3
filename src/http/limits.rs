//! How many connections one source may hold.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// Counts connections by source address.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    limit: usize,
}

/// One connection of a source; dropping it frees the place.
#[derive(Debug)]
pub(super) struct Place {
    sources: Sources,
    source: IpAddr,
}

impl Sources {
    pub(super) fn new(limit: usize) -> Self {
        Self { counts: Arc::default(), limit }
    }

    /// A place for one more connection of `address`, unless its source holds the limit.
    pub(super) fn admit(&self, address: IpAddr) -> Option<Place> {
        let source = source(address);
        let mut counts = self.counts.lock();
        let count = counts.entry(source).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Place { sources: self.clone(), source })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.sources.counts.lock();
        if let Some(count) = counts.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

/// One host has one IPv4 address, but all of an IPv6 /64.
pub(super) fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_holds_at_most_its_limit() {
        let sources = Sources::new(2);
        let admit = |address: &str| sources.admit(address.parse().expect("an address"));
        let first = admit("192.0.2.1").expect("free");
        let _second = admit("::ffff:192.0.2.1").expect("free");
        assert!(admit("192.0.2.1").is_none());
        let _other = admit("192.0.2.2").expect("another source");
        drop(first);
        let _third = admit("192.0.2.1").expect("free again");
        let _v6 = (admit("2001:db8::1").expect("free"), admit("2001:db8::2").expect("free"));
        assert!(admit("2001:db8::3").is_none(), "the same /64");
        assert!(admit("2001:db8:0:1::1").is_some());
    }

    #[test]
    fn nothing_is_kept_of_a_source_that_left() {
        let sources = Sources::new(1);
        drop(sources.admit(IpAddr::from([192, 0, 2, 1])));
        assert!(sources.counts.lock().is_empty());
    }
}
