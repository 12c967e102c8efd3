//! WHIP publishers (RFC 9725): from an SDP offer to packets on a stream.
//!
//! Sans-I/O: datagrams, time and SDP come in as arguments; datagrams and packets go out. One session is
//! owned by one thread, which feeds it: [`IngestSession`].
//!
//! `sdp` splits, and `offer` reads and checks, the client's SDP, so that the WebRTC stack only ever sees SDP
//! written by us; `peer` builds that stack and `stack` runs it; `access_unit` knows where decoding can
//! start; `receiver` turns the packets of one track into numbered ones, `loss` asks for those that are
//! missing, and `publication` places them on one timeline and hands them to the hub in epochs and batches;
//! `candidate` reads the client's candidates.

mod access_unit;
mod candidate;
mod loss;
mod offer;
mod peer;
mod publication;
mod receiver;
mod sdp;
mod session;
mod stack;
#[cfg(test)]
mod tests;

#[allow(unused_imports)] // until the driver uses it
pub(super) use peer::IngestSettings;
#[allow(unused_imports)] // until the driver uses it
pub(super) use session::IngestSession;
