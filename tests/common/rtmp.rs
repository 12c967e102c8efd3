//! An RTMP publisher by hand, so that it can say what no honest client says.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes of a chunk's payload that both sides start with.
const DEFAULT_CHUNK: usize = 128;
/// Bytes of a chunk's payload that this client sends after `publish`.
const CHUNK: usize = 1024;

/// A connection whose every byte is the test's own.
pub struct RtmpClient {
    stream: TcpStream,
    chunk: usize,
    received: Received,
}

/// One message to be sent.
#[derive(Clone, Debug)]
pub struct Message {
    pub csid: u8,
    pub kind: u8,
    pub time: u32,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl RtmpClient {
    /// Connects and shakes hands (the simple handshake).
    pub async fn connect(port: u16) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the port is open");
        stream.set_nodelay(true).expect("a socket option");
        let mut hello = vec![3u8];
        hello.extend(vec![0u8; 1536]);
        stream.write_all(&hello).await.expect("C0 and C1");
        let mut answer = vec![0u8; 1 + 1536 + 1536];
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut answer)).await;
        read.expect("the handshake within 5 s").expect("S0, S1 and S2");
        stream.write_all(&answer[1..1537]).await.expect("C2");
        Self { stream, chunk: DEFAULT_CHUNK, received: Received::default() }
    }

    /// Logs in and publishes `key` on `live`; panics unless the server answers `NetStream.Publish.Start`.
    pub async fn publish(&mut self, key: &str) {
        let code = self.try_publish(key).await;
        assert_eq!(code, "NetStream.Publish.Start");
    }

    /// Logs in and asks to publish; the status code of the server's answer.
    pub async fn try_publish(&mut self, key: &str) -> String {
        self.login().await;
        let mut publish = [text("publish"), number(4.0), vec![5]].concat();
        publish.extend([text(key), text("live")].concat());
        self.send(&Message { csid: 4, kind: 20, time: 0, stream: 1, payload: publish }).await;
        self.wait_for_status("NetStream.Publish.").await
    }

    /// `connect` and `createStream`, and larger chunks from here on.
    pub async fn login(&mut self) {
        let mut object = vec![3u8];
        for (name, value) in [("app", "live"), ("type", "nonprivate"), ("tcUrl", "rtmp://127.0.0.1/live")] {
            object.extend((name.len() as u16).to_be_bytes());
            object.extend(name.as_bytes());
            object.extend(text(value));
        }
        object.extend([0, 0, 9]);
        let connect = [text("connect"), number(1.0), object].concat();
        self.send(&Message { csid: 3, kind: 20, time: 0, stream: 0, payload: connect }).await;
        self.wait_for_status("NetConnection.Connect.").await;
        let chunk = (CHUNK as u32).to_be_bytes().to_vec();
        self.send(&Message { csid: 2, kind: 1, time: 0, stream: 0, payload: chunk }).await;
        self.chunk = CHUNK;
        let create = [text("createStream"), number(2.0), vec![5]].concat();
        self.send(&Message { csid: 3, kind: 20, time: 0, stream: 0, payload: create }).await;
        self.wait_for_status("_result").await;
    }

    /// Sends raw bytes; errors are the server's right and are passed over.
    pub async fn raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Sends one message, chunk after chunk.
    pub async fn send(&mut self, message: &Message) {
        let bytes = message.chunks(self.chunk).concat();
        self.stream.write_all(&bytes).await.expect("the server reads");
    }

    /// Sends messages in real time, by what their times say since the first.
    pub async fn play(&mut self, messages: &[Message]) {
        let Some(first) = messages.first() else { return };
        let start = tokio::time::Instant::now();
        for message in messages {
            let due = Duration::from_millis(message.time.wrapping_sub(first.time).into());
            // One of the other track may be a little earlier than the first.
            if due < Duration::from_secs(3600) {
                tokio::time::sleep_until(start + due).await;
            }
            self.send(message).await;
        }
    }

    /// Sends messages of different chunk streams chunk by chunk in turns, as RTMP allows.
    pub async fn send_interleaved(&mut self, messages: &[Message]) {
        let mut queues: Vec<_> =
            messages.iter().map(|message| message.chunks(self.chunk).into_iter()).collect();
        let mut bytes = Vec::new();
        loop {
            let turn: Vec<u8> = queues.iter_mut().filter_map(Iterator::next).flatten().collect();
            if turn.is_empty() {
                break;
            }
            bytes.extend(turn);
        }
        self.stream.write_all(&bytes).await.expect("the server reads");
    }

    /// Waits for a command message that holds a text beginning with `prefix`, and returns that text.
    pub async fn wait_for_status(&mut self, prefix: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(8);
        loop {
            if let Some(found) = self.received.take_text(prefix) {
                return found;
            }
            let mut buffer = [0u8; 4096];
            let left = deadline.saturating_duration_since(Instant::now());
            let read = tokio::time::timeout(left, self.stream.read(&mut buffer)).await;
            match read {
                Ok(Ok(count)) if count > 0 => self.received.take(&buffer[..count]),
                other => panic!("no {prefix:?}: {other:?}"),
            }
        }
    }

    /// Waits until the server closes the connection; false when it is still open after `limit`.
    pub async fn closed_within(&mut self, limit: Duration) -> bool {
        let read = async {
            let mut buffer = [0u8; 4096];
            while matches!(self.stream.read(&mut buffer).await, Ok(count) if count > 0) {}
        };
        tokio::time::timeout(limit, read).await.is_ok()
    }
}

impl Message {
    /// The message as it goes out at first: in chunks of 128 bytes.
    pub(super) fn in_chunks(&self) -> Vec<u8> {
        self.chunks(DEFAULT_CHUNK).concat()
    }

    /// The message as chunks: a type 0 header, then type 3 headers.
    fn chunks(&self, size: usize) -> Vec<Vec<u8>> {
        let mut chunks = Vec::new();
        let mut pieces = self.payload.chunks(size);
        // §5.3.1.3: what needs more than 24 bits stands behind each header.
        let extended = self.time >= 0xff_ffff;
        let behind = if extended { self.time.to_be_bytes().to_vec() } else { Vec::new() };
        let mut first = vec![self.csid];
        first.extend(&self.time.min(0xff_ffff).to_be_bytes()[1..]);
        first.extend(&(self.payload.len() as u32).to_be_bytes()[1..]);
        first.push(self.kind);
        first.extend(self.stream.to_le_bytes());
        first.extend(&behind);
        first.extend(pieces.next().unwrap_or_default());
        chunks.push(first);
        for piece in pieces {
            chunks.push([&[0xC0 | self.csid], &behind[..], piece].concat());
        }
        chunks
    }
}

/// An AMF0 string with its marker.
pub fn text(value: &str) -> Vec<u8> {
    let mut bytes = vec![2u8];
    bytes.extend((value.len() as u16).to_be_bytes());
    bytes.extend(value.as_bytes());
    bytes
}

/// An AMF0 number with its marker.
pub fn number(value: f64) -> Vec<u8> {
    let mut bytes = vec![0u8];
    bytes.extend(value.to_be_bytes());
    bytes
}

/// The audio and video messages of an FLV file, in its order; video on chunk stream 6, audio on 4.
pub fn messages_of(flv: &Path) -> Vec<Message> {
    let data = std::fs::read(flv).expect("an FLV file");
    let (mut at, mut messages) = (13, Vec::new());
    while at + 11 <= data.len() {
        let tag = &data[at..at + 11];
        let size = usize::from(tag[1]) << 16 | usize::from(tag[2]) << 8 | usize::from(tag[3]);
        let time = u32::from_be_bytes([tag[7], tag[4], tag[5], tag[6]]);
        let kind = tag[0];
        if kind == 8 || kind == 9 {
            let csid = if kind == 9 { 6 } else { 4 };
            let payload = data[at + 11..at + 11 + size].to_vec();
            messages.push(Message { csid, kind, time, stream: 1, payload });
        }
        at += 11 + size + 4;
    }
    messages
}

/// What the other side sent: chunks put together, command messages kept.
#[derive(Default)]
pub(super) struct Received {
    bytes: Vec<u8>,
    chunk: Option<usize>,
    partial: HashMap<u8, (usize, u8, Vec<u8>)>,
    commands: Vec<Vec<u8>>,
}

impl Received {
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        while let Some(used) = self.chunk() {
            self.bytes.drain(..used);
        }
    }

    /// Takes one chunk; the number of its bytes, `None` when it isn't whole.
    fn chunk(&mut self) -> Option<usize> {
        let head = *self.bytes.first()?;
        let (format, csid) = (head >> 6, head & 63);
        let header = [11, 7, 3, 0][usize::from(format)];
        if self.bytes.len() < 1 + header {
            return None;
        }
        let fields = &self.bytes[1..1 + header];
        let (mut length, mut kind, mut so_far) = self.partial.get(&csid).cloned().unwrap_or_default();
        if format < 2 {
            length = usize::from(fields[3]) << 16 | usize::from(fields[4]) << 8 | usize::from(fields[5]);
            kind = fields[6];
        }
        let piece = (length - so_far.len()).min(self.chunk.unwrap_or(DEFAULT_CHUNK));
        let end = 1 + header + piece;
        so_far.extend(self.bytes.get(1 + header..end)?);
        if so_far.len() == length {
            let payload = std::mem::take(&mut so_far);
            match kind {
                1 => self.chunk = Some(u32::from_be_bytes(payload[..4].try_into().ok()?) as usize),
                20 => self.commands.push(payload),
                _ => {}
            }
        }
        self.partial.insert(csid, (length, kind, so_far));
        Some(end)
    }

    /// The oldest command that was not taken yet.
    pub(super) fn take_command(&mut self) -> Option<Vec<u8>> {
        (!self.commands.is_empty()).then(|| self.commands.remove(0))
    }

    fn take_text(&mut self, prefix: &str) -> Option<String> {
        let found = self.commands.iter().enumerate().find_map(|(index, command)| {
            let at = command.windows(prefix.len()).position(|window| window == prefix.as_bytes())?;
            let length = command[at - 2..at].try_into().map(u16::from_be_bytes).ok()?;
            let text = command.get(at..at + usize::from(length))?;
            Some((index, String::from_utf8_lossy(text).into_owned()))
        })?;
        self.commands.remove(found.0);
        Some(found.1)
    }
}
