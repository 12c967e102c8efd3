//! The life of a stream and of its publisher: live, stalled, waiting.
//!
//! Owns the states and how long each may last. The [`Watcher`](super::Watcher) moves a stream on when nothing
//! comes; publishers move it back.

use super::Source;
use crate::media::{Epoch, StreamName};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A publisher without media for so long has stalled; its name may be taken over.
pub(super) const SILENCE: Duration = Duration::from_secs(2);

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamState {
    /// It has a publisher that sends, or that came less than 2 s ago.
    Live,
    /// It has a publisher, but no media have come for 2 s.
    Stalled,
    /// Its publisher has left; it waits for one to return, for its grace.
    Waiting,
}

impl StreamState {
    /// The state in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Stalled => "stalled",
            Self::Waiting => "waiting",
        }
    }
}

/// How long streams wait for their publisher's return.
#[derive(Clone, Debug, Default)]
pub struct Graces {
    /// Of streams that are not named in `by_name`.
    pub default: Duration,
    /// Of these streams.
    pub by_name: BTreeMap<StreamName, Duration>,
}

impl Graces {
    pub(super) fn of(&self, name: &StreamName) -> Duration {
        self.by_name.get(name).copied().unwrap_or(self.default)
    }
}

impl From<Duration> for Graces {
    /// The same for all.
    fn from(default: Duration) -> Self {
        Self { default, by_name: BTreeMap::new() }
    }
}

/// What changes with the publisher. Changed under the hub's lock only.
#[derive(Debug)]
pub(super) struct Life {
    pub publisher: Option<PublisherState>,
    pub state: StreamState,
    pub state_since: SystemTime,
    /// When the last publisher left.
    pub left: Instant,
    /// How many items had come from publishers when the watcher last looked, and since when it is so many.
    pub heard: (u64, Instant),
    /// What the last publisher that has told its tracks sends.
    pub sent: Option<Arc<Epoch>>,
}

/// The present publisher, as others may know it.
#[derive(Clone, Debug)]
pub(super) struct PublisherState {
    pub source: Source,
    pub since: SystemTime,
    pub notice: Notice,
    /// What is wrong with what it sends.
    pub problem: Option<String>,
}

/// Why a publisher must go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dismissal {
    /// An operator wishes so.
    Kicked,
    /// Another publisher has taken the name over, because this one was silent.
    Superseded,
    /// The gateway is shutting down.
    Closing,
}

/// The word to a publisher that it must go, and why. Who hears it knows the reason, and the first reason stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Notice {
    token: CancellationToken,
    why: Arc<OnceLock<Dismissal>>,
}

impl Notice {
    pub fn give(&self, why: Dismissal) {
        // Once given, it is not given anew.
        let _ = self.why.set(why);
        self.token.cancel();
    }

    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    pub fn why(&self) -> Option<Dismissal> {
        self.why.get().copied()
    }
}

impl Life {
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            publisher: None,
            state: StreamState::Waiting,
            state_since: SystemTime::now(),
            left: now,
            heard: (0, now),
            sent: None,
        }
    }

    /// Changes the state; the time stays when it is the same.
    pub fn enter(&mut self, state: StreamState) {
        if self.state != state {
            self.state = state;
            self.state_since = SystemTime::now();
        }
    }
}

/// Whose media count. Read for each item, so all of it is atomic.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// The present publisher's number; those of earlier ones are void.
    pub generation: AtomicU64,
    /// The publisher has stalled: its next item tells that it is back.
    pub stalled: AtomicBool,
    /// The id of the epoch in which a hold fills the frame lane; 0: none does.
    pub hold: AtomicU64,
    /// Frames of epochs up to this id came before a hold, or are its own.
    pub floor: AtomicU64,
    /// Stalls and holds so far.
    pub interruptions: AtomicU64,
}

impl Turn {
    pub fn is_held(&self) -> bool {
        self.hold.load(Ordering::Acquire) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::pin::pin;
    use std::task::{Context, Wake, Waker};

    /// Looks, in the moment in which it is woken, why.
    #[derive(Default)]
    struct Reader {
        notice: Notice,
        read: Mutex<Option<Dismissal>>,
    }

    impl Wake for Reader {
        fn wake(self: Arc<Self>) {
            *self.read.lock() = self.notice.why();
        }
    }

    #[test]
    fn who_is_woken_by_a_notice_can_read_why() {
        let reader = Arc::new(Reader::default());
        let waker = Waker::from(reader.clone());
        let mut waiting = pin!(reader.notice.token().cancelled());
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        reader.notice.give(Dismissal::Superseded);
        assert_eq!(*reader.read.lock(), Some(Dismissal::Superseded));
    }
}
