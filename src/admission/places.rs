//! How many connections one source may hold, and all together.

use super::{Exempt, Limit, Refusals, source};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Counts connections by source address.
#[derive(Clone, Debug)]
pub struct Places {
    taken: Arc<Mutex<Taken>>,
    per_source: usize,
    in_all: usize,
    exempt: Exempt,
    counter: Option<(Refusals, Limit)>,
}

#[derive(Debug, Default)]
struct Taken {
    by_source: HashMap<IpAddr, usize>,
    in_all: usize,
}

/// One connection of a source; dropping it frees the place.
#[derive(Debug)]
pub struct Place {
    taken: Arc<Mutex<Taken>>,
    source: IpAddr,
}

impl Places {
    /// At most `per_source` connections of one source, at most `in_all` of all.
    pub fn new(per_source: usize, in_all: usize) -> Self {
        Self { taken: Arc::default(), per_source, in_all, exempt: Exempt::default(), counter: None }
    }

    /// Sources within `exempt` count among all only.
    pub fn exempting(self, exempt: Exempt) -> Self {
        Self { exempt, ..self }
    }

    /// Who finds no place is counted there, as turned away by `limit`.
    pub fn counting(self, refusals: Refusals, limit: Limit) -> Self {
        Self { counter: Some((refusals, limit)), ..self }
    }

    /// Places that are taken now.
    pub fn taken(&self) -> usize {
        self.taken.lock().in_all
    }

    /// A place for one more connection of `address`, unless there are too many.
    pub fn admit(&self, address: IpAddr) -> Option<Place> {
        let place = self.find(address);
        if let (None, Some((refusals, limit))) = (&place, &self.counter) {
            refusals.count(*limit);
        }
        place
    }

    fn find(&self, address: IpAddr) -> Option<Place> {
        let is_exempt = self.exempt.contains(address);
        let source = source(address);
        let mut taken = self.taken.lock();
        if taken.in_all >= self.in_all {
            return None;
        }
        let count = taken.by_source.entry(source).or_default();
        if *count >= self.per_source && !is_exempt {
            return None;
        }
        *count += 1;
        taken.in_all += 1;
        Some(Place { taken: self.taken.clone(), source })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        taken.in_all -= 1;
        if let Some(count) = taken.by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                taken.by_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_source_holds_at_most_its_limit() {
        let refusals = Refusals::default();
        let places = Places::new(2, 100).counting(refusals.clone(), Limit::HttpConnections);
        let admit = |text: &str| places.admit(address(text));
        let first = admit("192.0.2.1").expect("free");
        let _second = admit("::ffff:192.0.2.1").expect("free");
        assert!(admit("192.0.2.1").is_none());
        let _other = admit("192.0.2.2").expect("another source");
        drop(first);
        let _third = admit("192.0.2.1").expect("free again");
        let _v6 = (admit("2001:db8::1").expect("free"), admit("2001:db8::2").expect("free"));
        assert!(admit("2001:db8::3").is_none(), "the same /64");
        assert!(admit("2001:db8:0:1::1").is_some());
        assert!(refusals.snapshot().contains(&(Limit::HttpConnections, 2)));
    }

    #[test]
    fn all_together_hold_at_most_theirs_and_exempt_ones_count() {
        let exempt = Exempt::new(["127.0.0.0/8".parse().expect("a network")]);
        let places = Places::new(1, 4).exempting(exempt);
        let admit = |text: &str| places.admit(address(text));
        let held = [admit("127.0.0.1"), admit("127.0.0.1"), admit("127.0.0.1"), admit("192.0.2.1")];
        assert!(held.iter().all(Option::is_some));
        assert!(admit("127.0.0.1").is_none() && admit("192.0.2.2").is_none());
        drop(held);
        assert!(admit("192.0.2.2").is_some());
    }

    #[test]
    fn nothing_is_kept_of_a_source_that_left() {
        let places = Places::new(1, 1);
        drop(places.admit(address("192.0.2.1")));
        let taken = places.taken.lock();
        assert!(taken.by_source.is_empty() && taken.in_all == 0);
    }
}
