//! WHEP viewers: a light, send-only WebRTC session on the `transport` that publishers have too.
//!
//! [`prepare`] turns an offer into an answer and a [`Plan`]; the driver makes a [`Viewer`] of the plan and
//! feeds it datagrams and time; a [`FanOut`] per stream makes each batch ready once (`template`), and each
//! viewer patches and seals it (`track`, `srtp`). Transcodes nothing, controls no bitrate.

mod answer;
mod fan_out;
mod feedback;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod history;
mod layers;
mod offer;
mod playback;
mod playout;
mod reach;
mod resend;
mod rtcp;
mod template;
#[cfg(test)]
mod tests;
mod track;
mod viewer;

use crate::media::Tracks;
use crate::stream::Stream;
use crate::webrtc::SessionError;
use crate::webrtc::transport::{Identity, Transport};
pub(super) use fan_out::FanOut;
use rand::distr::{Alphanumeric, SampleString};
use std::sync::Arc;
use std::time::Instant;
pub(super) use viewer::Viewer;

/// What a viewer session needs besides its offer.
pub(super) struct Plan {
    stream: Arc<Stream>,
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
}

/// Answers `offer` for `stream`, whose tracks are `tracks`.
pub(super) fn prepare(
    now: Instant,
    offer: &Offer,
    stream: Arc<Stream>,
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
    Ok(Plan { stream, tracks: tracks.clone(), transport, agreement, cname })
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

    /// Begins the session.
    pub(super) fn begin(self, now: Instant) -> Viewer {
        Viewer::new(now, self)
    }
}
