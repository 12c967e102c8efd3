//! The WebRTC stack of one publisher: codecs, feedback, ICE and DTLS as this server wants them.
//!
//! Owns the SDP that the stack is fed: written here from a checked [`Offer`], never the client's text.

use super::candidate;
use super::offer::{Format, Offer, Section, Setup, TRANSPORT_CC};
use crate::media::MediaKind;
use crate::webrtc::SessionError;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::interceptor::{
    Attribute, Interceptor, Packet, ReceiverReportBuilder, Slot, StreamInfo, TaggedPacket,
    TwccReceiverBuilder,
};
use rtc::peer_connection::RTCPeerConnectionBuilder;
use rtc::peer_connection::certificate::CertificateParams;
use rtc::peer_connection::transport::RTCDtlsRole;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpHeaderExtensionCapability, RtpCodecKind,
};
use rtc::sansio::Protocol;
use rtc::shared::error::Error as RtcError;
use std::collections::VecDeque;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use webrtc::peer_connection::crypto::{RTCCryptoProvider, SignatureScheme};
use webrtc::peer_connection::{
    MediaEngine, RTCCertificate, RTCConfigurationBuilder, RTCIceCandidateInit, RTCPeerConnection,
    RTCSessionDescription, Registry, SettingEngineBuilder, SrtpProtectionProfile,
};

/// Without an answer from the publisher for so long, ICE calls it disconnected, …
const ICE_DISCONNECTED: Duration = Duration::from_secs(4);
/// … and after this time more, gone: within 10 s in all.
const ICE_FAILED: Duration = Duration::from_secs(4);
const ICE_KEEPALIVE: Duration = Duration::from_secs(2);

/// What all ingest sessions of a process share.
pub(in crate::webrtc) struct IngestSettings {
    candidates: Vec<SocketAddr>,
    certificate: RTCCertificate,
    crypto: Arc<dyn RTCCryptoProvider>,
}

impl IngestSettings {
    /// Settings with a new certificate. `candidates`: our addresses, as publishers see them.
    pub(in crate::webrtc) fn new(candidates: Vec<SocketAddr>) -> Result<Self, SessionError> {
        let crypto = crate::webrtc::transport::crypto_provider().map_err(|error| internal(&error))?;
        let parameters =
            CertificateParams::new(vec!["tidegate".to_owned()]).map_err(|error| internal(&error))?;
        let certificate =
            RTCCertificate::generate(crypto.crypto(), SignatureScheme::EcdsaP256Sha256, parameters)
                .map_err(|error| internal(&error))?;
        Ok(Self { candidates, certificate, crypto })
    }

    pub(super) fn crypto(&self) -> &Arc<dyn RTCCryptoProvider> {
        &self.crypto
    }
}

/// ICE credentials of ours.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) ufrag: String,
    pub(super) password: String,
}

impl Credentials {
    pub(super) fn random() -> Self {
        let (ufrag, password): (u64, u128) = (rand::random(), rand::random());
        Self { ufrag: format!("{ufrag:016x}"), password: format!("{password:032x}") }
    }
}

/// Makes the stack for an offer; the text is the answer for the client.
pub(super) fn connect(
    now: Instant,
    settings: &IngestSettings,
    credentials: &Credentials,
    offer: &Offer,
) -> Result<(RTCPeerConnection, String), SessionError> {
    let role = match offer.setup {
        // As server we needn't fear that our first datagram comes too early for the client.
        Setup::Actpass | Setup::Active => RTCDtlsRole::Server,
        Setup::Passive => RTCDtlsRole::Client,
    };
    let setting_engine = SettingEngineBuilder::new()
        .with_crypto_provider(settings.crypto.clone())
        .with_answering_dtls_role(role)
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .with_ice_credentials(credentials.ufrag.clone(), credentials.password.clone())
        .with_ice_timeouts(Some(ICE_DISCONNECTED), Some(ICE_FAILED), Some(ICE_KEEPALIVE))
        .with_srtp_protection_profiles(vec![
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        ])
        .with_srtp_replay_protection_window(1024)
        .build();
    let configuration =
        RTCConfigurationBuilder::new().with_certificates(vec![settings.certificate.clone()]).build();
    let registry = Registry::new()
        .with(Slot::TwccReceiver, TwccReceiverBuilder::new().build())
        .with(
            Slot::ReceiverReport,
            ReceiverReportBuilder::new().with_interval(Duration::from_secs(1)).build(),
        )
        .with(Slot::from(60_000), SenderReports::default());
    let run = || -> Result<(RTCPeerConnection, String), RtcError> {
        let mut peer = RTCPeerConnectionBuilder::new()
            .with_configuration(configuration)
            .with_media_engine(media_engine(offer)?)
            .with_setting_engine(setting_engine)
            .with_interceptor_registry(registry)
            .build(now)?;
        negotiate(now, &mut peer, offer)?;
        for (number, address) in settings.candidates.iter().enumerate() {
            let candidate = format!("candidate:{}", candidate::host(number, *address));
            peer.add_local_candidate(RTCIceCandidateInit { candidate, ..Default::default() })?;
        }
        peer.add_local_candidate(RTCIceCandidateInit::default())?; // no more will come
        let answer = peer.local_description().ok_or(RtcError::ErrNoRemoteDescription)?.sdp;
        Ok((peer, finished(&answer)))
    };
    run().map_err(|error| internal(&error))
}

/// Tells the stack the offer, at first or again when a source has been learned from its packets.
pub(super) fn negotiate(now: Instant, peer: &mut RTCPeerConnection, offer: &Offer) -> Result<(), RtcError> {
    peer.set_remote_description(now, RTCSessionDescription::offer(write(offer))?)?;
    let answer = peer.create_answer(None)?;
    peer.set_local_description(now, answer)
}

/// The stack's answer as the client gets it: RTP and RTCP share component 1, for good (RFC 8858).
fn finished(answer: &str) -> String {
    let mut finished = String::with_capacity(answer.len() + 64);
    for line in answer.lines() {
        let component = line.strip_prefix("a=candidate:").and_then(|value| value.split(' ').nth(1));
        if component.is_some_and(|component| component != "1") {
            continue;
        }
        finished.push_str(line);
        finished.push_str("\r\n");
        if line == "a=rtcp-mux" {
            finished.push_str("a=rtcp-mux-only\r\n");
        }
    }
    finished
}

/// The candidate of the client at `address`, for the stack.
pub(super) fn remote_candidate(address: SocketAddr) -> RTCIceCandidateInit {
    RTCIceCandidateInit {
        candidate: format!("candidate:{}", candidate::host(0, address)),
        ..Default::default()
    }
}

fn internal(error: &dyn std::fmt::Display) -> SessionError {
    SessionError::Internal(error.to_string())
}

/// Exactly the formats that the offer has and we take.
fn media_engine(offer: &Offer) -> Result<MediaEngine, RtcError> {
    let mut engine = MediaEngine::default();
    for section in &offer.sections {
        let kind = match section.kind {
            MediaKind::Audio => RtpCodecKind::Audio,
            MediaKind::Video => RtpCodecKind::Video,
        };
        for format in &section.formats {
            engine.register_codec(codec(section.kind, format), kind)?;
            if let Some(payload_type) = format.rtx {
                engine.register_codec(retransmission(payload_type, format), kind)?;
            }
        }
        if section.transport_cc.is_some() {
            let extension = RTCRtpHeaderExtensionCapability { uri: TRANSPORT_CC.to_owned() };
            engine.register_header_extension(extension, kind, None)?;
        }
    }
    Ok(engine)
}

fn codec(kind: MediaKind, format: &Format) -> RTCRtpCodecParameters {
    let feedback = format.feedback.iter().map(|feedback| {
        let (typ, parameter) = feedback.split_once(' ').unwrap_or((feedback, ""));
        RTCPFeedback { typ: typ.to_owned(), parameter: parameter.to_owned() }
    });
    RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: format!("{kind}/{}", encoding(format)),
            clock_rate: format.clock_rate,
            channels: if kind == MediaKind::Audio { 2 } else { 0 },
            sdp_fmtp_line: format.fmtp.clone(),
            rtcp_feedback: feedback.collect(),
        },
        payload_type: format.payload_type,
    }
}

fn retransmission(payload_type: u8, format: &Format) -> RTCRtpCodecParameters {
    RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: "video/rtx".to_owned(),
            clock_rate: format.clock_rate,
            channels: 0,
            sdp_fmtp_line: format!("apt={}", format.payload_type),
            rtcp_feedback: Vec::new(),
        },
        payload_type,
    }
}

/// The encoding name of RTP payload formats.
fn encoding(format: &Format) -> &'static str {
    use crate::media::Codec;
    match format.codec {
        Codec::H264 => "H264",
        Codec::H265 => "H265",
        Codec::Vp8 => "VP8",
        Codec::Vp9 => "VP9",
        Codec::Av1 => "AV1",
        Codec::Opus => "opus",
        Codec::Aac => "MP4A-LATM",
    }
}

/// The offer in our own words: what we take, and nothing else.
fn write(offer: &Offer) -> String {
    let mids: Vec<&str> = offer.sections.iter().map(|section| section.mid.as_str()).collect();
    let mut sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\na=ice-options:trickle\r\n",
        mids.join(" ")
    );
    if offer.ice_lite {
        sdp.push_str("a=ice-lite\r\n");
    }
    for (index, section) in offer.sections.iter().enumerate() {
        write_section(&mut sdp, offer, section, index == 0);
    }
    sdp
}

fn write_section(sdp: &mut String, offer: &Offer, section: &Section, first: bool) {
    let mut line = |text: std::fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        let _ = sdp.write_fmt(text);
        sdp.push_str("\r\n");
    };
    let setup = match offer.setup {
        Setup::Actpass => "actpass",
        Setup::Active => "active",
        Setup::Passive => "passive",
    };
    let types =
        section.formats.iter().flat_map(|format| std::iter::once(format.payload_type).chain(format.rtx));
    let types: Vec<String> = types.map(|number| number.to_string()).collect();
    line(format_args!("m={} 9 UDP/TLS/RTP/SAVPF {}", section.kind, types.join(" ")));
    line(format_args!("c=IN IP4 0.0.0.0"));
    line(format_args!("a=mid:{}", section.mid));
    line(format_args!("a=ice-ufrag:{}", offer.ice_ufrag));
    line(format_args!("a=ice-pwd:{}", offer.ice_pwd));
    line(format_args!("a=fingerprint:{}", offer.fingerprint));
    line(format_args!("a=setup:{setup}"));
    line(format_args!("a=sendonly"));
    line(format_args!("a=rtcp-mux"));
    line(format_args!("a=rtcp-rsize"));
    if let Some(id) = section.transport_cc {
        line(format_args!("a=extmap:{id} {TRANSPORT_CC}"));
    }
    let channels = if section.kind == MediaKind::Audio { "/2" } else { "" };
    for format in &section.formats {
        let (number, rate) = (format.payload_type, format.clock_rate);
        line(format_args!("a=rtpmap:{number} {}/{rate}{channels}", encoding(format)));
        line(format_args!("a=fmtp:{number} {}", format.fmtp));
        for feedback in &format.feedback {
            line(format_args!("a=rtcp-fb:{number} {feedback}"));
        }
        if let Some(rtx) = format.rtx {
            line(format_args!("a=rtpmap:{rtx} rtx/{rate}"));
            line(format_args!("a=fmtp:{rtx} apt={number}"));
        }
    }
    if let (Some(media), Some(rtx)) = (section.ssrc, section.rtx_ssrc) {
        line(format_args!("a=ssrc-group:FID {media} {rtx}"));
    }
    for ssrc in section.ssrc.iter().chain(&section.rtx_ssrc) {
        line(format_args!("a=ssrc:{ssrc} cname:publisher"));
    }
    if first {
        for (number, address) in offer.candidates.iter().enumerate() {
            line(format_args!("a=candidate:{}", candidate::host(number, *address)));
        }
    }
}

/// Lets sender reports through to the application; the stack keeps all RTCP to itself otherwise.
#[derive(Default)]
struct SenderReports {
    inbound: VecDeque<TaggedPacket>,
    outbound: VecDeque<TaggedPacket>,
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for SenderReports {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = RtcError;
    type Time = Instant;

    fn handle_read(&mut self, mut packet: TaggedPacket) -> Result<(), RtcError> {
        if let Packet::Rtcp(reports) = &packet.message.packet
            && reports.iter().any(|report| report.as_any().is::<SenderReport>())
        {
            packet.message.add(Attribute::DeliverToApplication);
        }
        self.inbound.push_back(packet);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.inbound.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), RtcError> {
        self.outbound.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.outbound.pop_front()
    }
}

impl Interceptor for SenderReports {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}
