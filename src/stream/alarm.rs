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
