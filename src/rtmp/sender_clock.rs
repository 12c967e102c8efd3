//! A publisher's timestamps, placed on one timeline.

use crate::media::{MediaKind, MediaTime};

/// A timestamp that falls back further, or leaps further ahead, than this begins a new timeline.
const JUMP_BACK_MS: i64 = 1_000;
const JUMP_AHEAD_MS: i64 = 5_000;

/// Milliseconds modulo 2^32, unwrapped, made monotonic, and moved where a sender's clock jumps.
#[derive(Debug, Default)]
pub(super) struct SenderClock {
    /// Unwrapped time of the last message of any kind.
    latest: Option<i64>,
    /// Unwrapped times of the last message of each kind since the last jump: video, audio.
    tracks: [Option<i64>; 2],
    /// The last media time given out for each kind.
    given: [Option<i64>; 2],
    /// Media time minus unwrapped time.
    offset: i64,
    /// Real time of the last message, in milliseconds of the publisher's life.
    seen_ms: i64,
    /// How often the timeline was broken.
    pub(super) jumps: u32,
}

impl SenderClock {
    /// The media time of a message, and whether the timeline was broken before it.
    pub(super) fn place(&mut self, kind: MediaKind, timestamp: u32, elapsed_ms: i64) -> (MediaTime, bool) {
        let index = usize::from(kind == MediaKind::Audio);
        let unwrapped = match self.latest {
            None => i64::from(timestamp),
            Some(latest) => latest + i64::from(timestamp.wrapping_sub(latest as u32) as i32),
        };
        let known = self.tracks.iter().flatten();
        let (earliest, latest) = (known.clone().min().copied(), known.max().copied());
        let jumped = earliest.is_some_and(|earliest| unwrapped < earliest - JUMP_BACK_MS)
            || latest.is_some_and(|latest| unwrapped > latest + JUMP_AHEAD_MS);
        if jumped {
            // Media time goes on by the real time that has passed.
            let last = self.given.iter().flatten().max().copied().unwrap_or(0);
            self.offset = last + (elapsed_ms - self.seen_ms).max(1) - unwrapped;
            self.tracks = [None; 2];
            self.jumps += 1;
        } else if self.latest.is_none() {
            self.offset = -unwrapped;
        }
        self.latest = Some(unwrapped);
        self.tracks[index] = Some(unwrapped);
        self.seen_ms = elapsed_ms;
        let mut time = unwrapped + self.offset;
        if let Some(given) = self.given[index] {
            time = time.max(given + 1);
        }
        self.given[index] = Some(time);
        (MediaTime::from_millis(time), jumped)
    }
}
