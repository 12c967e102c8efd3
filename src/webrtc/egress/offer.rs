//! A viewer's SDP offer, read into what an answer needs.
//!
//! Bounded by `sdp`, and to 128 formats and 32 header extensions a section.

use crate::media::{Codec, MediaKind};
use crate::webrtc::SessionError;
use crate::webrtc::offer::remote;
use crate::webrtc::sdp::{Lines, malformed, split};
use crate::webrtc::transport::Remote;

/// Media that an m-line may name (RFC 8866 §8.2.2, RFC 6466): they go back in the answer.
const MEDIA: [&str; 6] = ["audio", "video", "text", "application", "message", "image"];
const MAX_FORMATS: usize = 128;
const MAX_EXTENSIONS: usize = 32;

/// What an offer asks for.
#[derive(Debug)]
pub(super) struct Offer {
    /// The viewer's end of the transport.
    pub(super) remote: Remote,
    pub(super) sections: Vec<Section>,
}

/// One m-section.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) mid: String,
    /// `video`, `audio`, `application`, … as written.
    pub(super) media: String,
    /// `None` for what carries no pictures and no sound.
    pub(super) kind: Option<MediaKind>,
    /// `UDP/TLS/RTP/SAVPF`.
    pub(super) protocol: String,
    /// The formats as written.
    pub(super) formats: Vec<String>,
    /// The section is not refused by the offer itself (port 0).
    pub(super) enabled: bool,
    pub(super) bundled: bool,
    pub(super) reduced_size: bool,
    /// Header extensions (RFC 8285) that fit a one-byte header: identifier and URI.
    pub(super) extensions: Vec<(u8, String)>,
    pub(super) codecs: Vec<OfferedCodec>,
}

/// One payload type of a section, in the offer's order of preference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OfferedCodec {
    pub(super) payload_type: u8,
    /// Encoding name as written.
    pub(super) name: String,
    pub(super) clock_rate: u32,
    /// The parameters behind the encoding name, as in `opus/48000/2`.
    pub(super) rtpmap: String,
    pub(super) fmtp: String,
    /// Feedback: `nack`, `nack pli`, `ccm fir`.
    pub(super) feedback: Vec<String>,
}

impl Offer {
    /// Reads an offer.
    pub(super) fn parse(text: &str) -> Result<Self, SessionError> {
        let (session, media) = split(text)?;
        if media.is_empty() {
            return Err(malformed("it has no m-section"));
        }
        let remote = remote(&session, &media)?;
        let groups: Vec<&str> =
            session.attributes("group").filter_map(|value| value.strip_prefix("BUNDLE ")).collect();
        let sections =
            media.iter().map(|lines| Section::read(lines, &groups)).collect::<Result<Vec<Section>, _>>()?;
        if sections.iter().filter(|section| section.enabled).count() > 1 && groups.is_empty() {
            return Err(SessionError::UnacceptableOffer("its m-sections are not bundled (RFC 9143)".into()));
        }
        for (number, (section, lines)) in sections.iter().zip(&media).enumerate() {
            section.check_direction(number, lines, &session)?;
            section.check_transport(number, lines)?;
        }
        Ok(Self { remote, sections })
    }

    /// The section of a kind that can be served: the first.
    pub(super) fn section(&self, kind: MediaKind) -> Option<&Section> {
        self.sections.iter().find(|section| section.enabled && section.kind == Some(kind))
    }
}

impl Section {
    fn read(lines: &Lines<'_>, groups: &[&str]) -> Result<Self, SessionError> {
        let mut fields = lines.head.split_ascii_whitespace();
        let mut field = || fields.next().unwrap_or_default();
        let (media, port, protocol) = (field(), field(), field());
        let number = port.split('/').next().and_then(|port| port.parse::<u16>().ok());
        let formats: Vec<String> = fields.take(MAX_FORMATS).map(str::to_owned).collect();
        let known = MEDIA.contains(&media) && protocol.split('/').all(|part| !part.is_empty());
        let Some(port) = number.filter(|_| known && !formats.is_empty()) else {
            return Err(malformed("an m-line is not of the form <media> <port> <profile> <format> …"));
        };
        let kind = match media {
            "video" => Some(MediaKind::Video),
            "audio" => Some(MediaKind::Audio),
            _ => None,
        };
        let mid = lines.attributes("mid").next().unwrap_or_default().to_owned();
        Ok(Self {
            kind,
            media: media.to_owned(),
            protocol: protocol.to_owned(),
            enabled: port != 0 || lines.flag("bundle-only"),
            bundled: groups.iter().any(|group| group.split(' ').any(|member| member == mid)),
            reduced_size: lines.flag("rtcp-rsize"),
            extensions: extensions(lines),
            codecs: if kind.is_some() { codecs(&formats, lines) } else { Vec::new() },
            formats,
            mid,
        })
    }

    /// A viewer must be able to receive.
    fn check_direction(
        &self,
        number: usize,
        lines: &Lines<'_>,
        session: &Lines<'_>,
    ) -> Result<(), SessionError> {
        if self.kind.is_none() || !self.enabled {
            return Ok(());
        }
        let forbidden = ["sendonly", "inactive"];
        let own = ["sendrecv", "recvonly"].iter().any(|direction| lines.flag(direction));
        let found =
            forbidden.iter().find(|direction| lines.flag(direction) || (!own && session.flag(direction)));
        match found {
            Some(direction) => Err(SessionError::UnacceptableOffer(format!(
                "m-section {number} ({}) is {direction}; a viewer offers recvonly or sendrecv",
                self.media
            ))),
            None => Ok(()),
        }
    }

    /// The identifier under which a header extension is offered.
    pub(super) fn extension(&self, uri: &str) -> Option<u8> {
        self.extensions.iter().find(|(_, known)| known == uri).map(|(id, _)| *id)
    }

    /// Media are encrypted, with feedback (RFC 8826 §4.3), and RTP and RTCP share a port (RFC 9725 §4.4.1).
    fn check_transport(&self, number: usize, lines: &Lines<'_>) -> Result<(), SessionError> {
        let multiplexed = ["rtcp-mux", "rtcp-mux-only"].iter().any(|key| lines.flag(key));
        if self.kind.is_none() || !self.enabled {
            return Ok(());
        }
        let why = match (self.protocol.ends_with("RTP/SAVPF"), multiplexed) {
            (true, true) => return Ok(()),
            (false, _) => "must have the profile UDP/TLS/RTP/SAVPF",
            (true, false) => "needs a=rtcp-mux: RTP and RTCP share a port here",
        };
        let media = &self.media;
        Err(SessionError::UnacceptableOffer(format!("m-section {number} ({media}) {why}")))
    }

    /// The names of the codecs, each once, without repair formats.
    pub(super) fn codec_names(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for codec in &self.codecs {
            let repair = ["rtx", "red", "ulpfec", "flexfec-03", "telephone-event", "CN"];
            let known = names.iter().chain(&repair).any(|name| name.eq_ignore_ascii_case(&codec.name));
            if !known && names.len() < 16 {
                names.push(&codec.name);
            }
        }
        names.join(", ")
    }
}

impl OfferedCodec {
    /// Whether this is `codec`.
    pub(super) fn is(&self, codec: Codec) -> bool {
        let (name, clock_rate) = match codec {
            Codec::H264 => ("H264", 90_000),
            Codec::H265 => ("H265", 90_000),
            Codec::Vp8 => ("VP8", 90_000),
            Codec::Vp9 => ("VP9", 90_000),
            Codec::Av1 => ("AV1", 90_000),
            Codec::Opus => ("opus", 48_000),
            Codec::Aac | Codec::Mp3 => return false, // no browser has them over RTP
        };
        self.name.eq_ignore_ascii_case(name) && self.clock_rate == clock_rate
    }

    /// One parameter of the `fmtp`.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        parameter(&self.fmtp, name)
    }
}

/// One parameter of an `fmtp` line's value.
pub(super) fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';').find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// RFC 8285 §5: `a=extmap:<id>["/"<direction>] <URI> …`. Identifiers above 14 need the two-byte header.
fn extensions(lines: &Lines<'_>) -> Vec<(u8, String)> {
    let read = lines.attributes("extmap").filter_map(|value| {
        let mut words = value.split(' ');
        let (id, direction) = words.next().map(|id| id.split_once('/').unwrap_or((id, "")))?;
        let id = id.parse().ok().filter(|id| (1..=14).contains(id))?;
        let receives = !matches!(direction, "sendonly" | "inactive");
        receives.then_some((id, words.next()?.to_owned()))
    });
    read.take(MAX_EXTENSIONS).collect()
}

fn codecs(formats: &[String], lines: &Lines<'_>) -> Vec<OfferedCodec> {
    let mut codecs: Vec<OfferedCodec> = Vec::new();
    let mut by_type = [None; 128];
    for format in formats {
        let Some(payload_type) = format.parse::<u8>().ok().filter(|payload_type| *payload_type < 128) else {
            continue;
        };
        if by_type[usize::from(payload_type)].is_none() {
            by_type[usize::from(payload_type)] = Some(codecs.len());
            codecs.push(OfferedCodec { payload_type, ..OfferedCodec::default() });
        }
    }
    let mut each = |key: &'static str, take: fn(&mut OfferedCodec, &str)| {
        for (subject, value) in lines.attributes(key).filter_map(|value| value.split_once(' ')) {
            let value = value.trim();
            if subject == "*" {
                codecs.iter_mut().for_each(|codec| take(codec, value));
            } else if let Some(position) =
                subject.parse::<u8>().ok().and_then(|number| *by_type.get(usize::from(number))?)
            {
                take(&mut codecs[position], value);
            }
        }
    };
    each("rtpmap", |codec, value| {
        let mut parts = value.split('/');
        codec.name = parts.next().unwrap_or_default().to_owned();
        codec.clock_rate = parts.next().and_then(|rate| rate.parse().ok()).unwrap_or(0);
        codec.rtpmap = value.to_owned();
    });
    each("fmtp", |codec, value| codec.fmtp = value.to_owned());
    each("rtcp-fb", |codec, value| {
        if codec.feedback.len() < 16 {
            codec.feedback.push(value.to_owned());
        }
    });
    codecs.retain(|codec| !codec.name.is_empty());
    codecs
}
