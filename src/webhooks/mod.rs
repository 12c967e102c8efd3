//! Webhooks: events, sent to the operator's own servers.
//!
//! Owns the webhooks, one worker task for each, and the task that hands them the journal's events. A delivery
//! is in the store before it is tried, and until it is delivered or dead: a restart loses none. Deliveries of
//! one stream are in order; those of different streams don't wait for each other, nor do webhooks. The scheme
//! of signatures is that of Standard Webhooks. Knows no HTTP server.

mod dispatch;
mod queue;
mod retry;
mod secret;
mod sender;
mod webhook;
mod worker;

pub use secret::{InvalidSecret, SigningSecret};
pub use sender::{AttemptError, Attempted};
pub use webhook::{NewWebhook, Webhook, WebhookChange, WebhookError};

use crate::admission::EgressGuard;
use crate::events::Journal;
use crate::store::{DeliveryState, Store, StoreError, StoredDelivery};
use chrono::Utc;
use parking_lot::Mutex;
use retry::Retry;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use worker::Hook;

/// Webhooks of the gateway.
const MOST: usize = 50;
/// Deliveries of one webhook that may wait; what comes then is dead at once.
const PENDING: usize = 10_000;

/// How deliveries are tried.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// Where they may go.
    pub guard: EgressGuard,
    /// Attempts before a delivery is dead.
    pub tries: u32,
    /// From the first failure to the second attempt; it doubles with each failure.
    pub first_retry: Duration,
    /// For one attempt, from the name's resolution to the answer's end.
    pub timeout: Duration,
}

/// Attempts so far, by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// Answered with a 2xx.
    pub delivered: u64,
    /// Failed; another attempt follows.
    pub failed: u64,
    /// Failed for the last time, or not even tried.
    pub dead: u64,
}

#[derive(Debug, Default)]
struct Counters {
    delivered: AtomicU64,
    failed: AtomicU64,
    dead: AtomicU64,
}

/// What all workers need.
#[derive(Debug)]
struct Shared {
    store: Store,
    settings: WebhookSettings,
    retry: Retry,
    counters: Counters,
}

/// All webhooks.
#[derive(Debug)]
pub struct Webhooks {
    shared: Arc<Shared>,
    running: Mutex<Running>,
    /// Held while the store and `running` change together.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Running {
    /// In the order in which they were added.
    hooks: Vec<Worker>,
    dispatch: Option<JoinHandle<()>>,
    closing: bool,
}

#[derive(Debug)]
struct Worker {
    hook: Arc<Hook>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Webhooks {
    /// None yet: [`Self::restore`] brings those that are kept in `store`.
    pub fn new(store: Store, settings: WebhookSettings) -> Arc<Self> {
        let retry = Retry { tries: settings.tries, first: settings.first_retry };
        Arc::new(Self {
            shared: Arc::new(Shared { store, settings, retry, counters: Counters::default() }),
            running: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        })
    }

    /// Brings back what is kept, and sends what `journal` tells from now on.
    pub async fn restore(self: &Arc<Self>, journal: &Arc<Journal>) -> Result<(), StoreError> {
        let events = journal.read();
        let store = &self.shared.store;
        let (kept, mut pending) = (store.webhooks().await?, BTreeMap::<String, Vec<_>>::new());
        for delivery in store.deliveries(None, Some(DeliveryState::Pending)).await? {
            pending.entry(delivery.webhook.clone()).or_default().push(delivery);
        }
        for kept in kept {
            let (id, waiting) = (kept.id.clone(), pending.remove(&kept.id).unwrap_or_default());
            match Webhook::restore(kept) {
                Ok(webhook) => self.run(webhook, waiting),
                Err(error) => error!(webhook = id, %error, "A webhook that was kept can't be used."),
            }
        }
        self.running.lock().dispatch = Some(tokio::spawn(dispatch::run(self.clone(), events)));
        Ok(())
    }

    /// None, in a store that forgets, and told of nothing: for parts that are tried alone.
    #[cfg(test)]
    pub fn idle() -> Arc<Self> {
        let settings = WebhookSettings {
            guard: EgressGuard::default(),
            tries: 1,
            first_retry: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
        };
        Self::new(Store::in_memory(), settings)
    }

    /// All, in the order in which they were added.
    pub fn list(&self) -> Vec<Arc<Webhook>> {
        self.running.lock().hooks.iter().map(|worker| worker.hook.webhook()).collect()
    }

    /// One of them.
    pub fn get(&self, id: &str) -> Result<Arc<Webhook>, WebhookError> {
        self.hook(id).map(|hook| hook.webhook())
    }

    /// Deliveries of a webhook that wait.
    pub fn pending(&self, id: &str) -> usize {
        self.hook(id).map_or(0, |hook| hook.pending())
    }

    /// Deliveries that wait, of all.
    pub fn pending_in_all(&self) -> usize {
        self.running.lock().hooks.iter().map(|worker| worker.hook.pending()).sum()
    }

    /// Attempts since the start.
    pub fn counts(&self) -> DeliveryCounts {
        let Counters { delivered, failed, dead } = &self.shared.counters;
        DeliveryCounts {
            delivered: delivered.load(Relaxed),
            failed: failed.load(Relaxed),
            dead: dead.load(Relaxed),
        }
    }

    /// Adds a webhook.
    pub async fn add(&self, new: NewWebhook) -> Result<Arc<Webhook>, WebhookError> {
        let webhook = Webhook::new(new, &self.shared.settings.guard, Utc::now())?;
        let _changing = self.changing.lock().await;
        {
            let running = self.running.lock();
            if running.closing {
                return Err(WebhookError::Closing);
            }
            if running.hooks.len() >= MOST {
                return Err(WebhookError::TooMany(MOST));
            }
        }
        self.shared.store.put_webhook(webhook.stored()).await?;
        let id = webhook.id.clone();
        info!(webhook = id, url = webhook.masked_url(), "Webhook added.");
        self.run(webhook, Vec::new());
        self.get(&id)
    }

    /// Changes a webhook. What waits goes where it leads then.
    pub async fn change(&self, id: &str, change: WebhookChange) -> Result<Arc<Webhook>, WebhookError> {
        let _changing = self.changing.lock().await;
        let hook = self.hook(id)?;
        let changed = hook.webhook().changed(change, &self.shared.settings.guard)?;
        self.shared.store.put_webhook(changed.stored()).await?;
        hook.replace(changed);
        Ok(hook.webhook())
    }

    /// Removes a webhook with all its deliveries.
    pub async fn remove(&self, id: &str) -> Result<(), WebhookError> {
        let _changing = self.changing.lock().await;
        self.hook(id)?;
        self.shared.store.remove_webhook(id.to_owned()).await?;
        let removed: Vec<Worker> =
            self.running.lock().hooks.extract_if(.., |worker| worker.hook.webhook().id == id).collect();
        for worker in removed {
            worker.end().await;
        }
        info!(webhook = id, "Webhook removed.");
        Ok(())
    }

    /// The deliveries of a webhook that wait or are dead, the oldest first.
    pub async fn deliveries(
        &self,
        id: &str,
        state: Option<DeliveryState>,
    ) -> Result<Vec<StoredDelivery>, WebhookError> {
        self.hook(id)?;
        Ok(self.shared.store.deliveries(Some(id.to_owned()), state).await?)
    }

    /// Has a dead delivery tried again, behind what waits for its stream.
    pub async fn redeliver(&self, id: &str, delivery: i64) -> Result<StoredDelivery, WebhookError> {
        let hook = self.hook(id)?;
        let revived = self.shared.store.revive_delivery(id.to_owned(), delivery, Utc::now()).await?;
        let revived = revived.ok_or(WebhookError::UnknownDelivery)?;
        hook.push(revived.clone());
        Ok(revived)
    }

    /// Sends a `webhook.test` at once, once, whether the webhook is enabled or not, and says how it went.
    pub async fn test(&self, id: &str) -> Result<Result<Attempted, AttemptError>, WebhookError> {
        let hook = self.hook(id)?;
        Ok(hook.test(&self.shared.settings).await)
    }

    /// Returns when all that the journal has told is in the store and no attempt runs. The journal must have
    /// been closed.
    pub async fn shutdown(&self) {
        let dispatch = {
            let mut running = self.running.lock();
            running.closing = true;
            running.dispatch.take()
        };
        if let Some(Err(error)) = joined(dispatch).await {
            error!(%error, "The task that hands events to webhooks failed.");
        }
        let hooks = std::mem::take(&mut self.running.lock().hooks);
        for worker in &hooks {
            worker.cancel.cancel();
        }
        for worker in hooks {
            worker.end().await;
        }
    }

    fn hook(&self, id: &str) -> Result<Arc<Hook>, WebhookError> {
        let running = self.running.lock();
        let found = running.hooks.iter().find(|worker| worker.hook.webhook().id == id);
        found.map(|worker| worker.hook.clone()).ok_or(WebhookError::Unknown)
    }

    fn hooks(&self) -> Vec<Arc<Hook>> {
        self.running.lock().hooks.iter().map(|worker| worker.hook.clone()).collect()
    }

    fn run(&self, webhook: Webhook, waiting: Vec<StoredDelivery>) {
        let hook = Arc::new(Hook::new(webhook));
        waiting.into_iter().for_each(|delivery| hook.push(delivery));
        let cancel = CancellationToken::new();
        let task = tokio::spawn(worker::run(hook.clone(), self.shared.clone(), cancel.clone()));
        self.running.lock().hooks.push(Worker { hook, cancel, task });
    }
}

impl Worker {
    async fn end(self) {
        self.cancel.cancel();
        if let Err(error) = self.task.await {
            error!(%error, "The worker of a webhook failed.");
        }
    }
}

async fn joined(task: Option<JoinHandle<()>>) -> Option<Result<(), tokio::task::JoinError>> {
    Some(task?.await)
}
