//! How many sessions may be on their way: those whose peer has not shown yet, by a connectivity check, that
//! it is there.
//!
//! Bounded for each source address and in all. Sources are told apart as a provider hands them out: IPv4
//! addresses, and IPv6 networks of 64 bits.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// Who is on the way.
#[derive(Debug)]
pub(super) struct Admission {
    per_source: usize,
    in_all: usize,
    half_open: Mutex<HashMap<IpAddr, usize>>,
}

/// One session on its way, until it is dropped.
#[derive(Debug)]
pub(super) struct HalfOpen {
    admission: Arc<Admission>,
    source: IpAddr,
}

impl Admission {
    /// With these bounds.
    pub(super) fn new(per_source: usize, in_all: usize) -> Arc<Self> {
        Arc::new(Self { per_source, in_all, half_open: Mutex::new(HashMap::new()) })
    }

    /// Lets a session of `source` in; `None` if there are too many on the way.
    pub(super) fn enter(self: &Arc<Self>, source: IpAddr) -> Option<HalfOpen> {
        let source = network(source);
        let mut half_open = self.half_open.lock();
        let of_source = half_open.get(&source).copied().unwrap_or(0);
        if of_source >= self.per_source || half_open.values().sum::<usize>() >= self.in_all {
            return None;
        }
        half_open.insert(source, of_source + 1);
        Some(HalfOpen { admission: self.clone(), source })
    }
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        let mut half_open = self.admission.half_open.lock();
        if let Some(count) = half_open.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                half_open.remove(&self.source);
            }
        }
    }
}

/// What one subscriber has: an IPv4 address or the first 64 bits of an IPv6 address.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() & !(u128::MAX >> 64)).into(),
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn each_source_and_all_together_are_bounded() {
        let admission = Admission::new(2, 3);
        let first = admission.enter(ip("192.0.2.1")).expect("room");
        let _second = admission.enter(ip("::ffff:192.0.2.1")).expect("room");
        assert!(admission.enter(ip("192.0.2.1")).is_none(), "the source's bound");
        let _third = admission.enter(ip("2001:db8::1")).expect("room");
        assert!(admission.enter(ip("192.0.2.9")).is_none(), "the bound of all");
        drop(first);
        let _again = admission.enter(ip("2001:db8::ffff:2")).expect("room again");
        assert!(admission.enter(ip("2001:db8::3")).is_none());
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let admission = Admission::new(1, 9);
        let _held = admission.enter(ip("2001:db8:0:1::1")).expect("room");
        assert!(admission.enter(ip("2001:db8:0:1:9::2")).is_none());
        assert!(admission.enter(ip("2001:db8:0:2::2")).is_some());
        assert_eq!(admission.half_open.lock().len(), 1);
    }
}
