//! Publishing over RTMP: real encoders, and clients that mean harm.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tidegate::media::{Codec, Frame, MediaKind, StreamName};
use tidegate::rtmp::{Authorize, Refusal, RtmpServer};
use tidegate::stream::{Hub, Stream, StreamEvent, Subscriber};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

struct Gateway {
    hub: Hub,
    address: SocketAddr,
    cancel: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Gateway {
    /// Publishing on `live` is open, except for the key `denied`.
    async fn start() -> Self {
        let (hub, reaper) = Hub::new(Duration::from_millis(100));
        let cancel = CancellationToken::new();
        let authorize: Authorize = Arc::new(|request| {
            let refusal = |description: &str| Refusal { description: description.to_owned() };
            if request.app != "live" || request.key.reveal() == "denied" {
                return Err(refusal("unknown stream key"));
            }
            request.key.reveal().parse::<StreamName>().map_err(|error| refusal(&error.to_string()))
        });
        let listen = "127.0.0.1:0".parse().expect("an address");
        let server = RtmpServer::bind(listen, hub.clone(), authorize).await.expect("bound");
        let address = server.local_addr();
        let tasks = vec![tokio::spawn(server.run(cancel.clone())), tokio::spawn(reaper.run(cancel.clone()))];
        Self { hub, address, cancel, tasks }
    }

    fn url(&self, key: &str) -> String {
        format!("rtmp://{}/live/{key}", self.address)
    }

    async fn stop(self) {
        self.cancel.cancel();
        for task in self.tasks {
            timeout(Duration::from_secs(5), task).await.expect("ends in time").expect("no panic");
        }
    }

    /// Runs `publish` and gives all frames of the stream that it made.
    async fn frames_of(&self, mut publish: Command) -> (Arc<Stream>, Vec<Arc<Frame>>) {
        let mut events = self.hub.events();
        let mut child = publish.stdin(Stdio::null()).kill_on_drop(true).spawn().expect("installed");
        let (stream, subscriber) = started(&mut events).await;
        let frames = timeout(Duration::from_secs(40), collect(subscriber)).await.expect("ends");
        assert!(child.wait().await.expect("waited").success());
        (stream, frames)
    }
}

async fn started(
    events: &mut tokio::sync::broadcast::Receiver<StreamEvent>,
) -> (Arc<Stream>, Subscriber<Frame>) {
    loop {
        let event = timeout(Duration::from_secs(20), events.recv()).await.expect("in time").expect("open");
        if let StreamEvent::Started(stream) = event {
            let subscriber = stream.subscribe();
            return (stream, subscriber);
        }
    }
}

async fn collect(mut subscriber: Subscriber<Frame>) -> Vec<Arc<Frame>> {
    let mut frames = Vec::new();
    while let Some(frame) = subscriber.recv().await {
        frames.push(frame);
    }
    assert_eq!(subscriber.lost(), 0);
    frames
}

fn ffmpeg(arguments: &str, url: &str) -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin"]).args(arguments.split_whitespace()).args(["-f", "flv", url]);
    command
}

fn of(frames: &[Arc<Frame>], kind: MediaKind) -> Vec<Arc<Frame>> {
    frames.iter().filter(|frame| frame.kind == kind).cloned().collect()
}

fn assert_decoding_order_rises(frames: &[Arc<Frame>]) {
    for pair in frames.windows(2) {
        assert!(pair[0].dts < pair[1].dts, "{:?} then {:?}", pair[0].dts, pair[1].dts);
    }
}

const VIDEO: &str = "-f lavfi -i testsrc2=s=320x180:r=25";
const AUDIO: &str = "-f lavfi -i sine=r=48000";

#[tokio::test]
async fn ffmpeg_with_b_frames_publishes_every_frame() {
    let gateway = Gateway::start().await;
    let coding = "-t 4 -pix_fmt yuv420p -c:v libx264 -bf 2 -g 50 -preset veryfast -c:a aac -ac 2";
    let publish = ffmpeg(&format!("{VIDEO} {AUDIO} {coding}"), &gateway.url("cam"));
    let (stream, frames) = gateway.frames_of(publish).await;
    let (video, audio) = (of(&frames, MediaKind::Video), of(&frames, MediaKind::Audio));
    assert_eq!(video.len(), 100);
    assert!((186..=190).contains(&audio.len()), "{} audio frames", audio.len());
    assert_eq!(video.iter().filter(|frame| frame.keyframe).count(), 2);
    assert_decoding_order_rises(&video);
    assert_decoding_order_rises(&audio);
    let reordered = video.iter().filter(|frame| frame.pts != frame.dts).count();
    assert!(reordered > 80, "{reordered} of 100 pictures are reordered");
    let mut shown: Vec<_> = video.iter().map(|frame| frame.pts).collect();
    shown.sort();
    assert!(shown.windows(2).all(|pair| pair[1].since(pair[0]) == Duration::from_millis(40)));
    let epoch = &frames[0].epoch;
    assert!(frames.iter().all(|frame| frame.epoch.id == epoch.id), "one epoch");
    let track = epoch.tracks.video.as_ref().expect("video");
    assert_eq!(
        (track.codec, track.resolution, track.frame_rate),
        (Codec::H264, Some((320, 180)), Some(25.0))
    );
    assert!(track.reordered && track.codec_data[0] == 1);
    let track = epoch.tracks.audio.as_ref().expect("audio");
    assert_eq!((track.codec, track.sample_rate, track.channels), (Codec::Aac, 48_000, 2));
    assert_eq!(stream.statistics().snapshot().video_frames, 100);
    gateway.stop().await;
}

#[tokio::test]
async fn one_track_is_enough() {
    let gateway = Gateway::start().await;
    let publish = ffmpeg(&format!("{AUDIO} -t 2 -c:a aac"), &gateway.url("radio"));
    let (_, frames) = gateway.frames_of(publish).await;
    assert!(frames.len() > 90 && frames[0].epoch.tracks.video.is_none());
    let coding = "-t 2 -pix_fmt yuv420p -c:v libx264 -tune zerolatency";
    let publish = ffmpeg(&format!("{VIDEO} {coding}"), &gateway.url("silent"));
    let (_, frames) = gateway.frames_of(publish).await;
    assert_eq!(frames.len(), 50);
    let track = frames[0].epoch.tracks.video.as_ref().expect("video");
    assert!(frames[0].epoch.tracks.audio.is_none() && !track.reordered);
    gateway.stop().await;
}

#[tokio::test]
async fn gstreamer_publishes() {
    let gateway = Gateway::start().await;
    let mut publish = Command::new("gst-launch-1.0");
    let pipeline = format!(
        "videotestsrc num-buffers=60 ! video/x-raw,width=320,height=180,framerate=30/1 ! x264enc tune=zerolatency \
         key-int-max=30 ! h264parse ! flvmux streamable=true name=m ! rtmp2sink location={} \
         audiotestsrc num-buffers=90 ! audio/x-raw,rate=48000 ! voaacenc ! aacparse ! m.",
        gateway.url("gst")
    );
    publish.arg("-q").args(pipeline.split_whitespace()).stdout(Stdio::null());
    let (_, frames) = gateway.frames_of(publish).await;
    let (video, audio) = (of(&frames, MediaKind::Video), of(&frames, MediaKind::Audio));
    // The sink drops its last few buffers when the stream ends.
    assert!(video.len() > 50 && audio.len() > 60, "{} {}", video.len(), audio.len());
    assert_decoding_order_rises(&video);
    gateway.stop().await;
}

/// A client of bytes.
struct Raw {
    connection: TcpStream,
}

impl Raw {
    async fn connect(address: SocketAddr) -> Self {
        let mut connection = TcpStream::connect(address).await.expect("listening");
        let mut greeting = vec![0; 1537];
        greeting[0] = 3;
        connection.write_all(&greeting).await.expect("open");
        let mut answer = vec![0; 3073];
        connection.read_exact(&mut answer).await.expect("an answer");
        connection.write_all(&answer[1..1537]).await.expect("open");
        Self { connection }
    }

    /// Sends a message in chunks of 128 bytes.
    async fn send(&mut self, kind: u8, stream: u8, payload: &[u8]) {
        let length = (payload.len() as u32).to_be_bytes();
        let mut bytes = vec![3, 0, 0, 0, length[1], length[2], length[3], kind, stream, 0, 0, 0];
        for (n, chunk) in payload.chunks(128).enumerate() {
            if n > 0 {
                bytes.push(0xc3);
            }
            bytes.extend_from_slice(chunk);
        }
        // A server that has had enough closes while we write.
        let _ = self.connection.write_all(&bytes).await;
    }

    async fn command(&mut self, stream: u8, name: &str, rest: &[u8]) {
        let mut payload = vec![2, 0, name.len() as u8];
        payload.extend_from_slice(name.as_bytes());
        payload.extend_from_slice(&[0, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0]); // transaction 1
        payload.extend_from_slice(rest);
        self.send(20, stream, &payload).await;
    }

    async fn login(&mut self) {
        self.command(0, "connect", b"\x03\0\x03app\x02\0\x04live\0\0\x09").await;
    }

    async fn publish(&mut self, key: &str) {
        self.login().await;
        self.command(0, "createStream", &[5]).await;
        let key = [&[5, 2, 0, key.len() as u8], key.as_bytes(), b"\x02\0\x04live"].concat();
        self.command(1, "publish", &key).await;
    }

    /// All that comes until the server closes, as text.
    async fn until_closed(mut self, most: Duration) -> String {
        let mut answer = Vec::new();
        let end = timeout(most, self.connection.read_to_end(&mut answer)).await;
        assert!(end.is_ok(), "still open after {most:?}");
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn until_text(&mut self, text: &str) {
        let mut answer = Vec::new();
        let wait = async {
            while !String::from_utf8_lossy(&answer).contains(text) {
                assert!(
                    self.connection.read_buf(&mut answer).await.expect("open") > 0,
                    "closed before {text}"
                );
            }
        };
        timeout(Duration::from_secs(5), wait).await.expect(text);
    }
}

/// A stream that runs in real time, to see that nothing disturbs it.
async fn running_stream(gateway: &Gateway) -> (tokio::process::Child, Subscriber<Frame>) {
    let mut events = gateway.hub.events();
    let coding = "-pix_fmt yuv420p -c:v libx264 -tune zerolatency -preset ultrafast -g 25 -c:a aac";
    let mut command = ffmpeg(&format!("-re {VIDEO} -re {AUDIO} {coding}"), &gateway.url("bystander"));
    let child = command.kill_on_drop(true).spawn().expect("installed");
    let (_, mut subscriber) = started(&mut events).await;
    timeout(Duration::from_secs(10), subscriber.recv()).await.expect("media").expect("live");
    (child, subscriber)
}

async fn assert_still_running(subscriber: &mut Subscriber<Frame>) {
    while subscriber.try_recv().is_some() {}
    for _ in 0..25 {
        timeout(Duration::from_secs(2), subscriber.recv()).await.expect("no pause").expect("live");
    }
    assert_eq!(subscriber.lost(), 0);
}

#[tokio::test]
async fn noise_ends_its_own_connection_only() {
    let gateway = Gateway::start().await;
    let (mut child, mut subscriber) = running_stream(&gateway).await;

    // Noise instead of a handshake, and after one.
    let mut state = 1u64;
    for _ in 0..20 {
        let noise: Vec<u8> = (0..4096)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 56) as u8
            })
            .collect();
        let mut connection = TcpStream::connect(gateway.address).await.expect("listening");
        let _ = connection.write_all(&noise).await;
        let mut raw = Raw::connect(gateway.address).await;
        let _ = raw.connection.write_all(&noise).await;
    }
    assert_still_running(&mut subscriber).await;
    child.kill().await.expect("killed");
    gateway.stop().await;
}

#[tokio::test]
async fn media_that_cant_be_taken_is_refused_with_a_word() {
    let gateway = Gateway::start().await;
    let most = Duration::from_secs(5);
    let mut first = Raw::connect(gateway.address).await;
    first.publish("cam").await;
    first.until_text("NetStream.Publish.Start").await;
    // Codecs of the Flash age: a clear word.
    first.send(9, 1, &[0x12, 0, 0, 0, 0]).await;
    assert!(first.until_closed(most).await.contains("Sorenson H.263 video is not supported"));
    let mut raw = Raw::connect(gateway.address).await;
    raw.publish("speex").await;
    raw.until_text("NetStream.Publish.Start").await;
    raw.send(8, 1, &[0xb2, 0xff, 0xfb, 0x90]).await;
    assert!(raw.until_closed(most).await.contains("Speex audio is not supported"));
    gateway.stop().await;
}

#[tokio::test]
async fn a_kicked_publisher_is_told_and_the_name_is_free() {
    let gateway = Gateway::start().await;
    let mut raw = Raw::connect(gateway.address).await;
    raw.publish("cam").await;
    raw.until_text("NetStream.Publish.Start").await;
    let name: StreamName = "cam".parse().expect("valid");
    assert!(gateway.hub.get(&name).expect("live").kick_publisher());
    assert!(raw.until_closed(Duration::from_secs(5)).await.contains("NetConnection.Connect.Closed"));
    let mut raw = Raw::connect(gateway.address).await;
    raw.publish("cam").await;
    raw.until_text("NetStream.Publish.Start").await;
    raw.command(0, "deleteStream", &[5, 0, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0]).await;
    raw.until_text("NetStream.Unpublish.Success").await;
    gateway.stop().await;
}
