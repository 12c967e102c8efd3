//! The task that notices what does not happen: publishers that send nothing, streams to which none returns.

use super::StreamState;
use super::hub::HubShared;
use super::life::SILENCE;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// How often it looks; so much later than due it may notice.
const STEP: Duration = Duration::from_millis(250);
/// After so long without a look the process has slept: silence then proves nothing about publishers.
const SLEPT: Duration = Duration::from_secs(1);

/// Notices publishers that stall, and ends streams whose grace is over. Made by [`Hub::new`](super::Hub::new).
#[derive(Debug)]
pub struct Watcher {
    shared: Arc<HubShared>,
}

impl Watcher {
    pub(super) fn new(shared: Arc<HubShared>) -> Self {
        Self { shared }
    }

    /// Runs until `cancel`. Without it no stream ever stalls or ends by itself.
    pub async fn run(self, cancel: CancellationToken) {
        let mut ticks = interval(STEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        while cancel.run_until_cancelled(ticks.tick()).await.is_some() {
            let now = Instant::now();
            let slept = now - last > SLEPT;
            last = now;
            self.look(now, slept);
        }
    }

    fn look(&self, now: Instant, slept: bool) {
        self.shared.watch(|stream| {
            let mut life = stream.life.lock();
            if life.publisher.is_none() {
                return (now - life.left >= stream.grace()).then_some(Verdict::Over);
            }
            let items = stream.statistics().items();
            if items != life.heard.0 || slept {
                life.heard = (items, now);
                return None;
            }
            let silent = now - life.heard.1;
            if life.state != StreamState::Live || silent < SILENCE {
                return None;
            }
            debug!(stream = %stream.name(), ?silent, "No media come.");
            Some(Verdict::Stalled)
        });
    }
}

/// What is to happen to a stream.
pub(super) enum Verdict {
    /// Its publisher has stalled.
    Stalled,
    /// Its grace is over.
    Over,
}
