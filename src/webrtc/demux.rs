//! Which session a datagram belongs to.
//!
//! A STUN request is known by our ICE user fragment in its USERNAME; everything else by the pair of
//! addresses, and a pair is learned only after a STUN message of that session passed its integrity
//! check. So no DTLS or media byte is taken from an address that has not shown it knows the session.

use super::SessionId;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

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

/// The tables: user fragments and proven address pairs.
#[derive(Debug, Default)]
pub(super) struct Demux {
    fragments: HashMap<Box<[u8]>, SessionId>,
    paths: HashMap<(SocketAddr, IpAddr), SessionId>,
    by_session: HashMap<SessionId, Known>,
}

#[derive(Debug, Default)]
struct Known {
    fragments: Vec<Box<[u8]>>,
    paths: Vec<(SocketAddr, IpAddr)>,
}

impl Demux {
    /// A session begins: STUN with this fragment of ours is its.
    pub(super) fn insert(&mut self, session: SessionId, fragment: &str) {
        let fragment: Box<[u8]> = fragment.as_bytes().into();
        self.fragments.insert(fragment.clone(), session);
        self.by_session.entry(session).or_default().fragments.push(fragment);
    }

    /// A session is over: nothing reaches it any more.
    pub(super) fn remove(&mut self, session: SessionId) {
        let Some(known) = self.by_session.remove(&session) else { return };
        for fragment in known.fragments {
            self.fragments.remove(&fragment);
        }
        for path in known.paths {
            if self.paths.get(&path) == Some(&session) {
                self.paths.remove(&path);
            }
        }
    }

    /// The session of a STUN message that names one of our fragments.
    pub(super) fn by_fragment(&self, stun: &[u8]) -> Option<SessionId> {
        self.fragments.get(local_fragment(stun)?).copied()
    }

    /// The session that has proven this pair of addresses.
    pub(super) fn by_path(&self, peer: SocketAddr, local: IpAddr) -> Option<SessionId> {
        self.paths.get(&(peer, local)).copied()
    }

    /// A STUN message of `session` passed its integrity check on this pair of addresses.
    pub(super) fn learn(&mut self, session: SessionId, peer: SocketAddr, local: IpAddr) {
        let Some(known) = self.by_session.get_mut(&session) else { return };
        if self.paths.get(&(peer, local)) == Some(&session) || known.paths.len() >= MAX_PATHS {
            return;
        }
        self.paths.insert((peer, local), session);
        known.paths.push((peer, local));
    }
}

/// The part of USERNAME before the colon: the receiver's fragment (RFC 8445 §7.2.2).
fn local_fragment(stun: &[u8]) -> Option<&[u8]> {
    const USERNAME: u16 = 0x0006;
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

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
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
        let mut demux = Demux::default();
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
        let mut demux = Demux::default();
        let local = IpAddr::from([127, 0, 0, 1]);
        demux.insert(session, "aaaa");
        assert_eq!(demux.by_path(address(1), local), None);
        demux.learn(session, address(1), local);
        assert_eq!(demux.by_path(address(1), local), Some(session));
        assert_eq!(demux.by_path(address(1), [10, 0, 0, 2].into()), None, "another address of ours");
        demux.remove(session);
        assert_eq!(demux.by_path(address(1), local), None);
        demux.learn(session, address(1), local);
        assert_eq!(demux.by_path(address(1), local), None, "nothing is learned for a session that is over");
    }

    #[test]
    fn a_session_can_not_fill_the_table() {
        let session = SessionId::random();
        let mut demux = Demux::default();
        demux.insert(session, "aaaa");
        for port in 1..1000 {
            demux.learn(session, address(port), [127, 0, 0, 1].into());
        }
        assert_eq!(demux.paths.len(), MAX_PATHS);
    }
}
