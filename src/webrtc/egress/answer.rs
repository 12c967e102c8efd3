//! The SDP answer to a viewer, written by us (RFC 8829 §5.3, draft-ietf-wish-whep).
//!
//! One bundle, all candidates at once. A section for which the stream has no video is answered
//! `inactive`; one for sound is answered in any case: sound is Opus whenever it comes, so it may come later.
//! One that carries neither pictures nor sound, and a second one of a kind, is refused.
//!
//! A viewer that has not got the stream's codec is answered for another lane, where the pictures are H.264; one
//! that lacks that as well, or where nothing is transcoded, is refused with the names of both sides' codecs (422).
//! Such a viewer has HLS: an encoder for each codec that any one viewer lacks would cost more than all viewers
//! together.

use super::extensions::{SEND_TIME_URI, SendTime};
use super::offer::{Offer, OfferedCodec, Section, parameter};
use super::playout::{self, PlayoutHint};
use super::track::OutTrack;
use crate::media::{Codec, MediaKind, Tracks};
use crate::webrtc::{NotEncoded, SessionError};
use std::fmt::Write;

/// Feedback we act on.
const FEEDBACK: [&str; 4] = ["nack", "nack pli", "ccm fir", "goog-remb"];

/// What was agreed upon.
pub(super) struct Agreement {
    /// The answer.
    pub(super) sdp: String,
    /// The tracks to send.
    pub(super) tracks: Vec<OutTrack>,
    /// Kinds that the viewer wants and the stream doesn't have.
    pub(super) unserved: Vec<MediaKind>,
}

/// What is ours in an answer.
pub(super) struct Local<'a> {
    /// The lines of our candidates.
    pub(super) candidates: &'a str,
    /// The session-level lines of our end of the transport.
    pub(super) session: &'static str,
    /// The lines of our end of the transport.
    pub(super) transport: String,
    pub(super) cname: &'a str,
}

/// How what is encoded again for viewers is offered to them: constrained baseline.
const ENCODED: &str = "packetization-mode=1;profile-level-id=42e01f";

/// Whether the pictures of a stream with these tracks are of no use to the viewer, and H.264 would be.
pub(super) fn needs_h264(offer: &Offer, stream: &Tracks) -> bool {
    let Some(track) = stream.video.as_ref().filter(|track| track.codec != Codec::H264) else { return false };
    let Some(section) = offer.section(MediaKind::Video) else { return false };
    choose(track.codec, section, &track.fmtp).is_none() && choose(Codec::H264, section, ENCODED).is_some()
}

/// Answers `offer` for a stream with these tracks.
pub(super) fn answer(offer: &Offer, stream: &Tracks, local: &Local<'_>) -> Result<Agreement, SessionError> {
    let mut agreement = Agreement { sdp: String::new(), tracks: Vec::new(), unserved: Vec::new() };
    let mut sections = String::new();
    let mut bundle = String::new();
    let mut ssrcs = DistinctSsrcs::default();
    let (mut seen, mut served): (Vec<MediaKind>, bool) = (Vec::new(), false);
    for section in &offer.sections {
        let kind = section.kind.filter(|kind| section.enabled && !seen.contains(kind));
        let Some(kind) = kind else {
            refuse(&mut sections, section);
            continue;
        };
        seen.push(kind);
        let sent = stream.codec(kind);
        served |= sent.is_some();
        let expected = sent.or((kind == MediaKind::Audio).then_some(Codec::Opus));
        let Some(chosen) = expected.and_then(|codec| choose(codec, section, fmtp(codec.kind(), stream)))
        else {
            if let Some(codec) = sent {
                let offered = section.codec_names();
                let off = kind == MediaKind::Video && needs_h264(offer, stream);
                let h264 = off.then_some(NotEncoded::Off);
                return Err(SessionError::NoCommonCodec { stream: codec, offered, h264 });
            }
            agreement.unserved.push(kind);
            if section.codecs.is_empty() {
                refuse(&mut sections, section);
            } else {
                inactive(&mut sections, section, local);
                bundle.extend(section.bundled.then_some([" ", &section.mid]).into_iter().flatten());
            }
            continue;
        };
        let rtx = section.codecs.iter().find(|other| {
            let apt = other.parameter("apt").and_then(|apt| apt.parse().ok());
            other.name.eq_ignore_ascii_case("rtx") && apt == Some(chosen.payload_type)
        });
        let ssrc = ssrcs.take();
        let rtx = rtx.map(|rtx| (rtx.payload_type, ssrcs.take()));
        let mut track = OutTrack::new(kind, chosen.payload_type, ssrc, chosen.clock_rate, rtx);
        // Without RTX a packet is resent bit for bit, so nothing may be added that could change.
        let may_extend = track.rtx.is_some() && kind == MediaKind::Video;
        let extension = |uri| section.extension(uri).filter(|_| may_extend);
        track.playout = extension(playout::URI).map(PlayoutHint::new);
        track.send_time = extension(SEND_TIME_URI).map(SendTime::new);
        active(&mut sections, section, chosen, &track, stream, local);
        bundle.extend(section.bundled.then_some([" ", &section.mid]).into_iter().flatten());
        agreement.tracks.push(track);
    }
    if !served {
        let asked = if seen.is_empty() { "neither video nor audio".to_owned() } else { kinds(&seen) };
        let has: Vec<MediaKind> =
            [MediaKind::Video, MediaKind::Audio].into_iter().filter(|kind| stream.has(*kind)).collect();
        return Err(SessionError::UnacceptableOffer(format!(
            "it asks for {asked} only, and the stream has {} only",
            kinds(&has)
        )));
    }
    let session: u64 = rand::random::<u64>() >> 2;
    let sdp = &mut agreement.sdp;
    let _ = write!(sdp, "v=0\r\no=- {session} 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n{}", local.session);
    if !bundle.is_empty() {
        let _ = write!(sdp, "a=group:BUNDLE{bundle}\r\n");
    }
    let _ = write!(sdp, "a=msid-semantic:WMS {}\r\n", local.cname);
    sdp.push_str(&sections);
    Ok(agreement)
}

/// Four random numbers of one session, all different: two streams under one SSRC would share nonces.
#[derive(Default)]
struct DistinctSsrcs(Vec<u32>);

impl DistinctSsrcs {
    fn take(&mut self) -> u32 {
        loop {
            let ssrc: u32 = rand::random();
            if ssrc != 0 && !self.0.contains(&ssrc) {
                self.0.push(ssrc);
                return ssrc;
            }
        }
    }
}

/// The format parameters of the stream's track of a kind.
fn fmtp(kind: MediaKind, stream: &Tracks) -> &str {
    match kind {
        MediaKind::Video => stream.video.as_ref().map_or("", |track| &track.fmtp),
        MediaKind::Audio => stream.audio.as_ref().map_or("", |track| &track.fmtp),
    }
}

/// The payload type to send `codec` with, as `fmtp` describes it.
fn choose<'a>(codec: Codec, section: &'a Section, fmtp: &str) -> Option<&'a OfferedCodec> {
    let mut candidates = section.codecs.iter().filter(|offered| offered.is(codec));
    match codec {
        // A stream of mode 1 has fragmented units, which mode 0 knows not; a stream of mode 0 fits either.
        // RFC 6184 §8.1 makes 0 the default.
        Codec::H264 => {
            let mode = |fmtp: &str| parameter(fmtp, "packetization-mode").unwrap_or("0").to_owned();
            let ours = mode(fmtp);
            candidates
                .rev() // among equals `max_by_key` takes the last: the offer's first
                .filter(|offered| {
                    matches!((ours.as_str(), mode(&offered.fmtp).as_str()), ("0", "0") | (_, "1"))
                })
                .max_by_key(|offered| (h264_similarity(fmtp, &offered.fmtp), mode(&offered.fmtp) == ours))
        }
        // draft-ietf-payload-vp9 §6.1
        Codec::Vp9 => candidates.find(|offered| same(fmtp, offered, "profile-id", "0")),
        // AV1's RTP payload format §7.2.3; level and tier say what a decoder does its best for.
        Codec::Av1 => candidates.find(|offered| same(fmtp, offered, "profile", "0")),
        // RFC 7798 §7.1
        Codec::H265 => candidates
            .rev()
            .filter(|offered| same(fmtp, offered, "profile-id", "1"))
            .max_by_key(|offered| h265_similarity(fmtp, &offered.fmtp)),
        _ => candidates.next(),
    }
}

/// Whether a parameter, which is `default` where it is missing, is the same in both formats.
fn same(ours: &str, offered: &OfferedCodec, name: &str, default: &str) -> bool {
    parameter(ours, name).unwrap_or(default) == offered.parameter(name).unwrap_or(default)
}

/// How well an offered H.265 format fits: best one whose tier and level hold the stream.
fn h265_similarity(ours: &str, theirs: &str) -> u8 {
    let number = |fmtp: &str, name: &str, default: u8| {
        parameter(fmtp, name).and_then(|value| value.parse().ok()).unwrap_or(default)
    };
    let holds = |name: &str, default: u8| number(theirs, name, default) >= number(ours, name, default);
    2 * u8::from(holds("tier-flag", 0)) + u8::from(holds("level-id", 93))
}

/// How well an offered H.264 format fits: the same profile best, else the simplest that contains it. All
/// decoders met so far decode any profile that they get, so none is refused.
fn h264_similarity(ours: &str, theirs: &str) -> u32 {
    // RFC 6184 §8.1: without the parameter, Baseline at level 1.
    let profile = |fmtp: &str| {
        let bytes = parameter(fmtp, "profile-level-id").and_then(|id| u32::from_str_radix(id, 16).ok());
        let [_, profile, constraints, _] = bytes.unwrap_or(0x42_000a).to_be_bytes();
        (profile, constraints)
    };
    let ((ours, our_constraints), (theirs, their_constraints)) = (profile(ours), profile(theirs));
    let rank = |profile: u8| match profile {
        0x42 => 1,
        0x4d => 2,
        0x58 => 3,
        0x64 => 4,
        _ => 0,
    };
    if ours == theirs {
        return 200 + u32::from((our_constraints ^ their_constraints) & 0x40 == 0);
    }
    if rank(theirs) > rank(ours) { 110 - rank(theirs) } else { 100 + rank(theirs) }
}

fn refuse(sdp: &mut String, section: &Section) {
    let formats = if section.formats.is_empty() { "0".to_owned() } else { section.formats.join(" ") };
    let _ = write!(sdp, "m={} 0 {} {formats}\r\nc=IN IP4 0.0.0.0\r\n", section.media, section.protocol);
    if !section.mid.is_empty() {
        let _ = write!(sdp, "a=mid:{}\r\n", section.mid);
    }
    sdp.push_str("a=inactive\r\n");
}

fn inactive(sdp: &mut String, section: &Section, local: &Local<'_>) {
    let Some(codec) = section.codecs.first() else { return };
    open(sdp, section, &[codec.payload_type], "inactive", local);
    let _ = write!(sdp, "a=rtpmap:{} {}\r\n", codec.payload_type, codec.rtpmap);
}

fn active(
    sdp: &mut String,
    section: &Section,
    codec: &OfferedCodec,
    track: &OutTrack,
    stream: &Tracks,
    local: &Local<'_>,
) {
    let payload_type = codec.payload_type;
    let rtx = track.rtx.as_ref();
    let types: Vec<u8> =
        [Some(payload_type), rtx.map(|rtx| rtx.payload_type)].into_iter().flatten().collect();
    open(sdp, section, &types, "sendonly", local);
    let playout = track.playout.as_ref().map(|hint| (hint.id(), playout::URI));
    let send_time = track.send_time.as_ref().map(|time| (time.id(), SEND_TIME_URI));
    for (id, uri) in [playout, send_time].into_iter().flatten() {
        let _ = write!(sdp, "a=extmap:{id} {uri}\r\n");
    }
    let (cname, ssrc) = (local.cname, track.ssrc);
    let _ = write!(sdp, "a=msid:{cname} {}\r\na=rtpmap:{payload_type} {}\r\n", section.media, codec.rtpmap);
    let stereo =
        track.kind == MediaKind::Audio && stream.audio.as_ref().is_some_and(|audio| audio.channels == 2);
    let sprop = if stereo && codec.parameter("sprop-stereo").is_none() { "sprop-stereo=1" } else { "" };
    let fmtp: Vec<&str> = [codec.fmtp.as_str(), sprop].into_iter().filter(|part| !part.is_empty()).collect();
    if !fmtp.is_empty() {
        let _ = write!(sdp, "a=fmtp:{payload_type} {}\r\n", fmtp.join(";"));
    }
    for feedback in FEEDBACK.iter().filter(|ours| codec.feedback.iter().any(|theirs| theirs == *ours)) {
        let _ = write!(sdp, "a=rtcp-fb:{payload_type} {feedback}\r\n");
    }
    if let Some(rtx) = rtx {
        let repair = rtx.payload_type;
        let _ = write!(sdp, "a=rtpmap:{repair} rtx/{}\r\n", codec.clock_rate);
        let _ = write!(sdp, "a=fmtp:{repair} apt={payload_type}\r\na=ssrc-group:FID {ssrc} {}\r\n", rtx.ssrc);
    }
    for ssrc in [Some(ssrc), rtx.map(|rtx| rtx.ssrc)].into_iter().flatten() {
        let _ =
            write!(sdp, "a=ssrc:{ssrc} cname:{cname}\r\na=ssrc:{ssrc} msid:{cname} {}\r\n", section.media);
    }
}

fn open(sdp: &mut String, section: &Section, types: &[u8], direction: &str, local: &Local<'_>) {
    let _ = write!(sdp, "m={} 9 {}", section.media, section.protocol);
    for payload_type in types {
        let _ = write!(sdp, " {payload_type}");
    }
    let _ = write!(sdp, "\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n");
    sdp.push_str(&local.transport);
    if !section.mid.is_empty() {
        let _ = write!(sdp, "a=mid:{}\r\n", section.mid);
    }
    let _ = write!(sdp, "a={direction}\r\na=rtcp-mux\r\n");
    if section.bundled {
        sdp.push_str("a=rtcp-mux-only\r\n"); // RFC 8858
    }
    if section.reduced_size {
        sdp.push_str("a=rtcp-rsize\r\n");
    }
    sdp.push_str(local.candidates);
}

fn kinds(kinds: &[MediaKind]) -> String {
    let names: Vec<String> = kinds.iter().map(MediaKind::to_string).collect();
    names.join(" and ")
}
