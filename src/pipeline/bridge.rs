//! Starts and stops the bridge of one stream, as its lanes have readers.

use super::{PipelineError, Pipelines, to_frames, to_packets};
use crate::stream::{LaneKind, LaneWatch, Stream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// A bridge outlives its last reader this long: another may come.
const LINGER: Duration = Duration::from_secs(5);
/// Between a failure and the next start; doubles up to the second value.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// A bridge that ran this long failed for a new reason.
const STABLE: Duration = Duration::from_secs(30);

/// Fills the lane of `stream` that its publisher does not fill, while somebody reads it. Returns when the
/// stream has ended or on `cancel`. A pipeline that fails is replaced, in a new epoch.
pub async fn run_bridges(pipelines: Arc<Pipelines>, stream: Arc<Stream>, cancel: CancellationToken) {
    tokio::select! {
        () = cancel.cancelled() => {}
        () = run(&pipelines, &stream) => {}
    }
}

async fn run(pipelines: &Pipelines, stream: &Arc<Stream>) {
    let mut lanes = stream.watch_lanes();
    let mut backoff = BACKOFF.0;
    loop {
        let wanted = lanes.wait_for(|lanes| lanes.ended || lanes.wanted_bridge().is_some()).await;
        let Ok(wanted) = wanted.map(|lanes| *lanes) else {
            return;
        };
        let Some(lane) = wanted.wanted_bridge().filter(|_| !wanted.ended) else {
            return;
        };
        debug!(stream = %stream.name(), ?lane, "The bridge starts.");
        let started = Instant::now();
        let bridge = async {
            match lane {
                LaneKind::Frames => to_frames::run(pipelines, stream).await,
                LaneKind::Packets => to_packets::run(pipelines, stream).await,
            }
        };
        let result = tokio::select! {
            result = bridge => result,
            () = unwanted(lanes.clone(), wanted) => Ok(()),
        };
        debug!(stream = %stream.name(), ?lane, "The bridge stopped.");
        let Err(error) = result else {
            backoff = BACKOFF.0;
            continue;
        };
        if started.elapsed() > STABLE {
            backoff = BACKOFF.0;
        }
        report(stream, &error, backoff);
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

fn report(stream: &Stream, error: &PipelineError, backoff: Duration) {
    let retry_ms = backoff.as_millis() as u64;
    warn!(stream = %stream.name(), %error, retry_ms, "A bridge failed and is started again.");
}

/// Completes when the bridge that was `wanted` should stop: the stream or its publisher is gone or
/// another, or nobody has read for a while.
async fn unwanted(mut lanes: watch::Receiver<LaneWatch>, wanted: LaneWatch) {
    let gone = |lanes: &LaneWatch| {
        lanes.ended || lanes.generation != wanted.generation || lanes.native != wanted.native
    };
    loop {
        let idle = lanes.wait_for(|lanes| gone(lanes) || lanes.wanted_bridge().is_none()).await;
        if idle.map_or(true, |lanes| gone(&lanes)) {
            return;
        }
        let read_again = lanes.wait_for(|lanes| gone(lanes) || lanes.wanted_bridge().is_some());
        match tokio::time::timeout(LINGER, read_again).await {
            Ok(Ok(lanes)) if !gone(&lanes) => {}
            _ => return,
        }
    }
}
