//! How long a busy worker lets datagrams gather before it looks at its socket again.
//!
//! Waking a thread costs more than handling a frame of one publisher. A worker with few datagrams wakes for
//! each burst; one with many looks once a millisecond, as network cards do under load (interrupt
//! moderation). Time is an argument.

use std::time::{Duration, Instant};

/// The load is looked at over so long.
const WINDOW: Duration = Duration::from_millis(100);
/// Datagrams a second from which a worker is busy: some eight publishers of 3 Mbit/s.
const BUSY: u32 = 3000;
/// How long a busy worker waits.
const PAUSE: Duration = Duration::from_millis(1);

/// The load of one worker's socket.
#[derive(Debug)]
pub(super) struct Gathering {
    window: Instant,
    received: u32,
    busy: bool,
}

impl Gathering {
    /// Nothing received yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { window: now, received: 0, busy: false }
    }

    /// So many datagrams have been taken from the socket.
    pub(super) fn received(&mut self, now: Instant, datagrams: usize) {
        self.received = self.received.saturating_add(u32::try_from(datagrams).unwrap_or(u32::MAX));
        let elapsed = now.saturating_duration_since(self.window);
        if elapsed >= WINDOW {
            self.busy = f64::from(self.received) >= f64::from(BUSY) * elapsed.as_secs_f64();
            (self.window, self.received) = (now, 0);
        }
    }

    /// How long to leave the socket alone.
    pub(super) fn pause(&self) -> Option<Duration> {
        self.busy.then_some(PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the worker pauses after a second of `each` datagrams every 2 ms.
    fn pauses(gathering: &mut Gathering, start: Instant, each: usize) -> bool {
        for step in 0..500 {
            gathering.received(start + Duration::from_millis(2 * step), each);
        }
        gathering.pause().is_some()
    }

    #[test]
    fn a_worker_pauses_while_it_is_busy() {
        let start = Instant::now();
        let mut gathering = Gathering::new(start);
        assert!(gathering.pause().is_none());
        assert!(!pauses(&mut gathering, start, 2), "1000 a second");
        assert!(pauses(&mut gathering, start + Duration::from_secs(1), 20), "10 000 a second");
        assert!(!pauses(&mut gathering, start + Duration::from_secs(2), 2), "1000 again");
        let later = start + Duration::from_secs(60);
        gathering.received(later, 100);
        assert!(gathering.pause().is_none(), "100 in a minute");
    }
}
