//! All sessions of one thread: how they come, change and go. Which datagram is whose is in `datagrams`, which batch
//! in `streams`, which timer in `timers`.
//!
//! Sessions are sans-I/O and owned here. A panic in one closes that session only.

mod datagrams;
mod streams;
mod timers;

use super::demux::Demux;
use super::directory::{Directory, WorkerId};
use super::driver::Outcome;
use super::dropped::Dropped;
use super::egress::{FanOut, Plan, Viewer};
use super::exits::Exits;
use super::handover::{Entrances, HandOver};
use super::ingest::IngestSession;
use super::ledger::{Account, Ledger};
use super::placement::Seat;
use super::session::SessionState;
use super::tcp::Connections;
use super::transport::{Identity, Patch};
use super::{LayerSelection, Patched, SessionError, SessionId, SessionKind};
use crate::admission::Place;
use crate::media::StreamName;
use crate::stream::Hub;
use foldhash::HashMap;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use streams::read_stream;
use tokio_util::sync::DropGuard;
use tracing::{debug, error, info};

/// Ingest timers are rounded up to this.
const INGEST_TICK: Duration = Duration::from_millis(5);
/// Ingest sessions are looked after at least so often.
const INGEST_CARE: Duration = Duration::from_millis(100);

enum Session {
    /// With its stream, and with when its timers are due: most are not, and then it is not touched.
    Viewer(Box<Viewer>, FanOutId, Instant),
    Ingest(Box<Ingest>),
}

struct Ingest {
    session: IngestSession,
    cared: Instant,
    touched: bool,
}

type FanOutId = u64;

/// A session that was let in.
#[derive(Debug)]
pub(super) struct Ticket {
    /// Its id.
    pub(super) session: SessionId,
    /// Its ICE session, as PATCH sees it.
    pub(super) patch: Patch,
    /// Its place on this worker.
    pub(super) seat: Seat,
    /// It counts as half-open until its peer has passed a connectivity check.
    pub(super) half_open: Option<Place>,
    /// What others see of what it sends and gets.
    pub(super) account: Account,
    /// Tells those who wait for the session's end.
    pub(super) _end: DropGuard,
}

/// What all workers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) hub: Hub,
    pub(super) candidates: Arc<[SocketAddr]>,
    /// The lines of an m-section that offer them.
    pub(super) candidate_lines: Arc<str>,
    pub(super) identity: Arc<Identity>,
    pub(super) directory: Arc<Directory>,
    pub(super) entrances: Entrances,
    pub(super) connections: Arc<Connections>,
    pub(super) dropped: Arc<Dropped>,
    pub(super) ledger: Arc<Ledger>,
}

/// The sessions of one thread.
pub(super) struct Worker {
    number: WorkerId,
    exits: Exits,
    hub: Hub,
    candidate_lines: Arc<str>,
    identity: Arc<Identity>,
    demux: Demux,
    hand_over: HandOver,
    dropped: Arc<Dropped>,
    sessions: HashMap<SessionId, Session>,
    tickets: HashMap<SessionId, Ticket>,
    fan_outs: HashMap<FanOutId, FanOut>,
    next_fan_out: FanOutId,
    /// For one run of packets.
    buffer: Vec<u8>,
    next_tick: Instant,
    catching_up: Vec<SessionId>,
    ingests: Vec<SessionId>,
    /// Those that got datagrams since the last flush.
    touched: Vec<SessionId>,
    /// When one of the ingests wants to be looked after: too early rather than too late.
    next_care: Instant,
    reported: Instant,
}

impl Worker {
    /// No sessions yet.
    pub(super) fn new(number: WorkerId, exits: Exits, shared: Shared) -> Self {
        let now = Instant::now();
        let Shared { hub, candidate_lines, identity, directory, entrances, dropped, .. } = shared;
        Self {
            number,
            exits,
            hub,
            candidate_lines,
            identity,
            demux: Demux::new(number, directory),
            hand_over: HandOver::new(entrances),
            dropped,
            sessions: HashMap::default(),
            tickets: HashMap::default(),
            fan_outs: HashMap::default(),
            next_fan_out: 0,
            buffer: Vec::with_capacity(1 << 16),
            next_tick: now,
            catching_up: Vec::new(),
            ingests: Vec::new(),
            touched: Vec::new(),
            next_care: now,
            reported: now,
        }
    }

    /// A viewer comes: it reads its lane of the stream with the others of this thread.
    pub(super) fn view(worker: &Rc<RefCell<Self>>, now: Instant, ticket: Ticket, plan: Plan) -> Outcome {
        let mut this = worker.borrow_mut();
        let session = ticket.session;
        let known = this.fan_outs.iter().find(|(_, fan_out)| fan_out.is_of(plan.stream(), plan.lane()));
        let id = match known.map(|(id, _)| *id) {
            Some(id) => id,
            None => {
                let id = this.next_fan_out;
                this.next_fan_out += 1;
                let mut fan_out = FanOut::new(plan.stream().clone(), plan.lane(), now);
                let reader = plan.lane().read(plan.stream());
                fan_out.set_task(tokio::task::spawn_local(read_stream(worker.clone(), id, reader)));
                this.fan_outs.insert(id, fan_out);
                id
            }
        };
        let mut viewer = plan.begin(now);
        viewer.share_traffic(ticket.account.traffic.clone());
        this.demux.insert(session, viewer.local_ufrag());
        this.tickets.insert(session, ticket);
        this.sessions.insert(session, Session::Viewer(Box::new(viewer), id, now));
        if let Some(fan_out) = this.fan_outs.get_mut(&id) {
            fan_out.add(session);
        }
        Ok(())
    }

    /// A publisher comes. The answer is its SDP.
    pub(super) fn publish(
        &mut self,
        now: Instant,
        ticket: Ticket,
        name: StreamName,
        offer: &str,
        remote: SocketAddr,
    ) -> Result<String, SessionError> {
        let session = ticket.session;
        let (identity, candidates) = (self.identity.clone(), &self.candidate_lines);
        let made = guarded(session, || {
            IngestSession::new(now, identity, candidates, &self.hub, name, offer, remote)
        });
        let (mut ingest, answer) =
            made.unwrap_or_else(|| Err(SessionError::Internal("the session failed".into())))?;
        self.demux.insert(session, ingest.local_ufrag());
        ingest.share_traffic(ticket.account.traffic.clone());
        let ingest = Ingest { session: ingest, cared: now, touched: false };
        self.tickets.insert(session, ticket);
        self.sessions.insert(session, Session::Ingest(Box::new(ingest)));
        self.ingests.push(session);
        self.next_care = now;
        Ok(answer)
    }

    /// What a session is.
    pub(super) fn kind(&self, session: SessionId) -> Option<SessionKind> {
        self.sessions.get(&session).map(|session| match session {
            Session::Viewer(..) => SessionKind::Whep,
            Session::Ingest(_) => SessionKind::Whip,
        })
    }

    /// A viewer chooses an encoding of its stream.
    pub(super) fn select_layer(&mut self, session: SessionId, selection: LayerSelection) -> Outcome {
        match self.sessions.get_mut(&session) {
            Some(Session::Viewer(viewer, ..)) => viewer.select_layer(selection),
            _ => Err(SessionError::UnknownSession),
        }
    }

    /// Candidates for a session, or an ICE restart.
    pub(super) fn patch(
        &mut self,
        kind: SessionKind,
        session: SessionId,
        if_match: &str,
        fragment: &str,
    ) -> Result<Patched, SessionError> {
        if self.kind(session) != Some(kind) {
            return Err(SessionError::UnknownSession);
        }
        let Self { sessions, tickets, candidate_lines, demux, .. } = self;
        let ticket = tickets.get_mut(&session).ok_or(SessionError::UnknownSession)?;
        let transport = match sessions.get_mut(&session) {
            None => return Err(SessionError::UnknownSession),
            Some(Session::Viewer(viewer, ..)) => viewer.transport(),
            Some(Session::Ingest(ingest)) => ingest.session.transport(),
        };
        let patched = ticket.patch.apply(transport, if_match, fragment, candidate_lines)?;
        if matches!(patched, Patched::Restarted { .. }) {
            demux.insert(session, transport.local_ufrag());
            demux.keep_fragments(session, &transport.local_ufrags().collect::<Vec<_>>());
        }
        Ok(patched)
    }

    /// Ends a session that is over by itself; `fault` is said if it does not say why.
    fn end(&mut self, now: Instant, id: SessionId, fault: &'static str) {
        let why = match self.sessions.get(&id).map(|session| session.state()) {
            Some(SessionState::Ended(why)) => why,
            _ => fault,
        };
        self.close(now, id, why);
    }

    /// Ends a session and tells its peer. False if there is none.
    pub(super) fn close(&mut self, now: Instant, id: SessionId, why: &'static str) -> bool {
        if let Some(Session::Ingest(ingest)) = self.sessions.get_mut(&id) {
            guarded(id, || ingest.session.close(now, why, &mut self.exits));
        }
        self.ingests.retain(|known| *known != id);
        self.catching_up.retain(|known| *known != id);
        let paths = self.demux.remove(id);
        // Its last words are still counted.
        let _ticket = self.tickets.remove(&id);
        match self.sessions.remove(&id) {
            None => return false,
            Some(Session::Viewer(mut viewer, fan_out, _)) => {
                if let Some(fan_out) = self.fan_outs.get_mut(&fan_out) {
                    fan_out.remove(id, now);
                }
                guarded(id, || viewer.close(now, why, &mut self.exits));
                info!(session = ?id, stream = %viewer.stream().name(), why, "Viewer left.");
            }
            Some(Session::Ingest(_)) => debug!(session = ?id, why, "WHIP session removed."),
        }
        paths.into_iter().for_each(|path| self.exits.close(path));
        true
    }

    /// Ends all sessions.
    pub(super) fn shutdown(&mut self, now: Instant) {
        let all: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in all {
            self.close(now, id, "the server shuts down");
        }
        self.fan_outs.clear();
    }
}

impl Session {
    fn state(&self) -> SessionState {
        match self {
            Self::Viewer(viewer, ..) => viewer.state(),
            Self::Ingest(ingest) => ingest.session.state(),
        }
    }
}

impl Ingest {
    /// When it wants to be looked after.
    fn due(&self) -> Instant {
        let care = self.cared + INGEST_CARE;
        self.session.deadline().map_or(care, |deadline| deadline.min(care))
    }
}

/// Runs what belongs to one session; `None` if it panicked.
fn guarded<T>(session: SessionId, act: impl FnOnce() -> T) -> Option<T> {
    // What the session leaves behind is dropped with it, so nobody sees it half changed.
    let done = catch_unwind(AssertUnwindSafe(act));
    if done.is_err() {
        error!(?session, "A WebRTC session panicked and is closed.");
    }
    done.ok()
}
