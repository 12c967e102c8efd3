//! The commands of a publisher (RTMP 1.0 §7.2, and those that encoders add): `connect` to `deleteStream`.

use super::{PUBLISH_PATIENCE, Session, SessionError, WINDOW};
use crate::media::{Frame, StreamName};
use crate::rtmp::address::Application;
use crate::rtmp::amf;
use crate::rtmp::capabilities;
use crate::rtmp::chunk::{Limits, kind};
use crate::rtmp::command::{self, Command};
use crate::rtmp::publishing::Publishing;
use crate::stream::{PublishError, Source, SourceKind};
use rml_rtmp::rml_amf0::Amf0Value;
use tokio::time::Instant;
use tracing::debug;

/// Message streams a connection may create.
const MESSAGE_STREAMS: u32 = 16;
/// Payload of the chunks that we send.
const CHUNK_SIZE: u32 = 4096;

const PUBLISH_DENIED: &str = "NetStream.Publish.Denied";
const PUBLISH_START: &str = "NetStream.Publish.Start";
const UNPUBLISH_SUCCESS: &str = "NetStream.Unpublish.Success";

impl Session {
    pub(super) fn handle_command(&mut self, stream: u32, command: &Command) -> Result<(), SessionError> {
        match command.name.as_str() {
            "connect" => self.handle_connect(command),
            "createStream" => {
                if self.application.is_none() || self.message_streams == MESSAGE_STREAMS {
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
                self.handle_unpublish(command);
                Ok(())
            }
            "getStreamLength" => {
                self.answer(command, Amf0Value::Number(0.0));
                Ok(())
            }
            "FCPublish" => {
                self.answer(command, Amf0Value::Undefined);
                // vMix and FMLE send `publish` only after this.
                self.write_event_of_fc("onFCPublish", PUBLISH_START, "Go on and publish.");
                Ok(())
            }
            "releaseStream" | "_checkbw" => {
                self.answer(command, Amf0Value::Undefined);
                Ok(())
            }
            // Answers to calls that we never made, and commands about playing, need none.
            _ => Ok(()),
        }
    }

    fn handle_connect(&mut self, command: &Command) -> Result<(), SessionError> {
        const REJECTED: &str = "NetConnection.Connect.Rejected";
        if self.application.is_some() {
            return self.refuse_connect(command, REJECTED, "this connection has an application already");
        }
        let application = match Application::parse(command) {
            Ok(application) => application,
            Err(error) => return self.refuse_connect(command, REJECTED, &error.to_string()),
        };
        debug!(remote = %self.remote, application = %application.name().escape_debug(), "RTMP client connected.");
        self.application = Some(application);
        let extensions = command.number("capsEx").map(|bits| bits as u32);
        self.reconnects = extensions.is_some_and(|bits| bits & u32::from(capabilities::RECONNECT) != 0);
        self.write_window();
        // §5.4.5: 2 is a dynamic limit.
        self.writer.write(2, kind::PEER_BANDWIDTH, 0, 0, &[&WINDOW.to_be_bytes(), &[2]]);
        self.writer.set_chunk_size(CHUNK_SIZE);
        let server = [("fmsVer", amf::text("FMS/3,0,1,123")), ("capabilities", Amf0Value::Number(31.0))];
        let properties = server.into_iter().chain(capabilities::properties());
        let information = amf::object([
            ("level", amf::text("status")),
            ("code", amf::text("NetConnection.Connect.Success")),
            ("description", amf::text("Connection succeeded.")),
            // AMF3 is not spoken here, whatever the client asked for (§7.2.1.1).
            ("objectEncoding", Amf0Value::Number(0.0)),
        ]);
        let result = [amf::object(properties), information];
        command::write(&mut self.writer, 0, "_result", command.transaction, result);
        Ok(())
    }

    fn handle_publish(&mut self, stream: u32, command: &Command) -> Result<(), SessionError> {
        let Some(application) = &self.application else {
            return self.refuse(stream, PUBLISH_DENIED, "connect first");
        };
        if self.publishing.is_some() {
            return self.refuse(stream, "NetStream.Publish.BadName", "this connection already publishes");
        }
        let request = match application.request(command.text(0).unwrap_or_default(), self.remote) {
            Ok(request) => request,
            Err(error) => return self.refuse(stream, PUBLISH_DENIED, &error.to_string()),
        };
        let name: StreamName = match (self.authorize)(&request) {
            Ok(name) => name,
            Err(refusal) => {
                let _ = self.refuse(stream, PUBLISH_DENIED, &refusal.description);
                return Err(SessionError::Denied(refusal.description));
            }
        };
        // Answered by `publish`, after a look at who has the name.
        self.asked = Some((stream, name));
        Ok(())
    }

    /// Takes the name, if it is to be had, and answers `publish`.
    pub(super) fn publish(&mut self, stream: u32, name: StreamName) -> Result<(), SessionError> {
        let source = Source { kind: SourceKind::Rtmp, remote: Some(self.remote) };
        let publisher = match self.hub.publish::<Frame>(name.clone(), source) {
            Ok(publisher) => publisher,
            Err(error @ PublishError::Taken(_)) => {
                return self.refuse(stream, "NetStream.Publish.BadName", &error.to_string());
            }
            Err(error @ PublishError::Closing) => {
                return self.refuse(stream, PUBLISH_DENIED, &error.to_string());
            }
        };
        let publishing = Publishing::new(Instant::now().into(), publisher, stream);
        self.registration = Some(self.sessions.register(name, self.remote, publishing.kicked()));
        self.kicked = Some(Box::pin(publishing.kicked().cancelled_owned()));
        self.publishing = Some(publishing);
        self.half_open = None;
        self.reader.set_limits(Limits::MEDIA);
        self.write_stream_begin(stream);
        command::write_status(&mut self.writer, stream, "status", PUBLISH_START, "Publishing.");
        Ok(())
    }

    fn handle_unpublish(&mut self, command: &Command) {
        if let Some(publishing) = self.publishing.take() {
            (self.kicked, self.registration) = (None, None);
            self.reader.set_limits(Limits::COMMANDS);
            self.publish_deadline = Instant::now() + PUBLISH_PATIENCE;
            let stream = publishing.message_stream();
            command::write_status(&mut self.writer, stream, "status", UNPUBLISH_SUCCESS, "Unpublished.");
        }
        if command.name == "FCUnpublish" {
            self.answer(command, Amf0Value::Undefined);
            self.write_event_of_fc("onFCUnpublish", UNPUBLISH_SUCCESS, "Unpublished.");
        }
    }

    /// What Flash Media Server sends after an answer to `FCPublish` or `FCUnpublish`.
    fn write_event_of_fc(&mut self, name: &str, code: &str, description: &str) {
        let information = amf::object([
            ("level", amf::text("status")),
            ("code", amf::text(code)),
            ("description", amf::text(description)),
        ]);
        command::write(&mut self.writer, 0, name, 0.0, [Amf0Value::Null, information]);
    }

    /// Answers with a result, if one is wanted.
    fn answer(&mut self, command: &Command, result: Amf0Value) {
        if command.transaction != 0.0 {
            command::write(&mut self.writer, 0, "_result", command.transaction, [Amf0Value::Null, result]);
        }
    }

    /// §7.2.1.1: the answer to a refused `connect` is an `_error` of its transaction.
    fn refuse_connect(&mut self, command: &Command, code: &str, why: &str) -> Result<(), SessionError> {
        let information = amf::object([
            ("level", amf::text("error")),
            ("code", amf::text(code)),
            ("description", amf::text(why)),
        ]);
        let answer = [Amf0Value::Null, information];
        command::write(&mut self.writer, 0, "_error", command.transaction, answer);
        Err(SessionError::Refused(why.to_owned()))
    }

    /// States the refusal and ends the session.
    fn refuse(&mut self, stream: u32, code: &str, why: &str) -> Result<(), SessionError> {
        command::write_status(&mut self.writer, stream, "error", code, why);
        Err(SessionError::Refused(why.to_owned()))
    }
}
