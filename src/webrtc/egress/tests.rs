//! A viewer in memory: offer and answer, handshake, first picture, retransmission, reports, epochs.

use super::{FanOut, Offer, Plan, Viewer, prepare};
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
        codec: Codec::H264,
        resolution: None,
        frame_rate: None,
        codec_data: Bytes::new(),
        fmtp: format!("packetization-mode=1;profile-level-id={profile}"),
        reordered: false,
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
        let now = Instant::now();
        let identity = Arc::new(Identity::generate().expect("a certificate"));
        let other = Identity::generate().expect("a certificate");
        let claimed = if client_is_honest { identity.fingerprint() } else { other.fingerprint() };
        let tracks = tracks("42e01f", true);
        let (publisher, plan) = plan(&offer_text(claimed, "recvonly"), &tracks);
        let plan = plan.expect("acceptable");
        let sdp = plan.sdp().to_owned();
        let server = attribute(&sdp, "fingerprint").split(' ').nth(1).expect("a digest").to_owned();
        Self {
            now,
            epoch: publisher.begin_epoch(tracks, SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)),
            fan_out: FanOut::new(publisher.stream().clone(), now),
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
        let packets = (0..2u8).flat_map(|layer| {
            (0..2).map(move |part| Packet {
                kind: MediaKind::Video,
                layer,
                sequence: [70_000, 3_000][usize::from(layer)] + number * 2 + part,
                timestamp: number as u32 * 3_000 + u32::from(layer) * 1_000_000,
                pts: MediaTime::from_ticks(number as i64 * 3_000, 90_000),
                marker: part == 1,
                keyframe: keyframe == Some(layer) && part == 0,
                payload: Bytes::from(vec![layer * 100 + number as u8; 100 + part as usize]),
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

#[test]
fn the_answer_offers_everything_at_once_and_fits_the_stream() {
    for (profile, payload_type, repair) in [("42e01f", 102, 103), ("4d001f", 106, 107), ("640028", 106, 107)]
    {
        let (_publisher, plan) = plan(&offer_text(DIGEST, "recvonly"), &tracks(profile, true));
        let plan = plan.expect("acceptable");
        let sdp = plan.sdp();
        assert!(sdp.contains(&format!("m=video 9 UDP/TLS/RTP/SAVPF {payload_type} {repair}\r\n")), "{sdp}");
        assert!(sdp.contains("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"));
        for line in [
            "a=ice-lite",
            "a=group:BUNDLE 0 1",
            "a=setup:passive",
            "a=rtcp-mux-only",
            "a=candidate:1 1 udp 2130706431 192.0.2.1 8189 typ host",
            "a=candidate:2 1 udp 2130706175 127.0.0.1 8189 typ host",
            "a=end-of-candidates",
            "a=extmap:5 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
            "a=fmtp:111 minptime=10;useinbandfec=1;sprop-stereo=1",
        ] {
            assert!(sdp.lines().any(|known| known == line), "{line}");
        }
        assert_eq!(sdp.matches("a=sendonly\r\n").count(), 2);
        assert_eq!(sdp.contains("a=rtcp-fb:102 goog-remb\r\n"), payload_type == 102, "where it was offered");
        assert!(!sdp.contains("transport-cc"));
    }
}

/// A stream's codec and format, and the formats of an offer with the one that fits (RFC 8829 §5.3.1).
type Fit = (Codec, &'static str, &'static [(&'static str, &'static str)], Option<u8>);

#[test]
fn e04_each_codec_is_answered_with_the_format_that_fits_the_stream_or_not_at_all() {
    const H264: (&str, &str) = ("H264", "packetization-mode=0;profile-level-id=42e01f");
    let fits: [Fit; 9] = [
        (Codec::H264, "packetization-mode=0;profile-level-id=42e01f", &[H264], Some(50)),
        (Codec::H264, "profile-level-id=42e01f", &[("H264", "packetization-mode=1")], Some(50)),
        (Codec::H264, "packetization-mode=1;profile-level-id=42e01f", &[H264], None),
        (Codec::Vp8, "", &[("VP9", ""), ("VP8", "")], Some(51)),
        (Codec::Vp9, "profile-id=2", &[("VP9", ""), ("VP9", "profile-id=2")], Some(51)),
        (Codec::Av1, "", &[("AV1", "profile=1"), ("AV1", "level-idx=5;profile=0;tier=0")], Some(51)),
        (Codec::Av1, "profile=2", &[("AV1", "profile=1")], None),
        (
            Codec::H265,
            "profile-id=1;level-id=120",
            &[("H265", "profile-id=2"), ("H265", "level-id=93"), ("H265", "level-id=180;tier-flag=0")],
            Some(52),
        ),
        (Codec::H265, "profile-id=1", &[("H265", "profile-id=2;tier-flag=0;level-id=180")], None),
    ];
    for (codec, fmtp, formats, expected) in fits {
        let numbers: Vec<String> = (50..50 + formats.len()).map(|number| number.to_string()).collect();
        let offer = offer_text(DIGEST, "recvonly");
        let (session, rest) = offer.split_once("m=video").expect("video");
        let (section, _) = rest.split_once("a=rtpmap").expect("formats");
        let section = section.replace("96 97 102 103 104 105 106 107", &numbers.join(" "));
        let lines: String = formats
            .iter()
            .zip(&numbers)
            .map(|((name, fmtp), number)| {
                format!("a=rtpmap:{number} {name}/90000\r\na=fmtp:{number} {fmtp}\r\n")
            })
            .collect();
        let mut stream = tracks("42e01f", false);
        let video = stream.video.as_mut().expect("video");
        (video.codec, video.fmtp) = (codec, fmtp.into());
        let (_publisher, plan) = plan(&format!("{session}m=video{section}{lines}"), &stream);
        match (plan, expected) {
            (Ok(plan), Some(number)) => {
                let line = format!("m=video 9 UDP/TLS/RTP/SAVPF {number}\r\n");
                assert!(plan.sdp().contains(&line), "{codec:?} {fmtp}: {}", plan.sdp());
            }
            (Err(SessionError::NoCommonCodec { stream, offered }), None) => {
                assert_eq!((stream, offered.as_str()), (codec, formats[0].0));
            }
            (plan, _) => panic!("{codec:?} {fmtp}: {:?}", plan.map(|plan| plan.sdp().to_owned())),
        }
    }
}

#[test]
fn a_stream_without_sound_is_answered_with_sound_that_may_come_and_what_is_no_media_is_refused() {
    let data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:2\r\n";
    let offer = offer_text(DIGEST, "sendrecv") + data;
    let (_publisher, plan) = plan(&offer, &tracks("42e01f", false));
    let plan = plan.expect("acceptable");
    let (_, audio) = plan.sdp().split_once("m=audio 9 ").expect("audio");
    assert!(audio.contains("a=sendonly\r\n") && audio.contains("opus/48000/2"));
    assert!(plan.sdp().contains("m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n"));
}

#[test]
fn offers_that_can_not_be_served_say_why() {
    let refused = |offer: &str, tracks: &Tracks| plan(offer, tracks).1.err().expect("refused");
    let stream = tracks("42e01f", true);
    for direction in ["sendonly", "inactive"] {
        let error = refused(&offer_text(DIGEST, direction), &stream);
        let SessionError::UnacceptableOffer(why) = error else { panic!("{error:?}") };
        assert!(why.contains("m-section 0 (video)") && why.contains(direction), "{why}");
    }
    let offer = offer_text(DIGEST, "recvonly");
    let error = refused(&offer.replace("H264", "H265"), &stream);
    let expected = SessionError::NoCommonCodec { stream: Codec::H264, offered: "VP8, H265".into() };
    assert_eq!(error, expected);
    let unbundled = offer.replace("a=group:BUNDLE 0 1\r\n", "");
    assert!(
        matches!(refused(&unbundled, &stream), SessionError::UnacceptableOffer(why) if why.contains("bundled"))
    );
    let audio_only = Tracks { video: None, ..stream.clone() };
    let video_offer = offer.split("m=audio").next().expect("the first part");
    let error = refused(video_offer, &audio_only);
    assert!(matches!(error, SessionError::UnacceptableOffer(why) if why.contains("video only")));
}

#[test]
fn broken_and_oversized_offers_are_malformed() {
    let offer = offer_text(DIGEST, "recvonly");
    let long_line = format!("{offer}a=x:{}\r\n", "x".repeat(5000));
    let many_lines = format!("{offer}{}", "a=x\r\n".repeat(2000));
    let large =
        format!("{offer}{}", "a=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n".repeat(1300));
    let sections = format!("{offer}{}", "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n".repeat(3));
    let no_fragment = offer.replace("a=ice-ufrag:them\r\n", "");
    for text in ["", "hello", "v=0\r\n", &long_line, &many_lines, &large, &sections, &no_fragment] {
        let error = Offer::parse(text).map(|_| ()).expect_err("malformed");
        assert!(matches!(error, SessionError::MalformedOffer(_)), "{error:?}");
    }
    for end in 0..offer.len() {
        let _ = Offer::parse(&offer[..end]); // whatever it says, it does not panic
    }
}

#[test]
fn the_first_picture_comes_from_the_cache_and_leads_to_the_live_edge() {
    let mut world = World::new(true);
    world.publish(0..1, true);
    world.publish(1..60, false);
    assert!(world.wire.0.is_empty(), "nothing goes out before the handshake");
    let mut world = world.connect();
    assert_eq!(world.viewer.state(), SessionState::Connected);
    // Live media goes on while the cached pictures are sent.
    let mut received = world.received();
    let mut next = 60;
    while world.viewer.is_catching_up() {
        world.now += Duration::from_millis(1);
        let World { viewer, fan_out, wire, buffer, now, .. } = &mut world;
        viewer.catch_up(*now, fan_out, wire, buffer);
        if next < 63 {
            world.publish(next..next + 1, false);
            next += 1;
        }
        received.extend(world.received());
    }
    assert_eq!(of_type(&received, 111).len(), 0, "sound waits for the card to start");
    world.now += Duration::from_millis(400);
    world.publish(63..66, false);
    received.extend(world.received());
    let video = of_type(&received, 102);
    let contents: Vec<u8> = video.iter().map(|packet| packet.payload[0]).collect();
    let expected: Vec<u8> = (0..66).flat_map(|number| [number, number]).collect();
    assert_eq!(contents, expected, "every picture once, in order");
    for pair in video.windows(2) {
        assert_eq!(pair[1].header.sequence_number, pair[0].header.sequence_number.wrapping_add(1));
    }
    let span = video[119].header.timestamp.wrapping_sub(video[0].header.timestamp);
    assert!((800..=900).contains(&span), "dated within the 10 ms in which they are sent: {span}");
    let live = video[131].header.timestamp.wrapping_sub(video[121].header.timestamp);
    assert_eq!(live, 5 * 3_000);
    assert_eq!(of_type(&received, 111).len(), 3, "sound begins live");
}

#[test]
fn a_lost_packet_comes_again_by_rtx_but_not_without_end() {
    let mut world = World::new(true).connect();
    world.publish(0..1, true);
    world.publish(1..10, false);
    let sent = world.received();
    let lost = of_type(&sent, 102)[4].clone();
    let nack = |number| TransportLayerNack {
        sender_ssrc: 1,
        media_ssrc: lost.header.ssrc,
        nacks: vec![NackPair { packet_id: number, lost_packets: 0 }],
    };
    for _ in 0..50 {
        world.feedback(Box::new(nack(lost.header.sequence_number)));
    }
    let again = world.received();
    assert_eq!(again.len(), 1, "the first repetition may still be on its way");
    let header = &again[0].header;
    assert_eq!((header.payload_type, header.timestamp), (103, lost.header.timestamp));
    assert_ne!(header.ssrc, lost.header.ssrc);
    assert_eq!(again[0].payload[..2], lost.header.sequence_number.to_be_bytes());
    assert_eq!(again[0].payload[2..], lost.payload[..]);
    world.feedback(Box::new(nack(lost.header.sequence_number.wrapping_add(1000))));
    assert!(world.received().is_empty(), "never sent");
}

#[test]
fn a_viewers_pli_asks_the_publisher() {
    let mut world = World::new(true).connect();
    world.publish(0..1, true);
    let ssrc = of_type(&world.received(), 102)[0].header.ssrc;
    let mut requests = world.publisher.keyframe_requests();
    requests.mark_unchanged();
    world.feedback(Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc: ssrc.wrapping_add(1) }));
    assert!(!requests.has_changed().expect("open"), "not a track of this viewer");
    world.feedback(Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc: ssrc }));
    assert!(requests.has_changed().expect("open"));
}

#[test]
fn reports_put_picture_and_sound_on_one_clock() {
    let mut world = World::new(true).connect();
    world.now += Duration::from_millis(400);
    world.publish(0..1, true);
    world.publish(1..31, false);
    let sent = world.received();
    world.now += Duration::from_millis(100);
    world.viewer.handle_timeout(world.now, Some(&world.fan_out), &mut world.wire);
    let keys = world.keys.as_mut().expect("connected");
    let reports: Vec<SenderReport> = world
        .wire
        .0
        .drain(..)
        .map(|datagram| {
            let plain = keys.incoming.decrypt_rtcp(&datagram).expect("authentic");
            let packets = unmarshal(&mut &plain[..]).expect("RTCP");
            packets[0].as_any().downcast_ref::<SenderReport>().expect("a report").clone()
        })
        .collect();
    assert_eq!(reports.len(), 2);
    // Frame 30 is at 1 s of media time; 100 ms have passed.
    let seconds = 2_208_988_800.0 + 1_000_000.0 + 1.1;
    for report in &reports {
        assert!((report.ntp_time as f64 / 4_294_967_296.0 - seconds).abs() < 1e-3);
        let of_track = sent.iter().filter(|packet| packet.header.ssrc == report.ssrc);
        let last = of_track.last().expect("sent").header.clone();
        let rate = if last.payload_type == 102 { 90_000 } else { 48_000 };
        assert_eq!(report.rtp_time, last.timestamp.wrapping_add(rate / 10));
    }
    assert_eq!((reports[0].packet_count, reports[0].octet_count), (62, 31 * 201));
}

/// What the playout-delay extension of a packet says: milliseconds.
fn playout_delay(packet: &RtpPacket) -> Option<u32> {
    let element = packet.header.get_extension(5)?;
    Some((u32::from(element[0]) << 4 | u32::from(element[1]) >> 4) * 10)
}

#[test]
fn pictures_after_the_first_are_told_to_wait_for_the_sound() {
    let mut world = World::new(true);
    // Sound comes 70 ms later than pictures of the same instant: each batch has older sound.
    let packet = |kind, number: u64, millis: i64, keyframe| Packet {
        kind,
        layer: 0,
        sequence: number,
        timestamp: (millis * if kind == MediaKind::Video { 90 } else { 48 }) as u32,
        pts: MediaTime::from_millis(millis),
        marker: true,
        keyframe,
        payload: Bytes::from(vec![number as u8; 200]),
    };
    let publish = |world: &mut World, number: u64| {
        let millis = number as i64 * 40;
        let packets = vec![
            packet(MediaKind::Video, number, millis, number == 0),
            packet(MediaKind::Audio, number, millis - 70, false),
        ];
        let batch = PacketBatch { epoch: world.epoch.clone(), packets };
        let (template, change) = world.fan_out.take(world.now, &batch, 0);
        change.tell(&mut world.viewer, &world.epoch);
        let World { viewer, fan_out, wire, buffer, now, .. } = world;
        viewer.send(*now, &template, fan_out.sound_lag(), wire, buffer);
        *now += Duration::from_millis(40);
    };
    (0..25).for_each(|number| publish(&mut world, number));
    let mut world = world.connect();
    while world.viewer.is_catching_up() {
        world.now += Duration::from_millis(1);
        let World { viewer, fan_out, wire, buffer, now, .. } = &mut world;
        viewer.catch_up(*now, fan_out, wire, buffer);
    }
    (25..45).for_each(|number| publish(&mut world, number));
    let received = world.received();
    let video = of_type(&received, 102);
    assert_eq!(video.len(), 45);
    assert_eq!(playout_delay(video[0]), None, "the first picture is shown at once");
    assert_eq!(playout_delay(video[1]), Some(120), "50 ms that sound waits in the browser, and 70 ms");
    assert_eq!(playout_delay(video[44]), None, "once is enough");
    assert_eq!(video[1].payload[..], [1; 200], "the payload is as it was");
    assert!(of_type(&received, 111).iter().all(|packet| !packet.header.extension));
    // A repetition says the same.
    let nack = TransportLayerNack {
        sender_ssrc: 1,
        media_ssrc: video[1].header.ssrc,
        nacks: vec![NackPair { packet_id: video[1].header.sequence_number, lost_packets: 0 }],
    };
    world.feedback(Box::new(nack));
    let again = world.received();
    assert_eq!((again[0].header.payload_type, playout_delay(&again[0])), (103, Some(120)));
    assert_eq!(again[0].payload[2..], [1; 200]);
}

#[test]
fn a_simulcast_viewer_changes_layers_at_keyframes_without_a_gap() {
    let mut world = World::new(true);
    let layer = |rid: &str| LayerInfo { rid: rid.into(), resolution: None, bitrate: 0, active: true };
    world.publisher.set_layers(vec![layer("f"), layer("q")]);
    world.now += Duration::from_secs(1);
    let mut world = world.connect();
    world.publish_layers(0, Some(1));
    world.publish_layers(1, Some(0));
    world.publish_layers(2, None);
    let mut requests = world.publisher.keyframe_requests();
    requests.mark_unchanged();
    world.viewer.select_layer(crate::webrtc::LayerSelection::Rid("q".into())).expect("known");
    world.now += Duration::from_millis(200);
    world.tick();
    assert!(requests.has_changed().expect("open"), "its keyframe is asked for");
    world.publish_layers(3, None);
    world.publish_layers(4, Some(1));
    world.publish_layers(5, None);
    let received = world.received();
    let video = of_type(&received, 102);
    let contents: Vec<u8> = video.iter().step_by(2).map(|packet| packet.payload[0]).collect();
    assert_eq!(contents, [1, 2, 3, 104, 105], "from the best one's keyframe on, then the other's");
    for pair in video.windows(2) {
        assert_eq!(pair[1].header.sequence_number, pair[0].header.sequence_number.wrapping_add(1));
    }
    let dates: Vec<u32> =
        video.iter().step_by(2).map(|p| p.header.timestamp.wrapping_sub(video[0].header.timestamp)).collect();
    assert_eq!(dates, [0, 3_000, 6_000, 9_000, 12_000]);
    let unknown = world.viewer.select_layer(crate::webrtc::LayerSelection::Rid("x".into()));
    assert_eq!(unknown, Err(SessionError::UnknownLayer { rid: "x".into(), known: "f, q".into() }));
}

#[test]
fn rel06_a_stalled_viewer_gets_nothing_and_goes_on_from_the_cache_when_it_is_back() {
    let mut world = World::new(true).connect();
    world.publish(0..1, true);
    world.now += Duration::from_millis(6_900);
    world.tick();
    world.publish(1..2, false);
    assert!(!world.received().is_empty(), "it may still be there");
    world.now += Duration::from_millis(200);
    world.tick();
    world.wire.0.clear();
    world.publish(2..40, false);
    assert!(world.wire.0.is_empty(), "nothing is sent, and nothing kept for it");
    world.now += Duration::from_secs(5);
    assert!(world.check(false));
    world.wire.0.clear();
    world.tick();
    while world.viewer.is_catching_up() {
        world.now += Duration::from_millis(1);
        let World { viewer, fan_out, wire, buffer, now, .. } = &mut world;
        viewer.catch_up(*now, fan_out, wire, buffer);
    }
    let received = world.received();
    let contents: Vec<u8> = of_type(&received, 102).iter().step_by(2).map(|p| p.payload[0]).collect();
    assert_eq!(contents, (0..40).collect::<Vec<u8>>(), "the cached group of pictures");
}

#[test]
fn a_returning_publisher_goes_on_in_the_same_session() {
    let mut world = World::new(true).connect();
    world.publish(5..6, true);
    let before = world.received();
    world.now += Duration::from_secs(2);
    world.epoch = world.publisher.begin_epoch(tracks("42e01f", true), SystemTime::UNIX_EPOCH);
    world.publish(0..1, false);
    world.publish(1..2, true);
    let after = world.received();
    let (last, first) = (of_type(&before, 102)[1], of_type(&after, 102)[0]);
    assert_eq!(first.header.sequence_number, last.header.sequence_number.wrapping_add(1));
    assert_eq!(first.header.timestamp, last.header.timestamp.wrapping_add(180_000));
    assert_eq!(first.payload[0], 1, "at the keyframe");
    assert_eq!(world.viewer.state(), SessionState::Connected);
    let mut other = tracks("42e01f", true);
    other.video.as_mut().expect("video").codec = Codec::Vp8;
    world.epoch = world.publisher.begin_epoch(other, SystemTime::UNIX_EPOCH);
    world.publish(2..3, true);
    assert_eq!(world.viewer.state(), SessionState::Ended("the stream's video codec changed"));
}

#[test]
fn a_peer_with_another_certificate_gets_nothing() {
    let mut world = World::new(false);
    world.publish(0..1, true);
    let mut world = world.connect();
    assert_eq!(world.viewer.state(), SessionState::Ended("the certificate is not the one of the offer"));
    world.publish(1..3, true);
    assert!(world.wire.0.is_empty());
    assert!(!world.check(true), "after the end no STUN is answered");
}

#[test]
fn a_silent_viewer_is_given_up() {
    let mut world = World::new(true).connect();
    world.now += Duration::from_secs(29);
    world.viewer.handle_timeout(world.now, Some(&world.fan_out), &mut world.wire);
    assert!(world.check(false));
    world.now += Duration::from_secs(29);
    world.viewer.handle_timeout(world.now, Some(&world.fan_out), &mut world.wire);
    assert_eq!(world.viewer.state(), SessionState::Connected);
    world.now += Duration::from_secs(2);
    world.viewer.handle_timeout(world.now, Some(&world.fan_out), &mut world.wire);
    assert_eq!(world.viewer.state(), SessionState::Ended("the peer has gone silent"));
}

#[test]
fn the_viewer_is_told_of_the_end_and_tells_us() {
    let mut world = World::new(true).connect();
    world.viewer.close(world.now, "closed by request", &mut world.wire);
    let goodbye = world.wire.0.pop().expect("close_notify");
    assert!(matches!(world.client.read(world.now, &goodbye), Progress::Closed));
    let mut world = World::new(true).connect();
    world.client.close(world.now);
    let goodbye = world.client.poll_transmit().expect("close_notify");
    world.viewer.handle_dtls(world.now, &goodbye, Some(&world.fan_out), &mut world.wire);
    assert_eq!(world.viewer.state(), SessionState::Ended("the peer closed the session"));
}
