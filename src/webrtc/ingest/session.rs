//! One WHIP session: the state that its datagrams change.
//!
//! Promises: no byte but STUN is looked at from an address that has not passed a STUN integrity check; a
//! fault in the WebRTC stack ends this session only; a publisher that falls silent is found within 10 s;
//! when the session ends the name is free at once.

use super::candidate;
use super::offer::{Format, Offer, Section};
use super::peer::{self, Credentials, IngestSettings};
use super::publication::Publication;
use super::receiver::{Incoming, Receiver};
use super::stack::{Outcome, Stack};
use crate::media::{MediaKind, SenderReport, StreamName};
use crate::stream::{Hub, KeyframeWishes, PublishError, Source, SourceKind};
use crate::webrtc::session::{SessionError, SessionState};
use crate::webrtc::transmit::Transmit;
use bytes::BytesMut;
use rtc::rtcp;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};
use rtc::stun::{attributes::ATTR_USERNAME, integrity::MessageIntegrity, message::Message};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};
use webrtc::peer_connection::RTCPeerConnectionState;
use webrtc::peer_connection::crypto::RTCCryptoProvider;

/// A session without ICE and DTLS is given up after this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A publisher from which nothing came for so long is gone.
const SILENCE: Duration = Duration::from_secs(8);
/// From one request for a keyframe to the next.
const KEYFRAME_INTERVAL: Duration = Duration::from_secs(1);
/// Who speaks in our feedback: we send no media.
const OUR_SSRC: u32 = 1;
/// Addresses that a publisher may have passed the check from.
const MAX_ADDRESSES: usize = 32;

/// One publisher's session.
pub(in crate::webrtc) struct IngestSession {
    name: StreamName,
    credentials: Credentials,
    offer: Offer,
    crypto: Arc<dyn RTCCryptoProvider>,
    stack: Stack,
    /// `None` once the session has ended.
    publication: Option<Publication>,
    receivers: Vec<Receiver>,
    state: SessionState,
    /// Addresses that passed a STUN integrity check.
    addresses: Vec<SocketAddr>,
    started: Instant,
    heard: Instant,
    kicked: CancellationToken,
    keyframe_requests: watch::Receiver<KeyframeWishes>,
    keyframe: KeyframeWish,
    checked_candidates: usize,
    /// As of the latest [`Self::flush`].
    stack_deadline: Option<Instant>,
}

/// What is to be said to the encoder.
#[derive(Debug, Default)]
struct KeyframeWish {
    wanted: bool,
    /// No keyframe has come yet.
    missing: bool,
    asked: Option<Instant>,
}

impl IngestSession {
    /// Reads the offer, takes the name in the hub and makes the answer.
    ///
    /// # Errors
    /// What is wrong with the offer; a name that is taken; a hub that closes.
    pub(in crate::webrtc) fn new(
        now: Instant,
        settings: &IngestSettings,
        hub: &Hub,
        name: StreamName,
        offer: &str,
        remote: SocketAddr,
    ) -> Result<(Self, String), SessionError> {
        let offer = Offer::parse(offer)?;
        if hub.get(&name).is_some_and(|stream| stream.source().is_some()) {
            return Err(SessionError::StreamTaken(name)); // before the costly part
        }
        let credentials = Credentials::random();
        let made = catch_unwind(AssertUnwindSafe(|| peer::connect(now, settings, &credentials, &offer)));
        let (peer, answer) =
            made.unwrap_or_else(|_| Err(SessionError::Internal("the WebRTC stack failed".into())))?;
        let source = Source { kind: SourceKind::Whip, remote: Some(remote) };
        let publisher = hub.publish(name.clone(), source).map_err(|error| match error {
            PublishError::Taken(name) => SessionError::StreamTaken(name),
            PublishError::Closing => SessionError::Closing,
        })?;
        let session = Self {
            name,
            credentials,
            crypto: settings.crypto().clone(),
            stack: Stack::new(peer),
            receivers: Vec::new(),
            state: SessionState::Connecting,
            addresses: Vec::new(),
            started: now,
            heard: now,
            kicked: publisher.kicked(),
            keyframe_requests: publisher.keyframe_requests(),
            keyframe: KeyframeWish { wanted: false, missing: true, asked: None },
            checked_candidates: offer.candidates.len(),
            stack_deadline: Some(now),
            publication: Some(Publication::new(publisher, &offer)),
            offer,
        };
        Ok((session, answer))
    }

    /// Our ICE user fragment: the first half of the user names in the client's checks.
    pub(in crate::webrtc) fn local_ufrag(&self) -> &str {
        &self.credentials.ufrag
    }

    /// Whether `peer` has passed a STUN integrity check: only then its datagrams are this session's.
    pub(in crate::webrtc) fn knows(&self, peer: SocketAddr) -> bool {
        self.addresses.contains(&peer)
    }

    /// Takes a datagram that came from `peer` to `local`. Media waits for [`Self::flush`].
    pub(in crate::webrtc) fn handle_datagram(
        &mut self,
        now: Instant,
        local: SocketAddr,
        peer: SocketAddr,
        data: BytesMut,
    ) {
        if self.ended() {
            return; // RFC 9725 §4.2: after the end not even STUN is answered
        }
        let stun = data.first().is_some_and(|byte| *byte < 4); // RFC 7983 §7
        if stun && !self.addresses.contains(&peer) && self.passes_check(&data) {
            if self.addresses.len() == MAX_ADDRESSES {
                self.addresses.remove(0);
            }
            debug!(stream = %self.name, %peer, "Publisher's address.");
            self.addresses.push(peer);
        }
        if !self.addresses.contains(&peer) {
            return;
        }
        self.heard = now;
        self.learn_source(now, &data);
        let dtls = data.first().is_some_and(|byte| (20..64).contains(byte));
        let outcome = self.stack.read(now, local, peer, data);
        self.take(now, outcome);
        if dtls && self.stack.is_closed_by_peer() {
            self.end(now, "the publisher closed the connection");
        }
    }

    /// Does what is due.
    pub(in crate::webrtc) fn handle_timeout(&mut self, now: Instant) {
        if self.ended() {
            return;
        }
        if self.kicked.is_cancelled() {
            self.end(now, "the publisher was kicked");
            return;
        }
        if self.state == SessionState::Connecting && now >= self.started + CONNECT_TIMEOUT {
            self.end(now, "no connection came about");
            return;
        }
        if now >= self.heard + SILENCE && self.state == SessionState::Connected {
            self.end(now, "the publisher fell silent");
            return;
        }
        let outcome = self.stack.timeout(now);
        self.take(now, outcome);
        self.flush(now);
    }

    /// When [`Self::handle_timeout`] is due.
    pub(in crate::webrtc) fn deadline(&self) -> Option<Instant> {
        if self.ended() {
            return None;
        }
        let watchdog = match self.state {
            SessionState::Connecting => self.started + CONNECT_TIMEOUT,
            _ => self.heard + SILENCE,
        };
        let receivers = self.receivers.iter().filter_map(Receiver::deadline);
        let publication = self.publication.as_ref().and_then(Publication::deadline);
        receivers.chain(publication).chain(self.stack_deadline).chain([watchdog]).min()
    }

    /// The next datagram to send.
    pub(in crate::webrtc) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.stack.poll_transmit()
    }

    /// Hands the media of the latest datagrams to the hub, and asks the publisher for what is wanted.
    pub(in crate::webrtc) fn flush(&mut self, now: Instant) {
        let Some(publication) = &mut self.publication else { return };
        publication.flush(now);
        if self.kicked.is_cancelled() {
            self.end(now, "the publisher was kicked");
            return;
        }
        self.ask_for_losses(now);
        self.ask_for_keyframe(now);
        self.stack_deadline = self.stack.deadline();
    }

    /// Takes a trickled fragment (RFC 8840).
    pub(in crate::webrtc) fn add_remote_candidate(
        &mut self,
        now: Instant,
        fragment: &str,
    ) -> Result<(), SessionError> {
        if self.ended() {
            return Err(SessionError::UnknownSession);
        }
        let fragment = candidate::fragment(fragment)?;
        if fragment.ufrag.as_ref().is_some_and(|ufrag| *ufrag != self.offer.ice_ufrag) {
            return Err(SessionError::MalformedFragment("it is of another ICE session".into()));
        }
        for address in fragment.candidates {
            if self.checked_candidates == candidate::MAX_CHECKED {
                break; // what we don't check may still check us
            }
            self.checked_candidates += 1;
            let outcome = self.stack.candidate(address);
            self.take(now, outcome);
        }
        Ok(())
    }

    /// Ends the session: the peer is told, the name is free.
    pub(in crate::webrtc) fn close(&mut self, now: Instant) {
        self.end(now, "closed");
    }

    /// Where the session stands at `now`.
    pub(in crate::webrtc) fn state(&self, _now: Instant) -> SessionState {
        self.state
    }

    fn ended(&self) -> bool {
        matches!(self.state, SessionState::Ended(_))
    }

    fn end(&mut self, now: Instant, why: &'static str) {
        if self.ended() {
            return;
        }
        if let Some(publication) = &mut self.publication {
            publication.flush(now);
        }
        info!(stream = %self.name, why, "WHIP session ended.");
        self.state = SessionState::Ended(why);
        self.publication = None;
        self.stack.close();
    }

    /// An offer need not declare its sources; the stack wants to know them before their first packet.
    fn learn_source(&mut self, now: Instant, data: &[u8]) {
        let [128..192, second, _, _, _, _, _, _, ssrc @ ..] = data else { return };
        let Some(ssrc) = ssrc.first_chunk::<4>() else { return };
        if self.state == SessionState::Connected
            && self.offer.learn_source(second & 0x7f, u32::from_be_bytes(*ssrc))
        {
            let outcome = self.stack.negotiate(now, &self.offer);
            self.take(now, outcome);
        }
    }

    /// Whether a datagram is a STUN message for this session with a valid integrity: a request under our
    /// password.
    fn passes_check(&self, data: &[u8]) -> bool {
        let mut message = Message::new();
        if message.unmarshal_binary(data).is_err() {
            return false;
        }
        let username = message.get(ATTR_USERNAME).unwrap_or_default();
        let ours = username.split(|byte| *byte == b':').next() == Some(self.credentials.ufrag.as_bytes());
        let key = self.credentials.password.as_bytes();
        ours && MessageIntegrity::check(&mut message, key, self.crypto.crypto()).is_ok()
    }

    /// Takes what came of something that was done with the stack.
    fn take(&mut self, now: Instant, outcome: Outcome) {
        if self.stack.has_failed() {
            self.end(now, "the WebRTC stack failed");
        }
        for state in outcome.states {
            self.stack_is(now, state);
        }
        for packet in outcome.packets {
            self.receive(now, packet);
        }
        self.report(now, &outcome.reports);
    }

    fn stack_is(&mut self, now: Instant, state: RTCPeerConnectionState) {
        debug!(stream = %self.name, %state, "WHIP connection.");
        match state {
            RTCPeerConnectionState::Connected if self.state == SessionState::Connecting => {
                info!(stream = %self.name, "WHIP session connected.");
                self.state = SessionState::Connected;
            }
            RTCPeerConnectionState::Failed => self.end(now, "the connection failed"),
            RTCPeerConnectionState::Closed => self.end(now, "the publisher closed the connection"),
            _ => {}
        }
    }

    fn receive(&mut self, now: Instant, packet: rtc::rtp::Packet) {
        let Some(publication) = &mut self.publication else { return };
        let header = packet.header;
        let Some((section, format)) = format_of(&self.offer, header.payload_type) else { return };
        let known = self.receivers.iter().position(|receiver| receiver.kind == section.kind);
        let receiver = match known {
            Some(index) if self.receivers[index].ssrc == header.ssrc => &mut self.receivers[index],
            Some(index) => {
                info!(stream = %self.name, kind = %section.kind, "The publisher's track has a new source.");
                publication.restart(section.kind);
                self.receivers[index] = Receiver::new(section, header.ssrc);
                self.keyframe.missing |= section.kind == MediaKind::Video;
                &mut self.receivers[index]
            }
            None => {
                self.receivers.push(Receiver::new(section, header.ssrc));
                self.keyframe.wanted |= section.kind == MediaKind::Video;
                let last = self.receivers.len() - 1;
                &mut self.receivers[last]
            }
        };
        let packet = Incoming {
            sequence: header.sequence_number,
            timestamp: header.timestamp,
            marker: header.marker,
            payload: packet.payload,
        };
        if let Some(place) = receiver.receive(now, format.codec, &packet) {
            if place.keyframe {
                // It grants every wish made before it; one made after it is for the next.
                self.keyframe.missing = false;
                self.keyframe.wanted = false;
                self.keyframe_requests.mark_unchanged();
            }
            publication.push(now, format, place, packet);
        }
    }

    fn report(&mut self, now: Instant, reports: &[Box<dyn rtcp::Packet>]) {
        let Some(publication) = &mut self.publication else { return };
        for report in reports {
            let Some(report) = report.as_any().downcast_ref::<rtcp::sender_report::SenderReport>() else {
                continue;
            };
            let declared = |section: &&Section| section.ssrc == Some(report.ssrc);
            let received = self.receivers.iter().find(|receiver| receiver.ssrc == report.ssrc);
            let kind = received
                .map(|receiver| receiver.kind)
                .or_else(|| self.offer.sections.iter().find(declared).map(|section| section.kind));
            if let Some(kind) = kind {
                let report = SenderReport { ntp: report.ntp_time, timestamp: report.rtp_time };
                publication.sender_report(now, kind, report);
            }
        }
    }

    fn ask_for_losses(&mut self, now: Instant) {
        for index in 0..self.receivers.len() {
            let missing = self.receivers[index].missing(now);
            if missing.is_empty() {
                continue;
            }
            let request = TransportLayerNack {
                sender_ssrc: OUR_SSRC,
                media_ssrc: self.receivers[index].ssrc,
                nacks: nack_pairs_from_sequence_numbers(&missing),
            };
            let outcome = self.stack.feedback(now, Box::new(request));
            self.take(now, outcome);
        }
    }

    fn ask_for_keyframe(&mut self, now: Instant) {
        let video = self.receivers.iter().find(|receiver| receiver.kind == MediaKind::Video);
        let Some(media_ssrc) = video.map(|receiver| receiver.ssrc) else { return };
        if self.keyframe_requests.has_changed().unwrap_or(false) {
            self.keyframe_requests.mark_unchanged();
            self.keyframe.wanted = true;
        }
        let recently = self.keyframe.asked.is_some_and(|asked| now < asked + KEYFRAME_INTERVAL);
        if recently || !(self.keyframe.wanted || self.keyframe.missing) {
            return;
        }
        self.keyframe.wanted = false;
        self.keyframe.asked = Some(now);
        debug!(stream = %self.name, "Asking the publisher for a keyframe.");
        let request = PictureLossIndication { sender_ssrc: OUR_SSRC, media_ssrc };
        let outcome = self.stack.feedback(now, Box::new(request));
        self.take(now, outcome);
    }
}

fn format_of(offer: &Offer, payload_type: u8) -> Option<(&Section, &Format)> {
    offer.sections.iter().find_map(|section| {
        let format = section.formats.iter().find(|format| format.payload_type == payload_type)?;
        Some((section, format))
    })
}
