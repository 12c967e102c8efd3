//! The transport of one session, for publishers and viewers alike: ICE, DTLS, and the keys they yield.
//!
//! Sans-I/O: datagrams and time are arguments, an [`Outlet`] takes what goes out. Built from `rtc`'s STUN,
//! DTLS and SRTP. Promises that no DTLS byte is read from, and none goes to, an address that has not passed
//! a STUN integrity check of this session; that after an ICE restart the old way holds until a check has come
//! by the new one; that keys exist only once the peer has shown the certificate of
//! its SDP; and that a peer without a valid check for 30 s is gone (RFC 7675 §5.1). Knows no media.

mod checks;
mod client_hello;
mod dtls;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod ice;
mod opener;
mod patch;
mod provider;
mod srtp;
mod stun;

use super::path::Path;
use super::session::SessionState;
use super::socket::Outlet;
#[cfg(test)]
pub(super) use dtls::{Dtls, Progress as DtlsProgress};
use dtls::{Dtls as Association, Progress};
pub(super) use dtls::{Identity, Keys};
pub(super) use ice::FRAGMENT;
use ice::Ice;
pub(super) use patch::Patch;
pub(super) use srtp::HEADER;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::debug;

/// Without a valid check for so long the peer has gone (RFC 7675 §5.1).
const CONSENT: Duration = Duration::from_secs(30);
/// ICE must have found the peer by then …
const ICE_TIMEOUT: Duration = Duration::from_secs(10);
/// … and DTLS must be done.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// As a full agent we ask for consent so often (RFC 7675 §5.1).
const CONSENT_INTERVAL: Duration = Duration::from_secs(5);

/// What the peer's SDP says of its end of the transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remote {
    /// `a=ice-ufrag` and `a=ice-pwd` (RFC 8839 §5.4).
    pub(super) ice_ufrag: String,
    /// See [`Self::ice_ufrag`].
    pub(super) ice_pwd: String,
    /// SHA-256 of its certificate: 32 octets in hexadecimal, between colons (RFC 8122 §5).
    pub(super) fingerprint: String,
    /// It insists on being the DTLS server (`a=setup:passive`), so we are the client.
    pub(super) passive: bool,
    /// It sends no checks (`a=ice-lite`).
    pub(super) lite: bool,
    /// Its candidates that can be checked.
    pub(super) candidates: Vec<SocketAddr>,
}

/// One session's transport.
pub(super) struct Transport {
    identity: Arc<Identity>,
    ice: Ice,
    dtls: Association,
    is_client: bool,
    path: Option<Path>,
    keys: Option<Box<Keys>>,
    created: Instant,
    last_check: Instant,
    next_consent: Instant,
    restarted: bool,
    ended: Option<&'static str>,
}

impl Transport {
    /// A transport that waits for the peer's first check; as a full ICE agent it sends some itself.
    pub(super) fn new(now: Instant, identity: Arc<Identity>, remote: &Remote) -> Self {
        let mut ice = Ice::new(identity.ice(), &remote.ice_ufrag, &remote.ice_pwd, remote.lite);
        remote.candidates.iter().for_each(|candidate| ice.add_candidate(*candidate));
        Self {
            dtls: Association::new(identity.clone(), &remote.fingerprint, remote.passive),
            ice,
            identity,
            is_client: remote.passive,
            path: None,
            keys: None,
            created: now,
            last_check: now,
            next_consent: now + CONSENT_INTERVAL,
            restarted: false,
            ended: None,
        }
    }

    /// Our ICE user fragment, the newest: the demux key.
    pub(super) fn local_ufrag(&self) -> &str {
        self.ice.fragment()
    }

    /// Our ICE user fragments that the peer may use now: two while it restarts.
    pub(super) fn local_ufrags(&self) -> impl Iterator<Item = &str> {
        self.ice.fragments()
    }

    /// The session-level lines of an answer: `a=ice-lite`, unless we are a full agent.
    pub(super) fn session_lines(&self) -> &'static str {
        if self.ice.is_lite() { "a=ice-lite\r\n" } else { "" }
    }

    /// The lines of an answer's m-section that describe our end (RFC 8839 §5.4, RFC 8122 §5, RFC 8842).
    pub(super) fn sdp_lines(&self) -> String {
        let setup = if self.is_client { "active" } else { "passive" };
        format!(
            "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=fingerprint:sha-256 {}\r\na=setup:{setup}\r\n",
            self.ice.fragment(),
            self.ice.password(),
            self.identity.fingerprint()
        )
    }

    /// Where the transport stands.
    pub(super) fn state(&self) -> SessionState {
        match (self.ended, &self.keys) {
            (Some(why), _) => SessionState::Ended(why),
            (None, Some(_)) => SessionState::Connected,
            (None, None) => SessionState::Connecting,
        }
    }

    /// Authentic media came from the peer: it is there, though it need not send checks (FFmpeg sends one only).
    pub(super) fn heard(&mut self, now: Instant) {
        self.last_check = now;
    }

    /// The keys, and the way to send what they have sealed; `None` unless connected.
    pub(super) fn sending(&mut self) -> Option<(&mut Keys, Path)> {
        match self.ended {
            Some(_) => None,
            None => Some((self.keys.as_deref_mut()?, self.path?)),
        }
    }

    /// A STUN message that came over `path`. True if it was authentic: the path is proven.
    pub(super) fn handle_stun(
        &mut self,
        now: Instant,
        path: Path,
        data: &[u8],
        outlet: &mut dyn Outlet,
    ) -> bool {
        if self.ended.is_some() {
            return false; // W40: after the end no STUN is answered
        }
        let crypto = self.identity.provider().crypto();
        let Some(heard) = self.ice.hear(data, path, crypto) else { return false };
        if let Some(reply) = &heard.reply {
            outlet.send(path, reply, None);
        }
        if heard.proven {
            self.last_check = now;
        }
        if heard.proven && (heard.nominated || heard.restarted || self.path.is_none()) {
            self.path = Some(path);
            self.dtls.start(now);
            self.flush_dtls(outlet);
        }
        self.restarted |= heard.restarted;
        self.send_checks(now, outlet);
        heard.proven
    }

    /// Whether an ICE restart was completed since the last call: something may have been lost on the way.
    pub(super) fn take_restarted(&mut self) -> bool {
        std::mem::take(&mut self.restarted)
    }

    /// A DTLS datagram from a proven path. True if this completed the handshake.
    pub(super) fn handle_dtls(&mut self, now: Instant, data: &[u8], outlet: &mut dyn Outlet) -> bool {
        if self.ended.is_some() {
            return false;
        }
        let mut connected = false;
        match self.dtls.read(now, data) {
            Progress::Pending => {}
            Progress::Established(keys) => {
                debug!(profile = ?keys.profile, "DTLS is established.");
                self.keys = Some(keys);
                connected = true;
            }
            Progress::Closed => self.ended = Some("the peer closed the session"),
            Progress::Failed(why) => self.ended = Some(why),
        }
        self.flush_dtls(outlet);
        connected
    }

    /// Retransmits handshake flights, every 50 ms at least, and notices a peer that is gone.
    pub(super) fn handle_timeout(&mut self, now: Instant, outlet: &mut dyn Outlet) {
        if self.ended.is_some() {
            return;
        }
        self.send_checks(now, outlet);
        let since = |then: Instant| now.saturating_duration_since(then);
        if self.keys.is_none() {
            if !self.dtls.handle_timeout(now) {
                self.ended = Some("the DTLS handshake failed");
            } else if since(self.created) > CONNECT_TIMEOUT
                || self.path.is_none() && since(self.created) > ICE_TIMEOUT
            {
                self.ended = Some("no connection came about");
            }
            self.flush_dtls(outlet);
        } else if since(self.last_check) > CONSENT {
            self.ended = Some("the peer has gone silent");
        }
    }

    /// Ends the session; the peer is told.
    pub(super) fn close(&mut self, now: Instant, why: &'static str, outlet: &mut dyn Outlet) {
        self.ended.get_or_insert(why);
        self.dtls.close(now);
        self.flush_dtls(outlet);
    }

    /// Ends the session without a word to the peer; [`Self::close`] tells it later.
    pub(super) fn end(&mut self, why: &'static str) {
        self.ended.get_or_insert(why);
    }

    /// Sends the checks of a full agent that are due.
    fn send_checks(&mut self, now: Instant, outlet: &mut dyn Outlet) {
        if self.ice.is_lite() {
            return;
        }
        let crypto = self.identity.provider().crypto();
        while let Some((path, check)) = self.ice.poll_check(now, crypto) {
            outlet.send(path, &check, None);
        }
        if let Some(path) = self.path.filter(|_| now >= self.next_consent) {
            self.next_consent = now + CONSENT_INTERVAL;
            if let Some(check) = self.ice.consent_check(crypto) {
                outlet.send(path, &check, None);
            }
        }
    }

    fn flush_dtls(&mut self, outlet: &mut dyn Outlet) {
        while let Some(datagram) = self.dtls.poll_transmit() {
            if let Some(path) = self.path {
                outlet.send(path, &datagram, None);
            }
        }
    }
}
