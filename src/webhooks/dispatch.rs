//! The one task that hands the journal's events to the webhooks that want them.

use super::worker::Hook;
use super::{PENDING, Webhooks};
use crate::events::{Event, News, Reader};
use crate::store::{DeliveryState, StoredDelivery};
use chrono::Utc;
use futures_util::FutureExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tracing::{error, warn};

/// Events that are kept together.
const BATCH: usize = 100;

/// Runs until the journal ends.
pub(super) async fn run(webhooks: Arc<Webhooks>, mut events: Reader) {
    while let Some(news) = events.next().await {
        let mut batch = Vec::new();
        note(news, &mut batch);
        while batch.len() < BATCH
            && let Some(Some(news)) = events.next().now_or_never()
        {
            note(news, &mut batch);
        }
        hand_over(&webhooks, &batch).await;
    }
}

fn note(news: News, batch: &mut Vec<Arc<Event>>) {
    match news {
        News::Event(event) => batch.push(event),
        News::Gap => error!("Events came faster than they could be kept: webhooks miss some."),
    }
}

/// Puts a delivery for each webhook that wants one into the store and into its queue.
async fn hand_over(webhooks: &Webhooks, events: &[Arc<Event>]) {
    let hooks = webhooks.hooks();
    let mut deliveries = Vec::new();
    for hook in &hooks {
        let webhook = hook.webhook();
        let wanted = events.iter().filter(|event| webhook.wants(event));
        for (pending, event) in (hook.pending()..).zip(wanted) {
            deliveries.push(delivery(&webhook.id, event, pending < PENDING));
        }
    }
    if deliveries.is_empty() {
        return;
    }
    let dead = deliveries.iter().filter(|delivery| delivery.state == DeliveryState::Dead).count();
    if dead > 0 {
        warn!(dead, "Too many deliveries wait for a webhook; new ones are dead at once.");
        webhooks.shared.counters.dead.fetch_add(dead as u64, Relaxed);
    }
    match webhooks.shared.store.add_deliveries(deliveries).await {
        Ok(kept) => push(&hooks, kept),
        Err(error) => error!(%error, "Events can't be kept for webhooks: they are lost to them."),
    }
}

fn push(hooks: &[Arc<Hook>], kept: Vec<StoredDelivery>) {
    for delivery in kept.into_iter().filter(|delivery| delivery.state == DeliveryState::Pending) {
        if let Some(hook) = hooks.iter().find(|hook| hook.webhook().id == delivery.webhook) {
            hook.push(delivery);
        }
    }
}

fn delivery(webhook: &str, event: &Event, has_room: bool) -> StoredDelivery {
    let now = Utc::now();
    StoredDelivery {
        id: 0, // the store gives it one
        webhook: webhook.to_owned(),
        event: event.id.to_string(),
        kind: event.kind.to_string(),
        stream: event.stream.clone(),
        body: event.json().clone(),
        state: if has_room { DeliveryState::Pending } else { DeliveryState::Dead },
        attempts: 0,
        next_try: now,
        error: (!has_room).then(|| format!("{PENDING} deliveries were waiting already")),
        created_at: now,
    }
}
