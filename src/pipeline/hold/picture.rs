//! The picture that is held, before it is encoded: the last one of the publisher, or the operator's slate.

use super::slate::Slate;
use crate::media::{Frame, MediaKind, MediaTime};
use crate::pipeline::clock::Origin;
use crate::pipeline::decode::buffer;
use crate::pipeline::graph::{Graph, fail, failure};
use crate::pipeline::{PipelineError, Pipelines, caps};
use gstreamer as gst;
use gstreamer_app as gst_app;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const LAST_PICTURE: &str = "hold-last-picture.launch";
const SLATE: &str = "hold-slate.launch";
/// Decoding a cached group of pictures may take so long: a pause is longer, or the hold comes late.
const PATIENCE: Duration = Duration::from_secs(10);

/// A raw picture and its format.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    pub(super) buffer: gst::Buffer,
    pub(super) caps: gst::Caps,
}

/// The picture of `group` that is shown last, which need not be decoded last. The group begins with a
/// keyframe, and may hold sound.
pub(super) async fn last_shown(
    pipelines: &Pipelines,
    group: &[Arc<Frame>],
) -> Result<Option<Picture>, PipelineError> {
    let pictures = || group.iter().filter(|frame| frame.kind == MediaKind::Video);
    let Some(track) = pictures().next().and_then(|frame| frame.epoch.tracks.video.as_ref()) else {
        return Ok(None);
    };
    let unsupported = PipelineError::Unsupported { codec: track.codec, purpose: "decoded" };
    let decoder = pipelines.video_decoder(track.codec).ok_or(unsupported)?;
    let format = caps::of_video(track, "decoded")?;
    let buffers = pictures().map(|frame| buffer(frame)).collect::<Result<Vec<_>, _>>()?;
    run(pipelines, LAST_PICTURE, &[("video_decoder", decoder)], &format, buffers).await
}

/// The slate as a picture of `size`, which is brought to what can be encoded.
pub(super) async fn of_slate(
    pipelines: &Pipelines,
    slate: &Slate,
    size: (u32, u32),
) -> Result<Option<Picture>, PipelineError> {
    let (width, height) = (even(size.0).to_string(), even(size.1).to_string());
    let values =
        [("image_decoder", slate.format.decoder()), ("width", width.as_str()), ("height", height.as_str())];
    let format = gst::Caps::builder(slate.format.media_type()).build();
    let file = gst::Buffer::from_slice(slate.data.clone());
    run(pipelines, SLATE, &values, &format, vec![file]).await
}

/// H.264 with 4:2:0 has even sizes; the bounds are those of the descriptions.
fn even(length: u32) -> u32 {
    (length / 2 * 2).clamp(16, 4096)
}

/// Feeds a pipeline, and gives the picture that comes out last.
async fn run(
    pipelines: &Pipelines,
    file: &'static str,
    values: &[(&str, &str)],
    format: &gst::Caps,
    input: Vec<gst::Buffer>,
) -> Result<Option<Picture>, PipelineError> {
    let (failed, mut failures) = watch::channel(None);
    let graph = Graph::build(pipelines, file, values, move |error| fail(&failed, error))?;
    let (last, mut ended) = keep_last(&graph);
    graph.source().set_caps(Some(format));
    graph.start()?;
    for buffer in input {
        graph.push(buffer)?;
    }
    graph.end_of_stream();
    let outcome = tokio::time::timeout(PATIENCE, async {
        tokio::select! {
            _ = ended.wait_for(|ended| *ended) => Ok(()),
            error = failure(&mut failures) => Err(error),
        }
    });
    let outcome = outcome.await.unwrap_or(Err(PipelineError::Overloaded { file }));
    graph.stop().await;
    let picture = last.lock().take();
    // A decoder that stumbles over the end of a group has shown what came before.
    if picture.is_none() { outcome.map(|()| None) } else { Ok(picture) }
}

type Last = Arc<Mutex<Option<Picture>>>;

/// Keeps the latest of the pictures at the sink, and tells when no more will come.
fn keep_last(graph: &Graph) -> (Last, watch::Receiver<bool>) {
    let last = Last::default();
    let (end, ended) = watch::channel(false);
    let (kept, mut shown) = (last.clone(), None::<MediaTime>);
    let callbacks = gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let (Some(buffer), Some(caps)) = (sample.buffer_owned(), sample.caps_owned()) else {
                return Ok(gst::FlowSuccess::Ok);
            };
            // Decoders give pictures in the order of showing; one that does not is put right.
            let time = Origin::INTERNAL.presentation(&sample, &buffer);
            if time >= shown {
                shown = time;
                *kept.lock() = Some(Picture { buffer, caps });
            }
            Ok(gst::FlowSuccess::Ok)
        })
        .eos(move |_| {
            end.send_replace(true);
        })
        .build();
    graph.sink().set_callbacks(callbacks);
    (last, ended)
}
