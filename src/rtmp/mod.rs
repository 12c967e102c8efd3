//! RTMP: publishers in, pushes out.
//!
//! The server takes H.264 and AAC from encoders to the frame lane of a stream; the client pushes a frame
//! lane to another server. Both stand on one bounded chunk layer. `rml_rtmp` computes handshakes and
//! AMF0, behind a guard. Doesn't serve players.

mod amf;
mod assembly;
mod chunk;
mod command;
mod flv;
mod handshake;
mod push;
mod push_url;
mod server;
mod session;
mod transport;

pub use push::{Push, PushError};
pub use push_url::{PushUrl, PushUrlError};
pub use server::{Authorize, PublishRequest, Refusal, RtmpError, RtmpServer};
pub use transport::TlsRoots;
