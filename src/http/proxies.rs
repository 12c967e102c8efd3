//! Who the client is when proxies stand before us.
//!
//! The address that a connection comes from is the client's, unless it is one of the operator's proxies. Then it
//! is the one that the proxy names, and so on while that is a proxy as well: read from the right, where the
//! nearest proxy has written, so that what the client itself writes is never believed. One header counts: a
//! proxy that writes one of the two passes the other on as the client wrote it.

use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// Proxies in a row that are looked behind.
const MAX_HOPS: usize = 32;

/// The header in which proxies name their clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`: addresses between commas.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239): `for=` of each element.
    Forwarded,
}

/// The proxies whose word counts.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    trusted: Vec<IpNet>,
    header: ForwardedHeader,
}

impl Proxies {
    /// Proxies in these networks, which write this header.
    pub fn new(trusted: impl IntoIterator<Item = IpNet>, header: ForwardedHeader) -> Self {
        Self { trusted: trusted.into_iter().collect(), header }
    }

    /// The networks.
    pub(super) fn trusted(&self) -> &[IpNet] {
        &self.trusted
    }

    /// The client of a request that came from `peer`. Its port is 0 where the proxy does not tell it.
    pub(super) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        if !self.trusts(peer.ip()) {
            return peer;
        }
        let name = HeaderName::from_static(match self.header {
            ForwardedHeader::XForwardedFor => "x-forwarded-for",
            ForwardedHeader::Forwarded => "forwarded",
        });
        let lines: Vec<&str> =
            headers.get_all(name).iter().map(|line| line.to_str().unwrap_or_default()).collect();
        let elements: Vec<&str> = lines.iter().flat_map(|line| elements(line)).collect();
        let mut client = peer;
        for element in elements.iter().rev().take(MAX_HOPS) {
            let named = match self.header {
                ForwardedHeader::XForwardedFor => Some(*element),
                ForwardedHeader::Forwarded => forwarded_for(element),
            };
            // "unknown", a name, nonsense: what lies behind can't be told.
            let Some(address) = named.and_then(address) else { break };
            client = address;
            if !self.trusts(client.ip()) {
                break;
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }
}

/// The elements of a list (RFC 9110 §5.6.1); commas within quotation marks separate nothing.
fn elements(line: &str) -> impl Iterator<Item = &str> {
    split(line, ',').map(str::trim).filter(|element| !element.is_empty())
}

/// The value of `for` (RFC 7239 §4), without quotation marks.
fn forwarded_for(element: &str) -> Option<&str> {
    let mut pairs = split(element, ';').filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    Some(value.trim_matches('"'))
}

fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c: char| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
}

/// An address, with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = text
        .parse::<SocketAddr>()
        .ok()
        .or_else(|| bare.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 0)))?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn client(header: ForwardedHeader, peer: &str, lines: &[(&'static str, &str)]) -> String {
        let trusted = ["10.0.0.0/8", "2001:db8:1::/48"].map(|network| network.parse().expect("a network"));
        let headers = lines.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
        });
        let mut map = HeaderMap::new();
        headers.for_each(|(name, value)| {
            map.append(name, value);
        });
        let peer = SocketAddr::new(peer.parse().expect("an address"), 9);
        Proxies::new(trusted, header).client(peer, &map).to_string()
    }

    #[test]
    fn only_proxies_are_believed_and_only_what_they_have_added() {
        for (peer, value, found) in [
            // Nobody's proxy: whatever it says.
            ("192.0.2.9", "203.0.113.1", "192.0.2.9:9"),
            ("10.0.0.1", "203.0.113.1", "203.0.113.1:0"),
            ("::ffff:10.0.0.1", "203.0.113.1", "203.0.113.1:0"),
            // The client's own words stand on the left.
            ("10.0.0.1", "127.0.0.1, 10.9.9.9, 203.0.113.1", "203.0.113.1:0"),
            ("10.0.0.1", "1.1.1.1, 203.0.113.1, 10.0.0.2,10.0.0.3", "203.0.113.1:0"),
            ("10.0.0.1", "10.0.0.7, 10.0.0.2", "10.0.0.7:0"),
            ("10.0.0.1", "203.0.113.1:4711", "203.0.113.1:4711"),
            ("10.0.0.1", "[2001:db8:2::1]:80", "[2001:db8:2::1]:80"),
            ("2001:db8:1::7", "2001:db8:2::1", "[2001:db8:2::1]:0"),
            ("10.0.0.1", "::ffff:203.0.113.1", "203.0.113.1:0"),
            // What can't be read ends the way at the last that could.
            ("10.0.0.1", "203.0.113.1, unknown", "10.0.0.1:9"),
            ("10.0.0.1", "203.0.113.1, <script>, 10.0.0.2", "10.0.0.2:0"),
            ("10.0.0.1", ", ,", "10.0.0.1:9"),
        ] {
            let lines = [("x-forwarded-for", value), ("forwarded", "for=198.51.100.66")];
            assert_eq!(client(ForwardedHeader::XForwardedFor, peer, &lines), found, "{peer}, {value}");
        }
        assert_eq!(client(ForwardedHeader::XForwardedFor, "10.0.0.1", &[]), "10.0.0.1:9");
    }

    #[test]
    fn lines_of_one_header_are_one_list() {
        let lines = [("x-forwarded-for", "1.1.1.1, 203.0.113.1"), ("x-forwarded-for", "10.0.0.2")];
        assert_eq!(client(ForwardedHeader::XForwardedFor, "10.0.0.1", &lines), "203.0.113.1:0");
    }

    #[test]
    fn forwarded_names_clients_as_rfc_7239_says() {
        for (value, found) in [
            ("for=203.0.113.1", "203.0.113.1:0"),
            ("by=10.0.0.1;For=\"203.0.113.1:80\";proto=https", "203.0.113.1:80"),
            ("for=1.1.1.1, for=\"[2001:db8:2::1]:4711\"", "[2001:db8:2::1]:4711"),
            ("for=1.1.1.1, host=\"a, for=2.2.2.2;for=3.3.3.3\";for=203.0.113.1", "203.0.113.1:0"),
            ("for=203.0.113.1, for=_hidden", "10.0.0.1:9"),
            ("for=203.0.113.1, proto=http", "10.0.0.1:9"),
            ("203.0.113.1", "10.0.0.1:9"),
        ] {
            let lines = [("forwarded", value), ("x-forwarded-for", "198.51.100.66")];
            assert_eq!(client(ForwardedHeader::Forwarded, "10.0.0.1", &lines), found, "{value}");
        }
    }

    #[test]
    fn a_long_row_of_proxies_is_followed_so_far_and_no_farther() {
        let row = format!("203.0.113.1{}", ", 10.0.0.2".repeat(MAX_HOPS));
        assert_eq!(
            client(ForwardedHeader::XForwardedFor, "10.0.0.1", &[("x-forwarded-for", &row)]),
            "10.0.0.2:0"
        );
    }
}
