//! Coded frames as they come out of a pipeline's sink, on the stream's timeline again.

use super::PipelineError;
use super::caps::{self, TrackConfig};
use super::clock::Origin;
use super::graph::{Graph, fail};
use crate::media::{Epoch, Frame, MediaKind, MediaTime};
use bytes::Bytes;
use gstreamer as gst;
use gstreamer_app as gst_app;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// What comes out of a pipeline that ends in coded frames.
#[derive(Clone, Debug)]
pub(super) enum Encoded {
    /// The configuration of the units that follow; comes before the first one and whenever it changes.
    Configured(TrackConfig),
    /// A coded frame.
    Unit(Unit),
}

/// A coded frame, not yet in an epoch. Decoded in the order in which it is shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Unit {
    pub(super) kind: MediaKind,
    pub(super) pts: MediaTime,
    pub(super) keyframe: bool,
    pub(super) data: Bytes,
}

impl Unit {
    /// The frame that it is in `epoch`.
    pub(super) fn into_frame(self, epoch: Arc<Epoch>) -> Frame {
        let Self { kind, pts, keyframe, data } = self;
        Frame { epoch, kind, pts, dts: pts, keyframe, data }
    }
}

/// Units that may wait for their reader.
pub(super) const QUEUE: usize = 2048;
/// The least step from one unit to the next: senders' clocks are corrected, decode times must rise.
const STEP: i64 = 1_000_000;

/// Samples by which `voaacenc` is late: what goes in at one time comes out of a decoder so much later.
pub(super) const VOAACENC_DELAY: i64 = 1600;

/// Sends what comes out of `graph` to `output`, `delay_nanos` earlier than stamped. If nobody reads,
/// `failure` is set and the pipeline stops.
pub(super) fn collect(
    graph: &Graph,
    kind: MediaKind,
    delay_nanos: i64,
    output: mpsc::Sender<Encoded>,
    failure: watch::Sender<Option<PipelineError>>,
) {
    let file = graph.file();
    let mut known: Option<gst::Caps> = None;
    let mut config: Option<TrackConfig> = None;
    let mut last: Option<MediaTime> = None;
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let send = |item| {
            output.try_send(item).map_err(|_| {
                fail(&failure, PipelineError::OutputLost { file });
                gst::FlowError::Error
            })
        };
        let caps = sample.caps_owned();
        if caps != known {
            let read = caps.as_deref().and_then(caps::read);
            if let Some(read) = read.filter(|read| config.as_ref().is_none_or(|config| changed(config, read)))
            {
                config = Some(read.clone());
                send(Encoded::Configured(read))?;
            }
            known = caps;
        }
        let (Some(buffer), true) = (sample.buffer_owned(), config.is_some()) else {
            return Ok(gst::FlowSuccess::Ok);
        };
        let Some(pts) = Origin::INTERNAL.presentation(&sample, &buffer) else {
            return Ok(gst::FlowSuccess::Ok);
        };
        let pts = rising(&mut last, pts.shifted(-delay_nanos));
        let keyframe = kind == MediaKind::Audio || !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        drop(sample);
        if let Ok(data) = buffer.into_mapped_buffer_readable() {
            send(Encoded::Unit(Unit { kind, pts, keyframe, data: Bytes::from_owner(data) }))?;
        }
        Ok(gst::FlowSuccess::Ok)
    });
    graph.sink().set_callbacks(callbacks.build());
}

/// `pts`, or a little after the last one.
pub(super) fn rising(last: &mut Option<MediaTime>, pts: MediaTime) -> MediaTime {
    let pts = last.map_or(pts, |last| pts.max(last.shifted(STEP)));
    *last = Some(pts);
    pts
}

/// Whether a decoder must be told: another frame rate, say, is no new configuration.
pub(super) fn changed(old: &TrackConfig, new: &TrackConfig) -> bool {
    match (old, new) {
        (TrackConfig::Video(old), TrackConfig::Video(new)) => {
            old.codec_data != new.codec_data || old.resolution != new.resolution
        }
        (old, new) => old != new,
    }
}
