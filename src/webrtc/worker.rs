//! All sessions of one thread: which datagram, batch and timer is whose.
//!
//! Sessions are sans-I/O and owned here. A panic in one closes that session only.

use super::admission::HalfOpen;
use super::demux::{Datagram, Demux};
use super::directory::{Directory, WorkerId};
use super::driver::Outcome;
use super::egress::{FanOut, Plan, Viewer};
use super::exits::Exits;
use super::handover::{Entrances, HandOver};
use super::ingest::IngestSession;
use super::path::Path;
use super::placement::Seat;
use super::session::SessionState;
use super::tcp::Connections;
use super::traffic::Traffic;
use super::transport::{Identity, Patch};
use super::{LayerSelection, Patched, SessionError, SessionId, SessionKind};
use crate::media::{PacketBatch, StreamName};
use crate::stream::{Hub, Stream, Subscriber};
use foldhash::HashMap;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::DropGuard;
use tracing::{debug, error, info, warn};

/// Viewers' timers.
const TICK: Duration = Duration::from_millis(20);
/// Steps of the cached pictures.
const CATCH_UP_TICK: Duration = Duration::from_millis(1);
/// Ingest timers are rounded up to this.
const INGEST_TICK: Duration = Duration::from_millis(5);
/// Ingest sessions are looked after at least so often.
const INGEST_CARE: Duration = Duration::from_millis(100);
/// Losses are reported at most so often.
const LOSS_INTERVAL: Duration = Duration::from_secs(10);

enum Session {
    Viewer(Box<Viewer>, FanOutId),
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
    pub(super) half_open: Option<HalfOpen>,
    /// What others see of what it sends and gets.
    pub(super) traffic: Arc<Traffic>,
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
        let Shared { hub, candidate_lines, identity, directory, entrances, .. } = shared;
        Self {
            number,
            exits,
            hub,
            candidate_lines,
            identity,
            demux: Demux::new(number, directory),
            hand_over: HandOver::new(entrances),
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

    /// A viewer comes: it reads the stream with the others of this thread.
    pub(super) fn view(worker: &Rc<RefCell<Self>>, now: Instant, ticket: Ticket, plan: Plan) -> Outcome {
        let mut this = worker.borrow_mut();
        let session = ticket.session;
        let known = this.fan_outs.iter().find(|(_, fan_out)| Arc::ptr_eq(fan_out.stream(), plan.stream()));
        let id = match known.map(|(id, _)| *id) {
            Some(id) => id,
            None => {
                let id = this.next_fan_out;
                this.next_fan_out += 1;
                let mut fan_out = FanOut::new(plan.stream().clone(), now);
                let reader = plan.stream().subscribe::<PacketBatch>();
                fan_out.set_task(tokio::task::spawn_local(read_stream(worker.clone(), id, reader)));
                this.fan_outs.insert(id, fan_out);
                id
            }
        };
        let mut viewer = plan.begin(now);
        viewer.share_traffic(ticket.traffic.clone());
        this.demux.insert(session, viewer.local_ufrag());
        this.tickets.insert(session, ticket);
        this.sessions.insert(session, Session::Viewer(Box::new(viewer), id));
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
        ingest.share_traffic(ticket.traffic.clone());
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
            Some(Session::Viewer(viewer, _)) => viewer.select_layer(selection),
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
            Some(Session::Viewer(viewer, _)) => viewer.transport(),
            Some(Session::Ingest(ingest)) => ingest.session.transport(),
        };
        let patched = ticket.patch.apply(transport, if_match, fragment, candidate_lines)?;
        if matches!(patched, Patched::Restarted { .. }) {
            demux.insert(session, transport.local_ufrag());
            demux.keep_fragments(session, &transport.local_ufrags().collect::<Vec<_>>());
        }
        Ok(patched)
    }

    /// Gives a datagram to its session, or to the worker that has it: see [`Self::flush`].
    pub(super) fn dispatch(&mut self, now: Instant, path: Path, data: &mut [u8]) {
        let Some(kind) = Datagram::classify(data) else { return };
        let by_path = || self.demux.by_path(path);
        let found = match kind {
            Datagram::Stun => self.demux.by_fragment(data).or_else(by_path),
            _ => by_path(),
        };
        let Some(id) = found else {
            if let Some(worker) = self.demux.elsewhere(kind, path, data) {
                self.hand_over.push(worker, path, data);
            }
            return;
        };
        let mut proven = false;
        let Self { sessions, fan_outs, exits, buffer, catching_up, touched, .. } = self;
        match sessions.get_mut(&id) {
            None => {}
            Some(Session::Viewer(viewer, fan_out)) => {
                let fan_out = fan_outs.get(fan_out);
                let handled = guarded(id, || match kind {
                    Datagram::Stun => proven = viewer.handle_stun(now, path, data, exits),
                    Datagram::Dtls => viewer.handle_dtls(now, data, fan_out, exits),
                    Datagram::Rtcp => viewer.handle_rtcp(now, data, fan_out, exits, buffer),
                    Datagram::Rtp => {}
                });
                if viewer.is_catching_up() && !catching_up.contains(&id) {
                    catching_up.push(id);
                }
                if handled.is_none() || matches!(viewer.state(), SessionState::Ended(_)) {
                    self.end(now, id, "a fault of ours");
                    return;
                }
            }
            Some(Session::Ingest(ingest)) => {
                if !std::mem::replace(&mut ingest.touched, true) {
                    touched.push(id);
                }
                let session = &mut ingest.session;
                let handled = guarded(id, || match kind {
                    Datagram::Stun => proven = session.handle_stun(now, path, data, exits),
                    Datagram::Dtls => session.handle_dtls(now, data, exits),
                    Datagram::Rtcp => session.handle_rtcp(now, data),
                    Datagram::Rtp => session.handle_rtp(now, data),
                });
                if handled.is_none() || matches!(session.state(), SessionState::Ended(_)) {
                    self.end(now, id, "a fault of ours");
                    return;
                }
            }
        }
        if proven {
            self.learn(id, path);
        }
    }

    /// A session's peer has proven a path.
    fn learn(&mut self, id: SessionId, path: Path) {
        if let Some(ticket) = self.tickets.get_mut(&id) {
            ticket.half_open = None;
        }
        if let Some(worker) = self.demux.learn(id, path) {
            self.hand_over.entrances().forget(worker, path);
        }
        if self.demux.has_spare_fragment(id)
            && let Some(session) = self.sessions.get_mut(&id)
        {
            let transport = match session {
                Session::Viewer(viewer, _) => viewer.transport(),
                Session::Ingest(ingest) => ingest.session.transport(),
            };
            let kept: Vec<&str> = transport.local_ufrags().collect();
            self.demux.keep_fragments(id, &kept);
        }
    }

    /// Another worker's session has proven a path that was one of ours.
    pub(super) fn forget(&mut self, path: Path) {
        self.demux.forget(path);
    }

    /// After a batch of datagrams: publishers hand their media to the hub, other workers get theirs.
    pub(super) fn flush(&mut self, now: Instant) {
        self.hand_over.flush();
        self.flush_ingests(now);
    }

    /// Lets publishers that got datagrams hand their media to the hub.
    fn flush_ingests(&mut self, now: Instant) {
        while let Some(id) = self.touched.pop() {
            let Some(Session::Ingest(ingest)) = self.sessions.get_mut(&id) else { continue };
            ingest.touched = false;
            let flushed = guarded(id, || ingest.session.flush(now, &mut self.exits));
            self.next_care = self.next_care.min(ingest.due().max(now + INGEST_TICK));
            if flushed.is_none() || matches!(ingest.session.state(), SessionState::Ended(_)) {
                self.end(now, id, "a fault of ours");
            }
        }
    }

    /// Gives a batch of a stream to its viewers.
    fn fan_out(&mut self, now: Instant, id: FanOutId, batch: &PacketBatch, lost: u64) {
        let Self { fan_outs, sessions, exits, buffer, .. } = self;
        let Some(fan_out) = fan_outs.get_mut(&id) else { return };
        let (template, change) = fan_out.take(now, batch, lost);
        let sound_lag = fan_out.sound_lag();
        let mut over = Vec::new();
        for viewer_id in fan_out.viewers() {
            let Some(Session::Viewer(viewer, _)) = sessions.get_mut(viewer_id) else { continue };
            let sent = guarded(*viewer_id, || {
                change.tell(viewer, &batch.epoch);
                viewer.send(now, &template, sound_lag, exits, buffer);
            });
            if sent.is_none() || matches!(viewer.state(), SessionState::Ended(_)) {
                over.push(*viewer_id);
            }
        }
        for viewer in over {
            self.end(now, viewer, "a fault of ours");
        }
    }

    /// A stream has ended: its viewers are told.
    fn stream_ended(&mut self, now: Instant, id: FanOutId) {
        let viewers = self.fan_outs.get(&id).map(|fan_out| fan_out.viewers().to_vec()).unwrap_or_default();
        for viewer in viewers {
            self.close(now, viewer, "the stream ended");
        }
        self.fan_outs.remove(&id);
    }

    /// When [`Self::handle_timeouts`] is due.
    pub(super) fn next_deadline(&self, now: Instant) -> Instant {
        if !self.catching_up.is_empty() {
            return now + CATCH_UP_TICK;
        }
        let idle = self.sessions.is_empty() && self.fan_outs.is_empty();
        let tick = if idle { now + LOSS_INTERVAL } else { self.next_tick };
        if self.ingests.is_empty() { tick } else { tick.min(self.next_care) }
    }

    /// Runs what is due.
    pub(super) fn handle_timeouts(&mut self, now: Instant) {
        self.catch_up(now);
        self.care_for_ingests(now);
        if now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK;
        let Self { sessions, fan_outs, exits, .. } = self;
        let mut over = Vec::new();
        for (id, session) in sessions.iter_mut() {
            let Session::Viewer(viewer, fan_out) = session else { continue };
            let fan_out = fan_outs.get(fan_out);
            let handled = guarded(*id, || viewer.handle_timeout(now, fan_out, exits));
            if handled.is_none() || matches!(viewer.state(), SessionState::Ended(_)) {
                over.push(*id);
            }
        }
        for id in over {
            self.end(now, id, "a fault of ours");
        }
        self.fan_outs.retain(|_, fan_out| !fan_out.is_idle(now));
        if now.saturating_duration_since(self.reported) > LOSS_INTERVAL {
            self.reported = now;
            let late = self.hand_over.entrances().take_dropped(self.number);
            if late > 0 {
                warn!(late, "Messages from WebRTC peers were dropped: this worker does not keep up.");
            }
            let dropped = self.exits.take_dropped();
            if dropped > 0 {
                warn!(dropped, "Messages to WebRTC peers were dropped: the kernel's send buffer was full.");
            }
        }
    }

    fn catch_up(&mut self, now: Instant) {
        let Self { catching_up, sessions, fan_outs, exits, buffer, .. } = self;
        catching_up.retain(|id| {
            let Some(Session::Viewer(viewer, fan_out)) = sessions.get_mut(id) else { return false };
            let Some(fan_out) = fan_outs.get(fan_out) else { return false };
            let sent = guarded(*id, || viewer.catch_up(now, fan_out, exits, buffer));
            sent.is_some() && viewer.is_catching_up()
        });
    }

    fn care_for_ingests(&mut self, now: Instant) {
        if now < self.next_care {
            return;
        }
        let mut next = now + INGEST_CARE;
        for position in 0..self.ingests.len() {
            let Some(id) = self.ingests.get(position).copied() else { break };
            let Some(Session::Ingest(ingest)) = self.sessions.get_mut(&id) else { continue };
            if ingest.due() > now {
                next = next.min(ingest.due());
                continue;
            }
            ingest.cared = now;
            let handled = guarded(id, || ingest.session.handle_timeout(now, &mut self.exits));
            next = next.min(ingest.due());
            if handled.is_none() || matches!(ingest.session.state(), SessionState::Ended(_)) {
                self.end(now, id, "a fault of ours");
            }
        }
        self.next_care = next.max(now + INGEST_TICK);
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
        self.tickets.remove(&id);
        match self.sessions.remove(&id) {
            None => return false,
            Some(Session::Viewer(mut viewer, fan_out)) => {
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
            Self::Viewer(viewer, _) => viewer.state(),
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

/// Reads a stream for its viewers on this worker.
async fn read_stream(worker: Rc<RefCell<Worker>>, id: FanOutId, reader: Subscriber<PacketBatch>) {
    feed(reader, |batch, lost| worker.borrow_mut().fan_out(Instant::now(), id, batch, lost)).await;
    worker.borrow_mut().stream_ended(Instant::now(), id);
}

/// Gives each batch to `fan_out`, with the items lost so far, until the stream ends or `fan_out` panics.
async fn feed(mut reader: Subscriber<PacketBatch>, mut fan_out: impl FnMut(&PacketBatch, u64)) {
    let stream: Arc<Stream> = reader.stream().clone();
    while let Some(batch) = reader.recv().await {
        let lost = reader.lost();
        if catch_unwind(AssertUnwindSafe(|| fan_out(&batch, lost))).is_err() {
            // Its viewers would see a picture that stands still; closed, they come again.
            error!(stream = %stream.name(), "The fan-out of a stream panicked; its viewers are closed.");
            return;
        }
    }
    debug!(stream = %stream.name(), "The viewers' stream ended.");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Tracks;
    use crate::stream::{Source, SourceKind};
    use std::time::SystemTime;

    #[tokio::test]
    async fn a_panic_in_a_fan_out_ends_the_reading_so_that_its_viewers_are_closed() {
        let (hub, _reaper) = Hub::new(Duration::from_secs(60));
        let source = Source { kind: SourceKind::Whip, remote: None };
        let publisher = hub.publish::<PacketBatch>("a".parse().expect("a name"), source).expect("free");
        let reader = publisher.stream().subscribe::<PacketBatch>();
        let epoch = publisher.begin_epoch(Tracks::default(), SystemTime::UNIX_EPOCH);
        publisher.write(PacketBatch { epoch, packets: Vec::new() });
        let fed = feed(reader, |_, _| panic!("a fault in a fan-out"));
        tokio::time::timeout(Duration::from_secs(5), fed).await.expect("it ends although the stream goes on");
    }
}
