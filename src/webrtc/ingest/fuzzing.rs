//! Fuzzing of publishers: their offers, and what they send when the transport is there.

use super::access_unit::{contents, picture};
use super::answer::answer;
use super::feedback::sender_reports;
use super::offer::Offer;
use super::rtp::Header;
use crate::media::fuzzing::{Input, video_codec};
use crate::webrtc::fuzzing::check_answer;
use crate::webrtc::transport::Transport;
use crate::webrtc::transport::fuzzing::identity;
use std::time::Instant;

/// A publisher's offer, and our answer if it can be served.
pub fn offer(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(offer) = Offer::parse(text) else { return };
    assert!((1..=2).contains(&offer.sections.len()));
    let transport = Transport::new(Instant::now(), identity(), &offer.remote);
    check_answer(&answer(&offer, &transport, ""), offer.sections.len());
}

/// RTP headers and payloads of each video codec, and RTCP.
pub fn rtp(data: &[u8]) {
    sender_reports(data).for_each(drop);
    if let Some(header) = Header::parse(data) {
        let extensions: usize = header.extensions(data).map(|(_, value)| 1 + value.len()).sum();
        assert!(header.length <= data.len() && extensions <= data.len());
        let _ = header.payload(data, data.len());
    }
    let mut input = Input(data);
    let codec = video_codec(input.number::<1>());
    let _ = contents(codec, input.0);
    let _ = picture(codec, input.0);
}
