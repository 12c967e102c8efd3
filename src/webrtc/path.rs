//! How a peer is reached.

use std::net::{IpAddr, SocketAddr};

/// A pair of addresses and what runs between them: where a session's datagrams come from and go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Path {
    /// The peer's address.
    pub(super) peer: SocketAddr,
    /// The address of ours that it reached: replies leave from there.
    pub(super) local: IpAddr,
    /// What carries the datagrams.
    pub(super) protocol: Protocol,
}

/// What carries datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Protocol {
    /// The one UDP port.
    Udp,
    /// A TCP connection with frames of RFC 4571 (RFC 6544: the peer is active, we are passive).
    Tcp(ConnectionId),
}

/// A TCP connection of this process; numbers are not used again.
pub(super) type ConnectionId = u64;

impl Path {
    /// A path over UDP.
    pub(super) fn udp(peer: SocketAddr, local: IpAddr) -> Self {
        Self { peer, local, protocol: Protocol::Udp }
    }
}
