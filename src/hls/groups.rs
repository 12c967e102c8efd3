//! How long the groups of pictures of a stream are: remembered by name, from one publication to the next.
//!
//! A target duration is promised before the first group is over, and never changes. Who publishes again
//! mostly does it with the same encoder, so the promise can fit.

use crate::media::StreamName;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;

/// Names remembered at most; with more, all are forgotten.
const CAPACITY: usize = 4096;

/// The longest group of pictures of each stream there was.
#[derive(Debug, Default)]
pub(super) struct Groups {
    longest: Mutex<HashMap<StreamName, Duration>>,
}

impl Groups {
    /// Notes what was seen of a stream now, and gives the longest ever; zero if nothing is known.
    pub fn longest(&self, name: &StreamName, seen: Duration) -> Duration {
        let mut longest = self.longest.lock();
        if let Some(known) = longest.get_mut(name) {
            *known = seen.max(*known);
            return *known;
        }
        if !seen.is_zero() {
            if longest.len() >= CAPACITY {
                longest.clear();
            }
            longest.insert(name.clone(), seen);
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_is_remembered_within_bounds() {
        let (groups, second) = (Groups::default(), Duration::from_secs(1));
        let name = |number: usize| format!("s{number}").parse::<StreamName>().expect("a name");
        assert_eq!(groups.longest(&name(0), Duration::ZERO), Duration::ZERO);
        assert_eq!(groups.longest(&name(0), 8 * second), 8 * second);
        assert_eq!(groups.longest(&name(0), 2 * second), 8 * second);
        for number in 0..2 * CAPACITY {
            groups.longest(&name(number), second);
        }
        assert!(groups.longest.lock().len() <= CAPACITY);
    }
}
