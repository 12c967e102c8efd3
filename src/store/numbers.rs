//! The table of numbers that go on rising from one process to the next.

use super::{Store, StoreError};
use rusqlite::{ToSql, Transaction};

/// What the discontinuity sequence numbers of HLS are called in the table.
const DISCONTINUITIES: &str = "discontinuities";

impl Store {
    /// Takes the next `count` discontinuity sequence numbers; gives the first. None of them is given again, to no
    /// process.
    pub async fn take_discontinuities(&self, count: u32) -> Result<u64, StoreError> {
        self.call(move |transaction| take(transaction, DISCONTINUITIES, count)).await
    }
}

fn take(transaction: &Transaction<'_>, name: &str, count: u32) -> rusqlite::Result<u64> {
    let sql = "INSERT INTO numbers (name, next) VALUES (?1, ?2) \
               ON CONFLICT (name) DO UPDATE SET next = next + ?2 RETURNING next";
    let parameters: [&dyn ToSql; 2] = [&name, &count];
    let next: i64 = transaction.query_row(sql, parameters, |row| row.get(0))?;
    Ok((next - i64::from(count)).max(0).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_number_is_given_twice() {
        let home = tempfile::tempdir().expect("a folder");
        let store = Store::open(home.path()).await.expect("made");
        assert_eq!(store.take_discontinuities(32).await.expect("written"), 0);
        assert_eq!(store.take_discontinuities(5).await.expect("written"), 32);
        drop(store);
        let again = Store::open(home.path()).await.expect("opened when the first has closed it");
        assert_eq!(again.take_discontinuities(32).await.expect("written"), 37);
    }
}
