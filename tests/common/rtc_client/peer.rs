//! The task of a client: its stack, its socket, and what a test does to both.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::media::{KeyframeRequestKind, MediaKind, Mid, Pt, Rid};
use str0m::net::Receive;
use str0m::rtp::{RawPacket, RtpPacket, RtpWrite};
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::event::{MediaPacket, RtcEvent};
use super::options::is_media;
use super::sdp;
use super::wire::Wire;

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Pass,
    Drop,
    Delay(Duration),
}

/// An RTP packet to be sent.
#[derive(Clone, Debug)]
pub struct RtpOut {
    pub kind: MediaKind,
    pub rid: Option<String>,
    /// `None`: the next one of its stream.
    pub sequence: Option<u64>,
    /// Ticks of the codec's clock.
    pub timestamp: u32,
    pub marker: bool,
    pub payload: Vec<u8>,
}

/// What a client counts.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) connected: AtomicU64,
    pub(super) keyframe_requests: AtomicU64,
}

/// Something to be done on the task.
pub(super) type Command = Box<dyn FnOnce(&mut Peer) + Send>;
/// Decides about datagrams; sees them as they are on the wire, RTP headers in clear.
pub(super) type Filter = Box<dyn FnMut(&[u8]) -> Fate + Send>;

/// The state of the task.
pub(super) struct Peer {
    rtc: Rtc,
    wire: Wire,
    local: SocketAddr,
    sections: Vec<(MediaKind, Mid, Pt)>,
    answer: String,
    events: UnboundedSender<RtcEvent>,
    counts: Arc<Counts>,
    due: Instant,
    pub(super) incoming: Filter,
    pub(super) outgoing: Filter,
    /// Whether the socket is read.
    pub(super) reading: bool,
    /// Whether anything is done but commands.
    pub(super) frozen: bool,
    /// Whether its own STUN goes out.
    pub(super) checking: bool,
    outbox: Vec<(Vec<u8>, SocketAddr)>,
    delayed: Vec<Delayed>,
    sequences: HashMap<(bool, Option<String>), u64>,
    restart: Option<SdpPendingOffer>,
}

struct Delayed {
    due: Instant,
    incoming: bool,
    data: Vec<u8>,
    peer: SocketAddr,
}

impl Peer {
    /// A peer whose answer is here.
    pub(super) fn new(
        mut rtc: Rtc,
        wire: Wire,
        mids: Vec<(MediaKind, Mid)>,
        pending: SdpPendingOffer,
        answer: &str,
        events: UnboundedSender<RtcEvent>,
        counts: Arc<Counts>,
    ) -> Self {
        let parsed =
            SdpAnswer::from_sdp_string(answer).unwrap_or_else(|error| panic!("answer: {error}\n{answer}"));
        let accepted = rtc.sdp_api().accept_answer(pending, parsed);
        accepted.unwrap_or_else(|error| panic!("answer: {error}\n{answer}"));
        let sections = mids
            .into_iter()
            .filter_map(|(kind, mid)| {
                let types = rtc.media(mid)?.remote_pts();
                let fits = |pt: &&Pt| {
                    let mut known = rtc.codec_config().params().iter();
                    known.any(|params| params.pt() == **pt && is_media(params.spec().codec, kind))
                };
                Some((kind, mid, *types.iter().find(fits)?))
            })
            .collect();
        let local = wire.local_addr().expect("a bound socket");
        Self {
            rtc,
            wire,
            local,
            sections,
            answer: answer.to_owned(),
            events,
            counts,
            due: Instant::now(),
            incoming: Box::new(|_| Fate::Pass),
            outgoing: Box::new(|_| Fate::Pass),
            reading: true,
            frozen: false,
            checking: true,
            outbox: Vec::new(),
            delayed: Vec::new(),
            sequences: HashMap::new(),
            restart: None,
        }
    }

    /// Runs until all senders of commands are gone.
    pub(super) async fn run(mut self, mut commands: UnboundedReceiver<Command>) {
        loop {
            self.flush().await;
            let due = self.delayed.iter().map(|delayed| delayed.due).fold(self.due, Instant::min);
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => command(&mut self),
                    None => return,
                },
                received = self.wire.receive(), if self.reading && !self.frozen => match received {
                    Ok((data, peer)) => self.receive(data, peer),
                    Err(_) if matches!(self.wire, Wire::Tcp(_)) => {
                        let _ = self.events.send(RtcEvent::Closed);
                        self.reading = false;
                    }
                    Err(_) => {} // an ICMP message about something that was sent
                },
                () = tokio::time::sleep_until(due.into()), if !self.frozen => self.elapse(),
            }
        }
    }

    /// Sends one packet.
    pub(super) fn write(&mut self, out: RtpOut) {
        let Some(&(_, mid, pt)) = self.sections.iter().find(|section| section.0 == out.kind) else { return };
        let next = self.sequences.entry((out.kind == MediaKind::Video, out.rid.clone())).or_insert(1000);
        let sequence = out.sequence.unwrap_or(*next);
        *next = sequence + 1;
        let now = Instant::now();
        let rid = out.rid.as_deref().map(Rid::from);
        let mut api = self.rtc.direct_api();
        let Some(stream) = api.stream_tx_by_mid(mid, rid) else { panic!("nothing to send {rid:?} on") };
        let packet = RtpWrite::new(pt, sequence.into(), out.timestamp, now, out.payload);
        stream.write_rtp(packet.marker(out.marker).nackable(out.kind == MediaKind::Video));
        let _ = self.rtc.handle_input(Input::Timeout(now));
        self.drain(now);
    }

    /// Asks for a keyframe of the video that comes in.
    pub(super) fn request_keyframe(&mut self) {
        let Some(&(_, mid, _)) = self.sections.iter().find(|section| section.0 == MediaKind::Video) else {
            return;
        };
        if let Some(stream) = self.rtc.direct_api().stream_rx_by_mid(mid, None) {
            stream.request_keyframe(KeyframeRequestKind::Pli);
        }
        let now = Instant::now();
        let _ = self.rtc.handle_input(Input::Timeout(now));
        self.drain(now);
    }

    /// Reports losses of the video that comes in, RTX or not.
    pub(super) fn nack_without_rtx(&mut self) {
        let video =
            self.sections.iter().find(|section| section.0 == MediaKind::Video).map(|section| section.1);
        let Some(mid) = video else { return };
        if let Some(stream) = self.rtc.direct_api().stream_rx_by_mid(mid, None) {
            stream.suppress_nack(false);
        }
        self.drain(Instant::now());
    }

    /// Queues a datagram past the stack and the filters.
    pub(super) fn send_raw(&mut self, data: Vec<u8>, peer: SocketAddr) {
        self.outbox.push((data, peer));
    }

    /// Begins an ICE restart: the fragment with the new credentials.
    pub(super) fn begin_restart(&mut self) -> String {
        let mut changes = self.rtc.sdp_api();
        changes.ice_restart(true);
        let (offer, pending) = changes.apply().expect("a restart is to be negotiated");
        self.restart = Some(pending);
        let fragment = sdp::fragment_of(&offer.to_sdp_string());
        self.drain(Instant::now());
        fragment
    }

    /// Goes on with the server's fragment.
    pub(super) fn finish_restart(&mut self, fragment: &str) {
        let pending = self.restart.take().expect("a restart was begun");
        self.answer = sdp::answer_after_restart(&self.answer, fragment);
        let answer = SdpAnswer::from_sdp_string(&self.answer).expect("the answer with other credentials");
        self.rtc.sdp_api().accept_answer(pending, answer).expect("the restart is accepted");
        self.drain(Instant::now());
        self.elapse();
    }

    /// A candidate of the server's, trickled.
    pub(super) fn add_remote_candidate(&mut self, candidate: Candidate) {
        self.rtc.add_remote_candidate(candidate);
        self.drain(Instant::now());
    }

    /// Says BYE and close_notify.
    pub(super) fn leave(&mut self) {
        let _ = self.rtc.close();
        self.drain(Instant::now());
    }

    fn receive(&mut self, data: Vec<u8>, peer: SocketAddr) {
        match (self.incoming)(&data) {
            Fate::Pass => self.handle(&data, peer),
            Fate::Drop => {}
            Fate::Delay(time) => {
                self.delayed.push(Delayed { due: Instant::now() + time, incoming: true, data, peer });
            }
        }
    }

    fn handle(&mut self, data: &[u8], peer: SocketAddr) {
        let now = Instant::now();
        if let Ok(received) = Receive::new(self.wire.protocol(), peer, self.local, data) {
            let _ = self.rtc.handle_input(Input::Receive(now, received));
            self.drain(now);
        }
    }

    fn elapse(&mut self) {
        let now = Instant::now();
        let _ = self.rtc.handle_input(Input::Timeout(now));
        self.drain(now);
        let due: Vec<_> = self.delayed.extract_if(.., |delayed| delayed.due <= now).collect();
        for delayed in due {
            if delayed.incoming {
                self.handle(&delayed.data, delayed.peer);
            } else {
                self.outbox.push((delayed.data, delayed.peer));
            }
        }
    }

    fn drain(&mut self, now: Instant) {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Transmit(transmit)) => {
                    let (data, peer) = (transmit.contents.to_vec(), transmit.destination);
                    if !self.checking && is_stun(&data) {
                        continue;
                    }
                    match (self.outgoing)(&data) {
                        Fate::Pass => self.outbox.push((data, peer)),
                        Fate::Drop => {}
                        Fate::Delay(time) => {
                            self.delayed.push(Delayed { due: now + time, incoming: false, data, peer });
                        }
                    }
                }
                Ok(Output::Timeout(due)) => {
                    self.due = due;
                    return;
                }
                Ok(Output::Event(event)) => self.tell(event, now),
                Err(_) => {
                    self.due = now + Duration::from_secs(3600);
                    let _ = self.events.send(RtcEvent::Closed);
                    return;
                }
            }
        }
    }

    fn tell(&mut self, event: Event, now: Instant) {
        let event = match event {
            Event::Connected => {
                self.counts.connected.fetch_add(1, Ordering::Relaxed);
                RtcEvent::Connected
            }
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) => RtcEvent::Disconnected,
            Event::Closed => RtcEvent::Closed,
            Event::KeyframeRequest(request) => {
                self.counts.keyframe_requests.fetch_add(1, Ordering::Relaxed);
                RtcEvent::KeyframeRequest { rid: request.rid.map(|rid| rid.to_string()), at: now }
            }
            Event::RtpPacket(packet) => match self.media(packet, now) {
                Some(packet) => RtcEvent::Media(packet),
                None => return,
            },
            Event::RawPacket(raw) => match *raw {
                RawPacket::RtcpRx(rtcp) => RtcEvent::Rtcp(Box::new(rtcp)),
                _ => return,
            },
            _ => return,
        };
        let _ = self.events.send(event);
    }

    fn media(&mut self, packet: RtpPacket, now: Instant) -> Option<MediaPacket> {
        let (mid, rid) = {
            let mut api = self.rtc.direct_api();
            let stream = api.stream_rx(&packet.header.ssrc)?;
            (stream.mid(), stream.rid())
        };
        Some(MediaPacket {
            kind: self.sections.iter().find(|section| section.1 == mid)?.0,
            rid: rid.map(|rid| rid.to_string()),
            ssrc: *packet.header.ssrc,
            payload_type: *packet.header.payload_type,
            sequence: *packet.seq_no,
            timestamp: packet.header.timestamp,
            marker: packet.header.marker,
            payload: packet.payload.to_vec(),
            at: now,
        })
    }

    async fn flush(&mut self) {
        for (data, peer) in std::mem::take(&mut self.outbox) {
            let _ = self.wire.send(&data, peer).await;
        }
    }
}

/// A STUN message (RFC 7983 §7).
pub fn is_stun(data: &[u8]) -> bool {
    matches!(data, [0..=3, ..])
}

/// A DTLS record.
pub fn is_dtls(data: &[u8]) -> bool {
    matches!(data, [20..=63, ..])
}

/// An RTP packet. Its payload type is `data[1] & 0x7f`.
pub fn is_rtp(data: &[u8]) -> bool {
    matches!(data, [128..=191, second, ..] if !(192..=223).contains(second))
}

/// An RTCP packet (RFC 5761 §4).
pub fn is_rtcp(data: &[u8]) -> bool {
    matches!(data, [128..=191, 192..=223, ..])
}
