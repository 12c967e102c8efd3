//! WebRTC: one UDP port for all sessions; WHIP publishers come in by `ingest`, WHEP viewers go out by
//! `egress`.

#[allow(dead_code)] // until the driver uses it
mod ingest;
mod session;
#[allow(dead_code)] // until the driver uses it
mod transmit;

pub use session::{InvalidSessionId, SessionError, SessionId};
