//! Restreams: pushes live streams to other RTMP servers.
//!
//! Owns the targets of all streams and one worker task for each. Targets live apart from streams: they
//! wait until theirs comes, and again after it has gone. Keeps nothing across restarts.

mod backoff;
mod clock;
mod source;
mod target;
mod worker;

pub use target::{NewTarget, TargetError, TargetState, TargetView};

use crate::media::{StreamName, VideoTranscoding};
use crate::rtmp::TlsRoots;
use crate::stream::Hub;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use target::Target;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::error;

/// Targets of one stream, and of all.
const TARGETS_PER_STREAM: usize = 16;
const TARGETS: usize = 256;

/// All restream targets.
pub struct Restreams {
    hub: Hub,
    roots: TlsRoots,
    transcoding: VideoTranscoding,
    registry: Mutex<Registry>,
}

#[derive(Default)]
struct Registry {
    /// In the order in which they were added.
    targets: BTreeMap<StreamName, Vec<Worker>>,
    closing: bool,
}

struct Worker {
    target: Arc<Target>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Restreams {
    /// No targets yet; `rtmps` trusts the system's certificates, and video is transcoded on demand.
    pub fn new(hub: Hub) -> Arc<Self> {
        Self::with_roots(hub, TlsRoots::system())
    }

    /// As [`Self::new`], for bridges that transcode as `transcoding` says.
    pub fn with_transcoding(hub: Hub, transcoding: VideoTranscoding) -> Arc<Self> {
        Arc::new(Self { hub, roots: TlsRoots::system(), transcoding, registry: Mutex::default() })
    }

    /// No targets yet; `rtmps` trusts `roots`.
    pub fn with_roots(hub: Hub, roots: TlsRoots) -> Arc<Self> {
        Arc::new(Self { hub, roots, transcoding: VideoTranscoding::default(), registry: Mutex::default() })
    }

    /// Whether the bridges transcode video for targets.
    pub fn transcoding(&self) -> VideoTranscoding {
        self.transcoding
    }

    /// Adds a target and starts its worker. Must be called on a tokio runtime.
    pub fn add(&self, stream: StreamName, target: NewTarget) -> Result<TargetView, TargetError> {
        let target = Arc::new(Target::new(stream.clone(), target)?);
        let mut registry = self.registry.lock();
        if registry.closing {
            return Err(TargetError::Closing);
        }
        let all = registry.targets.values().map(Vec::len).sum();
        if all >= TARGETS {
            return Err(TargetError::TooMany(all));
        }
        let workers = registry.targets.entry(stream).or_default();
        if workers.len() >= TARGETS_PER_STREAM {
            return Err(TargetError::TooMany(workers.len()));
        }
        let cancel = CancellationToken::new();
        let rooms =
            worker::Rooms { hub: self.hub.clone(), roots: self.roots.clone(), transcoding: self.transcoding };
        let work = worker::run(target.clone(), rooms, cancel.clone());
        let view = target.view();
        workers.push(Worker { target, cancel, task: tokio::spawn(work) });
        Ok(view)
    }

    /// The targets of a stream, in the order in which they were added.
    pub fn list(&self, stream: &StreamName) -> Vec<TargetView> {
        let registry = self.registry.lock();
        registry.targets.get(stream).into_iter().flatten().map(|worker| worker.target.view()).collect()
    }

    /// One target.
    pub fn get(&self, stream: &StreamName, id: &str) -> Option<TargetView> {
        let registry = self.registry.lock();
        let worker = registry.targets.get(stream)?.iter().find(|worker| worker.target.id == id)?;
        Some(worker.target.view())
    }

    /// Removes a target, and returns when its connection has ended cleanly. False if there is none.
    pub async fn remove(&self, stream: &StreamName, id: &str) -> bool {
        let worker = {
            let mut registry = self.registry.lock();
            let Some(workers) = registry.targets.get_mut(stream) else { return false };
            let Some(index) = workers.iter().position(|worker| worker.target.id == id) else { return false };
            let worker = workers.remove(index);
            if workers.is_empty() {
                registry.targets.remove(stream);
            }
            worker
        };
        worker.end().await;
        true
    }

    /// Ends all targets cleanly, all at once; none can be added after that.
    pub async fn shutdown(&self) {
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
}

impl Worker {
    async fn end(self) {
        self.cancel.cancel();
        if let Err(error) = self.task.await {
            error!(stream = %self.target.stream, target = %self.target.id, %error, "A restream worker failed.");
        }
    }
}
