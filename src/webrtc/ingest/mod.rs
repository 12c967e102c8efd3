//! WHIP publishers (RFC 9725): from an SDP offer to packets on a stream.
//!
//! Sans-I/O: datagrams, time and SDP come in as arguments; datagrams and packets go out. One session is
//! owned by one thread, which feeds it: [`IngestSession`].
//!
//! `sdp` splits, `offer` and `format` read and check the client's SDP, and `answer` writes ours. `rtp` reads
//! packets, `sources` tells whose they are, `source` counts them; `access_unit` knows where decoding can start;
//! `receiver` turns the packets of one encoding into numbered ones, `loss` asks for those that are missing, and
//! `publication` places them on one timeline and hands them to the hub in epochs and batches; `layers` puts the
//! encodings of simulcast in order. `telling`
//! decides what the publisher is told, `feedback` and `twcc` write it, `bandwidth` estimates what its way holds; `candidate` reads trickled fragments. The connection itself is
//! `transport`'s.

mod access_unit;
mod answer;
mod bandwidth;
mod feedback;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod layers;
mod loss;
mod offer;
mod publication;
mod receiver;
mod rtp;
mod session;
mod source;
mod sources;
mod telling;
#[cfg(test)]
mod tests;
mod twcc;

pub(super) use session::IngestSession;
