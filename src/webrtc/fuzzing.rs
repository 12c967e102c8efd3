//! Fuzzing of WebRTC: what comes before, behind and beside its transport.

use super::demux::{Datagram, local_fragment};
use super::fragment::{Fragment, MAX_CANDIDATES, candidate};
pub(crate) use super::{
    egress::fuzzing as egress, ingest::fuzzing as ingest, transport::fuzzing as transport,
};

/// Datagrams before anything is known of their sender.
pub fn datagram(data: &[u8]) {
    let _ = local_fragment(data);
    match Datagram::classify(data) {
        Some(Datagram::Stun) => transport::stun(data),
        Some(Datagram::Dtls) => transport::client_hello(data),
        Some(Datagram::Rtp | Datagram::Rtcp) => {
            ingest::rtp(data);
            egress::rtcp(data);
        }
        None => {}
    }
}

/// Fragments of SDP, the candidates in them, and what a PATCH of them does to a session.
pub fn fragment(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for line in text.lines() {
        if let Some(address) = candidate(line.strip_prefix("a=candidate:").unwrap_or(line)) {
            assert!(address.port() != 0 && !address.ip().is_unspecified());
        }
    }
    if let Ok(fragment) = Fragment::parse(text) {
        assert!(fragment.candidates.len() <= fragment.count && fragment.count <= MAX_CANDIDATES);
        let echoes = fragment.media.iter().chain(&fragment.mid);
        assert!(echoes.clone().all(|echo| echo.len() <= 256 && !echo.contains(char::is_control)));
    }
    transport::patch(text);
}

/// Asserts that `sdp`, written by us, is SDP with as many m-sections as were offered: nobody else's text became
/// a line of it.
pub(super) fn check_answer(sdp: &str, sections: usize) {
    let description =
        rtc::sdp::description::session::SessionDescription::unmarshal(&mut std::io::Cursor::new(sdp));
    let description = description.unwrap_or_else(|error| panic!("{error}: {sdp:?}"));
    assert_eq!(description.media_descriptions.len(), sections, "{sdp}");
    for line in sdp.split_terminator("\r\n") {
        assert!(line.as_bytes().get(1) == Some(&b'=') && !line.contains(['\r', '\n']), "{line:?}");
    }
}
