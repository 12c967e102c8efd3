//! Sessions against a publisher made of `rtc`'s whole stack: both in memory, on a virtual clock.

mod client;
mod media;
mod session;
mod simulcast;

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
use rtc::rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
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
    /// When keyframes were asked for, and of which SSRCs: one entry a datagram.
    keyframes_of: Mutex<Vec<(Instant, Vec<u32>)>>,
    /// The SSRCs and sequence numbers that were asked for again.
    lost: Mutex<Vec<(u32, u16)>>,
    /// Bits a second, and the SSRCs that they are for.
    estimates: Mutex<Vec<(u64, Vec<u32>)>>,
}

impl World {
    fn new(kinds: &[MediaKind]) -> Self {
        Self::with_offer(kinds, |offer| offer)
    }

    fn with_offer(kinds: &[MediaKind], change: impl FnOnce(String) -> String) -> Self {
        let now = Instant::now();
        let feedback = Arc::new(Feedback::default());
        let (mut client, offer) = client::publisher(now, kinds, feedback.clone());
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

    /// The SSRCs that keyframes were asked of, one entry a datagram, since the last call.
    fn keyframes_asked_of(&self) -> Vec<Vec<u32>> {
        self.feedback.keyframes_of.lock().drain(..).map(|(_, sources)| sources).collect()
    }

    fn millis(&self) -> u64 {
        (self.now - self.start).as_millis() as u64
    }
}

/// All batches that are there now.
fn batches(reader: &mut Subscriber<PacketBatch>) -> Vec<Arc<PacketBatch>> {
    std::iter::from_fn(|| reader.try_recv()).collect()
}

fn packets(batches: &[Arc<PacketBatch>], kind: MediaKind) -> Vec<Packet> {
    batches.iter().flat_map(|batch| &batch.packets).filter(|packet| packet.kind == kind).cloned().collect()
}

const BOTH: [MediaKind; 2] = [MediaKind::Audio, MediaKind::Video];

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
