//! One SSRC of a publisher: the indices of its packets, and how well they arrive.
//!
//! Promises that no packet is taken twice (RFC 3711 §3.3.2) and that nothing changes before a packet was found
//! authentic. The replay window is 4096 packets, since retransmissions without an SSRC of their own come late.

use crate::media::{Sequence, SequenceUnwrapper};
use std::time::{Duration, Instant};

/// The 48 bits of a packet index.
const INDEX: u64 = (1 << 48) - 1;
/// What a [`SequenceUnwrapper`] adds to the first number.
const BIAS: u64 = 1 << 16;

/// What a source carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The media of the receiver at this place.
    Media(usize),
    /// Retransmissions for it (RFC 4588).
    Repair(usize),
}

/// One SSRC.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) ssrc: u32,
    pub(super) role: Role,
    /// The latest authentic packet.
    pub(super) heard: Instant,
    window: SequenceUnwrapper,
    /// The roll-over counter of the first packet.
    roll_over: u64,
    reception: Reception,
}

/// Packets between two reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) expected: u64,
    pub(super) lost: u64,
}

/// What receiver reports tell (RFC 3550 §6.4.1).
#[derive(Debug, Default)]
struct Reception {
    first: u64,
    received: u64,
    /// Expected and received at the latest report.
    reported: (u64, u64),
    /// Sixteenths of a tick, as in RFC 3550 §A.8.
    jitter: i64,
    transit: Option<i64>,
    /// The middle of the NTP timestamp of the latest sender report, and its arrival.
    sender_report: Option<(u32, Instant)>,
}

impl Source {
    /// A source whose first packet has this roll-over counter.
    pub(super) fn new(ssrc: u32, role: Role, roll_over: u32, now: Instant) -> Self {
        Self {
            ssrc,
            role,
            heard: now,
            window: SequenceUnwrapper::default(),
            roll_over: u64::from(roll_over),
            reception: Reception::default(),
        }
    }

    /// The index of the packet with this sequence number (RFC 3711 §3.3.1); `None` if it was here before or is
    /// too old to know.
    pub(super) fn index(&self, sequence: u16) -> Option<u64> {
        match self.window.peek(sequence) {
            Sequence::New(number) => {
                Some(number.wrapping_sub(BIAS).wrapping_add(self.roll_over << 16) & INDEX)
            }
            Sequence::Duplicate(_) | Sequence::Stale(_) => None,
        }
    }

    /// The packet was authentic. `timestamp` is of a clock of `rate` Hz.
    pub(super) fn accept(&mut self, now: Instant, sequence: u16, timestamp: u32, rate: u32, epoch: Instant) {
        self.heard = now;
        let Sequence::New(number) = self.window.unwrap(sequence) else { return };
        let reception = &mut self.reception;
        if reception.received == 0 {
            reception.first = number;
        }
        reception.received += 1;
        let since = now.saturating_duration_since(epoch).as_nanos() as i128;
        let arrival = (since * i128::from(rate) / 1_000_000_000) as i64;
        // Both wrap; their difference is small.
        let transit = i64::from((arrival as u32).wrapping_sub(timestamp));
        if let Some(before) = reception.transit.replace(transit) {
            let change = i64::from((transit as u32).wrapping_sub(before as u32) as i32).abs();
            // A jump of the sender's clock is no jitter.
            if change < i64::from(rate) * 5 {
                reception.jitter += change - ((reception.jitter + 8) >> 4);
            }
        }
    }

    /// Its sender report came.
    pub(super) fn sender_report(&mut self, now: Instant, ntp: u64) {
        self.reception.sender_report = Some(((ntp >> 16) as u32, now));
    }

    /// Appends its report block (RFC 3550 §6.4.1): 24 bytes. How the time since the last one was.
    pub(super) fn write_report(&mut self, now: Instant, output: &mut Vec<u8>) -> Interval {
        let highest = self.window.highest().unwrap_or(BIAS);
        let reception = &mut self.reception;
        let expected = if reception.received == 0 { 0 } else { highest.saturating_sub(reception.first) + 1 };
        let (expected_before, received_before) = reception.reported;
        reception.reported = (expected, reception.received);
        let expected_now = expected.saturating_sub(expected_before) as i64;
        let lost_now = expected_now - (reception.received - received_before) as i64;
        let fraction = if expected_now == 0 || lost_now <= 0 { 0 } else { (lost_now << 8) / expected_now };
        let lost = (expected as i64 - reception.received as i64).clamp(-0x80_0000, 0x7f_ffff);
        let (report, delay) = reception
            .sender_report
            .map_or((0, Duration::ZERO), |(report, at)| (report, now.saturating_duration_since(at)));
        let delay = (delay.as_micros() * 65_536 / 1_000_000) as u32;
        output.extend(self.ssrc.to_be_bytes());
        output.push(fraction.min(255) as u8);
        output.extend(&(lost as i32).to_be_bytes()[1..]);
        output.extend((highest.wrapping_sub(BIAS) as u32).to_be_bytes());
        output.extend(((reception.jitter >> 4) as u32).to_be_bytes());
        output.extend(report.to_be_bytes());
        output.extend(delay.to_be_bytes());
        Interval { expected: expected_now.max(0) as u64, lost: lost_now.max(0) as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(now: Instant) -> Source {
        Source::new(7, Role::Media(0), 0, now)
    }

    #[test]
    fn indices_follow_the_roll_over_and_nothing_is_taken_twice() {
        let now = Instant::now();
        let mut source = source(now);
        for (sequence, index) in [(65_534, 65_534), (0, 65_536), (65_535, 65_535), (1, 65_537)] {
            assert_eq!(source.index(sequence), Some(index));
            source.accept(now, sequence, 0, 90_000, now);
            assert_eq!(source.index(sequence), None, "a repetition");
        }
        for sequence in 2..5_000 {
            source.accept(now, sequence, 0, 90_000, now);
        }
        assert_eq!(source.index(65_533), None, "behind the window");
    }

    #[test]
    fn reports_tell_losses_jitter_and_the_time_since_the_sender_report() {
        let start = Instant::now();
        let mut source = source(start);
        // 20 packets at 50 Hz of which 5 are lost; each second one comes 4 ms late.
        for number in (0..20u32).filter(|number| number % 4 != 3) {
            let late = Duration::from_millis(if number % 2 == 0 { 0 } else { 4 });
            let at = start + Duration::from_millis(20) * number + late;
            source.accept(at, (65_530 + number) as u16, number * 1_800, 90_000, start);
        }
        source.sender_report(start, 0x0102_0304_0506_0708);
        let mut output = Vec::new();
        source.write_report(start + Duration::from_millis(500), &mut output);
        assert_eq!(output[..4], 7u32.to_be_bytes());
        // 19 were expected: the last one lost is not known to be.
        assert_eq!(output[4..8], [(4 * 256 / 19) as u8, 0, 0, 4]);
        assert_eq!(output[8..12], (65_530u32 + 18).to_be_bytes());
        let jitter = u32::from_be_bytes([output[12], output[13], output[14], output[15]]);
        assert!((100..360).contains(&jitter), "{jitter} ticks of 90 kHz");
        assert_eq!(output[16..20], [3, 4, 5, 6]);
        assert_eq!(output[20..24], 32_768u32.to_be_bytes());
        // Nothing new: nothing lost.
        let mut second = Vec::new();
        source.write_report(start + Duration::from_secs(1), &mut second);
        assert_eq!(second[4..8], [0, 0, 0, 4]);
    }
}
