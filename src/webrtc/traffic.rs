//! What a session's peer and we have sent, as others may know it: written by the session's worker, with plain
//! stores, and read whenever somebody asks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// One session's counters.
#[derive(Debug)]
pub struct Traffic {
    received: AtomicU64,
    sent: AtomicU64,
    /// Microseconds; [`UNKNOWN`].
    round_trip: AtomicU64,
    /// In 256ths; [`UNKNOWN`].
    lost: AtomicU64,
    packets_lost: AtomicU64,
    packets_resent: AtomicU64,
}

/// [`Traffic`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TrafficSnapshot {
    /// Bytes of datagrams received.
    pub received: u64,
    /// Bytes of RTP sent, repeated packets included.
    pub sent: u64,
    /// As the peer's latest report lets us reckon.
    pub round_trip: Option<Duration>,
    /// The part of the packets that was lost lately, from 0 to 1.
    pub loss: Option<f64>,
    /// Packets that the peer says it has lost.
    pub packets_lost: u64,
    /// Packets that were sent again.
    pub packets_resent: u64,
}

const UNKNOWN: u64 = u64::MAX;

impl Default for Traffic {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            received: zero(),
            sent: zero(),
            round_trip: AtomicU64::new(UNKNOWN),
            lost: AtomicU64::new(UNKNOWN),
            packets_lost: zero(),
            packets_resent: zero(),
        }
    }
}

impl Traffic {
    /// Counts a datagram. To be called by one thread only.
    pub(super) fn received(&self, bytes: usize) {
        self.received.store(self.received.load(Relaxed) + bytes as u64, Relaxed);
    }

    /// So much has been sent, and so many packets again.
    pub(super) fn set_sent(&self, bytes: u64, resent: u64) {
        self.sent.store(bytes, Relaxed);
        self.packets_resent.store(resent, Relaxed);
    }

    /// So many packets have been lost since the session began.
    pub(super) fn set_packets_lost(&self, packets: u64) {
        self.packets_lost.store(packets, Relaxed);
    }

    /// Of 256 packets, so many were lost lately.
    pub(super) fn set_lost(&self, of_256: u8) {
        self.lost.store(of_256.into(), Relaxed);
    }

    /// A report was sent and answered within this time.
    pub(super) fn set_round_trip(&self, time: Duration) {
        self.round_trip.store(u64::try_from(time.as_micros()).unwrap_or(UNKNOWN), Relaxed);
    }

    /// All counters now.
    pub fn snapshot(&self) -> TrafficSnapshot {
        let known = |value: &AtomicU64| Some(value.load(Relaxed)).filter(|value| *value != UNKNOWN);
        TrafficSnapshot {
            received: self.received.load(Relaxed),
            sent: self.sent.load(Relaxed),
            round_trip: known(&self.round_trip).map(Duration::from_micros),
            loss: known(&self.lost).map(|lost| lost as f64 / 256.0),
            packets_lost: self.packets_lost.load(Relaxed),
            packets_resent: self.packets_resent.load(Relaxed),
        }
    }
}
