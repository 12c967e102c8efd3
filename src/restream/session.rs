//! One connection of a target: from the stream's lane through a bounded queue to the server.
//!
//! A server that is slow loses media by itself, in whole groups of pictures; nobody else notices.

use super::clock::OutputClock;
use super::queue::Queue;
use super::sound::Sound;
use super::source::Source;
use super::state::TargetFailure;
use super::target::{Settings, Target};
use super::worker::Rooms;
use crate::media::{Frame, NoCarriage};
use crate::rtmp::{Push, PushError};
use crate::stream::{LaneWatch, Media, ReaderKind, Stream};
use chrono::{DateTime, Utc};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// A cached group of pictures that is longer is left out: pushing begins at the next keyframe instead.
const FRESH: Duration = Duration::from_secs(10);
/// What is given to the connection at once, when there is much.
const BATCH: usize = 64 * 1024;
/// For what is left when the stream ends.
const LAST: Duration = Duration::from_secs(2);
/// How often the bitrate is measured.
const MEASURE: Duration = Duration::from_secs(1);
/// How often it is said that a server is too slow.
const TELL_SLOW: Duration = Duration::from_secs(30);

/// How one connection ended.
pub(super) enum End {
    /// The stream is over.
    Stream,
    /// The target was removed or changed, or the gateway shuts down.
    Cancelled,
    /// The video can't be sent on.
    NotCarried,
    Failed(PushError),
}

/// One connection, and how long it was live.
pub(super) async fn session(
    target: &Target,
    settings: &Settings,
    stream: &Arc<Stream>,
    rooms: &Rooms,
    cancel: &CancellationToken,
) -> (End, Duration) {
    let push = tokio::select! {
        () = cancel.cancelled() => return (End::Cancelled, Duration::ZERO),
        push = Push::connect(&settings.url, &rooms.dialer) => push,
    };
    let push = match push {
        Ok(push) => push,
        Err(error) => return (End::Failed(error), Duration::ZERO),
    };
    let now = Instant::now();
    let mut session = Session {
        target,
        push,
        frames: Source::new(stream, rooms.transcoding),
        lanes: stream.watch_lanes(),
        queue: Queue::default(),
        sound: Sound::new(settings.audio_bitrate, rooms.pipelines.clone()),
        held: false,
        clock: OutputClock::default(),
        epoch: None,
        written: now,
        live_since: None,
        counted: 0,
        dropped: 0,
        told_slow: None,
        measured: (now, 0),
    };
    let guard = stream.count_reader(ReaderKind::Restream);
    let end = session.run(cancel).await;
    drop(guard);
    let live = session.live_since.map_or(Duration::ZERO, |(since, _)| since.elapsed());
    session.rest();
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
    queue: Queue,
    sound: Sound,
    /// The publisher's pause is filled.
    held: bool,
    clock: OutputClock,
    /// The epoch whose sequence headers are on their way.
    epoch: Option<u64>,
    /// When the last frame was written.
    written: Instant,
    live_since: Option<(Instant, DateTime<Utc>)>,
    /// Bytes, and frames left out, that the target has been told of.
    counted: u64,
    dropped: u64,
    /// When it was said last that frames are left out.
    told_slow: Option<Instant>,
    /// When the bitrate was measured last, and the bytes sent until then.
    measured: (Instant, u64),
}

impl Session<'_> {
    async fn run(&mut self, cancel: &CancellationToken) -> End {
        match self.frames.fresh_backlog(FRESH) {
            Ok(backlog) => backlog.into_iter().for_each(|frame| self.queue.push(frame)),
            Err(_) => return End::NotCarried,
        }
        loop {
            if let Err(end) = self.fill() {
                return end;
            }
            let event = tokio::select! {
                biased;
                () = cancel.cancelled() => return End::Cancelled,
                result = self.push.attend() => Event::Taken(result),
                Ok(held) = change_of_hold(&mut self.lanes, self.held) => Event::Held(held),
                more = self.frames.due() => Event::Due(more),
            };
            match event {
                Event::Taken(Ok(())) => self.taken(),
                Event::Taken(Err(error)) => return End::Failed(error),
                Event::Held(held) => {
                    self.held = held;
                    self.tell();
                }
                Event::Due(true) => {}
                Event::Due(false) => {
                    // What is there still goes out.
                    return match timeout(LAST, self.drain()).await {
                        Ok(Err(end)) => end,
                        Ok(Ok(())) | Err(_) => End::Stream,
                    };
                }
            }
        }
    }

    async fn drain(&mut self) -> Result<(), End> {
        loop {
            self.fill()?;
            if self.push.buffered() == 0 {
                return Ok(());
            }
            self.push.attend().await.map_err(End::Failed)?;
        }
    }

    /// Takes what the stream has into the queue, and as much of that as the connection should have.
    fn fill(&mut self) -> Result<(), End> {
        // Whoever waits for other media then says why.
        while let Some(frame) = self.frames.try_recv().map_err(|_: NoCarriage| End::NotCarried)? {
            self.queue.push(frame);
        }
        if self.push.buffered() == 0 {
            while self.push.buffered() < BATCH {
                let Some(frame) = self.queue.pop() else { break };
                self.write(frame)?;
            }
        }
        let (frames, bytes) = self.queue.depth();
        let counters = &self.target.counters;
        counters.queue_frames.store(frames, Relaxed);
        counters.queue_bytes.store(bytes + self.push.buffered(), Relaxed);
        self.count_dropped();
        Ok(())
    }

    /// Writes a frame, after new sequence headers where its epoch is new.
    fn write(&mut self, frame: Frame) -> Result<(), End> {
        if self.epoch != Some(frame.epoch.id) {
            // An epoch with video begins with a picture that can be decoded.
            if !frame.starts_group() {
                return Ok(());
            }
            let timestamp = self.clock.begin_epoch(&frame.epoch, frame.dts, self.written.elapsed());
            let tracks = self.sound.begin(&frame.epoch).map_err(|error| End::Failed(error.into()))?;
            self.push.begin_epoch(&tracks, timestamp).map_err(End::Failed)?;
            self.epoch = Some(frame.epoch.id);
        }
        let Self { sound, clock, push, .. } = self;
        let taken = sound.take(frame, |frame| {
            if let Some(timestamp) = clock.place(frame) {
                push.write(frame, timestamp);
            }
        });
        self.written = Instant::now();
        taken.map_err(|error| End::Failed(error.into()))
    }

    /// The server has taken all that was given to it.
    fn taken(&mut self) {
        let (sent, now) = (self.push.bytes_sent(), Instant::now());
        let counters = &self.target.counters;
        counters.bytes_sent.fetch_add(sent - self.counted, Relaxed);
        self.counted = sent;
        let (since, before) = self.measured;
        let passed = now - since;
        if passed >= MEASURE {
            let rate = (sent - before) as f64 * 8.0 / passed.as_secs_f64();
            counters.bitrate.store(rate as u64, Relaxed);
            self.measured = (now, sent);
        }
        if self.live_since.is_none() && self.epoch.is_some() {
            self.live_since = Some((now, Utc::now()));
            self.tell();
            info!(stream = %self.target.stream, target = %self.target.id, "Restream live.");
        }
    }

    /// Says that media flow, once they do, and whether they are the publisher's.
    fn tell(&self) {
        if let Some((_, since)) = self.live_since
            && self.target.flows(since, self.held)
        {
            self.target.counters.reconnects.fetch_add(1, Relaxed);
        }
    }

    fn count_dropped(&mut self) {
        let dropped = self.queue.dropped() + self.frames.lost();
        let more = dropped.saturating_sub(self.dropped);
        self.dropped = dropped;
        if more == 0 {
            return;
        }
        self.target.counters.dropped.fetch_add(more, Relaxed);
        if self.told_slow.is_none_or(|at| at.elapsed() > TELL_SLOW) {
            self.told_slow = Some(Instant::now());
            self.target.note(TargetFailure::now(&PushError::TooSlow));
            let (stream, target) = (&self.target.stream, &self.target.id);
            warn!(%stream, %target, "A target is too slow: frames are left out.");
        }
    }

    /// Nothing waits, and nothing flows any more.
    fn rest(&self) {
        let counters = &self.target.counters;
        counters.queue_frames.store(0, Relaxed);
        counters.queue_bytes.store(0, Relaxed);
        counters.bitrate.store(0, Relaxed);
    }
}

/// What a session waits for.
enum Event {
    Taken(Result<(), PushError>),
    Held(bool),
    /// There are frames, or none will come any more.
    Due(bool),
}

/// Waits until a hold begins or ends. Cancel safe.
async fn change_of_hold(
    lanes: &mut watch::Receiver<LaneWatch>,
    known: bool,
) -> Result<bool, watch::error::RecvError> {
    lanes.wait_for(|lanes| lanes.held != known).await.map(|lanes| lanes.held)
}
