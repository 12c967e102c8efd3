//! The thread of a worker: its loop and what it is asked for.
//!
//! Each turn drains the socket and what other workers have received for this one, lets publishers hand their
//! media to the hub, and runs what is due. Commands come by a channel and are answered. The sessions are in
//! `worker`.

use super::directory::WorkerId;
use super::egress::{Plan, Reading};
use super::exits::Exits;
use super::gather::Gathering;
use super::handover::Parcel;
use super::socket::{self, Socket};
use super::worker::{Shared, Ticket, Worker};
use super::{LayerSelection, Patched, SessionError, SessionId, SessionKind};
use crate::media::StreamName;
use std::cell::RefCell;
use std::net::{SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

/// A pause after a failure.
const PAUSE: Duration = Duration::from_millis(20);
/// Batches received before other tasks get their turn.
const DRAIN: usize = 4;

/// What the worker is asked for.
pub(super) enum Command {
    /// A viewer comes. `_reading` keeps the lane that it plays filled until the worker reads it.
    View { ticket: Ticket, plan: Box<Plan>, _reading: Reading, done: oneshot::Sender<Outcome> },
    /// A publisher comes. The answer is its SDP.
    Publish {
        ticket: Ticket,
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
    /// A viewer chooses an encoding.
    SelectLayer { session: SessionId, selection: LayerSelection, done: oneshot::Sender<Outcome> },
    /// DELETE.
    Close { kind: SessionKind, session: SessionId, done: oneshot::Sender<Outcome> },
    /// All sessions end, then the worker.
    Shutdown { done: oneshot::Sender<()> },
}

pub(super) type Outcome = Result<(), SessionError>;

/// What a worker is made of.
pub(super) struct Parts {
    pub(super) number: WorkerId,
    /// The first worker's socket; others bind their own.
    pub(super) socket: Option<UdpSocket>,
    /// The address that all workers share.
    pub(super) local: SocketAddr,
    pub(super) shared: Shared,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) parcels: mpsc::Receiver<Parcel>,
}

/// Runs a worker on this thread until it is told to shut down, or all its callers are gone. After a panic
/// outside of its sessions it begins anew without them.
pub(super) fn run(mut parts: Parts) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "The WebRTC worker has no runtime.");
            return;
        }
    };
    loop {
        let local = tokio::task::LocalSet::new();
        match catch_unwind(AssertUnwindSafe(|| local.block_on(&runtime, serve(&mut parts)))) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                error!(%error, "The WebRTC worker failed.");
                return;
            }
            Err(_) => error!("The WebRTC worker panicked: its sessions are over, it begins anew."),
        }
        std::thread::sleep(PAUSE);
    }
}

async fn serve(parts: &mut Parts) -> std::io::Result<()> {
    let Parts { number, socket, local, shared, commands, parcels } = parts;
    let socket = match socket.take() {
        Some(socket) => socket,
        None => socket::bind_another(*local)?,
    };
    let socket = Rc::new(Socket::new(socket)?);
    let mut receiver = socket.receiver();
    let exits = Exits::new(socket.clone(), shared.connections.clone());
    let worker = Rc::new(RefCell::new(Worker::new(*number, exits, shared.clone())));
    let mut gathering = Gathering::new(Instant::now());
    loop {
        if let Some(pause) = gathering.pause() {
            tokio::task::yield_now().await; // fan-outs first
            std::thread::sleep(pause); // all this thread does is in this loop
        }
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
                    let mut count = 0;
                    for (path, data) in receiver.datagrams() {
                        worker.dispatch(now, path, data);
                        count += 1;
                    }
                    gathering.received(now, count);
                    worker.flush(now);
                }
                // Fan-outs send what publishers have just handed to the hub.
                tokio::task::yield_now().await;
            }
            Some(parcel) = parcels.recv() => {
                take(&worker, *number, shared, parcel);
                worker.borrow_mut().flush(Instant::now());
                tokio::task::yield_now().await;
            }
            () = tokio::time::sleep_until(deadline.into()) => {}
        }
        // In each turn: neither way may keep the other waiting.
        for _ in 0..DRAIN {
            let Ok(parcel) = parcels.try_recv() else { break };
            take(&worker, *number, shared, parcel);
            worker.borrow_mut().flush(Instant::now());
        }
        worker.borrow_mut().handle_timeouts(Instant::now());
    }
}

/// Takes what others received for this worker.
fn take(worker: &Rc<RefCell<Worker>>, number: WorkerId, shared: &Shared, parcel: Parcel) {
    match parcel {
        Parcel::Forget(path) => worker.borrow_mut().forget(path),
        Parcel::Datagrams(mut batch) => {
            let now = Instant::now();
            let mut worker = worker.borrow_mut();
            for (path, data) in batch.datagrams() {
                worker.dispatch(now, path, data);
            }
            shared.entrances.give_back(number, batch);
        }
    }
}

fn execute(worker: &Rc<RefCell<Worker>>, command: Command) {
    let now = Instant::now();
    match command {
        Command::View { ticket, plan, _reading, done } => {
            let session = ticket.session;
            let outcome = Worker::view(worker, now, ticket, *plan);
            if done.send(outcome).is_err() {
                worker.borrow_mut().close(now, session, "the request was abandoned");
            }
        }
        Command::Publish { ticket, name, offer, remote, done } => {
            let session = ticket.session;
            let outcome = worker.borrow_mut().publish(now, ticket, name, &offer, remote);
            if done.send(outcome).is_err() {
                worker.borrow_mut().close(now, session, "the request was abandoned");
            }
        }
        Command::Patch { kind, session, if_match, fragment, done } => {
            let _ = done.send(worker.borrow_mut().patch(kind, session, &if_match, &fragment));
        }
        Command::SelectLayer { session, selection, done } => {
            let _ = done.send(worker.borrow_mut().select_layer(session, selection));
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
