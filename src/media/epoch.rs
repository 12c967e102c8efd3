//! A stretch of a stream with one set of configurations and one continuous timeline.

use super::Tracks;
use std::time::SystemTime;

/// What holds for all media of one stretch of one lane.
///
/// A pause, a reconnect, a change of codec, resolution or parameter sets begins a new epoch. HLS turns
/// that into a discontinuity, a restream into new sequence headers.
#[derive(Debug)]
pub struct Epoch {
    /// Rises with each epoch of a stream.
    pub id: u64,
    /// The configurations.
    pub tracks: Tracks,
    /// The wall-clock instant of [`MediaTime::ZERO`](super::MediaTime::ZERO): for date-time tags and
    /// sender reports only.
    pub wall_origin: SystemTime,
}
