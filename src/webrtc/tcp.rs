//! ICE over TCP: connections that peers open to the port's number (RFC 6544, passive), framed by RFC 4571.
//!
//! One task a connection reads, another writes; whole frames go to the worker that has the session, as if
//! they were datagrams. Bounded: connections of one source and in all, the size of a frame, the time to a
//! first check and to its proof, and the bytes that wait for a slow peer, who loses what is beyond. Nobody
//! waits for a connection.

use super::demux::{Datagram, local_fragment};
use super::directory::{Directory, WorkerId};
use super::handover::{Entrances, HandOver};
use super::path::{ConnectionId, Path, Protocol};
use super::socket::canonical;
use crate::admission::{Limit, Place, Places, Refusals};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Connections of one source (an IPv4 address or an IPv6 /64).
const PER_SOURCE: usize = 64;
/// Connections in all.
const IN_ALL: usize = 4096;
/// For the first frame, and for a check on the connection that passes.
const FIRST_CHECK: Duration = Duration::from_secs(5);
/// A connection from which nothing comes for so long is closed; checks come every few seconds.
const SILENCE: Duration = Duration::from_secs(40);
/// Bytes that may wait for a peer.
const MAX_WAITING: usize = 1 << 20;
/// A peer that takes nothing for so long is gone.
const STALLED: Duration = Duration::from_secs(10);
/// Longest frame taken: as long as datagrams get on any network between us.
const MAX_FRAME: usize = 2048;
/// Bytes read at a time.
const READ: usize = 16 << 10;
/// RFC 4571 §2: each frame follows its length.
const LENGTH: usize = 2;
/// After a failed accept.
const PAUSE: Duration = Duration::from_millis(50);

/// All connections; for workers the way to send by them.
#[derive(Debug)]
pub(super) struct Connections {
    outgoing: RwLock<HashMap<ConnectionId, Arc<Outgoing>>>,
    places: Places,
    next: AtomicU64,
}

/// What waits for one peer.
#[derive(Debug, Default)]
struct Outgoing {
    waiting: Mutex<Waiting>,
    some: Notify,
    over: CancellationToken,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Bytes that the writer has taken and not written yet.
    writing: usize,
}

impl Connections {
    /// None yet; who is turned away is counted there.
    pub(super) fn new(refusals: Refusals) -> Self {
        Self {
            outgoing: RwLock::default(),
            places: Places::new(PER_SOURCE, IN_ALL).counting(refusals, Limit::WebRtcConnections),
            next: AtomicU64::default(),
        }
    }

    /// Sends `data` as one frame, or as several of `segment` bytes. False if too much waits already: then
    /// nothing is sent. What is for a connection that is over is lost silently, as on a network.
    pub(super) fn send(&self, connection: ConnectionId, data: &[u8], segment: Option<usize>) -> bool {
        let Some(outgoing) = self.outgoing.read().get(&connection).cloned() else { return true };
        let frame = segment.unwrap_or(data.len()).clamp(1, usize::from(u16::MAX));
        {
            let mut waiting = outgoing.waiting.lock();
            let more = data.len() + LENGTH * data.len().div_ceil(frame);
            if waiting.bytes.len() + waiting.writing + more > MAX_WAITING {
                return false;
            }
            for part in data.chunks(frame) {
                waiting.bytes.extend_from_slice(&(part.len() as u16).to_be_bytes());
                waiting.bytes.extend_from_slice(part);
            }
        }
        outgoing.some.notify_one();
        true
    }

    /// Closes a connection, once what waits is written.
    pub(super) fn close(&self, connection: ConnectionId) {
        if let Some(outgoing) = self.outgoing.write().remove(&connection) {
            outgoing.over.cancel();
        }
    }

    fn enter(self: &Arc<Self>, source: IpAddr) -> Option<Entered> {
        let place = self.places.admit(source)?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let outgoing = Arc::<Outgoing>::default();
        self.outgoing.write().insert(id, outgoing.clone());
        Some(Entered { connections: self.clone(), id, outgoing, _place: place })
    }
}

/// A connection that counts, until it is dropped.
struct Entered {
    connections: Arc<Connections>,
    id: ConnectionId,
    outgoing: Arc<Outgoing>,
    _place: Place,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.connections.close(self.id);
    }
}

/// Accepts connections.
pub(super) struct Acceptor {
    pub(super) listener: TcpListener,
    pub(super) connections: Arc<Connections>,
    pub(super) directory: Arc<Directory>,
    pub(super) entrances: Entrances,
}

impl Acceptor {
    /// Runs until `cancel`, then ends all connections.
    pub(super) async fn run(self, cancel: CancellationToken) {
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = cancel.cancelled() => break,
                Some(_) = tasks.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "A TCP connection for WebRTC could not be accepted.");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            let peer = canonical(peer);
            let (Ok(local), Some(entered)) = (stream.local_addr(), self.connections.enter(peer.ip())) else {
                debug!(%peer, "A TCP connection for WebRTC was refused: there are too many.");
                continue;
            };
            let _ = stream.set_nodelay(true);
            let protocol = Protocol::Tcp(entered.id);
            let path = Path { peer, local: canonical(local).ip(), protocol };
            let (directory, hand_over) = (self.directory.clone(), HandOver::new(self.entrances.clone()));
            tasks.spawn(serve(stream, path, entered, directory, hand_over));
        }
        drop(self.listener);
        // What the workers have said last is written before.
        for outgoing in self.connections.outgoing.read().values() {
            outgoing.over.cancel();
        }
        let _ =
            timeout(Duration::from_millis(500), async { while tasks.join_next().await.is_some() {} }).await;
        tasks.shutdown().await;
    }
}

/// One connection, from its first frame to its end.
async fn serve(
    stream: TcpStream,
    path: Path,
    entered: Entered,
    directory: Arc<Directory>,
    hand_over: HandOver,
) {
    let (reading, writing) = stream.into_split();
    let why = tokio::select! {
        why = read(reading, path, &directory, hand_over) => why,
        why = write(writing, &entered.outgoing) => why,
    };
    debug!(peer = %path.peer, why, "A TCP connection of WebRTC ended.");
}

async fn read(
    mut stream: OwnedReadHalf,
    path: Path,
    directory: &Directory,
    mut hand_over: HandOver,
) -> &'static str {
    let began = Instant::now();
    let mut frames = Frames::default();
    let mut worker: Option<WorkerId> = None;
    let mut proven = false;
    loop {
        proven = proven || directory.by_path(path).is_some();
        let patience = if proven { SILENCE } else { FIRST_CHECK.saturating_sub(began.elapsed()) };
        frames.bytes.reserve(READ);
        match timeout(patience, stream.read_buf(&mut frames.bytes)).await {
            Err(_) if !proven && directory.by_path(path).is_some() => continue,
            Err(_) => return "nothing came, or no check that passed",
            Ok(Err(_) | Ok(0)) => return "closed by the peer",
            Ok(Ok(_)) => {}
        }
        loop {
            match frames.next() {
                Err(TooLong) => return "a frame is too long",
                Ok(None) => break,
                Ok(Some(frame)) => {
                    let Some(owner) = worker.or_else(|| first(frame, directory)) else {
                        return "the first frame is no check of a session";
                    };
                    worker = Some(owner);
                    hand_over.push(owner, path, frame);
                }
            }
        }
        frames.discard();
        hand_over.flush();
    }
}

/// The worker of the session that a first frame is for.
fn first(frame: &[u8], directory: &Directory) -> Option<WorkerId> {
    (Datagram::classify(frame) == Some(Datagram::Stun))
        .then(|| local_fragment(frame))
        .flatten()
        .and_then(|fragment| directory.by_fragment(fragment))
}

async fn write(mut stream: OwnedWriteHalf, outgoing: &Outgoing) -> &'static str {
    let mut bytes = Vec::new();
    loop {
        let over = outgoing.over.is_cancelled();
        {
            let mut waiting = outgoing.waiting.lock();
            std::mem::swap(&mut waiting.bytes, &mut bytes);
            waiting.writing = bytes.len();
        }
        let mut written = 0;
        while written < bytes.len() {
            match timeout(STALLED, stream.write(&bytes[written..])).await {
                Err(_) => return "the peer takes nothing",
                Ok(Err(_) | Ok(0)) => return "closed by the peer",
                Ok(Ok(count)) => {
                    written += count;
                    outgoing.waiting.lock().writing = bytes.len() - written;
                }
            }
        }
        if bytes.is_empty() {
            if over {
                let _ = timeout(STALLED, stream.shutdown()).await;
                return "its session is over";
            }
            tokio::select! {
                () = outgoing.some.notified() => {}
                () = outgoing.over.cancelled() => {}
            }
        }
        bytes.clear();
        bytes.shrink_to(64 << 10);
    }
}

/// Bytes read, and how many of them were taken.
#[derive(Debug, Default)]
struct Frames {
    bytes: Vec<u8>,
    taken: usize,
}

/// A frame's length is beyond the bound.
#[derive(Debug, PartialEq, Eq)]
struct TooLong;

impl Frames {
    /// The next whole frame.
    fn next(&mut self) -> Result<Option<&[u8]>, TooLong> {
        let Some(length) = self.bytes.get(self.taken..self.taken + LENGTH) else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        if length > MAX_FRAME {
            return Err(TooLong);
        }
        let start = self.taken + LENGTH;
        let Some(frame) = self.bytes.get(start..start + length) else { return Ok(None) };
        self.taken = start + length;
        Ok(Some(frame))
    }

    /// Forgets what was taken.
    fn discard(&mut self) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
    }
}

#[cfg(test)]
mod tests;
