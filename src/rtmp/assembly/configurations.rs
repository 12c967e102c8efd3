//! Tracks whose frames come without the configuration that a decoder needs. Pure.

use crate::media::{Codec, MediaKind};
use std::time::{Duration, Instant};

/// Frames may come for so long before their configuration.
const PATIENCE: Duration = Duration::from_secs(5);

/// A track that can't be used for want of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} comes without {what}, so it can't be decoded and is left out", what = missing(.0))]
pub(in crate::rtmp) struct NoConfiguration(Codec);

/// Which tracks wait for their configuration.
#[derive(Debug, Default)]
pub(super) struct Configurations {
    video: Option<Waiting>,
    audio: Option<Waiting>,
}

/// A track that waits.
#[derive(Debug)]
struct Waiting {
    codec: Codec,
    /// When its first frame came.
    since: Instant,
    /// It has waited too long.
    lacking: bool,
}

impl Configurations {
    /// A frame came that nothing configures.
    pub(super) fn wanted(&mut self, now: Instant, codec: Codec) {
        let waiting = Waiting { codec, since: now, lacking: false };
        self.track(codec.kind()).get_or_insert(waiting);
    }

    /// The configuration of a track is there.
    pub(super) fn found(&mut self, kind: MediaKind) {
        *self.track(kind) = None;
    }

    /// Looks which tracks have waited too long.
    pub(super) fn look(&mut self, now: Instant) {
        for track in [&mut self.video, &mut self.audio].into_iter().flatten() {
            track.lacking |= now >= track.since + PATIENCE;
        }
    }

    /// When [`Self::look`] will find another one.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting().filter(|track| !track.lacking).map(|track| track.since + PATIENCE).min()
    }

    /// The tracks that have waited too long: video, audio.
    pub(super) fn lacking(&self) -> [Option<NoConfiguration>; 2] {
        [&self.video, &self.audio].map(|track| {
            track.as_ref().filter(|track| track.lacking).map(|track| NoConfiguration(track.codec))
        })
    }

    /// The track that has waited longest, and since when.
    pub(super) fn longest(&self) -> Option<(Instant, NoConfiguration)> {
        self.waiting()
            .map(|track| (track.since, NoConfiguration(track.codec)))
            .min_by_key(|(since, _)| *since)
    }

    fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        [&self.video, &self.audio].into_iter().flatten()
    }

    fn track(&mut self, kind: MediaKind) -> &mut Option<Waiting> {
        match kind {
            MediaKind::Video => &mut self.video,
            MediaKind::Audio => &mut self.audio,
        }
    }
}

/// What would configure a track.
fn missing(codec: &Codec) -> &'static str {
    match codec {
        Codec::Aac => "an AudioSpecificConfig",
        Codec::Mp3 => "a frame header",
        _ => "a sequence header",
    }
}
