//! ICE of one session (RFC 8445): credentials, restarts, roles, and whose a STUN message is.
//!
//! Lite by default: it answers the peer's checks and sends none. As a full agent it checks the peer's
//! candidates too. Promises no answer to a message without the session's password, an answer no longer than
//! 1.3 times the request, and that after a restart the old credentials hold until the new ones have worked.

use super::checks::Checks;
use super::stun::{self, Kind, Stun, Transaction};
use crate::webrtc::IceMode;
use crate::webrtc::path::Path;
use rand::distr::{Alphanumeric, SampleString};
use rtc::crypto::RTCCrypto;
use std::net::SocketAddr;
use std::time::Instant;

/// Characters of our user fragments; also the head of our transactions, by which answers find their session.
pub(in crate::webrtc) const FRAGMENT: usize = 8;
const PASSWORD: usize = 32;
/// User fragments of the peer's that are over and remembered: a late PATCH must not bring them back.
const MAX_PAST: usize = 16;

/// User fragments and passwords of both ends.
#[derive(Clone)]
pub(super) struct Credentials {
    fragment: String,
    password: String,
    remote_fragment: String,
    remote_password: String,
}

/// The ICE agent of one session.
pub(super) struct Ice {
    active: Credentials,
    /// After a restart, until its first authentic check.
    next: Option<Credentials>,
    past: Vec<String>,
    full: Option<Full>,
}

/// What a full agent has besides.
struct Full {
    controlling: bool,
    tie_breaker: u64,
    checks: Checks,
    consent: Option<Transaction>,
}

/// What a STUN message has led to.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// To be sent back.
    pub(super) reply: Option<Vec<u8>>,
    /// The path that it came by is proven.
    pub(super) proven: bool,
    /// The path is the chosen one.
    pub(super) nominated: bool,
    /// It is the first of the credentials of a restart.
    pub(super) restarted: bool,
}

impl Credentials {
    /// Ours are new: from a generator seeded by the system.
    fn new(remote_fragment: &str, remote_password: &str) -> Self {
        let mut random = rand::rng();
        Self {
            fragment: Alphanumeric.sample_string(&mut random, FRAGMENT),
            password: Alphanumeric.sample_string(&mut random, PASSWORD),
            remote_fragment: remote_fragment.to_owned(),
            remote_password: remote_password.to_owned(),
        }
    }

    fn transaction(&self) -> Transaction {
        let mut transaction: Transaction = rand::random();
        transaction[..FRAGMENT].copy_from_slice(self.fragment.as_bytes());
        transaction
    }
}

impl Ice {
    /// An agent for a peer with these credentials; `remote_lite`: it sends no checks itself.
    pub(super) fn new(
        mode: IceMode,
        remote_fragment: &str,
        remote_password: &str,
        remote_lite: bool,
    ) -> Self {
        Self {
            active: Credentials::new(remote_fragment, remote_password),
            next: None,
            past: Vec::new(),
            // RFC 8445 §6.1.1: a full agent controls a lite one, else the offerer controls.
            full: (mode == IceMode::Full).then(|| Full {
                controlling: remote_lite,
                tie_breaker: rand::random(),
                checks: Checks::default(),
                consent: None,
            }),
        }
    }

    /// Our user fragment, the newest: the demux key.
    pub(super) fn fragment(&self) -> &str {
        &self.newest().fragment
    }

    /// Our password that goes with it.
    pub(super) fn password(&self) -> &str {
        &self.newest().password
    }

    /// Our fragments that the peer may use now.
    pub(super) fn fragments(&self) -> impl Iterator<Item = &str> {
        [Some(&self.active), self.next.as_ref()].into_iter().flatten().map(|known| known.fragment.as_str())
    }

    /// The peer's user fragment and password, the newest.
    pub(super) fn remote(&self) -> (&str, &str) {
        (&self.newest().remote_fragment, &self.newest().remote_password)
    }

    /// Whether the peer's fragment is one that a later restart has replaced.
    pub(super) fn is_past(&self, remote_fragment: &str) -> bool {
        self.past.iter().any(|past| past == remote_fragment)
    }

    /// Whether we only answer checks.
    pub(super) fn is_lite(&self) -> bool {
        self.full.is_none()
    }

    /// The peer restarts with these credentials (RFC 8445 §9). Ours are new, too.
    pub(super) fn restart(&mut self, remote_fragment: &str, remote_password: &str) {
        if self.past.len() == MAX_PAST {
            self.past.remove(0);
        }
        self.past.push(self.newest().remote_fragment.clone());
        self.next = Some(Credentials::new(remote_fragment, remote_password));
        if let Some(full) = &mut self.full {
            full.checks = Checks::default();
        }
    }

    /// A candidate of the peer's.
    pub(super) fn add_candidate(&mut self, candidate: SocketAddr) {
        if let Some(full) = &mut self.full {
            full.checks.add(candidate);
        }
    }

    /// Takes a message; `None` for all that is not this session's.
    pub(super) fn hear(&mut self, data: &[u8], path: Path, crypto: &dyn RTCCrypto) -> Option<Heard> {
        let message = Stun::read(data)?;
        match message.kind {
            Kind::Request => self.request(message, data.len(), path, crypto),
            Kind::Success | Kind::Error(_) => self.answer(message, path, crypto),
        }
    }

    /// The next check of ours that is due, and where to.
    pub(super) fn poll_check(&mut self, now: Instant, crypto: &dyn RTCCrypto) -> Option<(Path, Vec<u8>)> {
        let newest = self.next.as_ref().unwrap_or(&self.active);
        let full = self.full.as_mut()?;
        let (path, transaction, nominate) = full.checks.poll(now, || newest.transaction())?;
        full.request(newest, transaction, nominate, crypto).map(|request| (path, request))
    }

    /// A check that asks the peer whether it still wants what we send (RFC 7675 §5.1).
    pub(super) fn consent_check(&mut self, crypto: &dyn RTCCrypto) -> Option<Vec<u8>> {
        let full = self.full.as_mut()?;
        let transaction = self.active.transaction();
        full.consent = Some(transaction);
        full.request(&self.active, transaction, false, crypto)
    }

    fn newest(&self) -> &Credentials {
        self.next.as_ref().unwrap_or(&self.active)
    }

    /// A check of the peer's.
    fn request(
        &mut self,
        mut message: Stun,
        size: usize,
        path: Path,
        crypto: &dyn RTCCrypto,
    ) -> Option<Heard> {
        let meant = |known: &Credentials| {
            let (ours, theirs) = (known.fragment.as_bytes(), known.remote_fragment.as_bytes());
            let parts = message.username.strip_prefix(ours).and_then(|rest| rest.strip_prefix(b":"));
            parts == Some(theirs)
        };
        let is_next = self.next.as_ref().is_some_and(meant);
        if !is_next && !meant(&self.active) {
            return None;
        }
        let used = if is_next { self.next.as_ref()? } else { &self.active };
        if !message.is_authentic(&used.password, crypto) {
            return None;
        }
        if let Some(full) = &mut self.full
            && let Some((peer_controls, tie_breaker)) = message.role
            && peer_controls == full.controlling
        {
            // RFC 8445 §7.3.1.1: the larger tie-breaker controls.
            if (full.tie_breaker >= tie_breaker) == full.controlling {
                let reply = message.role_conflict(&used.password, crypto);
                return Some(Heard { reply, ..Heard::default() });
            }
            full.controlling = !full.controlling;
        }
        let reply = message.success(path.peer, &used.password, crypto)?;
        // Amplification: a request too short to be a browser's gets nothing.
        if reply.len() * 10 > size * 13 {
            return None;
        }
        let restarted = is_next && self.switch();
        let mut nominated = message.nominates;
        if let Some(full) = &mut self.full {
            nominated &= !full.controlling;
            full.checks.trigger(path);
        }
        Some(Heard { reply: Some(reply), proven: true, nominated, restarted })
    }

    /// An answer to a check of ours.
    fn answer(&mut self, mut message: Stun, path: Path, crypto: &dyn RTCCrypto) -> Option<Heard> {
        let transaction = message.transaction();
        let of = |known: &Credentials| transaction.starts_with(known.fragment.as_bytes());
        let is_next = self.next.as_ref().is_some_and(of);
        let used = if is_next { self.next.as_ref()? } else { &self.active };
        if !of(used) || !message.is_authentic(&used.remote_password, crypto) {
            return None;
        }
        let full = self.full.as_mut()?;
        if message.kind != Kind::Success {
            if message.kind == Kind::Error(487) && full.checks.conflicted(transaction) {
                full.controlling = !full.controlling;
                full.tie_breaker = rand::random();
            }
            return Some(Heard::default());
        }
        let consent = full.consent.take_if(|consent| *consent == transaction).is_some();
        let answered = full.checks.answered(transaction, path, full.controlling);
        let nominated = answered == Some(true);
        if !consent && answered.is_none() {
            return None;
        }
        let restarted = is_next && self.switch();
        Some(Heard { reply: None, proven: true, nominated, restarted })
    }

    /// The credentials of the restart have worked: the old ones are over.
    fn switch(&mut self) -> bool {
        let Some(next) = self.next.take() else { return false };
        self.active = next;
        true
    }
}

impl Full {
    fn request(
        &self,
        credentials: &Credentials,
        transaction: Transaction,
        nominate: bool,
        crypto: &dyn RTCCrypto,
    ) -> Option<Vec<u8>> {
        let username = format!("{}:{}", credentials.remote_fragment, credentials.fragment);
        let role = (self.controlling, self.tie_breaker);
        stun::request(transaction, username, role, nominate, &credentials.remote_password, crypto)
    }
}

#[cfg(test)]
mod tests;
