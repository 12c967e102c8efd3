//! WebRTC: one UDP port for all sessions; WHIP publishers come in by `ingest`, WHEP viewers go out by
//! `egress`.
//!
//! [`WebRtc`] is the door: offers in, answers out. Behind it one thread (`driver`) owns the socket and every
//! session (`worker`); `demux` tells whose a datagram is. Promises that no byte but an authentic STUN message is
//! looked at from an address that has not proven itself. Knows no HTTP.

mod candidates;
mod demux;
mod driver;
mod egress;
mod ingest;
mod path;
mod session;
mod socket;
#[cfg(test)]
mod tests;
mod transport;
mod worker;

use crate::media::{PacketBatch, StreamName};
use crate::stream::{Hub, Stream, Subscriber};
use driver::Command;
use parking_lot::Mutex;
pub use session::{InvalidSessionId, Patched, SessionError, SessionId, SessionKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tracing::info;

/// Commands that may wait for the worker; more callers wait in line.
const COMMANDS: usize = 256;
/// How long a viewer's request waits for the first packet of a stream whose bridge has just been started.
const FIRST_PACKET: Duration = Duration::from_secs(5);
const FIRST_PACKET_STEP: Duration = Duration::from_millis(20);

/// What WebRTC needs to know.
#[derive(Clone, Debug)]
pub struct WebRtcSettings {
    /// Where the UDP socket is bound; a wildcard address stands for all interfaces.
    pub listen: SocketAddr,
    /// Addresses under which peers reach us, when they are not those of our interfaces (NAT).
    pub external_addresses: Vec<IpAddr>,
}

/// Why WebRTC can't start.
#[derive(Debug, thiserror::Error)]
pub enum WebRtcError {
    /// The UDP port can't be had.
    #[error("UDP {listen} can't be bound: {source}")]
    Bind {
        /// The address asked for.
        listen: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The machine's addresses can't be listed.
    #[error("the interfaces' addresses can't be listed: {0}")]
    Interfaces(std::io::Error),
    /// No certificate could be made.
    #[error("no DTLS certificate could be made: {0}")]
    Certificate(String),
    /// The worker's thread can't be started.
    #[error("the worker thread can't be started: {0}")]
    Thread(std::io::Error),
}

/// An accepted offer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The SDP answer.
    pub sdp: String,
    /// The session, for its URL.
    pub session: SessionId,
    /// The entity tag of its ICE state, without quotation marks.
    pub etag: String,
}

/// All WebRTC sessions on one UDP port.
pub struct WebRtc {
    hub: Hub,
    local: SocketAddr,
    candidates: Vec<SocketAddr>,
    candidate_lines: String,
    identity: Arc<transport::Identity>,
    commands: mpsc::Sender<Command>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl WebRtc {
    /// Binds the UDP port and starts the worker.
    pub fn start(settings: WebRtcSettings, hub: Hub) -> Result<Arc<Self>, WebRtcError> {
        let listen = settings.listen;
        let bind = |source| WebRtcError::Bind { listen, source };
        let socket = socket::bind(listen).map_err(bind)?;
        let local = socket.local_addr().map_err(bind)?;
        let candidates = candidates::host_candidates(local, &settings.external_addresses)
            .map_err(WebRtcError::Interfaces)?;
        let identity = Arc::new(transport::Identity::generate()?);
        let candidate_lines = candidates::sdp_lines(&candidates);
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let parts = driver::Parts {
            socket,
            hub: hub.clone(),
            identity: identity.clone(),
            candidates: candidate_lines.clone(),
            commands: receiver,
        };
        let worker = std::thread::Builder::new()
            .name("webrtc".into())
            .spawn(move || driver::run(parts))
            .map_err(WebRtcError::Thread)?;
        info!(%local, ?candidates, "WebRTC listens.");
        Ok(Arc::new(Self {
            hub,
            local,
            candidate_lines,
            candidates,
            identity,
            commands,
            worker: Mutex::new(Some(worker)),
        }))
    }

    /// The bound address.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The host candidates that answers offer.
    pub fn candidates(&self) -> &[SocketAddr] {
        &self.candidates
    }

    /// A publisher's offer for the stream `name` (RFC 9725 §4.2).
    pub async fn whip(
        &self,
        name: StreamName,
        offer: &str,
        remote: SocketAddr,
    ) -> Result<Answer, SessionError> {
        let (session, etag) = (SessionId::random(), etag());
        let (offer, tag) = (offer.to_owned(), etag.clone());
        let sdp = self.ask(|done| Command::Publish { session, etag: tag, name, offer, remote, done }).await?;
        Ok(Answer { sdp, session, etag })
    }

    /// A viewer's offer for the stream `name` (draft-ietf-wish-whep §4.2). Waits, at most 5 s, for the
    /// stream's first packet if a bridge has to be started for it.
    pub async fn whep(
        &self,
        name: &StreamName,
        offer: &str,
        remote: SocketAddr,
    ) -> Result<Answer, SessionError> {
        let stream = self.hub.get(name).ok_or_else(|| SessionError::UnknownStream(name.clone()))?;
        let offer = egress::Offer::parse(offer)?;
        let (reading, epoch) =
            first_epoch(&stream).await.ok_or_else(|| SessionError::NotLive(name.clone()))?;
        let identity = self.identity.clone();
        let plan =
            egress::prepare(Instant::now(), &offer, stream, &epoch.tracks, &self.candidate_lines, identity)?;
        let (session, etag) = (SessionId::random(), etag());
        let sdp = plan.sdp().to_owned();
        let (plan, tag) = (Box::new(plan), etag.clone());
        self.ask(|done| Command::View { session, etag: tag, plan, _reading: reading, done }).await?;
        info!(?session, stream = %name, %remote, "Viewer came.");
        Ok(Answer { sdp, session, etag })
    }

    /// A PATCH: candidates for a session, or an ICE restart (RFC 9725 §4.3). `if_match` is the header's
    /// value; `*` and `"*"` stand for any ICE session.
    pub async fn patch(
        &self,
        kind: SessionKind,
        session: &SessionId,
        if_match: &str,
        fragment: &str,
    ) -> Result<Patched, SessionError> {
        let (session, if_match, fragment) = (*session, if_match.to_owned(), fragment.to_owned());
        self.ask(|done| Command::Patch { kind, session, if_match, fragment, done }).await
    }

    /// Ends a session at once.
    pub async fn close(&self, kind: SessionKind, session: &SessionId) -> Result<(), SessionError> {
        let session = *session;
        self.ask(|done| Command::Close { kind, session, done }).await
    }

    /// Ends all sessions, tells their peers, and waits for the worker's end. What is asked later is
    /// answered with [`SessionError::Closing`].
    pub async fn shutdown(&self) {
        let (done, ended) = oneshot::channel();
        if self.commands.send(Command::Shutdown { done }).await.is_ok() {
            let _ = ended.await;
        }
        let worker = self.worker.lock().take();
        if let Some(worker) = worker {
            let _ = tokio::task::spawn_blocking(move || worker.join()).await;
        }
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, SessionError>>) -> Command,
    ) -> Result<T, SessionError> {
        let (done, answer) = oneshot::channel();
        self.commands.send(command(done)).await.map_err(|_| SessionError::Closing)?;
        answer.await.unwrap_or(Err(SessionError::Closing))
    }
}

/// Reads the packet lane, which starts a bridge where one is needed, until its configuration is known.
async fn first_epoch(stream: &Arc<Stream>) -> Option<(Subscriber<PacketBatch>, Arc<crate::media::Epoch>)> {
    stream.source()?;
    let mut reading = stream.subscribe::<PacketBatch>();
    let deadline = tokio::time::Instant::now() + FIRST_PACKET;
    loop {
        if let Some(epoch) = stream.epoch::<PacketBatch>() {
            return Some((reading, epoch));
        }
        if tokio::time::Instant::now() >= deadline {
            return None;
        }
        // The lane knows its epoch a little before a reader may begin: at the first keyframe.
        if let Ok(None) = tokio::time::timeout(FIRST_PACKET_STEP, reading.recv()).await {
            return None;
        }
    }
}

fn etag() -> String {
    format!("{:016x}", rand::random::<u64>())
}
