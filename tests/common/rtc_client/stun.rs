//! Binding requests (RFC 8489) as tests want them.

use str0m::crypto::from_feature_flags;
use str0m::ice::{StunMessage, StunMessageBuilder, TransId};

/// A binding request of at least 4 + 4 characters of user name: with what ICE puts in, or bare.
pub struct BindingRequest<'a> {
    /// `server:client`
    pub username: &'a str,
    /// `None`: no MESSAGE-INTEGRITY.
    pub password: Option<&'a str>,
    /// With PRIORITY, ICE-CONTROLLING and USE-CANDIDATE.
    pub ice: bool,
}

impl BindingRequest<'_> {
    /// As it goes over the wire, with a new transaction id.
    pub fn to_bytes(&self) -> Vec<u8> {
        let message = if self.ice {
            StunMessage::binding_request(self.username, TransId::new(), true, 1, 1_853_693_695, true)
        } else {
            StunMessageBuilder::new().binding().request().username(self.username).build(TransId::new())
        };
        let mut buffer = [0; 512];
        let hmac = from_feature_flags().sha1_hmac_provider;
        let password = self.password.map(str::as_bytes);
        let length = message.to_bytes(password, &mut buffer, |key, data| hmac.sha1_hmac(key, data));
        buffer[..length.expect("it fits")].to_vec()
    }
}

/// The transaction id of a STUN message.
pub fn transaction(message: &[u8]) -> &[u8] {
    &message[8..20]
}
