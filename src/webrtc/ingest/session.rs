//! One WHIP session: the state that its datagrams change.
//!
//! Promises: nothing is believed that is not authentic; a publisher that falls silent is found within 10 s;
//! when the session ends the name is free at once. Nothing is allocated for a packet on its way to the hub.

use super::answer::answer;
use super::bandwidth::Bandwidth;
use super::feedback;
use super::format::Format;
use super::offer::{Offer, Section};
use super::publication::Publication;
use super::receiver::{Incoming, Receiver};
use super::rtp::Header;
use super::source::{Role, Source};
use super::sources::{Destination, Sources};
use super::telling::ARRIVALS_INTERVAL;
use super::twcc::Arrivals;
use crate::media::{SenderReport, StreamName};
use crate::stream::{Dismissal, Hub, KeyframeWishes, PublishError, Source as PublisherSource, SourceKind};
use crate::webrtc::path::Path;
use crate::webrtc::session::{SessionError, SessionState};
use crate::webrtc::socket::Outlet;
use crate::webrtc::traffic::Traffic;
use crate::webrtc::transport::{Identity, Transport};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

/// A publisher from which nothing came for so long is gone.
const SILENCE: Duration = Duration::from_secs(8);
/// Between two receiver reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Handshake flights are looked after so often.
const HANDSHAKE_TICK: Duration = Duration::from_millis(50);
/// RTCP from sources not seen before, in one session: each costs memory before it proves authentic.
const UNKNOWN_SOURCES: u16 = 256;

/// One publisher's session.
pub(in crate::webrtc) struct IngestSession {
    pub(super) name: StreamName,
    pub(super) offer: Offer,
    pub(super) transport: Transport,
    /// `None` once the session has ended.
    pub(super) publication: Option<Publication>,
    pub(super) sources: Sources,
    pub(super) receivers: Vec<Receiver>,
    /// If the publisher wants to know them.
    pub(super) arrivals: Option<Arrivals>,
    /// If the publisher takes the receiver's estimate instead.
    pub(super) bandwidth: Option<Bandwidth>,
    started: Instant,
    heard: Instant,
    kicked: CancellationToken,
    pub(super) keyframe_requests: watch::Receiver<KeyframeWishes>,
    /// When the publisher was last asked for keyframes.
    pub(super) asked_for_keyframes: Option<Instant>,
    unknown_sources: u16,
    next_report: Instant,
    pub(super) next_arrivals: Instant,
    next_handshake: Instant,
    /// Feedback that is being written.
    pub(super) outgoing: Vec<u8>,
    /// What others see of it.
    pub(super) traffic: Arc<Traffic>,
}

impl IngestSession {
    /// Reads the offer, takes the name in the hub and makes the answer. `candidates`: the lines of ours.
    ///
    /// # Errors
    /// What is wrong with the offer; a name that is taken; a hub that closes.
    pub(in crate::webrtc) fn new(
        now: Instant,
        identity: Arc<Identity>,
        candidates: &str,
        hub: &Hub,
        name: StreamName,
        offer: &str,
        remote: SocketAddr,
    ) -> Result<(Self, String), SessionError> {
        let offer = Offer::parse(offer)?;
        let source = PublisherSource { kind: SourceKind::Whip, remote: Some(remote) };
        let publisher = hub.publish(name.clone(), source).map_err(|error| match error {
            PublishError::Taken(name) => SessionError::StreamTaken(name),
            PublishError::Closing => SessionError::Closing,
        })?;
        let transport = Transport::new(now, identity, &offer.remote);
        let answer = answer(&offer, &transport, candidates);
        let wants = |feedback: &str| {
            let mut formats = offer.sections.iter().flat_map(|section| &section.formats);
            formats.any(|format| format.knows(feedback))
        };
        let wants_arrivals = wants("transport-cc");
        let wants_estimate = !wants_arrivals && wants("goog-remb");
        let session = Self {
            name,
            transport,
            sources: Sources::new(&offer),
            receivers: Vec::new(),
            arrivals: wants_arrivals.then(|| Arrivals::new(now)),
            bandwidth: wants_estimate.then(|| Bandwidth::new(now)),
            started: now,
            heard: now,
            kicked: publisher.kicked(),
            keyframe_requests: publisher.keyframe_requests(),
            asked_for_keyframes: None,
            unknown_sources: UNKNOWN_SOURCES,
            next_report: now + REPORT_INTERVAL,
            next_arrivals: now + ARRIVALS_INTERVAL,
            next_handshake: now + HANDSHAKE_TICK,
            outgoing: Vec::new(),
            publication: Some(Publication::new(now, publisher, &offer)),
            traffic: Arc::default(),
            offer,
        };
        Ok((session, answer))
    }

    /// Our ICE user fragment: the first half of the user names in the client's checks.
    pub(in crate::webrtc) fn local_ufrag(&self) -> &str {
        self.transport.local_ufrag()
    }

    /// Its transport, for PATCH.
    pub(in crate::webrtc) fn transport(&mut self) -> &mut Transport {
        &mut self.transport
    }

    /// Where it counts what it gets, from now on.
    pub(in crate::webrtc) fn share_traffic(&mut self, traffic: Arc<Traffic>) {
        self.traffic = traffic;
    }

    /// Where the session stands.
    pub(in crate::webrtc) fn state(&self) -> SessionState {
        self.transport.state()
    }

    /// A STUN message. True if it was authentic: the path is proven.
    pub(in crate::webrtc) fn handle_stun(
        &mut self,
        now: Instant,
        path: Path,
        data: &[u8],
        outlet: &mut dyn Outlet,
    ) -> bool {
        let authentic = self.transport.handle_stun(now, path, data, outlet);
        if authentic {
            self.heard = now;
        }
        if self.transport.take_restarted() {
            // Packets may have been lost on the old path.
            self.receivers.iter_mut().for_each(|receiver| receiver.keyframe.need());
        }
        authentic
    }

    /// A DTLS datagram from a proven path.
    pub(in crate::webrtc) fn handle_dtls(&mut self, now: Instant, data: &[u8], outlet: &mut dyn Outlet) {
        if self.transport.handle_dtls(now, data, outlet) {
            info!(stream = %self.name, "WHIP session connected.");
            self.heard = now;
        }
        self.notice_end(now);
    }

    /// An RTP datagram from a proven path. It is decrypted in place; its media waits for [`Self::flush`].
    pub(in crate::webrtc) fn handle_rtp(&mut self, now: Instant, data: &mut [u8]) {
        let Some(header) = Header::parse(data) else { return };
        let Some((role, end)) = self.open(now, &header, data) else { return };
        self.heard = now;
        self.traffic.received(data.len());
        self.transport.heard(now);
        if let Some(arrivals) = &mut self.arrivals
            && let Some(number) = self.sources.transport_wide(&header, data)
        {
            arrivals.arrived(now, number);
        }
        if let Some(bandwidth) = &mut self.bandwidth {
            bandwidth.arrived(data.len());
        }
        let Some(payload) = header.payload(data, end) else { return };
        let Header { sequence, timestamp, marker, payload_type, .. } = header;
        match role {
            Role::Media(receiver) => {
                self.receive(now, receiver, payload_type, Incoming { sequence, timestamp, marker, payload });
            }
            Role::Repair(receiver) => {
                // RFC 4588 §4: the original sequence number, then the original payload. Probes have neither.
                let Some((original, payload)) = payload.split_first_chunk() else { return };
                let formats = self.offer.sections.iter().flat_map(|section| &section.formats);
                let mut repaired = formats.filter(|format| format.rtx == Some(payload_type));
                let Some(payload_type) = repaired.next().map(|format| format.payload_type) else { return };
                let sequence = u16::from_be_bytes(*original);
                self.receive(now, receiver, payload_type, Incoming { sequence, timestamp, marker, payload });
            }
        }
    }

    /// An RTCP datagram from a proven path.
    pub(in crate::webrtc) fn handle_rtcp(&mut self, now: Instant, data: &[u8]) {
        let Some(ssrc) = data.get(4..8).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])) else { return };
        if self.sources.get(ssrc).is_none() {
            let Some(left) = self.unknown_sources.checked_sub(1) else { return };
            self.unknown_sources = left;
        }
        let Some((keys, _)) = self.transport.sending() else { return };
        let Ok(plain) = keys.incoming.decrypt_rtcp(data) else { return };
        self.heard = now;
        self.transport.heard(now);
        let Some(publication) = &mut self.publication else { return };
        for report in feedback::sender_reports(&plain) {
            let declares =
                |section: &&Section| section.sources.iter().any(|(media, _)| *media == report.ssrc);
            let track = match self.sources.get(report.ssrc) {
                Some(source) => {
                    source.sender_report(now, report.ntp);
                    let Role::Media(receiver) = source.role else { continue };
                    self.receivers.get(receiver).map(|receiver| (receiver.kind, receiver.encoding))
                }
                None => {
                    let mut sections = self.offer.sections.iter().filter(|section| section.rids.is_empty());
                    sections.find(declares).map(|section| (section.kind, 0))
                }
            };
            if let Some((kind, encoding)) = track {
                let report = SenderReport { ntp: report.ntp, timestamp: report.timestamp };
                publication.sender_report(now, kind, encoding, report);
            }
        }
    }

    /// Hands the media of the latest datagrams to the hub, and tells the publisher what is due.
    pub(in crate::webrtc) fn flush(&mut self, now: Instant, outlet: &mut dyn Outlet) {
        let Some(publication) = &mut self.publication else { return };
        publication.flush(now);
        if self.kicked.is_cancelled() {
            let why = match publication.dismissal() {
                Some(Dismissal::Superseded) => {
                    "another publisher has taken the name over, because this one was silent"
                }
                Some(Dismissal::Closing) => "the server is going down",
                Some(Dismissal::Kicked) | None => "the publisher was kicked",
            };
            self.end(now, why);
            return;
        }
        if self.transport.state() != SessionState::Connected {
            return;
        }
        self.ask_for_keyframes(now);
        self.ask_for_losses(now, outlet);
        if now >= self.next_report {
            self.next_report = now + REPORT_INTERVAL;
            self.report(now);
        }
        self.tell_arrivals(now, outlet);
        self.send(outlet);
    }

    /// Does what is due.
    pub(in crate::webrtc) fn handle_timeout(&mut self, now: Instant, outlet: &mut dyn Outlet) {
        self.next_handshake = now + HANDSHAKE_TICK;
        self.transport.handle_timeout(now, outlet);
        if now >= self.heard + SILENCE && self.transport.state() == SessionState::Connected {
            self.end(now, "the publisher fell silent");
        }
        self.notice_end(now);
        self.flush(now, outlet);
    }

    /// When [`Self::handle_timeout`] is due.
    pub(in crate::webrtc) fn deadline(&self) -> Option<Instant> {
        let publication = self.publication.as_ref()?;
        if self.transport.state() == SessionState::Connecting {
            return Some(self.next_handshake);
        }
        let receivers = self.receivers.iter().filter_map(Receiver::deadline);
        let told = self.arrivals.as_ref().filter(|arrivals| arrivals.has_news()).map(|_| self.next_arrivals);
        let regular = [self.next_report, self.heard + SILENCE];
        receivers.chain(publication.deadline()).chain(told).chain(regular).min()
    }

    /// Ends the session: the peer is told, the name is free.
    pub(in crate::webrtc) fn close(&mut self, now: Instant, why: &'static str, outlet: &mut dyn Outlet) {
        self.end(now, why);
        self.transport.close(now, why, outlet);
    }

    fn end(&mut self, now: Instant, why: &'static str) {
        self.transport.end(why);
        self.notice_end(now);
    }

    /// Frees the name when the transport has ended.
    fn notice_end(&mut self, now: Instant) {
        let SessionState::Ended(why) = self.transport.state() else { return };
        if let Some(mut publication) = self.publication.take() {
            publication.flush(now);
            info!(stream = %self.name, why, "WHIP session ended.");
        }
    }

    /// Authenticates and decrypts a packet: what it carries, and where its payload ends.
    fn open(&mut self, now: Instant, header: &Header, data: &mut [u8]) -> Option<(Role, usize)> {
        let (keys, _) = self.transport.sending()?;
        let Header { ssrc, sequence, timestamp, length, .. } = *header;
        let epoch = self.started;
        if let Some(source) = self.sources.get(ssrc) {
            let end = keys.rtp_in.open(data, length, source.index(sequence)?)?;
            let rate = rate(&self.offer, header.payload_type)?;
            source.accept(now, sequence, timestamp, rate, epoch);
            return Some((source.role, end));
        }
        let destination = self.sources.destination(&self.offer, header, data)?;
        // RFC 3711 §3.3.1: sources begin with a roll-over counter of 0, but we may have missed that of one that
        // began close to the wrap.
        let mut copy = data.to_vec();
        let mut opened = keys.rtp_in.open(data, length, u64::from(sequence)).map(|end| (0, end));
        if opened.is_none() && sequence < 1 << 15 {
            let end = keys.rtp_in.open(&mut copy, length, (1 << 16) | u64::from(sequence));
            data.copy_from_slice(&copy);
            opened = end.map(|end| (1, end));
        }
        let (roll_over, end) = opened?;
        let role = self.admit(now, ssrc, destination)?;
        let mut source = Source::new(ssrc, role, roll_over, now);
        source.accept(now, sequence, timestamp, rate(&self.offer, header.payload_type)?, epoch);
        self.sources.insert(source);
        Some((role, end))
    }

    /// Finds the receiver for a new source, or makes one.
    fn admit(&mut self, now: Instant, ssrc: u32, destination: Destination) -> Option<Role> {
        let Destination { section, encoding, repair } = destination;
        let section = &self.offer.sections[section];
        let kind = section.kind;
        let known =
            self.receivers.iter().position(|receiver| receiver.kind == kind && receiver.encoding == encoding);
        if repair {
            let role = Role::Repair(known?);
            return self.sources.may_replace(now, role).then_some(role);
        }
        let repairs = section.formats.iter().any(|format| format.knows("nack"));
        let wishes = *self.keyframe_requests.borrow();
        let receiver = Receiver::new(kind, encoding, ssrc, repairs, wishes, now);
        let Some(known) = known else {
            debug!(stream = %self.name, %kind, encoding, ssrc, "A source began.");
            self.receivers.push(receiver);
            return Some(Role::Media(self.receivers.len() - 1));
        };
        let role = Role::Media(known);
        if !self.sources.may_replace(now, role) {
            return None;
        }
        info!(stream = %self.name, %kind, encoding, ssrc, "The publisher's track has a new source.");
        if let Some(publication) = &mut self.publication {
            publication.restart(kind, encoding);
        }
        self.receivers[known] = receiver;
        Some(role)
    }

    fn receive(&mut self, now: Instant, receiver: usize, payload_type: u8, packet: Incoming<'_>) {
        let Some(publication) = &mut self.publication else { return };
        let Some(format) = format_of(&self.offer, payload_type) else { return };
        let Some(receiver) = self.receivers.get_mut(receiver) else { return };
        if format.codec.kind() != receiver.kind {
            return; // a payload type of the other section
        }
        let Some(place) = receiver.receive(now, format.codec, &packet) else { return };
        if place.keyframe {
            receiver.keyframe.granted(*self.keyframe_requests.borrow());
        }
        publication.push(now, receiver.encoding, format, place, packet);
    }
}

fn format_of(offer: &Offer, payload_type: u8) -> Option<&Format> {
    let mut formats = offer.sections.iter().flat_map(|section| &section.formats);
    formats.find(|format| format.payload_type == payload_type)
}

/// The clock rate of a payload type, media or retransmission.
fn rate(offer: &Offer, payload_type: u8) -> Option<u32> {
    let mut formats = offer.sections.iter().flat_map(|section| &section.formats);
    let format =
        formats.find(|format| format.payload_type == payload_type || format.rtx == Some(payload_type))?;
    Some(format.clock_rate)
}
