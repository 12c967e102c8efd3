//! The STUN messages of ICE (RFC 8489, RFC 8445 §7.1): read with their bounds, and written.
//!
//! Promises that of a message only what its integrity covers is looked at.

use rtc::crypto::RTCCrypto;
use rtc::stun::attributes::{
    ATTR_ERROR_CODE, ATTR_FINGERPRINT, ATTR_ICE_CONTROLLED, ATTR_ICE_CONTROLLING, ATTR_MESSAGE_INTEGRITY,
    ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType,
};
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{
    BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, Message, MessageType, Setter, TransactionId,
};
use rtc::stun::xoraddr::XorMappedAddress;
use std::net::SocketAddr;

/// Longest message taken; browsers' are some 100 bytes.
const MAX_MESSAGE: usize = 512;
/// RFC 8445 §5.1.2: of a peer-reflexive candidate, type preference 110, component 1.
const PRIORITY: u32 = (110 << 24) | (65_535 << 8) | 255;

/// 96 bits that tie an answer to its request.
pub(super) type Transaction = [u8; 12];

/// What kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A check of the peer's.
    Request,
    /// An answer to one of ours.
    Success,
    /// A refusal of one of ours, with its code.
    Error(u16),
}

/// A message that is well-formed; authentic only after [`Self::is_authentic`].
pub(super) struct Stun {
    message: Message,
    pub(super) kind: Kind,
    /// `receiver:sender`, empty in answers.
    pub(super) username: Vec<u8>,
    /// The sender nominates this pair.
    pub(super) nominates: bool,
    /// The sender's role: whether it is controlling, and its tie-breaker.
    pub(super) role: Option<(bool, u64)>,
}

impl Stun {
    /// Reads a message; `None` for what ICE does not use.
    pub(super) fn read(data: &[u8]) -> Option<Self> {
        if data.len() > MAX_MESSAGE {
            return None;
        }
        let mut message = Message::new();
        message.unmarshal_binary(data).ok()?;
        if message.raw.len() != 20 + message.length as usize {
            return None;
        }
        let integrity = message.attributes.0.iter().position(|a| a.typ == ATTR_MESSAGE_INTEGRITY)?;
        if message.contains(ATTR_FINGERPRINT) && FINGERPRINT.check(&message).is_err() {
            return None;
        }
        // RFC 8489 §14.5: what follows the integrity, but for the fingerprint, does not count.
        let signed = |wanted: AttrType| {
            let found = message.attributes.0[..integrity].iter().find(|attribute| attribute.typ == wanted);
            found.map(|attribute| attribute.value.clone())
        };
        let kind = match message.typ {
            BINDING_REQUEST => Kind::Request,
            BINDING_SUCCESS => Kind::Success,
            BINDING_ERROR => {
                let code = signed(ATTR_ERROR_CODE)?;
                Kind::Error(u16::from(*code.get(2)? & 7) * 100 + u16::from(*code.get(3)?))
            }
            _ => return None,
        };
        let username = signed(ATTR_USERNAME).unwrap_or_default();
        let nominates = signed(ATTR_USE_CANDIDATE).is_some();
        let role = [(true, ATTR_ICE_CONTROLLING), (false, ATTR_ICE_CONTROLLED)]
            .into_iter()
            .find_map(|(controlling, kind)| Some((controlling, signed(kind)?)))
            .and_then(|(controlling, value)| Some((controlling, u64::from_be_bytes(value.try_into().ok()?))));
        Some(Self { message, kind, username, nominates, role })
    }

    /// Whether it was written by one who has `password`.
    pub(super) fn is_authentic(&mut self, password: &str, crypto: &dyn RTCCrypto) -> bool {
        MessageIntegrity::check(&mut self.message, password.as_bytes(), crypto).is_ok()
    }

    /// What ties answers to requests.
    pub(super) fn transaction(&self) -> Transaction {
        self.message.transaction_id.0
    }

    /// The answer to this request of `peer`.
    pub(super) fn success(
        &self,
        peer: SocketAddr,
        password: &str,
        crypto: &dyn RTCCrypto,
    ) -> Option<Vec<u8>> {
        let mapped = XorMappedAddress { ip: peer.ip(), port: peer.port() };
        write(BINDING_SUCCESS, self.transaction(), vec![Box::new(mapped)], password, crypto)
    }

    /// The refusal of this request for a role conflict (RFC 8445 §7.3.1.1).
    pub(super) fn role_conflict(&self, password: &str, crypto: &dyn RTCCrypto) -> Option<Vec<u8>> {
        let code = Raw(ATTR_ERROR_CODE, [&[0, 0, 4, 87][..], b"Role Conflict"].concat());
        write(BINDING_ERROR, self.transaction(), vec![Box::new(code)], password, crypto)
    }
}

/// A check of ours (RFC 8445 §7.1.1), signed with the peer's `password`; `username` is `theirs:ours`.
pub(super) fn request(
    transaction: Transaction,
    username: String,
    (controlling, tie_breaker): (bool, u64),
    nominate: bool,
    password: &str,
    crypto: &dyn RTCCrypto,
) -> Option<Vec<u8>> {
    let role = if controlling { ATTR_ICE_CONTROLLING } else { ATTR_ICE_CONTROLLED };
    let mut attributes: Vec<Box<dyn Setter>> = vec![
        Box::new(Raw(ATTR_USERNAME, username.into_bytes())),
        Box::new(Raw(ATTR_PRIORITY, PRIORITY.to_be_bytes().to_vec())),
        Box::new(Raw(role, tie_breaker.to_be_bytes().to_vec())),
    ];
    if nominate {
        attributes.push(Box::new(Raw(ATTR_USE_CANDIDATE, Vec::new())));
    }
    write(BINDING_REQUEST, transaction, attributes, password, crypto)
}

/// An attribute whose value is ready.
struct Raw(AttrType, Vec<u8>);

impl Setter for Raw {
    fn add_to(&self, message: &mut Message) -> rtc::shared::error::Result<()> {
        message.add(self.0, &self.1);
        Ok(())
    }
}

fn write(
    kind: MessageType,
    transaction: Transaction,
    attributes: Vec<Box<dyn Setter>>,
    password: &str,
    crypto: &dyn RTCCrypto,
) -> Option<Vec<u8>> {
    let mut setters: Vec<Box<dyn Setter + '_>> = vec![Box::new(kind), Box::new(TransactionId(transaction))];
    setters.extend(attributes.into_iter().map(|attribute| attribute as Box<dyn Setter + '_>));
    let integrity = MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), crypto);
    setters.push(Box::new(integrity));
    setters.push(Box::new(FINGERPRINT));
    let mut message = Message::new();
    message.build(&setters).ok()?;
    Some(message.raw)
}
