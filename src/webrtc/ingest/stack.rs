//! The WebRTC stack behind a wall: a panic in it is its end, and nobody else's.

use super::offer::Offer;
use super::peer;
use crate::webrtc::transmit::Transmit;
use bytes::BytesMut;
use rtc::peer_connection::message::{RTCMessage, TaggedRTCMessage};
use rtc::peer_connection::transport::RTCDtlsTransportState;
use rtc::rtcp;
use rtc::sansio::Protocol;
use rtc::shared::error::Error as RtcError;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;
use tracing::{debug, warn};
use webrtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionEvent, RTCPeerConnectionState};

/// One peer connection.
pub(super) struct Stack {
    /// `None` once it has failed or is closed.
    peer: Option<Box<RTCPeerConnection>>,
    outgoing: VecDeque<Transmit>,
    /// There may be datagrams to send.
    stirred: bool,
    failed: bool,
}

/// What came of something that was done with a stack.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) states: Vec<RTCPeerConnectionState>,
    pub(super) packets: Vec<rtc::rtp::Packet>,
    pub(super) reports: Vec<Box<dyn rtcp::Packet>>,
}

impl Stack {
    pub(super) fn new(peer: RTCPeerConnection) -> Self {
        Self { peer: Some(Box::new(peer)), outgoing: VecDeque::new(), stirred: true, failed: false }
    }

    /// A datagram came.
    pub(super) fn read(
        &mut self,
        now: Instant,
        local: SocketAddr,
        peer: SocketAddr,
        data: BytesMut,
    ) -> Outcome {
        let transport = TransportContext {
            local_addr: local,
            peer_addr: peer,
            transport_protocol: TransportProtocol::UDP,
            ecn: None,
        };
        self.run(|stack| stack.handle_read(TaggedBytesMut { now, transport, message: data }))
    }

    /// Time has passed.
    pub(super) fn timeout(&mut self, now: Instant) -> Outcome {
        self.run(|stack| stack.handle_timeout(now))
    }

    /// When [`Self::timeout`] is due.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        self.guarded(|stack| stack.poll_timeout()).flatten()
    }

    /// The publisher may be at this address.
    pub(super) fn candidate(&mut self, address: SocketAddr) -> Outcome {
        self.run(|stack| stack.add_remote_candidate(peer::remote_candidate(address)))
    }

    /// The offer has more to say.
    pub(super) fn negotiate(&mut self, now: Instant, offer: &Offer) -> Outcome {
        self.run(|stack| peer::negotiate(now, stack, offer))
    }

    /// Sends feedback to the publisher.
    pub(super) fn feedback(&mut self, now: Instant, feedback: Box<dyn rtcp::Packet>) -> Outcome {
        let message = RTCMessage::RtcpPacket(String::new(), vec![feedback]);
        self.run(|stack| stack.handle_write(TaggedRTCMessage { now, message }))
    }

    /// Whether the publisher has said close_notify. The stack calls itself connected even then.
    pub(super) fn is_closed_by_peer(&mut self) -> bool {
        let closed = self.guarded(|stack| {
            let first = stack.get_receivers().next()?;
            let receiver = stack.rtp_receiver(first)?;
            Some(receiver.transport()?.state() == RTCDtlsTransportState::Closed)
        });
        closed.flatten() == Some(true)
    }

    /// Whether it panicked.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// The next datagram to send.
    pub(super) fn poll_transmit(&mut self) -> Option<Transmit> {
        if self.outgoing.is_empty() && std::mem::take(&mut self.stirred) {
            self.collect();
        }
        self.outgoing.pop_front()
    }

    /// Says close_notify; nothing is taken any more.
    pub(super) fn close(&mut self) {
        self.run(RTCPeerConnection::close);
        self.collect();
        self.peer = None;
    }

    /// Does something, then takes events and media.
    fn run(&mut self, act: impl FnOnce(&mut RTCPeerConnection) -> Result<(), RtcError>) -> Outcome {
        let mut outcome = Outcome::default();
        self.stirred = true;
        self.guarded(|stack| {
            if let Err(error) = act(stack) {
                debug!(%error, "The WebRTC stack refused.");
            }
            while let Some(event) = stack.poll_event() {
                if let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event {
                    outcome.states.push(state);
                }
            }
            while let Some(TaggedRTCMessage { message, .. }) = stack.poll_media_read() {
                match message {
                    RTCMessage::RtpPacket(_, packet) => outcome.packets.push(packet),
                    RTCMessage::RtcpPacket(_, reports) => outcome.reports.extend(reports),
                    _ => {}
                }
            }
        });
        outcome
    }

    fn collect(&mut self) {
        let mut outgoing = std::mem::take(&mut self.outgoing);
        self.guarded(|stack| {
            while let Some(TaggedBytesMut { transport, message, .. }) = stack.poll_write() {
                let (peer, local) = (transport.peer_addr, transport.local_addr);
                outgoing.push_back(Transmit { peer, local, data: message });
            }
        });
        self.outgoing = outgoing;
    }

    fn guarded<T>(&mut self, act: impl FnOnce(&mut RTCPeerConnection) -> T) -> Option<T> {
        let peer = self.peer.as_mut()?;
        // Whatever state it is left in, it is not used after a panic.
        let done = catch_unwind(AssertUnwindSafe(|| act(peer)));
        if done.is_err() {
            warn!("The WebRTC stack failed.");
            self.peer = None;
            self.failed = true;
        }
        done.ok()
    }
}
