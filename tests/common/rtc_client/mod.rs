//! A WebRTC client in the test's own process, on another stack (str0m) than the gateway's.
//!
//! [`RtcClient::publish`] and [`RtcClient::view`] (`signalling`) make an offer, POST it and leave the client
//! connecting; its socket runs on a task of its own. What happens comes out as [`RtcEvent`]s in order; what it
//! is to send goes in by a cloneable [`RtcSender`]. Datagrams may be dropped, delayed or looked at on either
//! side of the socket ([`Fate`]), reading may be stalled, checks may be stopped. Without HTTP:
//! [`RtcOffer::new`] and [`RtcOffer::answer`].
//!
//! Media are RTP payloads: `media` packetises H.264 and makes synthetic pictures that need no encoder, `h265`
//! packetises H.265; what both share is in `nal_units`. `av1` packetises AV1.
//! Events are kept without bound until they are read; a client is meant for seconds, not for hours.

mod av1;
mod client;
mod event;
mod h265;
mod media;
mod nal_units;
mod options;
mod peer;
mod publishing;
mod sdp;
mod session;
mod stun;
mod wire;

pub use av1::{packetise_av1, units_of_av1_file};
pub use client::{RtcClient, RtcOffer, RtcSender};
pub use event::{MediaPacket, RtcEvent};
pub use h265::{h265_type, packetise_h265, units_of_h265_file, units_of_h265_packets};
pub use media::{Picture, Pictures, packetise_h264, parameter_sets, synthetic_h264, units_of_h264_file};
pub use options::{RtcOptions, VideoCodec};
pub use peer::{Fate, RtpOut, is_dtls, is_rtcp, is_rtp, is_stun};
pub use publishing::{Layer, PictureSource, Programme, Publishing};
pub use sdp::{attribute, candidates, credentials, fragment_of, lines_without};
pub use session::Session;
pub use str0m::media::MediaKind;
pub use str0m::rtp::rtcp::Rtcp;
pub use stun::{BindingRequest, transaction};
