//! How often each limit has refused something: plain counters, for whoever reports them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A limit that refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Offers of one source: answered 429.
    Posts,
    /// PATCH requests to one session: answered 429.
    Patches,
    /// PATCH and DELETE requests of one source, to whatever sessions: answered 429.
    SessionRequests,
    /// Keys of a source that has shown too many wrong ones: not looked at.
    KeyAttempts,
    /// WebRTC sessions without a connectivity check (answered 503), RTMP connections that have not published.
    HalfOpen,
    /// HTTP connections of one source, and in all: closed.
    HttpConnections,
    /// RTMP connections of one source, and in all: closed.
    RtmpConnections,
    /// TCP connections for WebRTC of one source, and in all: closed.
    WebRtcConnections,
}

impl Limit {
    /// All of them, in the order in which they are counted.
    pub const ALL: [Self; 8] = [
        Self::Posts,
        Self::Patches,
        Self::SessionRequests,
        Self::KeyAttempts,
        Self::HalfOpen,
        Self::HttpConnections,
        Self::RtmpConnections,
        Self::WebRtcConnections,
    ];

    /// How reports name it: the setting's name, where it has one.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Posts => "posts_per_second",
            Self::Patches => "patches_per_second",
            Self::SessionRequests => "session_requests_per_second",
            Self::KeyAttempts => "key_attempts_per_minute",
            Self::HalfOpen => "half_open",
            Self::HttpConnections => "http_connections",
            Self::RtmpConnections => "rtmp_connections",
            Self::WebRtcConnections => "webrtc_tcp_connections",
        }
    }
}

/// One counter a limit. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<[AtomicU64; Limit::ALL.len()]>);

impl Refusals {
    /// The limit has refused something.
    pub fn count(&self, limit: Limit) {
        self.0[limit as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often each limit has refused something since the start.
    pub fn snapshot(&self) -> [(Limit, u64); Limit::ALL.len()] {
        Limit::ALL.map(|limit| (limit, self.0[limit as usize].load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_a_counter_and_a_name_of_its_own() {
        let refusals = Refusals::default();
        for (times, limit) in Limit::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| refusals.clone().count(limit));
        }
        for (times, (limit, counted)) in refusals.snapshot().into_iter().enumerate() {
            assert_eq!((limit, counted), (Limit::ALL[times], times as u64));
            assert_eq!(Limit::ALL.iter().filter(|other| other.name() == limit.name()).count(), 1);
        }
    }
}
