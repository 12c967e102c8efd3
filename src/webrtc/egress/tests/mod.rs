//! A viewer in memory: offer and answer, handshake, first picture, retransmission, reports, epochs.

mod feedback;
mod offers;
mod playing;
mod session;

use super::{FanOut, Offer, Plan, Viewer, ViewerLane, prepare};
use crate::media::{AudioTrack, Codec, Epoch, MediaKind, MediaTime, Packet, PacketBatch, Tracks, VideoTrack};
use crate::stream::{Hub, LayerInfo, Publisher, Source, SourceKind};
use crate::webrtc::SessionError;
use crate::webrtc::candidates::sdp_lines;
use crate::webrtc::path::Path;
use crate::webrtc::session::SessionState;
use crate::webrtc::socket::Outlet;
use crate::webrtc::transport::{Dtls, DtlsProgress as Progress, Identity, Keys};
use bytes::Bytes;
use rtc::crypto::default_provider;
use rtc::rtcp::packet::{marshal, unmarshal};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};
use rtc::rtp::Packet as RtpPacket;
use rtc::shared::marshal::Unmarshal;
use rtc::stun::attributes::{ATTR_USE_CANDIDATE, ATTR_USERNAME};
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{BINDING_REQUEST, Message, Setter, TransactionId};
use rtc::stun::textattrs::TextAttribute;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn peer() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 5000))
}

fn path() -> Path {
    Path::udp(peer(), LOCAL)
}

/// An offer as a browser writes it, cut to what matters.
/// A well-formed SHA-256 of no certificate.
const DIGEST: &str = "AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:\
    AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB";

fn offer_text(fingerprint: &str, direction: &str) -> String {
    format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 103 104 105 106 107\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:them\r\n\
         a=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\n\
         a=mid:0\r\na={direction}\r\na=rtcp-mux\r\na=rtcp-rsize\r\n\
         a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time\r\n\
         a=extmap:5 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay\r\n\
         a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
         a=rtpmap:102 H264/90000\r\na=rtcp-fb:102 goog-remb\r\na=rtcp-fb:102 ccm fir\r\na=rtcp-fb:102 nack\r\n\
         a=rtcp-fb:102 nack pli\r\n\
         a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f\r\n\
         a=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\n\
         a=rtpmap:104 H264/90000\r\na=fmtp:104 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42001f\r\n\
         a=rtpmap:105 rtx/90000\r\na=fmtp:105 apt=104\r\n\
         a=rtpmap:106 H264/90000\r\na=fmtp:106 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f\r\n\
         a=rtpmap:107 rtx/90000\r\na=fmtp:107 apt=106\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111 0\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:them\r\n\
         a=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\n\
         a=mid:1\r\na={direction}\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n\
         a=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:0 PCMU/8000\r\n"
    )
}

fn tracks(profile: &str, with_audio: bool) -> Tracks {
    let video = VideoTrack {
        fmtp: format!("packetization-mode=1;profile-level-id={profile}"),
        ..VideoTrack::new(Codec::H264)
    };
    let audio = AudioTrack {
        codec: Codec::Opus,
        sample_rate: 48_000,
        channels: 2,
        codec_data: Bytes::new(),
        fmtp: String::new(),
    };
    Tracks { video: Some(video), audio: with_audio.then_some(audio) }
}

#[derive(Default)]
struct Wire(Vec<Vec<u8>>);

impl Outlet for Wire {
    fn send(&mut self, path: Path, data: &[u8], segment: Option<usize>) -> bool {
        assert_eq!(path, self::path());
        self.0.extend(data.chunks(segment.unwrap_or(data.len()).max(1)).map(<[u8]>::to_vec));
        true
    }
}

/// A stream, a viewer of it, and the viewer's own end.
struct World {
    now: Instant,
    publisher: Publisher<PacketBatch>,
    epoch: Arc<Epoch>,
    fan_out: FanOut,
    viewer: Viewer,
    password: String,
    client: Dtls,
    keys: Option<Box<Keys>>,
    wire: Wire,
    buffer: Vec<u8>,
}

fn plan(offer: &str, tracks: &Tracks) -> (Publisher<PacketBatch>, Result<Plan, SessionError>) {
    let (hub, _reaper) = Hub::new(Duration::from_secs(60));
    let source = Source { kind: SourceKind::Whip, remote: None };
    let publisher = hub.publish::<PacketBatch>("a".parse().expect("a name"), source).expect("free");
    let candidates = [SocketAddr::from(([192, 0, 2, 1], 8189)), SocketAddr::from(([127, 0, 0, 1], 8189))];
    let identity = Arc::new(Identity::generate().expect("a certificate"));
    let plan = Offer::parse(offer).and_then(|offer| {
        prepare(
            Instant::now(),
            &offer,
            publisher.stream().clone(),
            ViewerLane::Published,
            tracks,
            &sdp_lines(&candidates, false),
            identity,
        )
    });
    (publisher, plan)
}

fn attribute<'a>(sdp: &'a str, name: &str) -> &'a str {
    let prefix = format!("a={name}:");
    sdp.lines().find_map(|line| line.strip_prefix(&prefix)).expect("the attribute")
}

impl World {
    fn new(client_is_honest: bool) -> Self {
        Self::of(client_is_honest, tracks("42e01f", true), |offer| offer)
    }

    /// A viewer whose offer is changed, of a stream with these tracks.
    fn of(client_is_honest: bool, tracks: Tracks, change: impl FnOnce(String) -> String) -> Self {
        let now = Instant::now();
        let identity = Arc::new(Identity::generate().expect("a certificate"));
        let other = Identity::generate().expect("a certificate");
        let claimed = if client_is_honest { identity.fingerprint() } else { other.fingerprint() };
        let (publisher, plan) = plan(&change(offer_text(claimed, "recvonly")), &tracks);
        let plan = plan.expect("acceptable");
        let sdp = plan.sdp().to_owned();
        let server = attribute(&sdp, "fingerprint").split(' ').nth(1).expect("a digest").to_owned();
        Self {
            now,
            epoch: publisher.begin_epoch(tracks, SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)),
            fan_out: FanOut::new(publisher.stream().clone(), ViewerLane::Published, now),
            publisher,
            viewer: plan.begin(now),
            password: attribute(&sdp, "ice-pwd").to_owned(),
            client: Dtls::new(identity, &server, true),
            keys: None,
            wire: Wire::default(),
            buffer: Vec::new(),
        }
    }

    fn check(&mut self, nominate: bool) -> bool {
        struct UseCandidate;
        impl Setter for UseCandidate {
            fn add_to(&self, message: &mut Message) -> rtc::shared::error::Result<()> {
                message.add(ATTR_USE_CANDIDATE, &[]);
                Ok(())
            }
        }
        let provider = default_provider().expect("a provider");
        let username = format!("{}:them", self.viewer.local_ufrag());
        let key = MessageIntegrity::new_short_term_integrity_with_provider(
            self.password.clone(),
            provider.crypto(),
        );
        let mut setters: Vec<Box<dyn Setter + '_>> = vec![
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId::new()),
            Box::new(TextAttribute::new(ATTR_USERNAME, username)),
        ];
        if nominate {
            setters.push(Box::new(UseCandidate));
        }
        setters.push(Box::new(key));
        setters.push(Box::new(FINGERPRINT));
        let mut message = Message::new();
        message.build(&setters).expect("built");
        self.viewer.handle_stun(self.now, path(), &message.raw, &mut self.wire)
    }

    /// ICE and DTLS, until nothing moves any more.
    fn connect(mut self) -> Self {
        assert!(self.check(true), "authentic");
        assert_eq!(self.wire.0.drain(..).count(), 1, "one answer");
        self.client.start(self.now);
        for _ in 0..20 {
            while let Some(datagram) = self.client.poll_transmit() {
                self.viewer.handle_dtls(self.now, &datagram, Some(&self.fan_out), &mut self.wire);
            }
            for datagram in std::mem::take(&mut self.wire.0) {
                if let Progress::Established(keys) = self.client.read(self.now, &datagram) {
                    self.keys = Some(keys);
                }
            }
        }
        self
    }

    /// A batch: for each number a video frame of two packets, and one sound packet.
    fn publish(&mut self, frames: std::ops::Range<u64>, keyframe: bool) {
        for number in frames {
            let mut packets: Vec<Packet> = (0..2)
                .map(|part| Packet {
                    kind: MediaKind::Video,
                    layer: 0,
                    sequence: 70_000 + number * 2 + part,
                    timestamp: number as u32 * 3_000,
                    pts: MediaTime::from_ticks(number as i64 * 3_000, 90_000),
                    marker: part == 1,
                    keyframe: keyframe && part == 0,
                    payload: Bytes::from(vec![number as u8; 100 + part as usize]),
                })
                .collect();
            packets.push(Packet {
                kind: MediaKind::Audio,
                layer: 0,
                sequence: number,
                timestamp: number as u32 * 1_600,
                pts: MediaTime::from_ticks(number as i64 * 1_600, 48_000),
                marker: false,
                keyframe: false,
                payload: Bytes::from_static(b"sound"),
            });
            let batch = PacketBatch { epoch: self.epoch.clone(), packets };
            let (template, change) = self.fan_out.take(self.now, &batch, 0);
            change.tell(&mut self.viewer, &self.epoch);
            self.viewer.send(self.now, &template, self.fan_out.sound_lag(), &mut self.wire, &mut self.buffer);
        }
    }

    /// A batch of one frame in two layers; `keyframe`: in which of them, if any.
    fn publish_layers(&mut self, number: u64, keyframe: Option<u8>) {
        let payload = |layer: u8, part: u64| vec![layer * 100 + number as u8; 100 + part as usize];
        self.publish_payloads(number, keyframe, payload);
    }

    /// The same with these payloads, by layer and part.
    fn publish_payloads(
        &mut self,
        number: u64,
        keyframe: Option<u8>,
        payload: impl Fn(u8, u64) -> Vec<u8> + Copy,
    ) {
        let packets = (0..2u8).flat_map(|layer| {
            (0..2).map(move |part| Packet {
                kind: MediaKind::Video,
                layer,
                sequence: [70_000, 3_000][usize::from(layer)] + number * 2 + part,
                timestamp: number as u32 * 3_000 + u32::from(layer) * 1_000_000,
                pts: MediaTime::from_ticks(number as i64 * 3_000, 90_000),
                marker: part == 1,
                keyframe: keyframe == Some(layer) && part == 0,
                payload: Bytes::from(payload(layer, part)),
            })
        });
        let batch = PacketBatch { epoch: self.epoch.clone(), packets: packets.collect() };
        let (template, change) = self.fan_out.take(self.now, &batch, 0);
        change.tell(&mut self.viewer, &self.epoch);
        self.viewer.send(self.now, &template, self.fan_out.sound_lag(), &mut self.wire, &mut self.buffer);
        self.now += Duration::from_nanos(33_333_333);
        self.tick();
    }

    fn tick(&mut self) {
        self.viewer.handle_timeout(self.now, Some(&self.fan_out), &mut self.wire);
    }

    fn received(&mut self) -> Vec<RtpPacket> {
        let keys = self.keys.as_mut().expect("connected");
        let media = self.wire.0.drain(..).filter(|datagram| !(192..224).contains(&datagram[1]));
        media
            .map(|datagram| {
                let plain = keys.incoming.decrypt_rtp(&datagram).expect("authentic");
                RtpPacket::unmarshal(&mut &plain[..]).expect("RTP")
            })
            .collect()
    }

    fn feedback(&mut self, packet: Box<dyn rtc::rtcp::packet::Packet>) {
        let plain = marshal(&[packet]).expect("marshalled");
        let sealed = self.keys.as_mut().expect("connected").rtcp_out.encrypt_rtcp(&plain).expect("sealed");
        let fan_out = Some(&self.fan_out);
        self.viewer.handle_rtcp(self.now, &sealed, fan_out, &mut self.wire, &mut self.buffer);
    }
}

fn of_type(packets: &[RtpPacket], payload_type: u8) -> Vec<&RtpPacket> {
    packets.iter().filter(|packet| packet.header.payload_type == payload_type).collect()
}
