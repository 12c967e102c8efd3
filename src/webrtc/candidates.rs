//! The addresses that answers offer to peers.

use rtc::shared::ifaces::ifaces;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Candidates in one answer.
const MAX_CANDIDATES: usize = 32;

/// The host candidates of a socket on `listen`: the external addresses if there are any; else, on a
/// wildcard address, those of all interfaces, loopback last; else the address itself.
pub(super) fn host_candidates(listen: SocketAddr, external: &[IpAddr]) -> io::Result<Vec<SocketAddr>> {
    let mut addresses = if !external.is_empty() {
        external.to_vec()
    } else if listen.ip().is_unspecified() {
        interface_addresses()?.into_iter().filter(|ip| ip.is_ipv4() || listen.is_ipv6()).collect()
    } else {
        vec![listen.ip()]
    };
    addresses.truncate(MAX_CANDIDATES);
    Ok(addresses.into_iter().map(|ip| SocketAddr::new(ip, listen.port())).collect())
}

/// The candidates as lines of an m-section (RFC 8839 §5.1), with `a=end-of-candidates`: none is trickled.
pub(super) fn sdp_lines(candidates: &[SocketAddr]) -> String {
    let mut lines = String::new();
    for (number, address) in candidates.iter().enumerate() {
        // RFC 8445 §5.1.2.1: type preference 126, one local preference each, component 1.
        let preference = 65_535 - number.min(65_535) as u32;
        let priority = (126 << 24) + (preference << 8) + 255;
        let (ip, port) = (address.ip(), address.port());
        let _ = write!(lines, "a=candidate:{} 1 udp {priority} {ip} {port} typ host\r\n", number + 1);
    }
    lines + "a=end-of-candidates\r\n"
}

/// Browsers gather no loopback candidates: on the same machine they reach us by an interface's address.
fn interface_addresses() -> io::Result<Vec<IpAddr>> {
    let all = ifaces().map_err(|error| io::Error::other(error.to_string()))?;
    let unique: BTreeSet<(bool, IpAddr)> = all
        .into_iter()
        .filter_map(|interface| interface.addr)
        .map(|address| address.ip())
        .filter(|ip| match ip {
            IpAddr::V4(four) => !four.is_unspecified() && !four.is_link_local(),
            // Link-local addresses need a zone, which a candidate can't carry.
            IpAddr::V6(six) => !six.is_unspecified() && !six.is_unicast_link_local(),
        })
        .map(|ip| (ip.is_loopback(), ip))
        .collect();
    Ok(unique.into_iter().map(|(_, ip)| ip).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn external_addresses_are_offered_alone() {
        let listen = SocketAddr::from(([0, 0, 0, 0], 8189));
        let external = [IpAddr::from([203, 0, 113, 7])];
        let candidates = host_candidates(listen, &external).expect("listed");
        assert_eq!(candidates, [SocketAddr::from(([203, 0, 113, 7], 8189))]);
    }

    #[test]
    fn a_wildcard_stands_for_all_interfaces_with_loopback_last() {
        let candidates = host_candidates(SocketAddr::from(([0, 0, 0, 0], 8189)), &[]).expect("listed");
        assert_eq!(candidates.last(), Some(&SocketAddr::from(([127, 0, 0, 1], 8189))));
        assert!(candidates.iter().all(SocketAddr::is_ipv4));
        let one = SocketAddr::from(([127, 0, 0, 1], 8189));
        assert_eq!(host_candidates(one, &[]).expect("listed"), [one]);
    }
}
