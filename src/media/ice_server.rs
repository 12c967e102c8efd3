//! The URL of a STUN or TURN server.

use core::net::Ipv6Addr; // an address is a value: no I/O comes with it
use std::fmt;
use std::str::FromStr;

/// More than a DNS name with scheme, port and transport needs.
const LONGEST: usize = 300;

/// A STUN (RFC 7064) or TURN (RFC 7065) URL such as `stun:stun.example.net` or
/// `turn:turn.example.net:3478?transport=udp`. Checked once: it holds no character that would end a header
/// field or a quoted text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IceServer {
    url: String,
    relays: bool,
}

impl IceServer {
    /// Whether it is a TURN server, which wants a user name and a credential.
    pub fn is_turn(&self) -> bool {
        self.relays
    }

    /// The URL as it was written.
    pub fn as_str(&self) -> &str {
        &self.url
    }
}

/// A text that is no URL of a STUN or TURN server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a STUN or TURN URL is stun:host, stuns:host, turn:host or turns:host, with :port and, for TURN, ?transport=udp or tcp"
)]
pub struct InvalidIceServer;

impl FromStr for IceServer {
    type Err = InvalidIceServer;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once(':').ok_or(InvalidIceServer)?;
        let relays = match scheme {
            "stun" | "stuns" => false,
            "turn" | "turns" => true,
            _ => return Err(InvalidIceServer),
        };
        let (address, transport) = match rest.split_once('?') {
            Some((address, query)) => (address, Some(query)),
            None => (rest, None),
        };
        let transport_fits = match transport {
            None => true,
            Some(query) => relays && matches!(query, "transport=udp" | "transport=tcp"),
        };
        if text.len() <= LONGEST && transport_fits && is_address(address) {
            Ok(Self { url: text.to_owned(), relays })
        } else {
            Err(InvalidIceServer)
        }
    }
}

impl fmt::Display for IceServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// `host`, `host:port`, `[IPv6]` or `[IPv6]:port`.
fn is_address(address: &str) -> bool {
    let (host_fits, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let Some((host, rest)) = rest.split_once(']') else { return false };
            let port = if rest.is_empty() { None } else { rest.strip_prefix(':').or(Some("")) };
            (host.parse::<Ipv6Addr>().is_ok(), port)
        }
        None => {
            let (host, port) = match address.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            };
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            (!host.is_empty() && host.bytes().all(fits), port)
        }
    };
    let digits = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    host_fits && port.is_none_or(|port| digits(port) && port.parse::<u16>().is_ok_and(|port| port > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_both_kinds_are_read() {
        for (text, turn) in [
            ("stun:stun.example.net", false),
            ("stun:192.0.2.1:3478", false),
            ("stuns:[2001:db8::1]:5349", false),
            ("turn:turn.example.net?transport=udp", true),
            ("turns:turn.example.net:443?transport=tcp", true),
        ] {
            let server: IceServer = text.parse().expect(text);
            assert_eq!((server.is_turn(), server.to_string().as_str()), (turn, text));
        }
    }

    #[test]
    fn other_texts_are_none() {
        let long = format!("stun:{}", "a".repeat(LONGEST));
        for text in [
            "",
            "stun",
            "stun:",
            "http:example.net",
            "stun:a b",
            "stun:a>",
            "stun:a\r\nx",
            "stun:a:0",
            "stun:a:70000",
            "stun:a:+1",
            "stun:[::1",
            "stun:[::1]x",
            "stun:a?transport=udp",
            "turn:a?transport=sctp",
            "turn:a?x",
            "stun://a",
            &long,
        ] {
            assert_eq!(text.parse::<IceServer>(), Err(InvalidIceServer), "{text}");
        }
    }
}
