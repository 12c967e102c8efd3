//! What all sessions together are and have done: those that are open, and the sums of those that are over.
//!
//! Locked when a session begins and ends, and for who asks; sessions count into their own [`Traffic`].

use super::SessionKind;
use super::traffic::Traffic;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the sessions of one kind are and have done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionTotals {
    /// Sessions now.
    pub open: u64,
    /// Bytes of RTP sent, repeated packets included.
    pub sent: u64,
    /// Packets that peers say they have lost.
    pub packets_lost: u64,
    /// Packets that were sent again.
    pub packets_resent: u64,
}

/// The sessions.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    last: u64,
    open: BTreeMap<u64, (SessionKind, Arc<Traffic>)>,
    /// Of those that are over.
    whip: SessionTotals,
    whep: SessionTotals,
}

/// One session's entry; when it is dropped, the session is over.
#[derive(Debug)]
pub(super) struct Account {
    ledger: Arc<Ledger>,
    number: u64,
    /// Where the session counts.
    pub(super) traffic: Arc<Traffic>,
}

impl Ledger {
    /// A session begins.
    pub(super) fn open(self: &Arc<Self>, kind: SessionKind) -> Account {
        let traffic: Arc<Traffic> = Arc::default();
        let mut entries = self.0.lock();
        entries.last += 1;
        let number = entries.last;
        entries.open.insert(number, (kind, traffic.clone()));
        Account { ledger: self.clone(), number, traffic }
    }

    /// What the sessions of a kind are and have done.
    pub(super) fn totals(&self, kind: SessionKind) -> SessionTotals {
        let mut entries = self.0.lock();
        let mut totals = *entries.ended(kind);
        let open = entries.open.values().filter(|(of, _)| *of == kind);
        open.for_each(|(_, traffic)| {
            totals.open += 1;
            totals.add(traffic);
        });
        totals
    }
}

impl Entries {
    fn ended(&mut self, kind: SessionKind) -> &mut SessionTotals {
        match kind {
            SessionKind::Whip => &mut self.whip,
            SessionKind::Whep => &mut self.whep,
        }
    }
}

impl SessionTotals {
    fn add(&mut self, traffic: &Traffic) {
        let traffic = traffic.snapshot();
        self.sent += traffic.sent;
        self.packets_lost += traffic.packets_lost;
        self.packets_resent += traffic.packets_resent;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let mut entries = self.ledger.0.lock();
        if let Some((kind, traffic)) = entries.open.remove(&self.number) {
            entries.ended(kind).add(&traffic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_session_has_done_outlives_it() {
        let ledger = Arc::new(Ledger::default());
        let (one, other) = (ledger.open(SessionKind::Whep), ledger.open(SessionKind::Whep));
        let publisher = ledger.open(SessionKind::Whip);
        one.traffic.set_sent(100, 3);
        one.traffic.set_packets_lost(4);
        other.traffic.set_sent(50, 0);
        let both = SessionTotals { open: 2, sent: 150, packets_lost: 4, packets_resent: 3 };
        assert_eq!(ledger.totals(SessionKind::Whep), both);
        drop(one);
        assert_eq!(ledger.totals(SessionKind::Whep), SessionTotals { open: 1, ..both });
        other.traffic.set_sent(60, 0);
        drop(other);
        assert_eq!(ledger.totals(SessionKind::Whep), SessionTotals { open: 0, sent: 160, ..both });
        let whip = SessionTotals { open: 1, ..SessionTotals::default() };
        assert_eq!(ledger.totals(SessionKind::Whip), whip);
        drop(publisher);
        assert!(ledger.0.lock().open.is_empty());
    }
}
