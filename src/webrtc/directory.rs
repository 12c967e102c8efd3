//! Which worker has which session: what one worker must know of the others.
//!
//! Written when a session comes, goes or proves a path; read for a datagram that the worker which received
//! it does not know, and for requests. So no lock is taken for a datagram that arrives where its session
//! lives.

use super::SessionId;
use super::path::Path;
use foldhash::HashMap;
use parking_lot::RwLock;

/// A worker's number, from 0.
pub(super) type WorkerId = usize;

/// The tables of all workers together.
#[derive(Debug, Default)]
pub(super) struct Directory {
    sessions: RwLock<HashMap<SessionId, WorkerId>>,
    fragments: RwLock<HashMap<Box<[u8]>, WorkerId>>,
    paths: RwLock<HashMap<Path, WorkerId>>,
}

impl Directory {
    /// `session` lives on `worker`.
    pub(super) fn add_session(&self, session: SessionId, worker: WorkerId) {
        self.sessions.write().insert(session, worker);
    }

    /// `session` is over.
    pub(super) fn remove_session(&self, session: SessionId) {
        self.sessions.write().remove(&session);
    }

    /// Where `session` lives.
    pub(super) fn by_session(&self, session: SessionId) -> Option<WorkerId> {
        self.sessions.read().get(&session).copied()
    }

    /// STUN with this fragment of ours belongs to a session of `worker`.
    pub(super) fn add_fragment(&self, fragment: &[u8], worker: WorkerId) {
        self.fragments.write().insert(fragment.into(), worker);
    }

    /// The fragment is not used any more.
    pub(super) fn remove_fragment(&self, fragment: &[u8]) {
        self.fragments.write().remove(fragment);
    }

    /// Where the session with this fragment of ours lives.
    pub(super) fn by_fragment(&self, fragment: &[u8]) -> Option<WorkerId> {
        self.fragments.read().get(fragment).copied()
    }

    /// A session of `worker` has proven `path`. The worker that had it until now, if it is another.
    pub(super) fn claim_path(&self, path: Path, worker: WorkerId) -> Option<WorkerId> {
        self.paths.write().insert(path, worker).filter(|before| *before != worker)
    }

    /// The path is not used any more, unless another worker has claimed it.
    pub(super) fn remove_path(&self, path: Path, worker: WorkerId) {
        let mut paths = self.paths.write();
        if paths.get(&path) == Some(&worker) {
            paths.remove(&path);
        }
    }

    /// Where the session that has proven `path` lives.
    pub(super) fn by_path(&self, path: Path) -> Option<WorkerId> {
        self.paths.read().get(&path).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, SocketAddr};

    #[test]
    fn a_claimed_path_is_not_removed_by_the_one_who_had_it() {
        let directory = Directory::default();
        let path = Path::udp(SocketAddr::from(([10, 0, 0, 1], 1)), IpAddr::from([10, 0, 0, 2]));
        assert_eq!(directory.claim_path(path, 0), None);
        assert_eq!(directory.claim_path(path, 0), None, "its own");
        assert_eq!(directory.claim_path(path, 1), Some(0));
        directory.remove_path(path, 0);
        assert_eq!(directory.by_path(path), Some(1));
        directory.remove_path(path, 1);
        assert_eq!(directory.by_path(path), None);
    }

    #[test]
    fn sessions_and_fragments_are_known_until_they_go() {
        let (directory, session) = (Directory::default(), SessionId::random());
        directory.add_session(session, 3);
        directory.add_fragment(b"abcd", 3);
        assert_eq!((directory.by_session(session), directory.by_fragment(b"abcd")), (Some(3), Some(3)));
        directory.remove_session(session);
        directory.remove_fragment(b"abcd");
        assert_eq!((directory.by_session(session), directory.by_fragment(b"abcd")), (None, None));
    }
}
