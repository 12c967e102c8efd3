//! What is kept of a rendition: the segments in the playlist, and those removed from it that can still
//! be fetched.
//!
//! Memory is bounded: a segment is dropped once its availability duration has passed. Pure: time is an
//! argument.

use super::limits::Limits;
use super::segment::Segment;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The window of one rendition.
#[derive(Debug)]
pub(super) struct Window {
    limits: Limits,
    listed: VecDeque<Arc<Segment>>,
    listed_duration: Duration,
    removed: VecDeque<(Instant, Arc<Segment>)>,
}

impl Window {
    /// An empty window.
    pub fn new(limits: Limits) -> Self {
        Self { limits, listed: VecDeque::new(), listed_duration: Duration::ZERO, removed: VecDeque::new() }
    }

    /// Appends a completed segment and removes from the front what the window no longer needs.
    pub fn push(&mut self, now: Instant, segment: Segment) {
        self.listed_duration += segment.duration;
        self.listed.push_back(Arc::new(segment));
        let playlist = self.listed_duration;
        while self.listed.len() > self.limits.window {
            let Some(first) = self.listed.front() else { break };
            // RFC 8216bis §6.2.2: never less than three target durations.
            if self.listed_duration - first.duration < 3 * self.limits.target_duration() {
                break;
            }
            self.listed_duration -= first.duration;
            // §6.2.2: available for its own duration plus that of the longest playlist that held it.
            let until = now + first.duration + playlist;
            self.removed.extend(self.listed.pop_front().map(|segment| (until, segment)));
        }
        while self.removed.front().is_some_and(|(until, _)| *until <= now) {
            self.removed.pop_front();
        }
    }

    /// The segments of the playlist, oldest first.
    pub fn listed(&self) -> impl DoubleEndedIterator<Item = &Arc<Segment>> + ExactSizeIterator {
        self.listed.iter()
    }

    /// Segments that have left the playlist and can be fetched still, oldest first.
    pub fn removed(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.removed.iter().map(|(_, segment)| segment)
    }
}
