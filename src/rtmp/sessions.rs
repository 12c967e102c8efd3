//! The connections that publish, as others may know them. Written when one begins or ends to publish, and by
//! each for itself; nothing is locked per message.

use crate::media::StreamName;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;
use tokio_util::sync::CancellationToken;

/// All of them, by number.
#[derive(Debug, Default)]
pub struct RtmpSessions {
    publishing: Mutex<BTreeMap<u64, Arc<RtmpSession>>>,
    last: AtomicU64,
}

/// One of them.
#[derive(Debug)]
pub struct RtmpSession {
    /// Unique as long as the process lives; later ones have higher numbers.
    pub number: u64,
    /// What it publishes.
    pub stream: StreamName,
    /// The peer's address.
    pub remote: SocketAddr,
    /// Since when it publishes.
    pub since: SystemTime,
    received: AtomicU64,
    sent: AtomicU64,
    kicked: CancellationToken,
}

/// A session's entry, gone when it is dropped.
#[derive(Debug)]
pub(super) struct Registration {
    sessions: Arc<RtmpSessions>,
    session: Arc<RtmpSession>,
}

impl RtmpSessions {
    /// All of them, the oldest first.
    pub fn list(&self) -> Vec<Arc<RtmpSession>> {
        self.publishing.lock().values().cloned().collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.publishing.lock().len()
    }

    /// One of them.
    pub fn get(&self, number: u64) -> Option<Arc<RtmpSession>> {
        self.publishing.lock().get(&number).cloned()
    }

    /// A session begins to publish; cancelling `kicked` ends it.
    pub(super) fn register(
        self: &Arc<Self>,
        stream: StreamName,
        remote: SocketAddr,
        kicked: CancellationToken,
    ) -> Registration {
        let number = self.last.fetch_add(1, Relaxed) + 1;
        let since = SystemTime::now();
        let (received, sent) = (AtomicU64::new(0), AtomicU64::new(0));
        let session = Arc::new(RtmpSession { number, stream, remote, since, received, sent, kicked });
        self.publishing.lock().insert(number, session.clone());
        Registration { sessions: self.clone(), session }
    }
}

impl RtmpSession {
    /// Bytes received over the connection, the handshake left out.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Bytes sent over it, the handshake left out: answers and acknowledgements.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Ends it.
    pub fn kick(&self) {
        self.kicked.cancel();
    }
}

impl Registration {
    /// So many bytes have come and gone over the connection.
    pub(super) fn moved(&self, received: u64, sent: u64) {
        self.session.received.store(received, Relaxed);
        self.session.sent.store(sent, Relaxed);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.sessions.publishing.lock().remove(&self.session.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_known_while_it_publishes() {
        let sessions = Arc::new(RtmpSessions::default());
        let kicked = CancellationToken::new();
        let remote = SocketAddr::from(([192, 0, 2, 1], 1));
        let registration = sessions.register("show".parse().expect("valid"), remote, kicked.clone());
        registration.moved(7, 8);
        let session = sessions.list().pop().expect("known");
        assert_eq!((session.received(), session.sent(), session.number, sessions.count()), (7, 8, 1, 1));
        sessions.get(1).expect("known").kick();
        assert!(kicked.is_cancelled());
        drop(registration);
        assert!(sessions.list().is_empty() && sessions.get(1).is_none());
    }
}
