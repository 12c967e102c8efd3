//! Datagrams that were dropped, by reason: plain counters, for whoever reports them.

use super::demux::Datagram;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a datagram was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// It is neither STUN nor DTLS, RTP or RTCP.
    Unintelligible,
    /// A STUN message that names no session of ours.
    StrayStun,
    /// A STUN message for a session, which its key has not signed, or after the session's end.
    UnauthenticStun,
    /// A handshake from an address that has not passed a connectivity check.
    StrayDtls,
    /// RTP or RTCP from an address that has not passed a connectivity check.
    StrayMedia,
    /// Its worker does not keep up. Counted every ten seconds.
    WorkerBusy,
    /// To a peer: the kernel's send buffer was full. Counted every ten seconds, a burst of one frame as one.
    SendBufferFull,
}

impl DropReason {
    /// All of them, in the order in which they are counted.
    pub const ALL: [Self; 7] = [
        Self::Unintelligible,
        Self::StrayStun,
        Self::UnauthenticStun,
        Self::StrayDtls,
        Self::StrayMedia,
        Self::WorkerBusy,
        Self::SendBufferFull,
    ];

    /// How reports name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unintelligible => "unintelligible",
            Self::StrayStun => "stray_stun",
            Self::UnauthenticStun => "unauthentic_stun",
            Self::StrayDtls => "stray_dtls",
            Self::StrayMedia => "stray_media",
            Self::WorkerBusy => "worker_busy",
            Self::SendBufferFull => "send_buffer_full",
        }
    }
}

impl From<Datagram> for DropReason {
    /// Why a datagram of this kind is dropped when it belongs to no session.
    fn from(kind: Datagram) -> Self {
        match kind {
            Datagram::Stun => Self::StrayStun,
            Datagram::Dtls => Self::StrayDtls,
            Datagram::Rtp | Datagram::Rtcp => Self::StrayMedia,
        }
    }
}

/// One counter a reason, for all workers.
#[derive(Debug, Default)]
pub(super) struct Dropped([AtomicU64; DropReason::ALL.len()]);

impl Dropped {
    /// So many more.
    pub(super) fn add(&self, reason: DropReason, count: u64) {
        self.0[reason as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// How many so far.
    pub(super) fn snapshot(&self) -> [(DropReason, u64); DropReason::ALL.len()] {
        DropReason::ALL.map(|reason| (reason, self.0[reason as usize].load(Ordering::Relaxed)))
    }
}
