//! The RTMP client: connects to a server, publishes, and writes one frame at a time.
//!
//! Promises that no step waits for ever: each of connecting has 5 s, each write has 7 s, and a peer that
//! acknowledges nothing is found by TCP. A task reads what the server says meanwhile, so that its pings
//! are answered and its refusals noticed. Doesn't reconnect: that is the restream worker's business.

mod answers;
mod negotiation;
mod transport;
mod url;

pub use transport::TlsRoots;
pub use url::{PushUrl, PushUrlError};

use super::chunk::{ChunkReader, ChunkWriter, Limits, kind};
use super::{amf, command, flv, handshake};
use crate::media::{Codec, Frame, MediaKind, Tracks};
use answers::{News, listen};
use bytes::BytesMut;
use negotiation::Negotiation;
use rml_rtmp::rml_amf0::Amf0Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, WriteHalf, split};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use transport::Transport;

const STEP: Duration = Duration::from_secs(5);
const WRITE: Duration = Duration::from_secs(7);
/// How long a clean end may take.
const GOODBYE: Duration = Duration::from_secs(2);
const CHUNK_SIZE: u32 = 65_536;
/// How often we want the server to acknowledge, in bytes.
const WINDOW: u32 = 2_500_000;
/// What the server says that nobody has read yet.
const NEWS: usize = 32;

/// Why a push failed, in words for whoever set it up. Never holds the stream key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The host name has no address.
    #[error("can't find {host}: {reason}")]
    Dns {
        /// The name.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// TCP could not connect.
    #[error("can't connect to {address}: {reason}")]
    Connect {
        /// The address tried last.
        address: SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// TLS could not connect.
    #[error("no secure connection to {host}: {reason}")]
    Tls {
        /// The name that the certificate should have.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// The server said no.
    #[error("the server refused: {code} {description}")]
    Rejected {
        /// The status code, such as `NetStream.Publish.BadName`.
        code: String,
        /// Its own words.
        description: String,
    },
    /// The server did not answer, or took no media.
    #[error("the server fell silent during {0}")]
    Silent(&'static str),
    /// The connection ended.
    #[error("the server closed the connection during {0}")]
    Closed(&'static str),
    /// What came was not RTMP.
    #[error("the server does not speak RTMP properly: {0}")]
    Protocol(String),
    /// A codec that RTMP as spoken here can't carry.
    #[error("{0} can't be sent over RTMP")]
    Codec(Codec),
}

impl PushError {
    /// Whether the server holds an old session on this name, most likely our own.
    pub fn is_name_taken(&self) -> bool {
        matches!(self, Self::Rejected { code, .. } if code == "NetStream.Publish.BadName")
    }
}

/// A connection on which the server has accepted our `publish`.
pub struct Push {
    output: WriteHalf<Box<dyn Transport>>,
    writer: ChunkWriter,
    news: mpsc::Receiver<News>,
    listener: JoinHandle<()>,
    key: String,
    message_stream: u32,
    bytes_sent: u64,
}

impl Push {
    /// Connects, and returns once the server has accepted the publication.
    pub async fn connect(url: &PushUrl, roots: &TlsRoots) -> Result<Self, PushError> {
        let mut transport = transport::connect(url, roots).await?;
        let early = match timeout(STEP, handshake::connect(&mut transport)).await {
            Ok(Ok(early)) => early,
            Ok(Err(handshake::HandshakeError::NotRtmp)) => {
                return Err(PushError::Protocol(handshake::HandshakeError::NotRtmp.to_string()));
            }
            Ok(Err(_)) => return Err(PushError::Closed("the handshake")),
            Err(_) => return Err(PushError::Silent("the handshake")),
        };
        let (input, output) = split(transport);
        let mut reader = ChunkReader::new(Limits::COMMANDS);
        reader.input().extend_from_slice(&early);
        let mut negotiation = Negotiation::new(url, input, output, reader);
        negotiation.run().await?;
        let Negotiation { input, output, reader, writer, message_stream, .. } = negotiation;
        let (sender, news) = mpsc::channel(NEWS);
        let listener = tokio::spawn(listen(input, reader, sender, url.key_path().to_owned()));
        let key = url.key_path().to_owned();
        Ok(Self { output, writer, news, listener, key, message_stream, bytes_sent: 0 })
    }

    /// Sends metadata and sequence headers; what is written next belongs to these tracks.
    pub async fn begin_epoch(&mut self, tracks: &Tracks, timestamp_ms: u32) -> Result<(), PushError> {
        for (codec, carried) in
            [(tracks.codec(MediaKind::Video), Codec::H264), (tracks.codec(MediaKind::Audio), Codec::Aac)]
        {
            if let Some(codec) = codec.filter(|codec| *codec != carried) {
                return Err(PushError::Codec(codec));
            }
        }
        let values = [amf::text("@setDataFrame"), amf::text("onMetaData"), flv::metadata(tracks)];
        let stream = self.message_stream;
        self.writer.write(4, kind::DATA, stream, timestamp_ms, &[&amf::serialize(&values)]);
        if let Some(track) = &tracks.video {
            let header = flv::video_header(true, true, 0);
            self.writer.write(6, kind::VIDEO, stream, timestamp_ms, &[&header, &track.codec_data]);
        }
        if let Some(track) = &tracks.audio {
            let header = flv::audio_header(true);
            self.writer.write(5, kind::AUDIO, stream, timestamp_ms, &[&header, &track.codec_data]);
        }
        self.flush().await
    }

    /// Sends one frame, decoded at `timestamp_ms` (modulo 2^32). Not cancel safe: a frame may be half sent.
    pub async fn write(&mut self, frame: &Frame, timestamp_ms: u32) -> Result<(), PushError> {
        while let Ok(news) = self.news.try_recv() {
            self.heed(news)?;
        }
        let stream = self.message_stream;
        match frame.kind {
            MediaKind::Video => {
                let offset = frame.pts.as_millis() - frame.dts.as_millis();
                // A signed number of 24 bits.
                let offset = offset.clamp(-0x80_0000, 0x7f_ffff) as i32;
                let header = flv::video_header(frame.keyframe, false, offset);
                self.writer.write(6, kind::VIDEO, stream, timestamp_ms, &[&header, &frame.data]);
            }
            MediaKind::Audio => {
                let header = flv::audio_header(false);
                self.writer.write(5, kind::AUDIO, stream, timestamp_ms, &[&header, &frame.data]);
            }
        }
        self.flush().await
    }

    /// Answers the server while there is nothing to write; returns when the session has failed.
    /// Cancel safe: an answer that was cut short is finished by the next write.
    pub async fn attend(&mut self) -> PushError {
        loop {
            let Some(news) = self.news.recv().await else { return PushError::Closed("the show") };
            if let Err(error) = self.heed(news) {
                return error;
            }
            if let Err(error) = self.flush().await {
                return error;
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
            if self.flush().await.is_ok() && self.output.shutdown().await.is_ok() {
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

    fn heed(&mut self, news: News) -> Result<(), PushError> {
        match news {
            News::Ping(timestamp) => {
                self.writer.write(2, kind::USER_CONTROL, 0, 0, &[&[0, 7], &timestamp]);
                Ok(())
            }
            News::Received(bytes) => {
                self.writer.write(2, kind::ACKNOWLEDGEMENT, 0, 0, &[&(bytes as u32).to_be_bytes()]);
                Ok(())
            }
            News::Failed(error) => Err(error),
        }
    }

    async fn flush(&mut self) -> Result<(), PushError> {
        let (sent, result) = send(&mut self.output, self.writer.output(), "the show").await;
        self.bytes_sent += sent;
        let Err(error) = result else { return Ok(()) };
        // If the server said why it closes, that is the better reason.
        while let Ok(news) = self.news.try_recv() {
            self.heed(news)?;
        }
        Err(error)
    }
}

impl Drop for Push {
    fn drop(&mut self) {
        // It only reads; there is nothing to end in order.
        self.listener.abort();
    }
}

async fn send(
    output: &mut WriteHalf<Box<dyn Transport>>,
    bytes: &mut BytesMut,
    step: &'static str,
) -> (u64, Result<(), PushError>) {
    let before = bytes.len();
    let write = async {
        while !bytes.is_empty() {
            if output.write_buf(bytes).await? == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
        }
        output.flush().await
    };
    let result = match timeout(WRITE, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::TimedOut => Err(PushError::Silent(step)),
        Ok(Err(_)) => Err(PushError::Closed(step)),
        Err(_) => Err(PushError::Silent(step)),
    };
    ((before - bytes.len()) as u64, result)
}
