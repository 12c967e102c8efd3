//! The RTMP client: connects to a server, publishes, and sends frames.
//!
//! Frames are written into a buffer, which [`Push::attend`] gives to the server while the caller goes on.
//! Promises that no step waits for ever: each of connecting has 5 s, a server that takes nothing is given
//! up after 7 s, and one that takes almost nothing after 15 s. A task reads what the server says meanwhile,
//! so that its pings are answered and its refusals noticed. Doesn't reconnect: that is the restream
//! worker's business.

mod answers;
mod authmod;
mod dialer;
mod error;
mod negotiation;
mod presets;
mod url;

pub use dialer::{Dialer, Resolver, RootsError, TlsRoots};
pub use error::{FailureClass, PushError};
pub use url::{PushUrl, PushUrlError};

use super::chunk::{ChunkWriter, kind};
use super::{amf, command, flv};
use crate::media::{Codec, Frame, MediaKind, Tracks};
use answers::{News, listen};
use bytes::BytesMut;
use dialer::Transport;
use negotiation::Negotiation;
use rml_rtmp::rml_amf0::Amf0Value;
use serde::Serialize;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use utoipa::ToSchema;

const STEP: Duration = Duration::from_secs(5);
/// How long a server may take no byte.
const SILENT: Duration = Duration::from_secs(7);
/// How long it may need for what is in the buffer: some frames.
const TOO_SLOW: Duration = Duration::from_secs(15);
/// How long a clean end may take.
const GOODBYE: Duration = Duration::from_secs(2);
const CHUNK_SIZE: u32 = 65_536;
/// How often we want the server to acknowledge, in bytes.
const WINDOW: u32 = 2_500_000;
/// What the server says that nobody has read yet.
const NEWS: usize = 32;

/// The steps of connecting, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TargetTestStepName)]
pub enum Step {
    /// The host's addresses, and the judgement on them.
    NameResolution,
    /// A TCP connection.
    Tcp,
    /// TLS on it, for `rtmps`.
    Tls,
    /// RTMP's own handshake.
    Handshake,
    /// The `connect` command: the application.
    Connect,
    /// The `publish` command: the stream key.
    Publish,
}

/// Hears of each step when it is done.
pub type Steps<'a> = dyn FnMut(Step) + Send + 'a;

/// A connection on which the server has accepted our `publish`.
pub struct Push {
    output: WriteHalf<Box<dyn Transport>>,
    writer: ChunkWriter,
    news: mpsc::Receiver<News>,
    listener: JoinHandle<()>,
    key: String,
    message_stream: u32,
    bytes_sent: u64,
    /// When the buffer was last empty, and when the server last took something of it.
    filled: Instant,
    moved: Instant,
    /// Something may stand in a buffer below ours.
    unflushed: bool,
}

impl Push {
    /// Connects, and returns once the server has accepted the publication.
    pub async fn connect(url: &PushUrl, dialer: &Dialer) -> Result<Self, PushError> {
        Self::connect_in_steps(url, dialer, &mut |_| {}).await
    }

    /// As [`Self::connect`]; `steps` hears of each step that is done.
    pub async fn connect_in_steps(
        url: &PushUrl,
        dialer: &Dialer,
        steps: &mut Steps<'_>,
    ) -> Result<Self, PushError> {
        let mut negotiation = Negotiation::open(url, dialer, steps).await?;
        negotiation.publish().await?;
        steps(Step::Publish);
        let Negotiation { input, output, reader, writer, message_stream, .. } = negotiation;
        let (sender, news) = mpsc::channel(NEWS);
        let listener = tokio::spawn(listen(input, reader, sender, url.clone()));
        let (key, now) = (url.key_path().to_owned(), Instant::now());
        Ok(Self {
            output,
            writer,
            news,
            listener,
            key,
            message_stream,
            bytes_sent: 0,
            filled: now,
            moved: now,
            unflushed: false,
        })
    }

    /// All steps but the last: nothing is published, so whoever publishes there is not disturbed.
    pub async fn greet(url: &PushUrl, dialer: &Dialer, steps: &mut Steps<'_>) -> Result<(), PushError> {
        Negotiation::open(url, dialer, steps).await.map(drop)
    }

    /// Writes metadata and sequence headers; what is written next belongs to these tracks.
    pub fn begin_epoch(&mut self, tracks: &Tracks, timestamp_ms: u32) -> Result<(), PushError> {
        for (codec, carried) in
            [(tracks.codec(MediaKind::Video), Codec::H264), (tracks.codec(MediaKind::Audio), Codec::Aac)]
        {
            if let Some(codec) = codec.filter(|codec| *codec != carried) {
                return Err(PushError::Codec(codec));
            }
        }
        let values = [amf::text("@setDataFrame"), amf::text("onMetaData"), flv::metadata(tracks)];
        self.message(4, kind::DATA, timestamp_ms, &[&amf::serialize(&values)]);
        if let Some(track) = &tracks.video {
            let header = flv::video_header(true, true, 0);
            self.message(6, kind::VIDEO, timestamp_ms, &[&header, &track.codec_data]);
        }
        if let Some(track) = &tracks.audio {
            let header = flv::audio_header(true);
            self.message(5, kind::AUDIO, timestamp_ms, &[&header, &track.codec_data]);
        }
        Ok(())
    }

    /// Writes one frame, decoded at `timestamp_ms` (modulo 2^32), into the buffer.
    pub fn write(&mut self, frame: &Frame, timestamp_ms: u32) {
        match frame.kind {
            MediaKind::Video => {
                let offset = frame.pts.as_millis() - frame.dts.as_millis();
                // A signed number of 24 bits.
                let offset = offset.clamp(-0x80_0000, 0x7f_ffff) as i32;
                let header = flv::video_header(frame.keyframe, false, offset);
                self.message(6, kind::VIDEO, timestamp_ms, &[&header, &frame.data]);
            }
            MediaKind::Audio => {
                let header = flv::audio_header(false);
                self.message(5, kind::AUDIO, timestamp_ms, &[&header, &frame.data]);
            }
        }
    }

    /// Bytes in the buffer that the connection has not taken.
    pub fn buffered(&mut self) -> usize {
        self.writer.output().len()
    }

    /// Gives the buffer to the server, and answers it; returns when the buffer has become empty. If it is
    /// empty, only an error lets it return. Cancel safe.
    pub async fn attend(&mut self) -> Result<(), PushError> {
        loop {
            if self.unflushed {
                tokio::select! {
                    biased;
                    news = self.news.recv() => self.heed(news)?,
                    flushed = flush(&mut self.output, &mut self.writer, &mut self.bytes_sent, &mut self.moved, self.filled) => {
                        return match flushed {
                            Ok(()) => {
                                self.unflushed = false;
                                Ok(())
                            }
                            Err(error) => Err(self.better_reason(error)),
                        };
                    }
                }
            } else {
                let news = self.news.recv().await;
                self.heed(news)?;
            }
        }
    }

    /// Ends the publication as servers like it, so that the name is free at once. Takes 2 s at most.
    pub async fn close(mut self) {
        let key = self.key.clone();
        let number = Amf0Value::Number(self.message_stream.into());
        let stream = self.message_stream;
        command::write(&mut self.writer, 0, "FCUnpublish", 6.0, [Amf0Value::Null, amf::text(&key)]);
        command::write(&mut self.writer, 0, "deleteStream", 7.0, [Amf0Value::Null, number]);
        command::write(&mut self.writer, stream, "closeStream", 0.0, [Amf0Value::Null]);
        let goodbye = async {
            let sent = write_all(&mut self.output, self.writer.output(), "the end").await;
            if sent.is_ok() && self.output.shutdown().await.is_ok() {
                // The server closes once it has read all that.
                while self.news.recv().await.is_some() {}
            }
        };
        let _ = timeout(GOODBYE, goodbye).await;
    }

    /// Bytes given to the connection so far, chunk headers included.
    pub fn bytes_sent(&self) -> u64 {
        self.bytes_sent
    }

    /// A message of the publication on chunk stream `id`.
    fn message(&mut self, id: u8, kind: u8, timestamp_ms: u32, parts: &[&[u8]]) {
        self.fills();
        self.writer.write(id, kind, self.message_stream, timestamp_ms, parts);
    }

    /// Something is about to be written.
    fn fills(&mut self) {
        if !self.unflushed {
            self.unflushed = true;
            self.filled = Instant::now();
            self.moved = self.filled;
        }
    }

    fn heed(&mut self, news: Option<News>) -> Result<(), PushError> {
        match news {
            Some(News::Ping(timestamp)) => self.control(kind::USER_CONTROL, &[&[0, 7], &timestamp]),
            Some(News::Received(bytes)) => {
                self.control(kind::ACKNOWLEDGEMENT, &[&(bytes as u32).to_be_bytes()]);
            }
            Some(News::Failed(error)) => return Err(error),
            None => return Err(PushError::Closed("the show")),
        }
        Ok(())
    }

    fn control(&mut self, kind: u8, parts: &[&[u8]]) {
        self.fills();
        self.writer.write(2, kind, 0, 0, parts);
    }

    /// If the server said why it closes, that is the better reason.
    fn better_reason(&mut self, error: PushError) -> PushError {
        while let Ok(news) = self.news.try_recv() {
            if let News::Failed(reason) = news {
                return reason;
            }
        }
        error
    }
}

impl Drop for Push {
    fn drop(&mut self) {
        // It only reads; there is nothing to end in order.
        self.listener.abort();
    }
}

/// Gives all of the buffer, which has been in use since `filled`, to the connection. Cancel safe.
async fn flush(
    output: &mut WriteHalf<Box<dyn Transport>>,
    writer: &mut ChunkWriter,
    sent: &mut u64,
    moved: &mut Instant,
    filled: Instant,
) -> Result<(), PushError> {
    const DURING: &str = "the show";
    let (too_slow, bytes) = (filled + TOO_SLOW, writer.output());
    while !bytes.is_empty() {
        let silent = *moved + SILENT;
        match timeout_at(silent.min(too_slow), output.write_buf(bytes)).await {
            Ok(Ok(count)) if count > 0 => {
                *sent += count as u64;
                *moved = Instant::now();
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(PushError::Silent(DURING));
            }
            Ok(_) => return Err(PushError::Closed(DURING)),
            Err(_) if silent <= too_slow => return Err(PushError::Silent(DURING)),
            Err(_) => return Err(PushError::TooSlow),
        }
    }
    match timeout_at(*moved + SILENT, output.flush()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if error.kind() != io::ErrorKind::TimedOut => Err(PushError::Closed(DURING)),
        _ => Err(PushError::Silent(DURING)),
    }
}

/// Sends all of `bytes`, within the time of a step.
async fn write_all(
    output: &mut WriteHalf<Box<dyn Transport>>,
    bytes: &mut BytesMut,
    step: &'static str,
) -> Result<(), PushError> {
    let write = async {
        output.write_all_buf(bytes).await?;
        output.flush().await
    };
    match timeout(STEP, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if error.kind() != io::ErrorKind::TimedOut => Err(PushError::Closed(step)),
        _ => Err(PushError::Silent(step)),
    }
}
