//! Packets of one track put back into sequence order.
//!
//! Owns the packets that wait for a hole to be filled. Promises that what comes out rises strictly in
//! sequence number, that nothing waits longer than the given time, and that every hole given up is
//! reported once. Knows no clock: time is an argument.

use super::Packet;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Reorders the packets of one track, waiting a bounded time for those that are missing.
///
/// The first packet that is pushed is the first that comes out; whatever precedes it is late.
#[derive(Debug)]
pub struct ReorderBuffer {
    max_wait: Duration,
    max_packets: usize,
    next: Option<u64>,
    waiting: BTreeMap<u64, (Instant, Packet)>,
    /// When the hole before `waiting` was noticed; `None` without a hole.
    hole_since: Option<Instant>,
    late: u64,
}

/// What comes out of a [`ReorderBuffer`].
#[derive(Clone, Debug)]
pub enum Reordered {
    /// The next packet in order.
    Packet(Packet),
    /// So many packets before the next one did not come in time.
    Lost(u64),
}

impl ReorderBuffer {
    /// A hole is given up after `max_wait`, or as soon as more than `max_packets` wait behind it.
    pub fn new(max_wait: Duration, max_packets: usize) -> Self {
        Self { max_wait, max_packets, next: None, waiting: BTreeMap::new(), hole_since: None, late: 0 }
    }

    /// Takes a packet that arrived at `now`. One that comes after its hole was given up, or twice, is
    /// dropped.
    pub fn push(&mut self, now: Instant, packet: Packet) {
        let sequence = packet.sequence;
        let next = *self.next.get_or_insert(sequence);
        if sequence < next {
            self.late += 1;
            return;
        }
        self.waiting.entry(sequence).or_insert((now, packet));
        self.hole_since = match self.waiting.contains_key(&next) {
            true => None,
            false => self.hole_since.or(Some(now)),
        };
    }

    /// The next packet in order, or the news that some are lost; `None` while there is nothing to do
    /// before [`Self::deadline`].
    pub fn pop(&mut self, now: Instant) -> Option<Reordered> {
        let (first, next) = (*self.waiting.first_key_value()?.0, self.next?);
        if first > next {
            let overdue = self.deadline().is_some_and(|deadline| now >= deadline);
            if !overdue && self.waiting.len() <= self.max_packets {
                return None;
            }
            self.next = Some(first);
            self.hole_since = None;
            return Some(Reordered::Lost(first - next));
        }
        let (_, (_, packet)) = self.waiting.pop_first()?;
        self.next = Some(first + 1);
        if self.waiting.first_key_value().is_some_and(|(&following, _)| following > first + 1) {
            // The next hole was noticed when the earliest of those behind it arrived.
            self.hole_since = self.waiting.values().map(|(arrival, _)| *arrival).min();
        }
        Some(Reordered::Packet(packet))
    }

    /// When [`Self::pop`] gives up the present hole; `None` without a hole.
    pub fn deadline(&self) -> Option<Instant> {
        self.hole_since.map(|since| since + self.max_wait)
    }

    /// Packets dropped because they came after their hole was given up.
    pub fn late(&self) -> u64 {
        self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{MediaKind, MediaTime};
    use bytes::Bytes;

    const WAIT: Duration = Duration::from_millis(150);

    fn packet(sequence: u64) -> Packet {
        Packet {
            kind: MediaKind::Video,
            layer: 0,
            sequence,
            timestamp: 0,
            pts: MediaTime::ZERO,
            marker: false,
            keyframe: false,
            payload: Bytes::new(),
        }
    }

    /// All that comes out at `now`: sequence numbers, and losses as negative counts.
    fn drain(buffer: &mut ReorderBuffer, now: Instant) -> Vec<i64> {
        std::iter::from_fn(|| buffer.pop(now))
            .map(|out| match out {
                Reordered::Packet(packet) => packet.sequence as i64,
                Reordered::Lost(count) => -(count as i64),
            })
            .collect()
    }

    #[test]
    fn packets_in_order_pass_at_once() {
        let (mut buffer, now) = (ReorderBuffer::new(WAIT, 100), Instant::now());
        for sequence in 7..10 {
            buffer.push(now, packet(sequence));
            assert_eq!(drain(&mut buffer, now), [sequence as i64]);
        }
        assert_eq!(buffer.deadline(), None);
    }

    #[test]
    fn a_packet_that_comes_in_time_fills_its_hole() {
        let (mut buffer, now) = (ReorderBuffer::new(WAIT, 100), Instant::now());
        for sequence in [1, 3, 4] {
            buffer.push(now, packet(sequence));
        }
        assert_eq!(drain(&mut buffer, now), [1]);
        assert_eq!(buffer.deadline(), Some(now + WAIT));
        buffer.push(now + WAIT / 2, packet(2));
        assert_eq!(buffer.deadline(), None);
        assert_eq!(drain(&mut buffer, now + WAIT / 2), [2, 3, 4]);
    }

    #[test]
    fn a_hole_is_given_up_in_time_and_a_straggler_dropped() {
        let (mut buffer, now) = (ReorderBuffer::new(WAIT, 100), Instant::now());
        for sequence in [1, 4, 5] {
            buffer.push(now, packet(sequence));
        }
        assert_eq!(drain(&mut buffer, now + WAIT - Duration::from_nanos(1)), [1]);
        assert_eq!(drain(&mut buffer, now + WAIT), [-2, 4, 5]);
        buffer.push(now + WAIT, packet(2));
        assert_eq!(drain(&mut buffer, now + WAIT * 2), [] as [i64; 0]);
        assert_eq!(buffer.late(), 1);
    }

    #[test]
    fn each_hole_waits_from_its_own_beginning() {
        let (mut buffer, start) = (ReorderBuffer::new(WAIT, 100), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        buffer.push(at(0), packet(1));
        buffer.push(at(10), packet(3));
        buffer.push(at(60), packet(6));
        buffer.push(at(70), packet(5));
        assert_eq!(drain(&mut buffer, at(159)), [1]);
        assert_eq!(drain(&mut buffer, at(160)), [-1, 3]);
        assert_eq!(buffer.deadline(), Some(at(210)));
        assert_eq!(drain(&mut buffer, at(210)), [-1, 5, 6]);
    }

    #[test]
    fn too_many_waiting_packets_end_the_wait() {
        let (mut buffer, now) = (ReorderBuffer::new(WAIT, 3), Instant::now());
        for sequence in [1, 3, 4, 5] {
            buffer.push(now, packet(sequence));
        }
        assert_eq!(drain(&mut buffer, now), [1]);
        buffer.push(now, packet(6));
        assert_eq!(drain(&mut buffer, now), [-1, 3, 4, 5, 6]);
    }

    #[test]
    fn a_duplicate_comes_out_once() {
        let (mut buffer, now) = (ReorderBuffer::new(WAIT, 100), Instant::now());
        for sequence in [1, 3, 3, 2, 2] {
            buffer.push(now, packet(sequence));
        }
        assert_eq!(drain(&mut buffer, now), [1, 2, 3]);
    }
}
