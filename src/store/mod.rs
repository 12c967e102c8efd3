//! What must survive a restart: one SQLite file, `tidegate.db`, in the state folder.
//!
//! One file a table. A [`Store`] is one thread that owns the only connection; calls are asynchronous, run
//! in the order in which they were made, and return when what they wrote survives the death of the process
//! (of the machine: all but the last moments, never half a change). The file is the process's own: a second
//! process, damage, or a version from the future is an error at start that names the file. What it holds is
//! not encrypted: file mode 0600 guards it. Knows no HTTP and no worker.

mod deliveries;
mod error;
mod keys;
mod numbers;
mod open;
mod streams;
mod targets;
mod webhooks;

pub use deliveries::{DeliveryState, StoredDelivery};
pub use error::StoreError;
pub use keys::StoredKey;
pub use streams::StoredStream;
pub use targets::StoredTarget;
pub use webhooks::StoredWebhook;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, Row};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use tokio::sync::oneshot;

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// The open file. Cheap to clone; closed with the last clone.
#[derive(Clone, Debug)]
pub struct Store {
    work: mpsc::Sender<Work>,
    path: Arc<PathBuf>,
}

impl Store {
    /// Opens `tidegate.db` in `folder`, or makes both; brings an older file up to date.
    pub async fn open(folder: &Path) -> Result<Self, StoreError> {
        let folder = folder.to_owned();
        let path = folder.join(open::FILE);
        let start = move || Self::start(path, move || open::open(&folder));
        tokio::task::spawn_blocking(start).await.unwrap_or(Err(StoreError::Gone))
    }

    /// A store that forgets everything, for tests and for parts that run alone.
    pub fn in_memory() -> Self {
        Self::start(PathBuf::from(":memory:"), open::in_memory).expect("memory and a thread can be had")
    }

    /// Starts the owner; waits until it has opened the file.
    fn start(
        path: PathBuf,
        open: impl FnOnce() -> Result<Connection, StoreError> + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (work, queue) = mpsc::channel::<Work>();
        let (opened, result) = mpsc::channel();
        let owner = move || match open() {
            Ok(mut connection) => {
                let _ = opened.send(Ok(()));
                // Until the last handle is gone.
                while let Ok(work) = queue.recv() {
                    work(&mut connection);
                }
            }
            Err(error) => drop(opened.send(Err(error))),
        };
        let path = Arc::new(path);
        let thread = std::thread::Builder::new().name("store".to_owned());
        thread.spawn(owner).map_err(|why| StoreError::Io { path: path.to_path_buf(), why })?;
        result.recv().map_err(|_| StoreError::Gone)??;
        Ok(Self { work, path })
    }

    /// Runs `work` in one transaction, which is committed when it succeeds. The work goes on to its end even
    /// if nobody awaits it any more.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, result) = oneshot::channel();
        let work: Work = Box::new(move |connection| {
            let done = connection.transaction().and_then(|transaction| {
                let value = work(&transaction)?;
                transaction.commit()?;
                Ok(value)
            });
            // Who asked may be gone.
            let _ = sender.send(done);
        });
        self.work.send(work).map_err(|_| StoreError::Gone)?;
        let done = result.await.map_err(|_| StoreError::Gone)?;
        done.map_err(|error| StoreError::of(&self.path, error))
    }
}

/// The time in `column`, in milliseconds since 1970.
fn time(row: &Row<'_>, column: &str) -> rusqlite::Result<DateTime<Utc>> {
    let millis = row.get(column)?;
    DateTime::from_timestamp_millis(millis).ok_or(rusqlite::Error::IntegralValueOutOfRange(0, millis))
}
