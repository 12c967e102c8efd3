//! Trickled fragments (RFC 8840).
//!
//! Owns their bounds. A lite agent has no use for candidates: none is kept, and no host name is looked up.

use crate::webrtc::SessionError;

/// Candidates that one offer or fragment may hold.
pub(super) const MAX_CANDIDATES: usize = 64;
/// Bytes of a fragment.
const MAX_FRAGMENT: usize = 16 << 10;

/// What a trickled fragment (`application/trickle-ice-sdpfrag`) holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fragment {
    /// The client's ICE user fragment, if the fragment names it.
    pub(super) ufrag: Option<String>,
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
            ("a", Some(("candidate", _))) => count += 1,
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
    fn fragments_are_read_within_bounds() {
        let text = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n\
                    a=mid:0\r\na=candidate:1 1 udp 2130706431 192.0.2.7 5000 typ host\r\n\
                    a=candidate:2 1 udp 2130706431 x.local 5000 typ host\r\na=end-of-candidates\r\n";
        let read = fragment(text).expect("well-formed");
        assert_eq!(read.ufrag.as_deref(), Some("abcd"));
        assert!(fragment("garbage").is_err());
        assert!(fragment(&"a=candidate:1\r\n".repeat(65)).is_err());
        assert!(fragment(&"a=x\r\n".repeat(10_000)).is_err());
    }
}
