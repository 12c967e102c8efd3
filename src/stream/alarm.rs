//! Readers that want to wake up for some of the items only.
//!
//! A reader that packages media has work a few times a second, but items come a hundred times: waking it
//! for each costs more than the work. So it leaves a rule with the lane, and sleeps until that holds.

use std::sync::Arc;
use tokio::sync::Notify;

/// The rules of the readers that sleep.
pub(super) struct Alarms<T> {
    set: Vec<Alarm<T>>,
    next: u64,
}

struct Alarm<T> {
    id: u64,
    /// Asked for each item until it says yes.
    rule: Rule<T>,
    ring: Arc<Notify>,
}

/// Whether an item should wake the reader.
pub(super) type Rule<T> = Box<dyn FnMut(&T) -> bool + Send>;

/// What a reader waits on.
pub(super) struct Sleep {
    /// For [`Alarms::remove`].
    pub(super) id: u64,
    pub(super) ring: Arc<Notify>,
}

impl<T> Alarms<T> {
    pub(super) fn new() -> Self {
        Self { set: Vec::new(), next: 0 }
    }

    /// Sets an alarm, which rings once.
    pub(super) fn set(&mut self, rule: Rule<T>) -> Sleep {
        let (id, ring) = (self.next, Arc::new(Notify::new()));
        self.next += 1;
        self.set.push(Alarm { id, rule, ring: ring.clone() });
        Sleep { id, ring }
    }

    /// Forgets an alarm, if it has not rung.
    pub(super) fn remove(&mut self, id: u64) {
        self.set.retain(|alarm| alarm.id != id);
    }

    /// Wakes those whose rule holds; call it once `item` can be read.
    pub(super) fn ring(&mut self, item: &T) {
        self.set.retain_mut(|alarm| {
            let due = (alarm.rule)(item);
            if due {
                alarm.ring.notify_one();
            }
            !due
        });
    }

    /// Wakes all.
    pub(super) fn ring_all(&mut self) {
        self.set.drain(..).for_each(|alarm| alarm.ring.notify_one());
    }
}

impl<T> std::fmt::Debug for Alarms<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alarms").field("set", &self.set.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::media::{Epoch, Frame, MediaKind, MediaTime, Tracks};
    use crate::stream::{Hub, Publisher, Source, SourceKind};
    use bytes::Bytes;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};
    use tokio::time::timeout;

    fn write(publisher: &Publisher<Frame>, epoch: &Arc<Epoch>, numbers: std::ops::Range<i64>) {
        for number in numbers {
            let pts = MediaTime::from_millis(number * 40);
            let (kind, epoch, data) = (MediaKind::Video, epoch.clone(), Bytes::from_static(&[0; 8]));
            publisher.write(Frame { epoch, kind, pts, dts: pts, keyframe: number == 0, data });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_sleeps_until_its_rule_holds_and_misses_nothing() {
        let (hub, _watcher) = Hub::new(Duration::ZERO);
        let source = Source { kind: SourceKind::Rtmp, remote: None };
        let publisher = hub.publish::<Frame>("a".parse().expect("a name"), source).expect("free");
        let mut reader = publisher.stream().subscribe::<Frame>();
        let epoch = publisher.begin_epoch(Tracks::default(), SystemTime::UNIX_EPOCH);
        let at = |number: i64| move |frame: &Frame| frame.pts == MediaTime::from_millis(number * 40);
        let soon = Duration::from_millis(1);
        let asleep = timeout(soon, async {
            tokio::join!(reader.due(at(10)), async { write(&publisher, &epoch, 0..10) }).0
        });
        asleep.await.expect_err("nothing was due");
        assert!(timeout(soon, reader.due(|_| false)).await.expect("there is something to read"));
        let mut read = 0;
        while reader.try_recv().is_some() {
            read += 1;
        }
        assert_eq!(read, 10);
        let (more, ()) = tokio::join!(reader.due(at(15)), async { write(&publisher, &epoch, 10..16) });
        assert!(more);
        while reader.try_recv().is_some() {
            read += 1;
        }
        assert_eq!(read, 16);
        let (more, ()) = tokio::join!(reader.due(|_| false), async {
            drop(publisher);
            hub.close();
        });
        assert!(!more, "the stream has ended");
    }
}
