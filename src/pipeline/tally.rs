//! How many pipelines there were, and how many of them failed.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Of one description, since the start.
#[derive(Debug, Default)]
pub(super) struct Tally {
    started: AtomicU64,
    failed: AtomicU64,
}

/// [`Pipelines::counts`](super::Pipelines::counts) of one description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PipelineCount {
    /// The description's name, without its ending.
    pub description: &'static str,
    /// Pipelines that were built.
    pub started: u64,
    /// Those that reported an error.
    pub failed: u64,
}

impl Tally {
    pub(super) fn started(&self) {
        self.started.fetch_add(1, Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    /// What was counted for the description `file`.
    pub(super) fn count(&self, file: &'static str) -> PipelineCount {
        PipelineCount {
            description: file.trim_end_matches(".launch"),
            started: self.started.load(Relaxed),
            failed: self.failed.load(Relaxed),
        }
    }
}
