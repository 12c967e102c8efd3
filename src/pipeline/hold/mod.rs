//! The hold: fills the frame lane while a publisher is silent or away, so that HLS players and restream
//! targets stay.
//!
//! Owns one task a stream. While its publisher pauses and somebody reads frames, the last picture, or the
//! operator's slate, and silence go on where the publisher ended, in an epoch of their own. The picture is
//! encoded once for a pause and then repeated, and silence is written by hand, so holding costs no codec's
//! work. Ends the moment the publisher's media come. A hold that fails costs nothing but itself.

mod pace;
mod picture;
mod silence;
mod slate;
mod still;
#[cfg(test)]
mod tests;

pub use slate::{Slate, SlateError};

use super::{PipelineError, Pipelines};
use crate::media::{Frame, MediaKind, MediaTime, Tracks};
use crate::stream::{HoldWriter, LaneWatch, LastGroup, Stream};
use pace::{Ending, Pace};
use silence::Silence;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use still::Still;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// A hold outlives its last reader this long: another may come.
const LINGER: Duration = Duration::from_secs(5);
/// Frames that are due are handed over so often.
const STEP: Duration = Duration::from_millis(50);
/// Before another look for a group of pictures: a bridge may be about to make one.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// From one picture to the next, where the group does not tell.
const INTERVAL: Duration = Duration::from_millis(33);
/// A publisher that has returned and sends no picture for so long is not waited for any more.
const RETURN: Duration = Duration::from_secs(5);

/// What is shown while a publisher is silent.
#[derive(Clone, Debug)]
pub enum HoldPicture {
    /// Its last picture.
    Last,
    /// A picture of the operator's.
    Slate(Slate),
}

/// Fills the frame lane of `stream` in each of its publisher's pauses, while somebody reads it. Returns when
/// the stream has ended or on `cancel`.
pub async fn run_holds(
    pipelines: Arc<Pipelines>,
    stream: Arc<Stream>,
    picture: HoldPicture,
    cancel: CancellationToken,
) {
    let mut holds = Holds { pipelines: &pipelines, stream: &stream, picture, prepared: None };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = holds.run() => {}
    }
}

struct Holds<'a> {
    pipelines: &'a Pipelines,
    stream: &'a Arc<Stream>,
    picture: HoldPicture,
    /// For the group of pictures that came last at this instant.
    prepared: Option<(Instant, Arc<Content>)>,
}

/// What is repeated, and where it begins.
struct Content {
    tracks: Tracks,
    wall_origin: SystemTime,
    ending: Ending,
    still: Option<Still>,
    silence: Option<Silence>,
}

impl Holds<'_> {
    async fn run(&mut self) {
        let mut lanes = self.stream.watch_lanes();
        // The pause in which a hold failed: it is not tried again in the same one.
        let mut given_up = None;
        loop {
            let wanted = |lanes: &LaneWatch| is_wanted(lanes) && given_up != Some(pause(lanes));
            let state = lanes.wait_for(|lanes| lanes.ended || wanted(lanes)).await;
            let Ok(state) = state.map(|lanes| *lanes) else { return };
            if state.ended {
                return;
            }
            let content = tokio::select! {
                content = self.prepare() => content,
                _ = lanes.wait_for(|lanes| lanes.ended || !is_wanted(lanes)) => continue,
            };
            let content = match content {
                Ok(content) => content,
                Err(error) => {
                    warn!(stream = %self.stream.name(), %error, "The pause can't be filled.");
                    given_up = Some(pause(&state));
                    continue;
                }
            };
            let Some(writer) = content.as_ref().and_then(|_| self.stream.hold()) else {
                // Nothing to hold yet, or the publisher has just come back.
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            };
            let Some(content) = content else { continue };
            info!(stream = %self.stream.name(), "The publisher's pause is filled.");
            tokio::select! {
                () = fill(&writer, &content) => {}
                () = writer.over() => {}
                () = unread(lanes.clone()) => {}
                () = returned_without_pictures(lanes.clone()) => {}
            }
            debug!(stream = %self.stream.name(), "The hold is over.");
        }
    }

    /// What fills this pause; `None` while there is nothing to make it of. Cancel safe.
    async fn prepare(&mut self) -> Result<Option<Arc<Content>>, PipelineError> {
        let Some(group) = self.stream.last_group() else { return Ok(None) };
        let came = group.written.into_std();
        if let Some((_, content)) = self.prepared.as_ref().filter(|(known, _)| *known == came) {
            return Ok(Some(content.clone()));
        }
        let content = Arc::new(self.make(&group).await?);
        self.prepared = Some((came, content.clone()));
        Ok(Some(content))
    }

    async fn make(&self, group: &LastGroup) -> Result<Content, PipelineError> {
        let epoch = group.frames.last().map(|frame| frame.epoch.clone());
        let tracks = epoch.as_ref().map(|epoch| epoch.tracks.clone()).unwrap_or_default();
        let picture = match (&self.picture, &tracks.video) {
            (_, None) => None,
            (HoldPicture::Last, Some(_)) => picture::last_shown(self.pipelines, &group.frames).await?,
            (HoldPicture::Slate(slate), Some(track)) => {
                let size = track.resolution.unwrap_or(slate::DEFAULT_SIZE);
                slate.picture(self.pipelines, size).await?
            }
        };
        let still = match picture {
            Some(picture) => Some(Still::encode(self.pipelines, &picture).await?),
            None => None,
        };
        let silence = tracks.audio.as_ref().map(Silence::of);
        Ok(Content {
            tracks: Tracks {
                video: still.as_ref().map(|still| still.track.clone()),
                audio: silence.as_ref().map(|silence| silence.track.clone()),
            },
            wall_origin: epoch.map_or_else(SystemTime::now, |epoch| epoch.wall_origin),
            ending: ending(group, still.is_some(), silence.as_ref()),
            still,
            silence,
        })
    }
}

/// Whether the publisher pauses and somebody reads frames.
fn is_wanted(lanes: &LaneWatch) -> bool {
    (lanes.stalled || lanes.native.is_none()) && is_read(lanes)
}

fn is_read(lanes: &LaneWatch) -> bool {
    lanes.frame_readers + lanes.compatible_readers > 0
}

/// What tells one pause from another.
fn pause(lanes: &LaneWatch) -> (u64, bool) {
    (lanes.generation, lanes.stalled)
}

/// Completes when nobody has read for a while.
async fn unread(mut lanes: watch::Receiver<LaneWatch>) {
    loop {
        // An error means that the stream is gone altogether.
        let _ = lanes.wait_for(|lanes| !is_read(lanes)).await.map(drop);
        if tokio::time::timeout(LINGER, lanes.wait_for(is_read)).await.is_err() {
            return;
        }
    }
}

/// Completes some seconds after a publisher's return if its media did not end the hold.
async fn returned_without_pictures(mut lanes: watch::Receiver<LaneWatch>) {
    let pauses = |lanes: &LaneWatch| lanes.stalled || lanes.native.is_none();
    loop {
        let _ = lanes.wait_for(|lanes| !pauses(lanes)).await.map(drop);
        if tokio::time::timeout(RETURN, lanes.wait_for(pauses)).await.is_err() {
            return;
        }
    }
}

/// Where the publisher's media ended, for the tracks that are filled.
fn ending(group: &LastGroup, has_pictures: bool, silence: Option<&Silence>) -> Ending {
    let times = |kind| group.frames.iter().filter(move |frame| frame.kind == kind).map(|frame| frame.pts);
    let video = times(MediaKind::Video).max().map(|last| last + interval(times(MediaKind::Video)));
    let audio = times(MediaKind::Audio).max().zip(silence).map(|(last, silence)| {
        last.shifted(MediaTime::from_ticks(i64::from(silence.samples), silence.rate).as_nanos())
    });
    let either = video.max(audio).unwrap_or_default();
    Ending {
        video: has_pictures.then(|| video.unwrap_or(either)),
        audio: silence.map(|_| audio.unwrap_or(either)),
        came: group.written.into_std(),
    }
}

/// From one picture to the next, as it mostly was.
fn interval(times: impl Iterator<Item = MediaTime>) -> Duration {
    let mut times: Vec<MediaTime> = times.collect();
    times.sort();
    let mut steps: Vec<Duration> = times.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    steps.sort();
    let middle = steps.get(steps.len() / 2).copied().unwrap_or(INTERVAL);
    middle.clamp(Duration::from_millis(5), Duration::from_millis(200))
}

/// Writes frames as they are due, until the hold is over.
async fn fill(writer: &HoldWriter, content: &Content) {
    let epoch = writer.begin_epoch(content.tracks.clone(), content.wall_origin);
    let (samples, rate) =
        content.silence.as_ref().map_or((1024, 48_000), |silence| (silence.samples, silence.rate));
    let mut pace = Pace::new(content.ending, Instant::now(), samples, rate);
    let mut ticks = tokio::time::interval(STEP);
    loop {
        ticks.tick().await;
        let now = Instant::now();
        while let Some(due) = pace.next(now) {
            let unit = match due.kind {
                MediaKind::Video => content.still.as_ref().map(|still| still.unit(due.number)),
                MediaKind::Audio => content.silence.as_ref().map(|silence| (true, silence.frame.clone())),
            };
            let Some((keyframe, data)) = unit else { continue };
            let (epoch, kind, pts) = (epoch.clone(), due.kind, due.time);
            if !writer.write(Frame { epoch, kind, pts, dts: pts, keyframe, data }) {
                return;
            }
        }
    }
}
