//! The table of publish keys and admin tokens: their hashes, never themselves.

use super::{Store, StoreError, time};
use crate::media::StreamName;
use chrono::{DateTime, Utc};
use rusqlite::types::Type;
use rusqlite::{Row, Transaction, params};

/// A key or token as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// Names it for ever.
    pub id: String,
    /// The stream that it opens; `None`: it is an admin token.
    pub stream: Option<StreamName>,
    /// What people call it.
    pub name: Option<String>,
    /// SHA-256 of it.
    pub hash: [u8; 32],
    /// Its last four characters.
    pub hint: String,
    /// When it was made, in milliseconds.
    pub created_at: DateTime<Utc>,
    /// From when on it opens nothing.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was shown last, as far as that was written down.
    pub last_used_at: Option<DateTime<Utc>>,
}

impl Store {
    /// All keys and tokens, in the order in which they were made.
    pub async fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        self.call(|transaction| {
            let sql = "SELECT id, stream, name, hash, hint, created_at, expires_at, last_used_at FROM keys \
                       ORDER BY rowid";
            transaction.prepare(sql)?.query_map([], read)?.collect()
        })
        .await
    }

    /// Keeps a new key, and at the same time lets another expire if `instead_of` says which and when.
    pub async fn add_key(
        &self,
        key: StoredKey,
        instead_of: Option<(String, DateTime<Utc>)>,
    ) -> Result<(), StoreError> {
        self.call(move |transaction| {
            insert(transaction, &key)?;
            if let Some((id, expires)) = instead_of {
                let sql = "UPDATE keys SET expires_at = ? WHERE id = ?";
                transaction.execute(sql, params![expires.timestamp_millis(), id])?;
            }
            Ok(())
        })
        .await
    }

    /// Forgets a key.
    pub async fn remove_key(&self, id: String) -> Result<(), StoreError> {
        self.call(move |transaction| {
            transaction.execute("DELETE FROM keys WHERE id = ?", [id])?;
            Ok(())
        })
        .await
    }

    /// Writes down when keys were shown last.
    pub async fn keys_used(&self, used: Vec<(String, DateTime<Utc>)>) -> Result<(), StoreError> {
        self.call(move |transaction| {
            let mut statement = transaction.prepare("UPDATE keys SET last_used_at = ? WHERE id = ?")?;
            for (id, at) in used {
                statement.execute(params![at.timestamp_millis(), id])?;
            }
            Ok(())
        })
        .await
    }
}

fn insert(transaction: &Transaction<'_>, key: &StoredKey) -> rusqlite::Result<usize> {
    let sql = "INSERT INTO keys (id, stream, name, hash, hint, created_at, expires_at, last_used_at) \
               VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    transaction.execute(
        sql,
        params![
            key.id,
            key.stream.as_ref().map(StreamName::as_str),
            key.name,
            key.hash,
            key.hint,
            key.created_at.timestamp_millis(),
            key.expires_at.map(|time| time.timestamp_millis()),
            key.last_used_at.map(|time| time.timestamp_millis()),
        ],
    )
}

fn read(row: &Row<'_>) -> rusqlite::Result<StoredKey> {
    let stream: Option<String> = row.get("stream")?;
    let wrong = |error| rusqlite::Error::FromSqlConversionFailure(1, Type::Text, Box::new(error));
    let optional = |column: &str| match row.get::<_, Option<i64>>(column)? {
        Some(_) => time(row, column).map(Some),
        None => Ok(None),
    };
    Ok(StoredKey {
        id: row.get("id")?,
        stream: stream.map(|name| name.parse()).transpose().map_err(wrong)?,
        name: row.get("name")?,
        hash: row.get("hash")?,
        hint: row.get("hint")?,
        created_at: time(row, "created_at")?,
        expires_at: optional("expires_at")?,
        last_used_at: optional("last_used_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u8, stream: Option<&str>) -> StoredKey {
        StoredKey {
            id: format!("id-{id}"),
            stream: stream.map(|name| name.parse().expect("valid")),
            name: Some("Studio".to_owned()),
            hash: [id; 32],
            hint: "wxyz".to_owned(),
            created_at: DateTime::from_timestamp_millis(1_700_000_000_123).expect("a time"),
            expires_at: None,
            last_used_at: None,
        }
    }

    #[tokio::test]
    async fn keys_are_there_again_after_another_start() {
        let home = tempfile::tempdir().expect("a folder");
        let store = Store::open(home.path()).await.expect("made");
        let later = DateTime::from_timestamp_millis(1_800_000_000_000).expect("a time");
        store.add_key(key(2, Some("show")), None).await.expect("kept");
        store.add_key(key(1, None), None).await.expect("kept");
        store.add_key(key(3, Some("show")), Some(("id-2".to_owned(), later))).await.expect("kept");
        store.keys_used(vec![("id-3".to_owned(), later)]).await.expect("written");
        store.remove_key("id-1".to_owned()).await.expect("removed");
        assert!(store.add_key(StoredKey { id: "other".to_owned(), ..key(3, None) }, None).await.is_err());
        drop(store);
        let found = Store::open(home.path()).await.expect("opened").keys().await.expect("readable");
        let expected = [
            StoredKey { expires_at: Some(later), ..key(2, Some("show")) },
            StoredKey { last_used_at: Some(later), ..key(3, Some("show")) },
        ];
        assert_eq!(found, expected);
    }
}
