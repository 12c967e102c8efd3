//! Starts and stops the bridges of one stream, as its lanes have readers.

use super::{PipelineError, Pipelines, to_compatible, to_frames, to_packets, to_renditions};
use crate::media::{
    BFRAMES_OFF, BFramesRefused, Codec, Ladder, NoCarriage, PacketVideo, Transcoding, VideoTrack,
};
use crate::stream::{LaneKind, LaneWatch, Stream};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// A bridge outlives its last reader this long: another may come.
const LINGER: Duration = Duration::from_secs(5);
/// Between a failure and the next start; doubles up to the second value.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// A bridge that ran this long failed for a new reason.
const STABLE: Duration = Duration::from_secs(30);

/// Fills the lanes of `stream` that its publisher does not fill, each while somebody reads it, and
/// transcodes video for that as far as `transcoding` allows it; makes the lower renditions of `ladder`. Returns when the stream has ended or on `cancel`.
/// A pipeline that fails is replaced, in a new epoch.
pub async fn run_bridges(
    pipelines: Arc<Pipelines>,
    stream: Arc<Stream>,
    transcoding: Transcoding,
    ladder: Ladder,
    cancel: CancellationToken,
) {
    let told = Told::new(&stream);
    let bridges = Bridges { pipelines: &pipelines, stream: &stream, transcoding, ladder, told: &told };
    let all = async {
        // The last three are filled from these lanes, which may need their bridge first.
        tokio::join!(
            bridges.make_ready(),
            bridges.run(LaneWatch::wanted_bridge),
            bridges.run(LaneWatch::wanted_compatible),
            bridges.run(LaneWatch::wanted_compatible_packets),
            bridges.run(LaneWatch::wanted_renditions),
        )
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        _ = all => {}
    }
}

/// What a stream's bridges share.
struct Bridges<'a> {
    pipelines: &'a Arc<Pipelines>,
    stream: &'a Arc<Stream>,
    transcoding: Transcoding,
    ladder: Ladder,
    told: &'a Told,
}

impl Bridges<'_> {
    /// Once there is a publisher of frames: the first viewer does not wait for a plugin.
    async fn make_ready(&self) {
        let mut lanes = self.stream.watch_lanes();
        let frames = |lanes: &LaneWatch| lanes.ended || lanes.native == Some(LaneKind::Frames);
        if lanes.wait_for(frames).await.is_ok() {
            let pipelines = Arc::clone(self.pipelines);
            let _ = tokio::task::spawn_blocking(move || pipelines.load_sound_decoder()).await;
        }
    }

    /// Keeps the bridge running that `wanted` names, if any.
    async fn run(&self, wanted: fn(&LaneWatch) -> Option<LaneKind>) {
        let Self { stream, .. } = self;
        let mut lanes = stream.watch_lanes();
        let mut backoff = BACKOFF.0;
        loop {
            let state = lanes.wait_for(|lanes| lanes.ended || wanted(lanes).is_some()).await;
            let Ok(state) = state.map(|lanes| *lanes) else {
                return;
            };
            let Some(lane) = wanted(&state).filter(|_| !state.ended) else {
                return;
            };
            debug!(stream = %stream.name(), ?lane, "The bridge starts.");
            let started = Instant::now();
            let result = tokio::select! {
                result = self.fill(lane) => result,
                () = unwanted(lanes.clone(), lane, state, wanted) => Ok(()),
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

    async fn fill(&self, lane: LaneKind) -> Result<(), PipelineError> {
        let Self { pipelines, stream, transcoding, ref ladder, told } = *self;
        match lane {
            LaneKind::Frames => to_frames::run(pipelines, stream, transcoding, told).await,
            LaneKind::Packets => to_packets::run(pipelines, stream, transcoding, told).await,
            LaneKind::Compatible => to_compatible::run(pipelines, stream, transcoding.video).await,
            LaneKind::CompatiblePackets => to_packets::compatible::run(pipelines, stream, told).await,
            LaneKind::Renditions => to_renditions::run(pipelines, stream, ladder).await,
        }
    }
}

/// What the operator has been told of a stream, so that it is said once.
pub(super) struct Told {
    stream: Arc<Stream>,
    last: Mutex<Option<NoCarriage>>,
    b_frames: Mutex<Option<Result<PacketVideo, BFramesRefused>>>,
    encoded: Mutex<Option<Codec>>,
}

impl Told {
    fn new(stream: &Arc<Stream>) -> Self {
        Self {
            stream: stream.clone(),
            last: Mutex::new(None),
            b_frames: Mutex::new(None),
            encoded: Mutex::new(None),
        }
    }

    /// Logs why video does not reach an output, unless that was the last thing said.
    pub(super) fn once(&self, reason: NoCarriage) {
        if self.last.lock().replace(reason) != Some(reason) {
            warn!(stream = %self.stream.name(), "{reason}.");
        }
    }

    /// Logs that video of `codec` is encoded again for WebRTC viewers without it, unless that was the last thing
    /// said.
    pub(super) fn encoded(&self, codec: Codec) {
        if self.encoded.lock().replace(codec) != Some(codec) {
            info!(stream = %self.stream.name(), "The {codec} video is encoded again as H.264 for WebRTC viewers that \
                  can't have {codec}. To save that: publish H.264.");
        }
    }

    /// Logs what becomes of B-frames for WebRTC viewers, unless that was the last thing said.
    pub(super) fn b_frames(&self, track: &VideoTrack, way: Result<PacketVideo, BFramesRefused>) {
        if self.b_frames.lock().replace(way) == Some(way) {
            return;
        }
        let stream = self.stream.name();
        match way {
            Ok(PacketVideo::AsItIs) => {}
            Ok(PacketVideo::Thinned { shortage: None }) => {
                info!(%stream, "The {} video has B-frames: WebRTC viewers get it without them, with fewer pictures. \
                       To send all: {BFRAMES_OFF}.", track.codec);
            }
            Ok(PacketVideo::Thinned { shortage: Some(shortage) }) => {
                warn!(%stream, "The {} video has B-frames, and {shortage}: for the time being WebRTC viewers get it \
                       without them, with fewer pictures. To send all: {BFRAMES_OFF}.", track.codec);
            }
            Ok(PacketVideo::Transcoded) => {
                info!(%stream, "The {} video has B-frames: it is encoded again for WebRTC viewers. \
                       To save that: {BFRAMES_OFF}.", track.codec);
            }
            Err(reason) => warn!(%stream, "WebRTC viewers get no video: {reason}."),
        }
    }
}

fn report(stream: &Stream, error: &PipelineError, backoff: Duration) {
    let retry_ms = backoff.as_millis() as u64;
    warn!(stream = %stream.name(), %error, retry_ms, "A bridge failed and is started again.");
}

/// Completes when the bridge that was `wanted` in `state` should stop: the stream or its publisher is gone
/// or another, or nobody has read for a while. What is filled from the frame lane follows it, whoever fills it.
async fn unwanted(
    mut lanes: watch::Receiver<LaneWatch>,
    lane: LaneKind,
    state: LaneWatch,
    wanted: fn(&LaneWatch) -> Option<LaneKind>,
) {
    let gone = |lanes: &LaneWatch| {
        let another = lanes.generation != state.generation || lanes.native != state.native;
        lanes.ended || another && !matches!(lane, LaneKind::Compatible | LaneKind::Renditions)
    };
    loop {
        let idle = lanes.wait_for(|lanes| gone(lanes) || wanted(lanes).is_none()).await;
        if idle.map_or(true, |lanes| gone(&lanes)) {
            return;
        }
        let read_again = lanes.wait_for(|lanes| gone(lanes) || wanted(lanes).is_some());
        match tokio::time::timeout(LINGER, read_again).await {
            Ok(Ok(lanes)) if !gone(&lanes) => {}
            _ => return,
        }
    }
}
