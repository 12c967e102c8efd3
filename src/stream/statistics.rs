//! Counters of a stream. Cheap to write, read by the API.

use super::Stream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Who reads a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReaderKind {
    /// HLS players.
    Hls,
    /// WebRTC players.
    Whep,
    /// Restream targets.
    Restream,
}

/// What all streams together have been since the start, those that have ended included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Streams that have come to life.
    pub streams: u64,
    /// Their counters; no readers.
    pub statistics: StatisticsSnapshot,
}

impl Totals {
    pub(super) fn add(&mut self, stream: &Stream) {
        self.streams += 1;
        self.statistics = self.statistics.plus(&stream.statistics().snapshot());
    }
}

/// Counters since the stream began.
#[derive(Debug, Default)]
pub struct Statistics {
    bytes: AtomicU64,
    items: AtomicU64,
    lagged: AtomicU64,
    video_frames: AtomicU64,
    keyframes: AtomicU64,
    repaired: AtomicU64,
    left_out: AtomicU64,
    hls: AtomicUsize,
    whep: AtomicUsize,
    restream: AtomicUsize,
}

/// [`Statistics`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatisticsSnapshot {
    /// Payload bytes received from publishers.
    pub bytes_received: u64,
    /// Items (frames or packet batches) received from publishers.
    pub items_received: u64,
    /// Video frames received from publishers.
    pub video_frames: u64,
    /// Keyframes among them.
    pub keyframes: u64,
    /// Timestamps of publishers that repeated or fell back a little, and were moved behind the one before.
    pub timestamps_repaired: u64,
    /// Tracks of the publisher that are left out: an RTMP message may hold several of a kind.
    pub tracks_left_out: u64,
    /// Items that readers lost because they lagged.
    pub items_lagged: u64,
    /// HLS players.
    pub hls_readers: usize,
    /// WHEP players.
    pub whep_readers: usize,
    /// Restream targets.
    pub restream_readers: usize,
}

impl StatisticsSnapshot {
    /// The counters of both; readers are those of `self`.
    pub(super) fn plus(self, other: &Self) -> Self {
        Self {
            bytes_received: self.bytes_received + other.bytes_received,
            items_received: self.items_received + other.items_received,
            video_frames: self.video_frames + other.video_frames,
            keyframes: self.keyframes + other.keyframes,
            timestamps_repaired: self.timestamps_repaired + other.timestamps_repaired,
            items_lagged: self.items_lagged + other.items_lagged,
            ..self
        }
    }
}

impl Statistics {
    /// Counts one item from the publisher.
    pub(super) fn received(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
        self.items.fetch_add(1, Relaxed);
    }

    /// Items received so far.
    pub(super) fn items(&self) -> u64 {
        self.items.load(Relaxed)
    }

    pub(super) fn lagged(&self, items: u64) {
        self.lagged.fetch_add(items, Relaxed);
    }

    /// Counts one video frame from the publisher; the ingest knows where frames begin.
    pub fn video_frame(&self, keyframe: bool) {
        self.video_frames.fetch_add(1, Relaxed);
        self.keyframes.fetch_add(u64::from(keyframe), Relaxed);
    }

    /// Counts timestamps that the ingest repaired.
    pub fn timestamps_repaired(&self, count: u64) {
        self.repaired.fetch_add(count, Relaxed);
    }

    /// States how many tracks of the publisher are left out.
    pub fn set_tracks_left_out(&self, count: u64) {
        self.left_out.store(count, Relaxed);
    }

    /// States the number of HLS players, which are known only by their requests.
    pub fn set_hls_readers(&self, count: usize) {
        self.hls.store(count, Relaxed);
    }

    /// All counters now.
    pub fn snapshot(&self) -> StatisticsSnapshot {
        StatisticsSnapshot {
            bytes_received: self.bytes.load(Relaxed),
            items_received: self.items.load(Relaxed),
            video_frames: self.video_frames.load(Relaxed),
            keyframes: self.keyframes.load(Relaxed),
            timestamps_repaired: self.repaired.load(Relaxed),
            tracks_left_out: self.left_out.load(Relaxed),
            items_lagged: self.lagged.load(Relaxed),
            hls_readers: self.hls.load(Relaxed),
            whep_readers: self.whep.load(Relaxed),
            restream_readers: self.restream.load(Relaxed),
        }
    }

    fn readers(&self, kind: ReaderKind) -> &AtomicUsize {
        match kind {
            ReaderKind::Hls => &self.hls,
            ReaderKind::Whep => &self.whep,
            ReaderKind::Restream => &self.restream,
        }
    }
}

/// Counts one reader while it lives.
#[derive(Debug)]
pub struct ReaderGuard {
    stream: Arc<Stream>,
    kind: ReaderKind,
}

impl ReaderGuard {
    pub(super) fn new(stream: Arc<Stream>, kind: ReaderKind) -> Self {
        stream.statistics().readers(kind).fetch_add(1, Relaxed);
        Self { stream, kind }
    }
}

impl Drop for ReaderGuard {
    fn drop(&mut self) {
        self.stream.statistics().readers(self.kind).fetch_sub(1, Relaxed);
    }
}
