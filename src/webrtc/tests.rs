//! The door, with a real socket and worker.

use super::SessionKind::Whep;
use super::*;
use crate::media::{Codec, Epoch, MediaKind, MediaTime, Packet, Tracks, VideoTrack};
use crate::stream::{Publisher, Source, SourceKind};
use bytes::Bytes;
use std::time::SystemTime;

const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n\
    c=IN IP4 0.0.0.0\r\na=ice-ufrag:them\r\na=ice-pwd:0123456789012345678901\r\n\
    a=fingerprint:sha-256 AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:\
    AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB\r\na=setup:actpass\r\na=mid:0\r\na=recvonly\r\na=rtcp-mux\r\n\
    a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;profile-level-id=42e01f\r\n";

fn name() -> StreamName {
    "a".parse().expect("a name")
}

fn remote() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}

fn start() -> (Arc<WebRtc>, Hub) {
    let (hub, _reaper) = Hub::new(Duration::from_secs(60));
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let settings = WebRtcSettings { workers: 2, ..WebRtcSettings::new(listen) };
    (WebRtc::start(settings, hub.clone()).expect("started"), hub)
}

fn publish(hub: &Hub) -> (Publisher<PacketBatch>, Arc<Epoch>) {
    let source = Source { kind: SourceKind::Whip, remote: None };
    let publisher = hub.publish::<PacketBatch>(name(), source).expect("free");
    let video = VideoTrack::new(Codec::H264);
    let epoch = publisher.begin_epoch(Tracks { video: Some(video), audio: None }, SystemTime::UNIX_EPOCH);
    (publisher, epoch)
}

fn keyframe(epoch: &Arc<Epoch>) -> PacketBatch {
    let packet = Packet {
        kind: MediaKind::Video,
        layer: 0,
        sequence: 1,
        timestamp: 0,
        pts: MediaTime::ZERO,
        marker: true,
        keyframe: true,
        payload: Bytes::from_static(&[0x65]),
    };
    PacketBatch { epoch: epoch.clone(), packets: vec![packet] }
}

#[tokio::test]
async fn a_viewer_of_nothing_is_told_so() {
    let (webrtc, hub) = start();
    let error = webrtc.whep(&name(), OFFER, remote()).await.expect_err("no such stream");
    assert_eq!(error, SessionError::UnknownStream(name()));
    let (publisher, epoch) = publish(&hub);
    let error = webrtc.whep(&name(), "nonsense", remote()).await.expect_err("not SDP");
    assert!(matches!(error, SessionError::MalformedOffer(_)), "{error:?}");
    publisher.write(keyframe(&epoch));
    drop(publisher);
    let error = webrtc.whep(&name(), OFFER, remote()).await.expect_err("waits for its publisher");
    assert_eq!(error, SessionError::NotLive(name()));
    webrtc.shutdown().await;
}

#[tokio::test]
async fn a_viewer_waits_for_the_first_packet_and_is_counted_until_it_goes() {
    let (webrtc, hub) = start();
    let (publisher, epoch) = publish(&hub);
    let request = tokio::spawn({
        let webrtc = webrtc.clone();
        async move { webrtc.whep(&name(), OFFER, remote()).await }
    });
    let mut lanes = publisher.stream().watch_lanes();
    lanes.wait_for(|lanes| lanes.packet_readers > 0).await.expect("a reader");
    publisher.write(keyframe(&epoch));
    let answer = request.await.expect("no panic").expect("accepted");
    let candidate = format!("udp 2130706431 127.0.0.1 {} typ host", webrtc.local_addr().port());
    assert!(answer.sdp.contains(&candidate), "{}", answer.sdp);
    assert_eq!(publisher.stream().statistics().snapshot().whep_readers, 1);
    webrtc
        .patch(Whep, &answer.session, &answer.etag, "a=ice-ufrag:them\r\na=end-of-candidates\r\n")
        .await
        .expect("taken");
    let stale = webrtc.patch(Whep, &answer.session, "\"other\"", "").await;
    assert_eq!(stale, Err(SessionError::StaleEntityTag));
    let other_kind = webrtc.close(SessionKind::Whip, &answer.session).await;
    assert_eq!(other_kind, Err(SessionError::UnknownSession));
    let error = webrtc.patch(Whep, &answer.session, "*", "hello").await.expect_err("not a fragment");
    assert!(matches!(error, SessionError::MalformedFragment(_)));
    webrtc.close(Whep, &answer.session).await.expect("known");
    assert_eq!(publisher.stream().statistics().snapshot().whep_readers, 0);
    assert_eq!(webrtc.close(Whep, &answer.session).await, Err(SessionError::UnknownSession));
    assert_eq!(webrtc.patch(Whep, &answer.session, "*", "").await, Err(SessionError::UnknownSession));
    webrtc.shutdown().await;
}

/// A stream of VP9.
fn publish_vp9(hub: &Hub) -> Publisher<PacketBatch> {
    let source = Source { kind: SourceKind::Whip, remote: None };
    let publisher = hub.publish::<PacketBatch>(name(), source).expect("free");
    let tracks = Tracks { video: Some(VideoTrack::new(Codec::Vp9)), audio: None };
    let epoch = publisher.begin_epoch(tracks, SystemTime::UNIX_EPOCH);
    publisher.write(keyframe(&epoch));
    publisher
}

#[tokio::test]
async fn a_viewer_without_the_streams_codec_reads_the_compatible_packets_and_another_the_published_ones() {
    let (webrtc, hub) = start();
    let publisher = publish_vp9(&hub);
    let stream = publisher.stream().clone();
    let other =
        OFFER.replace("H264/90000\r\na=fmtp:96 packetization-mode=1;profile-level-id=42e01f", "VP9/90000");
    let other = webrtc.whep(&name(), &other, remote()).await.expect("as it is");
    assert!(!other.transcoded && stream.watch_lanes().borrow().compatible_packet_readers == 0);
    let request = tokio::spawn({
        let webrtc = webrtc.clone();
        async move { webrtc.whep(&name(), OFFER, remote()).await }
    });
    let mut lanes = stream.watch_lanes();
    lanes.wait_for(|lanes| lanes.compatible_packet_readers > 0).await.expect("a reader");
    let bridge = stream.bridge::<CompatiblePackets>();
    let tracks = Tracks { video: Some(VideoTrack::new(Codec::H264)), audio: None };
    let epoch = bridge.begin_epoch(tracks, SystemTime::UNIX_EPOCH);
    bridge.write(CompatiblePackets(keyframe(&epoch)));
    let answer = request.await.expect("no panic").expect("accepted");
    assert!(answer.transcoded && answer.sdp.contains("a=rtpmap:96 H264/90000"), "{}", answer.sdp);
    assert_eq!(stream.statistics().snapshot().whep_readers, 2);
    webrtc.close(Whep, &answer.session).await.expect("known");
    let left = lanes.wait_for(|lanes| lanes.compatible_packet_readers == 0);
    tokio::time::timeout(Duration::from_secs(10), left).await.expect("soon").expect("no reader is left");
    assert!(lanes.borrow().packet_readers > 0, "the other goes on");
    webrtc.shutdown().await;
}

#[tokio::test]
async fn without_transcoding_nobody_reads_the_compatible_packets() {
    let (hub, _reaper) = Hub::new(Duration::from_secs(60));
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let transcoding = Transcoding { video: VideoTranscoding::Off, ..Transcoding::default() };
    let settings = WebRtcSettings { workers: 1, transcoding, ..WebRtcSettings::new(listen) };
    let webrtc = WebRtc::start(settings, hub.clone()).expect("started");
    let publisher = publish_vp9(&hub);
    let lanes = publisher.stream().watch_lanes();
    let refused = webrtc.whep(&name(), OFFER, remote()).await.expect_err("no VP9");
    let expected = SessionError::NoCommonCodec {
        stream: Codec::Vp9,
        offered: "H264".into(),
        h264: Some(NotEncoded::Off),
    };
    assert_eq!(refused, expected);
    assert_eq!(lanes.borrow().compatible_packet_readers, 0);
    webrtc.shutdown().await;
}

#[tokio::test]
async fn without_processor_time_nothing_is_encoded_for_a_first_viewer() {
    let (hub, _reaper) = Hub::new(Duration::from_secs(60));
    let settings =
        WebRtcSettings { workers: 1, ..WebRtcSettings::new(SocketAddr::from(([127, 0, 0, 1], 0))) };
    let budget = settings.budget.clone();
    let webrtc = WebRtc::start(settings, hub.clone()).expect("started");
    let publisher = publish_vp9(&hub);
    budget.spend(Instant::now());
    let refused = webrtc.whep(&name(), OFFER, remote()).await.expect_err("no VP9");
    assert!(refused.to_string().contains("transcode.cpu_budget"), "{refused}");
    assert_eq!(publisher.stream().watch_lanes().borrow().compatible_packet_readers, 0);
    webrtc.shutdown().await;
}

#[tokio::test]
async fn after_the_stream_or_the_server_nothing_is_left() {
    let (webrtc, hub) = start();
    let (publisher, epoch) = publish(&hub);
    publisher.write(keyframe(&epoch));
    let first = webrtc.whep(&name(), OFFER, remote()).await.expect("accepted");
    let stream = publisher.stream().clone();
    hub.close();
    // The worker hears of the end by itself: asked in turn, it does not know the session any more.
    let gone = async {
        while webrtc.patch(Whep, &first.session, "*", "").await != Err(SessionError::UnknownSession) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.expect("told at once");
    assert_eq!(stream.statistics().snapshot().whep_readers, 0);
    webrtc.shutdown().await;
    assert_eq!(webrtc.close(Whep, &first.session).await, Err(SessionError::Closing));
    webrtc.shutdown().await; // a second time is no fault
}

#[tokio::test]
async fn garbage_and_foreign_checks_get_no_answer() {
    let (webrtc, hub) = start();
    let (publisher, epoch) = publish(&hub);
    publisher.write(keyframe(&epoch));
    let answer = webrtc.whep(&name(), OFFER, remote()).await.expect("accepted");
    let fragment = answer.sdp.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).expect("a fragment");
    let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("bound");
    client.connect(webrtc.local_addr()).await.expect("connected");
    let mut stun = vec![0, 1, 0, 20, 0x21, 0x12, 0xa4, 0x42];
    stun.extend([7; 12]);
    stun.extend([0, 6, 0, 13]);
    stun.extend(format!("{fragment}:them").as_bytes());
    stun.resize(40, 0);
    let hello = [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1];
    for datagram in [&[][..], &[0xff; 100], &stun, &hello, &[0x80; 40]] {
        client.send(datagram).await.expect("sent");
    }
    // Commands are taken after the datagrams: the worker lives, and has said nothing.
    webrtc.patch(Whep, &answer.session, &answer.etag, "").await.expect("alive");
    let mut buffer = [0; 1500];
    let silence = tokio::time::timeout(Duration::from_millis(200), client.recv(&mut buffer)).await;
    assert!(silence.is_err(), "{silence:?}");
    let counted = webrtc.dropped().map(|(reason, count)| (reason.name(), count));
    let each_once = ["unintelligible", "unauthentic_stun", "stray_dtls", "stray_media"];
    assert_eq!(counted.map(|(name, _)| (name, u64::from(each_once.contains(&name)))), counted);
    webrtc.shutdown().await;
}

#[tokio::test]
async fn sessions_that_nobody_shows_up_for_are_bounded_for_each_source() {
    let (hub, _reaper) = Hub::new(Duration::from_secs(60));
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let settings = WebRtcSettings { half_open_per_source: 2, half_open: 3, ..WebRtcSettings::new(listen) };
    let refusals = settings.refusals.clone();
    let webrtc = WebRtc::start(settings, hub.clone()).expect("started");
    let (publisher, epoch) = publish(&hub);
    publisher.write(keyframe(&epoch));
    let other = SocketAddr::from(([192, 0, 2, 1], 1));
    let first = webrtc.whep(&name(), OFFER, remote()).await.expect("room");
    webrtc.whep(&name(), OFFER, remote()).await.expect("room");
    let refused = webrtc.whep(&name(), OFFER, remote()).await.expect_err("too many of this source");
    assert_eq!(refused, SessionError::Overloaded);
    webrtc.whep(&name(), OFFER, other).await.expect("room for others");
    let refused = webrtc.whep(&name(), OFFER, other).await.expect_err("too many in all");
    assert_eq!(refused, SessionError::Overloaded);
    webrtc.close(Whep, &first.session).await.expect("known");
    webrtc.whep(&name(), OFFER, remote()).await.expect("room again");
    assert!(refusals.snapshot().contains(&(Limit::HalfOpen, 2)));
    webrtc.shutdown().await;
}

#[tokio::test]
async fn viewers_of_one_stream_are_served_by_several_workers_and_found_there() {
    let (hub, _reaper) = Hub::new(Duration::from_secs(60));
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let settings = WebRtcSettings { workers: 2, half_open_per_source: 500, ..WebRtcSettings::new(listen) };
    let webrtc = WebRtc::start(settings, hub.clone()).expect("started");
    let (publisher, epoch) = publish(&hub);
    publisher.write(keyframe(&epoch));
    let (mut sessions, mut etags) = (Vec::new(), Vec::new());
    for _ in 0..160 {
        let answer = webrtc.whep(&name(), OFFER, remote()).await.expect("accepted");
        sessions.push(answer.session);
        etags.push(answer.etag);
    }
    let worker = |session: &SessionId| webrtc.shared.directory.by_session(*session);
    let on = |number| sessions.iter().filter(|session| worker(session) == Some(number)).count();
    assert!(on(0) >= 120 && on(1) > 0 && on(0) + on(1) == 160, "{} and {}", on(0), on(1));
    for (session, etag) in sessions.iter().zip(&etags) {
        assert_eq!(webrtc.patch(Whep, session, etag, "").await, Ok(Patched::Trickled));
    }
    assert_eq!(publisher.stream().statistics().snapshot().whep_readers, 160);
    hub.close();
    let gone = async {
        while sessions.iter().any(|session| worker(session).is_some()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.expect("all are told of the stream's end");
    webrtc.shutdown().await;
}
