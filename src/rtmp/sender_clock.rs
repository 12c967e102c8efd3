//! A publisher's timestamps, placed on one timeline.

use crate::media::{MediaKind, MediaTime};

/// A timestamp that falls back further, or leaps further ahead, than this begins a new timeline.
const JUMP_BACK_MS: i64 = 1_000;
const JUMP_AHEAD_MS: i64 = 5_000;
/// Some senders never learnt to count beyond 24 bits.
const SHORT_WRAP_MS: i64 = 1 << 24;

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
    /// How many timestamps repeated or fell back a little, and were moved behind the one before.
    pub(super) repaired: u64,
}

impl SenderClock {
    /// The media time of a message, and whether the timeline was broken before it.
    pub(super) fn place(&mut self, kind: MediaKind, timestamp: u32, elapsed_ms: i64) -> (MediaTime, bool) {
        let index = usize::from(kind == MediaKind::Audio);
        let mut unwrapped = match self.latest {
            None => i64::from(timestamp),
            Some(latest) => latest + i64::from(timestamp.wrapping_sub(latest as u32) as i32),
        };
        // A track is measured by itself, so that one that pauses doesn't hide that the other falls back.
        let before = self.tracks[index].or(self.tracks[1 - index]);
        let latest = self.tracks.iter().flatten().max().copied();
        let continues = |time: i64| {
            before.is_none_or(|before| time >= before - JUMP_BACK_MS)
                && latest.is_none_or(|latest| time <= latest + JUMP_AHEAD_MS)
        };
        if !continues(unwrapped)
            && let Some(before) = before
        {
            let wraps = (before - unwrapped + SHORT_WRAP_MS / 2).div_euclid(SHORT_WRAP_MS);
            let longer = unwrapped + wraps * SHORT_WRAP_MS;
            if continues(longer) {
                unwrapped = longer;
            }
        }
        let mut jumped = !continues(unwrapped);
        if self.latest.is_none() {
            self.offset = -unwrapped;
        }
        let mut time = unwrapped + self.offset;
        if let Some(given) = self.given[index]
            && time <= given
            && !jumped
        {
            // Timestamps that stand still must not fall behind without end.
            jumped = given + 1 - time > JUMP_BACK_MS;
            self.repaired += u64::from(!jumped);
            time = given + 1;
        }
        if jumped {
            // Media time goes on by the real time that has passed.
            let last = self.given.iter().flatten().max().copied().unwrap_or(0);
            time = last + (elapsed_ms - self.seen_ms).max(1);
            self.offset = time - unwrapped;
            self.tracks = [None; 2];
        }
        self.latest = Some(unwrapped);
        self.tracks[index] = Some(unwrapped);
        self.seen_ms = elapsed_ms;
        self.given[index] = Some(time);
        (MediaTime::from_millis(time), jumped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MediaKind::{Audio, Video};

    /// Places timestamps of both tracks in turns; their times, and how often the timeline broke.
    fn place(timestamps: impl IntoIterator<Item = u32>) -> (Vec<i64>, usize) {
        let mut clock = SenderClock::default();
        let mut breaks = 0;
        let times = timestamps.into_iter().map(|timestamp| {
            let (video, broke) = clock.place(Video, timestamp, 0);
            let (audio, broke_too) = clock.place(Audio, timestamp, 0);
            breaks += usize::from(broke) + usize::from(broke_too);
            assert_eq!(video, audio);
            video.as_millis()
        });
        (times.collect(), breaks)
    }

    #[test]
    fn r05_timestamps_roll_over_at_32_bits_without_gap_or_jump() {
        let (times, breaks) = place((0..500).map(|n| (u32::MAX - 9_999).wrapping_add(n * 40)));
        assert_eq!((times, breaks), ((0..500).map(|n| n * 40).collect(), 0));
    }

    #[test]
    fn r05_timestamps_pass_24_bits_without_gap_or_jump() {
        let (times, breaks) = place((0..500).map(|n| (1 << 24) - 10_000 + n * 40));
        assert_eq!((times, breaks), ((0..500).map(|n| n * 40).collect(), 0));
    }

    #[test]
    fn r05_a_sender_that_counts_24_bits_only_rolls_over_as_well() {
        // Some 14 hours in steps of 4 s: three times over.
        let (times, breaks) = place((0..12_600).map(|n| (16_000_000 + n * 4_000) & 0xff_ffff));
        assert_eq!((times, breaks), ((0..12_600).map(|n| n * 4_000).collect(), 0));
    }

    #[test]
    fn r05_fifty_days_roll_over_again_and_again() {
        let step = 4_000u64;
        let (times, breaks) = place((0..2_200_000u64).map(|n| (n * step) as u32));
        assert_eq!((times.last().copied(), breaks), (Some(2_199_999 * step as i64), 0), "two times over");
    }

    #[test]
    fn r13_repeated_and_falling_timestamps_are_repaired_and_counted() {
        let mut clock = SenderClock::default();
        let times: Vec<_> = [0, 40, 40, 35, 80, 120]
            .map(|timestamp| clock.place(Video, timestamp, 0))
            .map(|(time, jumped)| (time.as_millis(), jumped))
            .into();
        let expected = [0, 40, 41, 42, 80, 120].map(|time| (time, false));
        assert_eq!((times, clock.repaired), (expected.to_vec(), 2));
    }

    #[test]
    fn r13_timestamps_that_stand_still_break_the_timeline_in_the_end() {
        let mut clock = SenderClock::default();
        let breaks = (0..5_000).filter(|n| clock.place(Video, 77, n * 40).1).count();
        assert_eq!(breaks, 4);
        assert!(clock.repaired > 4_900);
    }

    #[test]
    fn r13_a_track_that_pauses_does_not_hide_that_the_other_falls_back() {
        let mut clock = SenderClock::default();
        clock.place(Video, 0, 0);
        for n in 0..100 {
            clock.place(Audio, n * 500, 0);
        }
        let (time, jumped) = clock.place(Audio, 20_000, 100);
        assert_eq!((time.as_millis(), jumped), (49_600, true));
    }
}
