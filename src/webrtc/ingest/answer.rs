//! The SDP answer to a publisher, written by us (RFC 8829 §5.3, RFC 9725 §4.4).
//!
//! One bundle, ICE-lite, all candidates at once, each section `recvonly`. Everything in it comes from a checked
//! [`Offer`] or from us: the client's text is not copied.

use super::offer::{Extension, Offer, Section};
use crate::media::MediaKind;
use crate::webrtc::transport::Transport;
use std::fmt::Write;

/// Answers `offer`. `candidates`: the lines of ours.
pub(super) fn answer(offer: &Offer, transport: &Transport, candidates: &str) -> String {
    let session: u64 = rand::random::<u64>() >> 2;
    let mut sdp =
        format!("v=0\r\no=- {session} 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n{}", transport.session_lines());
    if offer.bundled {
        let mids: Vec<&str> = offer.sections.iter().map(|section| section.mid.as_str()).collect();
        let _ = write!(sdp, "a=group:BUNDLE {}\r\n", mids.join(" ")); // writing to a string does not fail
    }
    if offer.mixed_extensions {
        sdp.push_str("a=extmap-allow-mixed\r\n");
    }
    for (index, section) in offer.sections.iter().enumerate() {
        // The first section's transport is that of the bundle.
        write_section(&mut sdp, section, &transport.sdp_lines(), if index == 0 { candidates } else { "" });
    }
    sdp
}

fn write_section(sdp: &mut String, section: &Section, transport: &str, candidates: &str) {
    let mut line = |text: std::fmt::Arguments<'_>| {
        let _ = sdp.write_fmt(text);
        sdp.push_str("\r\n");
    };
    let types =
        section.formats.iter().flat_map(|format| std::iter::once(format.payload_type).chain(format.rtx));
    let types: Vec<String> = types.map(|number| number.to_string()).collect();
    line(format_args!("m={} 9 {} {}", section.kind, section.profile, types.join(" ")));
    line(format_args!("c=IN IP4 0.0.0.0"));
    line(format_args!("a=rtcp:9 IN IP4 0.0.0.0"));
    line(format_args!("{}", transport.trim_end()));
    line(format_args!("a=mid:{}", section.mid));
    line(format_args!("a=recvonly"));
    line(format_args!("a=rtcp-mux"));
    line(format_args!("a=rtcp-mux-only")); // RFC 8858
    if section.reduced_size {
        line(format_args!("a=rtcp-rsize"));
    }
    for (id, extension) in &section.extensions {
        line(format_args!("a=extmap:{id} {}", extension.uri()));
    }
    let channels = if section.kind == MediaKind::Audio { "/2" } else { "" };
    for format in &section.formats {
        let (number, rate) = (format.payload_type, format.clock_rate);
        line(format_args!("a=rtpmap:{number} {}/{rate}{channels}", format.encoding_name()));
        if !format.fmtp.is_empty() {
            line(format_args!("a=fmtp:{number} {}", format.fmtp));
        }
        for feedback in &format.feedback {
            line(format_args!("a=rtcp-fb:{number} {feedback}"));
        }
        if let Some(rtx) = format.rtx {
            line(format_args!("a=rtpmap:{rtx} rtx/{rate}"));
            line(format_args!("a=fmtp:{rtx} apt={number}"));
        }
    }
    if !section.rids.is_empty() {
        for rid in &section.rids {
            line(format_args!("a=rid:{rid} recv"));
        }
        line(format_args!("a=simulcast:recv {}", section.rids.join(";"))); // RFC 8853 §5.1
    }
    sdp.push_str(candidates);
}

impl Extension {
    /// The URI that names it in `a=extmap`.
    pub(super) fn uri(self) -> &'static str {
        match self {
            Self::TransportCc => "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
            Self::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Self::Rid => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            Self::RepairedRid => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
        }
    }

    /// All of them.
    pub(super) const ALL: [Self; 4] = [Self::TransportCc, Self::Mid, Self::Rid, Self::RepairedRid];
}
