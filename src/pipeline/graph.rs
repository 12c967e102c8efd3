//! One running pipeline: built from a description, fed at one source, read at one sink, thrown away.
//!
//! Promises that stopping it never blocks the asynchronous runtime, that feeding never blocks and is
//! bounded, and that the first error is reported once. Knows nothing of the media that flow.

use super::source::Source;
use super::tally::Tally;
use super::{PipelineError, Pipelines};
use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// Bytes that may wait in front of a pipeline; a whole cached group of pictures fits.
const MAX_WAITING: u64 = 32 << 20;

/// A pipeline with a [`Source`] and an `appsink` named `out`. Dropping it stops it.
#[derive(Debug)]
pub(super) struct Graph {
    file: &'static str,
    tally: Arc<Tally>,
    /// Taken when the pipeline is stopped.
    pipeline: Option<Running>,
    source: Source,
    sink: gst_app::AppSink,
}

impl Graph {
    /// Builds the pipeline of description `file`. `failed` is called at most once, from a thread of
    /// the pipeline's own; it must not wait.
    pub(super) fn build(
        pipelines: &Pipelines,
        file: &'static str,
        values: &[(&str, &str)],
        failed: impl Fn(PipelineError) + Send + Sync + 'static,
    ) -> Result<Self, PipelineError> {
        let wrong = |why: String| PipelineError::Description { file: file.into(), why };
        let text = pipelines.describe(file, values)?;
        let pipeline = gst::parse::launch(&text).map_err(|error| wrong(error.to_string()))?;
        let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| wrong("one element alone".into()))?;
        // Media times come from the sender: no clock decides anything here.
        pipeline.use_clock(None::<&gst::Clock>);
        let source = Source::of(&pipeline);
        let source = source.ok_or_else(|| wrong("no appsrc is named in, and no sink pad is open".into()))?;
        let sink = pipeline.by_name("out").and_then(|element| element.downcast::<gst_app::AppSink>().ok());
        let sink = sink.ok_or_else(|| wrong("no appsink is named out".into()))?;
        let reported = AtomicBool::new(false);
        let tally = pipelines.tally(file);
        tally.started();
        let failures = tally.clone();
        let bus = pipeline.bus().ok_or_else(|| wrong("no message bus".into()))?;
        bus.set_sync_handler(move |_, message| {
            if let gst::MessageView::Error(error) = message.view()
                && !reported.swap(true, Ordering::Relaxed)
            {
                let element = error.src().map_or_else(|| "?".into(), |element| element.name().to_string());
                let why = match error.debug() {
                    Some(debug) => {
                        format!("{} ({})", error.error(), debug.lines().last().unwrap_or_default())
                    }
                    None => error.error().to_string(),
                };
                failures.failed();
                failed(PipelineError::Failed { file, element, why });
            }
            gst::BusSyncReply::Drop
        });
        Ok(Self { file, tally, pipeline: Some(Running(pipeline, source.clone())), source, sink })
    }

    /// Starts it. Set caps and callbacks before.
    pub(super) fn start(&self) -> Result<(), PipelineError> {
        let Some(Running(pipeline, _)) = &self.pipeline else {
            return Err(PipelineError::Ended { file: self.file });
        };
        let started = pipeline.set_state(gst::State::Playing).map_err(|error| error.to_string());
        let open = started.and_then(|_| self.source.open().map_err(|error| error.to_string()));
        open.map_err(|why| {
            self.tally.failed();
            PipelineError::Failed { file: self.file, element: pipeline.name().to_string(), why }
        })
    }

    /// Hands a buffer to the source. Never blocks.
    pub(super) fn push(&self, buffer: gst::Buffer) -> Result<(), PipelineError> {
        if self.source.current_level_bytes() > MAX_WAITING {
            return Err(PipelineError::Overloaded { file: self.file });
        }
        match self.source.push(buffer) {
            Ok(_) => Ok(()),
            Err(_) => Err(PipelineError::Ended { file: self.file }),
        }
    }

    /// Sends a serialised event after what was pushed so far.
    pub(super) fn send(&self, event: gst::Event) {
        self.source.send(event);
    }

    /// Says that no more comes; what is inside still comes out, and then the end of stream.
    pub(super) fn end_of_stream(&self) {
        self.source.end_of_stream();
    }

    /// The element of this name, if the description has one.
    pub(super) fn element(&self, name: &str) -> Option<gst::Element> {
        self.pipeline.as_ref().and_then(|running| running.0.by_name(name))
    }

    pub(super) fn file(&self) -> &'static str {
        self.file
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn sink(&self) -> &gst_app::AppSink {
        &self.sink
    }

    /// Calls `wanted` whenever the pipeline wishes for a keyframe; it must not wait.
    pub(super) fn on_keyframe_wanted(&self, wanted: Arc<tokio::sync::Notify>) {
        let Some(pad) = self.source.pad() else {
            return;
        };
        pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
            if let Some(event) = info.event()
                && event.structure().is_some_and(|structure| structure.name() == "GstForceKeyUnit")
            {
                wanted.notify_one();
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// Stops it and waits until it has stopped.
    pub(super) async fn stop(mut self) {
        if let Some(pipeline) = self.pipeline.take() {
            let _ = tokio::task::spawn_blocking(move || drop(pipeline)).await;
        }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let Some(pipeline) = self.pipeline.take() else {
            return;
        };
        // Stopping waits for the pipeline's threads: never on a thread of the runtime.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(pipeline))),
            Err(_) => drop(pipeline),
        }
    }
}

/// Notes a failure; the first one is the cause of those that follow.
pub(super) fn fail(failed: &watch::Sender<Option<PipelineError>>, error: PipelineError) {
    failed.send_if_modified(|first| {
        let news = first.is_none();
        first.get_or_insert(error);
        news
    });
}

/// Completes when one of the pipelines that report to the other end of `failed` does.
pub(super) async fn failure(failed: &mut watch::Receiver<Option<PipelineError>>) -> PipelineError {
    match failed.wait_for(Option::is_some).await.map(|error| error.clone()) {
        Ok(Some(error)) => error,
        _ => std::future::pending().await,
    }
}

/// A pipeline that is stopped wherever it ends, even if the runtime has no thread for it any more.
#[derive(Debug)]
struct Running(gst::Pipeline, Source);

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.0.set_state(gst::State::Null) {
            tracing::warn!(%error, "A pipeline did not stop cleanly.");
        }
        self.1.close();
    }
}
