//! Why a push fails, in words for whoever set it up.

use crate::admission::NotAllowed;
use crate::media::Codec;
use serde::Serialize;
use std::net::SocketAddr;
use utoipa::ToSchema;

/// Why a push failed. Never holds the stream key.
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
    /// The host has an address that may not be connected to.
    #[error("{host} may not be a target: {why}")]
    NotAllowed {
        /// The name.
        host: String,
        /// Which address, and how to allow it.
        why: NotAllowed,
    },
    /// TCP could not connect.
    #[error("can't connect to {address}: {reason}")]
    Connect {
        /// The address tried last.
        address: SocketAddr,
        /// What the system said.
        reason: String,
        /// Nobody listens there, as opposed to: no answer came.
        refused: bool,
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
    /// The server takes media, but far slower than they come.
    #[error("the server takes media slower than they come")]
    TooSlow,
    /// The connection ended.
    #[error("the server closed the connection during {0}")]
    Closed(&'static str),
    /// What came was not RTMP.
    #[error("the server does not speak RTMP properly: {0}")]
    Protocol(String),
    /// The sound can't be made what the target wants.
    #[error("the sound can't be encoded again: {0}")]
    Sound(String),
    /// A codec that RTMP as spoken here can't carry.
    #[error("{0} can't be sent over RTMP")]
    Codec(Codec),
}

/// Failures sorted by what would help. Programs read it, so words stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TargetFailureClass)]
pub enum FailureClass {
    /// The name has no address, or nobody says which.
    NameResolution,
    /// The address is not one that may be connected to.
    NotAllowed,
    /// Nobody listens there.
    Refused,
    /// No way there, or no answer.
    Unreachable,
    /// TLS failed: most likely the certificate.
    Tls,
    /// The server said no: most likely the key is wrong.
    Rejected,
    /// The server says and takes nothing any more.
    Silent,
    /// The server takes media slower than they come.
    TooSlow,
    /// The server closed the connection.
    Closed,
    /// It is no RTMP server.
    Protocol,
    /// The publisher's media can't be sent there.
    Codec,
}

impl PushError {
    /// What kind of failure it is.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Dns { .. } => FailureClass::NameResolution,
            Self::NotAllowed { .. } => FailureClass::NotAllowed,
            Self::Connect { refused: true, .. } => FailureClass::Refused,
            Self::Connect { .. } => FailureClass::Unreachable,
            Self::Tls { .. } => FailureClass::Tls,
            Self::Rejected { .. } => FailureClass::Rejected,
            Self::Silent(_) => FailureClass::Silent,
            Self::TooSlow => FailureClass::TooSlow,
            Self::Closed(_) => FailureClass::Closed,
            Self::Protocol(_) => FailureClass::Protocol,
            Self::Sound(_) | Self::Codec(_) => FailureClass::Codec,
        }
    }

    /// The server's own code for its refusal, such as `NetStream.Publish.Denied`.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Rejected { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether the server holds an old session on this name, most likely our own.
    pub fn is_name_taken(&self) -> bool {
        self.code() == Some("NetStream.Publish.BadName")
    }

    /// Whether the server closed the connection once it had been told the stream key.
    pub fn is_closed_after_key(&self) -> bool {
        // `releaseStream`, which goes out with `createStream`, is the first to tell it.
        matches!(self, Self::Closed("createStream" | "publish" | "the show"))
    }

    /// Whether trying again soon is of no use: somebody must change something first.
    pub fn is_refusal(&self) -> bool {
        let refused = matches!(self, Self::Rejected { .. } | Self::NotAllowed { .. } | Self::Codec(_));
        refused && !self.is_name_taken()
    }
}
