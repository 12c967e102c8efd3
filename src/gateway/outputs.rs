//! What each stream gets when it comes to life: its bridges, its hold and its HLS.

use super::numbers::Numbers;
use crate::hls::Hls;
use crate::media::{Ladders, Transcoding};
use crate::pipeline::{self, HoldPicture, Pipelines};
use crate::stream::{Hub, Stream, StreamEvent};
use std::sync::Arc;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// Starts the outputs of streams and owns their tasks.
pub(super) struct Outputs {
    hub: Hub,
    events: broadcast::Receiver<StreamEvent>,
    /// The streams that have their outputs.
    started: Vec<Arc<Stream>>,
    /// Of HLS; until they run.
    numbers: Option<Numbers>,
}

impl Outputs {
    /// From now on no stream is missed.
    pub(super) fn subscribe(hub: Hub, numbers: Numbers) -> Self {
        let events = hub.events();
        Self { hub, events, started: Vec::new(), numbers: Some(numbers) }
    }

    /// What HLS begins with: see [`Numbers`].
    pub(super) fn first_discontinuity(&self) -> u64 {
        self.numbers.as_ref().map_or(0, Numbers::first)
    }

    /// Runs until `cancel`; then lets the outputs flush, and returns when all have ended.
    pub(super) async fn run(
        mut self,
        pipelines: Arc<Pipelines>,
        hls: Arc<Hls>,
        transcoding: Transcoding,
        ladders: Ladders,
        hold: Option<HoldPicture>,
        cancel: CancellationToken,
    ) {
        let mut tasks = JoinSet::new();
        if let Some(numbers) = self.numbers.take() {
            tasks.spawn(numbers.run(hls.clone(), cancel.child_token()));
        }
        tasks.spawn(pipelines.budget().clone().run(cancel.child_token()));
        loop {
            let streams = tokio::select! {
                () = cancel.cancelled() => break,
                Some(ended) = tasks.join_next() => {
                    report(ended);
                    continue;
                }
                event = self.events.recv() => match event {
                    Ok(event) => self.note(event),
                    Err(RecvError::Lagged(missed)) => self.resync(missed),
                    Err(RecvError::Closed) => break,
                },
            };
            for stream in streams {
                if let Some(picture) = hold.clone() {
                    let (pipelines, cancel) = (pipelines.clone(), cancel.child_token());
                    tasks.spawn(pipeline::run_holds(pipelines, stream.clone(), picture, cancel));
                }
                let (pipelines, cancel_bridges) = (pipelines.clone(), cancel.child_token());
                let ladder = ladders.of(stream.name()).clone();
                let bridged = stream.clone();
                tasks.spawn(pipeline::run_bridges(pipelines, bridged, transcoding, ladder, cancel_bridges));
                tasks.spawn(hls.clone().run(stream, cancel.child_token()));
            }
        }
        cancel.cancelled().await;
        while let Some(ended) = tasks.join_next().await {
            report(ended);
        }
    }

    /// The streams that are to be started after `event`.
    fn note(&mut self, event: StreamEvent) -> Vec<Arc<Stream>> {
        match event {
            StreamEvent::Started(stream) => self.start(stream).into_iter().collect(),
            StreamEvent::Ended(stream) => {
                self.started.retain(|started| !Arc::ptr_eq(started, &stream));
                Vec::new()
            }
            // The lanes tell bridges and HLS of what happens to a publisher.
            StreamEvent::Stalled(_)
            | StreamEvent::Resumed(_)
            | StreamEvent::TracksChanged(..)
            | StreamEvent::PublisherLeft(_)
            | StreamEvent::PublisherReturned(_) => Vec::new(),
        }
    }

    /// After missed events, the registry says what is.
    fn resync(&mut self, missed: u64) -> Vec<Arc<Stream>> {
        warn!(missed, "Stream events were missed; the list of streams is read again.");
        let live = self.hub.list();
        self.started.retain(|started| live.iter().any(|stream| Arc::ptr_eq(started, stream)));
        live.into_iter().filter_map(|stream| self.start(stream)).collect()
    }

    /// `stream`, unless its outputs run already.
    fn start(&mut self, stream: Arc<Stream>) -> Option<Arc<Stream>> {
        if self.started.iter().any(|started| Arc::ptr_eq(started, &stream)) {
            return None;
        }
        self.started.push(stream.clone());
        Some(stream)
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        error!(%error, "The task of an output failed.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Frame;
    use crate::store::Store;
    use crate::stream::{Publisher, Source, SourceKind};
    use std::time::Duration;

    fn publish(hub: &Hub, name: &str) -> Publisher<Frame> {
        let source = Source { kind: SourceKind::Rtmp, remote: None };
        hub.publish(name.parse().expect("a name"), source).expect("free")
    }

    #[tokio::test]
    async fn each_stream_is_started_once_also_after_missed_events() {
        let (hub, _watcher) = Hub::new(Duration::from_secs(60));
        let numbers = Numbers::take(Store::in_memory()).await.expect("taken");
        let mut outputs = Outputs::subscribe(hub.clone(), numbers);
        let first = publish(&hub, "first");
        let event = outputs.events.recv().await.expect("an event");
        assert_eq!(outputs.note(event).len(), 1);
        let _second = publish(&hub, "second");
        let started = outputs.resync(1);
        assert_eq!(started.iter().map(|stream| stream.name().as_str()).collect::<Vec<_>>(), ["second"]);
        // The event of the second stream comes late.
        let event = outputs.events.recv().await.expect("an event");
        assert!(outputs.note(event).is_empty());
        let stream = first.stream().clone();
        assert!(outputs.note(StreamEvent::Ended(stream.clone())).is_empty());
        assert_eq!(outputs.started.len(), 1);
    }
}
