//! A stream with its bridges, for the tests of this room.

use super::{Pipelines, run_bridges};
use crate::media::{Ladder, Transcoding, VideoTranscoding};
use crate::stream::{Hub, Media, Publisher, Source, SourceKind, Stream, Subscriber};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Encoders that work in real time want the machine: one such test at a time.
pub(super) async fn encoders() -> MutexGuard<'static, ()> {
    static ENCODERS: Mutex<()> = Mutex::const_new(());
    ENCODERS.lock().await
}

/// A stream with a publisher and a running bridge.
pub(super) struct Live<T: Media> {
    pub(super) publisher: Publisher<T>,
    pub(super) stream: Arc<Stream>,
    cancel: CancellationToken,
    pub(super) pipelines: Arc<Pipelines>,
    bridge: tokio::task::JoinHandle<()>,
    _hub: (Hub, crate::stream::Watcher),
}

impl<T: Media> Live<T> {
    pub(super) fn new(overrides: Option<&Path>) -> Self {
        Self::with(overrides, VideoTranscoding::OnDemand)
    }

    pub(super) fn with(overrides: Option<&Path>, transcoding: VideoTranscoding) -> Self {
        Self::with_transcoding(overrides, Transcoding { video: transcoding, ..Transcoding::default() })
    }

    pub(super) fn with_transcoding(overrides: Option<&Path>, transcoding: Transcoding) -> Self {
        let hub = Hub::new(Duration::ZERO);
        let source = Source { kind: SourceKind::Rtmp, remote: None };
        let publisher = hub.0.publish::<T>("a".parse().expect("a name"), source).expect("free");
        let (stream, cancel) = (publisher.stream().clone(), CancellationToken::new());
        let pipelines = Pipelines::load(overrides).expect("installed");
        let bridge = tokio::spawn(run_bridges(
            pipelines.clone(),
            stream.clone(),
            transcoding,
            Ladder::default(),
            cancel.clone(),
        ));
        Self { publisher, stream, cancel, pipelines, bridge, _hub: hub }
    }

    /// Waits until the bridge reads. (On one thread: it counts as a reader slightly before.)
    pub(super) async fn bridged(&self) {
        let reads = |lanes: &crate::stream::LaneWatch| lanes.frame_readers > 0 && lanes.packet_readers > 0;
        self.stream.watch_lanes().wait_for(reads).await.expect("open");
    }

    pub(super) async fn end(self) {
        self.cancel.cancel();
        self.bridge.await.expect("no panic");
    }
}

pub(super) async fn next<T: Media>(reader: &mut Subscriber<T>) -> Arc<T> {
    tokio::time::timeout(PATIENCE, reader.recv()).await.expect("in time").expect("not ended")
}
