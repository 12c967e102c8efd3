//! The life of one target: wait for the stream, connect, push, and after a failure try again, for ever.
//!
//! One task, one target. Promises that a connection begins at a keyframe, behind fresh sequence headers, and
//! that it stays while the publisher pauses: through stall and grace, with what the hold sends, or silent.

use super::backoff::{Backoff, Failure};
use super::session::{End, session};
use super::source::carried;
use super::state::{TargetFailure, TargetState};
use super::target::{Settings, Target};
use crate::media::{Frame, NoCarriage, VideoTranscoding};
use crate::pipeline::Pipelines;
use crate::rtmp::{Dialer, FailureClass, PushError};
use crate::stream::{Hub, LaneWatch, Stream};
use chrono::Utc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// A server that closes the connection sooner after its consent did not mean it.
const SOON: Duration = Duration::from_secs(3);

/// What all workers need.
#[derive(Clone)]
pub(super) struct Rooms {
    pub(super) hub: Hub,
    pub(super) dialer: Dialer,
    pub(super) transcoding: VideoTranscoding,
    pub(super) pipelines: Option<Arc<Pipelines>>,
}

/// Serves a target, as its settings are now, until `cancel`; `begun` hears when its state is its own.
pub(super) async fn run(
    target: Arc<Target>,
    rooms: Rooms,
    cancel: CancellationToken,
    begun: Option<oneshot::Sender<()>>,
) {
    let (settings, since) = (target.settings(), Utc::now());
    target.enter(match settings.enabled {
        true => TargetState::Waiting { since },
        false => TargetState::Disabled { since },
    });
    if let Some(begun) = begun {
        // Who changed the target may be gone.
        let _ = begun.send(());
    }
    if settings.enabled {
        serve(&target, &settings, &rooms, &cancel).await;
    } else {
        cancel.cancelled().await;
    }
}

async fn serve(target: &Arc<Target>, settings: &Settings, rooms: &Rooms, cancel: &CancellationToken) {
    let mut backoff = Backoff::default();
    // How often in a row the connection was closed where keys are judged.
    let mut closed_at_key = 0_u32;
    loop {
        target.enter(TargetState::Waiting { since: Utc::now() });
        let stream = tokio::select! {
            () = cancel.cancelled() => return,
            stream = live(&rooms.hub, target) => stream,
        };
        let Some(stream) = stream else { return };
        tokio::select! {
            () = cancel.cancelled() => return,
            carried = carried(&stream, rooms.transcoding, |reason| refuse(target, reason)) => {
                if !carried {
                    continue;
                }
            }
        }
        target.enter(TargetState::Connecting { since: Utc::now() });
        let (end, live) = session(target, settings, &stream, rooms, cancel).await;
        match end {
            End::Cancelled => return,
            End::NotCarried => backoff = Backoff::default(),
            End::Stream => {
                info!(stream = %target.stream, target = %target.id, "Restream ended with its stream.");
                backoff = Backoff::default();
            }
            End::Failed(error) => {
                let mut failure = TargetFailure::now(&error);
                let at_key = error.is_closed_after_key() && live < SOON;
                closed_at_key = if at_key { closed_at_key.saturating_add(1) } else { 0 };
                if closed_at_key > 1 {
                    failure = failure.suspecting_key();
                }
                let (attempt, wait) = backoff.failed(live, kind(&error), rand::random());
                let (name, id, reason) = (&target.stream, &target.id, &failure.reason);
                warn!(stream = %name, target = %id, error = reason, attempt, ?wait, "Restream failed.");
                fail(target, failure, kind(&error), attempt, wait);
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = tokio::time::sleep(wait) => {}
                    () = over(&stream) => backoff = Backoff::default(),
                }
            }
        }
    }
}

fn kind(error: &PushError) -> Failure {
    if error.is_name_taken() {
        Failure::NameTaken
    } else if error.is_refusal() {
        Failure::Refusal
    } else {
        Failure::Passing
    }
}

/// Says why a try failed, and when the next is due.
fn fail(target: &Target, failure: TargetFailure, kind: Failure, attempt: u32, wait: Duration) {
    let (since, next_try, reason) = (failure.at, failure.at + wait, failure.reason.clone());
    let state = match kind {
        Failure::Refusal => TargetState::Failing { since, reason, next_try: Some(next_try) },
        Failure::Passing | Failure::NameTaken => TargetState::Retrying { since, attempt, reason, next_try },
    };
    target.failed(state, attempt, failure);
}

/// Says why the stream can't be sent on.
fn refuse(target: &Target, reason: NoCarriage) {
    warn!(stream = %target.stream, target = %target.id, "No restream: {reason}.");
    let (at, reason) = (Utc::now(), reason.to_string());
    let failure = TargetFailure { class: FailureClass::Codec, code: None, reason: reason.clone(), at };
    target.failed(TargetState::Failing { since: at, reason, next_try: None }, 0, failure);
}

/// Waits until the target's stream has a publisher, or a hold in its place; `None` when the hub is gone.
async fn live(hub: &Hub, target: &Target) -> Option<Arc<Stream>> {
    let mut events = hub.events();
    loop {
        if let Some(stream) = hub.get(&target.stream) {
            // Somebody must read for the pause to be filled.
            let _reader = stream.source().is_none().then(|| stream.subscribe::<Frame>());
            let flows = |lanes: &LaneWatch| lanes.native.is_some() || lanes.held;
            let mut lanes = stream.watch_lanes();
            let state = lanes.wait_for(|lanes| lanes.ended || flows(lanes)).await.map(|lanes| *lanes);
            if state.is_ok_and(|lanes| !lanes.ended) {
                return Some(stream);
            }
        }
        match events.recv().await {
            // Whatever happened: look again.
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return None,
        }
    }
}

/// Waits until the stream has ended.
async fn over(stream: &Stream) {
    // An error means that the stream is gone altogether.
    let _ = stream.watch_lanes().wait_for(|lanes| lanes.ended).await;
}
