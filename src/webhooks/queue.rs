//! What waits for one webhook: a lane for each stream, in each lane one delivery under way at a time. Pure:
//! time is an argument.

use crate::media::StreamName;
use crate::store::StoredDelivery;
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, VecDeque};

/// Deliveries by stream.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lanes: BTreeMap<Option<StreamName>, Lane>,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<StoredDelivery>,
    /// One of the lane is under way.
    busy: bool,
}

impl Queue {
    /// Adds a delivery behind those of its stream.
    pub(super) fn push(&mut self, delivery: StoredDelivery) {
        self.lanes.entry(delivery.stream.clone()).or_default().waiting.push_back(delivery);
    }

    /// A delivery that is due, and may go because no earlier one of its stream is left. Must be followed by
    /// [`Self::settle`].
    pub(super) fn take(&mut self, now: DateTime<Utc>) -> Option<StoredDelivery> {
        let lane = self.lanes.values_mut().find(|lane| lane.due().is_some_and(|due| due <= now))?;
        lane.busy = true;
        lane.waiting.pop_front()
    }

    /// A delivery of `stream` that was taken is done with, or is to be tried `again`, before all others of its
    /// stream.
    pub(super) fn settle(&mut self, stream: &Option<StreamName>, again: Option<StoredDelivery>) {
        let Some(lane) = self.lanes.get_mut(stream) else { return };
        lane.busy = false;
        if let Some(delivery) = again {
            lane.waiting.push_front(delivery);
        }
        if lane.waiting.is_empty() {
            self.lanes.remove(stream);
        }
    }

    /// When the next delivery is due; `None` while there is none that could go.
    pub(super) fn next_due(&self) -> Option<DateTime<Utc>> {
        self.lanes.values().filter_map(Lane::due).min()
    }

    /// Deliveries that wait or are under way.
    pub(super) fn len(&self) -> usize {
        self.lanes.values().map(|lane| lane.waiting.len() + usize::from(lane.busy)).sum()
    }
}

impl Lane {
    fn due(&self) -> Option<DateTime<Utc>> {
        self.waiting.front().filter(|_| !self.busy).map(|delivery| delivery.next_try)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::DeliveryState;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_000_000 + second, 0).expect("a time")
    }

    fn delivery(id: i64, stream: &str) -> StoredDelivery {
        StoredDelivery {
            id,
            webhook: "hook".to_owned(),
            event: format!("1-{id}"),
            kind: "stream.started".to_owned(),
            stream: stream.parse().ok(),
            body: "{}".into(),
            state: DeliveryState::Pending,
            attempts: 0,
            next_try: at(0),
            error: None,
            created_at: at(0),
        }
    }

    fn taken(queue: &mut Queue, second: i64) -> Vec<i64> {
        std::iter::from_fn(|| queue.take(at(second)).map(|delivery| delivery.id)).collect()
    }

    #[test]
    fn streams_do_not_wait_for_each_other_and_each_is_in_order() {
        let mut queue = Queue::default();
        for (id, stream) in [(1, "a"), (2, "a"), (3, "b"), (4, "")] {
            queue.push(delivery(id, stream));
        }
        assert_eq!(taken(&mut queue, 0), [4, 1, 3], "one of each stream");
        assert_eq!((queue.len(), queue.next_due()), (4, None));
        let a = "a".parse().ok();
        let mut failed = delivery(1, "a");
        failed.next_try = at(10);
        queue.settle(&a, Some(failed));
        assert!(taken(&mut queue, 9).is_empty(), "2 waits for 1");
        assert_eq!(queue.next_due(), Some(at(10)));
        assert_eq!(taken(&mut queue, 10), [1]);
        queue.settle(&a, None);
        assert_eq!(taken(&mut queue, 10), [2]);
        for stream in ["a", "b", ""] {
            queue.settle(&stream.parse().ok(), None);
        }
        assert_eq!((queue.len(), queue.lanes.len()), (0, 0));
    }
}
