//! What a client offers.

use std::net::{IpAddr, Ipv4Addr};

use str0m::format::{Codec, CodecConfig, PayloadParams};
use str0m::media::{Direction, MediaKind, Mid, Simulcast, SimulcastLayer};
use str0m::rtp::{Extension, ExtensionMap};
use str0m::{Rtc, RtcConfig};

/// A video codec that can be offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VideoCodec {
    /// Baseline, constrained baseline, main and high; packetisation modes 0 and 1.
    H264,
    Vp8,
    Vp9,
    Av1,
    H265,
}

/// What a client offers and how it connects. The default is H.264 and Opus with RTX and transport-wide
/// feedback over UDP from 127.0.0.1, with a host candidate in the offer.
pub struct RtcOptions {
    /// Video codecs; an empty list offers no video.
    pub video: Vec<VideoCodec>,
    /// Whether Opus is offered.
    pub audio: bool,
    /// A publisher's simulcast layers; none is an ordinary single stream.
    pub rids: Vec<String>,
    /// Whether retransmissions (RFC 4588) are offered. Without them this stack sends no NACK and answers none.
    pub rtx: bool,
    /// Whether the transport-wide sequence number is offered.
    pub transport_wide_feedback: bool,
    /// Whether the offer holds the client's candidate. Without it the server learns it from the first check.
    pub candidates: bool,
    /// Whether it sends STUN from the start, see `RtcClient::set_checking`.
    pub checking: bool,
    /// ICE-TCP, active side (RFC 6544) with the framing of RFC 4571, instead of UDP.
    pub tcp: bool,
    /// The address that its socket is bound to.
    pub bind: IpAddr,
    /// The bearer token of its requests.
    pub key: Option<String>,
    /// Last changes to the offer before it is sent; the stack itself does not know of them.
    pub edit_offer: Box<dyn Fn(String) -> String + Send + Sync>,
}

impl Default for RtcOptions {
    fn default() -> Self {
        Self {
            video: vec![VideoCodec::H264],
            audio: true,
            rids: Vec::new(),
            rtx: true,
            transport_wide_feedback: true,
            candidates: true,
            checking: true,
            tcp: false,
            bind: Ipv4Addr::LOCALHOST.into(),
            key: None,
            edit_offer: Box::new(|offer| offer),
        }
    }
}

impl RtcOptions {
    /// One video codec and nothing else.
    pub fn only(codec: VideoCodec) -> Self {
        Self { video: vec![codec], audio: false, ..Self::default() }
    }

    /// With these simulcast layers.
    pub fn simulcast<const N: usize>(mut self, rids: [&str; N]) -> Self {
        self.rids = rids.map(str::to_owned).to_vec();
        self
    }

    /// With a bearer token.
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// With the offer changed before it is sent.
    pub fn edit(mut self, edit: impl Fn(String) -> String + Send + Sync + 'static) -> Self {
        self.edit_offer = Box::new(edit);
        self
    }

    /// The stack as these options want it.
    pub(super) fn build(&self, now: std::time::Instant) -> Rtc {
        let mut config = RtcConfig::new().set_rtp_mode(true).enable_raw_packets(true).clear_codecs();
        let codecs = config.codec_config();
        codecs.enable_opus(self.audio, false);
        for codec in &self.video {
            match codec {
                VideoCodec::H264 => codecs.enable_h264(true),
                VideoCodec::Vp8 => codecs.enable_vp8(true),
                VideoCodec::Vp9 => codecs.enable_vp9(true),
                VideoCodec::Av1 => codecs.enable_av1(true),
                VideoCodec::H265 => codecs.enable_h265(true),
            }
        }
        if !self.rtx {
            let params = codecs.params().to_vec();
            codecs.clear();
            params.iter().for_each(|params| without_rtx(codecs, params));
        }
        if !self.transport_wide_feedback {
            let mut extensions = ExtensionMap::empty();
            for (id, extension) in ExtensionMap::standard().iter() {
                if *extension != Extension::TransportSequenceNumber {
                    extensions.set(id, extension.clone());
                }
            }
            config = config.set_extension_map(extensions);
        }
        config.build(now)
    }

    /// Adds the m-sections; their mids, audio first.
    pub(super) fn add_media(
        &self,
        changes: &mut str0m::change::SdpApi<'_>,
        direction: Direction,
    ) -> Vec<(MediaKind, Mid)> {
        let stream = || Some("tests".to_owned());
        let mut mids = Vec::new();
        if self.audio {
            mids.push((
                MediaKind::Audio,
                changes.add_media(MediaKind::Audio, direction, stream(), None, None),
            ));
        }
        if !self.video.is_empty() {
            let simulcast = (!self.rids.is_empty()).then(|| {
                let mut simulcast = Simulcast::new();
                self.rids.iter().for_each(|rid| simulcast.add_send_layer(SimulcastLayer::new(rid)));
                simulcast
            });
            mids.push((
                MediaKind::Video,
                changes.add_media(MediaKind::Video, direction, stream(), None, simulcast),
            ));
        }
        mids
    }
}

fn without_rtx(codecs: &mut CodecConfig, params: &PayloadParams) {
    let spec = params.spec();
    codecs.add_config(params.pt(), None, spec.codec, spec.clock_rate, spec.channels, spec.format);
}

/// Whether a codec of the stack carries video that tests can send.
pub(super) fn is_media(codec: Codec, kind: MediaKind) -> bool {
    match kind {
        MediaKind::Audio => codec == Codec::Opus,
        MediaKind::Video => {
            matches!(codec, Codec::H264 | Codec::Vp8 | Codec::Vp9 | Codec::Av1 | Codec::H265)
        }
    }
}
