//! The held picture as H.264, encoded once for a pause and then repeated.
//!
//! Two groups take turns: consecutive keyframes differ in their `idr_pic_id`, as those of an encoder that
//! goes on do. A group before them, in which the encoder still refines the picture, is left out, so that
//! nothing pulses.

use super::pace::PICTURE_RATE;
use super::picture::Picture;
use crate::media::{Codec, MediaKind, VideoTrack};
use crate::pipeline::caps::TrackConfig;
use crate::pipeline::encoded::{Encoded, QUEUE, collect};
use crate::pipeline::encoder;
use crate::pipeline::graph::{Graph, fail, failure};
use crate::pipeline::{PipelineError, Pipelines};
use bytes::Bytes;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

const STILL: &str = "hold-still.launch";
/// A keyframe every 2 s, as RTMP servers and HLS segments want it.
const GROUP: u64 = 2 * PICTURE_RATE as u64;
const GROUPS: u64 = 2;
const PICTURES: u64 = (1 + GROUPS) * GROUP;
/// Encoding may take so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// A still, ready to be sent for as long as it takes.
#[derive(Clone, Debug)]
pub(super) struct Still {
    pub(super) track: VideoTrack,
    /// Access units with their keyframe flags.
    units: Vec<(bool, Bytes)>,
}

impl Still {
    /// Encodes `picture`.
    pub(super) async fn encode(pipelines: &Pipelines, picture: &Picture) -> Result<Self, PipelineError> {
        let (sender, mut encoded) = mpsc::channel(QUEUE);
        let (failed, mut failures) = watch::channel(None);
        let report = failed.clone();
        let graph = Graph::build(pipelines, STILL, &[], move |error| fail(&report, error))?;
        graph.source().set_caps(Some(&picture.caps));
        collect(&graph, MediaKind::Video, 0, sender, failed);
        encoder::follow_resolution(&graph);
        graph.start()?;
        graph.push(picture.buffer.clone())?;
        graph.end_of_stream();
        let mut still = Self { track: VideoTrack::new(Codec::H264), units: Vec::new() };
        let collected = async {
            while still.units.len() < PICTURES as usize {
                let next = tokio::select! {
                    biased;
                    error = failure(&mut failures) => return Err(error),
                    next = encoded.recv() => next,
                };
                match next {
                    Some(Encoded::Configured(TrackConfig::Video(track))) => still.track = track,
                    Some(Encoded::Unit(unit)) => still.units.push((unit.keyframe, unit.data)),
                    Some(Encoded::Configured(TrackConfig::Audio(_))) => {}
                    None => return Err(PipelineError::Ended { file: STILL }),
                }
            }
            Ok(())
        };
        let collected = tokio::time::timeout(PATIENCE, collected).await;
        graph.stop().await;
        collected.unwrap_or(Err(PipelineError::Overloaded { file: STILL }))?;
        still.track.frame_rate = Some(f64::from(PICTURE_RATE));
        Ok(still)
    }

    /// The access unit of the picture `number`, counted from 0, and whether it is a keyframe.
    pub(super) fn unit(&self, number: u64) -> (bool, Bytes) {
        self.units[(GROUP + number % (GROUPS * GROUP)) as usize].clone()
    }
}
