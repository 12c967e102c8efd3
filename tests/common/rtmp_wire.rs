//! An RTMP server in this process, and a client whose every byte is the test's own, over TCP or TLS.

// Each test binary uses its own share of it.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate::media::{Frame, MediaKind, MediaTime, StreamName, Tracks};
use tidegate::rtmp::{Authorize, PublishRequest, Refusal, RtmpLimits, RtmpServer};
use tidegate::stream::{Hub, Source, SourceKind, StreamEvent, Subscriber};
use tidegate::tls::ServerTls;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A server on free ports. Publishing on `live` is open, except for the key `denied`.
pub struct Site {
    pub hub: Hub,
    pub address: SocketAddr,
    pub tls_address: Option<SocketAddr>,
    /// What clients asked for.
    pub requests: Arc<Mutex<Vec<PublishRequest>>>,
    cancel: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Site {
    /// A publisher of `name` that sends sound; one that is silent would lose its name.
    pub fn occupy(&self, name: &str) -> JoinHandle<()> {
        let source = Source { kind: SourceKind::Demo, remote: None };
        let publisher = self.hub.publish::<Frame>(name.parse().expect("a name"), source).expect("free");
        let epoch = publisher.begin_epoch(Tracks::default(), std::time::SystemTime::now());
        tokio::spawn(async move {
            for number in 0.. {
                let pts = MediaTime::from_millis(number * 20);
                let (epoch, data) = (epoch.clone(), bytes::Bytes::from_static(&[0]));
                let kind = MediaKind::Audio;
                publisher.write(Frame { epoch, kind, pts, dts: pts, keyframe: true, data });
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    }

    pub async fn start() -> Self {
        Self::with(RtmpLimits::default(), None).await
    }

    pub async fn with(limits: RtmpLimits, tls: Option<ServerTls>) -> Self {
        let (hub, watcher) = Hub::new(Duration::from_millis(100));
        let cancel = CancellationToken::new();
        let requests: Arc<Mutex<Vec<PublishRequest>>> = Arc::default();
        let seen = requests.clone();
        let authorize: Authorize = Arc::new(move |request| {
            seen.lock().expect("not poisoned").push(request.clone());
            let refusal = |description: &str| Refusal { description: description.to_owned() };
            if request.app != "live" || request.key.reveal() == "denied" {
                return Err(refusal("unknown stream key"));
            }
            request.key.reveal().parse::<StreamName>().map_err(|error| refusal(&error.to_string()))
        });
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let mut server =
            RtmpServer::bind(any, hub.clone(), authorize).await.expect("bound").with_limits(limits);
        if let Some(tls) = tls {
            server = server.with_tls(any, tls).await.expect("bound");
        }
        let (address, tls_address) = (server.local_addr(), server.tls_addr());
        let tasks = vec![tokio::spawn(server.run(cancel.clone())), tokio::spawn(watcher.run(cancel.clone()))];
        Self { hub, address, tls_address, requests, cancel, tasks }
    }

    /// Begins the end, as a shutdown does.
    pub fn close(&self) {
        self.cancel.cancel();
        self.hub.close();
    }

    pub async fn stop(self) {
        self.cancel.cancel();
        for task in self.tasks {
            timeout(Duration::from_secs(5), task).await.expect("ends in time").expect("no panic");
        }
    }
}

/// The frames of the next stream that begins.
pub async fn started(events: &mut broadcast::Receiver<StreamEvent>) -> Subscriber<Frame> {
    loop {
        let event = timeout(Duration::from_secs(20), events.recv()).await.expect("in time").expect("open");
        if let StreamEvent::Started(stream) = event {
            return stream.subscribe();
        }
    }
}

/// A connection under a client.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A client of bytes.
pub struct Wire {
    pub connection: Box<dyn Transport>,
    /// Payload of the chunks that it sends.
    pub chunk: usize,
    /// Milliseconds: rises with each message of media.
    pub time: u8,
    /// What came after the handshake.
    pub received: Vec<u8>,
}

impl Wire {
    /// Connects and says nothing.
    pub async fn open(address: SocketAddr) -> Self {
        let connection = TcpStream::connect(address).await.expect("listening");
        connection.set_nodelay(true).expect("a socket option");
        Self::over(connection)
    }

    /// On a connection that is there.
    pub fn over(connection: impl Transport + 'static) -> Self {
        Self { connection: Box::new(connection), chunk: 128, time: 0, received: Vec::new() }
    }

    /// Connects and shakes hands (the simple handshake).
    pub async fn connect(address: SocketAddr) -> Self {
        let mut wire = Self::open(address).await;
        wire.shake_hands().await;
        wire
    }

    pub async fn shake_hands(&mut self) {
        let mut greeting = vec![0; 1537];
        greeting[0] = 3;
        self.connection.write_all(&greeting).await.expect("open");
        let mut answer = vec![0; 3073];
        self.connection.read_exact(&mut answer).await.expect("an answer");
        self.connection.write_all(&answer[1..1537]).await.expect("open");
    }

    /// Sends bytes as they are. A server that has had enough closes while we write.
    pub async fn raw(&mut self, bytes: &[u8]) {
        let _ = self.connection.write_all(bytes).await;
        let _ = self.connection.flush().await;
    }

    /// Sends a message on chunk stream 3.
    pub async fn send(&mut self, kind: u8, stream: u8, payload: &[u8]) {
        let length = (payload.len() as u32).to_be_bytes();
        self.time = self.time.wrapping_add(if matches!(kind, 8 | 9 | 22) { 10 } else { 0 });
        let mut bytes = vec![3, 0, 0, self.time, length[1], length[2], length[3], kind, stream, 0, 0, 0];
        for (n, chunk) in payload.chunks(self.chunk).enumerate() {
            if n > 0 {
                bytes.push(0xc3);
            }
            bytes.extend_from_slice(chunk);
        }
        self.raw(&bytes).await;
    }

    /// Sends a command with transaction 1 and `rest` behind it.
    pub async fn command(&mut self, stream: u8, name: &str, rest: &[u8]) {
        self.send(20, stream, &[command(name), rest.to_vec()].concat()).await;
    }

    /// `connect` with these properties of its object.
    pub async fn login_with(&mut self, properties: &[(&str, Vec<u8>)]) {
        let mut object = vec![3];
        for (name, value) in properties {
            object.extend([&[0, name.len() as u8], name.as_bytes(), value].concat());
        }
        object.extend([0, 0, 9]);
        self.command(0, "connect", &object).await;
    }

    pub async fn login(&mut self) {
        self.login_with(&[("app", text("live"))]).await;
    }

    /// `connect`, `createStream` and `publish`, on message stream 1.
    pub async fn ask_to_publish(&mut self, key: &str) {
        self.login().await;
        self.publish_after_login(key).await;
    }

    pub async fn publish_after_login(&mut self, key: &str) {
        self.command(0, "createStream", &[5]).await;
        self.command(1, "publish", &[vec![5], text(key), text("live")].concat()).await;
    }

    /// The same, and waits for the answer.
    pub async fn publish(&mut self, key: &str) {
        self.ask_to_publish(key).await;
        self.until("NetStream.Publish.Start").await;
    }

    /// Waits until `part` has come.
    pub async fn until(&mut self, part: impl AsRef<[u8]>) {
        let part = part.as_ref();
        let what = String::from_utf8_lossy(part).into_owned();
        let wait = async {
            while !self.has(part) {
                let count = self.connection.read_buf(&mut self.received).await.expect("open");
                assert!(count > 0, "closed before {what:?}: {}", self.text());
            }
        };
        timeout(Duration::from_secs(5), wait).await.unwrap_or_else(|_| panic!("no {what:?}"));
    }

    pub fn has(&self, part: impl AsRef<[u8]>) -> bool {
        let part = part.as_ref();
        let within = |bytes: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        within(&self.received) || within(&self.joined())
    }

    /// All that came until the server closed.
    pub async fn until_closed(mut self, most: Duration) -> String {
        let end = timeout(most, self.connection.read_to_end(&mut self.received)).await;
        assert!(end.is_ok(), "still open after {most:?}");
        self.text()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.joined()).into_owned()
    }

    /// What came, without the headers that cut a long text into chunks.
    fn joined(&self) -> Vec<u8> {
        self.received.iter().copied().filter(|byte| *byte != 0xc3).collect()
    }
}

/// A publication whose first frames have arrived.
pub struct Show {
    pub wire: Wire,
    frames: Subscriber<Frame>,
}

/// A keyframe of H.264, length-prefixed, and what the decoder needs before it.
pub const AVC_HEADER: &[u8] =
    b"\x17\0\0\0\0\x01\x42\xc0\x0c\xff\xe1\0\x19\x67\x42\xc0\x0c\xd9\x01\x41\x9f\x9f\x01\x10\
    \0\0\x03\0\x10\0\0\x03\x03\x20\xf1\x42\xa4\x80\x01\0\x05\x68\xcb\x83\xcb\x20";
pub const AAC_HEADER: &[u8] = &[0xaf, 0, 0x11, 0x90];

/// A picture of `length` bytes, each `fill`, and the message that carries it.
pub fn picture(length: usize, fill: u8) -> (Vec<u8>, Vec<u8>) {
    let size = (length as u32 - 4).to_be_bytes();
    let data = [&size[..], &[0x65], &vec![fill; length - 5]].concat();
    let message = [&[0x17, 1, 0, 0, 0], &data[..]].concat();
    (data, message)
}

impl Show {
    pub async fn start(site: &Site, wire: Wire, key: &str) -> Self {
        let mut events = site.hub.events();
        let mut wire = wire;
        wire.publish(key).await;
        let frames = started(&mut events).await;
        wire.send(9, 1, AVC_HEADER).await;
        wire.send(8, 1, AAC_HEADER).await;
        wire.send(9, 1, &picture(100, 1).1).await;
        wire.send(8, 1, &[0xaf, 1, 9, 9, 9]).await;
        let mut show = Self { wire, frames };
        show.next(MediaKind::Audio).await;
        show
    }

    /// The next frame of a kind.
    pub async fn next(&mut self, kind: MediaKind) -> Arc<Frame> {
        loop {
            let frame =
                timeout(Duration::from_secs(5), self.frames.recv()).await.expect("media").expect("live");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// The next picture, which is not the first one.
    pub async fn next_picture(&mut self) -> Arc<Frame> {
        loop {
            let frame = self.next(MediaKind::Video).await;
            if frame.data.get(5) != Some(&1) {
                return frame;
            }
        }
    }
}

/// A command's name and transaction.
pub fn command(name: &str) -> Vec<u8> {
    [text(name), number(1.0)].concat()
}

/// An AMF0 string.
pub fn text(value: &str) -> Vec<u8> {
    [&[2], &(value.len() as u16).to_be_bytes()[..], value.as_bytes()].concat()
}

/// An AMF0 number.
pub fn number(value: f64) -> Vec<u8> {
    [&[0], &value.to_be_bytes()[..]].concat()
}

/// A header of format 0 on a chunk stream below 64.
pub fn header(id: u8, timestamp: u32, length: usize, kind: u8) -> Vec<u8> {
    let (time, length) = (timestamp.to_be_bytes(), (length as u32).to_be_bytes());
    vec![id, time[1], time[2], time[3], length[1], length[2], length[3], kind, 1, 0, 0, 0]
}
