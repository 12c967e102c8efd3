//! The task of one webhook: takes what is due, tries it, and settles how it went.

use super::queue::Queue;
use super::sender::{Message, Sender};
use super::{AttemptError, Attempted, Shared, Webhook, WebhookSettings};
use crate::store::StoredDelivery;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

/// Attempts of one webhook at a time, each of another stream.
const AT_ONCE: usize = 4;
/// For attempts that are under way when the gateway ends; what is cut off is tried again after a restart.
const LAST_ATTEMPTS: Duration = Duration::from_secs(1);

/// A webhook with what waits for it.
#[derive(Debug)]
pub(super) struct Hook {
    webhook: Mutex<Arc<Webhook>>,
    queue: Mutex<Queue>,
    /// Until when the receiver wants to be left alone.
    rests_until: Mutex<Option<DateTime<Utc>>>,
    changed: Notify,
    sender: Sender,
}

impl Hook {
    pub(super) fn new(webhook: Webhook) -> Self {
        Self {
            webhook: Mutex::new(Arc::new(webhook)),
            queue: Mutex::default(),
            rests_until: Mutex::default(),
            changed: Notify::new(),
            sender: Sender::default(),
        }
    }

    /// As it is now.
    pub(super) fn webhook(&self) -> Arc<Webhook> {
        self.webhook.lock().clone()
    }

    pub(super) fn replace(&self, webhook: Webhook) {
        *self.webhook.lock() = Arc::new(webhook);
        // Perhaps it leads elsewhere.
        *self.rests_until.lock() = None;
        self.changed.notify_one();
    }

    pub(super) fn push(&self, delivery: StoredDelivery) {
        self.queue.lock().push(delivery);
        self.changed.notify_one();
    }

    pub(super) fn pending(&self) -> usize {
        self.queue.lock().len()
    }

    /// A delivery that is due, unless the receiver rests.
    fn take(&self, now: DateTime<Utc>) -> Option<StoredDelivery> {
        let rests = self.rests_until.lock().is_some_and(|until| now < until);
        if rests { None } else { self.queue.lock().take(now) }
    }

    /// When there is something to be done.
    fn next_due(&self) -> Option<DateTime<Utc>> {
        let due = self.queue.lock().next_due()?;
        Some(self.rests_until.lock().map_or(due, |until| due.max(until)))
    }

    /// One attempt with a message that says that it is a test.
    pub(super) async fn test(&self, settings: &WebhookSettings) -> Result<Attempted, AttemptError> {
        let (webhook, now) = (self.webhook(), Utc::now());
        let id = format!("test-{:016x}", rand::random::<u64>());
        let time = now.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        let body = json!({ "id": id, "type": "webhook.test", "time": time, "stream": null, "data": {} });
        let body = body.to_string();
        self.sender.attempt(&webhook, Message { id: &id, body: &body }, settings, now).await
    }
}

/// How one attempt ended.
type Ended = (StoredDelivery, Result<Attempted, AttemptError>);

/// Serves `hook` until `cancel`.
pub(super) async fn run(hook: Arc<Hook>, shared: Arc<Shared>, cancel: CancellationToken) {
    let mut attempts: JoinSet<Ended> = JoinSet::new();
    loop {
        let webhook = hook.webhook();
        while webhook.enabled && attempts.len() < AT_ONCE {
            let Some(delivery) = hook.take(Utc::now()) else { break };
            attempts.spawn(attempt(hook.clone(), shared.clone(), webhook.clone(), delivery));
        }
        let due = hook.next_due().filter(|_| webhook.enabled && attempts.len() < AT_ONCE);
        tokio::select! {
            () = cancel.cancelled() => break,
            () = hook.changed.notified() => {}
            Some(ended) = attempts.join_next() => settle(&hook, &shared, ended).await,
            () = until(due) => {}
        }
    }
    let last = async {
        while let Some(ended) = attempts.join_next().await {
            settle(&hook, &shared, ended).await;
        }
    };
    if timeout(LAST_ATTEMPTS, last).await.is_err() {
        debug!(webhook = hook.webhook().id, "Deliveries were cut off; they are tried again after a restart.");
    }
}

/// Waits for `due`, or for ever.
async fn until(due: Option<DateTime<Utc>>) {
    match due {
        Some(due) => tokio::time::sleep((due - Utc::now()).to_std().unwrap_or_default()).await,
        None => std::future::pending().await,
    }
}

async fn attempt(
    hook: Arc<Hook>,
    shared: Arc<Shared>,
    webhook: Arc<Webhook>,
    delivery: StoredDelivery,
) -> Ended {
    let message = Message { id: &delivery.event, body: &delivery.body };
    let result = hook.sender.attempt(&webhook, message, &shared.settings, Utc::now()).await;
    (delivery, result)
}

async fn settle(hook: &Hook, shared: &Shared, ended: Result<Ended, tokio::task::JoinError>) {
    let (mut delivery, result) = match ended {
        Ok(ended) => ended,
        // Its stream's lane stays shut until a restart: a fault of ours must not send out of order.
        Err(error) => return error!(%error, "An attempt to deliver an event failed in itself."),
    };
    let stream = delivery.stream.clone();
    let (again, stored) = match result {
        Ok(Attempted { status, took }) => {
            debug!(webhook = delivery.webhook, event = delivery.event, status, ?took, "Event delivered.");
            shared.counters.delivered.fetch_add(1, Relaxed);
            (None, shared.store.forget_delivery(delivery.id).await)
        }
        Err(error) => {
            delivery.attempts += 1;
            delivery.error = Some(error.to_string());
            let asked = error.pause();
            if let Some(asked) = asked {
                *hook.rests_until.lock() = Some(Utc::now() + asked);
            }
            let pause = shared.retry.after(delivery.attempts, rand::random());
            let pause = pause.map(|pause| pause.max(asked.unwrap_or_default()));
            let (webhook, event, attempt) = (&delivery.webhook, &delivery.event, delivery.attempts);
            match pause {
                Some(pause) => {
                    debug!(webhook, event, attempt, %error, ?pause, "An event was not delivered.");
                    shared.counters.failed.fetch_add(1, Relaxed);
                    delivery.next_try = Utc::now() + pause;
                    (Some(delivery.clone()), shared.store.postpone_delivery(delivery).await)
                }
                None => {
                    warn!(webhook, event, attempt, %error, "An event was not delivered, and is given up.");
                    shared.counters.dead.fetch_add(1, Relaxed);
                    (None, shared.store.bury_delivery(delivery).await)
                }
            }
        }
    };
    if let Err(error) = stored {
        error!(%error, "How a delivery went can't be kept; after a restart it may be sent once more.");
    }
    hook.queue.lock().settle(&stream, again);
}
