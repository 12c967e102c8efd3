//! One publisher's connection: handshake, commands, then media to the hub, until either side ends it.
//!
//! One task owns it all. Waiting is bounded: 5 s for the handshake, 10 s from there to `publish`, then
//! 10 s of silence. Whatever the peer sends costs this connection at most.

use super::amf;
use super::assembly::AssemblyError;
use super::capabilities;
use super::chunk::{ChunkError, ChunkReader, ChunkWriter, Limits, Message, control_number, kind};
use super::command::{self, Command, LONGEST_NAME};
use super::handshake::{self, HandshakeError};
use super::publishing::Publishing;
use super::server::{Authorize, PublishRequest};
use crate::media::{Frame, Secret, StreamName};
use crate::stream::{Hub, PublishError, Source, SourceKind};
use rml_rtmp::rml_amf0::Amf0Value;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);
const PUBLISH_PATIENCE: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(8);
const WRITE_PATIENCE: Duration = Duration::from_secs(5);
/// How long a refused client may take to read why.
const FAREWELL: Duration = Duration::from_secs(2);
/// The acknowledgement window we ask for, and ours until the peer states another.
const WINDOW: u32 = 2_500_000;
/// Message streams a connection may create.
const MESSAGE_STREAMS: u32 = 16;
const READ_SIZE: usize = 32 * 1024;

/// Why a session ended, other than by the peer's wish.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
    #[error("no handshake within {} s", HANDSHAKE_PATIENCE.as_secs())]
    HandshakeTimeout,
    #[error("nothing was published within {} s", PUBLISH_PATIENCE.as_secs())]
    PublishTimeout,
    #[error("silent for {} s", SILENCE.as_secs())]
    Silent,
    #[error("bad chunk stream: {0}")]
    Chunk(#[from] ChunkError),
    #[error("bad command: {0}")]
    Command(amf::AmfError),
    #[error("unusable media: {0}")]
    Media(#[from] AssemblyError),
    #[error("refused: {0}")]
    Refused(String),
    #[error("ended by the server")]
    Ended,
    #[error("connection lost: {0}")]
    Io(#[from] io::Error),
    #[error("the peer does not read")]
    WriteTimeout,
}

/// A connection after its handshake.
pub(super) struct Session {
    connection: TcpStream,
    remote: SocketAddr,
    hub: Hub,
    authorize: Authorize,
    reader: ChunkReader,
    writer: ChunkWriter,
    app: Option<String>,
    message_streams: u32,
    publishing: Option<Publishing>,
    window: u64,
    acknowledged: u64,
    /// When `publish` must have come, while nothing is published.
    publish_deadline: Instant,
    last_received: Instant,
    /// The peer said goodbye by itself.
    finished: bool,
}

impl Session {
    /// Serves one connection until it ends.
    pub(super) async fn run(
        mut connection: TcpStream,
        remote: SocketAddr,
        hub: Hub,
        authorize: Authorize,
        cancel: CancellationToken,
    ) -> Result<(), SessionError> {
        connection.set_nodelay(true)?;
        let handshake = timeout(HANDSHAKE_PATIENCE, handshake::accept(&mut connection));
        let early = tokio::select! {
            () = cancel.cancelled() => return Err(SessionError::Ended),
            done = handshake => done.map_err(|_| SessionError::HandshakeTimeout)??,
        };
        let mut reader = ChunkReader::new(Limits::COMMANDS);
        reader.input().extend_from_slice(&early);
        let mut session = Self {
            connection,
            remote,
            hub,
            authorize,
            reader,
            writer: ChunkWriter::new(),
            app: None,
            message_streams: 0,
            publishing: None,
            window: WINDOW.into(),
            acknowledged: 0,
            publish_deadline: Instant::now() + PUBLISH_PATIENCE,
            last_received: Instant::now(),
            finished: false,
        };
        let result = session.serve(&cancel).await;
        // The hub hears of the end before the peer does.
        let message_stream = session.publishing.take().map_or(0, |publishing| publishing.message_stream());
        if let Err(error) = &result {
            session.say_why(message_stream, error);
        }
        session.farewell().await;
        result
    }

    async fn serve(&mut self, cancel: &CancellationToken) -> Result<(), SessionError> {
        loop {
            while let Some(message) = self.reader.next_message()? {
                self.handle(message)?;
                if self.finished {
                    return Ok(());
                }
            }
            self.acknowledge();
            self.flush().await?;
            let deadline = self.deadline();
            let kicked = self.publishing.as_ref().map(|publishing| publishing.kicked());
            let kicked = async move {
                match kicked {
                    Some(kicked) => kicked.cancelled_owned().await,
                    None => std::future::pending().await,
                }
            };
            let input = self.reader.input();
            input.reserve(READ_SIZE);
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(SessionError::Ended),
                () = kicked => return Err(SessionError::Ended),
                count = self.connection.read_buf(input) => {
                    if count? == 0 {
                        return Ok(());
                    }
                    self.last_received = Instant::now();
                }
                () = sleep_until(deadline) => self.handle_timeout()?,
            }
        }
    }

    fn deadline(&self) -> Instant {
        match &self.publishing {
            None => self.publish_deadline,
            Some(publishing) => {
                let silence = self.last_received + SILENCE;
                publishing.deadline().map_or(silence, |deadline| silence.min(deadline.into()))
            }
        }
    }

    fn handle_timeout(&mut self) -> Result<(), SessionError> {
        let now = Instant::now();
        match &mut self.publishing {
            None if now >= self.publish_deadline => Err(SessionError::PublishTimeout),
            None => Ok(()),
            Some(_) if now >= self.last_received + SILENCE => Err(SessionError::Silent),
            Some(publishing) => Ok(publishing.handle_timeout(now.into())?),
        }
    }

    fn handle(&mut self, message: Message) -> Result<(), SessionError> {
        match message.kind {
            // Media before `publish` or after its end belongs to nobody.
            kind::AUDIO | kind::VIDEO => match &mut self.publishing {
                Some(publishing) => Ok(publishing.media(Instant::now().into(), &message)?),
                None => Ok(()),
            },
            kind::COMMAND | kind::COMMAND_AMF3 => {
                let command = Command::parse(message.kind, &message.data).map_err(SessionError::Command)?;
                self.handle_command(message.stream, &command)
            }
            kind::DATA | kind::DATA_AMF3 => match &mut self.publishing {
                Some(publishing) => publishing.data(&message).map_err(SessionError::Command),
                None => Ok(()),
            },
            kind::WINDOW_SIZE => {
                // A tiny window would make us answer every packet.
                self.window = u64::from(control_number(&message.data)?).clamp(16 * 1024, 1 << 30);
                Ok(())
            }
            kind::USER_CONTROL => {
                // §7.1.7: a ping request (6) is answered with its own timestamp.
                if let [0, 6, timestamp @ ..] = &message.data[..]
                    && timestamp.len() == 4
                {
                    self.writer.write(2, kind::USER_CONTROL, 0, 0, &[&[0, 7], timestamp]);
                }
                Ok(())
            }
            kind::ACKNOWLEDGEMENT | kind::PEER_BANDWIDTH => Ok(()),
            other => {
                debug!(remote = %self.remote, kind = other, "An RTMP message of unknown type was ignored.");
                Ok(())
            }
        }
    }

    fn handle_command(&mut self, stream: u32, command: &Command) -> Result<(), SessionError> {
        debug!(remote = %self.remote, name = %command.name.escape_debug(), "RTMP command.");
        match command.name.as_str() {
            "connect" => self.handle_connect(command),
            "createStream" => {
                if self.app.is_none() || self.message_streams == MESSAGE_STREAMS {
                    let why = "too many streams, or none expected yet";
                    return self.refuse(0, "NetConnection.Call.Failed", why);
                }
                self.message_streams += 1;
                self.answer(command, Amf0Value::Number(self.message_streams.into()));
                Ok(())
            }
            "publish" => self.handle_publish(stream, command),
            "play" | "play2" => {
                let why = "RTMP playback is not offered here; play over HLS or WHEP";
                self.refuse(stream, "NetStream.Play.StreamNotFound", why)
            }
            "FCUnpublish" | "deleteStream" | "closeStream" => {
                if let Some(publishing) = self.publishing.take() {
                    self.reader.set_limits(Limits::COMMANDS);
                    self.publish_deadline = Instant::now() + PUBLISH_PATIENCE;
                    let code = "NetStream.Unpublish.Success";
                    let stream = publishing.message_stream();
                    command::write_status(&mut self.writer, stream, "status", code, "Unpublished.");
                }
                if command.name == "FCUnpublish" {
                    self.answer(command, Amf0Value::Undefined);
                }
                Ok(())
            }
            "getStreamLength" => {
                self.answer(command, Amf0Value::Number(0.0));
                Ok(())
            }
            "releaseStream" | "FCPublish" | "_checkbw" => {
                self.answer(command, Amf0Value::Undefined);
                Ok(())
            }
            // Answers to calls that we never made, and commands about playing, need none.
            _ => Ok(()),
        }
    }

    fn handle_connect(&mut self, command: &Command) -> Result<(), SessionError> {
        let app = command.property("app").unwrap_or_default();
        if app.len() > LONGEST_NAME || self.app.is_some() {
            return self.refuse(
                0,
                "NetConnection.Connect.Rejected",
                "the application name is too long, or given twice",
            );
        }
        self.app = Some(app.to_owned());
        self.writer.write(2, kind::WINDOW_SIZE, 0, 0, &[&WINDOW.to_be_bytes()]);
        // §5.4.5: 2 is a dynamic limit.
        self.writer.write(2, kind::PEER_BANDWIDTH, 0, 0, &[&WINDOW.to_be_bytes(), &[2]]);
        self.writer.set_chunk_size(4096);
        let [codecs, video, audio, extensions] = capabilities::properties();
        let properties = amf::object([
            ("fmsVer", amf::text("FMS/3,0,1,123")),
            ("capabilities", Amf0Value::Number(31.0)),
            codecs,
            video,
            audio,
            extensions,
        ]);
        let information = amf::object([
            ("level", amf::text("status")),
            ("code", amf::text("NetConnection.Connect.Success")),
            ("description", amf::text("Connection succeeded.")),
            ("objectEncoding", Amf0Value::Number(0.0)),
        ]);
        command::write(&mut self.writer, 0, "_result", command.transaction, [properties, information]);
        Ok(())
    }

    fn handle_publish(&mut self, stream: u32, command: &Command) -> Result<(), SessionError> {
        const DENIED: &str = "NetStream.Publish.Denied";
        let name = command.text(0).unwrap_or_default();
        let Some(app) = &self.app else {
            return self.refuse(stream, DENIED, "connect first");
        };
        if name.len() > LONGEST_NAME {
            return self.refuse(stream, DENIED, "the stream key is too long");
        }
        if self.publishing.is_some() {
            return self.refuse(stream, "NetStream.Publish.BadName", "this connection already publishes");
        }
        let (app, key, query) = command::split_path(app, name);
        let request =
            PublishRequest { app, key: Secret::new(key), query: query.map(Secret::new), remote: self.remote };
        let name: StreamName = match (self.authorize)(&request) {
            Ok(name) => name,
            Err(refusal) => return self.refuse(stream, DENIED, &refusal.description),
        };
        let source = Source { kind: SourceKind::Rtmp, remote: Some(self.remote) };
        let publisher = match self.hub.publish::<Frame>(name, source) {
            Ok(publisher) => publisher,
            Err(error @ PublishError::Taken(_)) => {
                return self.refuse(stream, "NetStream.Publish.BadName", &error.to_string());
            }
            Err(error @ PublishError::Closing) => return self.refuse(stream, DENIED, &error.to_string()),
        };
        self.reader.set_limits(Limits::MEDIA);
        self.publishing = Some(Publishing::new(Instant::now().into(), publisher, stream));
        // §7.1.7: event 0 is Stream Begin.
        self.writer.write(2, kind::USER_CONTROL, 0, 0, &[&[0, 0], &stream.to_be_bytes()]);
        let code = "NetStream.Publish.Start";
        command::write_status(&mut self.writer, stream, "status", code, "Publishing.");
        Ok(())
    }

    /// Answers with a result, if one is wanted.
    fn answer(&mut self, command: &Command, result: Amf0Value) {
        if command.transaction != 0.0 {
            command::write(&mut self.writer, 0, "_result", command.transaction, [Amf0Value::Null, result]);
        }
    }

    /// States the refusal and ends the session.
    fn refuse(&mut self, stream: u32, code: &str, why: &str) -> Result<(), SessionError> {
        command::write_status(&mut self.writer, stream, "error", code, why);
        Err(SessionError::Refused(why.to_owned()))
    }

    /// Tells a publisher why the server ends its session.
    fn say_why(&mut self, stream: u32, error: &SessionError) {
        let code = match error {
            SessionError::Media(_) => "NetStream.Publish.Failed",
            SessionError::Ended => "NetConnection.Connect.Closed",
            SessionError::Silent | SessionError::PublishTimeout => "NetConnection.Connect.IdleTimeOut",
            SessionError::Command(_) => "NetConnection.Call.Failed",
            // Already told, or nobody is there to be told.
            _ => return,
        };
        command::write_status(&mut self.writer, stream, "error", code, &error.to_string());
    }

    /// §5.4.3: the total received, modulo 2^32, twice in each window.
    fn acknowledge(&mut self) {
        let received = self.reader.received();
        if received - self.acknowledged >= self.window / 2 {
            self.acknowledged = received;
            self.writer.write(2, kind::ACKNOWLEDGEMENT, 0, 0, &[&(received as u32).to_be_bytes()]);
        }
    }

    async fn flush(&mut self) -> Result<(), SessionError> {
        if self.writer.output().is_empty() {
            return Ok(());
        }
        let write = self.connection.write_all_buf(self.writer.output());
        timeout(WRITE_PATIENCE, write).await.map_err(|_| SessionError::WriteTimeout)??;
        Ok(())
    }

    /// Sends what is left and waits a little for the peer to close: unread input would turn the close
    /// into a reset, and the peer would never see why.
    async fn farewell(&mut self) {
        let goodbye = async {
            self.flush().await?;
            self.connection.shutdown().await?;
            let mut ignored = [0; 4096];
            while self.connection.read(&mut ignored).await? > 0 {}
            Ok::<(), SessionError>(())
        };
        if let Ok(Err(error)) = timeout(FAREWELL, goodbye).await {
            debug!(remote = %self.remote, %error, "The peer was gone before its goodbye.");
        }
    }
}
