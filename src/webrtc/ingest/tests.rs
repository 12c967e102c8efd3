//! Sessions against a publisher made of `rtc`'s whole stack: both in memory, on a virtual clock.

use super::IngestSession;
use crate::media::{Codec, MediaKind, Packet, PacketBatch, StreamName};
use crate::stream::{Hub, Subscriber, Watcher};
use crate::webrtc::SessionError;
use crate::webrtc::candidates::sdp_lines;
use crate::webrtc::demux::Datagram;
use crate::webrtc::path::Path;
use crate::webrtc::session::SessionState;
use crate::webrtc::socket::Outlet;
use crate::webrtc::transport::Identity;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rtc::interceptor::{
    Interceptor, NackResponderBuilder, Packet as ChainPacket, Registry, Slot, StreamInfo, TaggedPacket,
};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::message::{RTCMessage, TaggedRTCMessage};
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::transport::{RTCDtlsRole, RTCIceCandidateInit};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RTCRtpRtxParameters, RtpCodecKind,
};
use rtc::sansio::Protocol;
use rtc::shared::error::Error as RtcError;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const SERVER: &str = "127.0.0.1:8189";
const CLIENT: &str = "127.0.0.1:5000";
const VIDEO_SSRC: u32 = 0x1111;
const RTX_SSRC: u32 = 0x2222;
const AUDIO_SSRC: u32 = 0x3333;
const VIDEO_TYPE: u8 = 96;
const AUDIO_TYPE: u8 = 111;
const STEP: Duration = Duration::from_millis(5);

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn name() -> StreamName {
    "studio".parse().expect("a name")
}

fn session(hub: &Hub, now: Instant, offer: &str) -> Result<(IngestSession, String), SessionError> {
    let identity = Arc::new(Identity::generate().expect("a certificate"));
    let candidates = sdp_lines(&[address(SERVER)], false);
    IngestSession::new(now, identity, &candidates, hub, name(), offer, address(CLIENT))
}

/// What the session sends.
#[derive(Default)]
struct Wire(Vec<(Path, Vec<u8>)>);

impl Outlet for Wire {
    fn send(&mut self, path: Path, data: &[u8], _: Option<usize>) -> bool {
        self.0.push((path, data.to_vec()));
        true
    }
}

/// A publisher, a session, and the wire between them.
struct World {
    now: Instant,
    start: Instant,
    client: RTCPeerConnection,
    session: IngestSession,
    wire: Wire,
    /// The session has seen an authentic check from the publisher's address.
    proven: bool,
    hub: Hub,
    _reaper: Watcher,
    answer: String,
    feedback: Arc<Feedback>,
    /// Video sequence numbers that are lost on their first way.
    lose: HashSet<u16>,
    /// Nothing passes.
    cut: bool,
    /// One way.
    delay: Duration,
    /// So many of a hundred SRTP datagrams are lost, either way, at random.
    loss: u32,
    random: u32,
    to_server: VecDeque<(Instant, BytesMut)>,
    to_client: VecDeque<(Instant, BytesMut)>,
    video_sequence: u16,
    audio_sequence: u16,
}

#[derive(Default)]
struct Feedback {
    keyframe_requests: AtomicUsize,
    losses_reported: AtomicUsize,
    /// The SSRCs that keyframes were asked of.
    keyframes_of: Mutex<Vec<u32>>,
    /// The SSRCs and sequence numbers that were asked for again.
    lost: Mutex<Vec<(u32, u16)>>,
}

impl World {
    fn new(kinds: &[MediaKind]) -> Self {
        Self::with_offer(kinds, |offer| offer)
    }

    fn with_offer(kinds: &[MediaKind], change: impl FnOnce(String) -> String) -> Self {
        let now = Instant::now();
        let feedback = Arc::new(Feedback::default());
        let (mut client, offer) = publisher(now, kinds, feedback.clone());
        let offer = change(offer);
        let (hub, reaper) = Hub::new(Duration::from_secs(60));
        let (session, answer) = session(&hub, now, &offer).expect("a good offer");
        // What the publisher's stack has not offered by itself is not for it.
        let foreign = ["a=rid:", "a=simulcast:", "a=extmap:"];
        let known = answer.lines().filter(|line| !foreign.iter().any(|start| line.starts_with(start)));
        let known: String = known.flat_map(|line| [line, "\r\n"]).collect();
        let description = RTCSessionDescription::answer(known).expect("SDP");
        client.set_remote_description(now, description).expect("a good answer");
        Self {
            now,
            start: now,
            client,
            session,
            wire: Wire::default(),
            proven: false,
            hub,
            _reaper: reaper,
            answer,
            feedback,
            lose: HashSet::new(),
            cut: false,
            delay: Duration::ZERO,
            loss: 0,
            random: 1,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            video_sequence: 65_500,
            audio_sequence: 100,
        }
    }

    fn connected(kinds: &[MediaKind]) -> Self {
        Self::new(kinds).connect()
    }

    fn connect(mut self) -> Self {
        let world = &mut self;
        world.run_until(Duration::from_secs(5), |world| world.session.state() == SessionState::Connected);
        world.run(Duration::from_millis(50)); // the client's side too
        self
    }

    fn subscribe(&self) -> Subscriber<PacketBatch> {
        self.hub.get(&name()).expect("live").subscribe()
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.exchange();
            self.now += STEP;
            self.client.handle_timeout(self.now).expect("timers");
            self.session.handle_timeout(self.now, &mut self.wire);
        }
        self.exchange();
    }

    fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            assert!(self.now < end, "not within {limit:?}");
            self.run(STEP);
        }
    }

    /// Moves datagrams until none are due.
    fn exchange(&mut self) {
        loop {
            let mut moved = false;
            let due = self.now + self.delay;
            while let Some(datagram) = self.client.poll_write() {
                if !self.lost(&datagram.message) {
                    self.to_server.push_back((due, datagram.message));
                }
            }
            while self.to_server.front().is_some_and(|(due, _)| *due <= self.now) {
                let Some((_, data)) = self.to_server.pop_front() else { break };
                self.receive(address(CLIENT), data);
                moved = true;
            }
            self.session.flush(self.now, &mut self.wire);
            for (path, data) in std::mem::take(&mut self.wire.0) {
                assert_eq!(path, Path::udp(address(CLIENT), address(SERVER).ip()));
                if !self.lost(&data) {
                    self.to_client.push_back((due, BytesMut::from(&data[..])));
                }
            }
            while self.to_client.front().is_some_and(|(due, _)| *due <= self.now) {
                let Some((_, data)) = self.to_client.pop_front() else { break };
                self.deliver(data);
                moved = true;
            }
            while self.client.poll_event().is_some() {}
            while self.client.poll_read().is_some() {}
            if !moved {
                return;
            }
        }
    }

    /// As the worker does: only an authentic check proves an address.
    fn receive(&mut self, from: SocketAddr, mut data: BytesMut) {
        let Self { now, session, wire, .. } = self;
        let path = Path::udp(from, address(SERVER).ip());
        let proven = self.proven && from == address(CLIENT);
        match Datagram::classify(&data) {
            Some(Datagram::Stun) => {
                let authentic = session.handle_stun(*now, path, &data, wire);
                self.proven |= authentic && from == address(CLIENT);
            }
            Some(Datagram::Dtls) if proven => session.handle_dtls(*now, &data, wire),
            Some(Datagram::Rtp) if proven => session.handle_rtp(*now, &mut data),
            Some(Datagram::Rtcp) if proven => session.handle_rtcp(*now, &data),
            _ => {}
        }
    }

    fn deliver(&mut self, message: BytesMut) {
        let transport = TransportContext {
            local_addr: address(CLIENT),
            peer_addr: address(SERVER),
            transport_protocol: TransportProtocol::UDP,
            ecn: None,
        };
        self.client.handle_read(TaggedBytesMut { now: self.now, transport, message }).expect("taken");
    }

    fn lost(&mut self, datagram: &[u8]) -> bool {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let secure = datagram.len() > 12 && datagram[0] >> 6 == 2;
        let video = secure && datagram[1] & 0x7f == VIDEO_TYPE;
        self.cut
            || (video && self.lose.remove(&u16::from_be_bytes([datagram[2], datagram[3]])))
            || (secure && (self.random >> 8) % 100 < self.loss)
    }

    fn write(&mut self, message: RTCMessage) {
        self.client.handle_write(TaggedRTCMessage { now: self.now, message }).expect("sent");
    }

    fn rtp(&mut self, kind: MediaKind, timestamp: u32, marker: bool, payload: &[u8]) -> u16 {
        let (ssrc, payload_type, next) = match kind {
            MediaKind::Video => (VIDEO_SSRC, VIDEO_TYPE, &mut self.video_sequence),
            MediaKind::Audio => (AUDIO_SSRC, AUDIO_TYPE, &mut self.audio_sequence),
        };
        let sequence = *next;
        *next = next.wrapping_add(1);
        let header = rtc::rtp::Header {
            version: 2,
            padding: payload.is_empty(),
            marker,
            payload_type,
            sequence_number: sequence,
            timestamp,
            ssrc,
            ..Default::default()
        };
        let packet = rtc::rtp::Packet { header, payload: Bytes::copy_from_slice(payload) };
        self.write(RTCMessage::RtpPacket(String::new(), packet));
        sequence
    }

    /// One frame of 20 ms with its audio; a keyframe is three packets, another frame two.
    fn frame(&mut self, number: u32, keyframe: bool) {
        let timestamp = number.wrapping_mul(1_800);
        if keyframe {
            self.rtp(MediaKind::Video, timestamp, false, &[0x67, 0x42, 0xe0, 0x1f]);
            self.rtp(MediaKind::Video, timestamp, false, &[0x68, 0xce]);
            self.rtp(MediaKind::Video, timestamp, true, &[0x65, 0x88, 1, 2, 3]);
        } else {
            self.rtp(MediaKind::Video, timestamp, false, &[0x7c, 0x81, 1]);
            self.rtp(MediaKind::Video, timestamp, true, &[0x7c, 0x41, 2]);
        }
        self.rtp(MediaKind::Audio, number.wrapping_mul(960), false, &[0xfc, 1, 2]);
        self.run(Duration::from_millis(20));
    }

    fn millis(&self) -> u64 {
        (self.now - self.start).as_millis() as u64
    }
}

/// A publisher and its offer.
fn publisher(now: Instant, kinds: &[MediaKind], feedback: Arc<Feedback>) -> (RTCPeerConnection, String) {
    let mut engine = MediaEngine::default();
    let parameters = |mime: &str, payload_type, clock_rate, channels, fmtp: &str| RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: mime.to_owned(),
            clock_rate,
            channels,
            sdp_fmtp_line: fmtp.to_owned(),
            rtcp_feedback: Vec::new(),
        },
        payload_type,
    };
    let h264 = parameters(
        "video/H264",
        VIDEO_TYPE,
        90_000,
        0,
        "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    );
    let opus = parameters("audio/opus", AUDIO_TYPE, 48_000, 2, "minptime=10");
    engine.register_codec(h264.clone(), RtpCodecKind::Video).expect("codec");
    engine
        .register_codec(parameters("video/rtx", 97, 90_000, 0, "apt=96"), RtpCodecKind::Video)
        .expect("codec");
    engine.register_codec(opus.clone(), RtpCodecKind::Audio).expect("codec");
    for parameter in ["", "pli"] {
        let typ = "nack".to_owned();
        let parameter = parameter.to_owned();
        engine.register_feedback(
            rtc::rtp_transceiver::rtp_sender::RTCPFeedback { typ, parameter },
            RtpCodecKind::Video,
        );
    }
    let registry = Registry::new()
        .with(Slot::NackResponder, NackResponderBuilder::new().build())
        .with(Slot::from(60_000), Listener { feedback, ..Listener::default() });
    let mut client = RTCPeerConnectionBuilder::new()
        .with_media_engine(engine)
        .with_interceptor_registry(registry)
        .with_setting_engine(
            SettingEngineBuilder::new().with_answering_dtls_role(RTCDtlsRole::Client).build(),
        )
        .build(now)
        .expect("a client");
    for kind in kinds {
        let (kind, codec, ssrc, rtx) = match kind {
            MediaKind::Video => (RtpCodecKind::Video, &h264, VIDEO_SSRC, Some(RTX_SSRC)),
            MediaKind::Audio => (RtpCodecKind::Audio, &opus, AUDIO_SSRC, None),
        };
        let coding = RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters {
                ssrc: Some(ssrc),
                rtx: rtx.map(|ssrc| RTCRtpRtxParameters { ssrc }),
                ..Default::default()
            },
            active: true,
            codec: codec.rtp_codec.clone(),
            ..Default::default()
        };
        let track =
            MediaStreamTrack::new("stream".into(), format!("{kind}"), format!("{kind}"), kind, vec![coding]);
        client.add_track(track).expect("a track");
    }
    let offer = client.create_offer(None).expect("an offer");
    client.set_local_description(now, offer).expect("an offer of its own");
    let candidate = "candidate:1 1 udp 2130706431 127.0.0.1 5000 typ host".to_owned();
    client.add_local_candidate(RTCIceCandidateInit { candidate, ..Default::default() }).expect("a candidate");
    client.add_local_candidate(RTCIceCandidateInit::default()).expect("the end");
    let offer = client.local_description().expect("an offer").sdp;
    (client, offer)
}

/// Counts the feedback that reaches the publisher.
#[derive(Default)]
struct Listener {
    feedback: Arc<Feedback>,
    inbound: VecDeque<TaggedPacket>,
    outbound: VecDeque<TaggedPacket>,
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Listener {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = RtcError;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), RtcError> {
        if let ChainPacket::Rtcp(reports) = &packet.message.packet {
            for report in reports {
                let count =
                    |counter: &AtomicUsize, yes: bool| counter.fetch_add(usize::from(yes), Ordering::Relaxed);
                count(&self.feedback.keyframe_requests, report.as_any().is::<PictureLossIndication>());
                count(&self.feedback.losses_reported, report.as_any().is::<TransportLayerNack>());
                if let Some(loss) = report.as_any().downcast_ref::<PictureLossIndication>() {
                    self.feedback.keyframes_of.lock().push(loss.media_ssrc);
                }
                if let Some(nack) = report.as_any().downcast_ref::<TransportLayerNack>() {
                    let missing = nack.nacks.iter().flat_map(|pair| pair.packet_list());
                    self.feedback.lost.lock().extend(missing.map(|number| (nack.media_ssrc, number)));
                }
            }
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

impl Interceptor for Listener {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

/// All batches that are there now.
fn batches(reader: &mut Subscriber<PacketBatch>) -> Vec<Arc<PacketBatch>> {
    std::iter::from_fn(|| reader.try_recv()).collect()
}

fn packets(batches: &[Arc<PacketBatch>], kind: MediaKind) -> Vec<Packet> {
    batches.iter().flat_map(|batch| &batch.packets).filter(|packet| packet.kind == kind).cloned().collect()
}

const BOTH: [MediaKind; 2] = [MediaKind::Audio, MediaKind::Video];

#[test]
fn a_publisher_connects_and_its_packets_arrive_in_one_epoch() {
    let mut world = World::connected(&BOTH);
    eprintln!("connected after {} ms of virtual time", world.millis());
    let mut reader = world.subscribe();
    for number in 0..10 {
        world.frame(number, number == 0);
    }
    let batches = batches(&mut reader);
    let tracks = &batches[0].epoch.tracks;
    assert_eq!(tracks.codec(MediaKind::Video), Some(Codec::H264));
    assert_eq!(tracks.codec(MediaKind::Audio), Some(Codec::Opus));
    assert!(batches.iter().all(|batch| batch.epoch.id == batches[0].epoch.id));
    let video = packets(&batches, MediaKind::Video);
    let audio = packets(&batches, MediaKind::Audio);
    assert_eq!((video.len(), audio.len()), (21, 10));
    assert!(video.windows(2).all(|pair| pair[1].sequence == pair[0].sequence + 1), "the wrap is no hole");
    assert_eq!(video.iter().map(|packet| packet.keyframe).position(|keyframe| keyframe), Some(0));
    assert_eq!(video.iter().filter(|packet| packet.keyframe).count(), 1);
    assert_eq!(video[20].pts.as_millis() - video[0].pts.as_millis(), 180);
    assert_eq!(audio[9].pts.as_millis() - audio[0].pts.as_millis(), 180);
    assert_eq!(video[2].payload.as_ref(), [0x65, 0x88, 1, 2, 3]);
    assert!(video[2].marker && !video[1].marker);
    let counted = world.hub.get(&name()).expect("live").statistics().snapshot();
    assert_eq!((counted.video_frames, counted.keyframes), (10, 1));
}

#[test]
fn the_answer_is_as_rfc_9725_wants_it() {
    let world = World::new(&BOTH);
    assert_eq!(world.answer.matches("a=candidate:").count(), 1, "{}", world.answer);
    assert_eq!(world.answer.matches("a=rtcp-mux-only").count(), 2);
    assert_eq!(world.answer.matches("a=recvonly").count(), 2);
    assert_eq!(world.answer.matches("a=setup:passive").count(), 2);
    assert!(world.answer.contains("a=rtcp-mux") && world.answer.contains("a=group:BUNDLE 0 1"));
    assert!(world.answer.contains("127.0.0.1 8189 typ host") && world.answer.contains("a=end-of-candidates"));
    assert!(world.answer.contains("apt=96") && world.answer.contains("a=rtcp-fb:96 nack pli"));
    assert!(world.answer.contains(&format!("a=ice-ufrag:{}", world.session.local_ufrag())));
}

#[test]
fn a_passive_publisher_is_answered_active_and_an_active_one_passive() {
    for (offered, answered) in [("passive", "active"), ("active", "passive")] {
        let world =
            World::with_offer(&BOTH, |offer| offer.replace("a=setup:actpass", &format!("a=setup:{offered}")));
        assert_eq!(world.answer.matches(&format!("a=setup:{answered}")).count(), 2, "{}", world.answer);
    }
}

#[test]
fn lost_packets_are_repaired_by_retransmission() {
    let mut world = World::connected(&BOTH);
    let mut reader = world.subscribe();
    world.lose = (0..400_u16).filter(|n| n % 10 == 7).map(|n| 65_500_u16.wrapping_add(n)).collect();
    for number in 0..100 {
        world.frame(number, number == 0);
    }
    world.run(Duration::from_millis(200));
    let video = packets(&batches(&mut reader), MediaKind::Video);
    assert_eq!(video.len(), 201);
    let distinct: HashSet<u64> = video.iter().map(|packet| packet.sequence).collect();
    assert_eq!(distinct.len(), 201, "none twice");
    assert!(video.windows(2).any(|pair| pair[1].sequence < pair[0].sequence), "repaired ones come late");
    assert!(
        video.iter().all(|packet| packet.payload.len() >= 2 && packet.payload[0] & 0x80 == 0),
        "restored"
    );
    let reported = world.feedback.losses_reported.load(Ordering::Relaxed);
    assert!((1..=21).contains(&reported), "{reported} requests for 20 losses");
}

#[test]
fn padding_leaves_no_holes() {
    let mut world = World::connected(&BOTH);
    let mut reader = world.subscribe();
    for number in 0..20 {
        world.frame(number, number == 0);
        world.rtp(MediaKind::Video, number * 1_800, false, &[]);
    }
    let video = packets(&batches(&mut reader), MediaKind::Video);
    assert_eq!(video.len(), 41);
    assert!(video.windows(2).all(|pair| pair[1].sequence == pair[0].sequence + 1));
}

#[test]
fn a_keyframe_begins_a_batch() {
    let mut world = World::connected(&BOTH);
    let mut reader = world.subscribe();
    // All in one arrival.
    for number in 0..3_u32 {
        world.rtp(MediaKind::Audio, number * 960, false, &[0xfc]);
        world.rtp(MediaKind::Video, number * 1_800, false, &[0x06, 5]);
        world.rtp(MediaKind::Video, number * 1_800, false, &[0x67, 0x42]);
        world.rtp(MediaKind::Video, number * 1_800, true, &[0x65, 1]);
    }
    world.exchange();
    let batches = batches(&mut reader);
    let sizes: Vec<usize> = batches.iter().map(|batch| batch.packets.len()).collect();
    // The reader begins at a keyframe; what precedes the first is not for it.
    assert_eq!(sizes, [4, 4, 3]);
    assert!(batches.iter().all(|batch| batch.packets[0].keyframe && batch.packets[0].payload[0] == 0x06));
}

#[test]
fn another_resolution_begins_an_epoch_at_its_keyframe() {
    let mut world = World::connected(&BOTH);
    let mut reader = world.subscribe();
    for (number, set) in
        [parameter_set(40, 30), parameter_set(40, 30), parameter_set(80, 45)].iter().enumerate()
    {
        let number = number as u32;
        world.rtp(MediaKind::Audio, number * 960, false, &[0xfc]);
        world.rtp(MediaKind::Video, number * 1_800, false, &[0x06, 5]);
        world.rtp(MediaKind::Video, number * 1_800, false, set);
        world.rtp(MediaKind::Video, number * 1_800, true, &[0x65, 1]);
    }
    world.exchange();
    let batches = batches(&mut reader);
    let resolution =
        |batch: &PacketBatch| batch.epoch.tracks.video.as_ref().and_then(|video| video.resolution);
    let first = batches[0].epoch.id;
    let seen: Vec<_> = batches
        .iter()
        .map(|batch| (batch.epoch.id - first, batch.packets.len(), resolution(batch)))
        .collect();
    let (small, large) = (Some((640, 480)), Some((1280, 720)));
    assert_eq!(seen, [(0, 4, small), (0, 4, small), (1, 3, large)]);
    assert!(batches.iter().all(|batch| batch.packets[0].keyframe));
}

/// A Baseline sequence parameter set for a picture of so many macroblocks.
fn parameter_set(width: u32, height: u32) -> Vec<u8> {
    let golomb = |value: u32| {
        let code = format!("{:b}", value + 1);
        "0".repeat(code.len() - 1) + &code
    };
    // Id, frame number bits, picture order count type 2, one reference frame, no gaps; then frames only,
    // direct 8x8, no cropping, no VUI, the stop bit.
    let start: String = [0, 0, 2, 1].map(golomb).concat();
    let mut bits = format!("{start}0{}{}11001", golomb(width - 1), golomb(height - 1));
    while !bits.len().is_multiple_of(8) {
        bits.push('0');
    }
    let bytes =
        bits.as_bytes().chunks(8).map(|byte| byte.iter().fold(0, |value, bit| value << 1 | (bit - b'0')));
    [0x67, 66, 0xc0, 30].into_iter().chain(bytes).collect()
}

#[test]
fn keyframes_are_asked_for_at_most_once_a_second() {
    let mut world = World::connected(&BOTH);
    let asked = |world: &World| world.feedback.keyframe_requests.load(Ordering::Relaxed);
    for number in 0..10 {
        world.frame(number, number == 0);
    }
    assert_eq!(asked(&world), 0, "the first frame was a keyframe");
    let stream = world.hub.get(&name()).expect("live");
    for number in 10..160 {
        stream.request_keyframe();
        world.frame(number, false);
    }
    assert!((3..=4).contains(&asked(&world)), "{} in 3 s", asked(&world));
}

#[test]
fn a_publisher_that_begins_without_a_keyframe_is_asked_for_one() {
    let mut world = World::connected(&BOTH);
    world.frame(0, false);
    assert_eq!(world.feedback.keyframe_requests.load(Ordering::Relaxed), 1);
}

#[test]
fn audio_alone_waits_for_video_and_then_begins_without_it() {
    let mut world = World::connected(&BOTH);
    let mut reader = world.subscribe();
    let mut number = 0;
    let mut audio = |world: &mut World, count: u32| {
        for _ in 0..count {
            world.rtp(MediaKind::Audio, number * 960, false, &[0xfc]);
            world.run(Duration::from_millis(20));
            number += 1;
        }
    };
    audio(&mut world, 45);
    assert!(batches(&mut reader).is_empty());
    audio(&mut world, 20);
    let first = batches(&mut reader);
    assert!(first[0].epoch.tracks.audio.is_some() && first[0].epoch.tracks.video.is_none());
    assert_eq!(packets(&first, MediaKind::Audio).len(), 65, "what waited is not lost");
    for number in 65..70 {
        world.frame(number, number == 65);
    }
    let later = batches(&mut reader);
    let both = later.last().expect("more");
    assert!(both.epoch.id > first[0].epoch.id && both.epoch.tracks.audio.is_some());
    assert!(both.epoch.tracks.video.is_some());
    assert_eq!(both.epoch.wall_origin, first[0].epoch.wall_origin, "one timeline");
}

#[test]
fn video_only_and_audio_only_begin_at_once() {
    for kind in BOTH {
        let mut world = World::connected(&[kind]);
        let mut reader = world.subscribe();
        world.rtp(kind, 0, true, &[0x65, 1]);
        world.exchange();
        let batches = batches(&mut reader);
        assert_eq!((batches.len(), packets(&batches, kind).len()), (1, 1), "{kind}");
    }
}

#[test]
fn sender_reports_align_audio_with_video() {
    let mut world = World::connected(&BOTH);
    let mut reader = world.subscribe();
    // Audio of timestamp 0 was captured 100 ms before video of timestamp 0, but arrives with it.
    for number in 0..5 {
        world.frame(number, number == 0);
    }
    let report = |ssrc, ntp_millis: u64, rtp_time| {
        let ntp_time = (0xE000_0000 << 32) + (ntp_millis << 32) / 1000;
        let report = SenderReport { ssrc, ntp_time, rtp_time, ..Default::default() };
        RTCMessage::RtcpPacket(String::new(), vec![Box::new(report) as Box<dyn rtc::rtcp::Packet>])
    };
    world.write(report(VIDEO_SSRC, 1_000, 0));
    world.write(report(AUDIO_SSRC, 900, 0));
    world.exchange();
    for number in 5..10 {
        world.frame(number, false);
    }
    let batches = batches(&mut reader);
    let offset = |index: usize| {
        let video = &packets(&batches, MediaKind::Video)[2 * index + 2];
        let audio = &packets(&batches, MediaKind::Audio)[index];
        assert_eq!(video.timestamp / 1_800, audio.timestamp / 960);
        (video.pts.as_nanos() - audio.pts.as_nanos() + 500_000).div_euclid(1_000_000)
    };
    assert_eq!((offset(4), offset(8)), (0, 100));
}

#[test]
fn a_vanished_publisher_is_found_within_10_s() {
    let mut world = World::connected(&BOTH);
    for number in 0..5 {
        world.frame(number, number == 0);
    }
    world.cut = true;
    let cut = world.now;
    world.run_until(Duration::from_secs(10), |world| matches!(world.session.state(), SessionState::Ended(_)));
    eprintln!("{:?} after {:?}", world.session.state(), world.now - cut);
    assert!(world.hub.get(&name()).expect("in its grace").source().is_none(), "the name is free");
}

#[test]
fn a_quiet_publisher_stays() {
    let mut world = World::connected(&BOTH);
    world.run(Duration::from_secs(30));
    assert_eq!(world.session.state(), SessionState::Connected);
}

#[test]
fn a_publisher_that_never_comes_is_given_up() {
    let mut world = World::new(&BOTH);
    world.cut = true;
    world.run(Duration::from_secs(11));
    assert!(matches!(world.session.state(), SessionState::Ended(_)));
    assert!(world.hub.get(&name()).expect("in its grace").source().is_none());
}

#[test]
fn closing_tells_the_publisher_and_frees_the_name() {
    let mut world = World::connected(&BOTH);
    world.wire.0.clear();
    world.session.close(world.now, "closed", &mut world.wire);
    let farewell = std::mem::take(&mut world.wire.0);
    assert!(farewell.iter().any(|(_, data)| (20..64).contains(&data[0])), "a DTLS alert");
    assert!(world.hub.get(&name()).expect("in its grace").source().is_none());
    // RFC 9725 §4.2: no STUN answer after the end.
    let end = world.now + Duration::from_secs(3);
    while world.now < end {
        world.client.handle_timeout(world.now).expect("timers");
        while let Some(datagram) = world.client.poll_write() {
            world.receive(address(CLIENT), datagram.message);
        }
        world.session.handle_timeout(world.now, &mut world.wire);
        world.now += STEP;
    }
    assert!(world.wire.0.is_empty());
}

#[test]
fn a_publisher_that_closes_ends_its_session() {
    let mut world = World::connected(&BOTH);
    world.client.close().expect("closes");
    world.exchange();
    assert_eq!(world.session.state(), SessionState::Ended("the peer closed the session"));
}

#[test]
fn a_kicked_publisher_is_closed() {
    let mut world = World::connected(&BOTH);
    assert!(world.hub.get(&name()).expect("live").kick_publisher());
    world.run(STEP);
    assert_eq!(world.session.state(), SessionState::Ended("the publisher was kicked"));
}

#[test]
fn a_second_publisher_is_refused() {
    let world = World::new(&BOTH);
    let (_, offer) = publisher(world.now, &BOTH, Arc::default());
    let refused = session(&world.hub, world.now, &offer);
    assert_eq!(refused.err(), Some(SessionError::StreamTaken(name())));
}

#[test]
fn strangers_are_not_listened_to() {
    let mut world = World::connected(&BOTH);
    let stranger = address("127.0.0.1:6000");
    // A DTLS close_notify in the clear, garbage, and a binding request without integrity.
    let alert = [21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0];
    let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    request.extend([7; 12]);
    for data in [&alert[..], &[0xff; 40], &[0; 3], &[], &request] {
        world.receive(stranger, BytesMut::from(data));
        assert!(world.wire.0.is_empty(), "no answer");
    }
    for number in 0..3 {
        world.frame(number, number == 0);
    }
    assert_eq!(world.session.state(), SessionState::Connected);
}

#[test]
fn no_offer_is_a_fault_of_ours() {
    let now = Instant::now();
    let (hub, _reaper) = Hub::new(Duration::ZERO);
    let (_, offer) = publisher(now, &BOTH, Arc::default());
    let lines: Vec<&str> = offer.lines().collect();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let mut accepted = 0;
    for round in 0..600 {
        let mut changed: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        for _ in 0..=round % 3 {
            let (at, other) = (random(changed.len()), random(lines.len()));
            match random(5) {
                0 => drop(changed.remove(at)),
                1 => changed.insert(at, lines[other].to_owned()),
                2 => changed[at] = lines[other].to_owned(),
                3 => {
                    let cut = random(changed[at].len() + 1);
                    changed[at].truncate(cut);
                }
                _ => {
                    let mut bytes = changed[at].clone().into_bytes();
                    let index = random(bytes.len().max(1));
                    if let Some(byte) = bytes.get_mut(index) {
                        *byte = b" 0:9=;/aZ\t\0~"[random(12)];
                    }
                    changed[at] = String::from_utf8_lossy(&bytes).into_owned();
                }
            }
        }
        let text = changed.join("\r\n") + "\r\n";
        match session(&hub, now, &text) {
            Ok(_) => accepted += 1,
            Err(SessionError::MalformedOffer(_) | SessionError::UnacceptableOffer(_)) => {}
            Err(other) => panic!("{other}\n{text}"),
        }
    }
    assert!((100..500).contains(&accepted), "{accepted} of 600 were still good");
}

#[test]
fn garbage_from_a_known_address_ends_nothing() {
    let mut world = World::connected(&BOTH);
    let mut seed = 1_u32;
    for length in 0..400_usize {
        let garbage: Vec<u8> = (0..length)
            .map(|index| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // First bytes of STUN, DTLS, RTP, RTCP and nothing.
                if index == 0 {
                    [0, 1, 20, 22, 23, 64, 128, 144, 255][length % 9]
                } else {
                    (seed >> 24) as u8
                }
            })
            .collect();
        world.receive(address(CLIENT), BytesMut::from(&garbage[..]));
        world.session.flush(world.now, &mut world.wire);
    }
    let mut reader = world.subscribe();
    for number in 0..3 {
        world.frame(number, number == 0);
    }
    assert_eq!(world.session.state(), SessionState::Connected);
    assert_eq!(packets(&batches(&mut reader), MediaKind::Video).len(), 7);
}

#[test]
fn sources_that_the_offer_does_not_declare_are_learned() {
    let without = |offer: String| {
        let lines = offer.lines().filter(|line| !line.starts_with("a=ssrc") && !line.starts_with("a=msid"));
        lines.flat_map(|line| [line, "\r\n"]).collect()
    };
    let mut world = World::with_offer(&BOTH, without).connect();
    let mut reader = world.subscribe();
    world.lose = [65_510, 65_520].into();
    for number in 0..30 {
        world.frame(number, number == 0);
    }
    world.run(Duration::from_millis(200));
    let batches = batches(&mut reader);
    let video = packets(&batches, MediaKind::Video);
    assert_eq!((video.len(), packets(&batches, MediaKind::Audio).len()), (61, 30));
    assert_eq!(video[0].payload[0], 0x67, "from the first packet on");
}

#[test]
fn a_publisher_without_usable_candidates_connects() {
    let hidden = |offer: String| {
        let lines = offer.lines().map(|line| match line.strip_prefix("a=candidate:") {
            Some(_) => "a=candidate:1 1 udp 2130706431 0a1b-2c.local 5000 typ host",
            None => line,
        });
        lines.flat_map(|line| [line, "\r\n"]).collect()
    };
    let mut world = World::with_offer(&BOTH, hidden).connect();
    assert!(world.proven);
    world.frame(0, true);
    assert_eq!(world.hub.get(&name()).expect("live").statistics().snapshot().keyframes, 1);
}

#[test]
fn a_quiet_session_costs_little() {
    let mut world = World::connected(&BOTH);
    let (end, mut calls) = (world.now + Duration::from_secs(10), 0);
    while world.now < end {
        world.exchange();
        world.now += STEP;
        world.client.handle_timeout(world.now).expect("timers");
        if world.session.deadline().is_some_and(|deadline| world.now >= deadline) {
            world.session.handle_timeout(world.now, &mut world.wire);
            calls += 1;
        }
    }
    assert_eq!(world.session.state(), SessionState::Connected);
    assert!(calls < 200, "{calls} timeouts in 10 s");
}

#[test]
fn a_tenth_of_all_packets_lost_at_50_ms_round_trip_is_repaired() {
    let mut world = World::connected(&BOTH);
    let mut reader = world.subscribe();
    (world.delay, world.loss) = (Duration::from_millis(25), 10);
    let mut video = Vec::new();
    for number in 0..1_000 {
        world.frame(number, number == 0);
        video.extend(packets(&batches(&mut reader), MediaKind::Video));
    }
    world.loss = 0;
    world.run(Duration::from_millis(500));
    video.extend(packets(&batches(&mut reader), MediaKind::Video));
    let distinct: HashSet<u64> = video.iter().map(|packet| packet.sequence).collect();
    assert_eq!(distinct.len(), video.len(), "none twice");
    assert!(video.len() >= 1_998, "{} of 2001", video.len());
    assert_eq!(world.session.state(), SessionState::Connected);
}

/// Header extensions of the simulcast offer.
const RID: u8 = 10;
const REPAIRED_RID: u8 = 11;
/// The encodings in the order of the offer: SSRC, that of the retransmissions, size in macroblocks.
const ENCODINGS: [(&str, u32, u32, (u32, u32)); 3] =
    [("q", 0x51, 0x61, (20, 12)), ("h", 0x52, 0x62, (40, 23)), ("f", 0x53, 0x63, (80, 45))];

impl World {
    fn simulcast() -> Self {
        let with_rids = |offer: String| {
            let lines = offer.lines().filter(|line| !line.starts_with("a=ssrc"));
            let offer: String = lines.flat_map(|line| [line, "\r\n"]).collect();
            offer.replace(
                "a=rtpmap:96 ",
                "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
                 a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\n\
                 a=rid:q send\r\na=rid:h send\r\na=rid:f send\r\na=simulcast:send q;h;f\r\na=rtpmap:96 ",
            )
        };
        Self::with_offer(&[MediaKind::Video], with_rids).connect()
    }

    /// A packet of an encoding, with its name in front if `named`.
    fn encoding_packet(&mut self, encoding: usize, number: u16, timestamp: u32, named: bool, payload: &[u8]) {
        let (rid, ssrc, ..) = ENCODINGS[encoding];
        let extension = named.then_some((RID, rid));
        self.raw(VIDEO_TYPE, ssrc, number, timestamp, extension, payload);
    }

    /// The same again, as a retransmission.
    fn repair_packet(&mut self, encoding: usize, number: u16, original: u16, timestamp: u32, payload: &[u8]) {
        let (rid, _, ssrc, _) = ENCODINGS[encoding];
        let payload = [&original.to_be_bytes()[..], payload].concat();
        self.raw(97, ssrc, number, timestamp, Some((REPAIRED_RID, rid)), &payload);
    }

    fn raw(
        &mut self,
        payload_type: u8,
        ssrc: u32,
        sequence_number: u16,
        timestamp: u32,
        extension: Option<(u8, &str)>,
        payload: &[u8],
    ) {
        let mut header = rtc::rtp::Header {
            version: 2,
            marker: true,
            payload_type,
            sequence_number,
            timestamp,
            ssrc,
            ..Default::default()
        };
        if let Some((id, value)) = extension {
            header.extension = true;
            header.extension_profile = 0xbede;
            header.set_extension(id, Bytes::copy_from_slice(value.as_bytes())).expect("fits");
        }
        let packet = rtc::rtp::Packet { header, payload: Bytes::copy_from_slice(payload) };
        self.write(RTCMessage::RtpPacket(String::new(), packet));
    }
}

/// A keyframe in one packet: parameter set and IDR slice.
fn keyframe((width, height): (u32, u32)) -> Vec<u8> {
    let set = parameter_set(width, height);
    [&[0x78, 0, set.len() as u8][..], &set, &[0, 2, 0x65, 1]].concat()
}

#[test]
fn w21_all_encodings_of_simulcast_are_in_the_answer() {
    let world = World::simulcast();
    for line in ["a=rid:q recv", "a=rid:h recv", "a=rid:f recv", "a=simulcast:recv q;h;f"] {
        assert!(world.answer.lines().any(|other| other == line), "{line} is not in {}", world.answer);
    }
    assert!(world.answer.contains("a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"));
    assert!(world.answer.contains("a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"));
}

#[test]
fn encodings_become_layers_with_the_best_first_on_one_timeline() {
    let mut world = World::simulcast();
    let mut reader = world.subscribe();
    let starts = [7, u32::MAX - 9_000, 123_456];
    for number in 0..100_u32 {
        for (encoding, (.., size)) in ENCODINGS.iter().enumerate() {
            let payload = if number == 0 { keyframe(*size) } else { vec![0x41; 100 * (encoding + 1)] };
            let timestamp = starts[encoding].wrapping_add(number * 1_800);
            // Its name stands in the first packets only.
            world.encoding_packet(encoding, 500 + number as u16, timestamp, number < 3, &payload);
        }
        if number == 10 {
            for (encoding, (_, ssrc, ..)) in ENCODINGS.iter().enumerate() {
                let rtp_time = starts[encoding].wrapping_add(number * 1_800);
                let ntp_time = 0xE000_0000 << 32;
                let report = SenderReport { ssrc: *ssrc, ntp_time, rtp_time, ..Default::default() };
                let reports = vec![Box::new(report) as Box<dyn rtc::rtcp::Packet>];
                world.write(RTCMessage::RtcpPacket(String::new(), reports));
            }
        }
        world.run(Duration::from_millis(20));
    }
    let batches = batches(&mut reader);
    let video = packets(&batches, MediaKind::Video);
    assert_eq!(video.len(), 300);
    assert!(batches.iter().all(|batch| batch.epoch.id == batches[0].epoch.id), "one epoch");
    let described = batches[0].epoch.tracks.video.as_ref().expect("video");
    assert_eq!(described.resolution, Some((1280, 720)), "that of the best layer");
    assert!(batches[0].packets[0].keyframe && batches[0].packets[0].layer == 0);
    let layer = |layer: u8| -> Vec<&Packet> { video.iter().filter(|packet| packet.layer == layer).collect() };
    for (number, size) in [(0, 300), (1, 200), (2, 100)] {
        let packets = layer(number);
        assert_eq!((packets.len(), packets[5].payload.len(), packets[0].keyframe), (100, size, true));
        assert!(packets.windows(2).all(|pair| pair[1].sequence == pair[0].sequence + 1));
    }
    // After the reports the same picture lies at the same time in all layers.
    for number in 20..100 {
        let times: Vec<i64> = (0..3).map(|at| layer(at)[number].pts.as_nanos() / 1_000).collect();
        assert!(times.iter().all(|time| time.abs_diff(times[0]) < 10), "{times:?} µs");
    }
    let layers = world.hub.get(&name()).expect("live").layers();
    let told: Vec<_> =
        layers.iter().map(|layer| (layer.rid.as_str(), layer.resolution, layer.active)).collect();
    let expected =
        [("f", Some((1280, 720)), true), ("h", Some((640, 368)), true), ("q", Some((320, 192)), true)];
    assert_eq!(told, expected);
    assert!((100_000..140_000).contains(&layers[0].bitrate), "{} bits a second", layers[0].bitrate);
    let counted = world.hub.get(&name()).expect("live").statistics().snapshot();
    assert!((99..=100).contains(&counted.video_frames), "{} frames of the best layer", counted.video_frames);
}

#[test]
fn an_encoding_that_falls_silent_is_not_active_and_is_not_asked() {
    let mut world = World::simulcast();
    let stream = world.hub.get(&name()).expect("live");
    for number in 0..250_u32 {
        for (encoding, (.., size)) in ENCODINGS.iter().enumerate() {
            if number < 100 || encoding == 0 {
                let payload = if number == 0 { keyframe(*size) } else { vec![0x41; 10] };
                world.encoding_packet(encoding, number as u16, number * 1_800, true, &payload);
            }
        }
        world.run(Duration::from_millis(20));
    }
    let active: Vec<bool> = stream.layers().iter().map(|layer| layer.active).collect();
    assert_eq!(active, [false, false, true]);
    world.feedback.keyframes_of.lock().clear();
    stream.request_keyframe();
    world.encoding_packet(0, 250, 250 * 1_800, true, &[0x41; 10]);
    world.run(Duration::from_millis(100));
    assert_eq!(*world.feedback.keyframes_of.lock(), [ENCODINGS[0].1]);
}

#[test]
fn keyframes_are_asked_of_the_wanted_layer_only() {
    let mut world = World::simulcast();
    for number in 0..60_u32 {
        for (encoding, (.., size)) in ENCODINGS.iter().enumerate() {
            let payload = if number == 0 { keyframe(*size) } else { vec![0x41; 10] };
            world.encoding_packet(encoding, number as u16, number * 1_800, true, &payload);
        }
        world.run(Duration::from_millis(20));
        if number == 30 {
            world.hub.get(&name()).expect("live").request_layer_keyframe(1);
        }
    }
    assert_eq!(*world.feedback.keyframes_of.lock(), [ENCODINGS[1].1]);
}

#[test]
fn losses_of_each_encoding_are_repaired_by_its_own_retransmissions() {
    let mut world = World::simulcast();
    let mut reader = world.subscribe();
    let (mut repairs, mut repaired) = (0_u16, HashSet::new());
    for number in 0..120_u32 {
        for (encoding, (.., size)) in ENCODINGS.iter().enumerate() {
            let lost = number % 10 == 3 + encoding as u32;
            if !lost {
                let payload =
                    if number == 0 { keyframe(*size) } else { vec![0x41, number as u8, encoding as u8] };
                world.encoding_packet(
                    encoding,
                    65_480_u16.wrapping_add(number as u16),
                    number * 1_800,
                    true,
                    &payload,
                );
            }
        }
        world.run(Duration::from_millis(20));
        let lost = std::mem::take(&mut *world.feedback.lost.lock());
        for (ssrc, sequence) in lost {
            let encoding =
                ENCODINGS.iter().position(|(_, media, ..)| *media == ssrc).expect("a source of ours");
            let number = u32::from(sequence.wrapping_sub(65_480));
            let payload = [0x41, number as u8, encoding as u8];
            if repaired.insert((ssrc, sequence)) {
                world.repair_packet(encoding, repairs, sequence, number * 1_800, &payload);
                repairs += 1;
            }
        }
    }
    world.run(Duration::from_millis(100));
    let video = packets(&batches(&mut reader), MediaKind::Video);
    assert_eq!((repairs, video.len()), (36, 360));
    for packet in video.iter().filter(|packet| packet.payload.len() == 3) {
        assert_eq!(packet.layer, 2 - packet.payload[2], "a repair belongs to its encoding");
        assert_eq!(packet.timestamp, u32::from(packet.payload[1]) * 1_800);
    }
}

#[test]
fn an_encoding_that_comes_late_is_the_better_one() {
    let mut world = World::simulcast();
    let mut reader = world.subscribe();
    for number in 0..200_u32 {
        for (encoding, (.., size)) in ENCODINGS.iter().enumerate() {
            // As congestion control does: the small one first, the others when there is room for them.
            let begins = 80 * encoding as u32;
            if number >= begins {
                let payload = if number == begins { keyframe(*size) } else { vec![0x41; 10] };
                world.encoding_packet(encoding, number as u16, number * 1_800, true, &payload);
            }
        }
        world.run(Duration::from_millis(20));
    }
    let layers = world.hub.get(&name()).expect("live").layers();
    let rids: Vec<&str> = layers.iter().map(|layer| layer.rid.as_str()).collect();
    assert_eq!(rids, ["f", "h", "q"]);
    assert_eq!(layers[0].resolution, Some((1280, 720)));
    let video = packets(&batches(&mut reader), MediaKind::Video);
    assert!(video.iter().any(|packet| packet.layer == 0 && packet.keyframe));
}

#[test]
fn unknown_encodings_and_sources_are_not_taken() {
    let mut world = World::simulcast();
    let mut reader = world.subscribe();
    for number in 0..60_u16 {
        for (encoding, (.., size)) in ENCODINGS.iter().enumerate() {
            let payload = if number == 0 { keyframe(*size) } else { vec![0x41; 10] };
            world.encoding_packet(encoding, number, u32::from(number) * 1_800, true, &payload);
        }
        world.raw(VIDEO_TYPE, 0x99, number, 0, Some((RID, "x")), &[0x65; 10]);
        world.raw(VIDEO_TYPE, 0x98, number, 0, None, &[0x65; 10]);
        // Another source that claims a name whose own is alive.
        world.raw(VIDEO_TYPE, 0x97, number, 0, Some((RID, "f")), &[0x65; 10]);
        world.run(Duration::from_millis(20));
    }
    assert_eq!(packets(&batches(&mut reader), MediaKind::Video).len(), 180);
}
