//! RTMP: publishers in, pushes out.
//!
//! The server takes media from encoders, by RTMP and RTMPS, to the frame lane of a stream; the client pushes
//! a frame lane to another server. Both stand on one bounded chunk layer. `rml_rtmp` computes handshakes and
//! AMF0, behind a guard. Doesn't serve players.

mod address;
mod amf;
mod assembly;
mod capabilities;
mod chunk;
mod command;
mod connection;
mod flv;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod handshake;
mod publishing;
mod push;
mod sender_clock;
mod server;
mod session;
mod sessions;

pub use push::{
    Dialer, FailureClass, Push, PushError, PushUrl, PushUrlError, Resolver, RootsError, Step, Steps, TlsRoots,
};
pub use server::{Authorize, PublishRequest, Refusal, RtmpError, RtmpLimits, RtmpServer};
pub use sessions::{RtmpSession, RtmpSessions};
