//! Viewers of another WebRTC stack (str0m): they shake hands, then count what comes without opening it.
//!
//! Each has a socket of its own. STUN, DTLS and RTCP go on through the stack, so consent holds.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket as StdSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc};
use tokio::net::UdpSocket;

/// What all clients count together.
#[derive(Debug, Default)]
pub struct Counts {
    pub connected: AtomicU64,
    pub packets: AtomicU64,
    pub over: AtomicU64,
}

/// A viewer before its answer.
pub struct Offered {
    rtc: Rtc,
    pending: SdpPendingOffer,
    socket: StdSocket,
    local: SocketAddr,
    /// What is to be sent.
    pub sdp: String,
}

impl Offered {
    /// An offer to receive H.264 and Opus.
    pub fn new() -> Self {
        let socket = StdSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        socket.set_nonblocking(true).expect("a socket option");
        let local = socket.local_addr().expect("a bound socket");
        let builder = Rtc::builder().set_rtp_mode(true).clear_codecs().enable_opus(true, false);
        let mut rtc = builder.enable_h264(true).build(Instant::now());
        rtc.add_local_candidate(Candidate::host(local, "udp").expect("a valid address"));
        let mut changes = rtc.sdp_api();
        for kind in [MediaKind::Audio, MediaKind::Video] {
            changes.add_media(kind, Direction::RecvOnly, None, None, None);
        }
        let (offer, pending) = changes.apply().expect("media are to be negotiated");
        Self { rtc, pending, socket, local, sdp: offer.to_sdp_string() }
    }

    /// Takes the answer and runs until the task is aborted. Needs a runtime.
    pub async fn run(self, answer: String, counts: Arc<Counts>) {
        let Self { mut rtc, pending, socket, local, .. } = self;
        let answer = SdpAnswer::from_sdp_string(&answer).expect("a valid answer");
        rtc.sdp_api().accept_answer(pending, answer).expect("an acceptable answer");
        let socket = UdpSocket::from_std(socket).expect("a runtime");
        let mut client = Client { rtc, socket, local, counts, connected: false, due: Instant::now() };
        client.drain();
        loop {
            tokio::select! {
                ready = client.socket.readable() => {
                    ready.expect("an open socket");
                    client.read();
                }
                () = tokio::time::sleep_until(client.due.into()) => {
                    let _ = client.rtc.handle_input(Input::Timeout(Instant::now()));
                    client.drain();
                }
            }
        }
    }
}

/// A socket that counts, for the floor.
pub fn counting_socket() -> StdSocket {
    let socket = StdSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    socket.set_nonblocking(true).expect("a socket option");
    socket
}

/// Counts all that comes, until the task is aborted.
pub async fn count(socket: StdSocket, counts: Arc<Counts>) {
    let socket = UdpSocket::from_std(socket).expect("a runtime");
    let mut buffer = [0; 2048];
    loop {
        socket.readable().await.expect("an open socket");
        while socket.try_recv(&mut buffer).is_ok() {
            counts.packets.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Client {
    rtc: Rtc,
    socket: UdpSocket,
    local: SocketAddr,
    counts: Arc<Counts>,
    connected: bool,
    due: Instant,
}

impl Client {
    fn read(&mut self) {
        let mut buffer = [0; 2048];
        while let Ok((length, peer)) = self.socket.try_recv_from(&mut buffer) {
            let data = &buffer[..length];
            let is_rtp = matches!(data, [128..=191, second, ..] if !(192..=223).contains(second));
            if is_rtp {
                self.counts.packets.fetch_add(1, Ordering::Relaxed);
                if self.connected {
                    continue;
                }
            }
            if let Ok(received) = Receive::new(Protocol::Udp, peer, self.local, data) {
                let _ = self.rtc.handle_input(Input::Receive(Instant::now(), received));
                self.drain();
            }
        }
    }

    fn drain(&mut self) {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Transmit(transmit)) => {
                    let _ = self.socket.try_send_to(&transmit.contents, transmit.destination);
                }
                Ok(Output::Timeout(due)) => {
                    self.due = due;
                    return;
                }
                Ok(Output::Event(Event::Connected)) => {
                    self.connected = true;
                    self.counts.connected.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Output::Event(Event::Closed)) => {
                    self.counts.over.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Output::Event(_)) => {}
                Err(_) => {
                    self.due = Instant::now() + Duration::from_secs(3600);
                    return;
                }
            }
        }
    }
}
