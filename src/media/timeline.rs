//! From the numbers of RTP to time: the tracks of one publisher on one timeline.
//!
//! Pure: arrival is an argument, and matters only until sender reports tell how the tracks lie to each
//! other (RFC 3550 §6.4.1).

use super::{MediaKind, MediaTime, TimestampUnwrapper};
use std::time::{Duration, Instant, SystemTime};

/// A report that would move a track by more than this is wrong.
const ABSURD_NANOS: i64 = 10_000_000_000;
/// Errors up to this are left alone once the tracks have been aligned.
const TOLERANCE_NANOS: i64 = 15_000_000;
/// Two measurements of one error differ by less than this.
const AGREEMENT_NANOS: i64 = 5_000_000;

/// An RTP clock of one publisher: each track has one, and each encoding of a simulcast track its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RtpClock {
    /// The sound's.
    Audio,
    /// That of one encoding of the pictures; 0 without simulcast.
    Video(u8),
}

impl From<MediaKind> for RtpClock {
    fn from(kind: MediaKind) -> Self {
        match kind {
            MediaKind::Audio => Self::Audio,
            MediaKind::Video => Self::Video(0),
        }
    }
}

/// Places the tracks of one publisher on one [`MediaTime`] timeline.
///
/// The origin is the arrival of the first media. A track's first packet lies where it arrived, all
/// others by their RTP timestamps. When sender reports are there, audio is moved against video, and each
/// encoding of a simulcast track against the one that came first: once; later, only when the clocks have
/// drifted apart by more than 15 ms. The encoding that came first never moves.
#[derive(Debug)]
pub struct Timeline {
    origin: Instant,
    wall_origin: SystemTime,
    /// The video that came first: the others are moved against it.
    reference: Option<RtpClock>,
    /// One for each clock that has sent a packet or a report.
    tracks: Vec<Track>,
    rejected_reports: u64,
}

#[derive(Debug)]
struct Track {
    id: RtpClock,
    clock: Option<TrackClock>,
    report: Option<SenderReport>,
    aligned: bool,
    /// An error that waits for a second measurement.
    suspected: Option<i64>,
}

/// A sender's statement of what its media clock showed at an instant of its wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderReport {
    /// NTP timestamp, 32.32 fixed point, as in the report. Zero: the sender has no wall clock.
    pub ntp: u64,
    /// The RTP timestamp of the same instant.
    pub timestamp: u32,
}

/// A packet's RTP timestamp lies more than 10 s from where its arrival lets expect it: the sender has
/// started anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the RTP timestamp jumped by {nanos} ns against the arrival of its packet")]
pub struct TimestampJump {
    /// How far, forward if positive.
    pub nanos: i64,
}

#[derive(Debug)]
struct TrackClock {
    rate: u32,
    unwrapper: TimestampUnwrapper,
    /// Where tick zero of the unwrapped clock lies on the timeline.
    offset_nanos: i64,
    /// The latest packet: its ticks and its arrival.
    latest: (i64, Instant),
}

impl Timeline {
    /// A timeline whose [`MediaTime::ZERO`] is `origin`, the arrival of the first media; `wall_origin` is
    /// the wall-clock time of that instant.
    pub fn new(origin: Instant, wall_origin: SystemTime) -> Self {
        Self { origin, wall_origin, reference: None, tracks: Vec::new(), rejected_reports: 0 }
    }

    /// The wall-clock time of [`MediaTime::ZERO`].
    pub fn wall_origin(&self) -> SystemTime {
        self.wall_origin
    }

    /// The place of a packet with the RTP `timestamp` of a clock of `rate` Hz, which arrived at `now`.
    ///
    /// # Errors
    /// [`TimestampJump`] if the timestamp does not continue what came before; nothing has changed then,
    /// and [`Self::restart`] makes the next packet the track's first.
    pub fn place(
        &mut self,
        clock: impl Into<RtpClock>,
        rate: u32,
        timestamp: u32,
        now: Instant,
    ) -> Result<MediaTime, TimestampJump> {
        let (id, arrival) = (clock.into(), nanos_between(self.origin, now));
        let track = self.track(id);
        if let Some(clock) = &mut track.clock {
            return clock.place(timestamp, now);
        }
        let mut unwrapper = TimestampUnwrapper::default();
        let ticks = unwrapper.unwrap(timestamp);
        let offset_nanos = arrival - MediaTime::from_ticks(ticks, rate).as_nanos();
        track.clock = Some(TrackClock { rate, unwrapper, offset_nanos, latest: (ticks, now) });
        if matches!(id, RtpClock::Video(_)) {
            self.reference.get_or_insert(id);
        }
        self.align(); // a report may have come before the track's first packet
        Ok(MediaTime::from_nanos(arrival))
    }

    /// Takes the latest sender report of a track.
    pub fn sender_report(&mut self, clock: impl Into<RtpClock>, report: SenderReport) {
        if report.ntp == 0 {
            return; // RFC 3550 §6.4.1: a sender without a notion of wall-clock time
        }
        self.track(clock.into()).report = Some(report);
        self.align();
    }

    /// Forgets the clock of a track whose sender started anew: its next packet lies where it arrives.
    pub fn restart(&mut self, clock: impl Into<RtpClock>) {
        let id = clock.into();
        let track = self.track(id);
        (track.clock, track.report) = (None, None);
        for track in &mut self.tracks {
            if track.id == id || self.reference == Some(id) {
                (track.aligned, track.suspected) = (false, None);
            }
        }
    }

    fn track(&mut self, id: RtpClock) -> &mut Track {
        let known = self.tracks.iter().position(|track| track.id == id);
        let index = known.unwrap_or_else(|| {
            let (clock, report, suspected) = (None, None, None);
            self.tracks.push(Track { id, clock, report, aligned: false, suspected });
            self.tracks.len() - 1
        });
        &mut self.tracks[index]
    }

    /// Whether audio and video have been aligned by sender reports.
    pub fn is_aligned(&self) -> bool {
        self.tracks.iter().any(|track| track.id == RtpClock::Audio && track.aligned)
    }

    /// Sender reports that were ignored because they would have moved audio by more than 10 s.
    pub fn rejected_reports(&self) -> u64 {
        self.rejected_reports
    }

    /// Moves each track to where its latest report and that of the reference want it, if that is worth a
    /// jump.
    fn align(&mut self) {
        let reference = self.tracks.iter().find(|track| Some(track.id) == self.reference);
        let Some((id, place, ntp)) = reference.and_then(|track| {
            let report = track.report?;
            Some((track.id, track.clock.as_ref()?.at(report.timestamp), report.ntp))
        }) else {
            return;
        };
        for track in self.tracks.iter_mut().filter(|track| track.id != id) {
            self.rejected_reports += u64::from(!track.align(place, ntp));
        }
    }
}

impl Track {
    /// Moves the track against the reference, which shows `place` at `ntp`. False if its report is absurd.
    fn align(&mut self, place: i64, ntp: u64) -> bool {
        let (Some(clock), Some(report)) = (&mut self.clock, self.report) else { return true };
        let error = clock.at(report.timestamp) - place - ntp_nanos_between(ntp, report.ntp);
        if error.abs() > ABSURD_NANOS {
            self.suspected = None;
            return false;
        }
        if self.aligned && error.abs() <= TOLERANCE_NANOS {
            self.suspected = None;
            return true;
        }
        // Once aligned, an error must be seen twice: a sender that sets its wall clock between the reports
        // of its tracks shows an error once.
        let confirmed = self.suspected.is_some_and(|before| (error - before).abs() < AGREEMENT_NANOS);
        if self.aligned && !confirmed {
            self.suspected = Some(error);
            return true;
        }
        clock.offset_nanos -= error;
        self.aligned = true;
        self.suspected = None;
        true
    }
}

impl TrackClock {
    fn place(&mut self, timestamp: u32, now: Instant) -> Result<MediaTime, TimestampJump> {
        let ticks = self.unwrapper.peek(timestamp);
        let (latest_ticks, latest_arrival) = self.latest;
        let media = MediaTime::from_ticks(ticks - latest_ticks, self.rate).as_nanos();
        let nanos = media - nanos_between(latest_arrival, now);
        if nanos.abs() > ABSURD_NANOS {
            return Err(TimestampJump { nanos });
        }
        self.unwrapper.unwrap(timestamp);
        if ticks >= latest_ticks {
            self.latest = (ticks, now);
        }
        Ok(MediaTime::from_ticks(ticks, self.rate).shifted(self.offset_nanos))
    }

    /// The place of a timestamp near the latest packet's, in nanoseconds.
    fn at(&self, timestamp: u32) -> i64 {
        MediaTime::from_ticks(self.unwrapper.peek(timestamp), self.rate).as_nanos() + self.offset_nanos
    }
}

fn nanos_between(from: Instant, to: Instant) -> i64 {
    let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    match to.checked_duration_since(from) {
        Some(after) => nanos(after),
        None => -nanos(from.duration_since(to)),
    }
}

/// The signed time between two NTP timestamps; a change of era is no obstacle.
fn ntp_nanos_between(from: u64, to: u64) -> i64 {
    ((i128::from(to.wrapping_sub(from) as i64) * 1_000_000_000) >> 32) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use MediaKind::{Audio, Video};

    fn timeline() -> (Timeline, Instant) {
        let start = Instant::now();
        (Timeline::new(start, SystemTime::UNIX_EPOCH), start)
    }

    fn ms(millis: i64) -> MediaTime {
        MediaTime::from_millis(millis)
    }

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    /// A report of the sender's wall clock at so many milliseconds.
    fn report(millis: u64, timestamp: u32) -> SenderReport {
        SenderReport { ntp: (0xE000_0000 << 32) + (millis << 32) / 1000, timestamp }
    }

    fn near(actual: MediaTime, expected: MediaTime) -> bool {
        (actual.as_nanos() - expected.as_nanos()).abs() < 1_000
    }

    #[test]
    fn before_reports_tracks_lie_where_they_arrived() {
        let (mut timeline, start) = timeline();
        assert_eq!(timeline.place(Video, 90_000, 5_000, start), Ok(ms(0)));
        assert_eq!(timeline.place(Audio, 48_000, u32::MAX, after(start, 30)), Ok(ms(30)));
        // Arrival no longer matters, and a wrap is no obstacle.
        assert_eq!(timeline.place(Audio, 48_000, 959, after(start, 90)), Ok(ms(50)));
        assert_eq!(timeline.place(Video, 90_000, 5_000 + 3_600, after(start, 90)), Ok(ms(40)));
        assert_eq!(timeline.place(Video, 90_000, 5_000 + 1_800, after(start, 91)), Ok(ms(20)));
    }

    #[test]
    fn encodings_of_one_picture_agree_after_their_reports() {
        let (mut timeline, start) = timeline();
        let (low, high) = (RtpClock::Video(2), RtpClock::Video(0));
        timeline.place(low, 90_000, 5_000, start).expect("first");
        timeline.place(Audio, 48_000, 0, after(start, 10)).expect("first");
        // The same picture takes longer to encode; its clock begins anywhere.
        timeline.place(high, 90_000, u32::MAX, after(start, 40)).expect("first");
        timeline.sender_report(high, report(2_000, 179_999));
        timeline.sender_report(low, report(2_000, 5_000 + 180_000));
        assert!(!timeline.is_aligned(), "no word of the audio yet");
        let picture = |timeline: &mut Timeline, number: u32| {
            let at = after(start, 2_040 + u64::from(number) * 20);
            let low = timeline.place(low, 90_000, 185_000 + number * 1_800, at).expect("continues");
            let high = timeline.place(high, 90_000, 179_999 + number * 1_800, at).expect("continues");
            assert!(near(low, high), "{low:?} {high:?}");
            low
        };
        assert_eq!(picture(&mut timeline, 0), ms(2_000), "what came first never moves");
        timeline.sender_report(Audio, report(2_000, 96_480));
        assert!(timeline.is_aligned());
        let audio = timeline.place(Audio, 48_000, 96_480, after(start, 2_050)).expect("continues");
        assert!(near(audio, ms(2_000)), "{audio:?}");
        // An encoding that starts anew is placed by arrival, until its next report.
        timeline.restart(high);
        timeline.place(high, 90_000, 7, after(start, 2_090)).expect("first");
        timeline.sender_report(high, report(2_050, 7));
        let high = timeline.place(high, 90_000, 7, after(start, 2_090)).expect("continues");
        assert!(near(high, ms(2_050)), "{high:?}");
        assert!(timeline.is_aligned(), "the others stay");
    }

    #[test]
    fn reports_of_both_tracks_move_audio_once_and_video_never() {
        let (mut timeline, start) = timeline();
        timeline.place(Video, 90_000, 0, start).expect("first");
        timeline.place(Audio, 48_000, 0, after(start, 80)).expect("first"); // captured with the first picture
        timeline.sender_report(Audio, report(1_000, 48_000));
        assert!(!timeline.is_aligned());
        assert_eq!(timeline.place(Audio, 48_000, 48_000, after(start, 1_080)), Ok(ms(1_080)));
        timeline.sender_report(Video, report(1_500, 135_000));
        assert!(timeline.is_aligned());
        let audio = timeline.place(Audio, 48_000, 48_960, after(start, 1_100)).expect("continues");
        assert!(near(audio, ms(1_020)), "{audio:?}");
        assert_eq!(timeline.place(Video, 90_000, 90_000, after(start, 1_000)), Ok(ms(1_000)));
    }

    #[test]
    fn reports_before_the_first_packet_count() {
        let (mut timeline, start) = timeline();
        timeline.sender_report(Video, report(0, 0));
        timeline.sender_report(Audio, report(0, 0));
        timeline.place(Video, 90_000, 0, start).expect("first");
        timeline.place(Audio, 48_000, 960, after(start, 120)).expect("first");
        let audio = timeline.place(Audio, 48_000, 1_920, after(start, 140)).expect("continues");
        assert!(near(audio, ms(40)), "{audio:?}");
    }

    #[test]
    fn drift_is_corrected_beyond_15_ms_in_one_step() {
        let (mut timeline, start) = timeline();
        timeline.place(Video, 90_000, 0, start).expect("first");
        timeline.place(Audio, 48_000, 0, start).expect("first");
        let place = |timeline: &mut Timeline, second: u64| {
            // The audio clock runs 0.1 % fast.
            let audio = timeline.place(Audio, 48_000, (second * 48_048) as u32, after(start, second * 1_000));
            timeline
                .place(Video, 90_000, (second * 90_000) as u32, after(start, second * 1_000))
                .expect("continues");
            timeline.sender_report(Audio, report(second * 1_000, (second * 48_048) as u32));
            timeline.sender_report(Video, report(second * 1_000, (second * 90_000) as u32));
            audio.expect("continues").as_nanos() - second as i64 * 1_000_000_000
        };
        let errors: Vec<i64> = (0..120).map(|second| place(&mut timeline, second)).collect();
        assert!(errors.iter().all(|error| *error < 18_000_000), "{errors:?}");
        let steps = errors.windows(2).filter(|pair| pair[1] < pair[0] - 10_000_000).count();
        assert!((6..=9).contains(&steps), "{steps}");
    }

    #[test]
    fn absurd_reports_are_ignored_and_counted() {
        let (mut timeline, start) = timeline();
        timeline.place(Video, 90_000, 0, start).expect("first");
        timeline.place(Audio, 48_000, 0, start).expect("first");
        timeline.sender_report(Video, report(0, 0));
        timeline.sender_report(Audio, report(11_000, 0));
        assert_eq!((timeline.rejected_reports(), timeline.is_aligned()), (1, false));
        assert_eq!(timeline.place(Audio, 48_000, 960, after(start, 20)), Ok(ms(20)));
        timeline.sender_report(Audio, SenderReport { ntp: 0, timestamp: 0 });
        assert_eq!(timeline.rejected_reports(), 1);
    }

    #[test]
    fn a_step_of_the_senders_wall_clock_moves_nothing() {
        let (mut timeline, start) = timeline();
        timeline.place(Video, 90_000, 0, start).expect("first");
        timeline.place(Audio, 48_000, 0, start).expect("first");
        timeline.sender_report(Video, report(0, 0));
        timeline.sender_report(Audio, report(0, 0));
        // The clock is set forward by 2 s between the reports.
        timeline.sender_report(Audio, report(3_000, 48_000));
        timeline.sender_report(Video, report(3_000, 90_000));
        assert_eq!(timeline.place(Audio, 48_000, 48_000, after(start, 1_000)), Ok(ms(1_000)));
    }

    #[test]
    fn a_sender_that_starts_anew_is_noticed_and_placed_by_arrival() {
        let (mut timeline, start) = timeline();
        timeline.place(Video, 90_000, 0, start).expect("first");
        let jump = timeline.place(Video, 90_000, 1_000_000_000, after(start, 40));
        assert!(matches!(jump, Err(TimestampJump { nanos }) if nanos > 0), "{jump:?}");
        assert_eq!(timeline.place(Video, 90_000, 3_600, after(start, 40)), Ok(ms(40)));
        timeline.restart(Video);
        assert_eq!(timeline.place(Video, 90_000, 1_000_000_000, after(start, 80)), Ok(ms(80)));
        // A pause of the sender is none, if its clock ran on.
        assert!(timeline.place(Video, 90_000, 1_005_400_000, after(start, 60_080)).is_ok());
    }
}
