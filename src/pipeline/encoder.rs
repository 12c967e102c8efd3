//! How video is encoded: the bitrate that a resolution needs, and where keyframes are.

use super::PipelineError;
use super::encoded::Unit;
use super::graph::Graph;
use crate::media::{MediaKind, MediaTime};
use gst::prelude::*;
use gstreamer as gst;
use std::time::Duration;

/// From keyframe to keyframe of what is encoded here: as long as segments of HLS commonly are, and as
/// RTMP servers want it.
const KEYFRAME_INTERVAL: Duration = Duration::from_secs(2);

/// Media that may be inside a pipeline that transcodes: more than a cached group of pictures.
const MAX_LAG: Duration = Duration::from_secs(10);

/// Kilobits a second for what is encoded again: about a tenth of a bit a pixel at 30 pictures a second.
pub(super) fn bitrate(resolution: Option<(u32, u32)>) -> u32 {
    let (width, height) = resolution.unwrap_or((1280, 720));
    (width.saturating_mul(height) / 330).clamp(300, 12_000)
}

/// Gives the element named `encoder` of `graph` the bitrate that fits its pictures, whenever their size
/// becomes known or changes. A description without such an element keeps its own.
pub(super) fn follow_resolution(graph: &Graph) {
    let Some(encoder) = graph.element("encoder") else { return };
    let Some(pad) = encoder.static_pad("sink") else { return };
    let encoder = encoder.downgrade();
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        let Some(gst::EventView::Caps(caps)) = info.event().map(|event| event.view()) else {
            return gst::PadProbeReturn::Ok;
        };
        let number = |name| {
            let number = caps.caps().structure(0).and_then(|caps| caps.get::<i32>(name).ok());
            number.and_then(|number| u32::try_from(number).ok())
        };
        let resolution = number("width").zip(number("height"));
        if let Some(encoder) = encoder.upgrade()
            && encoder.has_property("bitrate")
        {
            encoder.set_property("bitrate", bitrate(resolution));
        }
        gst::PadProbeReturn::Ok
    });
}

/// Says which pictures become keyframes. Pure.
#[derive(Debug, Default)]
pub(super) struct KeyframeClock {
    next: Option<MediaTime>,
}

impl KeyframeClock {
    /// Whether the picture at `pts` is to be a keyframe. The first one is by itself.
    pub(super) fn is_due(&mut self, pts: MediaTime) -> bool {
        let Some(next) = self.next else {
            self.next = Some(pts + KEYFRAME_INTERVAL);
            return false;
        };
        if pts < next {
            return false;
        }
        // On the grid, unless pictures were missing for longer.
        let regular = next + KEYFRAME_INTERVAL;
        self.next = Some(if pts < regular { regular } else { pts + KEYFRAME_INTERVAL });
        true
    }
}

/// Finds a decoder and encoder that fall behind: a programme that gets later and later helps nobody. Pure.
#[derive(Debug)]
pub(super) struct Progress {
    transcodes: bool,
    input: Option<MediaTime>,
    output: Option<MediaTime>,
}

impl Progress {
    /// Of a pipeline that transcodes; others are not watched.
    pub(super) fn new(transcodes: bool) -> Self {
        Self { transcodes, input: None, output: None }
    }

    pub(super) fn put_in(&mut self, pts: MediaTime) {
        self.output.get_or_insert(pts);
        self.input = self.input.max(Some(pts));
    }

    pub(super) fn came_out(&mut self, unit: &Unit) {
        if unit.kind == MediaKind::Video {
            self.output = Some(unit.pts);
        }
    }

    /// An error if more than [`MAX_LAG`] of media is inside the pipeline of description `file`.
    pub(super) fn check(&self, file: &'static str) -> Result<(), PipelineError> {
        let lag = self.input.zip(self.output).map_or(Duration::ZERO, |(input, output)| input.since(output));
        if self.transcodes && lag > MAX_LAG {
            return Err(PipelineError::Overloaded { file });
        }
        Ok(())
    }
}

/// The event that makes the next picture a keyframe.
pub(super) fn force_keyframe() -> gst::Event {
    let structure = gst::Structure::builder("GstForceKeyUnit").field("all-headers", true).build();
    gst::event::CustomDownstream::new(structure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyframes_keep_to_a_grid_of_two_seconds() {
        for rate in [5, 15, 24, 30, 60] {
            let mut clock = KeyframeClock::default();
            let keyframes: Vec<i64> =
                (0..rate * 9).filter(|&n| clock.is_due(MediaTime::from_ticks(n, rate as u32))).collect();
            assert_eq!(keyframes, [rate * 2, rate * 4, rate * 6, rate * 8], "{rate}");
        }
    }

    #[test]
    fn after_a_hole_the_grid_begins_anew() {
        let mut clock = KeyframeClock::default();
        let due = [0, 100, 9000, 9033, 10_900, 11_000].map(|ms| clock.is_due(MediaTime::from_millis(ms)));
        assert_eq!(due, [false, false, true, false, false, true]);
    }

    #[test]
    fn larger_pictures_get_more_bits_within_bounds() {
        let rates =
            [(160, 90), (640, 360), (1280, 720), (1920, 1080), (4096, 4096)].map(|size| bitrate(Some(size)));
        assert_eq!(rates, [300, 698, 2792, 6283, 12_000]);
    }
}
