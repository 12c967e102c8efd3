//! Media times as GStreamer counts them: without a sign.

use super::PipelineError;
use crate::media::MediaTime;
use gstreamer as gst;
use std::time::Duration;

/// Where [`MediaTime::ZERO`] lies on a pipeline's own timeline, so that times before it are possible.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin(u64);

impl Origin {
    /// In fragmented MP4, where it is visible in the base media decode times: 10 s, for all tracks. The
    /// nanosecond more keeps a time that was rounded down from falling to the tick before: the muxer
    /// rounds down again.
    pub(super) const CONTAINER: Self = Self(10_000_000_001);
    /// Where it stays within the pipeline.
    pub(super) const INTERNAL: Self = Self(3_600_000_000_000);

    /// One that lies later.
    pub(super) fn later(self, shift: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(shift.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// `time` for a buffer.
    pub(super) fn place(self, time: MediaTime) -> Result<gst::ClockTime, PipelineError> {
        u64::try_from(time.as_nanos().saturating_add(self.0 as i64))
            .map(gst::ClockTime::from_nseconds)
            .map_err(|_| PipelineError::BeforeOrigin(time))
    }

    /// What [`Self::place`] placed.
    pub(super) fn read(self, time: gst::ClockTime) -> MediaTime {
        MediaTime::from_nanos(time.nseconds() as i64 - self.0 as i64)
    }

    /// The running time of a buffer's presentation: encoders like x264 put their segment far from zero
    /// to leave room for negative decode times.
    pub(super) fn presentation(self, sample: &gst::Sample, buffer: &gst::BufferRef) -> Option<MediaTime> {
        let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
        segment.to_running_time(buffer.pts()?).map(|time| self.read(time))
    }
}

/// A duration for a buffer.
pub(super) fn clock_time(duration: Duration) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(duration.as_nanos() as u64)
}
