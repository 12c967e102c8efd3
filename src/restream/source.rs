//! Where a restream's frames come from: the frame lane while that has H.264 and AAC, else the compatible lane.

use crate::media::{
    Carriage, Codec, Epoch, Frame, MediaKind, MediaTime, NoCarriage, Output, PacketBatch, VideoTranscoding,
};
use crate::stream::{CompatibleFrame, LaneKind, LaneWatch, Media, Stream, Subscriber};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Sound waits for a picture so long at most, in media time.
const SOUND: Duration = Duration::from_millis(40);

/// The frames of one connection. Begins with the frame lane, and goes over to the compatible lane, where a
/// bridge transcodes, with the first epoch that needs it; that one then carries everything.
#[derive(Debug)]
pub(super) struct Source {
    reader: Reader,
    transcoding: VideoTranscoding,
}

#[derive(Debug)]
enum Reader {
    Frames(Subscriber<Frame>),
    Compatible(Subscriber<CompatibleFrame>),
}

impl Source {
    pub(super) fn new(stream: &Arc<Stream>, transcoding: VideoTranscoding) -> Self {
        let known = stream.epoch::<Frame>().map(|epoch| carriage(&epoch, transcoding));
        let reader = match known {
            Some(Ok(Carriage::Transcoded)) => Reader::Compatible(stream.subscribe()),
            _ => Reader::Frames(stream.subscribe()),
        };
        Self { reader, transcoding }
    }

    /// Waits until there is something worth sending: a picture, or sound of [`SOUND`]. What came is for
    /// [`Self::try_recv`]. False when the stream has ended and all is read. Cancel safe.
    pub(super) async fn due(&mut self) -> bool {
        let mut first = None;
        match &mut self.reader {
            Reader::Frames(frames) => frames.due(move |frame| is_worth(frame, &mut first)).await,
            Reader::Compatible(frames) => frames.due(move |frame| is_worth(&frame.0, &mut first)).await,
        }
    }

    /// The next frame if one is there now, an error when its video can't be sent on. `None` tells nothing about
    /// the end.
    pub(super) fn try_recv(&mut self) -> Result<Option<Frame>, NoCarriage> {
        loop {
            let frame = match &mut self.reader {
                Reader::Frames(frames) => frames.try_recv().map(|frame| (*frame).clone()),
                Reader::Compatible(frames) => return Ok(frames.try_recv().map(|frame| frame.0.clone())),
            };
            let Some(frame) = frame else { return Ok(None) };
            if self.fits(&frame.epoch)? {
                return Ok(Some(frame));
            }
        }
    }

    /// Leaves the cached group of pictures out if it has begun longer ago than `longest`: what goes out then
    /// begins at the next keyframe. Gives what is not left out.
    pub(super) fn fresh_backlog(&mut self, longest: Duration) -> Result<VecDeque<Frame>, NoCarriage> {
        let count = match &self.reader {
            Reader::Frames(frames) => frames.backlog(),
            Reader::Compatible(frames) => frames.backlog(),
        };
        let mut backlog = VecDeque::new();
        for _ in 0..count {
            let Some(frame) = self.try_recv()? else { break };
            backlog.push_back(frame);
        }
        let age = match (backlog.front(), backlog.back()) {
            (Some(first), Some(last)) => last.dts.since(first.dts),
            _ => Duration::ZERO,
        };
        Ok(if age <= longest { backlog } else { VecDeque::new() })
    }

    /// Frames that were lost because they were not read in time.
    pub(super) fn lost(&self) -> u64 {
        match &self.reader {
            Reader::Frames(frames) => frames.lost(),
            Reader::Compatible(frames) => frames.lost(),
        }
    }

    /// Whether frames of this epoch can be sent. If they must be transcoded, the other lane is read from
    /// here on.
    fn fits(&mut self, epoch: &Epoch) -> Result<bool, NoCarriage> {
        let Reader::Frames(frames) = &self.reader else { return Ok(true) };
        let transcode = carriage(epoch, self.transcoding)? == Carriage::Transcoded;
        if transcode {
            let stream = frames.stream().clone();
            self.reader = Reader::Compatible(stream.subscribe());
        }
        Ok(!transcode)
    }
}

/// Whether it is time to send, `first` being the first sound that waits. Sound goes with the next picture: a
/// system call less for each.
fn is_worth(frame: &Frame, first: &mut Option<MediaTime>) -> bool {
    frame.kind == MediaKind::Video || frame.dts.since(*first.get_or_insert(frame.dts)) >= SOUND
}

/// Waits until `stream` has media that can be sent on, and calls `refused` whenever there is other. False
/// if the stream ended, or its publisher left, before. Where everything is transcoded nothing is waited for;
/// what a hold sends can always be sent on.
pub(super) async fn carried(
    stream: &Arc<Stream>,
    transcoding: VideoTranscoding,
    mut refused: impl FnMut(NoCarriage),
) -> bool {
    if transcoding == VideoTranscoding::OnDemand {
        return true;
    }
    let mut lanes = stream.watch_lanes();
    let state = *lanes.borrow_and_update();
    match state.native {
        Some(LaneKind::Packets) => {
            carried_by::<PacketBatch>(stream, transcoding, lanes, state, &mut refused).await
        }
        Some(LaneKind::Frames) => carried_by::<Frame>(stream, transcoding, lanes, state, &mut refused).await,
        Some(LaneKind::Compatible | LaneKind::CompatiblePackets | LaneKind::Renditions) | None => state.held,
    }
}

async fn carried_by<T: Media>(
    stream: &Arc<Stream>,
    transcoding: VideoTranscoding,
    mut lanes: watch::Receiver<LaneWatch>,
    state: LaneWatch,
    refused: &mut impl FnMut(NoCarriage),
) -> bool {
    let mut media = stream.subscribe::<T>();
    let mut last: Option<NoCarriage> = None;
    loop {
        let other = |now: &LaneWatch| (now.native, now.generation) != (state.native, state.generation);
        let item = tokio::select! {
            _ = lanes.wait_for(other) => return false,
            item = media.recv() => item,
        };
        let Some(item) = item else { return false };
        match carriage(item.epoch(), transcoding) {
            Ok(_) => return true,
            Err(reason) => {
                if last.replace(reason) != Some(reason) {
                    refused(reason);
                }
            }
        }
    }
}

fn carriage(epoch: &Epoch, transcoding: VideoTranscoding) -> Result<Carriage, NoCarriage> {
    let codec = epoch.tracks.codec(MediaKind::Video).unwrap_or(Codec::H264);
    let video = transcoding.carriage(codec, Output::Restream)?;
    // Of a publisher's packets the frame lane has the sound as AAC in any case.
    match epoch.tracks.codec(MediaKind::Audio) {
        Some(Codec::Opus | Codec::Mp3) => Ok(Carriage::Transcoded),
        _ => Ok(video),
    }
}
