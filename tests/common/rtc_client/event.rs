//! What happens to a client.

use std::time::Instant;

use str0m::media::MediaKind;
use str0m::rtp::rtcp::Rtcp;

/// One thing that happened, in order.
#[derive(Debug)]
pub enum RtcEvent {
    /// ICE and DTLS are done.
    Connected,
    /// The client's checks are not answered any more.
    Disconnected,
    /// PLI or FIR came for what this client sends.
    KeyframeRequest { rid: Option<String>, at: Instant },
    /// A media packet came; a repaired one too, once its retransmission is here.
    Media(MediaPacket),
    /// RTCP came, one event a packet of the compound.
    Rtcp(Box<Rtcp>),
    /// The server ended the DTLS association.
    Closed,
}

/// An RTP packet without its encryption.
#[derive(Clone, PartialEq, Eq)]
pub struct MediaPacket {
    pub kind: MediaKind,
    pub rid: Option<String>,
    pub ssrc: u32,
    pub payload_type: u8,
    /// The 16-bit sequence number, extended by its roll-overs.
    pub sequence: u64,
    /// Ticks of the codec's clock as on the wire.
    pub timestamp: u32,
    pub marker: bool,
    pub payload: Vec<u8>,
    /// When its datagram was read from the socket.
    pub at: Instant,
}

/// Without the payload's bytes.
impl std::fmt::Debug for MediaPacket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MediaPacket")
            .field("kind", &self.kind)
            .field("rid", &self.rid)
            .field("ssrc", &self.ssrc)
            .field("payload_type", &self.payload_type)
            .field("sequence", &self.sequence)
            .field("timestamp", &self.timestamp)
            .field("marker", &self.marker)
            .field("bytes", &self.payload.len())
            .finish()
    }
}
