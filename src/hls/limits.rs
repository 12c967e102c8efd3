//! The durations a playlist promises. They never change during a stream.

use super::HlsSettings;
use std::time::Duration;

/// A segment may be so much longer than the target duration, since durations are rounded
/// (RFC 8216bis §4.4.3.1).
const ROUNDED_AWAY: Duration = Duration::from_millis(490);
/// How much longer than any before it a group of pictures may be, by the jitter of times.
const JITTER: Duration = Duration::from_millis(100);
/// The longest target duration that groups of pictures can bring about.
const LONGEST_TARGET: u64 = 10;

/// Constants of all playlists of a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limits {
    /// `EXT-X-TARGETDURATION` in seconds.
    pub target: u64,
    /// `PART-TARGET`.
    pub part_target: Duration,
    /// Segments a playlist holds, once it has so many.
    pub window: usize,
}

impl Limits {
    /// Twice the segment duration for the target, so that ordinary groups of pictures (2 to 4 s) are
    /// never cut; more for a stream whose `longest_group` is known to be longer. Parts are whole frames and
    /// RFC 8216bis §4.4.4.9 wants them between 85 % and 100 % of `PART-TARGET`: at 7 % above the duration
    /// that was asked for, whole frames of all usual rates of pictures and sound lie within.
    pub fn new(settings: &HlsSettings, longest_group: Duration) -> Self {
        let ordinary = (2.0 * settings.segment_duration.as_secs_f64()).ceil().max(1.0) as u64;
        let fitting = (longest_group + JITTER).saturating_sub(ROUNDED_AWAY).as_secs_f64().ceil() as u64;
        let part_target = (settings.part_duration.as_millis().max(1) as u64 * 107).div_ceil(100);
        Self {
            // A group that fits no target is cut: no reason to have others wait longer.
            target: if fitting <= LONGEST_TARGET { ordinary.max(fitting) } else { ordinary },
            part_target: Duration::from_millis(part_target),
            window: settings.window.max(6),
        }
    }

    /// The target duration.
    pub fn target_duration(&self) -> Duration {
        Duration::from_secs(self.target)
    }

    /// A segment may be so long that its duration still rounds to the target.
    pub fn longest_segment(&self) -> Duration {
        self.target_duration() + ROUNDED_AWAY
    }

    /// What a part may last; less than its target by what senders' times jitter.
    pub fn longest_part(&self) -> Duration {
        self.part_target.saturating_sub(Duration::from_micros(500))
    }

    /// `PART-HOLD-BACK`: three part targets (RFC 8216bis §4.4.3.8).
    pub fn part_hold_back(&self) -> Duration {
        3 * self.part_target
    }

    /// How long a request may be held (RFC 8216bis §6.2.5.2: three target durations, then 503).
    pub fn patience(&self) -> Duration {
        3 * self.target_duration()
    }

    /// `CAN-SKIP-UNTIL`: at least six target durations (RFC 8216bis §4.4.3.8).
    pub fn skip_until(&self) -> Duration {
        6 * self.target_duration()
    }

    /// The advance part limit (RFC 8216bis §6.2.5.2): three seconds of parts, three at least.
    pub fn advance_parts(&self) -> u64 {
        (3.0 / self.part_target.as_secs_f64()).ceil().max(3.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(group_millis: u64) -> u64 {
        Limits::new(&HlsSettings::default(), Duration::from_millis(group_millis)).target
    }

    #[test]
    fn a_known_group_of_pictures_fits_the_target() {
        for (millis, fitting) in
            [(0, 4), (2000, 4), (4170, 4), (5000, 5), (8333, 8), (10_000, 10), (20_000, 4)]
        {
            assert_eq!(target(millis), fitting, "{millis} ms");
            let limits = Limits::new(&HlsSettings::default(), Duration::from_millis(millis));
            assert!(millis > 10_000 || limits.longest_segment() >= Duration::from_millis(millis));
        }
    }

    #[test]
    fn l11_whole_frames_are_85_to_100_percent_of_a_part_target() {
        let frames = [24.0, 23.976, 25.0, 29.97, 30.0, 48.0, 50.0, 59.94, 60.0].map(|rate| 1.0 / rate);
        // AAC, HE-AAC and Opus.
        let sound = [1024.0 / 48_000.0, 1024.0 / 44_100.0, 2048.0 / 48_000.0, 2048.0 / 44_100.0, 0.02];
        for millis in [200, 250, 333, 500] {
            let settings =
                HlsSettings { part_duration: Duration::from_millis(millis), ..HlsSettings::default() };
            let limits = Limits::new(&settings, Duration::ZERO);
            for frame in frames.into_iter().chain(sound) {
                let part = (limits.longest_part().as_secs_f64() / frame).floor() * frame;
                let share = part / limits.part_target.as_secs_f64();
                assert!((0.85..=1.0).contains(&share), "{millis} ms, frames of {frame} s: {share}");
            }
        }
    }
}
