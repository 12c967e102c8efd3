//! The thread of a worker: its loop and what it is asked for.
//!
//! Each turn drains the socket, lets publishers hand their media to the hub, and runs what is due. Commands
//! come by a channel and are answered. The sessions are in `worker`.

use super::egress::Plan;
use super::socket::Socket;
use super::transport::Identity;
use super::worker::Worker;
use super::{Patched, SessionError, SessionId, SessionKind};
use crate::media::{PacketBatch, StreamName};
use crate::stream::{Hub, Subscriber};
use std::cell::RefCell;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

/// A pause after a failure.
const PAUSE: Duration = Duration::from_millis(20);
/// Batches received before other tasks get their turn.
const DRAIN: usize = 4;

/// What the worker is asked for.
pub(super) enum Command {
    /// A viewer comes. `_reading` keeps the stream's packet lane filled until the worker reads it.
    View {
        session: SessionId,
        etag: String,
        plan: Box<Plan>,
        _reading: Subscriber<PacketBatch>,
        done: oneshot::Sender<Outcome>,
    },
    /// A publisher comes. The answer is its SDP.
    Publish {
        session: SessionId,
        etag: String,
        name: StreamName,
        offer: String,
        remote: SocketAddr,
        done: oneshot::Sender<Result<String, SessionError>>,
    },
    /// Candidates, or an ICE restart.
    Patch {
        kind: SessionKind,
        session: SessionId,
        if_match: String,
        fragment: String,
        done: oneshot::Sender<Result<Patched, SessionError>>,
    },
    /// DELETE.
    Close { kind: SessionKind, session: SessionId, done: oneshot::Sender<Outcome> },
    /// All sessions end, then the worker.
    Shutdown { done: oneshot::Sender<()> },
}

pub(super) type Outcome = Result<(), SessionError>;

/// What a worker is made of.
pub(super) struct Parts {
    pub(super) socket: UdpSocket,
    pub(super) hub: Hub,
    pub(super) identity: Arc<Identity>,
    /// The candidates' lines in answers.
    pub(super) candidates: String,
    pub(super) commands: mpsc::Receiver<Command>,
}

/// Runs a worker on this thread until it is told to shut down, or all its callers are gone.
pub(super) fn run(parts: Parts) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "The WebRTC worker has no runtime.");
            return;
        }
    };
    let local = tokio::task::LocalSet::new();
    if let Err(error) = local.block_on(&runtime, serve(parts)) {
        error!(%error, "The WebRTC worker failed.");
    }
}

async fn serve(parts: Parts) -> std::io::Result<()> {
    let Parts { socket, hub, identity, candidates, mut commands } = parts;
    let socket = Rc::new(Socket::new(socket)?);
    let mut receiver = socket.receiver();
    let worker = Rc::new(RefCell::new(Worker::new(socket.clone(), hub, identity, candidates)));
    loop {
        let deadline = worker.borrow().next_deadline(Instant::now());
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                Some(Command::Shutdown { done }) => {
                    worker.borrow_mut().shutdown(Instant::now());
                    let _ = done.send(());
                    return Ok(());
                }
                Some(command) => execute(&worker, command),
                None => {
                    worker.borrow_mut().shutdown(Instant::now());
                    return Ok(());
                }
            },
            ready = socket.readable() => {
                ready?;
                for _ in 0..DRAIN {
                    match receiver.receive(&socket) {
                        Ok(true) => {}
                        Ok(false) => break,
                        Err(error) => {
                            warn!(%error, "Receiving failed.");
                            tokio::time::sleep(PAUSE).await;
                            break;
                        }
                    }
                    let now = Instant::now();
                    let mut worker = worker.borrow_mut();
                    for (peer, local, data) in receiver.datagrams() {
                        worker.dispatch(now, peer, local, data);
                    }
                    worker.flush_ingests(now);
                }
                // Fan-outs send what publishers have just handed to the hub.
                tokio::task::yield_now().await;
            }
            () = tokio::time::sleep_until(deadline.into()) => {}
        }
        worker.borrow_mut().handle_timeouts(Instant::now());
    }
}

fn execute(worker: &Rc<RefCell<Worker>>, command: Command) {
    let now = Instant::now();
    match command {
        Command::View { session, etag, plan, _reading, done } => {
            let outcome = Worker::view(worker, now, session, etag, *plan);
            let _ = done.send(outcome);
        }
        Command::Publish { session, etag, name, offer, remote, done } => {
            let outcome = worker.borrow_mut().publish(now, session, etag, name, &offer, remote);
            if done.send(outcome).is_err() {
                worker.borrow_mut().close(now, session, "the request was abandoned");
            }
        }
        Command::Patch { kind, session, if_match, fragment, done } => {
            let _ = done.send(worker.borrow_mut().patch(now, kind, session, &if_match, &fragment));
        }
        Command::Close { kind, session, done } => {
            let mut worker = worker.borrow_mut();
            let known = worker.kind(session) == Some(kind) && worker.close(now, session, "closed by request");
            let _ = done.send(if known { Ok(()) } else { Err(SessionError::UnknownSession) });
        }
        Command::Shutdown { done } => {
            let _ = done.send(()); // taken by `serve`
        }
    }
}
