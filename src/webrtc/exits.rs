//! Where a worker's datagrams leave: its UDP socket, or the TCP connection that the path names.

use super::path::{Path, Protocol};
use super::socket::{Outlet, Socket};
use super::tcp::Connections;
use std::rc::Rc;
use std::sync::Arc;

/// All ways out of a worker.
#[derive(Clone)]
pub(super) struct Exits {
    udp: Rc<Socket>,
    tcp: Arc<Connections>,
}

impl Exits {
    /// By this socket and these connections.
    pub(super) fn new(udp: Rc<Socket>, tcp: Arc<Connections>) -> Self {
        Self { udp, tcp }
    }

    /// The session that had proven `path` is over.
    pub(super) fn close(&self, path: Path) {
        if let Protocol::Tcp(connection) = path.protocol {
            self.tcp.close(connection);
        }
    }

    /// UDP messages dropped because the kernel's buffer was full, since the last call.
    pub(super) fn take_dropped(&self) -> u64 {
        self.udp.take_dropped()
    }
}

impl Outlet for Exits {
    fn send(&mut self, path: Path, data: &[u8], segment: Option<usize>) -> bool {
        match path.protocol {
            Protocol::Udp => self.udp.send(path, data, segment),
            Protocol::Tcp(connection) => self.tcp.send(connection, data, segment),
        }
    }
}
