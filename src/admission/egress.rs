//! Where connections of ours may go: what an operator's API user names must not reach this machine's own
//! network (server-side request forgery).
//!
//! Judges addresses, not names: who connects resolves a name once, has all its addresses judged, and
//! connects to one of those. So an answer of the name server that changes between check and connection
//! changes nothing.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};

/// Which addresses may be connected to: public ones, and those in the operator's list. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EgressGuard {
    allowed: Arc<[IpNet]>,
    setting: &'static str,
    own: Arc<OnceLock<Vec<SocketAddr>>>,
}

/// An address that may not be connected to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// It is not a public one.
    #[error(
        "{address} is {kind}, and connections go to public addresses only; to allow it, add \"{address}/{bits}\" \
         (or its network) to {setting}"
    )]
    NotPublic {
        /// The address.
        address: IpAddr,
        /// What it is instead.
        kind: &'static str,
        /// The length of the address as a prefix.
        bits: u8,
        /// What would allow it.
        setting: &'static str,
    },
    /// This gateway listens there: media would run in circles.
    #[error("{0} is a listener of this gateway itself, which can't be a destination")]
    Own(SocketAddr),
}

impl Default for EgressGuard {
    /// Lets pass what is public.
    fn default() -> Self {
        Self::new([])
    }
}

impl EgressGuard {
    /// Lets pass what is public, or in one of `allowed`.
    pub fn new(allowed: impl IntoIterator<Item = IpNet>) -> Self {
        Self { allowed: allowed.into_iter().collect(), setting: "restream.egress_allow", own: Arc::default() }
    }

    /// Says in errors that `setting` would allow an address.
    pub fn for_setting(self, setting: &'static str) -> Self {
        Self { setting, ..self }
    }

    /// Names the listeners of this process, known once all of them are bound: no list allows them. Counts for
    /// all clones; what is named later is ignored.
    pub fn own_listeners(&self, listeners: impl IntoIterator<Item = SocketAddr>) {
        let _ = self.own.set(listeners.into_iter().collect());
    }

    /// Judges all addresses of one destination: a single bad one is enough to refuse it.
    pub fn check(&self, addresses: &[SocketAddr]) -> Result<(), NotAllowed> {
        addresses.iter().try_for_each(|address| self.check_one(*address))
    }

    fn check_one(&self, address: SocketAddr) -> Result<(), NotAllowed> {
        let ip = address.ip();
        let named = |ip: IpAddr| self.allowed.iter().any(|network| network.contains(&ip));
        if let Some(kind) = not_public(ip).filter(|_| !named(ip) && !named(ip.to_canonical())) {
            let bits = if ip.is_ipv4() { 32 } else { 128 };
            return Err(NotAllowed::NotPublic { address: ip, kind, bits, setting: self.setting });
        }
        // Whoever allows a network of translated addresses has not allowed what may be behind them.
        if let Some(inner) = embedded(ip).map(IpAddr::V4)
            && let Some(kind) = not_public(inner).filter(|_| !named(inner) && !is_exactly(&self.allowed, ip))
        {
            return Err(NotAllowed::NotPublic { address: inner, kind, bits: 32, setting: self.setting });
        }
        if self.is_own(address) { Err(NotAllowed::Own(address)) } else { Ok(()) }
    }

    fn is_own(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let mut same_port = self.own.get().into_iter().flatten().filter(|own| own.port() == address.port());
        same_port.any(|own| {
            let listens = own.ip().to_canonical();
            listens == ip || ip.is_unspecified() || (listens.is_unspecified() && is_local(ip))
        })
    }
}

/// Whether one of `networks` is this address alone.
fn is_exactly(networks: &[IpNet], ip: IpAddr) -> bool {
    networks.iter().any(|network| network.addr() == ip && network.prefix_len() == network.max_prefix_len())
}

/// Whether `ip` is an address of this machine: only those can be bound.
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

/// What an address is if it is not one of the public internet.
fn not_public(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => not_public_v4(ip),
        IpAddr::V6(ip) => not_public_v6(ip),
    }
}

/// The IANA registry of special-purpose IPv4 addresses (RFC 6890 and its successors), and multicast.
fn not_public_v4(ip: Ipv4Addr) -> Option<&'static str> {
    let kind = match ip.octets() {
        [0, ..] => "an address of \"this network\"", // RFC 791 §3.2
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => "private", // RFC 1918
        [100, 64..=127, ..] => "shared by a carrier (CGNAT)", // RFC 6598
        [127, ..] => "this machine (loopback)",
        [169, 254, ..] => "link-local", // RFC 3927; the metadata services of clouds
        [192, 0, 0, _] => "reserved for protocols", // RFC 6890
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => "for documentation", // RFC 5737
        [192, 88, 99, _] => "a relay of 6to4", // RFC 7526
        [198, 18..=19, ..] => "for benchmarks", // RFC 2544
        [224..=239, ..] => "multicast",
        [255, 255, 255, 255] => "broadcast",
        [240..=255, ..] => "reserved",
        _ => return None,
    };
    Some(kind)
}

/// Only 2000::/3 is the public internet (RFC 4291 §2.4), and not all of that.
fn not_public_v6(ip: Ipv6Addr) -> Option<&'static str> {
    let kind = match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => "unspecified",
        [0, 0, 0, 0, 0, 0, 0, 1] => "this machine (loopback)",
        [0, 0, 0, 0, 0, 0xffff, ..] => "an IPv4 address in IPv6 (mapped)",
        [0, 0, 0, 0, 0, 0, ..] => "an IPv4 address in IPv6 (compatible)",
        [0x64, 0xff9b, ..] => "an IPv4 address in IPv6 (NAT64)", // RFC 6052, RFC 8215
        [0x2002, ..] => "an IPv4 address in IPv6 (6to4)",
        [0x2001, 0, ..] => "an IPv4 address in IPv6 (Teredo)",
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => "for documentation", // RFC 3849, RFC 9637
        [0x2001, 0..=0x01ff, ..] => "reserved for protocols",                  // RFC 2928
        [0xfc00..=0xfdff, ..] => "private (unique local)",                     // RFC 4193
        [0xfe80..=0xfebf, ..] => "link-local",
        [0xfec0..=0xfeff, ..] => "private (site-local)",
        [0xff00..=0xffff, ..] => "multicast",
        [0x2000..=0x3fff, ..] => return None,
        _ => "reserved",
    };
    Some(kind)
}

/// The IPv4 address that an IPv6 address of a transition mechanism leads to.
fn embedded(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(ip) = ip else { return None };
    let of = |high: u16, low: u16| Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] if high != 0 => of(high, low),
        [0x64, 0xff9b, .., high, low] => of(high, low),
        [0x2002, high, low, ..] => of(high, low),
        // RFC 4380 §4: the client's address, its bits turned over.
        [0x2001, 0, .., high, low] => of(!high, !low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(guard: &EgressGuard, ip: &str) -> Result<(), NotAllowed> {
        guard.check(&[SocketAddr::new(ip.parse().expect(ip), 1935)])
    }

    fn guard(allowed: &[&str]) -> EgressGuard {
        EgressGuard::new(allowed.iter().map(|network| network.parse().expect("a network")))
    }

    #[test]
    fn every_form_of_an_address_that_is_not_public_is_refused() {
        let none = guard(&[]);
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::8.8.8.8",
            "64:ff9b:1::a00:1",
            "2002:7f00:1::",
            "2002:808:808::1",
            "2001:0:1::1",
            "2001:db8::1",
            "2001:10::1",
            "2001:20::1",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "1::1",
            "4000::1",
        ] {
            let error = verdict(&none, ip).expect_err(ip).to_string();
            assert!(error.contains("restream.egress_allow"), "{error}");
        }
        for ip in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "126.0.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2600::1",
            "2a00:1450::1",
            "2001:4860:4860::8888",
            "2001:200::1",
        ] {
            verdict(&none, ip).expect(ip);
        }
    }

    #[test]
    fn the_operators_networks_are_open_and_no_more() {
        let lan = guard(&["10.0.0.0/8", "fd00::/8", "127.0.0.1/32"]);
        for ip in ["10.1.2.3", "fd00::1", "127.0.0.1", "::ffff:10.1.2.3", "::ffff:127.0.0.1"] {
            verdict(&lan, ip).expect(ip);
        }
        for ip in ["192.168.0.1", "127.0.0.2", "fe80::1", "fc00::1", "64:ff9b::a00:1", "::ffff:192.168.0.1"] {
            verdict(&lan, ip).expect_err(ip);
        }
        // A network without IPv4 of its own: public addresses behind the translator, and no others.
        let translated = guard(&["64:ff9b::/96"]);
        verdict(&translated, "64:ff9b::808:808").expect("a public address");
        let error = verdict(&translated, "64:ff9b::a00:1").expect_err("a private one").to_string();
        assert!(error.contains("10.0.0.1 is private") && error.contains("\"10.0.0.1/32\""), "{error}");
        verdict(&guard(&["64:ff9b::/96", "10.0.0.0/8"]), "64:ff9b::a00:1").expect("both are allowed");
    }

    #[test]
    fn one_bad_address_of_a_name_is_enough() {
        let addresses = ["8.8.8.8:1", "127.0.0.1:1"].map(|address| address.parse().expect("an address"));
        assert!(guard(&[]).check(&addresses).is_err());
        assert!(guard(&[]).check(&addresses[..1]).is_ok());
    }

    #[test]
    fn our_own_listeners_are_never_allowed() {
        let guard = guard(&["0.0.0.0/0", "::/0"]);
        let clone = guard.clone();
        clone.own_listeners(["0.0.0.0:1935", "192.0.2.7:8080"].map(|own| own.parse().expect("an address")));
        for (address, own) in [
            ("127.0.0.1:1935", true),
            ("127.9.9.9:1935", true),
            ("[::ffff:127.0.0.1]:1935", true),
            ("0.0.0.0:1935", true),
            ("192.0.2.7:8080", true),
            ("127.0.0.1:1936", false),
            ("127.0.0.1:8080", false),
            ("192.0.2.8:1935", false),
        ] {
            let verdict = guard.check(&[address.parse().expect("an address")]);
            assert_eq!(verdict.is_err(), own, "{address}");
        }
    }
}
