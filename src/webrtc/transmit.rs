//! A datagram to send: what sessions hand to the driver.

use bytes::BytesMut;
use std::net::SocketAddr;

/// One UDP datagram on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Transmit {
    /// Where to.
    pub(super) peer: SocketAddr,
    /// The address of ours that the peer knows; it leaves from there.
    pub(super) local: SocketAddr,
    /// The datagram.
    pub(super) data: BytesMut,
}
