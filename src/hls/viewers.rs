//! Counts the players of a stream, which are known only by their requests.

use super::Viewer;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A player that has asked for nothing for so long is gone.
const GONE_AFTER: Duration = Duration::from_secs(10);
/// Players remembered at most; more are not counted.
const CAPACITY: usize = 65_536;

/// The players of one stream.
#[derive(Debug, Default)]
pub(super) struct Viewers {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    players: HashMap<Viewer, Instant>,
    last: Option<Instant>,
}

impl Viewers {
    /// Notes a request.
    pub fn seen(&self, now: Instant, viewer: Viewer) {
        let mut seen = self.seen.lock();
        seen.last = Some(now);
        if seen.players.len() < CAPACITY || seen.players.contains_key(&viewer) {
            seen.players.insert(viewer, now);
        }
    }

    /// The time since the last request; zero before the first.
    pub fn idle(&self, now: Instant) -> Duration {
        self.seen.lock().last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last))
    }

    /// Forgets those who are gone and counts the others.
    pub fn count(&self, now: Instant) -> usize {
        let mut seen = self.seen.lock();
        seen.players.retain(|_, seen| now.saturating_duration_since(*seen) < GONE_AFTER);
        seen.players.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn viewer(last: u8, user_agent_hash: u64) -> Viewer {
        Viewer { address: Ipv4Addr::new(192, 0, 2, last).into(), user_agent_hash }
    }

    #[test]
    fn distinct_players_of_the_last_ten_seconds_are_counted() {
        let (viewers, start) = (Viewers::default(), Instant::now());
        for _ in 0..5 {
            viewers.seen(start, viewer(1, 1));
        }
        viewers.seen(start, viewer(1, 2));
        viewers.seen(start + Duration::from_secs(6), viewer(2, 1));
        assert_eq!(viewers.count(start + Duration::from_secs(9)), 3);
        assert_eq!(viewers.count(start + Duration::from_secs(10)), 1);
        assert_eq!(viewers.count(start + Duration::from_secs(60)), 0);
        assert_eq!(viewers.idle(start + Duration::from_secs(60)), Duration::from_secs(54));
    }

    #[test]
    fn memory_is_bounded() {
        let (viewers, now) = (Viewers::default(), Instant::now());
        for hash in 0..2 * CAPACITY as u64 {
            viewers.seen(now, viewer(1, hash));
        }
        assert_eq!(viewers.count(now), CAPACITY);
    }
}
