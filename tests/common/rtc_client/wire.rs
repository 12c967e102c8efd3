//! The socket of a client: UDP, or TCP with two bytes of length before each datagram (RFC 4571).

use std::io;
use std::net::{IpAddr, SocketAddr};

use str0m::net::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// A socket of datagrams.
pub(super) enum Wire {
    Udp(UdpSocket),
    Tcp(Framed),
}

/// A TCP connection that carries datagrams.
pub(super) struct Framed {
    stream: TcpStream,
    peer: SocketAddr,
    received: Vec<u8>,
}

impl Wire {
    /// A UDP socket on a free port of `address`.
    pub(super) fn udp(address: IpAddr) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind((address, 0))?;
        socket.set_nonblocking(true)?;
        Ok(Self::Udp(UdpSocket::from_std(socket)?))
    }

    /// A TCP connection to `peer`.
    pub(super) async fn tcp(peer: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(peer).await?;
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(Framed { stream, peer, received: Vec::new() }))
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Udp(socket) => socket.local_addr(),
            Self::Tcp(framed) => framed.stream.local_addr(),
        }
    }

    pub(super) fn protocol(&self) -> Protocol {
        match self {
            Self::Udp(_) => Protocol::Udp,
            Self::Tcp(_) => Protocol::Tcp,
        }
    }

    /// The next datagram. Cancel safe.
    pub(super) async fn receive(&mut self) -> io::Result<(Vec<u8>, SocketAddr)> {
        match self {
            Self::Udp(socket) => {
                let mut buffer = vec![0; 2048];
                let (length, peer) = socket.recv_from(&mut buffer).await?;
                buffer.truncate(length);
                Ok((buffer, peer))
            }
            Self::Tcp(framed) => Ok((framed.receive().await?, framed.peer)),
        }
    }

    /// Sends a datagram; over TCP waits until the connection takes it.
    pub(super) async fn send(&mut self, data: &[u8], peer: SocketAddr) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.send_to(data, peer).await.map(drop),
            Self::Tcp(framed) => {
                let length = u16::try_from(data.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
                framed.stream.write_all(&[&length.to_be_bytes()[..], data].concat()).await
            }
        }
    }
}

impl Framed {
    async fn receive(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let [high, low, rest @ ..] = &self.received[..] {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                if rest.len() >= length {
                    let datagram = rest[..length].to_vec();
                    self.received.drain(..2 + length);
                    return Ok(datagram);
                }
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
