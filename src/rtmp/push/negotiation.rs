//! From a connection to an accepted publication: handshake, `connect`, `createStream`, `publish`.

use super::answers::{ping, protocol, refusal, to_command};
use super::authmod::Login;
use super::dialer::{Dialer, Transport};
use super::{CHUNK_SIZE, PushError, PushUrl, STEP, Step, Steps, WINDOW, write_all};
use crate::rtmp::amf;
use crate::rtmp::chunk::{ChunkReader, ChunkWriter, Limits, kind};
use crate::rtmp::command::{self, Command};
use crate::rtmp::handshake;
use rml_rtmp::rml_amf0::Amf0Value;
use tokio::io::{AsyncReadExt, ReadHalf, WriteHalf, split};
use tokio::time::timeout;

/// The dialogue before the first media.
pub(super) struct Negotiation<'a> {
    pub(super) url: &'a PushUrl,
    pub(super) input: ReadHalf<Box<dyn Transport>>,
    pub(super) output: WriteHalf<Box<dyn Transport>>,
    pub(super) reader: ChunkReader,
    pub(super) writer: ChunkWriter,
    pub(super) message_stream: u32,
    /// In what words the server has refused, as they came.
    refused: String,
}

impl<'a> Negotiation<'a> {
    /// Connects, up to the server's answer to `connect`; anew where that wants a login. Each step has 5 s; `steps`
    /// hears of each that is done.
    pub(super) async fn open(
        url: &'a PushUrl,
        dialer: &Dialer,
        steps: &mut Steps<'_>,
    ) -> Result<Self, PushError> {
        let mut login = Login::new(url);
        let mut this = Self::greet(url, dialer, steps).await?;
        while let Err(error) = this.connect(&login).await {
            if !matches!(error, PushError::Rejected { .. })
                || !login.rejected(&this.refused, rand::random())?
            {
                return Err(error);
            }
            // The server closes, too. What comes again is part of `connect`.
            drop(this);
            this = Self::greet(url, dialer, &mut |_| {}).await?;
        }
        steps(Step::Connect);
        Ok(this)
    }

    /// Connects, up to the end of the handshake.
    async fn greet(url: &'a PushUrl, dialer: &Dialer, steps: &mut Steps<'_>) -> Result<Self, PushError> {
        let mut transport = dialer.dial(url, steps).await?;
        let early = match timeout(STEP, handshake::connect(&mut transport)).await {
            Ok(Ok(early)) => early,
            Ok(Err(handshake::HandshakeError::NotRtmp)) => {
                return Err(PushError::Protocol(handshake::HandshakeError::NotRtmp.to_string()));
            }
            Ok(Err(_)) => return Err(PushError::Closed("the handshake")),
            Err(_) => return Err(PushError::Silent("the handshake")),
        };
        steps(Step::Handshake);
        let (input, output) = split(transport);
        let mut reader = ChunkReader::new(Limits::COMMANDS);
        reader.input().extend_from_slice(&early);
        let writer = ChunkWriter::new();
        Ok(Self { url, input, output, reader, writer, message_stream: 0, refused: String::new() })
    }

    async fn connect(&mut self, login: &Login<'_>) -> Result<(), PushError> {
        self.writer.set_chunk_size(CHUNK_SIZE);
        self.writer.write(2, kind::WINDOW_SIZE, 0, 0, &[&WINDOW.to_be_bytes()]);
        let properties = amf::object([
            ("app", amf::text(&login.app())),
            ("type", amf::text("nonprivate")),
            ("flashVer", amf::text("FMLE/3.0 (compatible; Tidegate)")),
            ("tcUrl", amf::text(&login.tc_url())),
        ]);
        command::write(&mut self.writer, 0, "connect", 1.0, [properties]);
        self.flush("connect").await?;
        self.result(1.0, "connect").await?;
        Ok(())
    }

    /// Asks for the publication, up to the server's consent.
    pub(super) async fn publish(&mut self) -> Result<(), PushError> {
        let url = self.url;
        let key = url.key_path();
        command::write(&mut self.writer, 0, "releaseStream", 2.0, [Amf0Value::Null, amf::text(key)]);
        command::write(&mut self.writer, 0, "FCPublish", 3.0, [Amf0Value::Null, amf::text(key)]);
        command::write(&mut self.writer, 0, "createStream", 4.0, [Amf0Value::Null]);
        self.flush("createStream").await?;
        let created = self.result(4.0, "createStream").await?;
        self.message_stream = match created.arguments.first() {
            Some(Amf0Value::Number(number)) if *number >= 0.0 && *number <= f64::from(u32::MAX) => {
                *number as u32
            }
            _ => return Err(PushError::Protocol("createStream gave no stream".into())),
        };

        let arguments = [Amf0Value::Null, amf::text(url.key.reveal()), amf::text("live")];
        command::write(&mut self.writer, self.message_stream, "publish", 5.0, arguments);
        self.flush("publish").await?;
        self.await_start().await
    }

    /// Waits for the answer to a call.
    async fn result(&mut self, transaction: f64, step: &'static str) -> Result<Command, PushError> {
        self.until(step, |command| {
            let ours = command.transaction == transaction;
            match command.name.as_str() {
                "_result" if ours => Some(Ok(command.clone())),
                _ => None,
            }
        })
        .await
    }

    async fn await_start(&mut self) -> Result<(), PushError> {
        self.until("publish", |command| {
            let started =
                command.name == "onStatus" && command.property("code") == Some("NetStream.Publish.Start");
            started.then_some(Ok(()))
        })
        .await
    }

    /// Reads until `want` finds what it wants; refusals and deadlines come first.
    async fn until<T>(
        &mut self,
        step: &'static str,
        want: impl Fn(&Command) -> Option<Result<T, PushError>>,
    ) -> Result<T, PushError> {
        let wait = async {
            loop {
                while let Some(message) = self.reader.next_message().map_err(protocol)? {
                    if let Some(ping) = ping(&message) {
                        self.writer.write(2, kind::USER_CONTROL, 0, 0, &[&[0, 7], &ping]);
                        self.flush(step).await?;
                    }
                    let Some(command) = to_command(&message)? else { continue };
                    if let Some(refusal) = refusal(&command, self.url) {
                        // releaseStream and FCPublish (2, 3) may be unknown to a server.
                        if command.name != "_error" || ![2.0, 3.0].contains(&command.transaction) {
                            self.refused = command.property("description").unwrap_or_default().to_owned();
                            return Err(refusal);
                        }
                    }
                    if let Some(found) = want(&command) {
                        return found;
                    }
                }
                self.reader.input().reserve(4096);
                match self.input.read_buf(self.reader.input()).await {
                    Ok(count) if count > 0 => {}
                    _ => return Err(PushError::Closed(step)),
                }
            }
        };
        timeout(STEP, wait).await.unwrap_or(Err(PushError::Silent(step)))
    }

    async fn flush(&mut self, step: &'static str) -> Result<(), PushError> {
        write_all(&mut self.output, self.writer.output(), step).await
    }
}
