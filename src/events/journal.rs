//! The ring of the latest events, and readers' places in it.

use super::{Event, EventId, EventType};
use crate::media::StreamName;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// All events, the latest of them in memory.
#[derive(Debug)]
pub struct Journal {
    start: u64,
    kept: usize,
    ring: Mutex<Ring>,
    /// Changes with each event and at the end.
    changes: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Arc<Event>>,
    /// Of the latest event; 0 before the first.
    latest: u64,
    closed: bool,
}

/// What comes next for a reader.
#[derive(Clone, Debug)]
pub enum News {
    /// The next event.
    Event(Arc<Event>),
    /// What the reader asks for is no longer there, or is from before a restart: events may be missing. What
    /// is there follows.
    Gap,
}

/// A place in the journal.
#[derive(Debug)]
pub struct Reader {
    journal: Arc<Journal>,
    changes: watch::Receiver<()>,
    /// Of the next event.
    next: u64,
    gap: bool,
}

impl Journal {
    /// A journal that begins `now` and keeps the latest `kept` events.
    pub fn new(now: SystemTime, kept: usize) -> Arc<Self> {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let start = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Arc::new(Self { start, kept: kept.max(1), ring: Mutex::default(), changes: watch::Sender::new(()) })
    }

    /// Writes an event. Never waits for a reader.
    pub fn record(
        &self,
        now: SystemTime,
        kind: EventType,
        stream: Option<StreamName>,
        data: &Value,
    ) -> Arc<Event> {
        let mut ring = self.ring.lock();
        ring.latest += 1;
        let id = EventId { start: self.start, sequence: ring.latest };
        let event = Arc::new(Event::new(id, now, kind, stream, data));
        if ring.events.len() >= self.kept {
            ring.events.pop_front();
        }
        ring.events.push_back(event.clone());
        drop(ring);
        self.changes.send_replace(());
        event
    }

    /// No more events: readers end when they have read what there is.
    pub fn close(&self) {
        self.ring.lock().closed = true;
        self.changes.send_replace(());
    }

    /// How many events there have been.
    pub fn count(&self) -> u64 {
        self.ring.lock().latest
    }

    /// Reads what comes from now on.
    pub fn read(self: &Arc<Self>) -> Reader {
        let next = self.ring.lock().latest + 1;
        self.reader(next, false)
    }

    /// Reads what comes after `last`.
    pub fn read_after(self: &Arc<Self>, last: EventId) -> Reader {
        let latest = self.ring.lock().latest;
        match last.start == self.start && last.sequence <= latest {
            true => self.reader(last.sequence + 1, false),
            false => self.reader(1, true),
        }
    }

    fn reader(self: &Arc<Self>, next: u64, gap: bool) -> Reader {
        Reader { journal: self.clone(), changes: self.changes.subscribe(), next, gap }
    }
}

impl Ring {
    fn first(&self) -> u64 {
        self.latest + 1 - self.events.len() as u64
    }
}

impl Reader {
    /// The next event, once there is one; `None` when the journal has ended. Cancel safe.
    pub async fn next(&mut self) -> Option<News> {
        loop {
            self.changes.borrow_and_update();
            match self.take() {
                Ok(news) => return news,
                // The journal is ours: its sender outlives this.
                Err(Empty) => self.changes.changed().await.ok()?,
            }
        }
    }

    /// What is there now: news, or the end.
    fn take(&mut self) -> Result<Option<News>, Empty> {
        let ring = self.journal.ring.lock();
        let first = ring.first();
        if self.gap || self.next < first {
            self.next = self.next.max(first);
            self.gap = false;
            return Ok(Some(News::Gap));
        }
        let index = usize::try_from(self.next - first).unwrap_or(usize::MAX);
        match ring.events.get(index) {
            Some(event) => {
                self.next += 1;
                Ok(Some(News::Event(event.clone())))
            }
            None if ring.closed => Ok(None),
            None => Err(Empty),
        }
    }
}

/// Nothing to read yet.
struct Empty;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn journal(kept: usize) -> Arc<Journal> {
        Journal::new(UNIX_EPOCH + Duration::from_millis(1000), kept)
    }

    fn record(journal: &Journal, count: usize) {
        for _ in 0..count {
            journal.record(UNIX_EPOCH, EventType::StreamStarted, None, &Value::Null);
        }
    }

    /// What is there to be read, as text.
    fn read(reader: &mut Reader) -> Vec<String> {
        let next = || match reader.take() {
            Ok(Some(News::Event(event))) => Some(event.id.to_string()),
            Ok(Some(News::Gap)) => Some("gap".to_owned()),
            Ok(None) => Some("end".to_owned()),
            Err(Empty) => None,
        };
        std::iter::from_fn(next).take(20).collect()
    }

    #[test]
    fn a_reader_gets_all_that_comes_after_its_place() {
        let journal = journal(10);
        record(&journal, 2);
        let mut now = journal.read();
        let mut after = journal.read_after(EventId { start: 1000, sequence: 1 });
        record(&journal, 1);
        assert_eq!(read(&mut now), ["1000-3"]);
        assert_eq!(read(&mut after), ["1000-2", "1000-3"]);
        assert!(read(&mut after).is_empty());
    }

    #[test]
    fn what_is_no_longer_there_is_told_as_a_gap() {
        let journal = journal(3);
        record(&journal, 1);
        let mut slow = journal.read_after(EventId { start: 1000, sequence: 0 });
        record(&journal, 4);
        assert_eq!(read(&mut slow), ["gap", "1000-3", "1000-4", "1000-5"]);
        let mut last = journal.read_after(EventId { start: 1000, sequence: 2 });
        assert_eq!(read(&mut last), ["1000-3", "1000-4", "1000-5"], "just still there");
        for id in [(999, 5), (1001, 1), (1000, 6)] {
            let mut other = journal.read_after(EventId { start: id.0, sequence: id.1 });
            assert_eq!(read(&mut other), ["gap", "1000-3", "1000-4", "1000-5"], "{id:?}");
        }
    }

    #[tokio::test]
    async fn a_reader_waits_for_what_comes_and_for_the_end() {
        let journal = journal(3);
        let mut reader = journal.read();
        let reading = tokio::spawn(async move {
            let mut ids = Vec::new();
            while let Some(News::Event(event)) = reader.next().await {
                ids.push(event.id.sequence);
            }
            ids
        });
        record(&journal, 1);
        tokio::task::yield_now().await;
        record(&journal, 1);
        journal.close();
        assert_eq!(reading.await.expect("no panic"), [1, 2]);
    }
}
