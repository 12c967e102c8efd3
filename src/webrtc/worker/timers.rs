//! What is due: timers of all sessions, steps of cached pictures, reports of losses.

use super::{INGEST_CARE, INGEST_TICK, Session, Worker, guarded};
use crate::webrtc::dropped::DropReason;
use crate::webrtc::session::SessionState;
use std::time::{Duration, Instant};
use tracing::warn;

/// Viewers' timers.
const TICK: Duration = Duration::from_millis(20);
/// Those of a viewer that is connected: nothing of it hurries.
const CONNECTED_TICK: Duration = Duration::from_millis(55);
/// Steps of the cached pictures.
const CATCH_UP_TICK: Duration = Duration::from_millis(1);
/// Losses are reported at most so often.
const LOSS_INTERVAL: Duration = Duration::from_secs(10);

impl Worker {
    /// When [`Self::handle_timeouts`] is due.
    pub(in crate::webrtc) fn next_deadline(&self, now: Instant) -> Instant {
        if !self.catching_up.is_empty() {
            return now + CATCH_UP_TICK;
        }
        let idle = self.sessions.is_empty() && self.fan_outs.is_empty();
        let tick = if idle { now + LOSS_INTERVAL } else { self.next_tick };
        if self.ingests.is_empty() { tick } else { tick.min(self.next_care) }
    }

    /// Runs what is due.
    pub(in crate::webrtc) fn handle_timeouts(&mut self, now: Instant) {
        self.catch_up(now);
        self.care_for_ingests(now);
        if now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK;
        let Self { sessions, fan_outs, exits, .. } = self;
        let mut over = Vec::new();
        for (id, session) in sessions.iter_mut() {
            let Session::Viewer(viewer, fan_out, due) = session else { continue };
            if *due > now {
                continue;
            }
            let fan_out = fan_outs.get(fan_out);
            let handled = guarded(*id, || viewer.handle_timeout(now, fan_out, exits));
            match viewer.state() {
                _ if handled.is_none() => over.push(*id),
                SessionState::Ended(_) => over.push(*id),
                SessionState::Connecting => *due = now,
                SessionState::Connected => *due = now + CONNECTED_TICK,
            }
        }
        for id in over {
            self.end(now, id, "a fault of ours");
        }
        self.fan_outs.retain(|_, fan_out| !fan_out.is_idle(now));
        if now.saturating_duration_since(self.reported) > LOSS_INTERVAL {
            self.reported = now;
            let late = self.hand_over.entrances().take_dropped(self.number);
            self.dropped.add(DropReason::WorkerBusy, late);
            if late > 0 {
                warn!(late, "Messages from WebRTC peers were dropped: this worker does not keep up.");
            }
            let dropped = self.exits.take_dropped();
            self.dropped.add(DropReason::SendBufferFull, dropped);
            if dropped > 0 {
                warn!(dropped, "Messages to WebRTC peers were dropped: the kernel's send buffer was full.");
            }
        }
    }

    fn catch_up(&mut self, now: Instant) {
        let Self { catching_up, sessions, fan_outs, exits, buffer, .. } = self;
        catching_up.retain(|id| {
            let Some(Session::Viewer(viewer, fan_out, _)) = sessions.get_mut(id) else { return false };
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
}
