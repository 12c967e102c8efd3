//! SDP as lines (RFC 8866): the session part and the m-sections of an offer, within bounds.
//!
//! Knows the form, not the meaning; copies nothing.

use super::SessionError;

const MAX_BYTES: usize = 64 << 10;
const MAX_LINES: usize = 2_000;
const MAX_LINE: usize = 4 << 10;
const MAX_SECTIONS: usize = 4;

/// The lines of the session part or of one m-section.
#[derive(Debug, Default)]
pub(super) struct Lines<'a> {
    /// The value of `m=`; empty for the session part.
    pub(super) head: &'a str,
    /// The values of `a=`.
    attributes: Vec<&'a str>,
}

impl<'a> Lines<'a> {
    /// The values of all attributes of this name.
    pub(super) fn attributes(&self, key: &'static str) -> impl Iterator<Item = &'a str> + use<'a, '_> {
        self.attributes.iter().filter_map(move |attribute| attribute.strip_prefix(key)?.strip_prefix(':'))
    }

    /// Whether the attribute without value is there.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.attributes.contains(&name)
    }
}

/// Splits SDP into its session part and its m-sections, within bounds.
pub(super) fn split(text: &str) -> Result<(Lines<'_>, Vec<Lines<'_>>), SessionError> {
    if text.len() > MAX_BYTES {
        return Err(malformed("more than 64 KiB"));
    }
    let (mut session, mut media) = (Lines::default(), Vec::<Lines<'_>>::new());
    let lines = text.split('\n').map(|line| line.trim_end_matches('\r').trim_end());
    for (number, line) in lines.enumerate() {
        if number >= MAX_LINES {
            return Err(malformed("more than 2000 lines"));
        }
        if line.len() > MAX_LINE {
            return Err(malformed(&format!("line {} has more than 4 KiB", number + 1)));
        }
        // RFC 8866 §9: of these a value may hold a tab at most; some of what is read here goes back.
        if line.contains(|c: char| c.is_control() && c != '\t') {
            return Err(malformed(&format!("line {} has a control character", number + 1)));
        }
        if line.is_empty() {
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or_default();
        if key.len() != 1 || !key.as_bytes()[0].is_ascii_lowercase() {
            return Err(malformed(&format!("line {} is not of the form <letter>=<value>", number + 1)));
        }
        if (number == 0) != (key == "v") || (number == 0 && value != "0") {
            return Err(malformed("SDP begins with v=0"));
        }
        match (key, media.last_mut()) {
            ("m", _) => media.push(Lines { head: value, attributes: Vec::new() }),
            ("a", Some(section)) => section.attributes.push(value),
            ("a", None) => session.attributes.push(value),
            _ => {}
        }
        if media.len() > MAX_SECTIONS {
            return Err(malformed("more than 4 m-sections"));
        }
    }
    if session.attributes.is_empty() && media.is_empty() {
        return Err(malformed("it is not SDP"));
    }
    Ok((session, media))
}

/// Whether `text` is a token of so many characters (RFC 8866 §9).
pub(super) fn is_token(text: &str, least: usize, most: usize) -> bool {
    // Without the token characters that could be mistaken elsewhere.
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+!~*".contains(&byte);
    (least..=most).contains(&text.len()) && text.bytes().all(token)
}

/// The refusal of an offer that is not SDP, or goes beyond the bounds.
pub(super) fn malformed(why: &str) -> SessionError {
    SessionError::MalformedOffer(why.into())
}
