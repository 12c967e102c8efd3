//! Fuzzing of viewers: their offers and their feedback.

use super::answer::{Local, answer};
use super::offer::Offer;
use super::rtcp::Feedback;
use crate::media::fuzzing::{Input, video_codec};
use crate::media::{AudioTrack, Codec, Tracks, VideoTrack};
use crate::webrtc::fuzzing::check_answer;
use bytes::Bytes;

/// A viewer's offer, and our answer if it fits one of the streams that there may be.
pub fn offer(data: &[u8]) {
    let mut input = Input(data);
    let mode = input.number::<1>();
    let Ok(text) = std::str::from_utf8(input.0) else { return };
    let Ok(offer) = Offer::parse(text) else { return };
    assert!(offer.remote.candidates.len() <= 64 && (1..=4).contains(&offer.sections.len()));
    let video = VideoTrack {
        resolution: Some((1280, 720)),
        fmtp: "packetization-mode=1;profile-level-id=42e01f".into(),
        ..VideoTrack::new(video_codec(mode >> 2))
    };
    let audio = AudioTrack {
        codec: Codec::Opus,
        sample_rate: 48_000,
        channels: 2,
        codec_data: Bytes::new(),
        fmtp: String::new(),
    };
    let stream = Tracks { video: (mode & 1 == 0).then_some(video), audio: (mode & 2 == 0).then_some(audio) };
    let local = Local { candidates: "", session: "a=ice-lite\r\n", transport: String::new(), cname: "cname" };
    if let Ok(agreement) = answer(&offer, &stream, &local) {
        check_answer(&agreement.sdp, offer.sections.len());
        assert!((1..=2).contains(&agreement.tracks.len()));
    }
}

/// The RTCP of a viewer.
pub fn rtcp(data: &[u8]) {
    let mut count = 0;
    Feedback::read(data, |_| count += 1);
    assert!(count <= data.len());
}
