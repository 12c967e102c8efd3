//! The table of webhooks.

use super::{Store, StoreError};
use crate::media::Secret;
use chrono::{DateTime, Utc};
use rusqlite::{Row, params};

/// A webhook as it is kept.
#[derive(Clone, Debug)]
pub struct StoredWebhook {
    /// Names it for ever.
    pub id: String,
    /// As typed.
    pub url: Secret,
    /// Types and groups of types; empty: all.
    pub events: Vec<String>,
    /// Names of streams; empty: all.
    pub streams: Vec<String>,
    /// What deliveries are signed with.
    pub secret: Secret,
    /// False: paused.
    pub enabled: bool,
    /// When it was added, in milliseconds.
    pub created_at: DateTime<Utc>,
    /// Rises with each change.
    pub version: u32,
}

impl Store {
    /// All webhooks, in the order in which they were added.
    pub async fn webhooks(&self) -> Result<Vec<StoredWebhook>, StoreError> {
        self.call(|transaction| {
            let sql = "SELECT id, url, events, streams, secret, enabled, created_at, version FROM webhooks \
                       ORDER BY rowid";
            transaction.prepare(sql)?.query_map([], read)?.collect()
        })
        .await
    }

    /// Adds a webhook, or changes the one of the same id.
    pub async fn put_webhook(&self, webhook: StoredWebhook) -> Result<(), StoreError> {
        self.call(move |transaction| {
            let sql = "INSERT INTO webhooks (id, url, events, streams, secret, enabled, created_at, version) \
                       VALUES (?, ?, ?, ?, ?, ?, ?, ?) \
                       ON CONFLICT (id) DO UPDATE SET url = excluded.url, events = excluded.events, \
                       streams = excluded.streams, secret = excluded.secret, enabled = excluded.enabled, \
                       version = excluded.version";
            transaction.execute(
                sql,
                params![
                    webhook.id,
                    webhook.url.reveal(),
                    webhook.events.join(","),
                    webhook.streams.join(","),
                    webhook.secret.reveal(),
                    webhook.enabled,
                    webhook.created_at.timestamp_millis(),
                    webhook.version,
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// Forgets a webhook and its deliveries.
    pub async fn remove_webhook(&self, id: String) -> Result<(), StoreError> {
        self.call(move |transaction| {
            transaction.execute("DELETE FROM webhooks WHERE id = ?", [id])?;
            Ok(())
        })
        .await
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<StoredWebhook> {
    let names = |column: &str| -> rusqlite::Result<Vec<String>> {
        let text: String = row.get(column)?;
        Ok(text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    };
    let millis = row.get("created_at")?;
    Ok(StoredWebhook {
        id: row.get("id")?,
        url: Secret::new(row.get::<_, String>("url")?),
        events: names("events")?,
        streams: names("streams")?,
        secret: Secret::new(row.get::<_, String>("secret")?),
        enabled: row.get("enabled")?,
        created_at: DateTime::from_timestamp_millis(millis)
            .ok_or(rusqlite::Error::IntegralValueOutOfRange(6, millis))?,
        version: row.get("version")?,
    })
}

#[cfg(test)]
pub(super) fn webhook(id: &str) -> StoredWebhook {
    StoredWebhook {
        id: id.to_owned(),
        url: Secret::new("https://user:pass@host/p'ath?key=\"ü"),
        events: vec!["stream".to_owned(), "viewers.left".to_owned()],
        streams: Vec::new(),
        secret: Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        enabled: true,
        created_at: DateTime::from_timestamp_millis(1_700_000_000_123).expect("a time"),
        version: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn webhooks_are_kept_changed_and_forgotten() {
        let store = Store::in_memory();
        for id in ["b", "a", "c"] {
            store.put_webhook(webhook(id)).await.expect("added");
        }
        let changed = StoredWebhook { enabled: false, version: 2, events: Vec::new(), ..webhook("b") };
        store.put_webhook(changed).await.expect("changed");
        store.remove_webhook("c".to_owned()).await.expect("removed");
        let found = store.webhooks().await.expect("readable");
        let ids: Vec<_> = found.iter().map(|webhook| webhook.id.as_str()).collect();
        assert_eq!(ids, ["b", "a"], "in the order in which they came");
        assert_eq!((found[0].enabled, found[0].version, found[0].events.len()), (false, 2, 0));
        let (kept, asked) = (&found[1], webhook("a"));
        assert_eq!((kept.url.reveal(), kept.secret.reveal()), (asked.url.reveal(), asked.secret.reveal()));
        assert_eq!(
            (&kept.events, &kept.streams, kept.created_at),
            (&asked.events, &asked.streams, asked.created_at)
        );
    }
}
