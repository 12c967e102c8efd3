//! When the number of viewers is worth an event.
//!
//! One event a viewer would drown a show's operator. What is told is that a threshold is reached, at once, and
//! that it is no longer, after the number has stayed below for a while: viewers who reload tell nothing.

use std::time::Duration;
use tokio::time::Instant;

/// For so long there must be fewer viewers than a threshold before it is told.
const CALM: Duration = Duration::from_secs(5);

/// Numbers of viewers of one stream that are told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds(Vec<usize>);

impl Thresholds {
    /// These, in any order; none: nothing is told.
    pub fn new(numbers: impl IntoIterator<Item = usize>) -> Self {
        let mut numbers: Vec<usize> = numbers.into_iter().filter(|number| *number > 0).collect();
        numbers.sort_unstable();
        numbers.dedup();
        Self(numbers)
    }

    fn reached(&self, viewers: usize) -> usize {
        self.0.partition_point(|threshold| *threshold <= viewers)
    }
}

/// What is to be told of one stream's viewers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crossing {
    /// There are at least so many.
    Joined(usize),
    /// There are fewer.
    Left(usize),
}

/// The viewers of one stream, as they were told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Crowd {
    /// How many thresholds are told to be reached.
    reached: usize,
    below_since: Option<Instant>,
}

impl Crowd {
    /// Looks at the number of viewers. Of several thresholds that are crossed together, one is told: the
    /// highest that is reached, or the lowest that is not any more.
    pub(super) fn look(&mut self, thresholds: &Thresholds, viewers: usize, now: Instant) -> Option<Crossing> {
        let reached = thresholds.reached(viewers);
        if reached >= self.reached {
            self.below_since = None;
            let before = std::mem::replace(&mut self.reached, reached);
            return (reached > before).then(|| Crossing::Joined(thresholds.0[reached - 1]));
        }
        let since = *self.below_since.get_or_insert(now);
        if now - since < CALM {
            return None;
        }
        self.reached = reached;
        self.below_since = None;
        Some(Crossing::Left(thresholds.0[reached]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One look a second.
    fn told(counts: &[usize]) -> Vec<(usize, Crossing)> {
        let thresholds = Thresholds::new([10, 1, 100, 10, 0]);
        let (mut crowd, start) = (Crowd::default(), Instant::now());
        let look = |(second, count): (usize, &usize)| {
            let now = start + Duration::from_secs(second as u64);
            Some((second, crowd.look(&thresholds, *count, now)?))
        };
        counts.iter().enumerate().filter_map(look).collect()
    }

    #[tokio::test]
    async fn thresholds_are_told_when_they_are_reached_and_when_they_no_longer_are() {
        use Crossing::{Joined, Left};
        assert_eq!(told(&[0, 1, 2, 9, 10, 11, 12]), [(1, Joined(1)), (4, Joined(10))]);
        assert_eq!(told(&[150, 150]), [(0, Joined(100))], "the highest of them");
        assert_eq!(told(&[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]), [(0, Joined(1)), (11, Left(1))], "a reload");
        assert_eq!(told(&[12, 9, 11, 9, 10, 9, 10]), [(0, Joined(10))], "to and fro");
        assert_eq!(told(&[150, 5, 5, 5, 5, 5, 5]), [(0, Joined(100)), (6, Left(10))], "the lowest of them");
    }
}
