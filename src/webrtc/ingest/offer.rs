//! The publisher's offer, read and checked before anything is made for it.
//!
//! Promises that an [`Offer`] can be served whole (RFC 9725 §4.4: no partial acceptance) and that what it
//! holds is within the grammar, so that SDP written from it carries nothing foreign.

use super::candidate;
use super::sdp::{Lines, is_token, malformed, split};
use crate::media::{Codec, MediaKind};
use crate::webrtc::SessionError;
use std::net::SocketAddr;

/// The URI of the header extension that numbers packets over all tracks.
pub(super) const TRANSPORT_CC: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// An offer that can be served.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) sections: Vec<Section>,
    pub(super) ice_ufrag: String,
    pub(super) ice_pwd: String,
    pub(super) ice_lite: bool,
    /// Hash function and value, as they stand in the offer.
    pub(super) fingerprint: String,
    pub(super) setup: Setup,
    pub(super) candidates: Vec<SocketAddr>,
}

/// Who opens the DTLS connection (RFC 8842).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setup {
    Actpass,
    Active,
    Passive,
}

/// One m-section: one track.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) kind: MediaKind,
    pub(super) mid: String,
    /// What we take of the offered formats, in the client's order.
    pub(super) formats: Vec<Format>,
    /// The track's SSRC and that of its retransmissions, where the offer declares them.
    pub(super) ssrc: Option<u32>,
    pub(super) rtx_ssrc: Option<u32>,
    /// The id of the [`TRANSPORT_CC`] header extension.
    pub(super) transport_cc: Option<u8>,
}

/// One payload type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) payload_type: u8,
    pub(super) codec: Codec,
    pub(super) clock_rate: u32,
    /// Parameters for the answer, written by us.
    pub(super) fmtp: String,
    /// The payload type of retransmissions (RFC 4588).
    pub(super) rtx: Option<u8>,
    /// RTCP feedback that both sides know.
    pub(super) feedback: Vec<&'static str>,
}

/// Feedback that we send, as in `a=rtcp-fb`.
const VIDEO_FEEDBACK: [&str; 3] = ["nack", "nack pli", "transport-cc"];
const AUDIO_FEEDBACK: [&str; 1] = ["transport-cc"];

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
        check_bundle(&session, &sections)?;
        // One transport for all sections: what stands there may stand at the session or in each section.
        let all = || std::iter::once(&session).chain(&media);
        let (ice_ufrag, ice_pwd) = (credential(all(), "ice-ufrag", 4)?, credential(all(), "ice-pwd", 22)?);
        let candidates: Vec<&str> = media.iter().flat_map(|lines| lines.attributes("candidate")).collect();
        if candidates.len() > candidate::MAX_CANDIDATES {
            return Err(malformed("more than 64 candidates"));
        }
        let mut addresses: Vec<SocketAddr> =
            candidates.into_iter().filter_map(candidate::address).take(candidate::MAX_CHECKED).collect();
        addresses.sort_unstable();
        addresses.dedup();
        Ok(Self {
            ice_ufrag,
            ice_pwd,
            ice_lite: session.flag("ice-lite"),
            fingerprint: fingerprint(all())?,
            setup: setup(all())?,
            candidates: addresses,
            sections,
        })
    }

    /// Takes note of the source of a packet with this payload type, if the offer does not declare the
    /// sources of its section. True: that is news.
    pub(super) fn learn_source(&mut self, payload_type: u8, ssrc: u32) -> bool {
        let carries = |section: &&mut Section| {
            section
                .formats
                .iter()
                .any(|format| [Some(format.payload_type), format.rtx].contains(&Some(payload_type)))
        };
        let Some(section) = self.sections.iter_mut().find(carries) else { return false };
        let media = section.formats.iter().any(|format| format.payload_type == payload_type);
        let source = match section.ssrc {
            None if media => &mut section.ssrc,
            Some(_) if !media => &mut section.rtx_ssrc,
            _ => return false,
        };
        let news = source.is_none();
        source.get_or_insert(ssrc);
        news
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
        if !fields.next().unwrap_or_default().ends_with("RTP/SAVPF") {
            return Err(refuse("the profile must be UDP/TLS/RTP/SAVPF"));
        }
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
        if lines.attributes("simulcast").next().is_some() || lines.attributes("rid").count() > 1 {
            return Err(refuse("simulcast is not taken: send one encoding"));
        }
        let mid = lines.attributes("mid").next().unwrap_or_default();
        if !is_token(mid, 1, 32) {
            return Err(refuse("a=mid is required: 1 to 32 characters of a token"));
        }
        let mut formats = formats(kind, fields, lines);
        if formats.is_empty() {
            return Err(refuse(match kind {
                MediaKind::Video => "it offers no H.264, which is the video codec taken here",
                MediaKind::Audio => "it offers no Opus, which is the audio codec taken here",
            }));
        }
        if kind == MediaKind::Video {
            // Fragments (mode 1) before single NAL units; otherwise the client's wish.
            formats.sort_by_key(|format| !format.fmtp.contains("packetization-mode=1"));
        }
        let (ssrc, rtx_ssrc) = sources(lines);
        let rtx_ssrc = rtx_ssrc.filter(|_| formats.iter().any(|format| format.rtx.is_some()));
        let transport_cc = lines.attributes("extmap").find_map(|value| {
            let (id, uri) = value.split_once(' ')?;
            let id = id.split('/').next()?.parse().ok().filter(|id| (1..=14).contains(id))?;
            (uri.split(' ').next() == Some(TRANSPORT_CC)).then_some(id)
        });
        Ok(Self { kind, mid: mid.into(), formats, ssrc, rtx_ssrc, transport_cc })
    }
}

/// Those of the offered formats that we take.
fn formats<'a>(kind: MediaKind, listed: impl Iterator<Item = &'a str>, lines: &Lines<'_>) -> Vec<Format> {
    let of = |key, payload_type: u8| {
        lines.attributes(key).find_map(move |value| {
            let (number, rest) = value.split_once(' ')?;
            (number.parse() == Ok(payload_type)).then_some(rest)
        })
    };
    let listed: Vec<u8> = listed
        .filter_map(|number| number.parse().ok())
        .filter(|number| matches!(number, 0..64 | 96..128))
        .collect();
    let known = match kind {
        MediaKind::Video => &VIDEO_FEEDBACK[..],
        MediaKind::Audio => &AUDIO_FEEDBACK[..],
    };
    let mut formats: Vec<Format> = Vec::new();
    for &payload_type in &listed {
        let rtpmap = of("rtpmap", payload_type).unwrap_or_default().to_ascii_lowercase();
        let parameters = of("fmtp", payload_type).unwrap_or_default();
        let (codec, clock_rate, fmtp) = match (kind, rtpmap.as_str()) {
            (MediaKind::Video, "h264/90000") => match h264_parameters(parameters) {
                Some(fmtp) => (Codec::H264, 90_000, fmtp),
                None => continue,
            },
            (MediaKind::Audio, "opus/48000/2") => {
                (Codec::Opus, 48_000, "minptime=10;useinbandfec=1;stereo=1".to_owned())
            }
            _ => continue,
        };
        let rtx = listed.iter().copied().find(|&rtx| {
            of("rtpmap", rtx).is_some_and(|map| map.eq_ignore_ascii_case("rtx/90000"))
                && of("fmtp", rtx).and_then(|fmtp| parameter(fmtp, "apt")).and_then(|apt| apt.parse().ok())
                    == Some(payload_type)
        });
        let offered = |wanted: &str| {
            lines.attributes("rtcp-fb").any(|value| {
                value.split_once(' ').is_some_and(|(number, feedback)| {
                    (number == "*" || number.parse() == Ok(payload_type)) && feedback.trim_end() == wanted
                })
            })
        };
        let feedback = known.iter().copied().filter(|feedback| offered(feedback)).collect();
        if formats.iter().all(|known| known.payload_type != payload_type) {
            formats.push(Format { payload_type, codec, clock_rate, fmtp, rtx, feedback });
        }
    }
    formats
}

/// The parameters of an H.264 format that every viewer's decoder knows: Baseline, Main and High.
fn h264_parameters(offered: &str) -> Option<String> {
    // RFC 6184 §8.1: what is not there is Baseline at level 1, and single NAL unit mode.
    let profile = parameter(offered, "profile-level-id").unwrap_or("42000a");
    let mode = parameter(offered, "packetization-mode").unwrap_or("0");
    let hexadecimal = profile.len() == 6 && profile.bytes().all(|byte| byte.is_ascii_hexdigit());
    let known = hexadecimal && ["42", "4d", "64"].iter().any(|idc| profile[..2].eq_ignore_ascii_case(idc));
    (known && matches!(mode, "0" | "1")).then(|| {
        let profile = profile.to_ascii_lowercase();
        format!("level-asymmetry-allowed=1;packetization-mode={mode};profile-level-id={profile}")
    })
}

/// One of the `;`-separated parameters of an `a=fmtp`.
fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';')
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, v)| v)
}

/// The SSRCs of the media and of its retransmissions (RFC 5576 §4.2).
fn sources(lines: &Lines<'_>) -> (Option<u32>, Option<u32>) {
    let group = lines.attributes("ssrc-group").find_map(|value| {
        let mut fields = value.strip_prefix("FID ")?.split_ascii_whitespace().map(str::parse);
        Some((fields.next()?.ok()?, fields.next()?.ok()?))
    });
    match group {
        Some((media, rtx)) => (Some(media), Some(rtx)),
        None => {
            let first = lines.attributes("ssrc").next();
            (first.and_then(|value| value.split(' ').next()?.parse().ok()), None)
        }
    }
}

/// Two tracks must share a transport (RFC 9725 §4.4.2: max-bundle).
fn check_bundle(session: &Lines<'_>, sections: &[Section]) -> Result<(), SessionError> {
    let group = session.attributes("group").find_map(|value| value.strip_prefix("BUNDLE "));
    let bundled = |section: &Section| {
        group.is_some_and(|mids| mids.split_ascii_whitespace().any(|mid| mid == section.mid))
    };
    if sections.len() > 1 && !sections.iter().all(bundled) {
        return Err(unacceptable(
            "audio and video must share one transport: a=group:BUNDLE with both mids".into(),
        ));
    }
    match sections {
        [one, other] if one.mid == other.mid => Err(malformed("two m-sections have the same a=mid")),
        _ => Ok(()),
    }
}

fn credential<'a>(
    mut all: impl Iterator<Item = &'a Lines<'a>>,
    key: &'static str,
    least: usize,
) -> Result<String, SessionError> {
    let missing = || malformed(&format!("there is no a={key}"));
    let value = all.find_map(|lines| lines.attributes(key).next()).ok_or_else(missing)?;
    // RFC 8839 §5.4 knows letters, digits, '+' and '/'; clients with '-', '_' and '=' have been seen.
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte);
    if (least..=256).contains(&value.len()) && value.bytes().all(known) {
        Ok(value.into())
    } else {
        Err(malformed(&format!("a={key} is outside the grammar")))
    }
}

fn fingerprint<'a>(all: impl Iterator<Item = &'a Lines<'a>>) -> Result<String, SessionError> {
    let offered: Vec<&str> = all.flat_map(|lines| lines.attributes("fingerprint")).collect();
    if offered.is_empty() {
        return Err(malformed("there is no a=fingerprint"));
    }
    // RFC 8122 §5: several lines may name several hash functions; the first that we know counts.
    let fits = |value: &str| {
        let (hash, digits) = value.split_once(' ')?;
        let bytes = match hash.to_ascii_lowercase().as_str() {
            "sha-256" => 32,
            "sha-384" => 48,
            "sha-512" => 64,
            _ => return None,
        };
        let octet = |pair: &str| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
        let well = digits.split(':').count() == bytes && digits.split(':').all(octet);
        well.then(|| format!("{} {}", hash.to_ascii_lowercase(), digits.to_ascii_uppercase()))
    };
    let known: Vec<String> = offered.into_iter().filter_map(fits).collect();
    let first = known.first().ok_or_else(|| malformed("no a=fingerprint is a SHA-2 hash in hexadecimal"))?;
    let hash = first.split(' ').next().unwrap_or_default();
    if known.iter().any(|other| other.starts_with(hash) && other != first) {
        return Err(malformed("the m-sections have different a=fingerprint"));
    }
    Ok(first.clone())
}

fn setup<'a>(mut all: impl Iterator<Item = &'a Lines<'a>>) -> Result<Setup, SessionError> {
    match all.find_map(|lines| lines.attributes("setup").next()) {
        Some("actpass") | None => Ok(Setup::Actpass),
        Some("active") => Ok(Setup::Active),
        Some("passive") => Ok(Setup::Passive),
        Some(_) => Err(malformed("a=setup must be actpass, active or passive")),
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
        format!(
            "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
             a=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n\
             m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 126\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
             a=ice-ufrag:Ab/+\r\na=ice-pwd:0123456789abcdefghijklmn\r\na=ice-options:trickle\r\n\
             a=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\na=mid:0\r\n\
             a=extmap:3 {TRANSPORT_CC}\r\na=sendonly\r\na=msid:- a\r\na=rtcp-mux\r\na=rtcp-rsize\r\n\
             a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\na=fmtp:111 minptime=10\r\n\
             a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\na=ssrc:11 cname:x\r\n\
             m=video 9 UDP/TLS/RTP/SAVPF 96 97 103 104 107 108 109 114\r\nc=IN IP4 0.0.0.0\r\n\
             a=ice-ufrag:Ab/+\r\na=ice-pwd:0123456789abcdefghijklmn\r\na=fingerprint:sha-256 {fingerprint}\r\n\
             a=setup:actpass\r\na=mid:1\r\na=extmap:4 {TRANSPORT_CC}\r\na=sendonly\r\na=rtcp-mux\r\n\
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
            [(103, Some(104)), (107, Some(108)), (114, None)],
            "mode 1 first, 4:4:4 not at all"
        );
        assert_eq!(video.formats[0].feedback, ["nack", "nack pli"]);
        assert!(video.formats[0].fmtp.ends_with("profile-level-id=640c1f"));
        assert!(video.formats[2].fmtp.ends_with("packetization-mode=0;profile-level-id=42000a"));
        assert_eq!((video.ssrc, video.rtx_ssrc, video.transport_cc), (Some(21), Some(22), Some(4)));
        let audio = section(MediaKind::Audio);
        assert_eq!((audio.formats.len(), audio.ssrc, audio.transport_cc), (1, Some(11), Some(3)));
        assert_eq!(
            (audio.mid.as_str(), offer.setup, offer.ice_ufrag.as_str()),
            ("0", Setup::Actpass, "Ab/+")
        );
        assert_eq!(offer.candidates, ["192.0.2.5:40000".parse::<SocketAddr>().expect("address")]);
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
        assert_eq!((offer.setup, offer.sections.len()), (Setup::Passive, 1));
        assert_eq!(offer.fingerprint, format!("sha-256 {}", fingerprint.to_uppercase()));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (from, to, why) in [
            ("a=fingerprint:", "a=x:", "malformed: there is no a=fingerprint"),
            ("a=fingerprint:sha-256", "a=fingerprint:md5", "malformed: no a=fingerprint is a SHA-2 hash"),
            ("a=ice-ufrag:", "a=x:", "malformed: there is no a=ice-ufrag"),
            ("a=ice-pwd:", "a=x:", "malformed: there is no a=ice-pwd"),
            ("a=ice-pwd:0123456789abcdefghijklmn", "a=ice-pwd:short", "malformed: a=ice-pwd is outside"),
            ("a=setup:actpass", "a=setup:holdconn", "malformed: a=setup must be"),
            ("a=sendonly", "a=recvonly", "unacceptable: m-section 0 (audio): it is recvonly"),
            ("a=sendonly", "a=inactive", "unacceptable: m-section 0 (audio): it is inactive"),
            ("a=rtcp-mux", "a=x", "unacceptable: m-section 0 (audio): a=rtcp-mux is required"),
            ("H264/90000", "H263/90000", "unacceptable: m-section 1 (video): it offers no H.264"),
            ("opus/48000/2", "opus/8000/1", "unacceptable: m-section 0 (audio): it offers no Opus"),
            ("m=video", "m=audio", "unacceptable: m-section 1 (audio): it offers no Opus"),
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
        let simulcast =
            browser().replace("a=ssrc:22 cname:x", "a=rid:h send\r\na=rid:l send\r\na=simulcast:send h;l");
        assert!(refusal(&simulcast).contains("simulcast"));
        assert!(refusal("").starts_with("malformed"));
        assert!(refusal("{\"sdp\": 1}").starts_with("malformed"));
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
