//! PATCH on a transport: trickled candidates and ICE restarts (RFC 9725 §4.3, RFC 8840).
//!
//! Owns the entity tag of the ICE session and the bound of its candidates; how often a session may be PATCHed is
//! the HTTP side's business. A PATCH that is refused leaves everything as it was.

use super::Transport;
use crate::webrtc::fragment::Fragment;
use crate::webrtc::{Patched, SessionError};
use std::fmt::Write;

/// Candidates of one session, of all its fragments.
const MAX_CANDIDATES: usize = 200;

/// What PATCHes of one session have come to.
#[derive(Debug)]
pub(in crate::webrtc) struct Patch {
    etag: String,
    candidates: usize,
}

impl Patch {
    /// For a session whose 201 carried `etag`.
    pub(in crate::webrtc) fn new(etag: String) -> Self {
        Self { etag, candidates: 0 }
    }

    /// Does what the fragment asks. `if_match` is the header's value; `*` and `"*"` fit any ICE session and ask
    /// for a restart. One that was done already is answered again and changes nothing: the answer to it may
    /// have been lost. `candidates`: the lines of ours.
    pub(in crate::webrtc) fn apply(
        &mut self,
        transport: &mut Transport,
        if_match: &str,
        fragment: &str,
        candidates: &str,
    ) -> Result<Patched, SessionError> {
        // RFC 9110 §13.1.1: compared strongly, so a weak tag never fits.
        let tag = if_match.trim().trim_matches('"');
        // RFC 9725 §4.3.3.
        let asks_for_restart = tag == "*";
        if !asks_for_restart && tag != self.etag {
            return Err(SessionError::StaleEntityTag);
        }
        let fragment = Fragment::parse(fragment)?;
        if asks_for_restart && fragment.ufrag.is_none() {
            return Err(malformed("a restart needs a=ice-ufrag and a=ice-pwd"));
        }
        let count = self.candidates + fragment.count;
        if count > MAX_CANDIDATES {
            return Err(malformed("the session has had 200 candidates"));
        }
        let restarts = restarts(transport, &fragment)?;
        self.candidates = count;
        if let Some((fragment, password)) = restarts {
            transport.ice.restart(fragment, password);
            self.etag = format!("{:016x}", rand::random::<u64>());
        }
        for candidate in &fragment.candidates {
            transport.ice.add_candidate(*candidate);
        }
        if restarts.is_none() && !asks_for_restart {
            return Ok(Patched::Trickled);
        }
        Ok(Patched::Restarted {
            fragment: transport.fragment(&fragment, candidates),
            etag: self.etag.clone(),
        })
    }
}

/// The new credentials, if the fragment is a restart.
fn restarts<'a>(
    transport: &Transport,
    fragment: &'a Fragment,
) -> Result<Option<(&'a str, &'a str)>, SessionError> {
    let (known_fragment, known_password) = transport.ice.remote();
    let (new, password) = (fragment.ufrag.as_deref(), fragment.password.as_deref());
    match (new, password) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(malformed("a=ice-pwd without a=ice-ufrag")),
        (Some(new), password) if new == known_fragment => {
            // RFC 8839 §4.4.1.1.1: a restart changes both.
            if password.is_some_and(|password| password != known_password) {
                return Err(malformed("a=ice-pwd has changed and a=ice-ufrag has not"));
            }
            Ok(None)
        }
        // It comes late: a restart has replaced that ICE session.
        (Some(new), _) if transport.ice.is_past(new) => Err(SessionError::StaleEntityTag),
        (Some(_), None) => Err(malformed("a restart needs a=ice-pwd as well")),
        (Some(new), Some(password)) => Ok(Some((new, password))),
    }
}

impl Transport {
    /// Our end after a restart, as an answer to the client's fragment (RFC 9725 §4.3.3).
    fn fragment(&self, asked: &Fragment, candidates: &str) -> String {
        let media = asked.media.as_deref().unwrap_or("audio 9 UDP/TLS/RTP/SAVPF 0");
        let mut text = format!("{}m={media}\r\n", self.session_lines());
        let mid = asked.mid.as_deref().unwrap_or("0");
        let _ = write!(
            text,
            "a=mid:{mid}\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\n",
            self.ice.fragment(),
            self.ice.password()
        );
        text + candidates
    }
}

fn malformed(why: &str) -> SessionError {
    SessionError::MalformedFragment(why.into())
}

#[cfg(test)]
mod tests;
