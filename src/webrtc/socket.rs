//! The one UDP socket: batched receiving, segmentation offload, and replies from the address that a
//! peer reached us at.
//!
//! Promises that a send never waits: when the kernel's buffer is full the datagrams are dropped and
//! counted, as a network would. Addresses are IPv4 or IPv6 as peers write them, never IPv4-mapped.

use super::WebRtcError;
use super::path::Path;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::rc::Rc;
use tokio::io::Interest;
use tokio::net::TcpListener;
use tracing::debug;

/// Kernel buffers for bursts: some 100 ms of 300 viewers at 2.5 Mbit/s.
const KERNEL_BUFFER: usize = 8 << 20;
/// Ports tried, when any will do.
const ANY_PORT: usize = 16;
/// Bytes one message may carry to be split by segmentation offload.
pub(super) const MAX_RUN_BYTES: usize = 60_000;
/// Peers remembered as behind a device that can't split messages.
const MAX_UNSPLIT: usize = 64;
/// What a TCP connection may have on its way, of which the kernel takes twice as much: more is not for a live picture,
/// and counts as kept for its viewer.
const TCP_BUFFER: usize = 256 << 10;
/// Datagrams one message may carry; older kernels take no more than 64.
pub(super) const MAX_RUN_PACKETS: usize = 44;

/// Where a session's datagrams go: the driver's socket, or a list in a test.
pub(super) trait Outlet {
    /// Sends `data` over `path`; with `segment`, as datagrams of that many bytes of which the last may be
    /// shorter. Never waits: false if the way is full and (some of) it was dropped.
    fn send(&mut self, path: Path, data: &[u8], segment: Option<usize>) -> bool;
}

/// Binds the UDP port and, if it is wanted, the TCP port of the same number.
pub(super) fn bind_ports(
    wanted: SocketAddr,
    tcp: bool,
) -> Result<(UdpSocket, Option<TcpListener>), WebRtcError> {
    // Any free UDP port may be one that is taken for TCP: then it is another.
    let mut attempts = if wanted.port() == 0 { ANY_PORT } else { 1 };
    loop {
        attempts -= 1;
        let failed = |source| WebRtcError::Bind { listen: wanted, source };
        let socket = bind(wanted).map_err(failed)?;
        if !tcp {
            return Ok((socket, None));
        }
        let local = socket.local_addr().map_err(failed)?;
        match listen(local) {
            Ok(listener) => return Ok((socket, Some(listener))),
            Err(source) if attempts == 0 => return Err(WebRtcError::BindTcp { listen: local, source }),
            Err(_) => {}
        }
    }
}

/// Binds the first socket: only if nobody else has the port, ourselves in another process included. From
/// then on [`bind_another`] can share it.
pub(super) fn bind(listen: SocketAddr) -> io::Result<UdpSocket> {
    let socket = unbound(listen)?;
    socket.bind(&listen.into())?;
    // Only now: two sockets that are both shared could both be first.
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    Ok(socket.into())
}

/// Binds one more socket to the address that [`bind`] has: the kernel spreads peers over them.
pub(super) fn bind_another(local: SocketAddr) -> io::Result<UdpSocket> {
    let socket = unbound(local)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.bind(&local.into())?;
    Ok(socket.into())
}

/// Listens for TCP connections.
pub(super) fn listen(local: SocketAddr) -> io::Result<TcpListener> {
    let socket = RawSocket::new(Domain::for_address(local), Type::STREAM, Some(Protocol::TCP))?;
    if local.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    #[cfg(unix)]
    socket.set_reuse_address(true)?; // connections of a gateway before us may linger
    socket.set_nonblocking(true)?;
    let _ = socket.set_send_buffer_size(TCP_BUFFER); // accepted connections inherit it
    socket.bind(&local.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// A socket with large buffers.
fn unbound(listen: SocketAddr) -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    if listen.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    // Smaller buffers work too; the system's limit is the operator's choice.
    let _ = socket.set_recv_buffer_size(KERNEL_BUFFER);
    let _ = socket.set_send_buffer_size(KERNEL_BUFFER);
    Ok(socket)
}

/// The socket on its runtime; sending needs no exclusive access.
pub(super) struct Socket {
    socket: tokio::net::UdpSocket,
    state: RefCell<UdpSocketState>,
    local: SocketAddr,
    /// Peers behind devices that refuse to split messages.
    unsplit: RefCell<HashSet<IpAddr>>,
    dropped: Cell<u64>,
}

/// The buffers that a [`Socket`] receives into.
pub(super) struct Receiver {
    buffers: Vec<Vec<u8>>,
    meta: Vec<RecvMeta>,
    received: usize,
    local: SocketAddr,
}

impl Socket {
    /// Registers `socket` with the current runtime.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let local = socket.local_addr()?;
        Ok(Self {
            socket: tokio::net::UdpSocket::from_std(socket)?,
            state: RefCell::new(state),
            local,
            unsplit: RefCell::default(),
            dropped: Cell::new(0),
        })
    }

    /// Waits until there may be something to receive. Cancel safe.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Buffers for one batch of this socket, large enough for datagrams that the kernel has joined.
    pub(super) fn receiver(&self) -> Receiver {
        let size = 2048 * self.state.borrow().gro_segments();
        Receiver {
            // Each untouched: a clone would be written, and cost memory before there is a datagram.
            buffers: (0..BATCH_SIZE).map(|_| vec![0; size]).collect(),
            meta: vec![RecvMeta::default(); BATCH_SIZE],
            received: 0,
            local: self.local,
        }
    }

    /// Messages dropped because the kernel's buffer was full, since the last call.
    pub(super) fn take_dropped(&self) -> u64 {
        self.dropped.take()
    }

    /// False if the kernel's buffer is full.
    fn transmit(
        &self,
        destination: SocketAddr,
        source: Option<IpAddr>,
        data: &[u8],
        segment: Option<usize>,
    ) -> bool {
        let Self { socket, state, .. } = self;
        let transmit =
            Transmit { destination, ecn: None, contents: data, segment_size: segment, src_ip: source };
        // Not through tokio: nobody waits for room, so its idea of readiness does not matter.
        match state.borrow().try_send(socket.into(), &transmit) {
            Ok(()) => return true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.dropped.set(self.dropped.get() + 1);
                return false;
            }
            Err(error) => debug!(%destination, %error, "A datagram could not be sent."),
        }
        true
    }

    /// Whether messages for `peer` can be split by the kernel or a device.
    fn splits_for(&self, peer: IpAddr) -> bool {
        let unsplit = self.unsplit.borrow();
        (unsplit.is_empty() || !unsplit.contains(&peer)) && self.state.borrow().max_gso_segments() > 1
    }

    /// … and forgets it again, for it would give up splitting for everybody: another peer may be behind
    /// another device. With many such peers it is this machine that can't.
    fn no_splitting_for(&self, peer: IpAddr) {
        let mut unsplit = self.unsplit.borrow_mut();
        if unsplit.len() == MAX_UNSPLIT {
            return;
        }
        debug!(%peer, "Messages for this peer can't be split by a device.");
        unsplit.insert(peer);
        if let Ok(state) = UdpSocketState::new((&self.socket).into()) {
            self.state.replace(state);
        }
    }
}

impl Receiver {
    /// Receives what is there, at most one batch. False if there was nothing.
    pub(super) fn receive(&mut self, socket: &Socket) -> io::Result<bool> {
        let mut slices: Vec<IoSliceMut<'_>> =
            self.buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
        let Socket { socket, state, .. } = socket;
        self.received = 0;
        match socket
            .try_io(Interest::READABLE, || state.borrow().recv(socket.into(), &mut slices, &mut self.meta))
        {
            Ok(count) => self.received = count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            // An ICMP error for a peer that is gone: nothing is wrong with the socket.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// What was received: how it came, and the datagram.
    pub(super) fn datagrams(&mut self) -> impl Iterator<Item = (Path, &mut [u8])> {
        let ours = self.local;
        self.buffers.iter_mut().zip(&self.meta).take(self.received).flat_map(move |(buffer, meta)| {
            let peer = canonical(meta.addr);
            let ip = meta.dst_ip.map_or(ours.ip(), |ip| ip.to_canonical());
            let path = Path::udp(peer, ip);
            buffer[..meta.len].chunks_mut(meta.stride.max(1)).map(move |datagram| (path, datagram))
        })
    }
}

impl Outlet for Rc<Socket> {
    fn send(&mut self, path: Path, data: &[u8], segment: Option<usize>) -> bool {
        let Path { peer, local, .. } = path;
        if peer.port() == 0 || data.is_empty() {
            return true;
        }
        let six = self.local.is_ipv6();
        let destination = if six { mapped(peer) } else { peer };
        if destination.is_ipv6() != six {
            return true; // an IPv6 peer and an IPv4 socket
        }
        let source = Some(local).filter(|ip| !ip.is_unspecified()).map(|ip| match ip {
            IpAddr::V4(four) if six => IpAddr::V6(four.to_ipv6_mapped()),
            ip => ip,
        });
        let several = segment.filter(|segment| *segment < data.len());
        if let Some(segment) = several {
            // Some devices can't split messages: the state learns that from the first failure …
            if self.splits_for(destination.ip()) {
                let sent = self.transmit(destination, source, data, Some(segment));
                if self.state.borrow().max_gso_segments() > 1 {
                    return sent;
                }
                self.no_splitting_for(destination.ip());
            }
            // When one does not fit, neither do those behind it.
            return data.chunks(segment).all(|part| self.transmit(destination, source, part, None));
        }
        self.transmit(destination, source, data, None)
    }
}

/// `address` as peers write it: IPv4 stays IPv4 on a socket for both.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(four) => SocketAddr::new(four.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn receive(socket: &Socket) -> Vec<(Path, Vec<u8>)> {
        let mut receiver = socket.receiver();
        let mut all = Vec::new();
        while all.is_empty() {
            socket.readable().await.expect("readable");
            while receiver.receive(socket).expect("received") {
                all.extend(receiver.datagrams().map(|(path, data)| (path, data.to_vec())));
            }
        }
        all
    }

    fn bound(listen: &str) -> Option<Rc<Socket>> {
        bind(listen.parse().expect("an address"))
            .ok()
            .map(|socket| Rc::new(Socket::new(socket).expect("a socket")))
    }

    #[tokio::test]
    async fn a_reply_leaves_from_the_address_that_was_reached() {
        for listen in ["0.0.0.0:0", "[::]:0"] {
            let Some(mut server) = bound(listen) else { continue }; // no IPv6 here
            let port = server.local.port();
            let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("bound");
            client.connect(("127.0.0.2", port)).await.expect("connected");
            client.send(b"hello").await.expect("sent");
            let (path, data) = receive(&server).await.remove(0);
            assert_eq!((path.local, &data[..]), (IpAddr::from([127, 0, 0, 2]), &b"hello"[..]));
            assert_eq!(path.peer, client.local_addr().expect("an address"));
            server.send(path, b"answer", None);
            let mut buffer = [0; 16];
            // A connected socket takes only what comes from 127.0.0.2.
            let length = client.recv(&mut buffer).await.expect("an answer");
            assert_eq!(&buffer[..length], b"answer");
        }
    }

    /// What arrives until there are so many bytes: the sizes of the datagrams, and all of them in one.
    async fn collect(receiver: &Socket, bytes: usize) -> (Vec<usize>, Vec<u8>) {
        let (mut sizes, mut joined) = (Vec::new(), Vec::new());
        while joined.len() < bytes {
            for (_, datagram) in receive(receiver).await {
                sizes.push(datagram.len());
                joined.extend(datagram);
            }
        }
        (sizes, joined)
    }

    #[tokio::test]
    async fn a_run_arrives_as_single_datagrams() {
        let mut sender = bound("127.0.0.1:0").expect("bound");
        let receiver = bound("127.0.0.1:0").expect("bound");
        let data: Vec<u8> = (0..2500u32).map(|i| i as u8).collect();
        let path = Path::udp(receiver.local, sender.local.ip());
        assert!(sender.send(path, &data, Some(1000)));
        assert_eq!(collect(&receiver, data.len()).await, (vec![1000, 1000, 500], data.clone()));
        // The same where the peer is known as behind a device that can't split messages.
        sender.no_splitting_for(receiver.local.ip());
        assert!(!sender.splits_for(receiver.local.ip()));
        assert!(sender.send(path, &data, Some(1000)));
        assert_eq!(collect(&receiver, data.len()).await, (vec![1000, 1000, 500], data));
    }

    #[tokio::test]
    async fn a_run_that_can_not_be_split_by_the_kernel_arrives_all_the_same() {
        let mut sender = bound("127.0.0.1:0").expect("bound");
        let receiver = bound("127.0.0.1:0").expect("bound");
        let peer = receiver.local.ip();
        let offload = sender.splits_for(peer);
        // The kernel refuses a message of more than 128 datagrams just as a device that can't split (EINVAL).
        let data: Vec<u8> = (0..20_050u32).map(|i| (i / 100) as u8).collect();
        assert!(sender.send(Path::udp(receiver.local, sender.local.ip()), &data, Some(100)));
        let mut sizes = vec![100; 200];
        sizes.push(50);
        assert_eq!(collect(&receiver, data.len()).await, (sizes, data));
        // It is this peer's messages that are not split any more; others' still are.
        assert!(!sender.splits_for(peer));
        assert_eq!(sender.splits_for(IpAddr::from([127, 0, 0, 2])), offload);
    }

    #[tokio::test]
    async fn the_port_is_shared_by_our_workers_only() {
        let first = bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
        let local = first.local_addr().expect("an address");
        assert_eq!(bind(local).expect_err("taken").kind(), io::ErrorKind::AddrInUse);
        let second = bind_another(local).expect("shared");
        assert_eq!(bind(local).expect_err("taken").kind(), io::ErrorKind::AddrInUse);
        // Both get something: the kernel chooses by the peer's address.
        let (first, second) = (Socket::new(first).expect("a socket"), Socket::new(second).expect("a socket"));
        let (mut at_first, mut at_second) = (false, false);
        for _ in 0..200 {
            let client = UdpSocket::bind("127.0.0.1:0").expect("bound");
            client.send_to(b"hello", local).expect("sent");
            tokio::select! {
                got = receive(&first) => at_first |= got.len() == 1,
                got = receive(&second) => at_second |= got.len() == 1,
            }
            if at_first && at_second {
                return;
            }
        }
        panic!("one socket got everything");
    }

    #[tokio::test]
    async fn one_peer_behind_an_old_device_does_not_cost_the_others_their_splitting() {
        let socket = bound("127.0.0.1:0").expect("bound");
        let (old, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        if !socket.splits_for(other) {
            return; // this kernel splits for nobody
        }
        socket.no_splitting_for(old);
        assert!(socket.splits_for(other) && !socket.splits_for(old));
    }
}
