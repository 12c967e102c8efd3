//! Remote candidates: `a=candidate` lines of offers and of trickled fragments (RFC 8839 §5.1, RFC 8840).
//!
//! Owns their bounds. Promises that a host name is never looked up: what is not a literal IP address over
//! UDP is dropped silently.

use crate::webrtc::SessionError;
use std::net::{IpAddr, SocketAddr};

/// Candidates that one offer or fragment may hold.
pub(super) const MAX_CANDIDATES: usize = 64;
/// Candidates of a session that are checked; each costs us a few small datagrams.
pub(super) const MAX_CHECKED: usize = 16;
/// Bytes of a fragment.
const MAX_FRAGMENT: usize = 16 << 10;

/// The address of a candidate that can be checked; `None` for others.
pub(super) fn address(value: &str) -> Option<SocketAddr> {
    // foundation component transport priority address port "typ" type …
    let mut fields = value.split_ascii_whitespace();
    let (_foundation, component) = (fields.next()?, fields.next()?);
    let (transport, _priority) = (fields.next()?, fields.next()?.parse::<u32>().ok()?);
    let address: IpAddr = fields.next()?.parse().ok()?; // `.local` and other names end here
    let port: u16 = fields.next()?.parse().ok()?;
    let usable = component == "1" && transport.eq_ignore_ascii_case("udp") && port != 0;
    let usable =
        usable && fields.next() == Some("typ") && !address.is_unspecified() && !address.is_multicast();
    usable.then(|| SocketAddr::new(address, port))
}

/// A host candidate's value, as it follows `a=candidate:` or `candidate:`.
pub(super) fn host(number: usize, address: SocketAddr) -> String {
    // RFC 8445 §5.1.2.1: type preference 126, local preference falls with each address, component 1.
    let priority = (126 << 24) | ((65_535 - number.min(65_535) as u32) << 8) | 255;
    format!("{} 1 udp {priority} {} {} typ host", number + 1, address.ip(), address.port())
}

/// What a trickled fragment (`application/trickle-ice-sdpfrag`) holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fragment {
    /// The client's ICE user fragment, if the fragment names it.
    pub(super) ufrag: Option<String>,
    /// Addresses of its usable candidates.
    pub(super) candidates: Vec<SocketAddr>,
}

/// Reads a fragment.
pub(super) fn fragment(text: &str) -> Result<Fragment, SessionError> {
    let malformed = |why: &str| SessionError::MalformedFragment(why.into());
    if text.len() > MAX_FRAGMENT {
        return Err(malformed("it has more than 16 KiB"));
    }
    let mut fragment = Fragment::default();
    let mut count = 0;
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        let (key, value) = line.split_once('=').ok_or_else(|| malformed("a line has no '='"))?;
        match (key, value.split_once(':')) {
            ("a", Some(("candidate", value))) => {
                count += 1;
                fragment.candidates.extend(address(value));
            }
            ("a", Some(("ice-ufrag", value))) => fragment.ufrag = Some(value.into()),
            ("a" | "m" | "s" | "o" | "v" | "t" | "c", _) => {}
            _ => return Err(malformed("a line is not of SDP")),
        }
    }
    if count > MAX_CANDIDATES {
        return Err(malformed("it has more than 64 candidates"));
    }
    Ok(fragment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_literal_addresses_over_udp_are_candidates() {
        let v4 = "1 1 udp 2130706431 192.0.2.7 5000 typ host generation 0";
        assert_eq!(address(v4), Some("192.0.2.7:5000".parse().expect("address")));
        let v6 = "1 1 UDP 2130706431 2001:db8::1 5000 typ srflx raddr 0.0.0.0 rport 0";
        assert_eq!(address(v6), Some("[2001:db8::1]:5000".parse().expect("address")));
        for dropped in [
            "1 1 udp 2130706431 0f2b-4a.local 5000 typ host",
            "1 1 udp 2130706431 example.org 5000 typ host",
            "1 1 tcp 2130706431 192.0.2.7 9 typ host tcptype active",
            "1 2 udp 2130706431 192.0.2.7 5000 typ host",
            "1 1 udp 2130706431 192.0.2.7 0 typ host",
            "1 1 udp 2130706431 0.0.0.0 5000 typ host",
            "1 1 udp 2130706431 239.0.0.1 5000 typ host",
            "1 1 udp x 192.0.2.7 5000 typ host",
            "1 1 udp",
            "",
        ] {
            assert_eq!(address(dropped), None, "{dropped}");
        }
    }

    #[test]
    fn our_own_candidates_can_be_read_back() {
        let here = "[2001:db8::1]:8189".parse().expect("address");
        assert_eq!(address(&host(3, here)), Some(here));
    }

    #[test]
    fn fragments_give_their_usable_candidates() {
        let text = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n\
                    a=mid:0\r\na=candidate:1 1 udp 2130706431 192.0.2.7 5000 typ host\r\n\
                    a=candidate:2 1 udp 2130706431 x.local 5000 typ host\r\na=end-of-candidates\r\n";
        let read = fragment(text).expect("well-formed");
        assert_eq!(read.ufrag.as_deref(), Some("abcd"));
        assert_eq!(read.candidates, ["192.0.2.7:5000".parse::<SocketAddr>().expect("address")]);
        assert!(fragment("garbage").is_err());
        assert!(fragment(&"a=candidate:1\r\n".repeat(65)).is_err());
        assert!(fragment(&"a=x\r\n".repeat(10_000)).is_err());
    }
}
