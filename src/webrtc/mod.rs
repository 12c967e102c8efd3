//! WebRTC: one port for all sessions, UDP and TCP; WHIP publishers come in by `ingest`, WHEP viewers go out by
//! `egress`.
//!
//! [`WebRtc`] is the door: offers in, answers out. Behind it are threads (`driver`), at most one a core, each
//! with a socket on the port and with its sessions (`worker`); `demux` tells whose a datagram is, `directory`
//! on which worker, and `placement` where a new session goes. Promises that no byte but an authentic STUN message is
//! looked at from an address that has not proven itself. Knows no HTTP.

mod candidates;
mod demux;
mod directory;
mod driver;
mod dropped;
mod egress;
mod exits;
mod fragment;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod gather;
mod handover;
mod ingest;
mod ledger;
mod offer;
mod path;
mod placement;
mod sdp;
mod session;
mod settings;
mod socket;
mod tcp;
#[cfg(test)]
mod tests;
mod traffic;
mod transport;
mod worker;

use crate::admission::{Limit, Places};
use crate::media::{Epoch, PacketBatch, Shortage, StreamName, Tracks, Transcoding, VideoTranscoding};
use crate::pipeline::CpuBudget;
use crate::stream::{CompatiblePackets, Hub, Media, Stream, Subscriber};
use directory::WorkerId;
use driver::Command;
pub use dropped::DropReason;
use egress::{Reading, ViewerLane};
use handover::Parcel;
pub use ledger::SessionTotals;
use parking_lot::Mutex;
use placement::{Placement, Seat};
pub use session::{
    InvalidSessionId, LayerSelection, NotEncoded, Patched, SessionError, SessionId, SessionKind,
};
pub use settings::{IceMode, WebRtcSettings};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::info;
pub use traffic::{Traffic, TrafficSnapshot};
use worker::{Shared, Ticket};

/// Commands that may wait for the worker; more callers wait in line.
const COMMANDS: usize = 256;
/// How long a viewer's request waits for the first packet of a stream whose bridge has just been started.
const FIRST_PACKET: Duration = Duration::from_secs(5);
const FIRST_PACKET_STEP: Duration = Duration::from_millis(20);

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
    /// The TCP port of the same number can't be had.
    #[error("TCP {listen} can't be bound for WebRTC (webrtc.tcp = false does without): {source}")]
    BindTcp {
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
    /// Cancelled when the session is over, for whatever reason.
    pub ended: CancellationToken,
    /// What it sends and gets.
    pub traffic: Arc<Traffic>,
    /// A viewer that has not got the stream's video codec gets H.264 that is made of the pictures.
    pub transcoded: bool,
}

/// All WebRTC sessions on one UDP port.
pub struct WebRtc {
    local: SocketAddr,
    shared: Shared,
    transcoding: Transcoding,
    budget: Arc<CpuBudget>,
    placement: Arc<Placement>,
    half_open: Places,
    workers: Mutex<Workers>,
    /// Accepts TCP connections; `None` without, and after the end.
    acceptor: Mutex<Option<tokio::task::JoinHandle<()>>>,
    closing: CancellationToken,
}

/// The threads.
struct Workers {
    running: Vec<Option<Running>>,
    /// What those need that are not running yet.
    idle: Vec<Option<Idle>>,
    closing: bool,
}

struct Running {
    commands: mpsc::Sender<Command>,
    thread: JoinHandle<()>,
}

struct Idle {
    socket: Option<UdpSocket>,
    parcels: mpsc::Receiver<Parcel>,
}

impl WebRtc {
    /// Binds the port and starts the first worker. To be called within a tokio runtime, which accepts TCP
    /// connections.
    pub fn start(settings: WebRtcSettings, hub: Hub) -> Result<Arc<Self>, WebRtcError> {
        let listen = settings.listen;
        let bind = |source| WebRtcError::Bind { listen, source };
        let (socket, listener) = socket::bind_ports(listen, settings.tcp)?;
        let local = socket.local_addr().map_err(bind)?;
        let offered = candidates::host_candidates(local, &settings.external_addresses)
            .map_err(WebRtcError::Interfaces)?;
        let candidates: Vec<SocketAddr> = offered.iter().map(|offered| offered.address).collect();
        let identity = Arc::new(transport::Identity::generate()?.with_ice(settings.ice));
        let count = settings.workers.max(1);
        let (entrances, parcels) = handover::Entrances::new(count);
        let mut socket = Some(socket);
        let idle = parcels.into_iter().map(|parcels| Some(Idle { socket: socket.take(), parcels })).collect();
        let webrtc = Self {
            local,
            shared: Shared {
                hub,
                candidate_lines: candidates::sdp_lines(&candidates, settings.tcp).into(),
                candidates: candidates.into(),
                identity,
                directory: Arc::default(),
                entrances,
                connections: Arc::new(tcp::Connections::new(settings.refusals.clone())),
                dropped: Arc::default(),
                ledger: Arc::default(),
            },
            transcoding: settings.transcoding,
            budget: settings.budget,
            placement: Placement::new(count),
            half_open: Places::new(settings.half_open_per_source, settings.half_open)
                .counting(settings.refusals, Limit::HalfOpen),
            workers: Mutex::new(Workers {
                running: (0..count).map(|_| None).collect(),
                idle,
                closing: false,
            }),
            acceptor: Mutex::new(None),
            closing: CancellationToken::new(),
        };
        webrtc.worker(0).map_err(|error| match error {
            StartError::Thread(error) => WebRtcError::Thread(error),
            StartError::Closing => WebRtcError::Thread(std::io::Error::other("closing")),
        })?;
        if let Some(listener) = listener {
            let acceptor = tcp::Acceptor {
                listener,
                connections: webrtc.shared.connections.clone(),
                directory: webrtc.shared.directory.clone(),
                entrances: webrtc.shared.entrances.clone(),
            };
            *webrtc.acceptor.lock() = Some(tokio::spawn(acceptor.run(webrtc.closing.clone())));
        }
        let offers = candidates::description(&offered, settings.tcp, settings.ice == IceMode::Full);
        info!(%local, workers = count, "WebRTC offers {offers}.");
        Ok(Arc::new(webrtc))
    }

    /// What may be done to video for viewers.
    pub fn transcoding(&self) -> Transcoding {
        self.transcoding
    }

    /// Why nothing is encoded for viewers of the stream `name` at the moment, if it is so.
    pub fn shortage(&self, name: &StreamName) -> Option<Shortage> {
        self.budget.shortage(name, Instant::now())
    }

    /// Datagrams that were dropped since the start, by reason.
    pub fn dropped(&self) -> [(DropReason, u64); DropReason::ALL.len()] {
        self.shared.dropped.snapshot()
    }

    /// What all sessions of a kind are and have done.
    pub fn totals(&self, kind: SessionKind) -> SessionTotals {
        self.shared.ledger.totals(kind)
    }

    /// The bound address.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The host candidates that answers offer.
    pub fn candidates(&self) -> &[SocketAddr] {
        &self.shared.candidates
    }

    /// A publisher's offer for the stream `name` (RFC 9725 §4.2).
    pub async fn whip(
        &self,
        name: StreamName,
        offer: &str,
        remote: SocketAddr,
    ) -> Result<Answer, SessionError> {
        self.shared.hub.settle(&name).await;
        let ((ticket, etag), ended) =
            self.admit(remote, SessionKind::Whip, self.placement.publisher(&name))?;
        let (session, worker) = (ticket.session, ticket.seat.worker());
        let (offer, traffic) = (offer.to_owned(), ticket.account.traffic.clone());
        let sdp = self.ask(worker, |done| Command::Publish { ticket, name, offer, remote, done }).await?;
        Ok(Answer { sdp, session, etag, ended, traffic, transcoded: false })
    }

    /// A viewer's offer for the stream `name` (draft-ietf-wish-whep §4.2). Waits, at most 5 s, for the
    /// stream's first packet if a bridge has to be started for it, and as long for the first packet of what is
    /// encoded again for it.
    pub async fn whep(
        &self,
        name: &StreamName,
        offer: &str,
        remote: SocketAddr,
    ) -> Result<Answer, SessionError> {
        let stream = self.shared.hub.get(name).ok_or_else(|| SessionError::UnknownStream(name.clone()))?;
        let offer = egress::Offer::parse(offer)?;
        // What is refused is known before a bridge has run; what it finds out later, after.
        let transcoding = self.transcoding;
        let refused = |packets: Option<&Tracks>| {
            let refusal = egress::refusal(&stream, packets, transcoding, self.shortage(name))?;
            offer.wants_video().then_some(SessionError::BFrames(refusal))
        };
        if let Some(refusal) = refused(None) {
            return Err(refusal);
        }
        let not_live = || SessionError::NotLive(name.clone());
        let (published, epoch) = first_epoch::<PacketBatch>(&stream).await.ok_or_else(not_live)?;
        if let Some(refusal) = refused(Some(&epoch.tracks)) {
            return Err(refusal);
        }
        let transcodes = transcoding.video == VideoTranscoding::OnDemand;
        let (lane, reading, epoch) = if transcodes && offer.needs_h264(&epoch.tracks) {
            let encodes = stream.watch_lanes().borrow().compatible_packet_readers > 0;
            if !encodes && self.budget.is_spent() {
                return Err(offer.not_encoded(&epoch.tracks, NotEncoded::Budget).unwrap_or_else(not_live));
            }
            let (compatible, encoded) = first_epoch::<CompatiblePackets>(&stream).await.ok_or_else(|| {
                let published =
                    stream.source().and_then(|_| offer.not_encoded(&epoch.tracks, NotEncoded::InTime));
                published.unwrap_or_else(not_live)
            })?;
            (ViewerLane::Compatible, Reading::Compatible(compatible), encoded)
        } else {
            (ViewerLane::Published, Reading::Published(published), epoch)
        };
        let identity = self.shared.identity.clone();
        let plan = egress::prepare(
            Instant::now(),
            &offer,
            stream,
            lane,
            &epoch.tracks,
            &self.shared.candidate_lines,
            identity,
        )?;
        let ((ticket, etag), ended) = self.admit(remote, SessionKind::Whep, self.placement.viewer(name))?;
        let (session, worker) = (ticket.session, ticket.seat.worker());
        let (sdp, traffic) = (plan.sdp().to_owned(), ticket.account.traffic.clone());
        let plan = Box::new(plan);
        self.ask(worker, |done| Command::View { ticket, plan, _reading: reading, done }).await?;
        info!(?session, stream = %name, %remote, "Viewer came.");
        let transcoded = lane == ViewerLane::Compatible;
        Ok(Answer { sdp, session, etag, ended, traffic, transcoded })
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
        let worker = self.worker_of(session)?;
        self.ask(worker, |done| Command::Patch { kind, session, if_match, fragment, done }).await
    }

    /// Which encoding a viewer's session is to get. A publisher's session is unknown here.
    pub async fn select_layer(
        &self,
        session: &SessionId,
        selection: LayerSelection,
    ) -> Result<(), SessionError> {
        let session = *session;
        let worker = self.worker_of(session)?;
        self.ask(worker, |done| Command::SelectLayer { session, selection, done }).await
    }

    /// Ends a session at once.
    pub async fn close(&self, kind: SessionKind, session: &SessionId) -> Result<(), SessionError> {
        let session = *session;
        let worker = self.worker_of(session)?;
        self.ask(worker, |done| Command::Close { kind, session, done }).await
    }

    /// Ends all sessions, tells their peers, and waits for the workers' end. What is asked later is
    /// answered with [`SessionError::Closing`].
    pub async fn shutdown(&self) {
        let running: Vec<Running> = {
            let mut workers = self.workers.lock();
            workers.closing = true;
            workers.running.iter_mut().filter_map(Option::take).collect()
        };
        let mut ended = Vec::new();
        for worker in &running {
            let (done, end) = oneshot::channel();
            if worker.commands.send(Command::Shutdown { done }).await.is_ok() {
                ended.push(end);
            }
        }
        for end in ended {
            let _ = end.await;
        }
        for worker in running {
            let _ = tokio::task::spawn_blocking(move || worker.thread.join()).await;
        }
        // Last, for what the workers have said is still on its way.
        self.closing.cancel();
        let acceptor = self.acceptor.lock().take();
        if let Some(acceptor) = acceptor {
            let _ = acceptor.await;
        }
    }

    /// Lets a session of `remote` in, with the entity tag of its ICE session. The token is cancelled when
    /// it is over.
    fn admit(
        &self,
        remote: SocketAddr,
        kind: SessionKind,
        seat: Seat,
    ) -> Result<((Ticket, String), CancellationToken), SessionError> {
        let half_open = Some(self.half_open.admit(remote.ip()).ok_or(SessionError::Overloaded)?);
        let etag = format!("{:016x}", rand::random::<u64>());
        let patch = transport::Patch::new(etag.clone());
        let ended = CancellationToken::new();
        let _end = ended.clone().drop_guard();
        Ok((
            (
                Ticket {
                    session: SessionId::random(),
                    patch,
                    seat,
                    half_open,
                    account: self.shared.ledger.open(kind),
                    _end,
                },
                etag,
            ),
            ended,
        ))
    }

    fn worker_of(&self, session: SessionId) -> Result<WorkerId, SessionError> {
        if self.workers.lock().closing {
            return Err(SessionError::Closing);
        }
        self.shared.directory.by_session(session).ok_or(SessionError::UnknownSession)
    }

    /// The commands of a worker, which is started if it isn't running yet.
    fn worker(&self, number: WorkerId) -> Result<mpsc::Sender<Command>, StartError> {
        let mut workers = self.workers.lock();
        if workers.closing {
            return Err(StartError::Closing);
        }
        if let Some(running) = &workers.running[number] {
            return Ok(running.commands.clone());
        }
        let Idle { socket, parcels } = workers.idle[number].take().ok_or(StartError::Closing)?;
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let shared = self.shared.clone();
        let parts = driver::Parts { number, socket, local: self.local, shared, commands: receiver, parcels };
        let thread = std::thread::Builder::new()
            .name(format!("webrtc-{number}"))
            .spawn(move || driver::run(parts))
            .map_err(StartError::Thread)?;
        workers.running[number] = Some(Running { commands: commands.clone(), thread });
        Ok(commands)
    }

    async fn ask<T>(
        &self,
        worker: WorkerId,
        command: impl FnOnce(oneshot::Sender<Result<T, SessionError>>) -> Command,
    ) -> Result<T, SessionError> {
        let (done, answer) = oneshot::channel();
        let commands = self.worker(worker).map_err(|error| match error {
            StartError::Closing => SessionError::Closing,
            StartError::Thread(error) => SessionError::Internal(error.to_string()),
        })?;
        commands.send(command(done)).await.map_err(|_| SessionError::Closing)?;
        answer.await.unwrap_or(Err(SessionError::Closing))
    }
}

/// Why a worker does not run.
enum StartError {
    Closing,
    Thread(std::io::Error),
}

/// Reads a lane, which starts a bridge where one is needed, until its configuration is known.
async fn first_epoch<T: Media>(stream: &Arc<Stream>) -> Option<(Subscriber<T>, Arc<Epoch>)> {
    stream.source()?;
    let mut reading = stream.subscribe::<T>();
    let deadline = tokio::time::Instant::now() + FIRST_PACKET;
    loop {
        if let Some(epoch) = stream.epoch::<T>() {
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
