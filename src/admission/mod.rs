//! Who may come in, and how often: bounds by source address, for every listener alike; and where connections
//! of ours may go.
//!
//! [`EgressGuard`] judges destinations. [`Places`] counts connections, [`KeyAttempts`] counts wrong keys, [`Rates`]
//! holds token buckets, [`Refusals`] counts what was turned away. A source is an IPv4 address or an IPv6 /64; what is
//! remembered of sources is bounded and forgotten. Knows no
//! protocol.

mod egress;
mod keys;
mod places;
mod rates;
mod refusals;

pub use egress::{EgressGuard, NotAllowed};
pub use keys::KeyAttempts;
pub use places::{Place, Places};
pub use rates::{Rates, SessionRate};
pub use refusals::{Limit, Refusals};

use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// Networks that bounds by source don't hold for. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Exempt(Arc<[IpNet]>);

impl Exempt {
    /// These networks.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self(networks.into_iter().collect())
    }

    /// Whether `peer` is in one of them.
    pub fn contains(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.0.iter().any(|network| network.contains(&peer))
    }
}

/// One host has one IPv4 address, but all of an IPv6 /64.
pub fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}
