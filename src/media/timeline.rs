//! From the timestamps of RTP to time: the tracks of one publisher on one timeline.
//!
//! Pure: arrival is an argument, and matters only until sender reports tell how the tracks lie to each
//! other (RFC 3550 §6.4.1).

use super::unwrap::TimestampUnwrapper;
use super::{MediaKind, MediaTime};
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
mod tests;
