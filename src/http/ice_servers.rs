//! The STUN and TURN servers that sessions are told of (RFC 9725 §4.6), and the credentials that go with
//! them.

use crate::media::{IceServer, Secret};
use aws_lc_rs::hmac;
use axum::http::HeaderValue;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What `Link` headers are made of.
#[derive(Clone, Debug)]
pub struct IceServers {
    /// The servers, in the order in which clients should try them.
    pub servers: Vec<IceServer>,
    /// For the TURN servers among them.
    pub credentials: TurnCredentials,
}

/// How a client shows a TURN server that it may use it.
#[derive(Clone, Debug)]
pub enum TurnCredentials {
    /// There is no TURN server.
    None,
    /// All clients have the same.
    Static {
        /// User name.
        username: String,
        /// Password.
        credential: Secret,
    },
    /// Each session has its own, which expire; as coturn's `use-auth-secret` knows them
    /// (draft-uberti-behave-turn-rest-00).
    Shared {
        /// What we and the TURN servers know.
        secret: Secret,
        /// How long they are good for.
        ttl: Duration,
    },
}

impl IceServers {
    /// No servers.
    pub const fn none() -> Self {
        Self { servers: Vec::new(), credentials: TurnCredentials::None }
    }

    /// The `Link` headers of a session that begins `now`, for the user `user` (any text without a colon).
    pub(super) fn links(&self, now: SystemTime, user: &str) -> Vec<HeaderValue> {
        let credentials = self.credentials.at(now, user);
        let links = self.servers.iter().filter_map(|server| {
            let mut link = format!("<{server}>; rel=\"ice-server\"");
            if server.is_turn() {
                let (username, credential) = credentials.as_ref()?;
                let (username, credential) = (quoted(username), quoted(credential.reveal()));
                link +=
                    &format!("; username={username}; credential={credential}; credential-type=\"password\"");
            }
            let mut value = HeaderValue::from_str(&link).ok()?;
            value.set_sensitive(server.is_turn());
            Some(value)
        });
        links.collect()
    }
}

impl TurnCredentials {
    fn at(&self, now: SystemTime, user: &str) -> Option<(String, Secret)> {
        match self {
            Self::None => None,
            Self::Static { username, credential } => Some((username.clone(), credential.clone())),
            Self::Shared { secret, ttl } => {
                let expiry = (now + *ttl).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                let username = format!("{expiry}:{user}");
                // TURN servers know no other hash here.
                let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.reveal().as_bytes());
                let tag = hmac::sign(&key, username.as_bytes());
                Some((username, Secret::new(BASE64_STANDARD.encode(tag))))
            }
        }
    }
}

/// A quoted string (RFC 9110 §5.6.4).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(credentials: TurnCredentials) -> Vec<String> {
        let servers = ["stun:stun.example.net", "turn:turn.example.net:3478?transport=udp"];
        let servers = servers.map(|url| url.parse().expect("a server")).to_vec();
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let links = IceServers { servers, credentials }.links(now, "0123");
        links.iter().map(|link| link.to_str().expect("text").to_owned()).collect()
    }

    #[test]
    fn w14_fixed_credentials_are_quoted() {
        let credential = Secret::new(r#"pass"wo\rd"#);
        let links = links(TurnCredentials::Static { username: "user".into(), credential });
        assert_eq!(
            links,
            [
                r#"<stun:stun.example.net>; rel="ice-server""#,
                r#"<turn:turn.example.net:3478?transport=udp>; rel="ice-server"; username="user"; credential="pass\"wo\\rd"; credential-type="password""#
            ]
        );
    }

    #[test]
    fn w14_shared_secrets_give_credentials_that_expire() {
        let secret = Secret::new("north");
        let links = links(TurnCredentials::Shared { secret, ttl: Duration::from_secs(3600) });
        // printf %s 1700003600:0123 | openssl dgst -sha1 -hmac north -binary | base64
        let wanted = r#"username="1700003600:0123"; credential="HdcirnZGEdCjMEVFQhoL7R+YBCE="; credential-type="password""#;
        assert!(links[1].ends_with(wanted), "{links:?}");
        assert!(!links[0].contains("username"), "STUN needs none");
    }

    #[test]
    fn a_turn_server_without_credentials_is_not_told_of() {
        assert_eq!(links(TurnCredentials::None).len(), 1);
    }
}
