//! The transport of one session, for publishers and viewers alike: ICE, DTLS, and the keys they yield.
//!
//! Sans-I/O: datagrams and time are arguments, an [`Outlet`] takes what goes out. Built from `rtc`'s STUN,
//! DTLS and SRTP. Promises that no DTLS byte is read from, and none goes to, an address that has not passed
//! a STUN integrity check of this session; that keys exist only once the peer has shown the certificate of
//! its SDP; and that a peer without a valid check for 30 s is gone (RFC 7675 §5.1). Knows no media.

mod client_hello;
mod dtls;
mod ice;
mod opener;
mod srtp;

use super::path::Path;
use super::session::SessionState;
use super::socket::Outlet;
#[cfg(test)]
pub(super) use dtls::{Dtls, Progress as DtlsProgress};
use dtls::{Dtls as Association, Progress};
pub(super) use dtls::{Identity, Keys};
use ice::IceLite;
pub(super) use srtp::HEADER;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::debug;

/// Without a valid check for so long the peer has gone (RFC 7675 §5.1).
const CONSENT: Duration = Duration::from_secs(30);
/// ICE must have found the peer by then …
const ICE_TIMEOUT: Duration = Duration::from_secs(10);
/// … and DTLS must be done.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

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
}

/// One session's transport.
pub(super) struct Transport {
    identity: Arc<Identity>,
    ice: IceLite,
    dtls: Association,
    is_client: bool,
    path: Option<Path>,
    keys: Option<Box<Keys>>,
    created: Instant,
    last_check: Instant,
    ended: Option<&'static str>,
}

impl Transport {
    /// A transport that waits for the peer's first check.
    pub(super) fn new(now: Instant, identity: Arc<Identity>, remote: &Remote) -> Self {
        Self {
            dtls: Association::new(identity.clone(), &remote.fingerprint, remote.passive),
            ice: IceLite::new(&remote.ice_ufrag),
            identity,
            is_client: remote.passive,
            path: None,
            keys: None,
            created: now,
            last_check: now,
            ended: None,
        }
    }

    /// Our ICE user fragment: the demux key.
    pub(super) fn local_ufrag(&self) -> &str {
        self.ice.fragment()
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

    /// The peer's ICE user fragment.
    pub(super) fn remote_ufrag(&self) -> &str {
        self.ice.remote_fragment()
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
        let Some(check) = self.ice.check(data, path.peer, crypto) else { return false };
        outlet.send(path, &check.response, None);
        self.last_check = now;
        if check.nominated || self.path.is_none() {
            self.path = Some(path);
            self.dtls.start(now);
            self.flush_dtls(outlet);
        }
        true
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

    /// Retransmits handshake flights and notices a peer that is gone. At least every 50 ms.
    pub(super) fn handle_timeout(&mut self, now: Instant, outlet: &mut dyn Outlet) {
        if self.ended.is_some() {
            return;
        }
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

    fn flush_dtls(&mut self, outlet: &mut dyn Outlet) {
        while let Some(datagram) = self.dtls.poll_transmit() {
            if let Some(path) = self.path {
                outlet.send(path, &datagram, None);
            }
        }
    }
}
