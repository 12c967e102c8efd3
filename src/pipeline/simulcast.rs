//! The layers of a simulcast publisher as lower renditions: each is depacketised, none is encoded.
//!
//! Layer 0 is left out: the frame lane has the best layer there is. Owns one disposable pipeline a layer for each
//! epoch of the packet lane. A layer that does not come, or comes late, does not hold up the others.

use super::caps::TrackConfig;
use super::encoded::{Encoded, QUEUE, collect};
use super::encoder;
use super::feed::{Depacketizing, Feed, PICTURE_WAIT};
use super::graph::{Graph, fail, failure};
use super::{PipelineError, Pipelines};
use crate::media::{Codec, Epoch, MediaKind, Packet, PacketBatch, Tracks};
use crate::stream::{BridgeWriter, LayerInfo, RenditionFrame, Stream};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, watch};
use tracing::debug;

/// Between two wishes for a keyframe of one layer.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Whether the layers that are published now can be renditions as they are.
pub(super) fn fits(stream: &Stream) -> bool {
    let codec = stream.epoch::<PacketBatch>().and_then(|epoch| epoch.tracks.codec(MediaKind::Video));
    stream.layers().len() > 1 && codec.is_some_and(is_carried)
}

fn is_carried(codec: Codec) -> bool {
    matches!(codec, Codec::H264 | Codec::H265 | Codec::Vp9 | Codec::Av1)
}

/// Fills the lane of lower renditions from the packet lane until the stream ends or a pipeline fails. Dropping the
/// future stops it.
pub(super) async fn run(
    pipelines: &Pipelines,
    stream: &Arc<Stream>,
    writer: &BridgeWriter<RenditionFrame>,
) -> Result<(), PipelineError> {
    let mut packets = stream.subscribe::<PacketBatch>();
    let mut layers = stream.watch_layers();
    let (failed_sender, mut failed) = watch::channel(None);
    let mut source: Option<Arc<Epoch>> = None;
    let mut bridges: Vec<Layer> = Vec::new();
    promise(writer, &layers.borrow_and_update());
    loop {
        let deadline = bridges.iter().filter_map(Layer::deadline).min();
        tokio::select! {
            biased;
            error = failure(&mut failed) => return Err(error),
            (index, encoded) = next(&mut bridges) => bridges[index].take_encoded(encoded, writer),
            () = sleep_until(deadline) => bridges.iter_mut().try_for_each(|layer| layer.pump(stream))?,
            Ok(()) = layers.changed() => promise(writer, &layers.borrow_and_update()),
            batch = packets.recv() => {
                let Some(batch) = batch else { return Ok(()) };
                if source.as_ref().is_none_or(|source| source.id != batch.epoch.id) {
                    source = Some(batch.epoch.clone());
                    bridges.clear();
                }
                for packet in batch.packets.iter().filter(|packet| packet.layer > 0) {
                    let known = bridges.iter_mut().find(|layer| layer.number == packet.layer);
                    let layer = match known {
                        Some(layer) => layer,
                        None => {
                            let Some(layer) = Layer::begin(pipelines, &batch.epoch, packet, &failed_sender)? else {
                                continue;
                            };
                            bridges.push(layer);
                            let Some(layer) = bridges.last_mut() else { continue };
                            layer
                        }
                    };
                    layer.take(packet);
                }
                bridges.iter_mut().try_for_each(|layer| layer.pump(stream))?;
            }
        }
    }
}

/// How many renditions there are beside the best layer that comes.
fn promise(writer: &BridgeWriter<RenditionFrame>, layers: &[LayerInfo]) {
    let active = layers.iter().filter(|layer| layer.active).count();
    writer.promise(active.saturating_sub(1) as u8); // there are few
}

/// One layer on its way.
struct Layer {
    number: u8,
    source: Arc<Epoch>,
    feed: Feed,
    encoded: mpsc::Receiver<Encoded>,
    /// The epoch of its rendition.
    epoch: Option<Arc<Epoch>>,
    asked: Option<Instant>,
    keyframe_wanted: Arc<Notify>,
}

impl Layer {
    fn begin(
        pipelines: &Pipelines,
        source: &Arc<Epoch>,
        packet: &Packet,
        failed: &watch::Sender<Option<PipelineError>>,
    ) -> Result<Option<Self>, PipelineError> {
        let Some(codec) = source.tracks.codec(MediaKind::Video).filter(|codec| is_carried(*codec)) else {
            return Ok(None);
        };
        let (sender, encoded) = mpsc::channel(QUEUE);
        let keyframe_wanted = Arc::new(Notify::new());
        let graph = |file| {
            let report = failed.clone();
            let graph = Graph::build(pipelines, file, &[], move |error| fail(&report, error))?;
            collect(&graph, MediaKind::Video, 0, sender.clone(), failed.clone());
            graph.on_keyframe_wanted(keyframe_wanted.clone());
            encoder::follow_resolution(&graph);
            graph.start()?;
            Ok(graph)
        };
        let Some(way) = Depacketizing::unchanged(codec, graph, &sender)? else { return Ok(None) };
        let (number, source, feed) = (packet.layer, source.clone(), Feed::new(way, PICTURE_WAIT));
        debug!(layer = number, "A layer becomes a rendition.");
        Ok(Some(Self { number, source, feed, encoded, epoch: None, asked: None, keyframe_wanted }))
    }

    fn take(&mut self, packet: &Packet) {
        // To its feed it is the only layer.
        self.feed.take(Instant::now(), packet, &[]);
    }

    /// Hands over what is in order, or given up, and asks for a keyframe if one is needed.
    fn pump(&mut self, stream: &Stream) -> Result<(), PipelineError> {
        let now = Instant::now();
        let wanted = self.feed.pump(now)? | take_wish(&self.keyframe_wanted);
        if wanted && self.asked.is_none_or(|asked| now.duration_since(asked) >= ASK_EVERY) {
            self.asked = Some(now);
            stream.request_layer_keyframe(self.number);
        }
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        self.feed.deadline()
    }

    fn take_encoded(&mut self, encoded: Encoded, writer: &BridgeWriter<RenditionFrame>) {
        match encoded {
            Encoded::Configured(TrackConfig::Video(track)) => {
                let tracks = Tracks { video: Some(track), audio: None };
                self.epoch = Some(writer.begin_epoch(tracks, self.source.wall_origin));
            }
            Encoded::Configured(TrackConfig::Audio(_)) => {}
            Encoded::Unit(unit) => {
                if let Some(epoch) = self.epoch.clone() {
                    writer.write(RenditionFrame { rendition: self.number, frame: unit.into_frame(epoch) });
                }
            }
        }
    }
}

/// Whether somebody has notified since the last call.
fn take_wish(wanted: &Notify) -> bool {
    use futures_util::FutureExt;
    wanted.notified().now_or_never().is_some()
}

/// The next thing that comes out of a layer's pipeline, and of which. Cancel safe.
async fn next(layers: &mut [Layer]) -> (usize, Encoded) {
    poll_fn(|context| {
        for (index, layer) in layers.iter_mut().enumerate() {
            if let Poll::Ready(Some(encoded)) = layer.encoded.poll_recv(context) {
                return Poll::Ready((index, encoded));
            }
        }
        Poll::Pending
    })
    .await
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
