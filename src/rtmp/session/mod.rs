//! One publisher's connection: handshake, commands, then media to the hub, until either side ends it.
//!
//! One task owns it all. Waiting is bounded: 5 s for the handshakes, 10 s from there to `publish`, then
//! 8 s of silence. Whatever the peer sends costs this connection at most. An idle one holds no read buffer.

mod commands;
mod control;
mod ending;
mod input;

pub(super) use ending::SessionError;

use super::address::Application;
use super::chunk::{ChunkReader, ChunkWriter, Limits, Message, aggregate, kind};
use super::command::{self, Command};
use super::connection::Connection;
use super::handshake::{self, HandshakeError};
use super::publishing::Publishing;
use super::server::{Authorize, Visitor};
use super::sessions::{Registration, RtmpSessions};
use crate::admission::Place;
use crate::media::StreamName;
use crate::stream::{Dismissal, Hub};
use bytes::BytesMut;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);
const PUBLISH_PATIENCE: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(8);
const WRITE_PATIENCE: Duration = Duration::from_secs(5);
/// The acknowledgement window we ask for, and ours until the peer states another.
const WINDOW: u32 = 2_500_000;

/// Our own code, of level "warning": encoders end what is told them with level "error", or with some of Adobe's codes.
const UNUSABLE_TRACK: &str = "NetStream.Publish.UnusableTrack";

/// A connection after its handshake.
pub(super) struct Session {
    connection: Connection,
    remote: SocketAddr,
    hub: Hub,
    authorize: Authorize,
    reader: ChunkReader,
    writer: ChunkWriter,
    /// What `connect` said.
    application: Option<Application>,
    /// The peer takes a request to connect again.
    reconnects: bool,
    message_streams: u32,
    publishing: Option<Publishing>,
    sessions: Arc<RtmpSessions>,
    /// What others see of it while it publishes.
    registration: Option<Registration>,
    /// Done when the publisher must go.
    kicked: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// The message stream and the name of a `publish` that is to be answered next.
    asked: Option<(u32, StreamName)>,
    /// Held until something is published.
    half_open: Option<Place>,
    window: u64,
    acknowledged: u64,
    /// Bytes sent since the handshake.
    sent: u64,
    /// When `publish` must have come, while nothing is published.
    publish_deadline: Instant,
    last_received: Instant,
    /// The peer said goodbye by itself.
    finished: bool,
}

impl Session {
    /// Serves one connection until it ends.
    pub(super) async fn run(
        visitor: Visitor,
        hub: Hub,
        authorize: Authorize,
        sessions: Arc<RtmpSessions>,
        cancel: CancellationToken,
    ) -> Result<(), SessionError> {
        let Visitor { connection, tls, remote, half_open, place: _place } = visitor;
        connection.set_nodelay(true)?;
        // On the heap only while it lasts: a session's task is as large as the largest of its states.
        let greeting = Box::pin(async {
            let mut connection = match tls {
                Some(tls) => {
                    let stream = tls.accept(connection).await.map_err(HandshakeError::Io)?;
                    Connection::Tls(Box::new(stream))
                }
                None => Connection::Plain(connection),
            };
            let early = handshake::accept(&mut connection).await?;
            Ok::<_, SessionError>((connection, early))
        });
        let (connection, early) = tokio::select! {
            () = cancel.cancelled() => return Err(SessionError::Closing),
            done = timeout(HANDSHAKE_PATIENCE, greeting) => done.map_err(|_| SessionError::HandshakeTimeout)??,
        };
        Self::new(connection, early, remote, hub, (authorize, sessions), half_open).live(&cancel).await
    }

    fn new(
        connection: Connection,
        early: BytesMut,
        remote: SocketAddr,
        hub: Hub,
        (authorize, sessions): (Authorize, Arc<RtmpSessions>),
        half_open: Place,
    ) -> Self {
        let mut reader = ChunkReader::new(Limits::COMMANDS);
        *reader.input() = early;
        Self {
            connection,
            remote,
            hub,
            authorize,
            reader,
            writer: ChunkWriter::new(),
            application: None,
            reconnects: false,
            message_streams: 0,
            publishing: None,
            sessions,
            registration: None,
            kicked: None,
            asked: None,
            half_open: Some(half_open),
            window: WINDOW.into(),
            acknowledged: 0,
            sent: 0,
            publish_deadline: Instant::now() + PUBLISH_PATIENCE,
            last_received: Instant::now(),
            finished: false,
        }
    }

    /// The dialogue, and its end in order.
    async fn live(mut self, cancel: &CancellationToken) -> Result<(), SessionError> {
        let result = self.serve(cancel).await;
        // The hub hears of the end before the peer does.
        self.registration = None;
        let message_stream = self.publishing.take().map_or(0, |publishing| publishing.message_stream());
        if let Err(error) = &result {
            self.say_why(message_stream, error);
        }
        self.farewell(matches!(result, Err(SessionError::Denied(_)))).await;
        result
    }

    async fn serve(&mut self, cancel: &CancellationToken) -> Result<(), SessionError> {
        // One waiter and one timer for the whole session: nothing is registered anew with each read.
        let mut cancelled = pin!(cancel.cancelled());
        let mut timer = pin!(sleep_until(self.publish_deadline));
        loop {
            while let Some(message) = self.reader.next_message()? {
                self.handle(message)?;
                if let Some((stream, name)) = self.asked.take() {
                    input::release(self.reader.input());
                    tokio::select! {
                        () = &mut cancelled => return Err(SessionError::Closing),
                        () = self.hub.settle(&name) => {}
                    }
                    self.publish(stream, name)?;
                }
                if self.finished {
                    return Ok(());
                }
            }
            input::release(self.reader.input());
            self.acknowledge();
            self.flush().await?;
            if let Some(registration) = &self.registration {
                registration.moved(self.reader.received(), self.sent);
            }
            // A deadline that has moved on is looked at when the timer fires.
            let deadline = self.deadline();
            if deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
            let kicked = async {
                match &mut self.kicked {
                    Some(kicked) => kicked.as_mut().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = &mut cancelled => return Err(SessionError::Closing),
                () = kicked => return Err(self.dismissed()),
                count = input::fill(&mut self.connection, self.reader.input()) => match count {
                    Ok(0) => return Ok(()),
                    // RTMP has a goodbye of its own; few clients add that of TLS.
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
                    count => {
                        count?;
                        self.last_received = Instant::now();
                    }
                },
                () = &mut timer => {
                    if deadline <= Instant::now() {
                        self.handle_timeout()?;
                    }
                    let deadline = self.deadline();
                    timer.as_mut().reset(deadline);
                }
            }
        }
    }

    /// Why the hub wants this publisher gone.
    fn dismissed(&self) -> SessionError {
        match self.publishing.as_ref().and_then(Publishing::dismissal) {
            Some(Dismissal::Superseded) => SessionError::Superseded,
            Some(Dismissal::Closing) => SessionError::Closing,
            Some(Dismissal::Kicked) | None => SessionError::Kicked,
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
            Some(publishing) => {
                publishing.handle_timeout(now.into())?;
                self.warn();
                Ok(())
            }
        }
    }

    fn handle(&mut self, message: Message) -> Result<(), SessionError> {
        match message.kind {
            // Media before `publish` or after its end belongs to nobody.
            kind::AUDIO | kind::VIDEO => match &mut self.publishing {
                Some(publishing) => {
                    publishing.media(Instant::now().into(), &message)?;
                    self.warn();
                    Ok(())
                }
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
            kind::AGGREGATE if self.publishing.is_some() => {
                aggregate::split(&message).try_for_each(|part| self.handle(part))
            }
            _ => self.handle_control(&message),
        }
    }

    /// Tells the publisher of a mistake that costs it a part of its media, not its session.
    fn warn(&mut self) {
        let Some(publishing) = &mut self.publishing else { return };
        let stream = publishing.message_stream();
        if let Some(warning) = publishing.take_warning() {
            command::write_status(&mut self.writer, stream, "warning", UNUSABLE_TRACK, &warning);
        }
    }

    async fn flush(&mut self) -> Result<(), SessionError> {
        if self.writer.output().is_empty() {
            return Ok(());
        }
        self.sent += self.writer.output().len() as u64;
        let write = async {
            self.connection.write_all_buf(self.writer.output()).await?;
            // TLS may have kept some of it.
            self.connection.flush().await
        };
        timeout(WRITE_PATIENCE, write).await.map_err(|_| SessionError::WriteTimeout)??;
        Ok(())
    }
}
