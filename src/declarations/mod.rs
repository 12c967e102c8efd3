//! Declared streams: what the API knows of a stream whether it is live or not.
//!
//! Owns the declarations, in memory and in the store, and tells the hub what they ask of it. A stream needs
//! no declaration to go live, and forgetting one changes nothing for a stream that is.

use crate::media::StreamName;
use crate::store::{Store, StoreError, StoredStream};
use crate::stream::Hub;
use chrono::{DateTime, SubsecRound, Utc};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// The longest title, in characters.
const LONGEST_TITLE: usize = 200;
/// The longest grace, in seconds.
const LONGEST_GRACE: u32 = 600;
/// Declarations in all.
const MOST: usize = 10_000;

/// What was declared of a stream.
pub type Declaration = StoredStream;

/// Why a stream can't be declared so.
#[derive(Debug, thiserror::Error)]
pub enum DeclarationError {
    /// It is declared already.
    #[error("stream {0} is declared already; PATCH changes it")]
    Exists(StreamName),
    /// It is not declared.
    #[error("stream {0} is not declared; POST it to /api/v1/streams first")]
    Unknown(StreamName),
    /// As many as there may be.
    #[error("there are {MOST} declared streams already, no more are allowed; delete some")]
    TooMany,
    /// The title is too long.
    #[error("field \"title\": a title has at most {LONGEST_TITLE} characters")]
    TitleTooLong,
    /// The grace is too long.
    #[error("field \"grace\": it is {0} s, and must be from 0 to {LONGEST_GRACE}")]
    GraceTooLong(u32),
    /// It can't be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All declarations.
pub struct Declarations {
    store: Store,
    hub: Hub,
    streams: RwLock<BTreeMap<StreamName, Arc<Declaration>>>,
    /// One change at a time.
    changing: Mutex<()>,
}

impl Declarations {
    /// Those that `store` keeps; `hub` is told of them.
    pub async fn load(store: Store, hub: Hub) -> Result<Arc<Self>, StoreError> {
        let mut streams = BTreeMap::new();
        for stream in store.streams().await? {
            tell(&hub, &stream);
            streams.insert(stream.name.clone(), Arc::new(stream));
        }
        Ok(Arc::new(Self { store, hub, streams: RwLock::new(streams), changing: Mutex::default() }))
    }

    /// One of them.
    pub fn get(&self, name: &StreamName) -> Option<Arc<Declaration>> {
        self.streams.read().get(name).cloned()
    }

    /// All of them, by name.
    pub fn list(&self) -> Vec<Arc<Declaration>> {
        self.streams.read().values().cloned().collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.streams.read().len()
    }

    /// Declares a stream that is not declared yet.
    pub async fn declare(
        &self,
        name: StreamName,
        title: Option<String>,
        grace: Option<u32>,
        now: DateTime<Utc>,
    ) -> Result<Arc<Declaration>, DeclarationError> {
        let _changing = self.changing.lock().await;
        if self.get(&name).is_some() {
            return Err(DeclarationError::Exists(name));
        }
        if self.count() >= MOST {
            return Err(DeclarationError::TooMany);
        }
        let now = now.trunc_subsecs(3);
        self.put(Declaration { name, title, grace, created_at: now, updated_at: now }).await
    }

    /// Changes a declaration as `change` says, which sees it as it is now and may refuse. Nothing is written
    /// if nothing changes.
    pub async fn change<E: From<DeclarationError>>(
        &self,
        name: &StreamName,
        now: DateTime<Utc>,
        change: impl FnOnce(&mut Declaration) -> Result<(), E>,
    ) -> Result<Arc<Declaration>, E> {
        let _changing = self.changing.lock().await;
        let before = self.get(name).ok_or_else(|| DeclarationError::Unknown(name.clone()))?;
        let mut after = Declaration::clone(&before);
        change(&mut after)?;
        if after == *before {
            return Ok(before);
        }
        after.updated_at = now.trunc_subsecs(3);
        Ok(self.put(after).await?)
    }

    /// Forgets a declaration, unless `judge`, which sees it, refuses.
    pub async fn forget<E: From<DeclarationError>>(
        &self,
        name: &StreamName,
        judge: impl FnOnce(&Declaration) -> Result<(), E>,
    ) -> Result<(), E> {
        let _changing = self.changing.lock().await;
        let before = self.get(name).ok_or_else(|| DeclarationError::Unknown(name.clone()))?;
        judge(&before)?;
        self.store.remove_stream(name.clone()).await.map_err(DeclarationError::from)?;
        self.streams.write().remove(name);
        self.hub.set_grace(name, None);
        Ok(())
    }

    async fn put(&self, declaration: Declaration) -> Result<Arc<Declaration>, DeclarationError> {
        let title = declaration.title.as_deref().unwrap_or_default();
        if title.chars().count() > LONGEST_TITLE {
            return Err(DeclarationError::TitleTooLong);
        }
        if let Some(grace) = declaration.grace.filter(|grace| *grace > LONGEST_GRACE) {
            return Err(DeclarationError::GraceTooLong(grace));
        }
        self.store.put_stream(declaration.clone()).await?;
        tell(&self.hub, &declaration);
        let declaration = Arc::new(declaration);
        self.streams.write().insert(declaration.name.clone(), declaration.clone());
        Ok(declaration)
    }
}

fn tell(hub: &Hub, declaration: &Declaration) {
    hub.set_grace(&declaration.name, declaration.grace.map(|seconds| Duration::from_secs(seconds.into())));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> StreamName {
        "show".parse().expect("valid")
    }

    #[tokio::test]
    async fn a_declaration_is_made_changed_and_forgotten() {
        let (hub, _watcher) = Hub::new(Duration::from_secs(60));
        let store = Store::in_memory();
        let declarations = Declarations::load(store.clone(), hub.clone()).await.expect("empty");
        let now = Utc::now();
        let made = declarations.declare(name(), Some("A show".to_owned()), None, now).await.expect("new");
        let again = declarations.declare(name(), None, None, now).await;
        assert!(matches!(again, Err(DeclarationError::Exists(_))));
        let unchanged = declarations.change(&name(), now, |_| Ok::<_, DeclarationError>(())).await;
        assert_eq!(unchanged.expect("there").updated_at, made.updated_at);
        let longer = |grace| {
            move |declaration: &mut Declaration| {
                declaration.grace = Some(grace);
                Ok::<_, DeclarationError>(())
            }
        };
        let changed = declarations.change(&name(), now, longer(5)).await.expect("there");
        assert_eq!((changed.grace, changed.title.as_deref()), (Some(5), Some("A show")));
        let refused = declarations.change(&name(), now, longer(601)).await;
        assert!(matches!(refused, Err(DeclarationError::GraceTooLong(601))));
        let after = Declarations::load(store, hub).await.expect("readable");
        assert_eq!(after.get(&name()), Some(changed), "it is kept");
        after.forget(&name(), |_| Ok::<_, DeclarationError>(())).await.expect("there");
        let gone = after.forget(&name(), |_| Ok::<_, DeclarationError>(())).await;
        assert!(matches!(gone, Err(DeclarationError::Unknown(_))) && after.list().is_empty());
    }
}
