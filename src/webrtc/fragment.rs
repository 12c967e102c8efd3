//! What a PATCH carries: candidates and credentials in a fragment of SDP (RFC 8840, RFC 9725 §4.3), and the
//! `a=candidate` lines that offers have too (RFC 8839 §5.1).
//!
//! Owns their bounds. Promises that a host name is never looked up: what is not a literal address over UDP
//! is dropped silently.

use super::SessionError;
use std::net::{IpAddr, SocketAddr};

/// Candidates that one offer or fragment may hold.
pub(super) const MAX_CANDIDATES: usize = 64;
/// Bytes of a fragment.
const MAX_FRAGMENT: usize = 16 << 10;
/// Characters of a line that goes back to the client.
const MAX_ECHO: usize = 256;

/// A fragment, read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fragment {
    /// The client's ICE user fragment, if the fragment names it.
    pub(super) ufrag: Option<String>,
    /// And its password.
    pub(super) password: Option<String>,
    /// The first m-line and its `a=mid`, for an answer.
    pub(super) media: Option<String>,
    /// See [`Self::media`].
    pub(super) mid: Option<String>,
    /// Addresses of its usable candidates.
    pub(super) candidates: Vec<SocketAddr>,
    /// All of its candidates.
    pub(super) count: usize,
}

impl Fragment {
    /// Reads a fragment.
    pub(super) fn parse(text: &str) -> Result<Self, SessionError> {
        let malformed = |why: &str| SessionError::MalformedFragment(why.into());
        if text.len() > MAX_FRAGMENT {
            return Err(malformed("it has more than 16 KiB"));
        }
        let mut fragment = Self::default();
        for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
            let (key, value) = line.split_once('=').ok_or_else(|| malformed("a line has no '='"))?;
            match (key, value.split_once(':')) {
                ("a", Some(("candidate", value))) => {
                    fragment.count += 1;
                    fragment.candidates.extend(candidate(value));
                }
                // RFC 8839 §5.4: in one bundle all sections have the same.
                ("a", Some(("ice-ufrag", value))) => {
                    credential(&mut fragment.ufrag, value, 4).ok_or_else(|| {
                        malformed("a=ice-ufrag has a bad length or character, or two values")
                    })?;
                }
                ("a", Some(("ice-pwd", value))) => {
                    credential(&mut fragment.password, value, 22)
                        .ok_or_else(|| malformed("a=ice-pwd has a bad length or character, or two values"))?;
                }
                ("a", Some(("mid", value))) if fragment.mid.is_none() && can_go_back(value) => {
                    fragment.mid = Some(value.into());
                }
                ("m", _) if fragment.media.is_none() && can_go_back(value) => {
                    fragment.media = Some(value.into());
                }
                ("a" | "m" | "s" | "o" | "v" | "t" | "c", _) => {}
                _ => return Err(malformed("a line is not of SDP")),
            }
        }
        if fragment.count > MAX_CANDIDATES {
            return Err(malformed("it has more than 64 candidates"));
        }
        Ok(fragment)
    }
}

/// The address of a candidate that can be checked; `None` for others. `value` is what follows
/// `a=candidate:`.
pub(super) fn candidate(value: &str) -> Option<SocketAddr> {
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

/// Takes a user fragment or password: `least` to 256 characters of RFC 8839 §5.4, always the same.
fn credential(field: &mut Option<String>, value: &str, least: usize) -> Option<()> {
    let fits = |c: u8| c.is_ascii_alphanumeric() || c == b'+' || c == b'/' || c == b'-' || c == b'_';
    // (The last two are not in the grammar; some stacks have them.)
    let good = (least..=256).contains(&value.len()) && value.bytes().all(fits);
    match field {
        _ if !good => None,
        Some(known) => (known == value).then_some(()),
        None => {
            *field = Some(value.to_owned());
            Some(())
        }
    }
}

fn can_go_back(value: &str) -> bool {
    value.len() <= MAX_ECHO && value.bytes().all(|c| c.is_ascii_graphic() || c == b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w35_only_literal_addresses_over_udp_are_candidates() {
        let v4 = "1 1 udp 2130706431 192.0.2.7 5000 typ host generation 0";
        assert_eq!(candidate(v4), Some("192.0.2.7:5000".parse().expect("address")));
        let v6 = "1 1 UDP 2130706431 2001:db8::1 5000 typ srflx raddr 0.0.0.0 rport 0";
        assert_eq!(candidate(v6), Some("[2001:db8::1]:5000".parse().expect("address")));
        for dropped in [
            "1 1 udp 2130706431 0f2b-4a.local 5000 typ host",
            "1 1 udp 2130706431 example.org 5000 typ host",
            "1 1 tcp 2130706431 192.0.2.7 9 typ host tcptype active",
            "1 1 sctp 2130706431 192.0.2.7 9 typ host",
            "1 2 udp 2130706431 192.0.2.7 5000 typ host",
            "1 1 udp 2130706431 192.0.2.7 0 typ host",
            "1 1 udp 2130706431 0.0.0.0 5000 typ host",
            "1 1 udp 2130706431 239.0.0.1 5000 typ host",
            "1 1 udp x 192.0.2.7 5000 typ host",
            "1 1 udp",
            "",
        ] {
            assert_eq!(candidate(dropped), None, "{dropped}");
        }
    }

    #[test]
    fn fragments_give_what_a_session_needs() {
        let text = "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n\
                    a=ice-ufrag:ab+/\r\na=ice-pwd:0123456789012345678901\r\n\
                    a=candidate:1 1 udp 2130706431 192.0.2.7 5000 typ host\r\n\
                    a=candidate:2 1 udp 2130706431 x.local 5000 typ host\r\na=end-of-candidates\r\n\
                    m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na=ice-ufrag:ab+/\r\n";
        let read = Fragment::parse(text).expect("well-formed");
        assert_eq!((read.ufrag.as_deref(), read.mid.as_deref()), (Some("ab+/"), Some("0")));
        assert_eq!(read.password.as_deref(), Some("0123456789012345678901"));
        assert_eq!(read.media.as_deref(), Some("audio 9 UDP/TLS/RTP/SAVPF 111"));
        assert_eq!(read.candidates, ["192.0.2.7:5000".parse::<SocketAddr>().expect("address")]);
        assert_eq!(read.count, 2);
        assert_eq!(Fragment::parse("").expect("nothing new"), Fragment::default());
    }

    #[test]
    fn what_is_no_fragment_is_malformed() {
        let many = "a=candidate:1\r\n".repeat(65);
        let long = "a=x\r\n".repeat(10_000);
        for text in [
            "garbage",
            "{\"candidate\":1}",
            "GET / HTTP/1.1\r\nHost=1",
            "a=ice-ufrag:ab",
            "a=ice-ufrag:ab cd",
            "a=ice-pwd:short",
            "a=ice-ufrag:abcd\r\na=ice-ufrag:efgh",
            &many,
            &long,
        ] {
            let error = Fragment::parse(text).expect_err(text);
            assert!(matches!(error, SessionError::MalformedFragment(_)));
        }
    }
}
