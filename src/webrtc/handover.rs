//! Datagrams on their way to the worker that has their session.
//!
//! The kernel spreads peers over the workers' sockets as it likes, and TCP is read elsewhere. What arrives
//! at the wrong place goes on in batches, one message a batch, in buffers that come back. Bounded: when a
//! worker does not keep up, what is for it is dropped and counted, as a full socket would.

use super::directory::WorkerId;
use super::path::Path;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// Batches that may wait for a worker.
const PARCELS: usize = 128;
/// Bytes of one batch; one that has more is sent and the next one begun.
const BATCH_BYTES: usize = 64 << 10;
/// Empty batches kept per worker.
const SPARE: usize = 16;

/// What one worker is given by others.
#[derive(Debug)]
pub(super) enum Parcel {
    /// Datagrams of its sessions.
    Datagrams(Batch),
    /// Another worker's session has proven this path.
    Forget(Path),
}

/// Some datagrams.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// How each came, and where it ends.
    items: Vec<(Path, usize)>,
}

impl Batch {
    fn push(&mut self, path: Path, data: &[u8]) {
        self.bytes.extend_from_slice(data);
        self.items.push((path, self.bytes.len()));
    }

    /// The datagrams, in the order in which they came.
    pub(super) fn datagrams(&mut self) -> impl Iterator<Item = (Path, &mut [u8])> {
        let mut rest = &mut self.bytes[..];
        let mut start = 0;
        self.items.iter().map(move |(path, end)| {
            let (data, behind) = std::mem::take(&mut rest).split_at_mut(end - start);
            (rest, start) = (behind, *end);
            (*path, data)
        })
    }
}

/// The entrance of one worker.
#[derive(Debug)]
struct Entrance {
    parcels: mpsc::Sender<Parcel>,
    spare: Mutex<Vec<Batch>>,
    dropped: AtomicU64,
}

/// The entrances of all workers.
#[derive(Clone, Debug)]
pub(super) struct Entrances(Arc<[Entrance]>);

impl Entrances {
    /// For so many workers; with each worker's end.
    pub(super) fn new(workers: usize) -> (Self, Vec<mpsc::Receiver<Parcel>>) {
        let (entrances, receivers): (Vec<Entrance>, Vec<_>) = (0..workers)
            .map(|_| {
                let (parcels, receiver) = mpsc::channel(PARCELS);
                let spare = Mutex::new(Vec::new());
                (Entrance { parcels, spare, dropped: AtomicU64::new(0) }, receiver)
            })
            .unzip();
        (Self(entrances.into()), receivers)
    }

    /// An emptied batch comes back to the worker that it was for.
    pub(super) fn give_back(&self, worker: WorkerId, mut batch: Batch) {
        batch.bytes.clear();
        batch.items.clear();
        let mut spare = self.0[worker].spare.lock();
        if spare.len() < SPARE {
            spare.push(batch);
        }
    }

    /// Tells `worker` that a path is not its any more.
    pub(super) fn forget(&self, worker: WorkerId, path: Path) {
        let _ = self.0[worker].parcels.try_send(Parcel::Forget(path));
    }

    /// Datagrams for `worker` that were dropped since the last call.
    pub(super) fn take_dropped(&self, worker: WorkerId) -> u64 {
        self.0[worker].dropped.swap(0, Ordering::Relaxed)
    }

    fn send(&self, worker: WorkerId, batch: Batch) {
        let entrance = &self.0[worker];
        if let Err(error) = entrance.parcels.try_send(Parcel::Datagrams(batch)) {
            let (mpsc::error::TrySendError::Full(parcel) | mpsc::error::TrySendError::Closed(parcel)) = error;
            if let Parcel::Datagrams(batch) = parcel {
                entrance.dropped.fetch_add(batch.items.len() as u64, Ordering::Relaxed);
                self.give_back(worker, batch);
            }
        }
    }
}

/// Collects what is for others.
#[derive(Debug)]
pub(super) struct HandOver {
    entrances: Entrances,
    pending: Vec<(WorkerId, Batch)>,
}

impl HandOver {
    /// Nothing collected yet.
    pub(super) fn new(entrances: Entrances) -> Self {
        Self { entrances, pending: Vec::new() }
    }

    /// The entrances.
    pub(super) fn entrances(&self) -> &Entrances {
        &self.entrances
    }

    /// Takes a datagram for `worker`; it goes with the next [`Self::flush`].
    pub(super) fn push(&mut self, worker: WorkerId, path: Path, data: &[u8]) {
        let position = match self.pending.iter().position(|(known, _)| *known == worker) {
            Some(position) => position,
            None => {
                let spare = self.entrances.0[worker].spare.lock().pop();
                self.pending.push((worker, spare.unwrap_or_default()));
                self.pending.len() - 1
            }
        };
        self.pending[position].1.push(path, data);
        if self.pending[position].1.bytes.len() > BATCH_BYTES {
            let (worker, batch) = self.pending.swap_remove(position);
            self.entrances.send(worker, batch);
        }
    }

    /// Sends what is collected.
    pub(super) fn flush(&mut self) {
        for (worker, batch) in self.pending.drain(..) {
            self.entrances.send(worker, batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, SocketAddr};

    fn path(port: u16) -> Path {
        Path::udp(SocketAddr::from(([10, 0, 0, 1], port)), IpAddr::from([10, 0, 0, 2]))
    }

    #[test]
    fn datagrams_arrive_whole_and_in_order() {
        let (entrances, mut receivers) = Entrances::new(2);
        let mut hand_over = HandOver::new(entrances.clone());
        for (worker, port, data) in [(1, 1, &b"one"[..]), (0, 2, b"other"), (1, 3, b""), (1, 1, b"three")] {
            hand_over.push(worker, path(port), data);
        }
        assert!(receivers[1].try_recv().is_err(), "not before the flush");
        hand_over.flush();
        let Ok(Parcel::Datagrams(mut batch)) = receivers[1].try_recv() else { panic!("a batch") };
        let got: Vec<(Path, Vec<u8>)> = batch.datagrams().map(|(path, data)| (path, data.to_vec())).collect();
        assert_eq!(got, [(path(1), b"one".to_vec()), (path(3), vec![]), (path(1), b"three".to_vec())]);
        entrances.give_back(1, batch);
        hand_over.push(1, path(9), b"again");
        hand_over.flush();
        let Ok(Parcel::Datagrams(mut batch)) = receivers[1].try_recv() else { panic!("a batch") };
        assert_eq!(batch.datagrams().count(), 1, "nothing of the batch's first life");
    }

    #[test]
    fn a_worker_that_does_not_keep_up_loses_and_is_counted() {
        let (entrances, _receivers) = Entrances::new(1);
        let mut hand_over = HandOver::new(entrances.clone());
        for _ in 0..PARCELS + 3 {
            hand_over.push(0, path(1), b"x");
            hand_over.push(0, path(1), b"y");
            hand_over.flush();
        }
        assert_eq!((entrances.take_dropped(0), entrances.take_dropped(0)), (6, 0));
    }
}
