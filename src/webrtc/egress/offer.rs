//! A viewer's SDP offer, read into what an answer needs.
//!
//! Bounded before it is parsed: 64 KiB, 2000 lines of 4 KiB, 4 m-sections, 128 formats each.

use crate::media::{Codec, MediaKind};
use crate::webrtc::transport::Remote;
use crate::webrtc::{SessionError, fragment};
use rtc::sdp::description::media::MediaDescription;
use rtc::sdp::description::session::SessionDescription;
use std::io::Cursor;

const MAX_BYTES: usize = 64 << 10;
const MAX_LINES: usize = 2000;
const MAX_LINE: usize = 4 << 10;
const MAX_SECTIONS: usize = 4;
const MAX_CANDIDATES: usize = 64;
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
        let malformed = |why: String| SessionError::MalformedOffer(why);
        check_bounds(text).map_err(malformed)?;
        let description = SessionDescription::unmarshal(&mut Cursor::new(text.as_bytes()))
            .map_err(|error| malformed(error.to_string()))?;
        let descriptions = &description.media_descriptions;
        if descriptions.is_empty() {
            return Err(malformed("it has no m-section".into()));
        }
        // Attributes of the transport may stand in the session or in the first section that has them.
        let transport = |key: &str| {
            let of_media = || descriptions.iter().find_map(|media| media.attribute(key).flatten());
            description.attribute(key).map(String::as_str).or_else(of_media)
        };
        let missing = |what: &str| malformed(format!("a={what} is missing"));
        let ice_fragment = transport("ice-ufrag").ok_or_else(|| missing("ice-ufrag"))?;
        if !(4..=256).contains(&ice_fragment.len()) {
            return Err(malformed("a=ice-ufrag has a bad length".into())); // RFC 8839 §5.4
        }
        let ice_pwd = transport("ice-pwd").ok_or_else(|| missing("ice-pwd"))?;
        transport("fingerprint").ok_or_else(|| missing("fingerprint"))?;
        let fingerprint = fingerprint(&description)?;
        if transport("setup").is_some_and(|setup| !matches!(setup, "actpass" | "active" | "passive")) {
            return Err(malformed("a=setup must be actpass, active or passive".into())); // RFC 8842 §5
        }
        let groups: Vec<&str> = description
            .attributes
            .iter()
            .filter(|attribute| attribute.key == "group")
            .filter_map(|attribute| attribute.value.as_deref()?.strip_prefix("BUNDLE "))
            .collect();
        let sections: Vec<Section> = descriptions.iter().map(|media| Section::read(media, &groups)).collect();
        if sections.iter().filter(|section| section.enabled).count() > 1 && groups.is_empty() {
            return Err(SessionError::UnacceptableOffer("its m-sections are not bundled (RFC 9143)".into()));
        }
        for (number, (section, media)) in sections.iter().zip(descriptions).enumerate() {
            section.check_direction(number, media, &description)?;
            section.check_transport(number, media)?;
        }
        let candidates = descriptions
            .iter()
            .flat_map(|media| &media.attributes)
            .filter(|attribute| attribute.key == "candidate")
            .filter_map(|attribute| fragment::candidate(attribute.value.as_deref()?))
            .take(fragment::MAX_CANDIDATES)
            .collect();
        Ok(Self {
            remote: Remote {
                ice_ufrag: ice_fragment.to_owned(),
                ice_pwd: ice_pwd.to_owned(),
                fingerprint,
                passive: transport("setup") == Some("passive"),
                lite: description.has_attribute("ice-lite"),
                candidates,
            },
            sections,
        })
    }
}

impl Section {
    fn read(media: &MediaDescription, groups: &[&str]) -> Self {
        let mid = media.attribute("mid").flatten().unwrap_or_default().to_owned();
        let kind = match media.media_name.media.as_str() {
            "video" => Some(MediaKind::Video),
            "audio" => Some(MediaKind::Audio),
            _ => None,
        };
        Self {
            kind,
            media: media.media_name.media.clone(),
            protocol: media.media_name.protos.join("/"),
            formats: media.media_name.formats.clone(),
            enabled: media.media_name.port.value != 0 || media.has_attribute("bundle-only"),
            bundled: groups.iter().any(|group| group.split(' ').any(|member| member == mid)),
            reduced_size: media.has_attribute("rtcp-rsize"),
            extensions: extensions(media),
            codecs: if kind.is_some() { codecs(media) } else { Vec::new() },
            mid,
        }
    }

    /// A viewer must be able to receive.
    fn check_direction(
        &self,
        number: usize,
        media: &MediaDescription,
        session: &SessionDescription,
    ) -> Result<(), SessionError> {
        if self.kind.is_none() || !self.enabled {
            return Ok(());
        }
        let forbidden = ["sendonly", "inactive"];
        let own = ["sendrecv", "recvonly"].iter().any(|direction| media.has_attribute(direction));
        let found = forbidden
            .iter()
            .find(|direction| media.has_attribute(direction) || (!own && session.has_attribute(direction)));
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
    fn check_transport(&self, number: usize, media: &MediaDescription) -> Result<(), SessionError> {
        let multiplexed = ["rtcp-mux", "rtcp-mux-only"].iter().any(|key| media.has_attribute(key));
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

fn check_bounds(text: &str) -> Result<(), String> {
    if text.len() > MAX_BYTES {
        return Err(format!("it has more than {MAX_BYTES} bytes"));
    }
    let (mut lines, mut sections, mut candidates) = (0, 0, 0);
    for line in text.split('\n') {
        lines += 1;
        sections += usize::from(line.starts_with("m="));
        candidates += usize::from(line.starts_with("a=candidate:"));
        if line.len() > MAX_LINE {
            return Err(format!("line {lines} has more than {MAX_LINE} bytes"));
        }
        // RFC 8866 §9: of these a value may hold a tab at most; some of what is read here goes back.
        if line.strip_suffix('\r').unwrap_or(line).contains(|c: char| c.is_control() && c != '\t') {
            return Err(format!("line {lines} has a control character"));
        }
    }
    if lines > MAX_LINES {
        return Err(format!("it has more than {MAX_LINES} lines"));
    }
    if candidates > MAX_CANDIDATES {
        return Err(format!("it has more than {MAX_CANDIDATES} candidates"));
    }
    if sections > MAX_SECTIONS {
        return Err(format!("it has more than {MAX_SECTIONS} m-sections"));
    }
    Ok(())
}

/// RFC 8122 §5: the SHA-256 among the fingerprints, which must be 32 octets in hexadecimal.
fn fingerprint(description: &SessionDescription) -> Result<String, SessionError> {
    let of_media = description.media_descriptions.iter().flat_map(|media| &media.attributes);
    let mut all =
        description.attributes.iter().chain(of_media).filter(|attribute| attribute.key == "fingerprint");
    let sha_256 = all.find_map(|attribute| {
        let (hash, digits) = attribute.value.as_deref()?.trim().split_once(' ')?;
        hash.eq_ignore_ascii_case("sha-256").then(|| digits.trim())
    });
    let digits =
        sha_256.ok_or_else(|| SessionError::UnacceptableOffer("it has no sha-256 fingerprint".into()))?;
    let octet = |pair: &str| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits.split(':').count() == 32 && digits.split(':').all(octet) {
        Ok(digits.to_owned())
    } else {
        Err(SessionError::MalformedOffer("its sha-256 fingerprint is not 32 octets in hexadecimal".into()))
    }
}

/// RFC 8285 §5: `a=extmap:<id>["/"<direction>] <URI> …`. Identifiers above 14 need the two-byte header.
fn extensions(media: &MediaDescription) -> Vec<(u8, String)> {
    let all = media.attributes.iter().filter(|attribute| attribute.key == "extmap");
    let read = all.filter_map(|attribute| {
        let mut words = attribute.value.as_deref()?.split(' ');
        let (id, direction) = words.next().map(|id| id.split_once('/').unwrap_or((id, "")))?;
        let id = id.parse().ok().filter(|id| (1..=14).contains(id))?;
        let receives = !matches!(direction, "sendonly" | "inactive");
        receives.then_some((id, words.next()?.to_owned()))
    });
    read.take(MAX_EXTENSIONS).collect()
}

fn codecs(media: &MediaDescription) -> Vec<OfferedCodec> {
    let mut codecs: Vec<OfferedCodec> = Vec::new();
    let mut by_type = [None; 128];
    for format in media.media_name.formats.iter().take(MAX_FORMATS) {
        let Some(payload_type) = format.parse::<u8>().ok().filter(|payload_type| *payload_type < 128) else {
            continue;
        };
        if by_type[usize::from(payload_type)].is_none() {
            by_type[usize::from(payload_type)] = Some(codecs.len());
            codecs.push(OfferedCodec { payload_type, ..OfferedCodec::default() });
        }
    }
    for attribute in &media.attributes {
        let Some((subject, value)) = attribute.value.as_deref().and_then(|value| value.split_once(' '))
        else {
            continue;
        };
        let value = value.trim();
        if attribute.key == "rtcp-fb" && subject == "*" {
            for codec in &mut codecs {
                codec.feedback.push(value.to_owned());
            }
            continue;
        }
        let known = subject.parse::<u8>().ok().and_then(|number| *by_type.get(usize::from(number))?);
        let Some(codec) = known.map(|position| &mut codecs[position]) else { continue };
        match attribute.key.as_str() {
            "rtpmap" => {
                let mut parts = value.split('/');
                codec.name = parts.next().unwrap_or_default().to_owned();
                codec.clock_rate = parts.next().and_then(|rate| rate.parse().ok()).unwrap_or(0);
                codec.rtpmap = value.to_owned();
            }
            "fmtp" => codec.fmtp = value.to_owned(),
            "rtcp-fb" if codec.feedback.len() < 16 => codec.feedback.push(value.to_owned()),
            _ => {}
        }
    }
    codecs.retain(|codec| !codec.name.is_empty());
    codecs
}
