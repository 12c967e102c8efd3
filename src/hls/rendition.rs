//! One rendition: segmenter and window behind one writer, snapshots for all readers.

use super::bandwidth::Bandwidth;
use super::limits::Limits;
use super::names::RenditionName;
use super::playlist::Report;
use super::segment::{Segment, Stretch};
use super::segmenter::Segmenter;
use super::snapshot::{Origin, Snapshot};
use super::window::Window;
use crate::media::MediaTime;
use crate::pipeline::MuxedPart;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;

/// The write side of a rendition. Each change of state is published as one immutable snapshot.
#[derive(Debug)]
pub(super) struct Rendition {
    name: RenditionName,
    run: Arc<str>,
    limits: Limits,
    segmenter: Segmenter,
    window: Window,
    bandwidth: Bandwidth,
    ended: bool,
    published: watch::Sender<Arc<Snapshot>>,
}

impl Rendition {
    /// `run` is the token in media names; the first segment gets `first_sequence` and ends before `there`,
    /// see [`Segmenter::new`]. Nothing is known of what it will take; see [`Self::expect`].
    pub fn new(
        name: RenditionName,
        run: Arc<str>,
        limits: Limits,
        first_sequence: u64,
        there: MediaTime,
    ) -> Self {
        Self {
            name,
            run,
            limits,
            segmenter: Segmenter::new(first_sequence, there, limits.longest_segment()),
            window: Window::new(limits),
            bandwidth: Bandwidth::default(),
            ended: false,
            published: watch::Sender::default(),
        }
    }

    /// What it will take, until that is measured.
    pub fn expect(self, bandwidth: Bandwidth) -> Self {
        Self { bandwidth, ..self }
    }

    /// Begins a stretch; it shows with its first part.
    pub fn begin(&mut self, now: Instant, stretch: Stretch) {
        let completed = self.segmenter.begin(stretch);
        self.keep(now, completed);
    }

    /// Appends a part and publishes. True if a segment became complete.
    pub fn push(&mut self, now: Instant, part: MuxedPart, siblings: Vec<Report>) -> bool {
        let completed = self.segmenter.push(part);
        let grown = !completed.is_empty();
        self.keep(now, completed);
        self.publish(siblings);
        grown
    }

    /// Publishes what there is with new reports on the siblings.
    pub fn refresh(&mut self, siblings: Vec<Report>) {
        if !self.ended {
            self.publish(siblings);
        }
    }

    /// Media do not come from `start` on, for `duration`: lists that as a gap, and publishes.
    pub fn gap(&mut self, now: Instant, start: MediaTime, duration: Duration, siblings: Vec<Report>) {
        let completed = self.segmenter.gap(start, duration, self.limits.longest_part());
        self.keep(now, completed);
        self.publish(siblings);
    }

    /// The discontinuity sequence number of its present stretch, and where its parts end; `None` before its first part.
    pub fn edge(&self) -> Option<(u64, MediaTime)> {
        self.segmenter.end().map(|(stretch, end)| (stretch.discontinuity, end))
    }

    /// The date-time of the end of its parts, as [`Self::edge`].
    pub fn end_date(&self) -> Option<SystemTime> {
        self.segmenter.end().map(|(stretch, end)| stretch.date(end))
    }

    /// Completes the last segment and ends the playlist.
    pub fn end(&mut self, now: Instant) {
        let completed = self.segmenter.finish();
        self.keep(now, completed);
        self.ended = true;
        self.publish(Vec::new());
    }

    /// What readers see.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.published.subscribe()
    }

    /// Its last part, for the other renditions' playlists.
    pub fn report(&self) -> Option<Report> {
        let (sequence, part) = self.published.borrow().last_part()?;
        Some(Report { rendition: self.name, sequence, part })
    }

    /// Whether a whole segment can be played.
    pub fn playable(&self) -> bool {
        self.window.listed().any(|segment| !segment.gap)
    }

    /// Which rendition it is.
    pub fn name(&self) -> RenditionName {
        self.name
    }

    /// The token in its media names.
    pub fn run(&self) -> Arc<str> {
        self.run.clone()
    }

    /// Whether its playlist has ended.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// What it takes.
    pub fn bandwidth(&self) -> Bandwidth {
        self.bandwidth
    }

    /// Where a successor of this rendition would go on.
    pub fn next_sequence(&self) -> u64 {
        self.segmenter.next_sequence()
    }

    fn keep(&mut self, now: Instant, completed: impl IntoIterator<Item = Segment>) {
        for segment in completed {
            self.window.push(now, segment);
            let present = self.window.listed().filter(|segment| !segment.gap);
            self.bandwidth.measure(present, self.limits.target_duration());
        }
    }

    fn publish(&mut self, siblings: Vec<Report>) {
        let origin = Origin { rendition: self.name, run: self.run.clone(), limits: self.limits };
        let mut snapshot = Snapshot {
            listed: self.window.listed().cloned().collect(),
            removed: self.window.removed().cloned().collect(),
            open: self.segmenter.open().cloned(),
            next_part: self.segmenter.next_part(),
            ended: self.ended,
            origin: Some(origin),
            siblings,
            ..Snapshot::default()
        };
        snapshot.joinable = self.ended || snapshot.joins_at_idr(self.limits.part_hold_back());
        // `send_replace`, because `send` does not store the value while nobody listens.
        self.published.send_replace(Arc::new(snapshot));
    }
}
