//! The bridge to lower renditions: of the layers of a simulcast publisher where there are any that can be had as
//! they are, else of the stream's ladder.

use super::{PipelineError, Pipelines, ladder, simulcast};
use crate::media::{Ladder, PacketBatch};
use crate::stream::{RenditionFrame, Stream};
use std::sync::Arc;

/// Fills the lane of lower renditions until the stream ends or a pipeline fails. Dropping the future stops the
/// bridge.
pub(super) async fn run(
    pipelines: &Pipelines,
    stream: &Arc<Stream>,
    ladder: &Ladder,
) -> Result<(), PipelineError> {
    let writer = stream.bridge::<RenditionFrame>();
    loop {
        let simulcast = simulcast::fits(stream);
        let filled = async {
            match simulcast {
                true => simulcast::run(pipelines, stream, &writer).await,
                false if ladder.has_pictures() => ladder::run(pipelines, stream, ladder, &writer).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            result = filled => return result,
            () = changed(stream, simulcast) => writer.promise(0),
        }
    }
}

/// Completes when it is layers instead of the ladder that can be had, or the other way round.
async fn changed(stream: &Arc<Stream>, simulcast: bool) {
    let (mut layers, mut lanes) = (stream.watch_layers(), stream.watch_lanes());
    while simulcast::fits(stream) == simulcast {
        let told = async {
            // An error: the stream has ended, and the bridge with it.
            if layers.changed().await.is_ok()
                && !stream.layers().is_empty()
                && stream.epoch::<PacketBatch>().is_none()
            {
                // Layers are told before the packets that say what codec they have.
                stream.subscribe::<PacketBatch>().recv().await;
            }
        };
        tokio::select! {
            () = told => {}
            _ = lanes.changed() => {}
        }
    }
}
