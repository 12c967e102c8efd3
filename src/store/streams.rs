//! The table of declared streams.

use super::{Store, StoreError, time};
use crate::media::StreamName;
use chrono::{DateTime, Utc};
use rusqlite::types::Type;
use rusqlite::{Row, params};

/// A declared stream as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredStream {
    /// Its name.
    pub name: StreamName,
    /// What people call it.
    pub title: Option<String>,
    /// Seconds that it waits for its publisher's return; `None`: as configured.
    pub grace: Option<u32>,
    /// When it was declared, in milliseconds.
    pub created_at: DateTime<Utc>,
    /// When it was last changed, in milliseconds.
    pub updated_at: DateTime<Utc>,
}

impl Store {
    /// All declared streams.
    pub async fn streams(&self) -> Result<Vec<StoredStream>, StoreError> {
        self.call(|transaction| {
            let sql = "SELECT name, title, grace, created_at, updated_at FROM streams";
            transaction.prepare(sql)?.query_map([], read)?.collect()
        })
        .await
    }

    /// Keeps a stream, in place of what was kept under its name.
    pub async fn put_stream(&self, stream: StoredStream) -> Result<(), StoreError> {
        self.call(move |transaction| {
            let sql = "INSERT OR REPLACE INTO streams (name, title, grace, created_at, updated_at) \
                       VALUES (?, ?, ?, ?, ?)";
            let (created, updated) =
                (stream.created_at.timestamp_millis(), stream.updated_at.timestamp_millis());
            transaction
                .execute(sql, params![stream.name.as_str(), stream.title, stream.grace, created, updated])?;
            Ok(())
        })
        .await
    }

    /// Forgets a stream.
    pub async fn remove_stream(&self, name: StreamName) -> Result<(), StoreError> {
        self.call(move |transaction| {
            transaction.execute("DELETE FROM streams WHERE name = ?", [name.as_str()])?;
            Ok(())
        })
        .await
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<StoredStream> {
    let name: String = row.get("name")?;
    let wrong = |error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error));
    Ok(StoredStream {
        name: name.parse().map_err(wrong)?,
        title: row.get("title")?,
        grace: row.get("grace")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn streams_are_there_again_after_another_start() {
        let home = tempfile::tempdir().expect("a folder");
        let store = Store::open(home.path()).await.expect("made");
        let created_at = DateTime::from_timestamp_millis(1_700_000_000_123).expect("a time");
        let stream = |name: &str, grace| StoredStream {
            name: name.parse().expect("valid"),
            title: Some("A show".to_owned()),
            grace,
            created_at,
            updated_at: created_at,
        };
        for kept in [stream("a", Some(0)), stream("b", None), stream("a", Some(5))] {
            store.put_stream(kept).await.expect("kept");
        }
        store.remove_stream("b".parse().expect("valid")).await.expect("removed");
        drop(store);
        let store = Store::open(home.path()).await.expect("opened");
        assert_eq!(store.streams().await.expect("readable"), [stream("a", Some(5))]);
    }
}
