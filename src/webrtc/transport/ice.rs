//! ICE as a lite agent: it answers the viewer's checks and sends none (RFC 8445 §2.5).
//!
//! Promises no answer to a message without the session's password, and an answer no longer than 1.3
//! times the request.

use rand::distr::{Alphanumeric, SampleString};
use rtc::crypto::RTCCrypto;
use rtc::stun::attributes::{ATTR_FINGERPRINT, ATTR_MESSAGE_INTEGRITY, ATTR_USE_CANDIDATE, ATTR_USERNAME};
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message};
use rtc::stun::xoraddr::XorMappedAddress;
use std::net::SocketAddr;

/// Longest STUN message taken; browsers' are some 100 bytes.
const MAX_MESSAGE: usize = 512;

/// The ICE credentials of one session, ours and the viewer's fragment.
#[derive(Clone)]
pub(super) struct IceLite {
    fragment: String,
    password: String,
    remote_fragment: String,
}

/// An authentic connectivity check.
#[derive(Debug)]
pub(super) struct Check {
    /// The answer to send back.
    pub(super) response: Vec<u8>,
    /// The viewer chose this pair of addresses.
    pub(super) nominated: bool,
}

impl IceLite {
    /// New credentials: 8 and 32 characters from a generator seeded by the system.
    pub(super) fn new(remote_fragment: &str) -> Self {
        let mut random = rand::rng();
        Self {
            fragment: Alphanumeric.sample_string(&mut random, 8),
            password: Alphanumeric.sample_string(&mut random, 32),
            remote_fragment: remote_fragment.to_owned(),
        }
    }

    /// Our user fragment: the demux key.
    pub(super) fn fragment(&self) -> &str {
        &self.fragment
    }

    /// Our password.
    pub(super) fn password(&self) -> &str {
        &self.password
    }

    /// The viewer's user fragment.
    pub(super) fn remote_fragment(&self) -> &str {
        &self.remote_fragment
    }

    /// Checks a binding request from `peer`; `None` for all that is not one of this session's.
    pub(super) fn check(&self, data: &[u8], peer: SocketAddr, crypto: &dyn RTCCrypto) -> Option<Check> {
        if data.len() > MAX_MESSAGE {
            return None;
        }
        let mut request = Message::new();
        request.unmarshal_binary(data).ok()?;
        if request.typ != BINDING_REQUEST || request.raw.len() != 20 + request.length as usize {
            return None;
        }
        let integrity = request.attributes.0.iter().position(|a| a.typ == ATTR_MESSAGE_INTEGRITY)?;
        let username = request.attributes.0.iter().position(|a| a.typ == ATTR_USERNAME)?;
        // RFC 8489 §14.5: what follows the integrity, but for the fingerprint, does not count.
        let signed = &request.attributes.0[..integrity];
        let nominated = signed.iter().any(|a| a.typ == ATTR_USE_CANDIDATE);
        let expected = format!("{}:{}", self.fragment, self.remote_fragment);
        if username > integrity || signed[username].value != expected.as_bytes() {
            return None;
        }
        if request.contains(ATTR_FINGERPRINT) && FINGERPRINT.check(&request).is_err() {
            return None;
        }
        MessageIntegrity::check(&mut request, self.password.as_bytes(), crypto).ok()?;
        let mut response = Message::new();
        let key = MessageIntegrity::new_short_term_integrity_with_provider(self.password.clone(), crypto);
        response
            .build(&[
                Box::new(BINDING_SUCCESS),
                Box::new(request.transaction_id),
                Box::new(XorMappedAddress { ip: peer.ip(), port: peer.port() }),
                Box::new(key),
                Box::new(FINGERPRINT),
            ])
            .ok()?;
        // Amplification: a request too short to be a browser's gets nothing.
        (response.raw.len() * 10 <= data.len() * 13).then_some(Check { response: response.raw, nominated })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc::crypto::default_provider;
    use rtc::stun::message::{Setter, TransactionId};
    use rtc::stun::textattrs::TextAttribute;

    fn peer() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 5000))
    }

    fn request(username: String, password: &str, nominate: bool) -> Vec<u8> {
        let provider = default_provider().expect("a provider");
        let mut setters: Vec<Box<dyn Setter + '_>> = vec![
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId::new()),
            Box::new(TextAttribute::new(ATTR_USERNAME, username)),
        ];
        if nominate {
            struct UseCandidate;
            impl Setter for UseCandidate {
                fn add_to(&self, message: &mut Message) -> rtc::shared::error::Result<()> {
                    message.add(ATTR_USE_CANDIDATE, &[]);
                    Ok(())
                }
            }
            setters.push(Box::new(UseCandidate));
        }
        setters.push(Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
            password.to_owned(),
            provider.crypto(),
        )));
        setters.push(Box::new(FINGERPRINT));
        let mut message = Message::new();
        message.build(&setters).expect("built");
        message.raw
    }

    #[test]
    fn an_authentic_check_is_answered() {
        let provider = default_provider().expect("a provider");
        let ice = IceLite::new("them");
        for nominate in [false, true] {
            let request = request(format!("{}:them", ice.fragment()), ice.password(), nominate);
            let check = ice.check(&request, peer(), provider.crypto()).expect("authentic");
            assert_eq!(check.nominated, nominate);
            assert!(check.response.len() * 10 <= request.len() * 13);
            let mut response = Message::new();
            response.unmarshal_binary(&check.response).expect("readable");
            assert_eq!((response.typ, &response.raw[8..20]), (BINDING_SUCCESS, &request[8..20]));
            MessageIntegrity::check(&mut response, ice.password().as_bytes(), provider.crypto())
                .expect("signed");
        }
    }

    #[test]
    fn anything_else_gets_no_answer() {
        let provider = default_provider().expect("a provider");
        let ice = IceLite::new("them");
        let good = request(format!("{}:them", ice.fragment()), ice.password(), false);
        let check = |data: &[u8]| ice.check(data, peer(), provider.crypto()).is_some();
        assert!(check(&good));
        assert!(!check(&request(format!("{}:them", ice.fragment()), "wrong", false)));
        assert!(!check(&request(format!("{}:else", ice.fragment()), ice.password(), false)));
        // The fingerprint is optional: without its type it is an attribute that does not count.
        for position in 0..good.len() - 8 {
            let mut changed = good.clone();
            changed[position] ^= 0x11;
            assert!(!check(&changed), "byte {position}");
            assert!(!check(&good[..position]));
        }
        let mut longer = good.clone();
        longer.extend([0; 4]);
        assert!(!check(&longer));
    }
}
