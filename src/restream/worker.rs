//! The life of one target: wait for the stream, connect, push, and after a failure try again, for ever.
//!
//! One task, one target. A target that is slow loses media by itself (its subscriber lags); nobody else
//! notices. Promises that a connection begins at a keyframe, behind fresh sequence headers, and that it
//! stays while the publisher pauses: through stall and grace, with what the hold sends, or silent.

use super::backoff::Backoff;
use super::clock::OutputClock;
use super::source::{Source, carried};
use super::target::{Target, TargetState};
use crate::media::{Frame, MediaKind, NoCarriage, VideoTranscoding};
use crate::rtmp::{Push, PushError, TlsRoots};
use crate::stream::{Hub, LaneWatch, ReaderKind, Stream};
use chrono::{DateTime, Utc};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// A cached group of pictures that is longer is left out: pushing begins at the next keyframe instead.
const FRESH: Duration = Duration::from_secs(1);

/// How one connection ended.
enum End {
    /// The stream is over.
    Stream,
    /// The target was removed, or the gateway shuts down.
    Cancelled,
    /// The video can't be sent on.
    NotCarried,
    Failed(PushError),
}

/// What all workers need.
pub(super) struct Rooms {
    pub(super) hub: Hub,
    pub(super) roots: TlsRoots,
    pub(super) transcoding: VideoTranscoding,
}

/// Serves a target until `cancel`.
pub(super) async fn run(target: Arc<Target>, rooms: Rooms, cancel: CancellationToken) {
    let mut backoff = Backoff::default();
    loop {
        target.set_state(TargetState::Waiting { since: Utc::now() });
        let stream = tokio::select! {
            () = cancel.cancelled() => break,
            stream = live(&rooms.hub, &target) => stream,
        };
        let Some(stream) = stream else { break };
        tokio::select! {
            () = cancel.cancelled() => break,
            carried = carried(&stream, rooms.transcoding, |reason| refuse(&target, reason)) => {
                if !carried {
                    continue;
                }
            }
        }
        target.set_state(TargetState::Connecting { since: Utc::now() });
        let (end, live) = session(&target, &stream, &rooms, &cancel).await;
        match end {
            End::Cancelled => break,
            End::NotCarried => backoff = Backoff::default(),
            End::Stream => {
                info!(stream = %target.stream, target = %target.id, "Restream ended with its stream.");
                backoff = Backoff::default();
            }
            End::Failed(error) => {
                let (attempt, wait) = backoff.failed(live, error.is_name_taken(), rand::random());
                let since = Utc::now();
                warn!(stream = %target.stream, target = %target.id, %error, attempt, ?wait, "Restream failed.");
                let reason = error.to_string();
                target.set_state(TargetState::Retrying { since, attempt, reason, next_try: since + wait });
                tokio::select! {
                    () = cancel.cancelled() => break,
                    () = tokio::time::sleep(wait) => {}
                    () = over(&stream) => backoff = Backoff::default(),
                }
            }
        }
    }
    target.set_state(TargetState::Ended { since: Utc::now() });
}

/// Says why the stream can't be sent on.
fn refuse(target: &Target, reason: NoCarriage) {
    warn!(stream = %target.stream, target = %target.id, "No restream: {reason}.");
    target.set_state(TargetState::Failing { since: Utc::now(), reason: reason.to_string() });
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

/// One connection, and how long it was live.
async fn session(
    target: &Target,
    stream: &Arc<Stream>,
    rooms: &Rooms,
    cancel: &CancellationToken,
) -> (End, Duration) {
    let push = tokio::select! {
        () = cancel.cancelled() => return (End::Cancelled, Duration::ZERO),
        () = over(stream) => return (End::Stream, Duration::ZERO),
        push = Push::connect(&target.url, &rooms.roots) => push,
    };
    let push = match push {
        Ok(push) => push,
        Err(error) => return (End::Failed(error), Duration::ZERO),
    };
    let mut session = Session {
        target,
        push,
        frames: Source::new(stream, rooms.transcoding),
        lanes: stream.watch_lanes(),
        held: false,
        clock: OutputClock::default(),
        epoch: None,
        written: Instant::now(),
        live_since: None,
        counted: 0,
    };
    let guard = stream.count_reader(ReaderKind::Restream);
    let end = session.run(cancel).await;
    drop(guard);
    let live = session.live_since.map_or(Duration::ZERO, |(since, _)| since.elapsed());
    if !matches!(end, End::Failed(_)) {
        session.push.close().await;
    }
    (end, live)
}

struct Session<'a> {
    target: &'a Target,
    push: Push,
    frames: Source,
    lanes: watch::Receiver<LaneWatch>,
    /// The publisher's pause is filled.
    held: bool,
    clock: OutputClock,
    /// The epoch whose sequence headers the server has.
    epoch: Option<u64>,
    /// When the last frame was written.
    written: Instant,
    live_since: Option<(Instant, DateTime<Utc>)>,
    counted: u64,
}

impl Session<'_> {
    async fn run(&mut self, cancel: &CancellationToken) -> End {
        let backlog = match self.frames.fresh_backlog(FRESH) {
            Ok(backlog) => backlog,
            Err(_) => return End::NotCarried,
        };
        for frame in backlog {
            if let Err(error) = self.write(&frame).await {
                return End::Failed(error);
            }
        }
        loop {
            let frame = tokio::select! {
                biased;
                () = cancel.cancelled() => return End::Cancelled,
                error = self.push.attend() => return End::Failed(error),
                Ok(held) = change_of_hold(&mut self.lanes, self.held) => {
                    self.held = held;
                    self.tell();
                    continue;
                }
                frame = self.frames.recv() => frame,
            };
            let frame = match frame {
                Ok(Some(frame)) => frame,
                Ok(None) => return End::Stream,
                Err(_) => return End::NotCarried, // whoever waits for other media then says why
            };
            if let Err(error) = self.write(&frame).await {
                return End::Failed(error);
            }
        }
    }

    /// Writes a frame, after new sequence headers where its epoch is new.
    async fn write(&mut self, frame: &Frame) -> Result<(), PushError> {
        if self.epoch != Some(frame.epoch.id) {
            // An epoch with video begins with a picture that can be decoded.
            let begins = frame.keyframe
                && (frame.kind == MediaKind::Video || !frame.epoch.tracks.has(MediaKind::Video));
            if !begins {
                return Ok(());
            }
            let timestamp = self.clock.begin_epoch(&frame.epoch, frame.dts, self.written.elapsed());
            self.push.begin_epoch(&frame.epoch.tracks, timestamp).await?;
            self.epoch = Some(frame.epoch.id);
        }
        let Some(timestamp) = self.clock.place(frame) else { return Ok(()) };
        self.push.write(frame, timestamp).await?;
        self.written = Instant::now();
        let sent = self.push.bytes_sent();
        self.target.sent(sent - self.counted);
        self.counted = sent;
        if self.live_since.is_none() {
            self.live_since = Some((self.written, Utc::now()));
            self.tell();
            info!(stream = %self.target.stream, target = %self.target.id, "Restream live.");
        }
        Ok(())
    }

    /// Says that media flow, once they do, and whether they are the publisher's.
    fn tell(&self) {
        if let Some((_, since)) = self.live_since {
            self.target.set_state(TargetState::Live { since, held: self.held });
        }
    }
}

/// Waits until a hold begins or ends. Cancel safe.
async fn change_of_hold(
    lanes: &mut watch::Receiver<LaneWatch>,
    known: bool,
) -> Result<bool, watch::error::RecvError> {
    lanes.wait_for(|lanes| lanes.held != known).await.map(|lanes| lanes.held)
}
