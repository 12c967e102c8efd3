//! Which session a datagram belongs to.
//!
//! A STUN request is known by our ICE user fragment in its USERNAME; everything else by the pair of
//! addresses, and a pair is learned only after a STUN message of that session passed its integrity
//! check. So no DTLS or media byte is taken from an address that has not shown it knows the session.

use super::SessionId;
use super::directory::{Directory, WorkerId};
use super::path::Path;
use super::transport::FRAGMENT;
use foldhash::HashMap;
use std::sync::Arc;

/// Addresses one session may hold; a browser on many networks tries a dozen.
const MAX_PATHS: usize = 64;
/// Attributes looked at in one STUN message before it is given up.
const MAX_ATTRIBUTES: usize = 32;

/// What a datagram is, by its first bytes (RFC 7983 §7, RFC 5761 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Datagram {
    /// ICE connectivity and consent checks.
    Stun,
    /// Handshake, close_notify.
    Dtls,
    /// Media.
    Rtp,
    /// Reports and feedback.
    Rtcp,
}

impl Datagram {
    /// `None` for what is none of these.
    pub(super) fn classify(data: &[u8]) -> Option<Self> {
        match *data.first()? {
            0..=3 if data.len() >= 20 && data[4..8] == [0x21, 0x12, 0xa4, 0x42] => Some(Self::Stun),
            20..=63 if data.len() >= 13 => Some(Self::Dtls),
            128..=191 if data.len() >= 12 && (192..=223).contains(&data[1]) => Some(Self::Rtcp),
            128..=191 if data.len() >= 12 => Some(Self::Rtp),
            _ => None,
        }
    }
}

/// The tables of one worker: user fragments and proven paths. Keeps the directory of all workers in step.
#[derive(Debug)]
pub(super) struct Demux {
    worker: WorkerId,
    directory: Arc<Directory>,
    fragments: HashMap<Box<[u8]>, SessionId>,
    paths: HashMap<Path, SessionId>,
    by_session: HashMap<SessionId, Known>,
}

#[derive(Debug, Default)]
struct Known {
    fragments: Vec<Box<[u8]>>,
    paths: Vec<Path>,
}

impl Demux {
    /// Empty tables of `worker`.
    pub(super) fn new(worker: WorkerId, directory: Arc<Directory>) -> Self {
        Self {
            worker,
            directory,
            fragments: HashMap::default(),
            paths: HashMap::default(),
            by_session: HashMap::default(),
        }
    }

    /// A session begins, or has one more fragment: STUN with it is its.
    pub(super) fn insert(&mut self, session: SessionId, fragment: &str) {
        let fragment: Box<[u8]> = fragment.as_bytes().into();
        self.directory.add_fragment(&fragment, self.worker);
        self.directory.add_session(session, self.worker);
        self.fragments.insert(fragment.clone(), session);
        self.by_session.entry(session).or_default().fragments.push(fragment);
    }

    /// Whether a session has more than one fragment: it restarts.
    pub(super) fn has_spare_fragment(&self, session: SessionId) -> bool {
        self.by_session.get(&session).is_some_and(|known| known.fragments.len() > 1)
    }

    /// Forgets all fragments of a session but these: after an ICE restart.
    pub(super) fn keep_fragments(&mut self, session: SessionId, kept: &[&str]) {
        let Self { fragments, by_session, directory, .. } = self;
        let Some(known) = by_session.get_mut(&session) else { return };
        known.fragments.retain(|other| {
            let keep = kept.iter().any(|kept| kept.as_bytes() == &**other);
            if !keep {
                fragments.remove(other);
                directory.remove_fragment(other);
            }
            keep
        });
    }

    /// A session is over: nothing reaches it any more. The paths that it had.
    pub(super) fn remove(&mut self, session: SessionId) -> Vec<Path> {
        self.directory.remove_session(session);
        let Some(known) = self.by_session.remove(&session) else { return Vec::new() };
        for fragment in known.fragments {
            self.fragments.remove(&fragment);
            self.directory.remove_fragment(&fragment);
        }
        for path in &known.paths {
            if self.paths.get(path) == Some(&session) {
                self.paths.remove(path);
                self.directory.remove_path(*path, self.worker);
            }
        }
        known.paths
    }

    /// The session of a STUN message that names one of our fragments.
    pub(super) fn by_fragment(&self, stun: &[u8]) -> Option<SessionId> {
        self.fragments.get(local_fragment(stun)?).copied()
    }

    /// The session that has proven this path.
    pub(super) fn by_path(&self, path: Path) -> Option<SessionId> {
        self.paths.get(&path).copied()
    }

    /// A STUN message of `session` passed its integrity check on this path. The other worker that must
    /// forget it, if there is one.
    pub(super) fn learn(&mut self, session: SessionId, path: Path) -> Option<WorkerId> {
        let known = self.by_session.get_mut(&session)?;
        if self.paths.get(&path) == Some(&session) || known.paths.len() >= MAX_PATHS {
            return None;
        }
        self.paths.insert(path, session);
        known.paths.push(path);
        self.directory.claim_path(path, self.worker)
    }

    /// Another worker's session has proven this path.
    pub(super) fn forget(&mut self, path: Path) {
        if self.directory.by_path(path) != Some(self.worker) {
            self.paths.remove(&path);
        }
    }

    /// The other worker that a datagram is for, when none of our sessions wants it.
    pub(super) fn elsewhere(&self, kind: Datagram, path: Path, data: &[u8]) -> Option<WorkerId> {
        let by_fragment = match kind {
            Datagram::Stun => local_fragment(data).and_then(|fragment| self.directory.by_fragment(fragment)),
            _ => None,
        };
        by_fragment.or_else(|| self.directory.by_path(path)).filter(|worker| *worker != self.worker)
    }
}

impl Drop for Demux {
    fn drop(&mut self) {
        let sessions: Vec<SessionId> = self.by_session.keys().copied().collect();
        for session in sessions {
            self.remove(session);
        }
    }
}

/// Our fragment in a STUN message: of a request, the part of USERNAME before the colon (RFC 8445 §7.2.2); of
/// an answer, the head of its transaction, which was ours.
pub(super) fn local_fragment(stun: &[u8]) -> Option<&[u8]> {
    const USERNAME: u16 = 0x0006;
    if stun.first()? & 1 == 1 {
        return stun.get(8..8 + FRAGMENT);
    }
    let mut rest = stun.get(20..)?;
    for _ in 0..MAX_ATTRIBUTES {
        let kind = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
        let length = usize::from(u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]));
        let value = rest.get(4..4 + length)?;
        if kind == USERNAME {
            let colon = value.iter().position(|byte| *byte == b':')?;
            return Some(&value[..colon]);
        }
        rest = rest.get(4 + length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webrtc::path::Protocol;
    use std::net::{IpAddr, SocketAddr};

    fn stun(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        message.extend([7; 12]);
        for (kind, value) in attributes {
            message.extend(kind.to_be_bytes());
            message.extend((value.len() as u16).to_be_bytes());
            message.extend(*value);
            message.resize(message.len().next_multiple_of(4), 0);
        }
        message
    }

    fn path(port: u16, local: [u8; 4]) -> Path {
        Path::udp(SocketAddr::from(([10, 0, 0, 1], port)), IpAddr::from(local))
    }

    fn demux() -> Demux {
        Demux::new(0, Arc::default())
    }

    #[test]
    fn datagrams_are_known_by_their_first_bytes() {
        assert_eq!(Datagram::classify(&stun(&[])), Some(Datagram::Stun));
        let mut data = [0; 40];
        assert_eq!(Datagram::classify(&data), None, "no magic cookie");
        data[0] = 22;
        assert_eq!(Datagram::classify(&data), Some(Datagram::Dtls));
        assert_eq!(Datagram::classify(&data[..5]), None);
        data[0] = 0x80;
        data[1] = 0xe0;
        assert_eq!(Datagram::classify(&data), Some(Datagram::Rtp));
        data[1] = 200;
        assert_eq!(Datagram::classify(&data), Some(Datagram::Rtcp));
        data[0] = 64;
        assert_eq!(Datagram::classify(&data), None);
        assert_eq!(Datagram::classify(&[]), None);
    }

    #[test]
    fn stun_is_known_by_our_fragment() {
        let (a, b) = (SessionId::random(), SessionId::random());
        let mut demux = demux();
        demux.insert(a, "aaaa");
        demux.insert(b, "bbbb");
        assert_eq!(demux.by_fragment(&stun(&[(0x8022, b"odd"), (6, b"bbbb:xyz")])), Some(b));
        assert_eq!(demux.by_fragment(&stun(&[(6, b"aaaa:xyz")])), Some(a));
        for foreign in [&b"cccc:xyz"[..], b"aaaa", b"xyz:aaaa", b""] {
            assert_eq!(demux.by_fragment(&stun(&[(6, foreign)])), None);
        }
        demux.remove(b);
        assert_eq!(demux.by_fragment(&stun(&[(6, b"bbbb:xyz")])), None);
    }

    #[test]
    fn hostile_attributes_end_the_search() {
        let mut cut = stun(&[(6, b"aaaa:xyz")]);
        cut.truncate(26);
        assert_eq!(local_fragment(&cut), None);
        let mut lying = stun(&[(6, b"aaaa:xyz")]);
        lying[22..24].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(local_fragment(&lying), None);
        let many: Vec<(u16, &[u8])> = std::iter::repeat_n((0x8022, &b""[..]), 100).collect();
        assert_eq!(local_fragment(&stun(&many)), None);
    }

    #[test]
    fn a_path_is_unknown_until_it_is_proven_and_after_the_end() {
        let session = SessionId::random();
        let mut demux = demux();
        let (here, elsewhere) = (path(1, [127, 0, 0, 1]), path(1, [10, 0, 0, 2]));
        demux.insert(session, "aaaa");
        assert_eq!(demux.by_path(here), None);
        assert_eq!(demux.learn(session, here), None);
        assert_eq!(demux.by_path(here), Some(session));
        assert_eq!(demux.by_path(elsewhere), None, "another address of ours");
        let tcp = Path { protocol: Protocol::Tcp(1), ..here };
        assert_eq!(demux.by_path(tcp), None, "another way");
        assert_eq!(demux.remove(session), [here]);
        assert_eq!(demux.by_path(here), None);
        demux.learn(session, here);
        assert_eq!(demux.by_path(here), None, "nothing is learned for a session that is over");
    }

    #[test]
    fn a_session_can_not_fill_the_table() {
        let session = SessionId::random();
        let mut demux = demux();
        demux.insert(session, "aaaa");
        for port in 1..1000 {
            demux.learn(session, path(port, [127, 0, 0, 1]));
        }
        assert_eq!(demux.paths.len(), MAX_PATHS);
    }

    #[test]
    fn what_belongs_to_another_worker_is_known() {
        let directory = Arc::<Directory>::default();
        let (mut ours, mut other) = (Demux::new(0, directory.clone()), Demux::new(1, directory.clone()));
        let (session, here) = (SessionId::random(), path(1, [127, 0, 0, 1]));
        other.insert(session, "bbbb");
        let check = stun(&[(6, b"bbbb:xyz")]);
        assert_eq!(ours.elsewhere(Datagram::Stun, here, &check), Some(1));
        assert_eq!(ours.elsewhere(Datagram::Dtls, here, &[]), None, "not proven yet");
        assert_eq!(other.elsewhere(Datagram::Stun, here, &check), None, "its own");
        other.learn(session, here);
        assert_eq!(ours.elsewhere(Datagram::Dtls, here, &[]), Some(1));
        // A new session with the same path wins, wherever it lives.
        let newer = SessionId::random();
        ours.insert(newer, "aaaa");
        assert_eq!(ours.learn(newer, here), Some(1));
        other.forget(here);
        assert_eq!((other.by_path(here), ours.by_path(here)), (None, Some(newer)));
        assert_eq!(other.elsewhere(Datagram::Dtls, here, &[]), Some(0));
        drop(ours);
        assert_eq!(directory.by_path(here), None, "a worker's entries go with it");
        assert_eq!(directory.by_session(newer), None);
    }

    #[test]
    fn after_a_restart_the_old_fragment_is_nobodys() {
        let (session, mut demux) = (SessionId::random(), demux());
        demux.insert(session, "aaaa");
        demux.insert(session, "bbbb");
        let (old, new) = (stun(&[(6, b"aaaa:x")]), stun(&[(6, b"bbbb:x")]));
        assert_eq!((demux.by_fragment(&old), demux.by_fragment(&new)), (Some(session), Some(session)));
        assert!(demux.has_spare_fragment(session));
        demux.keep_fragments(session, &["bbbb"]);
        assert!(!demux.has_spare_fragment(session));
        assert_eq!((demux.by_fragment(&old), demux.by_fragment(&new)), (None, Some(session)));
    }
}
