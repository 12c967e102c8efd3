//! The task that turns one stream into HLS: frames → muxers → renditions.
//!
//! One task owns all of a stream's state, which the packager keeps.

use super::HlsSettings;
use super::live::{Live, Numbers};
use super::packager::Packager;
use super::rates::Rates;
use super::track::next_output;
use crate::media::{Frame, MediaTime};
use crate::pipeline::Pipelines;
use crate::stream::{LaneWatch, Media, RenditionFrame};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Frames taken in a row, before what the muxers have done is looked at.
const FRAMES_AT_ONCE: usize = 128;

/// Why segmenting stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The stream has ended, or `cancel` came; the playlists have ended.
    Ended,
    /// Nobody asks for the stream any more; the playlists are taken back.
    Unwanted,
}

/// Runs until the stream ends, `cancel` is cancelled or nobody wants it. Sequence numbers are at least
/// those of `first`.
pub(super) async fn run(
    settings: &HlsSettings,
    pipelines: &Pipelines,
    live: &Live,
    rates: &Rates,
    first: Numbers,
    cancel: &CancellationToken,
) -> Stop {
    let mut packager = Packager::new(settings, pipelines, live, rates, first);
    packager.there = live.stream().frames_until().unwrap_or(MediaTime::ZERO);
    let mut frames = live.stream().subscribe::<Frame>();
    let mut lower = live.stream().subscribe::<RenditionFrame>();
    let mut lanes = live.stream().watch_lanes();
    info!(stream = %live.stream().name(), "HLS output started.");
    let mut publisher = *lanes.borrow_and_update();
    let mut lost = 0;
    loop {
        packager.notice_pause(&publisher);
        let gap_due = packager.gap_due();
        let (is_due, is_lower_due) = (packager.pace(), packager.lower_pace());
        tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            (name, output) = next_output(&mut packager.stretch) => {
                packager.take_output(name, output).await;
                continue;
            }
            more = frames.due(is_due) => {
                if !more { break }
                packager.heard = Some(Instant::now());
            }
            _ = lower.due(is_lower_due) => {}
            Ok(now) = publisher_change(&mut lanes, publisher) => {
                publisher = now;
                // Where a hold fills the lane, its first frame has ended the publisher's stretch.
                if publisher.native.is_none() && !publisher.held {
                    packager.publisher_left(&mut frames, &mut lower).await;
                }
                continue;
            }
            () = at(gap_due) => {
                packager.list_pause(&mut frames, &mut lower).await;
                continue;
            }
        }
        for _ in 0..FRAMES_AT_ONCE {
            let Some(frame) = frames.try_recv() else { break };
            if lost != frames.lost() {
                warn!(stream = %live.stream().name(), frames = frames.lost() - lost, "HLS output lagged.");
                lost = frames.lost();
                packager.end_stretch().await;
            }
            packager.take_frame(&frame).await;
            if !settings.always && frame.starts_group() && live.is_unwanted(Instant::now().into_std()) {
                packager.end_stretch().await;
                live.rest();
                info!(stream = %live.stream().name(), "HLS output rests until somebody asks for it.");
                return Stop::Unwanted;
            }
        }
        for _ in 0..FRAMES_AT_ONCE {
            let Some(frame) = lower.try_recv() else { break };
            packager.take_lower(frame);
        }
        packager.advance_lower().await;
    }
    packager.publisher_left(&mut frames, &mut lower).await; // what it had sent when `cancel` came
    packager.end().await;
    info!(stream = %live.stream().name(), "HLS output ended.");
    Stop::Ended
}

/// Waits until that instant, or for ever. Cancel safe.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Waits until another publisher, or none, is there, or it pauses or is held. Cancel safe.
async fn publisher_change(
    lanes: &mut watch::Receiver<LaneWatch>,
    known: LaneWatch,
) -> Result<LaneWatch, watch::error::RecvError> {
    let state = |lanes: &LaneWatch| (lanes.native, lanes.generation, lanes.stalled, lanes.held);
    let differs = |now: &LaneWatch| state(now) != state(&known);
    lanes.wait_for(differs).await.map(|now| *now)
}
