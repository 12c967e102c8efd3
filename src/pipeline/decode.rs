//! How video of the frame lane enters a pipeline that decodes it.

use super::clock::Origin;
use super::graph::{Graph, fail};
use super::{PipelineError, Pipelines, caps};
use crate::media::{Frame, VideoTrack};
use gstreamer as gst;
use tokio::sync::watch;

/// Builds the description `file` with a decoder for `track`, and states what comes. It does not run yet; what
/// fails in it is reported to `failed`.
pub(super) fn decoding(
    pipelines: &Pipelines,
    file: &'static str,
    track: &VideoTrack,
    failed: &watch::Sender<Option<PipelineError>>,
) -> Result<Graph, PipelineError> {
    let caps = caps::of_video(track, "decoded")?;
    let unsupported = PipelineError::Unsupported { codec: track.codec, purpose: "decoded" };
    let decoder = pipelines.video_decoder(track.codec).ok_or(unsupported)?;
    let report = failed.clone();
    let graph = Graph::build(pipelines, file, &[("video_decoder", decoder)], move |error| {
        fail(&report, error);
    })?;
    graph.source().set_caps(Some(&caps));
    Ok(graph)
}

/// A frame for a pipeline. The data are shared.
pub(super) fn buffer(frame: &Frame) -> Result<gst::Buffer, PipelineError> {
    let mut buffer = gst::Buffer::from_slice(frame.data.clone());
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_pts(Origin::INTERNAL.place(frame.pts)?);
        buffer.set_dts(Origin::INTERNAL.place(frame.dts)?);
        if !frame.keyframe {
            buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
        }
    }
    Ok(buffer)
}
