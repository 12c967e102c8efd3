//! Opening the file: made aside and renamed, locked for this process, checked, brought up to date.

use super::StoreError;
use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{Error, M, MigrationDefinitionError, Migrations};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// The file's name in the state folder.
pub(super) const FILE: &str = "tidegate.db";
/// How long another process's lock is waited for: the one before may still be ending.
const BUSY: Duration = Duration::from_secs(2);

/// Each once, in this order, for ever: a file counts how many it has had. Never change one that was
/// released.
const MIGRATIONS: &[M<'_>] = &[
    M::up(include_str!("migrations/01-targets.sql")),
    M::up(include_str!("migrations/02-streams-and-keys.sql")),
    M::up(include_str!("migrations/03-webhooks.sql")),
    M::up(include_str!("migrations/04-numbers.sql")),
];

/// Opens the file in `folder`, or makes it.
pub(super) fn open(folder: &Path) -> Result<Connection, StoreError> {
    let path = folder.join(FILE);
    let io = |why| StoreError::Io { path: path.clone(), why };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io)?;
    match fs::metadata(&path) {
        // SQLite would take it for a new one.
        Ok(metadata) if metadata.len() == 0 => {
            Err(StoreError::Damaged { path: path.clone(), why: "it is empty".to_owned() })
        }
        Ok(_) => connect(&path),
        Err(why) if why.kind() == ErrorKind::NotFound => create(folder, &path),
        Err(why) => Err(io(why)),
    }
}

/// A database in memory.
pub(super) fn in_memory() -> Result<Connection, StoreError> {
    let path = Path::new(":memory:");
    let connection = Connection::open_in_memory().map_err(|error| StoreError::of(path, error))?;
    prepare(connection, path)
}

/// Makes a file aside and renames it when it is whole, so that an empty or half one is never ours.
fn create(folder: &Path, path: &Path) -> Result<Connection, StoreError> {
    let log = folder.join(format!("{FILE}-wal"));
    if log.exists() {
        // Its changes belong to a file that is gone; a new one must not take them for its own.
        let why = format!("it is missing, but {log:?} is there");
        return Err(StoreError::Damaged { path: path.to_owned(), why });
    }
    let aside = folder.join(format!("{FILE}.new"));
    let io = |why| StoreError::Io { path: aside.clone(), why };
    for name in [format!("{FILE}.new"), format!("{FILE}.new-wal")] {
        match fs::remove_file(folder.join(name)) {
            Err(why) if why.kind() != ErrorKind::NotFound => return Err(io(why)),
            _ => {}
        }
    }
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside).map_err(io)?;
    let connection = connect(&aside)?;
    connection.close().map_err(|(_, error)| StoreError::of(&aside, error))?;
    fs::rename(&aside, path).map_err(io)?;
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
    connect(path)
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| StoreError::of(path, error))?;
    prepare(connection, path)
}

fn prepare(mut connection: Connection, path: &Path) -> Result<Connection, StoreError> {
    let of = |error| StoreError::of(path, error);
    connection.busy_timeout(BUSY).map_err(of)?;
    // Set before the first access, so that no other process gets in between.
    connection.pragma_update(None, "locking_mode", "exclusive").map_err(of)?;
    connection.pragma_update(None, "journal_mode", "wal").map_err(of)?;
    connection.pragma_update(None, "synchronous", "normal").map_err(of)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(of)?;
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(of)?;
    if verdict != "ok" {
        return Err(StoreError::Damaged { path: path.to_owned(), why: verdict });
    }
    Migrations::from_slice(MIGRATIONS).to_latest(&mut connection).map_err(|error| match error {
        Error::RusqliteError { err, .. } => of(err),
        Error::MigrationDefinition(MigrationDefinitionError::DatabaseTooFarAhead) => {
            StoreError::Newer(path.to_owned())
        }
        error => StoreError::Failed { path: path.to_owned(), why: error.to_string() },
    })?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use std::os::unix::fs::PermissionsExt;

    fn fault(folder: &Path) -> String {
        open(folder).expect_err("unusable").to_string()
    }

    #[test]
    fn the_migrations_are_right() {
        Migrations::from_slice(MIGRATIONS).validate().expect("each can be applied");
    }

    #[tokio::test]
    async fn a_new_file_is_the_owners_only() {
        let home = tempfile::tempdir().expect("a folder");
        let folder = home.path().join("deep/state");
        let store = Store::open(&folder).await.expect("made");
        assert!(store.targets().await.expect("readable").is_empty());
        for entry in fs::read_dir(&folder).expect("there") {
            let entry = entry.expect("readable");
            let mode = entry.metadata().expect("there").permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{:?}", entry.path());
        }
        assert_eq!(fs::metadata(&folder).expect("there").permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_file_that_is_in_use_is_left_alone() {
        let home = tempfile::tempdir().expect("a folder");
        let first = open(home.path()).expect("made");
        let error = fault(home.path());
        assert!(error.contains(FILE) && error.contains("another process"), "{error}");
        drop(first);
        open(home.path()).expect("free again");
    }

    #[test]
    fn damage_is_an_error_that_names_the_file_and_changes_nothing() {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join(FILE);
        drop(open(home.path()).expect("made"));
        let good = fs::read(&path).expect("readable");
        let mut torn = good.clone();
        torn[100..3000].fill(0x55);
        for bad in [b"".to_vec(), b"no database at all, but longer than a header ".repeat(9), torn] {
            fs::write(&path, &bad).expect("written");
            let error = fault(home.path());
            assert!(error.contains(FILE) && error.contains("damaged") && error.contains("backup"), "{error}");
            assert!(fs::read(&path).expect("readable") == bad, "it is as it was");
        }
        fs::write(&path, &good).expect("written");
        open(home.path()).expect("the good one still opens");
        fs::rename(&path, home.path().join("moved")).expect("moved");
        fs::write(home.path().join(format!("{FILE}-wal")), "changes").expect("written");
        assert!(fault(home.path()).contains("missing"));
    }

    #[test]
    fn a_file_from_the_future_is_not_touched() {
        let home = tempfile::tempdir().expect("a folder");
        let file = open(home.path()).expect("made");
        file.pragma_update(None, "user_version", 1000).expect("changed");
        drop(file);
        let error = fault(home.path());
        assert!(error.contains(FILE) && error.contains("newer"), "{error}");
    }
}
