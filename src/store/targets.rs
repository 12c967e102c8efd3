//! The table of restream targets.

use super::{Store, StoreError, time};
use crate::media::{Secret, StreamName};
use chrono::{DateTime, Utc};
use rusqlite::types::Type;
use rusqlite::{Row, params};

/// A restream target as it is kept.
#[derive(Clone, Debug)]
pub struct StoredTarget {
    /// Names it for ever.
    pub id: String,
    /// Whose media it gets.
    pub stream: StreamName,
    /// As typed.
    pub url: Secret,
    /// What people call it; the host if `None`.
    pub name: Option<String>,
    /// False: paused.
    pub enabled: bool,
    /// Bits a second of the sound; `None`: as it comes.
    pub audio_bitrate: Option<u32>,
    /// When it was added, in milliseconds.
    pub created_at: DateTime<Utc>,
    /// Rises with each change.
    pub version: u32,
}

impl Store {
    /// All targets, in the order in which they were added.
    pub async fn targets(&self) -> Result<Vec<StoredTarget>, StoreError> {
        self.call(|transaction| {
            let sql = "SELECT id, stream, url, name, enabled, audio_bitrate, created_at, version FROM targets \
                       ORDER BY rowid";
            transaction.prepare(sql)?.query_map([], read)?.collect()
        })
        .await
    }

    /// Adds a target.
    pub async fn add_target(&self, target: StoredTarget) -> Result<(), StoreError> {
        self.call(move |transaction| {
            let sql = "INSERT INTO targets (id, stream, url, name, enabled, audio_bitrate, created_at, version) \
                       VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
            transaction.execute(
                sql,
                params![
                    target.id,
                    target.stream.as_str(),
                    target.url.reveal(),
                    target.name,
                    target.enabled,
                    target.audio_bitrate,
                    target.created_at.timestamp_millis(),
                    target.version,
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// Changes what can be changed of a target: URL, name, switch, sound.
    pub async fn change_target(&self, target: StoredTarget) -> Result<(), StoreError> {
        self.call(move |transaction| {
            let sql = "UPDATE targets SET url = ?, name = ?, enabled = ?, audio_bitrate = ?, version = ? \
                       WHERE id = ?";
            transaction.execute(
                sql,
                params![
                    target.url.reveal(),
                    target.name,
                    target.enabled,
                    target.audio_bitrate,
                    target.version,
                    target.id,
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// Forgets a target.
    pub async fn remove_target(&self, id: String) -> Result<(), StoreError> {
        self.call(move |transaction| {
            transaction.execute("DELETE FROM targets WHERE id = ?", [id])?;
            Ok(())
        })
        .await
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<StoredTarget> {
    let stream: String = row.get("stream")?;
    let wrong = |error| rusqlite::Error::FromSqlConversionFailure(1, Type::Text, error);
    Ok(StoredTarget {
        id: row.get("id")?,
        stream: stream.parse().map_err(|error| wrong(Box::new(error)))?,
        url: Secret::new(row.get::<_, String>("url")?),
        name: row.get("name")?,
        enabled: row.get("enabled")?,
        audio_bitrate: row.get("audio_bitrate")?,
        created_at: time(row, "created_at")?,
        version: row.get("version")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(id: &str) -> StoredTarget {
        StoredTarget {
            id: id.to_owned(),
            stream: "show".parse().expect("valid"),
            url: Secret::new("rtmp://host/app/k'e\"y?ü=%00"),
            name: None,
            enabled: true,
            audio_bitrate: Some(96_000),
            created_at: DateTime::from_timestamp_millis(1_700_000_000_123).expect("a time"),
            version: 1,
        }
    }

    #[tokio::test]
    async fn targets_are_there_again_after_another_start() {
        let home = tempfile::tempdir().expect("a folder");
        let store = Store::open(home.path()).await.expect("made");
        for id in ["b", "a", "c"] {
            store.add_target(target(id)).await.expect("added");
        }
        let mut changed = target("a");
        (changed.name, changed.enabled, changed.audio_bitrate, changed.version) =
            (Some("Main".to_owned()), false, None, 2);
        store.change_target(changed).await.expect("changed");
        store.remove_target("c".to_owned()).await.expect("removed");
        drop(store);
        let found = Store::open(home.path()).await.expect("opened").targets().await.expect("readable");
        let ids: Vec<_> = found.iter().map(|target| target.id.as_str()).collect();
        assert_eq!(ids, ["b", "a"], "in the order in which they came");
        assert_eq!(found[0].url.reveal(), target("b").url.reveal());
        assert_eq!((found[0].created_at, found[0].audio_bitrate), (target("b").created_at, Some(96_000)));
        let changed = &found[1];
        assert_eq!((changed.name.as_deref(), changed.enabled, changed.version), (Some("Main"), false, 2));
    }

    #[tokio::test]
    async fn an_error_leaves_nothing_half_done() {
        let store = Store::in_memory();
        store.add_target(target("a")).await.expect("added");
        assert!(store.add_target(target("a")).await.is_err(), "there is one already");
        assert_eq!(store.targets().await.expect("readable").len(), 1);
    }
}
