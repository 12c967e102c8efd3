//! Restreams: pushes live streams to other RTMP servers.
//!
//! Owns the targets of all streams and one worker task for each. Targets live apart from streams: they
//! wait until theirs comes, and again after it has gone. What was answered is kept in the store: after a
//! restart all targets are there again. Changes are made one after the other, and each to its end.

mod backoff;
mod clock;
mod queue;
mod session;
mod sound;
mod source;
mod state;
mod target;
mod trial;
mod worker;

pub use state::{TargetCounts, TargetEvent, TargetFailure, TargetState, TargetStateKind};
pub use target::{NewTarget, QueueView, TargetChange, TargetError, TargetView};
pub use trial::{Trial, TrialOutcome, TrialStep};

use crate::admission::EgressGuard;
use crate::media::{StreamName, VideoTranscoding};
use crate::pipeline::Pipelines;
use crate::rtmp::{Dialer, TlsRoots};
use crate::store::{Store, StoreError};
use crate::stream::Hub;
use chrono::Utc;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use target::{Settings, Target};
use tokio::sync::{Semaphore, broadcast, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use worker::Rooms;

/// Changes of states that a listener may not have taken yet.
const EVENTS: usize = 4096;
/// Tests of targets at a time; others wait.
const TRIALS: usize = 8;

/// All restream targets.
pub struct Restreams {
    store: Store,
    rooms: Rooms,
    limits: (usize, usize),
    events: broadcast::Sender<TargetEvent>,
    registry: Mutex<Registry>,
    /// Held by whoever changes targets.
    changes: tokio::sync::Mutex<()>,
    trials: Semaphore,
}

/// What restreams need, and how many there may be.
#[derive(Clone)]
pub struct RestreamSettings {
    /// How targets are reached.
    pub dialer: Dialer,
    /// Whether the bridges transcode video for targets.
    pub transcoding: VideoTranscoding,
    /// For targets whose sound is encoded again; without, it goes as it comes.
    pub pipelines: Option<Arc<Pipelines>>,
    /// Targets of one stream …
    pub targets_per_stream: usize,
    /// … and of all.
    pub targets: usize,
}

/// What all targets together have done since the start, those that were removed included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetTotals {
    /// Bytes given to their connections.
    pub bytes_sent: u64,
    /// Frames left out because a server was too slow.
    pub dropped_frames: u64,
    /// How often one became live again after a failure.
    pub reconnects: u64,
}

impl TargetTotals {
    fn add(&mut self, other: Self) {
        self.bytes_sent += other.bytes_sent;
        self.dropped_frames += other.dropped_frames;
        self.reconnects += other.reconnects;
    }
}

#[derive(Default)]
struct Registry {
    /// Of targets that were removed.
    removed: TargetTotals,
    /// In the order in which they were added.
    targets: BTreeMap<StreamName, Vec<Worker>>,
    closing: bool,
}

struct Worker {
    target: Arc<Target>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Default for RestreamSettings {
    /// Public targets, the system's certificates, video transcoded on demand.
    fn default() -> Self {
        let roots = TlsRoots::system(None).unwrap_or_else(|_| TlsRoots::only([]));
        Self {
            dialer: Dialer::new(roots, EgressGuard::default()),
            transcoding: VideoTranscoding::default(),
            pipelines: None,
            targets_per_stream: 400,
            targets: 2000,
        }
    }
}

impl Restreams {
    /// No targets yet: [`Self::restore`] brings those that are kept in `store`.
    pub fn new(hub: Hub, store: Store, settings: RestreamSettings) -> Arc<Self> {
        let RestreamSettings { dialer, transcoding, pipelines, targets_per_stream, targets } = settings;
        Arc::new(Self {
            store,
            rooms: Rooms { hub, dialer, transcoding, pipelines },
            limits: (targets_per_stream, targets),
            events: broadcast::channel(EVENTS).0,
            registry: Mutex::default(),
            changes: tokio::sync::Mutex::default(),
            trials: Semaphore::new(TRIALS),
        })
    }

    /// Starts all targets that are kept.
    pub async fn restore(&self) -> Result<(), StoreError> {
        let _turn = self.changes.lock().await;
        let kept = self.store.targets().await?;
        let mut registry = self.registry.lock();
        for kept in kept {
            let (id, stream) = (kept.id.clone(), kept.stream.clone());
            match Target::restored(kept, self.events.clone()) {
                Ok(target) => self.start(&mut registry, Arc::new(target)),
                Err(error) => error!(%stream, target = %id, %error, "A target that was kept can't be used."),
            }
        }
        let count = registry.count();
        if count > 0 {
            info!(targets = count, "Restream targets are back.");
        }
        Ok(())
    }

    /// Whether the bridges transcode video for targets.
    pub fn transcoding(&self) -> VideoTranscoding {
        self.rooms.transcoding
    }

    /// Changes of states from now on, in their order for each target. Who lags misses the oldest.
    pub fn events(&self) -> broadcast::Receiver<TargetEvent> {
        self.events.subscribe()
    }

    /// Adds a target and starts its worker. When this returns, the target is kept.
    pub async fn add(
        self: &Arc<Self>,
        stream: StreamName,
        target: NewTarget,
    ) -> Result<TargetView, TargetError> {
        let settings = Settings::new(target)?;
        let this = self.clone();
        whole(async move {
            let _turn = this.changes.lock().await;
            this.check_room(&stream)?;
            let target = Arc::new(Target::new(stream, settings, this.events.clone()));
            this.store.add_target(target.stored(&target.settings())).await?;
            let view = target.view();
            this.start(&mut this.registry.lock(), target);
            Ok(view)
        })
        .await
    }

    /// Changes a target, if its version is `version` where that is given. When this returns, the change is
    /// kept, and a connection that was not as it should be now has ended cleanly.
    pub async fn change(
        self: &Arc<Self>,
        stream: StreamName,
        id: String,
        version: Option<u32>,
        change: TargetChange,
    ) -> Result<TargetView, TargetError> {
        let this = self.clone();
        whole(async move {
            let turn = this.changes.lock().await;
            let target = this.registry.lock().find(&stream, &id).ok_or(TargetError::Unknown)?;
            let old = target.settings();
            if version.is_some_and(|version| version != old.version) {
                return Err(TargetError::Changed);
            }
            let new = old.changed(change)?;
            this.store.change_target(target.stored(&new)).await?;
            let goes_on = new.sends_as(&old);
            target.change(new);
            if !goes_on {
                let begun = this.registry.lock().restart(&stream, &id, &this.rooms);
                drop(turn);
                if let Some(begun) = begun {
                    // An error: it was removed meanwhile.
                    let _ = begun.await;
                }
            }
            Ok(target.view())
        })
        .await
    }

    /// The targets of a stream, in the order in which they were added.
    pub fn list(&self, stream: &StreamName) -> Vec<TargetView> {
        // Views are made when the registry is free again.
        let targets: Vec<Arc<Target>> = {
            let registry = self.registry.lock();
            registry.targets.get(stream).into_iter().flatten().map(|worker| worker.target.clone()).collect()
        };
        targets.iter().map(|target| target.view()).collect()
    }

    /// How many targets a stream has. Costs little: no worker is waited for.
    pub fn counts(&self, stream: &StreamName) -> TargetCounts {
        count(self.registry.lock().targets.get(stream).into_iter().flatten())
    }

    /// How many targets all streams have.
    pub fn counts_in_all(&self) -> TargetCounts {
        count(self.registry.lock().workers())
    }

    /// What all have done since the start.
    pub fn totals(&self) -> TargetTotals {
        let registry = self.registry.lock();
        let mut totals = registry.removed;
        registry.workers().for_each(|worker| totals.add(worker.target.totals()));
        totals
    }

    /// One target.
    pub fn get(&self, stream: &StreamName, id: &str) -> Option<TargetView> {
        self.registry.lock().find(stream, id).map(|target| target.view())
    }

    /// Tries whether a target would work, without sending media. Nothing is published where a target of
    /// ours is on air at the same place. Takes half a minute at most, and some more while others are tried.
    pub async fn test(&self, stream: &StreamName, id: &str) -> Result<Trial, TargetError> {
        let target = self.registry.lock().find(stream, id).ok_or(TargetError::Unknown)?;
        let _turn = self.trials.acquire().await.map_err(|_| TargetError::Closing)?;
        let url = &target.settings().url;
        let occupied = self
            .registry
            .lock()
            .workers()
            .any(|worker| worker.target.is_on_air() && worker.target.settings().url.is_same_place(url));
        Ok(trial::run(url, &self.rooms.dialer, occupied).await)
    }

    /// Forgets a target, if its version is `version` where that is given, and returns when its connection has
    /// ended cleanly.
    pub async fn remove(
        self: &Arc<Self>,
        stream: StreamName,
        id: String,
        version: Option<u32>,
    ) -> Result<(), TargetError> {
        let this = self.clone();
        whole(async move {
            let turn = this.changes.lock().await;
            let target = this.registry.lock().find(&stream, &id).ok_or(TargetError::Unknown)?;
            if version.is_some_and(|version| version != target.settings().version) {
                return Err(TargetError::Changed);
            }
            this.store.remove_target(id.clone()).await?;
            let worker = this.registry.lock().take(&stream, &id);
            drop(turn);
            if let Some(worker) = worker {
                worker.end().await;
            }
            Ok(())
        })
        .await
    }

    /// Ends all connections cleanly, all at once. What is kept stays; nothing can be added after that.
    pub async fn shutdown(&self) {
        let _turn = self.changes.lock().await;
        let targets = {
            let mut registry = self.registry.lock();
            registry.closing = true;
            std::mem::take(&mut registry.targets)
        };
        let workers: Vec<_> = targets.into_values().flatten().collect();
        for worker in &workers {
            worker.cancel.cancel();
        }
        for worker in workers {
            worker.end().await;
        }
    }

    fn check_room(&self, stream: &StreamName) -> Result<(), TargetError> {
        let registry = self.registry.lock();
        if registry.closing {
            return Err(TargetError::Closing);
        }
        let (of_stream, of_all) = (registry.targets.get(stream).map_or(0, Vec::len), registry.count());
        for (count, most, key) in [
            (of_stream, self.limits.0, "restream.targets_per_stream"),
            (of_all, self.limits.1, "restream.targets"),
        ] {
            if count >= most {
                return Err(TargetError::TooMany { count, key });
            }
        }
        Ok(())
    }

    fn start(&self, registry: &mut Registry, target: Arc<Target>) {
        let worker = Worker::start(target.clone(), self.rooms.clone(), None);
        registry.targets.entry(target.stream.clone()).or_default().push(worker);
    }
}

impl Registry {
    fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.targets.values().flatten()
    }

    fn count(&self) -> usize {
        self.targets.values().map(Vec::len).sum()
    }

    fn find(&self, stream: &StreamName, id: &str) -> Option<Arc<Target>> {
        let worker = self.targets.get(stream)?.iter().find(|worker| worker.target.id == id)?;
        Some(worker.target.clone())
    }

    fn take(&mut self, stream: &StreamName, id: &str) -> Option<Worker> {
        let workers = self.targets.get_mut(stream)?;
        let index = workers.iter().position(|worker| worker.target.id == id)?;
        let worker = workers.remove(index);
        if workers.is_empty() {
            self.targets.remove(stream);
        }
        self.removed.add(worker.target.totals());
        Some(worker)
    }

    /// Puts another worker in the place of one, to begin when that has ended; tells when it has begun.
    fn restart(&mut self, stream: &StreamName, id: &str, rooms: &Rooms) -> Option<oneshot::Receiver<()>> {
        let workers = self.targets.get_mut(stream)?;
        let index = workers.iter().position(|worker| worker.target.id == id)?;
        let Worker { target, cancel, task } = workers.remove(index);
        let (begins, begun) = oneshot::channel();
        cancel.cancel();
        workers.insert(index, Worker::start(target, rooms.clone(), Some((task, begins))));
        Some(begun)
    }
}

impl Worker {
    /// Starts a worker for `target`, after the end of the one before, if there is one.
    fn start(
        target: Arc<Target>,
        rooms: Rooms,
        before: Option<(JoinHandle<()>, oneshot::Sender<()>)>,
    ) -> Self {
        let cancel = CancellationToken::new();
        let work = {
            let (target, cancel) = (target.clone(), cancel.clone());
            async move {
                let mut begins = None;
                if let Some((task, sender)) = before {
                    joined(&target, task).await;
                    begins = Some(sender);
                }
                worker::run(target, rooms, cancel, begins).await;
            }
        };
        Self { target, cancel, task: tokio::spawn(work) }
    }

    async fn end(self) {
        self.cancel.cancel();
        joined(&self.target, self.task).await;
        self.target.enter(TargetState::Ended { since: Utc::now() });
    }
}

fn count<'a>(workers: impl Iterator<Item = &'a Worker>) -> TargetCounts {
    let mut counts = TargetCounts::default();
    workers.for_each(|worker| counts.add(worker.target.kind()));
    counts
}

async fn joined(target: &Target, task: JoinHandle<()>) {
    if let Err(error) = task.await {
        error!(stream = %target.stream, target = %target.id, %error, "A restream worker failed.");
    }
}

/// Does `work` to its end, also if nobody awaits it any more.
async fn whole<T: Send + 'static>(
    work: impl Future<Output = Result<T, TargetError>> + Send + 'static,
) -> Result<T, TargetError> {
    tokio::spawn(work).await.unwrap_or(Err(TargetError::Closing))
}
