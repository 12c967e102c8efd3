//! The table of webhooks' deliveries: those that wait, and those that were given up.

use super::{Store, StoreError};
use crate::media::StreamName;
use chrono::{DateTime, Utc};
use rusqlite::types::Type;
use rusqlite::{OptionalExtension, Row, params};
use std::sync::Arc;

/// Dead deliveries of one webhook that are kept: of more, the latest.
const DEAD: u32 = 1_000;
const COLUMNS: &str = "id, webhook, event, kind, stream, body, dead, attempts, next_try, error, created_at";

/// Whether a delivery will be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// It waits for its turn, or for its next attempt.
    Pending,
    /// It was given up.
    Dead,
}

/// One event for one webhook.
#[derive(Clone, Debug)]
pub struct StoredDelivery {
    /// Names it; the store chooses it.
    pub id: i64,
    /// Whose it is.
    pub webhook: String,
    /// The event's id.
    pub event: String,
    /// The event's type.
    pub kind: String,
    /// The event's stream.
    pub stream: Option<StreamName>,
    /// What is sent.
    pub body: Arc<str>,
    /// Whether it will be tried.
    pub state: DeliveryState,
    /// Attempts that have failed.
    pub attempts: u32,
    /// Not before this.
    pub next_try: DateTime<Utc>,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// When it came about.
    pub created_at: DateTime<Utc>,
}

impl Store {
    /// Adds deliveries, and gives them back with their ids; those of webhooks that are gone are left out.
    pub async fn add_deliveries(
        &self,
        deliveries: Vec<StoredDelivery>,
    ) -> Result<Vec<StoredDelivery>, StoreError> {
        self.call(move |transaction| {
            let sql = "INSERT INTO deliveries \
                       (webhook, event, kind, stream, body, dead, attempts, next_try, error, created_at) \
                       SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10 \
                       WHERE EXISTS (SELECT 1 FROM webhooks WHERE id = ?1)";
            let mut statement = transaction.prepare(sql)?;
            let mut kept = Vec::with_capacity(deliveries.len());
            for mut delivery in deliveries {
                let added = statement.execute(params![
                    delivery.webhook,
                    delivery.event,
                    delivery.kind,
                    delivery.stream.as_ref().map(StreamName::as_str),
                    &*delivery.body,
                    delivery.state == DeliveryState::Dead,
                    delivery.attempts,
                    delivery.next_try.timestamp_millis(),
                    delivery.error,
                    delivery.created_at.timestamp_millis(),
                ])?;
                if added == 1 {
                    delivery.id = transaction.last_insert_rowid();
                    kept.push(delivery);
                }
            }
            Ok(kept)
        })
        .await
    }

    /// Deliveries in order; of one webhook or of all, in one state or in any.
    pub async fn deliveries(
        &self,
        webhook: Option<String>,
        state: Option<DeliveryState>,
    ) -> Result<Vec<StoredDelivery>, StoreError> {
        self.call(move |transaction| {
            let sql = format!(
                "SELECT {COLUMNS} FROM deliveries \
                 WHERE (?1 IS NULL OR webhook = ?1) AND (?2 IS NULL OR dead = ?2) ORDER BY id"
            );
            let dead = state.map(|state| state == DeliveryState::Dead);
            transaction.prepare(&sql)?.query_map(params![webhook, dead], read)?.collect()
        })
        .await
    }

    /// An attempt has failed; keeps how often, why, and when the next is due.
    pub async fn postpone_delivery(&self, delivery: StoredDelivery) -> Result<(), StoreError> {
        self.call(move |transaction| {
            let sql = "UPDATE deliveries SET attempts = ?, next_try = ?, error = ? WHERE id = ?";
            let next_try = delivery.next_try.timestamp_millis();
            transaction.execute(sql, params![delivery.attempts, next_try, delivery.error, delivery.id])?;
            Ok(())
        })
        .await
    }

    /// It was delivered.
    pub async fn forget_delivery(&self, id: i64) -> Result<(), StoreError> {
        self.call(move |transaction| {
            transaction.execute("DELETE FROM deliveries WHERE id = ?", [id])?;
            Ok(())
        })
        .await
    }

    /// The last attempt has failed. The oldest dead ones make room.
    pub async fn bury_delivery(&self, delivery: StoredDelivery) -> Result<(), StoreError> {
        self.call(move |transaction| {
            let sql = "UPDATE deliveries SET dead = TRUE, attempts = ?, error = ? WHERE id = ?";
            transaction.execute(sql, params![delivery.attempts, delivery.error, delivery.id])?;
            let sql = "DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries \
                       WHERE webhook = ? AND dead ORDER BY id DESC LIMIT -1 OFFSET ?)";
            transaction.execute(sql, params![delivery.webhook, DEAD])?;
            Ok(())
        })
        .await
    }

    /// Has a dead delivery tried again, from `now` on; `None` if the webhook has no such one.
    pub async fn revive_delivery(
        &self,
        webhook: String,
        id: i64,
        now: DateTime<Utc>,
    ) -> Result<Option<StoredDelivery>, StoreError> {
        self.call(move |transaction| {
            let sql = format!(
                "UPDATE deliveries SET dead = FALSE, attempts = 0, next_try = ? \
                 WHERE webhook = ? AND id = ? AND dead RETURNING {COLUMNS}"
            );
            let values = params![now.timestamp_millis(), webhook, id];
            transaction.query_row(&sql, values, read).optional()
        })
        .await
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<StoredDelivery> {
    let time = |column| {
        let millis = row.get(column)?;
        DateTime::from_timestamp_millis(millis).ok_or(rusqlite::Error::IntegralValueOutOfRange(8, millis))
    };
    let wrong = |error| rusqlite::Error::FromSqlConversionFailure(4, Type::Text, Box::new(error));
    let stream = row.get::<_, Option<String>>("stream")?;
    Ok(StoredDelivery {
        id: row.get("id")?,
        webhook: row.get("webhook")?,
        event: row.get("event")?,
        kind: row.get("kind")?,
        stream: stream.map(|name| name.parse()).transpose().map_err(wrong)?,
        body: row.get::<_, String>("body")?.into(),
        state: if row.get("dead")? { DeliveryState::Dead } else { DeliveryState::Pending },
        attempts: row.get("attempts")?,
        next_try: time("next_try")?,
        error: row.get("error")?,
        created_at: time("created_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::webhooks::webhook;

    fn delivery(webhook: &str, event: &str) -> StoredDelivery {
        let now = DateTime::from_timestamp_millis(1_700_000_000_123).expect("a time");
        StoredDelivery {
            id: 0,
            webhook: webhook.to_owned(),
            event: event.to_owned(),
            kind: "stream.started".to_owned(),
            stream: "show".parse().ok(),
            body: r#"{"data":{"text":"'ü'"}}"#.into(),
            state: DeliveryState::Pending,
            attempts: 0,
            next_try: now,
            error: None,
            created_at: now,
        }
    }

    async fn store() -> Store {
        let store = Store::in_memory();
        store.put_webhook(webhook("a")).await.expect("added");
        store
    }

    fn events(deliveries: &[StoredDelivery]) -> Vec<&str> {
        deliveries.iter().map(|delivery| delivery.event.as_str()).collect()
    }

    #[tokio::test]
    async fn a_delivery_waits_dies_and_is_revived() {
        let store = store().await;
        let new = ["1", "2", "3"].map(|event| delivery("a", event)).to_vec();
        let kept = store.add_deliveries([new, vec![delivery("gone", "4")]].concat()).await.expect("added");
        assert_eq!(events(&kept), ["1", "2", "3"], "a webhook that is gone has none");
        let mut failed = kept[0].clone();
        (failed.attempts, failed.error) = (3, Some("answered 500".to_owned()));
        store.postpone_delivery(failed.clone()).await.expect("postponed");
        store.forget_delivery(kept[1].id).await.expect("delivered");
        let pending = store.deliveries(None, Some(DeliveryState::Pending)).await.expect("readable");
        assert_eq!(events(&pending), ["1", "3"]);
        assert_eq!((pending[0].attempts, pending[0].error.as_deref()), (3, Some("answered 500")));
        assert_eq!((&pending[0].body, &pending[0].stream), (&failed.body, &failed.stream));

        store.bury_delivery(failed.clone()).await.expect("buried");
        let of = |state| store.deliveries(Some("a".to_owned()), Some(state));
        assert_eq!(events(&of(DeliveryState::Dead).await.expect("readable")), ["1"]);
        let revive = |webhook: &str, id| store.revive_delivery(webhook.to_owned(), id, Utc::now());
        assert!(revive("b", failed.id).await.expect("readable").is_none(), "of another webhook");
        assert!(revive("a", kept[2].id).await.expect("readable").is_none(), "not dead");
        let revived = revive("a", failed.id).await.expect("readable").expect("dead");
        assert_eq!((revived.attempts, revived.state), (0, DeliveryState::Pending));
        store.remove_webhook("a".to_owned()).await.expect("removed");
        assert!(store.deliveries(None, None).await.expect("readable").is_empty());
    }

    #[tokio::test]
    async fn the_dead_are_bounded() {
        let store = store().await;
        let all = (0..DEAD + 5).map(|event| delivery("a", &event.to_string())).collect();
        for delivery in store.add_deliveries(all).await.expect("added") {
            store.bury_delivery(delivery).await.expect("buried");
        }
        let dead = store.deliveries(None, Some(DeliveryState::Dead)).await.expect("readable");
        assert_eq!((dead.len(), events(&dead)[0]), (DEAD as usize, "5"), "the oldest made room");
    }
}
