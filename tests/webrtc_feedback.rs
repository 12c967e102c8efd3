//! What viewers ask for and who answers: keyframes, retransmissions, the first picture.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{
    Fate, Layer, MediaKind, Picture, PictureSource, Pictures, Programme, Publishing, RtcClient, RtcEvent,
    RtcOptions, Rtcp, Server, decode_errors, eventually, is_rtp, machine, seconds, units_of_h264_file,
};

#[tokio::test]
async fn e08_the_first_picture_comes_from_the_cached_group() {
    let _machine = machine().await;
    let server = Server::start().await;
    // An encoder that ignores requests and makes a keyframe every 20 s.
    let programme = Programme { group: 600, answers_requests: false, ..Programme::default() };
    let (mut publisher, media) = publish(&server, programme).await;
    eventually("the group is under way", seconds(10), || async { (media.sent() > 90).then_some(()) }).await;
    for _ in 0..3 {
        let at_join = media.sent();
        let mut viewer = view(&server, RtcOptions::default()).await;
        let pictures =
            watch(&mut viewer, seconds(10), |picture| picture.number() >= Some(at_join + 30)).await;
        assert!(pictures[0].is_decodable_start(), "the first picture is no keyframe: {:?}", pictures[0]);
        assert_eq!(pictures[0].number(), Some(0), "the keyframe that was sent first");
        let numbers: Vec<_> = pictures.iter().filter_map(Picture::number).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] > pair[0]), "{numbers:?}");
        // What it shows after the first picture can be decoded: nothing is missing in between.
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "a hole in {numbers:?}");
        // It is back at the live edge.
        let behind = media.sent() - numbers.last().expect("a picture");
        assert!(behind < 5, "{behind} pictures behind");
        assert!(timestamps_rise(&pictures), "RTP time goes back");
    }
    assert!(media.sent() < 600, "the second keyframe came too early for this test");
    publisher.drain();
}

#[tokio::test]
async fn e08_a_decoder_takes_all_from_the_first_picture_on() {
    let _machine = machine().await;
    let folder = tempfile::tempdir().expect("a folder");
    let units = Arc::new(units_of_h264_file(&encoded(folder.path())));
    let server = Server::start().await;
    let layers = vec![Layer { rid: None, pictures: PictureSource::File(units) }];
    let programme = Programme { layers, answers_requests: false, ..Programme::default() };
    let (_publisher, media) = publish(&server, programme).await;
    // In the middle of the second group.
    eventually("the group is under way", seconds(20), || async { (media.sent() > 150).then_some(()) }).await;
    let mut viewer = view(&server, RtcOptions::default()).await;
    let mut left = 120;
    let pictures = watch(&mut viewer, seconds(20), |_| {
        left -= 1;
        left == 0
    })
    .await;
    assert!(pictures[0].is_decodable_start());
    assert!(pictures.iter().all(|picture| picture.complete), "a picture with a hole");
    let stream: Vec<u8> = pictures.iter().flat_map(Picture::annex_b).collect();
    let file = folder.path().join("seen.h264");
    std::fs::write(&file, stream).expect("written");
    assert_eq!(decode_errors(file.to_str().expect("a path")).await, "");
}

#[tokio::test]
async fn e09_viewers_ask_the_publisher_at_most_once_a_second() {
    for answers_requests in [true, false] {
        let server = Server::start().await;
        let programme = Programme { group: 600, answers_requests, ..Programme::default() };
        let (mut publisher, _media) = publish(&server, programme).await;
        let mut viewers = Vec::new();
        for _ in 0..4 {
            let mut viewer = view(&server, RtcOptions::default()).await;
            viewer.packet(MediaKind::Video).await;
            viewers.push(viewer);
        }
        publisher.drain();
        let start = Instant::now();
        while start.elapsed() < seconds(5) {
            for viewer in &mut viewers {
                viewer.drain();
                viewer.request_keyframe().await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let asked: Vec<_> = publisher
            .drain()
            .into_iter()
            .filter_map(|event| match event {
                RtcEvent::KeyframeRequest { at, .. } => Some(at),
                _ => None,
            })
            .collect();
        assert!(asked.len() >= 3, "asked {} times in 5 s", asked.len());
        let gaps: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // A request may be late by the loop's turn, the one after it not.
        let shortest = gaps.iter().min().expect("gaps");
        assert!(*shortest > Duration::from_millis(900), "{gaps:?}");
    }
}

#[tokio::test]
async fn e10_a_nack_is_answered_by_rtx_and_not_forwarded() {
    let server = Server::start().await;
    let (mut publisher, _media) = publish(&server, Programme::default()).await;
    let mut viewer = view(&server, RtcOptions::default()).await;
    let primary = viewer.packet(MediaKind::Video).await.payload_type;
    let rtx = rtx_type(&viewer.answer, primary).expect("RTX is negotiated");
    let lossy = Loss::every_20th(primary, rtx);
    viewer.filter_incoming(lossy.filter()).await;
    publisher.drain();
    let missing = lossy.repaired(&mut viewer).await;
    assert_eq!(missing, Vec::<u64>::new(), "not repaired");
    assert!(lossy.rtx() >= lossy.lost().len(), "{} by RTX", lossy.rtx());
    assert_eq!(lossy.repeated(), 0, "repeated in the stream itself");
    assert_no_nack(&mut publisher);
}

#[tokio::test]
async fn e10_a_nack_without_rtx_is_answered_by_the_same_packet() {
    let server = Server::start().await;
    let (mut publisher, _media) = publish(&server, Programme::default()).await;
    let options = RtcOptions { rtx: false, ..RtcOptions::default() };
    let mut viewer = view(&server, options).await;
    let primary = viewer.packet(MediaKind::Video).await.payload_type;
    assert_eq!(rtx_type(&viewer.answer, primary), None);
    viewer.nack_without_rtx().await;
    let lossy = Loss::every_20th(primary, u8::MAX);
    viewer.filter_incoming(lossy.filter()).await;
    publisher.drain();
    let missing = lossy.repaired(&mut viewer).await;
    assert_eq!(missing, Vec::<u64>::new(), "not repaired");
    assert!(lossy.repeated() >= lossy.lost().len(), "{} in the stream itself", lossy.repeated());
    assert_no_nack(&mut publisher);
}

/// Loses some of a viewer's packets, once each, and sees how they come again.
#[derive(Clone)]
struct Loss(Arc<LossState>);

struct LossState {
    primary: u8,
    rtx: u8,
    lost: Mutex<Vec<u16>>,
    rtx_packets: AtomicUsize,
    repeated: AtomicUsize,
}

impl Loss {
    fn every_20th(primary: u8, rtx: u8) -> Self {
        Self(Arc::new(LossState {
            primary,
            rtx,
            lost: Mutex::default(),
            rtx_packets: AtomicUsize::new(0),
            repeated: AtomicUsize::new(0),
        }))
    }

    fn lost(&self) -> Vec<u16> {
        self.0.lost.lock().expect("not poisoned").clone()
    }

    fn rtx(&self) -> usize {
        self.0.rtx_packets.load(Ordering::Relaxed)
    }

    fn repeated(&self) -> usize {
        self.0.repeated.load(Ordering::Relaxed)
    }

    /// Lets 10 packets be lost.
    fn filter(&self) -> impl FnMut(&[u8]) -> Fate + Send + 'static {
        let state = self.0.clone();
        move |data| {
            if !is_rtp(data) {
                return Fate::Pass;
            }
            let (kind, sequence) = (data[1] & 0x7f, u16::from_be_bytes([data[2], data[3]]));
            if kind == state.rtx {
                state.rtx_packets.fetch_add(1, Ordering::Relaxed);
            }
            if kind != state.primary {
                return Fate::Pass;
            }
            let mut lost = state.lost.lock().expect("not poisoned");
            if lost.contains(&sequence) {
                state.repeated.fetch_add(1, Ordering::Relaxed);
                return Fate::Pass;
            }
            if sequence.is_multiple_of(20) && lost.len() < 10 {
                lost.push(sequence);
                return Fate::Drop;
            }
            Fate::Pass
        }
    }

    /// Reads the viewer's packets until 10 were lost and 50 more came; the sequence numbers still missing.
    async fn repaired(&self, viewer: &mut RtcClient) -> Vec<u64> {
        let mut seen = Vec::new();
        let mut after = 0;
        viewer
            .wait_for("ten losses and what follows them", seconds(20), |event| {
                if let RtcEvent::Media(packet) = event
                    && packet.kind == MediaKind::Video
                {
                    seen.push(packet.sequence);
                    after += usize::from(self.lost().len() == 10);
                }
                (after > 100).then_some(())
            })
            .await;
        seen.sort_unstable();
        // The last ones may still be on their way.
        let end = seen[seen.len() - 20];
        (seen[0]..end).filter(|sequence| seen.binary_search(sequence).is_err()).collect()
    }
}

/// The payload type of the retransmissions of `primary` in an answer.
fn rtx_type(answer: &str, primary: u8) -> Option<u8> {
    let wanted = format!("apt={primary}");
    answer.lines().find_map(|line| {
        let (kind, parameters) = line.strip_prefix("a=fmtp:")?.split_once(' ')?;
        parameters.split(';').any(|parameter| parameter.trim() == wanted).then(|| kind.parse().ok())?
    })
}

fn assert_no_nack(publisher: &mut RtcClient) {
    let events = publisher.drain();
    let rtcp = |event: &&RtcEvent| matches!(event, RtcEvent::Rtcp(_));
    assert!(events.iter().any(|event| rtcp(&event)), "the publisher gets RTCP");
    let nack =
        events.iter().find(|event| matches!(event, RtcEvent::Rtcp(rtcp) if matches!(**rtcp, Rtcp::Nack(_))));
    assert!(nack.is_none(), "forwarded: {nack:?}");
}

/// A connected publisher of `show` whose first keyframe is sent.
async fn publish(server: &Server, programme: Programme) -> (RtcClient, Publishing) {
    let mut publisher = RtcClient::publish(server, "show", RtcOptions::default()).await;
    let media = Publishing::start(publisher.sender(), programme);
    publisher.connected().await;
    (publisher, media)
}

/// A connected viewer of `show`.
async fn view(server: &Server, options: RtcOptions) -> RtcClient {
    let mut viewer = RtcClient::view(server, "show", options).await;
    viewer.connected().await;
    viewer
}

/// The pictures that a viewer sees until `last` says so.
async fn watch(
    viewer: &mut RtcClient,
    limit: Duration,
    mut last: impl FnMut(&Picture) -> bool,
) -> Vec<Picture> {
    let mut pictures = Vec::new();
    let mut open = Pictures::default();
    viewer
        .wait_for("the pictures", limit, |event| {
            let RtcEvent::Media(packet) = event else { return None };
            if packet.kind != MediaKind::Video {
                return None;
            }
            let picture = open.push(&packet)?;
            let enough = last(&picture);
            pictures.push(picture);
            enough.then_some(())
        })
        .await;
    pictures
}

fn timestamps_rise(pictures: &[Picture]) -> bool {
    pictures.windows(2).all(|pair| {
        let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        step > 0 && step < 1 << 31
    })
}

/// Six seconds of H.264 with a keyframe every 2 s.
fn encoded(folder: &Path) -> std::path::PathBuf {
    let file = folder.join("source.h264");
    let status = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", "testsrc2=s=640x360:r=30,format=yuv420p"])
        .args(["-t", "6", "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency"])
        .args(["-profile:v", "baseline", "-g", "60", "-sc_threshold", "0", "-b:v", "1M", "-f", "h264"])
        .arg(&file)
        .status();
    assert!(status.is_ok_and(|status| status.success()), "ffmpeg encodes");
    file
}
