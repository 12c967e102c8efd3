//! One key or token, and what others may see of it.

use super::secrets::Hash;
use crate::media::StreamName;
use crate::store::StoredKey;
use chrono::{DateTime, SubsecRound, Utc};
use serde::Serialize;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use utoipa::ToSchema;

/// What a key is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Publishing this stream.
    Publish(StreamName),
    /// The API.
    Administer,
}

/// A request for a key.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// What people call it.
    pub name: Option<String>,
    /// From when on it opens nothing.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A key or token, without itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Key)]
pub struct KeyView {
    /// Names it in URLs; it opens nothing.
    #[schema(example = "0123456789abcdef")]
    pub id: String,
    /// What people call it.
    pub name: Option<String>,
    /// Its last four characters.
    #[schema(example = "wxyz")]
    pub hint: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// From when on it opens nothing; `null`: never.
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether that time has come.
    pub expired: bool,
    /// When it was shown last.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// A key as the keyring has it.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) id: String,
    pub(super) purpose: Purpose,
    pub(super) hash: Hash,
    name: Option<String>,
    hint: String,
    created_at: DateTime<Utc>,
    /// Milliseconds since 1970; [`NEVER`].
    expires_at: AtomicI64,
    /// Milliseconds since 1970; [`NEVER`].
    last_used_at: AtomicI64,
    /// What of that is written down.
    pub(super) written: AtomicI64,
}

const NEVER: i64 = i64::MAX;

impl Key {
    pub(super) fn new(
        id: String,
        purpose: Purpose,
        hash: Hash,
        hint: String,
        new: NewKey,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            id,
            purpose,
            hash,
            name: new.name,
            hint,
            created_at: now.trunc_subsecs(3),
            expires_at: AtomicI64::new(millis(new.expires_at)),
            last_used_at: AtomicI64::new(NEVER),
            written: AtomicI64::new(NEVER),
        }
    }

    pub(super) fn is_expired(&self, now: DateTime<Utc>) -> bool {
        now.timestamp_millis() >= self.expires_at.load(Relaxed)
    }

    pub(super) fn expires_at(&self) -> Option<DateTime<Utc>> {
        time(self.expires_at.load(Relaxed))
    }

    pub(super) fn expire(&self, at: DateTime<Utc>) {
        self.expires_at.store(at.timestamp_millis(), Relaxed);
    }

    pub(super) fn name(&self) -> Option<String> {
        self.name.clone()
    }

    /// It was shown.
    pub(super) fn used(&self, now: DateTime<Utc>) {
        self.last_used_at.store(now.timestamp_millis(), Relaxed);
    }

    /// When it was shown last, if that is not written down yet.
    pub(super) fn unwritten(&self) -> Option<DateTime<Utc>> {
        let last = self.last_used_at.load(Relaxed);
        if last == self.written.load(Relaxed) { None } else { time(last) }
    }

    pub(super) fn view(&self, now: DateTime<Utc>) -> KeyView {
        KeyView {
            id: self.id.clone(),
            name: self.name.clone(),
            hint: self.hint.clone(),
            created_at: self.created_at,
            expires_at: self.expires_at(),
            expired: self.is_expired(now),
            last_used_at: time(self.last_used_at.load(Relaxed)),
        }
    }

    pub(super) fn stored(&self) -> StoredKey {
        StoredKey {
            id: self.id.clone(),
            stream: match &self.purpose {
                Purpose::Publish(stream) => Some(stream.clone()),
                Purpose::Administer => None,
            },
            name: self.name.clone(),
            hash: self.hash,
            hint: self.hint.clone(),
            created_at: self.created_at,
            expires_at: self.expires_at(),
            last_used_at: time(self.last_used_at.load(Relaxed)),
        }
    }
}

impl From<StoredKey> for Key {
    fn from(stored: StoredKey) -> Self {
        let last_used_at = millis(stored.last_used_at);
        Self {
            id: stored.id,
            purpose: stored.stream.map_or(Purpose::Administer, Purpose::Publish),
            hash: stored.hash,
            name: stored.name,
            hint: stored.hint,
            created_at: stored.created_at,
            expires_at: AtomicI64::new(millis(stored.expires_at)),
            last_used_at: AtomicI64::new(last_used_at),
            written: AtomicI64::new(last_used_at),
        }
    }
}

fn millis(time: Option<DateTime<Utc>>) -> i64 {
    time.map_or(NEVER, |time| time.timestamp_millis())
}

fn time(millis: i64) -> Option<DateTime<Utc>> {
    if millis == NEVER { None } else { DateTime::from_timestamp_millis(millis) }
}
