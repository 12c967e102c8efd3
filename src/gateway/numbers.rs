//! Keeps the discontinuity sequence numbers of HLS rising from one process to the next, also if one is killed.
//!
//! The numbers that a process may use are taken from the store before it uses them, some at a time: hls.js has arrays
//! of their length, so they must stay small.

use crate::hls::Hls;
use crate::store::{Store, StoreError};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tracing::error;

/// So many are taken at a time.
const AT_ONCE: u32 = 32;
/// So many are always left.
const LEFT: u64 = 16;

/// The numbers that are this process's own.
pub(super) struct Numbers {
    store: Store,
    first: u64,
}

impl Numbers {
    /// Takes the first.
    pub(super) async fn take(store: Store) -> Result<Self, StoreError> {
        let first = store.take_discontinuities(AT_ONCE).await?;
        Ok(Self { store, first })
    }

    /// The lowest.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Takes more before a stream needs them, until `cancel`.
    pub(super) async fn run(self, hls: Arc<Hls>, cancel: CancellationToken) {
        let mut highest = hls.highest_discontinuity();
        let mut end = self.first + u64::from(AT_ONCE);
        loop {
            let short = highest.wait_for(|highest| highest + LEFT >= end);
            tokio::select! {
                Ok(_) = short => {}
                () = cancel.cancelled() => return,
            }
            match self.store.take_discontinuities(AT_ONCE).await {
                Ok(first) => end = first + u64::from(AT_ONCE),
                Err(error) => {
                    error!(%error, "Discontinuity sequence numbers can't be kept: they may fall at the next start.");
                    return;
                }
            }
        }
    }
}
