//! The lower video renditions of a stream: they follow the best one, the leader.
//!
//! Their frames lie on the same timeline but come by themselves, sooner or later than the leader's. So a frame
//! waits until the leader is as far, and a segment begins where the leader's does if there is a keyframe within a
//! frame of that; a rendition whose keyframes are elsewhere goes on in longer segments and is left out of the
//! multivariant playlist until it is in step again. Whatever happens to one of them costs no other anything: one
//! that falls silent has gaps (`EXT-X-GAP`) until it returns; only when its configuration changes must all
//! renditions have a discontinuity.

use super::names::RenditionName;
use super::packager::{Packager, reports};
use super::segment::Stretch;
use super::track::{Config, Track};
use crate::media::{Epoch, Frame, MediaTime};
use crate::pipeline::{MuxOutput, Pace};
use crate::stream::RenditionFrame;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// Frames of one rendition that may wait for the leader.
const MOST_WAITING: usize = 512;
/// So much of a rendition waits for the leader; then that counts as silent until it sends again.
const PATIENCE: Duration = Duration::from_millis(400);
/// A rendition of which nothing has come for so long is silent; gaps are listed in pieces that are no shorter.
const SILENCE: Duration = Duration::from_millis(1500);
/// A jump in its decoding times beyond this is a hole.
const HOLE: Duration = Duration::from_secs(1);
/// Frames of one instant are so close.
const SAME: Duration = Duration::from_millis(20);
/// Frames that may wait in the lane.
const MOST_ASLEEP: usize = 256;

/// One lower rendition.
#[derive(Default)]
pub(super) struct Lower {
    /// What waits for the leader.
    queue: VecDeque<Arc<RenditionFrame>>,
    /// When the last frame came.
    heard: Option<Instant>,
    /// The epoch of what was muxed last.
    source: Option<Arc<Epoch>>,
    /// What the last muxer left.
    past: Past,
}

/// What a rendition's next muxer must know of the one before.
#[derive(Default)]
struct Past {
    init: Option<Bytes>,
    /// The discontinuity sequence number of the last part, or gap …
    begun: Option<u64>,
    /// … and where that ends.
    end: Option<MediaTime>,
}

impl Lower {
    fn is_silent(&self) -> bool {
        self.heard.is_none_or(|heard| heard.elapsed() > SILENCE)
    }
}

impl Packager<'_> {
    /// As [`Packager::pace`], for the lane of lower renditions.
    pub fn lower_pace(&self) -> impl FnMut(&RenditionFrame) -> bool + Send + 'static {
        let tracks = self.stretch.iter().flat_map(|stretch| &stretch.tracks);
        let mut paces: Vec<(RenditionName, Pace)> =
            tracks.filter_map(|track| Some((track.name, track.muxer.as_ref()?.pace()))).collect();
        let mut passed = 0;
        move |frame| {
            passed += 1;
            let name = RenditionName::Video(frame.rendition);
            let due = match paces.iter_mut().find(|(paced, _)| *paced == name) {
                Some((_, pace)) => pace.is_due(&frame.frame),
                None => frame.frame.keyframe,
            };
            due || passed >= MOST_ASLEEP
        }
    }

    /// Whether frames wait for the leader.
    pub(super) fn is_lower_waiting(&self) -> bool {
        self.stretch.is_some() && self.lower.values().any(|lower| !lower.queue.is_empty())
    }

    /// Takes a frame; it waits for [`Self::advance_lower`].
    pub fn take_lower(&mut self, frame: Arc<RenditionFrame>) {
        if !(1..=super::names::MOST_LOWER).contains(&frame.rendition) {
            return;
        }
        let lower = self.lower.entry(frame.rendition).or_default();
        lower.heard = Some(Instant::now());
        if lower.queue.len() >= MOST_WAITING {
            lower.queue.pop_front();
        }
        lower.queue.push_back(frame);
    }

    /// Muxes what the leader has passed, and notices who is silent.
    pub async fn advance_lower(&mut self) {
        let numbers: Vec<u8> = self.lower.keys().copied().collect();
        for number in numbers {
            let name = RenditionName::Video(number);
            while let Some(frame) = self.next_lower(number) {
                self.push_lower(number, &frame.frame).await;
            }
            if self.lower_track(name).is_some() && self.lower.get(&number).is_some_and(Lower::is_silent) {
                debug!(stream = %self.live.stream().name(), rendition = %name, "Nothing comes of this rendition.");
                self.end_lower(name).await;
                self.list_gaps();
            }
        }
    }

    /// The next frame of a rendition whose turn has come.
    fn next_lower(&mut self, number: u8) -> Option<Arc<RenditionFrame>> {
        let stretch = self.stretch.as_ref()?;
        let leader = stretch.tracks.iter().find(|track| track.name == RenditionName::VIDEO)?.last_dts?;
        let queue = &mut self.lower.get_mut(&number)?.queue;
        // Epochs with one origin share a timeline.
        let is_ours = |frame: &RenditionFrame| frame.frame.epoch.wall_origin == stretch.epoch.wall_origin;
        let earliest = stretch.start.shifted(-(SAME.as_nanos() as i64));
        while let Some(head) = queue.front() {
            if !is_ours(head) && !queue.iter().any(|frame| is_ours(frame)) {
                return None; // of a stretch that has not begun, or nothing comes any more
            }
            if is_ours(head) && head.frame.pts >= earliest {
                break;
            }
            queue.pop_front();
        }
        let (head, newest) = (queue.front()?.frame.pts, queue.back()?.frame.pts);
        self.leader_silent |= newest.since(head) > PATIENCE;
        if head <= leader || self.leader_silent { queue.pop_front() } else { None }
    }

    async fn push_lower(&mut self, number: u8, frame: &Frame) {
        let name = RenditionName::Video(number);
        let source = self.lower.get(&number).and_then(|lower| lower.source.clone());
        if let Some(last) = self.lower_track(name).map(|track| track.last_dts) {
            let hole = last.is_some_and(|last| frame.dts < last || frame.dts.since(last) > HOLE);
            if hole || source.as_ref().is_none_or(|source| source.id != frame.epoch.id) {
                self.end_lower(name).await;
            }
        }
        if self.lower_track(name).is_none() {
            if !frame.keyframe || self.is_listed_as_gap(number, frame.pts) {
                return;
            }
            let changed = source.is_some_and(|source| source.tracks.video != frame.epoch.tracks.video);
            if changed
                && self.lower.get(&number).and_then(|lower| lower.past.begun) == Some(self.discontinuity)
            {
                debug!(stream = %self.live.stream().name(), rendition = %name, "The configuration changed.");
                self.end_stretch().await;
                self.live.stream().request_keyframe();
                return;
            }
            self.begin_lower(number, frame);
        }
        let Some(track) = self.lower_track(name) else { return };
        if let Err(error) = track.push(frame) {
            warn!(stream = %self.live.stream().name(), rendition = %name, %error, "HLS muxer failed; a new one begins at the next keyframe.");
            self.end_lower(name).await;
        }
    }

    /// Starts a muxer with this keyframe; lists what has not come since the last one's end.
    fn begin_lower(&mut self, number: u8, frame: &Frame) {
        let (name, now) = (RenditionName::Video(number), Instant::now());
        let Some(config) = frame.epoch.tracks.video.clone() else { return };
        let shift = self.stretch.as_ref().map_or(Duration::ZERO, |stretch| stretch.shift);
        let settings = self.mux_settings(shift);
        let begun = Track::begin(self.pipelines, name, Config::Video(config), settings, None);
        let mut track = match begun {
            Ok(track) => track,
            Err(error) => {
                warn!(stream = %self.live.stream().name(), rendition = %name, %error, "A rendition can't be muxed.");
                return;
            }
        };
        self.open(name, &track.config);
        let reports = reports(&self.renditions, name);
        let (Some(stretch), Some(lower)) = (&mut self.stretch, self.lower.get_mut(&number)) else { return };
        if let Some(muxer) = &track.muxer {
            muxer.follow();
            let later = stretch.segments.iter().filter(|segment| segment.since(frame.pts) > SAME);
            later.for_each(|segment| muxer.lead(*segment));
        }
        lower.source = Some(frame.epoch.clone());
        if lower.past.begun == Some(self.discontinuity) {
            (track.begun, track.init) = (lower.past.begun, lower.past.init.clone());
            track.next_start = Some(frame.pts);
            let missing = lower.past.end.map_or(Duration::ZERO, |end| frame.pts.since(end));
            if let (Some(end), true) = (lower.past.end, missing > SAME)
                && let Some(rendition) = self.renditions.get_mut(&name)
            {
                rendition.gap(now, end, missing, reports);
            }
        }
        debug!(stream = %self.live.stream().name(), rendition = %name, "A rendition begins.");
        stretch.tracks.push(track);
    }

    /// Ends a rendition's muxer; what it still holds becomes its last part.
    pub(super) async fn end_lower(&mut self, name: RenditionName) {
        let Some(track) = self.lower_track(name) else { return };
        let (drained, _) = track.drain().await;
        for output in drained {
            match output {
                MuxOutput::Init(init) => self.take_init(name, init),
                MuxOutput::Part(part) => self.take_part(name, part),
                MuxOutput::Finished | MuxOutput::Failed(_) => {}
            }
        }
        let Some(stretch) = &mut self.stretch else { return };
        let Some(index) = stretch.tracks.iter().position(|track| track.name == name) else { return };
        let track = stretch.tracks.remove(index);
        self.remember_lower(&track);
    }

    /// Keeps what the next muxer must know.
    pub(super) fn remember_lower(&mut self, track: &Track) {
        if let RenditionName::Video(number @ 1..) = track.name
            && let Some(lower) = self.lower.get_mut(&number)
            && track.begun.is_some()
        {
            lower.past = Past { init: track.init.clone(), begun: track.begun, end: track.next_start };
        }
    }

    /// Lists what does not come of renditions that are silent, as far as the leader is.
    pub(super) fn list_gaps(&mut self) {
        let Some(stretch) = &self.stretch else { return };
        let Some(leader) = stretch.tracks.iter().find(|track| track.name == RenditionName::VIDEO) else {
            return;
        };
        let (Some(discontinuity), Some(end)) = (leader.begun, leader.next_start) else { return };
        let (start, wall_origin, now) = (stretch.start, stretch.date_origin, Instant::now());
        for (number, lower) in &mut self.lower {
            let name = RenditionName::Video(*number);
            let reports = reports(&self.renditions, name);
            let runs = stretch.tracks.iter().any(|track| track.name == name);
            let Some(rendition) = self.renditions.get_mut(&name) else { continue };
            let Some(init) = lower.past.init.clone() else { continue };
            if runs || !lower.is_silent() || rendition.ended() || lower.past.begun > Some(discontinuity) {
                continue;
            }
            let continues = lower.past.begun == Some(discontinuity);
            let from = lower.past.end.filter(|_| continues).unwrap_or(start);
            if end.since(from) < SILENCE {
                continue;
            }
            if !continues {
                rendition.begin(now, Stretch { discontinuity, init, wall_origin });
            }
            rendition.gap(now, from, end.since(from), reports);
            (lower.past.begun, lower.past.end) = (Some(discontinuity), Some(end));
        }
    }

    /// Whether a gap reaches beyond `pts`.
    fn is_listed_as_gap(&self, number: u8, pts: MediaTime) -> bool {
        let past = self.lower.get(&number).map(|lower| &lower.past);
        let past = past.filter(|past| past.begun == Some(self.discontinuity));
        past.and_then(|past| past.end).is_some_and(|end| end.since(pts) > SAME)
    }

    fn lower_track(&mut self, name: RenditionName) -> Option<&mut Track> {
        self.stretch.as_mut().and_then(|stretch| stretch.track(name))
    }
}
