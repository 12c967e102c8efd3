//! All keys and tokens that the API has made: in memory to be looked up, in the store to last.

use super::key::{Key, KeyView, NewKey, Purpose};
use super::secrets::{self, Hash, NoRandomness};
use crate::media::Secret;
use crate::store::{Store, StoreError};
use chrono::{DateTime, Utc};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Keys of one stream, and admin tokens.
const OF_ONE_PURPOSE: usize = 100;
/// In all.
const MOST: usize = 10_000;
/// The longest name, in characters.
const LONGEST_NAME: usize = 100;
/// How often it is written down when keys were last shown.
const WRITING: Duration = Duration::from_secs(30);

/// Why a key can't be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No such key for this purpose.
    #[error("there is no key with this id")]
    Unknown,
    /// As many as there may be.
    #[error("there are {0} keys already, no more are allowed; delete those that have expired")]
    TooMany(usize),
    /// The name is too long.
    #[error("a key's name has at most {LONGEST_NAME} characters")]
    NameTooLong,
    /// It would open nothing.
    #[error("expiresAt is in the past; leave it out for a key that does not expire")]
    AlreadyExpired,
    /// No key can be made.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// It can't be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The keys.
#[derive(Debug)]
pub struct Keyring {
    store: Store,
    keys: RwLock<Keys>,
    /// One change at a time.
    changing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Keys {
    /// In the order in which they were made.
    all: Vec<Arc<Key>>,
    by_hash: HashMap<Hash, Arc<Key>>,
}

impl Keyring {
    /// The keys that `store` keeps.
    pub async fn load(store: Store) -> Result<Arc<Self>, StoreError> {
        let mut keys = Keys::default();
        for key in store.keys().await? {
            keys.add(Arc::new(key.into()));
        }
        Ok(Arc::new(Self { store, keys: RwLock::new(keys), changing: Mutex::default() }))
    }

    /// No keys, and a store that forgets those that are made: for tests and for parts that run alone.
    pub fn empty() -> Arc<Self> {
        let (keys, changing) = (RwLock::default(), Mutex::default());
        Arc::new(Self { store: Store::in_memory(), keys, changing })
    }

    /// What `shown` is for, if it is a key that has not expired at `now`; that it was shown is noted.
    pub fn find(&self, shown: &str, now: DateTime<Utc>) -> Option<Purpose> {
        let hash = secrets::hash(shown);
        let key = self.keys.read().by_hash.get(&hash)?.clone();
        let fits = bool::from(key.hash.ct_eq(&hash)) && !key.is_expired(now);
        fits.then(|| {
            key.used(now);
            key.purpose.clone()
        })
    }

    /// A new key; it is told here and never again.
    pub async fn issue(
        &self,
        purpose: Purpose,
        new: NewKey,
        now: DateTime<Utc>,
    ) -> Result<(KeyView, Secret), KeyError> {
        let _changing = self.changing.lock().await;
        self.make(purpose, new, None, now).await
    }

    /// A new key in place of another, which goes on opening its door for `overlap`; the new one has its name
    /// and never expires.
    pub async fn rotate(
        &self,
        purpose: &Purpose,
        id: &str,
        overlap: Duration,
        now: DateTime<Utc>,
    ) -> Result<(KeyView, Secret), KeyError> {
        let _changing = self.changing.lock().await;
        let old = self.get(purpose, id).ok_or(KeyError::Unknown)?;
        let end = now + overlap;
        let end = old.expires_at().map_or(end, |expires| expires.min(end));
        let new = NewKey { name: old.name(), expires_at: None };
        self.make(purpose.clone(), new, Some((&old, end)), now).await
    }

    /// Forgets a key: it opens nothing from now on.
    pub async fn revoke(&self, purpose: &Purpose, id: &str) -> Result<(), KeyError> {
        let _changing = self.changing.lock().await;
        let key = self.get(purpose, id).ok_or(KeyError::Unknown)?;
        // First here: whatever becomes of the store, it opens nothing.
        self.keys.write().remove(&key);
        self.store.remove_key(key.id.clone()).await?;
        info!(key = key.id, "A key was revoked.");
        Ok(())
    }

    /// The keys for `purpose`, in the order in which they were made.
    pub fn list(&self, purpose: &Purpose, now: DateTime<Utc>) -> Vec<KeyView> {
        self.keys.read().of(purpose).map(|key| key.view(now)).collect()
    }

    /// One of them.
    pub fn view(&self, purpose: &Purpose, id: &str, now: DateTime<Utc>) -> Option<KeyView> {
        self.get(purpose, id).map(|key| key.view(now))
    }

    /// Writes down, now and then and at the end, when keys were last shown.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let mut writing = interval(WRITING);
        writing.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let over = tokio::select! {
                () = cancel.cancelled() => true,
                _ = writing.tick() => false,
            };
            self.write_down().await;
            if over {
                return;
            }
        }
    }

    async fn write_down(&self) {
        let used: Vec<_> = {
            let keys = self.keys.read();
            keys.all.iter().filter_map(|key| Some((key.clone(), key.unwritten()?))).collect()
        };
        if used.is_empty() {
            return;
        }
        let written = used.iter().map(|(key, at)| (key.id.clone(), *at)).collect();
        match self.store.keys_used(written).await {
            Ok(()) => used.iter().for_each(|(key, at)| key.written.store(at.timestamp_millis(), Relaxed)),
            Err(error) => warn!(%error, "When keys were last used could not be written down."),
        }
    }

    async fn make(
        &self,
        purpose: Purpose,
        new: NewKey,
        instead_of: Option<(&Key, DateTime<Utc>)>,
        now: DateTime<Utc>,
    ) -> Result<(KeyView, Secret), KeyError> {
        if new.name.as_ref().is_some_and(|name| name.chars().count() > LONGEST_NAME) {
            return Err(KeyError::NameTooLong);
        }
        if new.expires_at.is_some_and(|expires| expires <= now) {
            return Err(KeyError::AlreadyExpired);
        }
        {
            let keys = self.keys.read();
            for (count, most) in [(keys.all.len(), MOST), (keys.of(&purpose).count(), OF_ONE_PURPOSE)] {
                if count >= most {
                    return Err(KeyError::TooMany(count));
                }
            }
        }
        let secret = secrets::generate()?;
        let id = format!("{:016x}", rand::random::<u64>());
        let (hash, hint) = (secrets::hash(secret.reveal()), secrets::hint(&secret));
        let key = Arc::new(Key::new(id, purpose, hash, hint, new, now));
        let expiring = instead_of.map(|(old, end)| (old.id.clone(), end));
        self.store.add_key(key.stored(), expiring).await?;
        self.keys.write().add(key.clone());
        if let Some((old, end)) = instead_of {
            old.expire(end);
        }
        info!(key = key.id, purpose = ?key.purpose, "A key was made.");
        Ok((key.view(now), secret))
    }

    fn get(&self, purpose: &Purpose, id: &str) -> Option<Arc<Key>> {
        self.keys.read().of(purpose).find(|key| key.id == id).cloned()
    }
}

impl Keys {
    fn add(&mut self, key: Arc<Key>) {
        self.by_hash.insert(key.hash, key.clone());
        self.all.push(key);
    }

    fn remove(&mut self, key: &Key) {
        self.by_hash.remove(&key.hash);
        self.all.retain(|known| known.id != key.id);
    }

    fn of(&self, purpose: &Purpose) -> impl Iterator<Item = &Arc<Key>> {
        self.all.iter().filter(move |key| key.purpose == *purpose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn show() -> Purpose {
        Purpose::Publish("show".parse().expect("valid"))
    }

    fn new(expires_at: Option<DateTime<Utc>>) -> NewKey {
        NewKey { name: Some("Studio".to_owned()), expires_at }
    }

    #[tokio::test]
    async fn a_key_opens_until_it_expires_or_is_revoked() {
        let keyring = Keyring::empty();
        let now = Utc::now();
        let later = now + TimeDelta::seconds(10);
        let (view, key) = keyring.issue(show(), new(Some(later)), now).await.expect("made");
        assert_eq!((key.reveal().len(), view.hint.as_str()), (32, &key.reveal()[28..]));
        assert_eq!(keyring.find(key.reveal(), now), Some(show()));
        assert_eq!(keyring.find(&key.reveal()[..31], now), None);
        assert_eq!(keyring.find(key.reveal(), later), None, "expired");
        let listed = keyring.list(&show(), later);
        assert!(listed.len() == 1 && listed[0].expired && listed[0].last_used_at.is_some(), "{listed:?}");
        assert!(matches!(keyring.revoke(&Purpose::Administer, &view.id).await, Err(KeyError::Unknown)));
        keyring.revoke(&show(), &view.id).await.expect("there");
        assert_eq!(keyring.find(key.reveal(), now), None, "revoked");
        assert!(matches!(keyring.issue(show(), new(Some(now)), now).await, Err(KeyError::AlreadyExpired)));
        assert!(!format!("{keyring:?}").contains(key.reveal()));
    }

    #[tokio::test]
    async fn a_rotated_key_opens_for_the_overlap() {
        let keyring = Keyring::empty();
        let now = Utc::now();
        let (old_view, old) = keyring.issue(show(), new(None), now).await.expect("made");
        let overlap = Duration::from_secs(60);
        let (view, key) = keyring.rotate(&show(), &old_view.id, overlap, now).await.expect("made");
        assert_eq!(view.name.as_deref(), Some("Studio"));
        let (during, after) = (now + TimeDelta::seconds(59), now + TimeDelta::seconds(61));
        assert!(keyring.find(old.reveal(), during).is_some() && keyring.find(old.reveal(), after).is_none());
        assert!(keyring.find(key.reveal(), after).is_some());
    }

    #[tokio::test]
    async fn keys_outlive_the_process_and_are_hashed_at_rest() {
        let home = tempfile::tempdir().expect("a folder");
        let now = Utc::now();
        let store = Store::open(home.path()).await.expect("made");
        let keyring = Keyring::load(store).await.expect("empty");
        let (_, key) = keyring.issue(show(), new(None), now).await.expect("made");
        keyring.find(key.reveal(), now);
        keyring.write_down().await;
        let before = keyring.list(&show(), now);
        drop(keyring);
        let store = Store::open(home.path()).await.expect("opened");
        for entry in std::fs::read_dir(home.path()).expect("there") {
            let bytes = std::fs::read(entry.expect("readable").path()).expect("readable");
            let found = bytes.windows(key.reveal().len()).any(|window| window == key.reveal().as_bytes());
            assert!(!found, "the key itself is kept nowhere");
        }
        let keyring = Keyring::load(store).await.expect("readable");
        assert_eq!(keyring.list(&show(), now), before);
        assert_eq!(keyring.find(key.reveal(), now), Some(show()));
    }
}
