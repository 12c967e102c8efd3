//! The addresses that answers offer to peers.

use rtc::shared::ifaces::ifaces;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Candidates in one answer.
const MAX_CANDIDATES: usize = 32;

/// An address that answers offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offered {
    pub(super) address: SocketAddr,
    /// Why: what an operator is told.
    pub(super) why: String,
}

/// The host candidates of a socket on `listen`: the external addresses if there are any; else, on a
/// wildcard address, those of all interfaces, loopback last; else the address itself.
pub(super) fn host_candidates(listen: SocketAddr, external: &[IpAddr]) -> io::Result<Vec<Offered>> {
    let at = |ip| SocketAddr::new(ip, listen.port());
    let mut offered: Vec<Offered> = if !external.is_empty() {
        let configured = || "webrtc.external_addresses".to_owned();
        external.iter().map(|ip| Offered { address: at(*ip), why: configured() }).collect()
    } else if listen.ip().is_unspecified() {
        let ours = |ip: &IpAddr| ip.is_ipv4() || listen.is_ipv6();
        let found = interface_addresses()?.into_iter().filter(|(_, ip)| ours(ip));
        found.map(|(name, ip)| Offered { address: at(ip), why: format!("interface {name}") }).collect()
    } else {
        vec![Offered { address: listen, why: "webrtc.listen".to_owned() }]
    };
    offered.truncate(MAX_CANDIDATES);
    Ok(offered)
}

/// What is offered and why, in one line for an operator.
pub(super) fn description(offered: &[Offered], tcp: bool, full_ice: bool) -> String {
    let mut text = if tcp { "UDP and TCP".to_owned() } else { "UDP".to_owned() };
    for (number, Offered { address, why }) in offered.iter().enumerate() {
        let _ = write!(text, "{} {address} ({why})", if number == 0 { " at" } else { "," });
    }
    if offered.is_empty() {
        text.push_str(" at no address: no interface is up, so nobody can connect");
    } else if offered.iter().all(|offered| offered.address.ip().is_loopback()) {
        text.push_str("; only this machine can connect");
    }
    text + if full_ice { "; full ICE" } else { "; ICE-lite" }
}

/// The candidates as lines of an m-section (RFC 8839 §5.1), with `a=end-of-candidates`: none is trickled.
/// With `tcp`, each address is offered once more for connections that the peer opens (RFC 6544 §4.5).
pub(super) fn sdp_lines(candidates: &[SocketAddr], tcp: bool) -> String {
    let mut lines = String::new();
    let count = candidates.len();
    for (number, address) in candidates.iter().enumerate() {
        // RFC 8445 §5.1.2.1: type preference 126, one local preference each, component 1.
        let preference = 65_535 - number.min(65_535) as u32;
        let priority = (126 << 24) + (preference << 8) + 255;
        let (ip, port) = (address.ip(), address.port());
        let _ = write!(lines, "a=candidate:{} 1 udp {priority} {ip} {port} typ host\r\n", number + 1);
    }
    for (number, address) in candidates.iter().enumerate().filter(|_| tcp) {
        // RFC 6544 §4.2: a lower type preference than UDP's, direction preference 4 for passive.
        let preference = (4 << 13) + (8191 - number.min(8191) as u32);
        let priority = (90 << 24) + (preference << 8) + 255;
        let (ip, port) = (address.ip(), address.port());
        let foundation = count + number + 1;
        let _ = write!(
            lines,
            "a=candidate:{foundation} 1 tcp {priority} {ip} {port} typ host tcptype passive\r\n"
        );
    }
    lines + "a=end-of-candidates\r\n"
}

/// Browsers gather no loopback candidates: on the same machine they reach us by an interface's address.
fn interface_addresses() -> io::Result<Vec<(String, IpAddr)>> {
    let all = ifaces().map_err(|error| io::Error::other(error.to_string()))?;
    let mut unique: BTreeMap<(bool, IpAddr), String> = BTreeMap::new();
    for interface in all {
        let Some(ip) = interface.addr.map(|address| address.ip()) else { continue };
        let usable = match ip {
            IpAddr::V4(four) => !four.is_unspecified() && !four.is_link_local(),
            // Link-local addresses need a zone, which a candidate can't carry.
            IpAddr::V6(six) => !six.is_unspecified() && !six.is_unicast_link_local(),
        };
        if usable {
            unique.entry((ip.is_loopback(), ip)).or_insert(interface.name);
        }
    }
    Ok(unique.into_iter().map(|((_, ip), name)| (name, ip)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(listen: SocketAddr, external: &[IpAddr]) -> Vec<SocketAddr> {
        let offered = host_candidates(listen, external).expect("listed");
        offered.into_iter().map(|offered| offered.address).collect()
    }

    #[test]
    fn external_addresses_are_offered_alone() {
        let listen = SocketAddr::from(([0, 0, 0, 0], 8189));
        let external = [IpAddr::from([203, 0, 113, 7])];
        assert_eq!(addresses(listen, &external), [SocketAddr::from(([203, 0, 113, 7], 8189))]);
    }

    #[test]
    fn a_wildcard_stands_for_all_interfaces_with_loopback_last() {
        let candidates = addresses(SocketAddr::from(([0, 0, 0, 0], 8189)), &[]);
        assert_eq!(candidates.last(), Some(&SocketAddr::from(([127, 0, 0, 1], 8189))));
        assert!(candidates.iter().all(SocketAddr::is_ipv4));
        let one = SocketAddr::from(([127, 0, 0, 1], 8189));
        assert_eq!(addresses(one, &[]), [one]);
        let both = addresses("[::]:8189".parse().expect("an address"), &[]);
        assert!(candidates.iter().all(|candidate| both.contains(candidate)), "IPv4 as well");
    }

    #[test]
    fn tcp_is_offered_behind_udp() {
        let candidates =
            ["192.0.2.1:8189", "[2001:db8::1]:8189"].map(|text| text.parse().expect("an address"));
        let lines = sdp_lines(&candidates, true);
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[2], "a=candidate:3 1 tcp 1520435199 192.0.2.1 8189 typ host tcptype passive");
        assert!(lines[3].contains(" 2001:db8::1 8189 typ host tcptype passive"));
        let priority = |line: &str| line.split(' ').nth(3).and_then(|priority| priority.parse::<u32>().ok());
        let priorities: Vec<u32> = lines[..4].iter().filter_map(|line| priority(line)).collect();
        assert!(priorities.len() == 4 && priorities.is_sorted_by(|one, next| one > next), "{priorities:?}");
        assert_eq!(lines[4], "a=end-of-candidates");
        assert!(!sdp_lines(&candidates, false).contains("tcp"));
    }

    #[test]
    fn an_operator_is_told_what_is_offered_and_why() {
        let listen = SocketAddr::from(([0, 0, 0, 0], 8189));
        let external = host_candidates(listen, &[IpAddr::from([203, 0, 113, 7])]).expect("listed");
        let text = description(&external, true, false);
        assert_eq!(text, "UDP and TCP at 203.0.113.7:8189 (webrtc.external_addresses); ICE-lite");
        let all = description(&host_candidates(listen, &[]).expect("listed"), false, true);
        assert!(all.starts_with("UDP at ") && all.contains("127.0.0.1:8189 (interface lo"), "{all}");
        assert!(all.ends_with("; full ICE"));
        let one = host_candidates(SocketAddr::from(([127, 0, 0, 1], 8189)), &[]).expect("listed");
        assert!(description(&one, true, false).contains("only this machine"), "loopback");
    }
}
