//! WHEP viewers: a light, send-only WebRTC session on the `transport` that publishers have too.
//!
//! [`prepare`] turns an offer into an answer and a [`Plan`]; the driver makes a [`Viewer`] of the plan and
//! feeds it datagrams and time; a [`FanOut`] per stream and lane makes each batch ready once (`template`), and each
//! viewer patches and seals it (`track`, `srtp`). Transcodes nothing (a viewer without the
//! stream's codec reads another `lane`), controls no bitrate.

mod answer;
mod echo;
mod extensions;
mod fan_out;
mod feedback;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod history;
mod lane;
mod layers;
mod offer;
mod pictures;
mod playback;
mod playout;
mod reach;
mod resend;
mod ring;
mod rtcp;
mod template;
#[cfg(test)]
mod tests;
mod track;
mod viewer;

use crate::media::{BFramesRefused, Frame, MediaKind, Shortage, Tracks, Transcoding};
use crate::stream::{LaneKind, Stream};
use crate::webrtc::transport::{Identity, Transport};
use crate::webrtc::{NotEncoded, SessionError};
pub(super) use fan_out::FanOut;
pub(super) use lane::{Reading, ViewerLane};
use rand::distr::{Alphanumeric, SampleString};
use std::sync::Arc;
use std::time::Instant;
pub(super) use viewer::Viewer;

/// What a viewer session needs besides its offer.
pub(super) struct Plan {
    stream: Arc<Stream>,
    lane: ViewerLane,
    tracks: Tracks,
    transport: Transport,
    agreement: answer::Agreement,
    cname: String,
}

/// An offer, read.
pub(super) struct Offer(offer::Offer);

impl Offer {
    /// Reads a viewer's offer.
    pub(super) fn parse(text: &str) -> Result<Self, SessionError> {
        offer::Offer::parse(text).map(Self)
    }

    /// Whether the viewer asks for video.
    pub(super) fn wants_video(&self) -> bool {
        self.0.section(MediaKind::Video).is_some()
    }

    /// Whether the viewer can be served only by encoding the pictures of a stream with these `tracks` again.
    pub(super) fn needs_h264(&self, tracks: &Tracks) -> bool {
        answer::needs_h264(&self.0, tracks)
    }

    /// What to say where that is not done.
    pub(super) fn not_encoded(&self, tracks: &Tracks, why: NotEncoded) -> Option<SessionError> {
        let (stream, section) = (tracks.codec(MediaKind::Video)?, self.0.section(MediaKind::Video)?);
        let offered = section.codec_names();
        Some(SessionError::NoCommonCodec { stream, offered, h264: Some(why) })
    }
}

/// Why viewers of `stream` can't have its video, if that is because of B-frames. `packets`: the tracks of the
/// packet lane, once they are known. `shortage`: why nothing is encoded at the moment.
pub(super) fn refusal(
    stream: &Stream,
    packets: Option<&Tracks>,
    transcoding: Transcoding,
    shortage: Option<Shortage>,
) -> Option<BFramesRefused> {
    if stream.watch_lanes().borrow().native != Some(LaneKind::Frames) {
        return None;
    }
    let epoch = stream.epoch::<Frame>()?;
    let video = epoch.tracks.video.as_ref()?;
    // Where packets come without the video, B-frames were found to be needed by other frames.
    let depended_on = packets.is_some_and(|packets| packets.video.is_none());
    transcoding.to_packets(video, depended_on, shortage).err()
}

/// Answers `offer` for this lane of `stream`, whose tracks are `tracks`.
pub(super) fn prepare(
    now: Instant,
    offer: &Offer,
    stream: Arc<Stream>,
    lane: ViewerLane,
    tracks: &Tracks,
    candidates: &str,
    identity: Arc<Identity>,
) -> Result<Plan, SessionError> {
    let offer = &offer.0;
    let transport = Transport::new(now, identity, &offer.remote);
    let cname = Alphanumeric.sample_string(&mut rand::rng(), 16);
    let (session, lines) = (transport.session_lines(), transport.sdp_lines());
    let local = answer::Local { candidates, session, transport: lines, cname: &cname };
    let agreement = answer::answer(offer, tracks, &local)?;
    Ok(Plan { stream, lane, tracks: tracks.clone(), transport, agreement, cname })
}

impl Plan {
    /// The answer.
    pub(super) fn sdp(&self) -> &str {
        &self.agreement.sdp
    }

    /// The stream to play.
    pub(super) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// The lane to play of it.
    pub(super) fn lane(&self) -> ViewerLane {
        self.lane
    }

    /// Begins the session.
    pub(super) fn begin(self, now: Instant) -> Viewer {
        Viewer::new(now, self)
    }
}
