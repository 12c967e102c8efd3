//! The payload formats of an offer's m-section: which of them we take, and with which parameters.
//!
//! Promises that what goes into an answer from here is written by us: numbers and names, checked.

use crate::media::{Codec, MediaKind};
use crate::webrtc::sdp::Lines;

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
const VIDEO_FEEDBACK: [&str; 5] = ["nack", "nack pli", "ccm fir", "transport-cc", "goog-remb"];
/// Browsers offer no repetition of sound by themselves: Opus conceals losses, and repeats itself in band. Who
/// offers it gets it.
const AUDIO_FEEDBACK: [&str; 2] = ["nack", "transport-cc"];
/// RFC 7798 §7.1.
const H265_PARAMETERS: [&str; 3] = ["profile-id", "tier-flag", "level-id"];
/// The AV1 RTP payload format §7.2.
const AV1_PARAMETERS: [&str; 3] = ["profile", "level-idx", "tier"];
/// Formats that are no codecs.
const REPAIR: [&str; 7] = ["rtx", "red", "ulpfec", "flexfec-03", "flexfec", "telephone-event", "cn"];

impl Format {
    /// Whether the publisher acts on `feedback`.
    pub(super) fn knows(&self, feedback: &str) -> bool {
        self.feedback.contains(&feedback)
    }

    /// The name in `a=rtpmap`.
    pub(super) fn encoding_name(&self) -> &'static str {
        match self.codec {
            Codec::H264 => "H264",
            Codec::H265 => "H265",
            Codec::Vp8 => "VP8",
            Codec::Vp9 => "VP9",
            Codec::Av1 => "AV1",
            Codec::Opus => "opus",
            Codec::Aac => "MP4A-LATM",
            Codec::Mp3 => "MPA",
        }
    }
}

/// The codecs taken, for people.
pub(super) fn taken(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Video => "H.264 (Baseline, Main, High), H.265, VP8, VP9 (profiles 0 and 2) or AV1",
        MediaKind::Audio => "Opus",
    }
}

/// Those of the formats `listed` in an m-line that we take: H.264 first, since it serves every output, with
/// fragments (mode 1) before single NAL units; otherwise in the client's order.
pub(super) fn formats<'a>(
    kind: MediaKind,
    listed: impl Iterator<Item = &'a str>,
    lines: &Lines<'_>,
) -> Vec<Format> {
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
        let rtpmap = of(lines, "rtpmap", payload_type).unwrap_or_default().to_ascii_lowercase();
        let parameters = of(lines, "fmtp", payload_type).unwrap_or_default();
        let Some((codec, clock_rate, fmtp)) = codec(kind, &rtpmap, parameters) else { continue };
        if formats.iter().any(|known| known.payload_type == payload_type) {
            continue;
        }
        let rtx = listed.iter().copied().find(|&rtx| {
            of(lines, "rtpmap", rtx).is_some_and(|map| map.eq_ignore_ascii_case("rtx/90000"))
                && of(lines, "fmtp", rtx)
                    .and_then(|fmtp| parameter(fmtp, "apt"))
                    .and_then(|apt| apt.parse().ok())
                    == Some(payload_type)
        });
        let offered = |wanted: &str| {
            lines.attributes("rtcp-fb").any(|value| {
                value.split_once(' ').is_some_and(|(number, feedback)| {
                    (number == "*" || number.parse() == Ok(payload_type)) && feedback.trim_end() == wanted
                })
            })
        };
        let mut feedback: Vec<&'static str> =
            known.iter().copied().filter(|feedback| offered(feedback)).collect();
        if feedback.contains(&"transport-cc") {
            feedback.retain(|feedback| *feedback != "goog-remb"); // senders estimate better than we do
        }
        if feedback.contains(&"nack pli") {
            feedback.retain(|feedback| *feedback != "ccm fir"); // one way to ask for keyframes is enough
        }
        formats.push(Format { payload_type, codec, clock_rate, fmtp, rtx, feedback });
    }
    formats.sort_by_key(|format| match format.codec {
        Codec::H264 if format.fmtp.contains("packetization-mode=1") => 0,
        Codec::H264 => 1,
        _ => 2,
    });
    formats
}

/// The names of the codecs that a section offers, each once: for a refusal.
pub(super) fn offered(lines: &Lines<'_>) -> String {
    let mut names: Vec<String> = Vec::new();
    for value in lines.attributes("rtpmap") {
        let name = value.split_once(' ').and_then(|(_, map)| map.split('/').next()).unwrap_or_default();
        let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(20).collect();
        let repair = REPAIR.iter().any(|repair| repair.eq_ignore_ascii_case(&name));
        if !name.is_empty() && !repair && !names.contains(&name) && names.len() < 16 {
            names.push(name);
        }
    }
    if names.is_empty() { "no codec by name".to_owned() } else { names.join(", ") }
}

/// The codec behind an `a=rtpmap` in lower case, its clock rate, and its parameters for the answer.
fn codec(kind: MediaKind, rtpmap: &str, parameters: &str) -> Option<(Codec, u32, String)> {
    match (kind, rtpmap) {
        (MediaKind::Video, "h264/90000") => Some((Codec::H264, 90_000, h264_parameters(parameters)?)),
        (MediaKind::Video, "h265/90000") => {
            Some((Codec::H265, 90_000, numbers(parameters, &H265_PARAMETERS)))
        }
        (MediaKind::Video, "vp8/90000") => Some((Codec::Vp8, 90_000, String::new())),
        (MediaKind::Video, "vp9/90000") => {
            // RFC 9628 §6: without the parameter, profile 0.
            let profile = parameter(parameters, "profile-id").unwrap_or("0");
            matches!(profile, "0" | "2").then(|| (Codec::Vp9, 90_000, format!("profile-id={profile}")))
        }
        (MediaKind::Video, "av1/90000") => Some((Codec::Av1, 90_000, numbers(parameters, &AV1_PARAMETERS))),
        (MediaKind::Audio, "opus/48000/2") => {
            Some((Codec::Opus, 48_000, "minptime=10;useinbandfec=1;stereo=1".to_owned()))
        }
        _ => None,
    }
}

/// Those of an offer's numeric parameters that describe the stream.
fn numbers(offered: &str, names: &[&str]) -> String {
    let given = names.iter().filter_map(|name| {
        let value: u8 = parameter(offered, name)?.parse().ok()?;
        Some(format!("{name}={value}"))
    });
    given.collect::<Vec<_>>().join(";")
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

/// The value of the attribute `key` that speaks of a payload type.
fn of<'a>(lines: &Lines<'a>, key: &'static str, payload_type: u8) -> Option<&'a str> {
    lines.attributes(key).find_map(|value| {
        let (number, rest) = value.split_once(' ')?;
        (number.parse() == Ok(payload_type)).then_some(rest)
    })
}

/// One of the `;`-separated parameters of an `a=fmtp`.
fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';')
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webrtc::sdp::split;

    fn formats_of(listed: &str, lines: &str) -> Vec<(u8, Codec, String)> {
        let text = format!("v=0\nm=video 9 UDP/TLS/RTP/SAVPF {listed}\n{lines}");
        let (_, media) = split(&text).expect("SDP");
        let formats = formats(MediaKind::Video, listed.split(' '), &media[0]);
        formats.into_iter().map(|format| (format.payload_type, format.codec, format.fmtp)).collect()
    }

    #[test]
    fn all_codecs_are_taken_h264_first_and_the_rest_in_the_clients_order() {
        let taken = formats_of(
            "96 98 100 102 45 49 50",
            "a=rtpmap:96 VP8/90000\na=rtpmap:98 VP9/90000\na=fmtp:98 profile-id=0\na=rtpmap:100 VP9/90000\n\
             a=fmtp:100 profile-id=2\na=rtpmap:102 H264/90000\na=rtpmap:45 AV1/90000\n\
             a=fmtp:45 level-idx=5;profile=0;tier=0\na=rtpmap:49 H265/90000\n\
             a=fmtp:49 level-id=93;profile-id=1;tier-flag=0;tx-mode=SRST\na=rtpmap:50 VP9/90000\n\
             a=fmtp:50 profile-id=1\n",
        );
        let expected = [
            (102, Codec::H264, "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42000a"),
            (96, Codec::Vp8, ""),
            (98, Codec::Vp9, "profile-id=0"),
            (100, Codec::Vp9, "profile-id=2"),
            (45, Codec::Av1, "profile=0;level-idx=5;tier=0"),
            (49, Codec::H265, "profile-id=1;tier-flag=0;level-id=93"),
        ];
        assert_eq!(taken, expected.map(|(number, codec, fmtp)| (number, codec, fmtp.to_owned())));
    }
}
