//! What can be wrong with the store.

use rusqlite::ErrorCode;
use std::io;
use std::path::{Path, PathBuf};

/// Why the store can't be opened or used. Each variant with a file names it and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system said no.
    #[error("{path:?}: {why}; state_dir must be a folder that can be written and has room")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// Another process has it.
    #[error(
        "{0:?} is in use by another process; stop that one, or give each Tidegate a state_dir of its own"
    )]
    Locked(PathBuf),
    /// It is no database, or one that is damaged.
    #[error(
        "{path:?} is damaged ({why}); put a copy from a backup in its place, or move it away together with the files \
         whose names begin like its own, to start without targets and keys"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Written by a Tidegate that knows more tables.
    #[error("{0:?} was written by a newer Tidegate; run that version, or put an older copy in its place")]
    Newer(PathBuf),
    /// Something else went wrong in SQLite.
    #[error("{path:?}: {why}")]
    Failed {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        why: String,
    },
    /// The owner of the file has ended.
    #[error("the store has ended")]
    Gone,
}

impl StoreError {
    /// What an error of SQLite's means for the file at `path`.
    pub(super) fn of(path: &Path, error: rusqlite::Error) -> Self {
        let path = path.to_owned();
        let why = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked(path),
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::Damaged { path, why },
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure,
            ) => Self::Io { path, why: io::Error::other(why) },
            _ => Self::Failed { path, why },
        }
    }
}
