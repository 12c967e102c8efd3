//! How a session ends: why, what the peer is told, and the wait for it to have read that.

use super::{HANDSHAKE_PATIENCE, PUBLISH_PATIENCE, SILENCE, Session, input};
use crate::rtmp::amf::AmfError;
use crate::rtmp::assembly::AssemblyError;
use crate::rtmp::chunk::ChunkError;
use crate::rtmp::command;
use crate::rtmp::handshake::HandshakeError;
use std::io;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};
use tracing::debug;

/// How long a refused client may take to read why.
const FAREWELL: Duration = Duration::from_secs(2);
/// Milliseconds that the answer to a wrong key waits, at least and at most.
const DELAY: (u64, u64) = (20, 120);

/// Why a session ended, other than by the peer's wish.
#[derive(Debug, thiserror::Error)]
pub(in crate::rtmp) enum SessionError {
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
    Command(AmfError),
    #[error("unusable media: {0}")]
    Media(#[from] AssemblyError),
    #[error("refused: {0}")]
    Refused(String),
    #[error("not authorised: {0}")]
    Denied(String),
    #[error("ended by an operator")]
    Kicked,
    #[error("another publisher has taken the name over, because this one was silent")]
    Superseded,
    #[error("the server is going down")]
    Closing,
    #[error("connection lost: {0}")]
    Io(#[from] io::Error),
    #[error("the peer does not read")]
    WriteTimeout,
}

impl Session {
    /// Tells a publisher why the server ends its session.
    pub(super) fn say_why(&mut self, stream: u32, error: &SessionError) {
        let code = match error {
            SessionError::Media(_) => "NetStream.Publish.Failed",
            SessionError::Kicked | SessionError::Superseded => "NetConnection.Connect.Closed",
            SessionError::Closing => {
                self.ask_to_reconnect();
                "NetConnection.Connect.Closed"
            }
            SessionError::Silent | SessionError::PublishTimeout => "NetConnection.Connect.IdleTimeOut",
            SessionError::Command(_) | SessionError::Chunk(_) => "NetConnection.Call.Failed",
            // Already told, or nobody is there to be told.
            SessionError::Handshake(_)
            | SessionError::HandshakeTimeout
            | SessionError::Refused(_)
            | SessionError::Denied(_)
            | SessionError::Io(_)
            | SessionError::WriteTimeout => return,
        };
        command::write_status(&mut self.writer, stream, "error", code, &error.to_string());
    }

    /// Enhanced RTMP v2, "Reconnect Request": who has said that it knows what to do comes back by itself.
    fn ask_to_reconnect(&mut self) {
        if self.reconnects {
            let code = "NetConnection.Connect.ReconnectRequest";
            let why = "The server is going down; connect again.";
            command::write_status(&mut self.writer, 0, "status", code, why);
        }
    }

    /// Sends what is left and waits a little for the peer to close: unread input would turn the close
    /// into a reset, and the peer would never see why.
    pub(super) async fn farewell(&mut self, wrong_key: bool) {
        if wrong_key {
            sleep(Duration::from_millis(rand::random_range(DELAY.0..=DELAY.1))).await;
        }
        let goodbye = async {
            self.flush().await?;
            self.connection.shutdown().await?;
            let mut ignored = bytes::BytesMut::new();
            while input::fill(&mut self.connection, &mut ignored).await? > 0 {
                ignored.clear();
                input::release(&mut ignored);
            }
            Ok::<(), SessionError>(())
        };
        if let Ok(Err(error)) = timeout(FAREWELL, goodbye).await {
            debug!(remote = %self.remote, %error, "The peer was gone before its goodbye.");
        }
    }
}
