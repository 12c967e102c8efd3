//! Which worker a new session gets, and how much each has.
//!
//! Viewers of one stream share a worker, and its publisher's if it is WHIP's, until that one has much more
//! to do than another: within one thread a batch needs no wake-up, and with one socket no datagram comes to the
//! wrong thread. A worker without sessions costs nothing,
//! so a small gateway runs on one.

use super::directory::WorkerId;
use crate::media::StreamName;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// A viewer goes elsewhere when its stream's worker has so much more load than the least loaded one.
const MUCH: usize = 128;
/// A publisher's load, in viewers.
const PUBLISHER: usize = 4;

/// The load of all workers.
#[derive(Debug)]
pub(super) struct Placement(Mutex<State>);

#[derive(Debug)]
struct State {
    loads: Vec<usize>,
    /// Sessions of each stream on each worker.
    streams: HashMap<StreamName, HashMap<WorkerId, usize>>,
}

/// A session's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    placement: Arc<Placement>,
    stream: StreamName,
    worker: WorkerId,
    load: usize,
}

impl Placement {
    /// For so many workers, at least one.
    pub(super) fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { loads: vec![0; workers.max(1)], streams: HashMap::new() })))
    }

    /// A place for a viewer of `stream`.
    pub(super) fn viewer(self: &Arc<Self>, stream: &StreamName) -> Seat {
        self.take(stream, 1, |state| {
            let least = state.least();
            let homes = state.streams.get(stream).into_iter().flat_map(HashMap::keys);
            let home = homes.copied().min_by_key(|worker| (state.loads[*worker], *worker));
            home.filter(|home| state.loads[*home] < state.loads[least] + MUCH).unwrap_or(least)
        })
    }

    /// A place for a publisher of `stream`.
    pub(super) fn publisher(self: &Arc<Self>, stream: &StreamName) -> Seat {
        self.take(stream, PUBLISHER, State::least)
    }

    fn take(
        self: &Arc<Self>,
        stream: &StreamName,
        load: usize,
        choose: impl FnOnce(&State) -> WorkerId,
    ) -> Seat {
        let mut state = self.0.lock();
        let worker = choose(&state);
        state.loads[worker] += load;
        *state.streams.entry(stream.clone()).or_default().entry(worker).or_default() += 1;
        Seat { placement: self.clone(), stream: stream.clone(), worker, load }
    }
}

impl State {
    fn least(&self) -> WorkerId {
        (0..self.loads.len()).min_by_key(|worker| self.loads[*worker]).unwrap_or(0)
    }
}

impl Seat {
    /// The worker.
    pub(super) fn worker(&self) -> WorkerId {
        self.worker
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.placement.0.lock();
        state.loads[self.worker] -= self.load;
        if let Some(workers) = state.streams.get_mut(&self.stream) {
            if let Some(count) = workers.get_mut(&self.worker) {
                *count -= 1;
            }
            workers.retain(|_, count| *count > 0);
            if workers.is_empty() {
                state.streams.remove(&self.stream);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> StreamName {
        text.parse().expect("a name")
    }

    #[test]
    fn viewers_stay_with_their_stream_until_it_has_much_more_than_others() {
        let placement = Placement::new(2);
        let publisher = placement.publisher(&name("a"));
        assert_eq!(publisher.worker(), 0);
        let other = placement.publisher(&name("b"));
        assert_eq!(other.worker(), 1, "the least loaded");
        let mut seats: Vec<Seat> = (0..MUCH).map(|_| placement.viewer(&name("a"))).collect();
        assert!(seats.iter().all(|seat| seat.worker() == 0));
        seats.extend((0..MUCH).map(|_| placement.viewer(&name("a"))));
        let on = |worker| seats.iter().filter(|seat| seat.worker() == worker).count();
        assert_eq!((on(0), on(1)), (MUCH, MUCH), "from then on the two share them");
        assert_eq!(placement.viewer(&name("b")).worker(), 1);
    }

    #[test]
    fn what_is_dropped_leaves_no_trace() {
        let placement = Placement::new(3);
        let seats: Vec<Seat> = (0..200).map(|_| placement.viewer(&name("a"))).collect();
        drop(seats);
        let state = placement.0.lock();
        assert_eq!(state.loads, [0; 3]);
        assert!(state.streams.is_empty());
    }
}
