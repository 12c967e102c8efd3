//! What arrives: each datagram to its session, and what publishers make of theirs to the hub.

use super::{INGEST_TICK, Session, Worker, guarded};
use crate::webrtc::SessionId;
use crate::webrtc::demux::Datagram;
use crate::webrtc::dropped::DropReason;
use crate::webrtc::path::Path;
use crate::webrtc::session::SessionState;
use std::time::Instant;

impl Worker {
    /// Gives a datagram to its session, or to the worker that has it: see [`Self::flush`].
    pub(in crate::webrtc) fn dispatch(&mut self, now: Instant, path: Path, data: &mut [u8]) {
        let Some(kind) = Datagram::classify(data) else {
            return self.dropped.add(DropReason::Unintelligible, 1);
        };
        let by_path = || self.demux.by_path(path);
        let found = match kind {
            Datagram::Stun => self.demux.by_fragment(data).or_else(by_path),
            _ => by_path(),
        };
        let Some(id) = found else {
            match self.demux.elsewhere(kind, path, data) {
                Some(worker) => self.hand_over.push(worker, path, data),
                None => self.dropped.add(kind.into(), 1),
            }
            return;
        };
        let mut proven = false;
        let Self { sessions, fan_outs, exits, buffer, catching_up, touched, .. } = self;
        match sessions.get_mut(&id) {
            None => {}
            Some(Session::Viewer(viewer, fan_out, _)) => {
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
        } else if kind == Datagram::Stun {
            self.dropped.add(DropReason::UnauthenticStun, 1);
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
                Session::Viewer(viewer, ..) => viewer.transport(),
                Session::Ingest(ingest) => ingest.session.transport(),
            };
            let kept: Vec<&str> = transport.local_ufrags().collect();
            self.demux.keep_fragments(id, &kept);
        }
    }

    /// Another worker's session has proven a path that was one of ours.
    pub(in crate::webrtc) fn forget(&mut self, path: Path) {
        self.demux.forget(path);
    }

    /// After a batch of datagrams: publishers hand their media to the hub, other workers get theirs.
    pub(in crate::webrtc) fn flush(&mut self, now: Instant) {
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
}
