//! What no honest client sends: clear errors, and a running stream does not notice.
//!
//! `HOSTILE_CONNECTIONS` makes the flood of changed sessions longer than 6 000 connections.

mod common;

use std::time::{Duration, Instant};

use common::{
    Ffmpeg, Flood, Hls, Message, RtmpClient, Server, Source, decode_errors, eventually, machine, messages_of,
    number, packets, seconds, text,
};
use reqwest::Url;

/// A stream that runs while the test attacks, and the proof that it went on.
struct Witness {
    _publisher: Ffmpeg,
    hls: Hls,
    video: Url,
    first: u64,
    started: Instant,
}

impl Witness {
    async fn start(server: &Server) -> Self {
        let publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("witness"));
        let hls = Hls::open(&server.client, &server.url("/witness/index.m3u8"), seconds(15)).await;
        let video = hls.video.clone().expect("a video rendition");
        let first = hls.wait_for(&video, seconds(2)).await.next_sequence();
        Self { _publisher: publisher, hls, video, first, started: Instant::now() }
    }

    /// At least two more segments came in real time, without a break.
    async fn went_on(self, server: &Server) {
        let playlist = common::eventually("two more segments", seconds(8), || async {
            let playlist = self.hls.playlist(&self.video).await;
            (playlist.next_sequence() >= self.first + 2).then_some(playlist)
        })
        .await;
        let made = (playlist.next_sequence() - self.first) as f64 * 2.0;
        assert!(made > self.started.elapsed().as_secs_f64() - 4.0, "{made} s of media");
        assert!(!playlist.text.contains("#EXT-X-DISCONTINUITY\n"), "{}", playlist.text);
        let folder = tempfile::tempdir().expect("a folder");
        let file = self.hls.download(&self.video, folder.path(), "video").await;
        let path = file.to_str().expect("a path");
        let packets = packets(path, "v").await;
        assert!(packets.windows(2).all(|pair| pair[1].1 - pair[0].1 < 0.1), "no hole");
        assert_eq!(decode_errors(path).await, "");
        assert_eq!(server.get("/healthz").await.status(), 200);
    }
}

/// Chunks of different messages may take turns on the wire. Many servers mix up their payloads.
#[tokio::test]
async fn interleaved_chunks_are_a_stream_like_any_other() {
    let _machine = machine().await;
    let server = Server::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let flv = folder.path().join("source.flv");
    Ffmpeg::render(Source::Baseline, seconds(8), &flv);
    let mut client = RtmpClient::connect(server.rtmp).await;
    client.publish("woven").await;
    let sender = async {
        let started = Instant::now();
        // Each video message is sent in turns with the audio messages that follow it.
        let messages = messages_of(&flv);
        let mut batch: Vec<Message> = Vec::new();
        let mut woven = 0;
        for message in messages {
            let full = batch.iter().any(|other| other.csid == message.csid);
            if full {
                woven +=
                    usize::from(batch.len() > 1 && batch.iter().any(|message| message.payload.len() > 2048));
                client.send_interleaved(&batch).await;
                batch.clear();
                let due = Duration::from_millis(message.time.into());
                tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
            }
            batch.push(message);
        }
        client.send_interleaved(&batch).await;
        assert!(woven > 30, "only {woven} messages were interleaved");
        // Stays until the viewer has seen enough.
        std::future::pending::<()>().await;
    };
    let viewer = async {
        let hls = Hls::open(&server.client, &server.url("/woven/index.m3u8"), seconds(15)).await;
        for (kind, rendition) in hls.renditions() {
            hls.wait_for(rendition, seconds(5)).await;
            let file = hls.download(rendition, folder.path(), kind).await;
            let path = file.to_str().expect("a path");
            assert_eq!(decode_errors(path).await, "", "{kind}");
            let packets = packets(path, &kind[..1]).await;
            assert!(packets.windows(2).all(|pair| pair[1].1 - pair[0].1 < 0.1), "no hole in {kind}");
        }
        assert_eq!(hls.renditions().len(), 2);
    };
    tokio::select! { () = sender => {}, () = viewer => {} }
}

#[tokio::test]
async fn garbage_and_amf_bombs_cost_a_running_stream_nothing() {
    let _machine = machine().await;
    let server = Server::start().await;
    let witness = Witness::start(&server).await;

    // No handshake at all.
    let mut stranger = tokio::net::TcpStream::connect(("127.0.0.1", server.rtmp)).await.expect("open");
    let noise = noise(20_000);
    let _ = tokio::io::AsyncWriteExt::write_all(&mut stranger, &noise).await;

    // Noise behind an honest handshake, and behind an honest login.
    let mut client = RtmpClient::connect(server.rtmp).await;
    client.raw(&noise).await;
    assert!(client.closed_within(seconds(15)).await, "noise after the handshake closes the connection");
    let mut client = RtmpClient::connect(server.rtmp).await;
    client.publish("noise").await;
    client.raw(&noise).await;
    assert!(client.closed_within(seconds(15)).await, "noise after publish closes the connection");

    // 9 000 AMF arrays in each other, 45 kB, before any login.
    let mut nest = [text("connect"), number(1.0)].concat();
    nest.extend([0x0A, 0, 0, 0, 1].repeat(9_000));
    let mut client = RtmpClient::connect(server.rtmp).await;
    client.send(&Message { csid: 3, kind: 20, time: 0, stream: 0, payload: nest.clone() }).await;
    assert!(client.closed_within(seconds(15)).await, "the nest closes the connection");
    // The same as objects, and in a data message of a publisher.
    let mut objects = [text("connect"), number(1.0)].concat();
    objects.extend([3, 0, 1, b'a'].repeat(11_000));
    let mut client = RtmpClient::connect(server.rtmp).await;
    client.send(&Message { csid: 3, kind: 20, time: 0, stream: 0, payload: objects }).await;
    assert!(client.closed_within(seconds(15)).await, "the nest of objects closes the connection");
    let mut client = RtmpClient::connect(server.rtmp).await;
    client.publish("nest").await;
    client.send(&Message { csid: 5, kind: 18, time: 0, stream: 1, payload: nest[19..].to_vec() }).await;

    // A strict array and an associative one that declare 2^32-1 elements.
    for marker in [0x0A, 0x08] {
        let before = resident_kilobytes(server.process.id());
        let mut bomb = [text("connect"), number(1.0)].concat();
        bomb.extend([marker, 0xFF, 0xFF, 0xFF, 0xFF]);
        let mut client = RtmpClient::connect(server.rtmp).await;
        client.send(&Message { csid: 3, kind: 20, time: 0, stream: 0, payload: bomb }).await;
        assert!(client.closed_within(seconds(15)).await, "the bomb closes the connection");
        let grown = resident_kilobytes(server.process.id()).saturating_sub(before);
        assert!(grown < 50_000, "{grown} kB more");
    }

    // A message that declares 16 MB before login, and chunk streams without end.
    let mut client = RtmpClient::connect(server.rtmp).await;
    client.raw(&[&[3, 0, 0, 0, 0xFF, 0xFF, 0xFF, 20, 0, 0, 0, 0][..], &[0; 128]].concat()).await;
    assert!(client.closed_within(seconds(15)).await, "16 MB before login close the connection");
    let mut client = RtmpClient::connect(server.rtmp).await;
    for id in 0u16..400 {
        let mut chunk = vec![1, (id & 255) as u8, (id >> 8) as u8, 0, 0, 0, 0, 0xFF, 0, 20, 0, 0, 0, 0];
        chunk.extend([0; 128]);
        client.raw(&chunk).await;
    }
    assert!(client.closed_within(seconds(15)).await, "too many chunk streams close the connection");

    witness.went_on(&server).await;
    let log = server.process.log();
    assert!(!log.contains("panicked"), "{log}");
}

/// Recorded sessions of encoders, changed at random, through real sockets: the server lives, its memory and
/// descriptors come back, and a stream that runs meanwhile loses no frame.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_changed_sessions_cost_a_running_stream_no_frame() {
    let _machine = machine().await;
    let count = std::env::var("HOSTILE_CONNECTIONS").map_or(6_000, |count| count.parse().expect("a number"));
    let server = Server::start().await;
    let pid = server.process.id();
    let _publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("witness"));
    let hls = Hls::open(&server.client, &server.url("/witness/index.m3u8"), seconds(15)).await;
    let video = hls.video.clone().expect("a video rendition");
    let folder = tempfile::tempdir().expect("a folder");

    let flood = Flood::new(server.rtmp);
    let over = std::sync::atomic::AtomicBool::new(false);
    let attack = async {
        // Pools and caches grow to their size in the first part.
        let warm_up = count / 4;
        let before = flood.run(0, warm_up).await;
        settled(pid).await;
        let memory = resident_kilobytes(pid);
        let started = Instant::now();
        let after = flood.run(warm_up, count).await;
        let took = started.elapsed();
        settled(pid).await;
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        (before, after, memory, took)
    };
    let enough = |held: f64| over.load(std::sync::atomic::Ordering::Relaxed) && held > 4.0;
    let watching = hls.record_until(&video, enough, folder.path(), "video");
    let ((before, after, memory, took), file) = tokio::join!(attack, watching);
    let grown = resident_kilobytes(pid) as i64 - memory as i64;
    let file = file.to_str().expect("a path");
    let packets = packets(file, "v").await;
    let log = server.process.log();
    let published = log.matches("Publisher connected").count();
    println!(
        "{before:?}\n{after:?} in {took:?}\nresident before {memory} kB, after {grown:+} kB; \
         {} frames of the witness, {published} publishers beside it",
        packets.len()
    );

    for harvest in [&before, &after] {
        let [made, greeted, answered, stuck] =
            [&harvest.made, &harvest.greeted, &harvest.answered, &harvest.stuck]
                .map(|counter| counter.load(std::sync::atomic::Ordering::Relaxed));
        assert!(greeted * 10 > made * 8 && answered * 10 > made, "the flood got through: {harvest:?}");
        assert_eq!(stuck, 0, "each is served or closed");
    }
    for pair in packets.windows(2) {
        let step = pair[1].1 - pair[0].1;
        assert!((step - 1.0 / 30.0).abs() < 0.005, "a frame is missing: {pair:?}");
    }
    assert_eq!(decode_errors(file).await, "");
    assert!(grown < 16_000 + memory as i64 / 10, "{grown} kB more than {memory} kB");
    assert_eq!(server.get("/healthz").await.status(), 200);
    assert!(published * 100 > count, "{published} of the flood got as far as to publish");
    assert!(!log.contains("panicked"), "a session panicked");
}

/// Waits until the server holds the sockets of its listeners and the witness only.
async fn settled(pid: u32) {
    let sockets = || {
        let folder = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives");
        let links = folder.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
    };
    eventually("the hostile connections are gone", seconds(30), || async { (sockets() < 40).then_some(()) })
        .await;
}

#[tokio::test]
async fn broken_sdp_is_a_clear_problem() {
    let _machine = machine().await;
    let server = Server::start().await;
    let witness = Witness::start(&server).await;
    let offers: [(&str, String); 9] = [
        ("nothing", String::new()),
        ("no SDP", "hello".to_owned()),
        ("JSON", r#"{"type":"offer"}"#.to_owned()),
        ("no media", OFFER_HEAD.to_owned()),
        ("half a line", format!("{OFFER_HEAD}m=video 9 UDP/TLS/RTP/SA")),
        ("no fingerprint", offer("sendrecv").replace("a=fingerprint", "a=x-fingerprint")),
        ("no ICE", offer("sendrecv").replace("a=ice-", "a=x-ice-")),
        ("bad fingerprint", offer("sendrecv").replace("sha-256 AB:", "sha-256 ZZ:")),
        ("endless", format!("{}{}", offer("sendrecv"), "a=x:y\r\n".repeat(200_000))),
    ];
    for path in ["/show/whip", "/witness/whep"] {
        for (what, body) in &offers {
            let request = server.client.post(server.url(path)).header("content-type", "application/sdp");
            let response = request.body(body.clone()).send().await.expect("an answer");
            let (status, kind) = (response.status().as_u16(), content_type(&response));
            let text = response.text().await.unwrap_or_default();
            assert!([400, 413, 422].contains(&status), "{what} at {path}: {status} {text}");
            assert!(kind.starts_with("application/problem+json"), "{what} at {path}: {kind} {text}");
        }
        for kind in ["text/plain", "application/json", ""] {
            let request = server.client.post(server.url(path)).header("content-type", kind);
            let response = request.body(offer("sendrecv")).send().await.expect("an answer");
            assert_eq!(response.status(), 415, "{kind} at {path}");
            assert!(content_type(&response).starts_with("application/problem+json"), "{kind} at {path}");
        }
        let request = server.client.post(server.url(path)).header("content-type", "application/sdp");
        let response = request.body(vec![0xFFu8; 4000]).send().await.expect("an answer");
        assert_eq!(response.status(), 400, "no UTF-8 at {path}");
    }
    // The wrong direction.
    for (path, direction) in [("/show/whip", "recvonly"), ("/witness/whep", "sendonly")] {
        let request = server.client.post(server.url(path)).header("content-type", "application/sdp");
        let response = request.body(offer(direction)).send().await.expect("an answer");
        assert_eq!(response.status(), 422, "{direction} at {path}");
    }
    // None of them holds the name.
    assert!(server.stream("show").await.is_none());
    // A viewer of a stream that is not there.
    let request = server.client.post(server.url("/nobody/whep")).header("content-type", "application/sdp");
    let response = request.body(offer("recvonly")).send().await.expect("an answer");
    assert_eq!(response.status(), 404);
    witness.went_on(&server).await;
}

const OFFER_HEAD: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n";

/// A whole offer of one H.264 track.
fn offer(direction: &str) -> String {
    let fingerprint = ["AB"; 32].join(":");
    format!(
        "{OFFER_HEAD}m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=ice-ufrag:abcd\r\n\
         a=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\n\
         a=rtcp-mux\r\na={direction}\r\na=rtpmap:96 H264/90000\r\n\
         a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n"
    )
}

fn content_type(response: &reqwest::Response) -> String {
    response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or("").to_owned()
}

/// Bytes that look like nothing, the same each time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Resident memory of a process.
fn resident_kilobytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().split(' ').next().and_then(|value| value.parse().ok()).expect("a number")
}
