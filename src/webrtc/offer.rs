//! What the offers of publishers and viewers have in common: the peer's end of the transport.

use super::SessionError;
use super::fragment;
use super::sdp::{Lines, malformed};
use super::transport::Remote;

/// The peer's end, from the session part and the m-sections. There is one transport for all sections: what it is made
/// of may stand at the session or in each of them.
pub(super) fn remote(session: &Lines<'_>, media: &[Lines<'_>]) -> Result<Remote, SessionError> {
    let all = || std::iter::once(session).chain(media);
    let candidates: Vec<&str> = media.iter().flat_map(|lines| lines.attributes("candidate")).collect();
    if candidates.len() > fragment::MAX_CANDIDATES {
        return Err(malformed("more than 64 candidates"));
    }
    Ok(Remote {
        ice_ufrag: credential(all(), "ice-ufrag", 4)?,
        ice_pwd: credential(all(), "ice-pwd", 22)?,
        fingerprint: fingerprint(all())?,
        passive: is_passive(all())?,
        lite: session.flag("ice-lite"),
        candidates: candidates.into_iter().filter_map(fragment::candidate).collect(),
    })
}

fn credential<'a>(
    mut all: impl Iterator<Item = &'a Lines<'a>>,
    key: &'static str,
    least: usize,
) -> Result<String, SessionError> {
    let missing = || malformed(&format!("there is no a={key}"));
    let value = all.find_map(|lines| lines.attributes(key).next()).ok_or_else(missing)?;
    // RFC 8839 §5.4 knows letters, digits, '+' and '/'; clients with '-', '_' and '=' have been seen.
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte);
    if (least..=256).contains(&value.len()) && value.bytes().all(known) {
        Ok(value.into())
    } else {
        Err(malformed(&format!("a={key} is outside the grammar")))
    }
}

fn fingerprint<'a>(all: impl Iterator<Item = &'a Lines<'a>>) -> Result<String, SessionError> {
    let mut offered = all.flat_map(|lines| lines.attributes("fingerprint")).peekable();
    if offered.peek().is_none() {
        return Err(malformed("there is no a=fingerprint"));
    }
    // RFC 8122 §5: several lines may name several hash functions; SHA-256 counts.
    let fits = |value: &str| {
        let (hash, digits) = value.split_once(' ')?;
        let octet = |pair: &str| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
        let well = digits.split(':').count() == 32 && digits.split(':').all(octet);
        (well && hash.eq_ignore_ascii_case("sha-256")).then(|| digits.to_ascii_uppercase())
    };
    let known: Vec<String> = offered.filter_map(fits).collect();
    let first = known.first().ok_or_else(|| malformed("no a=fingerprint is a SHA-256 in hexadecimal"))?;
    if known.iter().any(|other| other != first) {
        return Err(malformed("the m-sections have different a=fingerprint"));
    }
    Ok(first.clone())
}

/// Whether the peer insists on being the DTLS server (RFC 8842).
fn is_passive<'a>(mut all: impl Iterator<Item = &'a Lines<'a>>) -> Result<bool, SessionError> {
    match all.find_map(|lines| lines.attributes("setup").next()) {
        Some("actpass" | "active") | None => Ok(false),
        Some("passive") => Ok(true),
        Some(_) => Err(malformed("a=setup must be actpass, active or passive")),
    }
}
