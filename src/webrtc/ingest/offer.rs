//! The publisher's offer, read and checked before anything is made for it.
//!
//! Promises that an [`Offer`] can be served whole (RFC 9725 §4.4: no partial acceptance) and that what it
//! holds is within the grammar, so that SDP written from it carries nothing foreign.

use super::format::{self, Format};
use crate::media::MediaKind;
use crate::stream::MAX_LAYERS;
use crate::webrtc::SessionError;
use crate::webrtc::offer::remote;
use crate::webrtc::sdp::{Lines, is_token, malformed, split};
use crate::webrtc::transport::Remote;

/// An offer that can be served.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) sections: Vec<Section>,
    /// The publisher's end of the transport.
    pub(super) remote: Remote,
    /// It groups its sections on one transport (RFC 9143).
    pub(super) bundled: bool,
    /// One- and two-byte header extensions may be mixed (RFC 8285 §6).
    pub(super) mixed_extensions: bool,
}

/// One m-section: one track.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) kind: MediaKind,
    pub(super) mid: String,
    /// As written in the m-line.
    pub(super) profile: &'static str,
    /// What we take of the offered formats; at least one.
    pub(super) formats: Vec<Format>,
    /// The encodings of a simulcast track (RFC 8853), in the client's order; empty without simulcast.
    pub(super) rids: Vec<String>,
    /// The SSRCs of the media and of their retransmissions, where the offer declares them.
    pub(super) sources: Vec<(u32, Option<u32>)>,
    /// The header extensions that we read, with their ids.
    pub(super) extensions: Vec<(u8, Extension)>,
    /// Feedback may come without a report (RFC 5506).
    pub(super) reduced_size: bool,
}

/// A header extension that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extension {
    /// Numbers packets over all tracks.
    TransportCc,
    /// Which section a packet is of (RFC 9143 §15).
    Mid,
    /// Which encoding (RFC 8852 §3.1).
    Rid,
    /// Which encoding a retransmission is of (RFC 8852 §3.2).
    RepairedRid,
}

/// SSRCs that one section may declare.
const MAX_SOURCES: usize = 16;

impl Offer {
    /// Reads and checks an offer.
    pub(super) fn parse(text: &str) -> Result<Self, SessionError> {
        let (session, media) = split(text)?;
        let mut sections = Vec::new();
        for (index, lines) in media.iter().enumerate() {
            sections.push(Section::parse(index, lines, &session)?);
        }
        if sections.is_empty() {
            return Err(unacceptable("it has no m-section".into()));
        }
        for kind in [MediaKind::Audio, MediaKind::Video] {
            if sections.iter().filter(|section| section.kind == kind).count() > 1 {
                return Err(unacceptable(format!("more than one {kind} m-section; one is taken")));
            }
        }
        let bundled = check_bundle(&session, &sections)?;
        let remote = remote(&session, &media)?;
        Ok(Self { remote, bundled, mixed_extensions: session.flag("extmap-allow-mixed"), sections })
    }
}

impl Section {
    fn parse(index: usize, lines: &Lines<'_>, session: &Lines<'_>) -> Result<Self, SessionError> {
        let mut fields = lines.head.split_ascii_whitespace();
        let (media, port) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let refuse = |why: &str| {
            let media: String = media.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
            unacceptable(format!("m-section {index} ({media}): {why}"))
        };
        let kind = match media {
            "audio" => MediaKind::Audio,
            "video" => MediaKind::Video,
            "application" => return Err(refuse("data channels are not taken")),
            _ => return Err(refuse("only audio and video are taken")),
        };
        let profile = match fields.next().unwrap_or_default() {
            "TCP/TLS/RTP/SAVPF" => "TCP/TLS/RTP/SAVPF",
            "RTP/SAVPF" => "RTP/SAVPF",
            other if other.ends_with("RTP/SAVPF") => "UDP/TLS/RTP/SAVPF",
            _ => return Err(refuse("the profile must be UDP/TLS/RTP/SAVPF")),
        };
        if port == "0" && !lines.flag("bundle-only") {
            return Err(refuse("its port is 0: leave the section out"));
        }
        let direction = |lines: &Lines<'_>| {
            ["sendonly", "sendrecv", "recvonly", "inactive"].into_iter().find(|name| lines.flag(name))
        };
        match direction(lines).or_else(|| direction(session)) {
            None | Some("sendonly" | "sendrecv") => {}
            Some(other) => return Err(refuse(&format!("it is {other}: a publisher sends"))),
        }
        if !lines.flag("rtcp-mux") && !lines.flag("rtcp-mux-only") {
            return Err(refuse("a=rtcp-mux is required"));
        }
        let mid = lines.attributes("mid").next().unwrap_or_default();
        if !is_token(mid, 1, 32) {
            return Err(refuse("a=mid is required: 1 to 32 characters of a token"));
        }
        let formats = format::formats(kind, fields, lines);
        if formats.is_empty() {
            let (offered, taken) = (format::offered(lines), format::taken(kind));
            return Err(refuse(&format!("it offers {offered}; taken is {taken}")));
        }
        let rids = rids(lines).map_err(|why| refuse(&why))?;
        let repaired = formats.iter().any(|format| format.rtx.is_some());
        Ok(Self {
            kind,
            mid: mid.into(),
            profile,
            sources: sources(lines, repaired),
            extensions: extensions(lines, !rids.is_empty()),
            reduced_size: lines.flag("rtcp-rsize"),
            rids,
            formats,
        })
    }
}

/// The encodings of a simulcast track (RFC 8853 §5.1): of alternatives the first.
fn rids(lines: &Lines<'_>) -> Result<Vec<String>, String> {
    let simulated = |value: &str| value.strip_prefix("SIM ").is_some();
    if lines.attributes("ssrc-group").any(simulated) {
        return Err("simulcast by a=ssrc-group:SIM is not taken: use a=rid and a=simulcast".into());
    }
    let Some(simulcast) = lines.attributes("simulcast").next() else { return Ok(Vec::new()) };
    let mut fields = simulcast.split_ascii_whitespace();
    let streams = loop {
        match fields.next() {
            Some("send") => break fields.next().unwrap_or_default(),
            Some(_) => {}
            None => return Ok(Vec::new()),
        }
    };
    let mut rids: Vec<String> = Vec::new();
    for stream in streams.split(';') {
        let rid = stream.split(',').next().unwrap_or_default().trim_start_matches('~');
        let declared = lines.attributes("rid").any(|value| {
            let mut fields = value.split_ascii_whitespace();
            fields.next() == Some(rid) && fields.next() == Some("send")
        });
        // RFC 8852 §3: an identifier is alphanumeric; '-' and '_' have been seen.
        if !is_token(rid, 1, 32) || !declared || rids.iter().any(|known| known == rid) {
            return Err("a=simulcast must name its a=rid send lines, each once".into());
        }
        if rids.len() == MAX_LAYERS {
            return Err(format!("simulcast of more than {MAX_LAYERS} layers is not taken: send fewer"));
        }
        rids.push(rid.to_owned());
    }
    Ok(rids)
}

/// The header extensions that we read. Ids beyond 14 don't fit one byte.
fn extensions(lines: &Lines<'_>, simulcast: bool) -> Vec<(u8, Extension)> {
    let mut found: Vec<(u8, Extension)> = Vec::new();
    for value in lines.attributes("extmap") {
        let Some((id, uri)) = value.split_once(' ') else { continue };
        let id = id.split('/').next().and_then(|id| id.parse().ok()).filter(|id| (1..=14).contains(id));
        let uri = uri.split(' ').next().unwrap_or_default();
        let known = Extension::ALL.into_iter().find(|extension| extension.uri() == uri);
        let (Some(id), Some(extension)) = (id, known) else { continue };
        let wanted = simulcast || matches!(extension, Extension::TransportCc | Extension::Mid);
        if wanted && found.iter().all(|(other, known)| *other != id && *known != extension) {
            found.push((id, extension));
        }
    }
    found
}

/// The SSRCs of the media and of its retransmissions (RFC 5576 §4.2).
fn sources(lines: &Lines<'_>, repaired: bool) -> Vec<(u32, Option<u32>)> {
    let groups = lines.attributes("ssrc-group").filter_map(|value| {
        let mut fields = value.strip_prefix("FID ")?.split_ascii_whitespace().map(str::parse);
        Some((fields.next()?.ok()?, Some(fields.next()?.ok()?)))
    });
    let mut sources: Vec<(u32, Option<u32>)> = groups.take(MAX_SOURCES).collect();
    for value in lines.attributes("ssrc").take(4 * MAX_SOURCES) {
        let Some(ssrc) = value.split(' ').next().and_then(|ssrc| ssrc.parse().ok()) else { continue };
        let known = sources.iter().any(|(media, rtx)| *media == ssrc || *rtx == Some(ssrc));
        if !known && sources.len() < MAX_SOURCES {
            sources.push((ssrc, None));
        }
    }
    if !repaired {
        sources.iter_mut().for_each(|(_, rtx)| *rtx = None);
    }
    sources
}

/// Two tracks must share a transport (RFC 9725 §4.4.2: max-bundle). Whether there is a group.
fn check_bundle(session: &Lines<'_>, sections: &[Section]) -> Result<bool, SessionError> {
    let group = session.attributes("group").find_map(|value| value.strip_prefix("BUNDLE "));
    let bundled = |section: &Section| {
        group.is_some_and(|mids| mids.split_ascii_whitespace().any(|mid| mid == section.mid))
    };
    let all = sections.iter().all(bundled);
    if sections.len() > 1 && !all {
        return Err(unacceptable(
            "audio and video must share one transport: a=group:BUNDLE with both mids".into(),
        ));
    }
    match sections {
        [one, other] if one.mid == other.mid => Err(malformed("two m-sections have the same a=mid")),
        _ => Ok(all),
    }
}

fn unacceptable(why: String) -> SessionError {
    SessionError::UnacceptableOffer(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An offer as browsers write them, shortened.
    pub(super) fn browser() -> String {
        let fingerprint = ["0A"; 32].join(":");
        let transport_cc = Extension::TransportCc.uri();
        format!(
            "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
             a=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n\
             m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 126\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
             a=ice-ufrag:Ab/+\r\na=ice-pwd:0123456789abcdefghijklmn\r\na=ice-options:trickle\r\n\
             a=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\na=mid:0\r\n\
             a=extmap:3 {transport_cc}\r\na=sendonly\r\na=msid:- a\r\na=rtcp-mux\r\na=rtcp-rsize\r\n\
             a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\na=fmtp:111 minptime=10\r\n\
             a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\na=ssrc:11 cname:x\r\n\
             m=video 9 UDP/TLS/RTP/SAVPF 96 97 103 104 107 108 109 114\r\nc=IN IP4 0.0.0.0\r\n\
             a=ice-ufrag:Ab/+\r\na=ice-pwd:0123456789abcdefghijklmn\r\na=fingerprint:sha-256 {fingerprint}\r\n\
             a=setup:actpass\r\na=mid:1\r\na=extmap:4 {transport_cc}\r\na=sendonly\r\na=rtcp-mux\r\n\
             a=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
             a=rtpmap:107 H264/90000\r\na=rtcp-fb:107 nack\r\na=rtcp-fb:107 goog-remb\r\n\
             a=fmtp:107 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f\r\n\
             a=rtpmap:108 rtx/90000\r\na=fmtp:108 apt=107\r\n\
             a=rtpmap:103 H264/90000\r\na=rtcp-fb:103 nack\r\na=rtcp-fb:103 nack pli\r\na=rtcp-fb:103 ccm fir\r\n\
             a=fmtp:103 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640C1F\r\n\
             a=rtpmap:104 rtx/90000\r\na=fmtp:104 apt=103\r\n\
             a=rtpmap:109 H264/90000\r\na=fmtp:109 packetization-mode=1;profile-level-id=f4001f\r\n\
             a=rtpmap:114 H264/90000\r\na=ssrc-group:FID 21 22\r\na=ssrc:21 cname:x\r\na=ssrc:22 cname:x\r\n\
             a=candidate:1 1 udp 2122260223 192.0.2.5 40000 typ host\r\n\
             a=candidate:2 1 udp 2122260223 1b2c.local 40001 typ host\r\n"
        )
    }

    fn refusal(offer: &str) -> String {
        match Offer::parse(offer) {
            Err(SessionError::MalformedOffer(why)) => format!("malformed: {why}"),
            Err(SessionError::UnacceptableOffer(why)) => format!("unacceptable: {why}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_browsers_offer_is_read() {
        let offer = Offer::parse(&browser()).expect("acceptable");
        let section = |kind| offer.sections.iter().find(|section| section.kind == kind).expect("there");
        let video = section(MediaKind::Video);
        let types: Vec<_> = video.formats.iter().map(|format| (format.payload_type, format.rtx)).collect();
        assert_eq!(
            types,
            [(103, Some(104)), (107, Some(108)), (114, None), (96, Some(97))],
            "H.264 first, mode 1 before mode 0, 4:4:4 not at all"
        );
        assert_eq!(video.formats[0].feedback, ["nack", "nack pli"]);
        assert!(video.formats[0].fmtp.ends_with("profile-level-id=640c1f"));
        assert!(video.formats[2].fmtp.ends_with("packetization-mode=0;profile-level-id=42000a"));
        assert_eq!((&video.sources[..], &video.rids[..]), (&[(21, Some(22))][..], &[][..]));
        assert_eq!(video.extensions, [(4, Extension::TransportCc)]);
        let audio = section(MediaKind::Audio);
        assert_eq!((audio.formats.len(), &audio.sources[..]), (1, &[(11, None)][..]));
        assert_eq!(audio.extensions, [(3, Extension::TransportCc)]);
        assert_eq!((audio.mid.as_str(), audio.reduced_size, video.reduced_size), ("0", true, false));
        assert_eq!((offer.remote.passive, offer.remote.ice_ufrag.as_str()), (false, "Ab/+"));
        assert!(offer.bundled && offer.mixed_extensions);
    }

    #[test]
    fn what_stands_at_the_session_counts_for_all_sections() {
        let fingerprint = ["0a"; 32].join(":");
        let offer = format!(
            "v=0\no=- 1 2 IN IP4 127.0.0.1\ns=-\nt=0 0\na=ice-ufrag:abcd\na=ice-pwd:0123456789abcdefghijkl\n\
             a=fingerprint:sha-256 {fingerprint}\na=setup:passive\na=sendonly\nm=audio 9 UDP/TLS/RTP/SAVPF 97\n\
             a=mid:0\na=rtcp-mux\na=rtpmap:97 OPUS/48000/2\n"
        );
        let offer = Offer::parse(&offer).expect("acceptable");
        assert_eq!((offer.remote.passive, offer.sections.len(), offer.bundled), (true, 1, false));
        assert_eq!(offer.remote.fingerprint, fingerprint.to_uppercase());
    }

    #[test]
    fn what_is_missing_is_named() {
        for (from, to, why) in [
            ("a=fingerprint:", "a=x:", "malformed: there is no a=fingerprint"),
            ("a=fingerprint:sha-256", "a=fingerprint:md5", "malformed: no a=fingerprint is a SHA-256"),
            ("a=ice-ufrag:", "a=x:", "malformed: there is no a=ice-ufrag"),
            ("a=ice-pwd:", "a=x:", "malformed: there is no a=ice-pwd"),
            ("a=ice-pwd:0123456789abcdefghijklmn", "a=ice-pwd:short", "malformed: a=ice-pwd is outside"),
            ("a=setup:actpass", "a=setup:holdconn", "malformed: a=setup must be"),
            ("a=sendonly", "a=recvonly", "unacceptable: m-section 0 (audio): it is recvonly"),
            ("a=sendonly", "a=inactive", "unacceptable: m-section 0 (audio): it is inactive"),
            ("a=rtcp-mux", "a=x", "unacceptable: m-section 0 (audio): a=rtcp-mux is required"),
            (
                "opus/48000/2",
                "opus/8000/1",
                "unacceptable: m-section 0 (audio): it offers opus; taken is Opus",
            ),
            ("m=video", "m=audio", "unacceptable: m-section 1 (audio): it offers VP8, H264; taken is Opus"),
            ("m=video", "m=application", "unacceptable: m-section 1 (application): data channels"),
            ("m=video", "m=<script>", "unacceptable: m-section 1 (script): only audio and video"),
            ("UDP/TLS/RTP/SAVPF", "RTP/AVP", "unacceptable: m-section 0 (audio): the profile"),
            (
                "a=group:BUNDLE 0 1",
                "a=group:LS 0 1",
                "unacceptable: audio and video must share one transport",
            ),
            ("a=mid:1", "a=mid:0", "malformed: two m-sections have the same a=mid"),
            ("a=mid:1", "a=x", "unacceptable: m-section 1 (video): a=mid is required"),
            ("a=extmap-allow-mixed", "no SDP", "malformed: line 6 is not of the form"),
            ("v=0", "v=1", "malformed: SDP begins with v=0"),
        ] {
            let refused = refusal(&browser().replace(from, to));
            assert!(refused.starts_with(why), "{from} -> {to}: {refused}");
        }
        let two = browser().replace("m=audio", "m=video").replace("opus/48000/2", "H264/90000");
        assert!(refusal(&two).starts_with("unacceptable: more than one video m-section"));
        let unknown = browser().replace("H264/90000", "H263/90000").replace("VP8/90000", "theora/90000");
        assert_eq!(
            refusal(&unknown),
            "unacceptable: m-section 1 (video): it offers theora, H263; taken is H.264 (Baseline, Main, High), \
             H.265, VP8, VP9 (profiles 0 and 2) or AV1"
        );
        let old = browser().replace("a=ssrc-group:FID 21 22", "a=ssrc-group:SIM 21 22");
        assert!(refusal(&old).contains("ssrc-group:SIM"));
        assert!(refusal("").starts_with("malformed"));
        assert!(refusal("{\"sdp\": 1}").starts_with("malformed"));
    }

    fn simulcast(lines: &str) -> String {
        browser().replace("a=ssrc:22 cname:x", lines)
    }

    #[test]
    fn up_to_four_encodings_are_taken_in_the_clients_order() {
        let ids = "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
                   a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\n";
        let lines = "a=rid:1 send\r\na=rid:0 send pt=103;max-width=1280\r\na=rid:x send\r\n";
        let offer = Offer::parse(&simulcast(&format!("{ids}{lines}a=simulcast:send 1;~0,x"))).expect("good");
        assert_eq!(offer.sections[1].rids, ["1", "0"]);
        let extensions = [Extension::TransportCc, Extension::Rid, Extension::RepairedRid];
        let found: Vec<Extension> = offer.sections[1].extensions.iter().map(|(_, known)| *known).collect();
        assert_eq!(found, extensions);
        let many: String = (0..5).map(|rid| format!("a=rid:{rid} send\r\n")).collect();
        let four = Offer::parse(&simulcast(&format!("{many}a=simulcast:send 0;1;2;3"))).expect("good");
        assert_eq!(four.sections[1].rids.len(), 4);
        assert!(
            refusal(&simulcast(&format!("{many}a=simulcast:send 0;1;2;3;4"))).contains("more than 4 layers")
        );
        for wrong in ["send 0;7", "send 0;0", "send ;", "send"] {
            assert!(
                refusal(&simulcast(&format!("{many}a=simulcast:{wrong}"))).contains("a=simulcast"),
                "{wrong}"
            );
        }
        let receiving = Offer::parse(&simulcast(&format!("{many}a=simulcast:recv 0;1"))).expect("good");
        assert!(receiving.sections[1].rids.is_empty());
    }

    #[test]
    fn bounds_hold() {
        let with = |extra: String| browser() + &extra;
        assert!(refusal(&with("a=x\r\n".repeat(20_000))).contains("64 KiB"));
        assert!(refusal(&with("a=x\r\n".repeat(2_000))).contains("2000 lines"));
        assert!(refusal(&with(format!("a={}\r\n", "x".repeat(5_000)))).contains("4 KiB"));
        assert!(
            refusal(&with("a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n".repeat(65)))
                .contains("64 candidates")
        );
        assert!(refusal(&with("m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n".repeat(5))).contains("4 m-sections"));
    }
}
