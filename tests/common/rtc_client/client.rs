//! The handle of a client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use str0m::change::SdpPendingOffer;
use str0m::media::{Direction, MediaKind, Mid};
use str0m::{Candidate, Rtc};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::event::{MediaPacket, RtcEvent};
use super::options::RtcOptions;
use super::peer::{Command, Counts, Fate, Peer, RtpOut};
use super::sdp;
use super::session::Session;
use super::wire::Wire;

/// How long a test waits for what should come at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client whose answer is here. It runs on a task of its own; dropped, it vanishes without a word.
pub struct RtcClient {
    sender: RtcSender,
    events: mpsc::UnboundedReceiver<RtcEvent>,
    task: AbortHandle,
    /// The offer as it was sent.
    pub offer: String,
    /// The answer as it came.
    pub answer: String,
    /// The address of its socket.
    pub local: SocketAddr,
    /// Its URL and entity tag, if the offer went by HTTP.
    pub session: Option<Session>,
}

/// An offer that waits for its answer.
pub struct RtcOffer {
    rtc: Rtc,
    wire: Option<Wire>,
    mids: Vec<(MediaKind, Mid)>,
    pending: SdpPendingOffer,
    checking: bool,
    sdp: String,
}

/// The sending side of a client, for tasks of their own.
#[derive(Clone)]
pub struct RtcSender {
    commands: mpsc::UnboundedSender<Command>,
    counts: Arc<Counts>,
}

impl RtcOffer {
    /// A publisher's offer (`sendonly`) or a viewer's (`recvonly`).
    pub fn new(publishes: bool, options: &RtcOptions) -> Self {
        let mut rtc = options.build(Instant::now());
        let mut wire = None;
        if !options.tcp {
            let socket = Wire::udp(options.bind).expect("a free port");
            let local = socket.local_addr().expect("a bound socket");
            rtc.add_local_candidate(Candidate::host(local, "udp").expect("a valid address"));
            wire = Some(socket);
        }
        let mut changes = rtc.sdp_api();
        let direction = if publishes { Direction::SendOnly } else { Direction::RecvOnly };
        let mids = options.add_media(&mut changes, direction);
        let (offer, pending) = changes.apply().expect("media are to be negotiated");
        let mut sdp = offer.to_sdp_string();
        if !options.candidates {
            sdp = sdp::lines_without(&sdp::lines_without(&sdp, "a=candidate:"), "a=end-of-candidates");
        } else if options.tcp {
            // RFC 6544 §4.5: an active candidate's port is 9.
            let candidate = format!(
                "a=candidate:1 1 tcp 2105458943 {} 9 typ host tcptype active\r\na=ice-ufrag",
                options.bind
            );
            sdp = sdp.replacen("a=ice-ufrag", &candidate, 1);
        }
        Self { rtc, wire, mids, pending, checking: options.checking, sdp: (options.edit_offer)(sdp) }
    }

    /// What is to be sent.
    pub fn sdp(&self) -> &str {
        &self.sdp
    }

    /// Takes the answer and begins to connect. With TCP: connects to the answer's first TCP candidate.
    pub async fn answer(self, answer: &str) -> RtcClient {
        let Self { mut rtc, wire, mids, pending, checking, sdp } = self;
        let wire = match wire {
            Some(wire) => wire,
            None => {
                let server = sdp::candidates(answer, "tcp");
                let server = *server.first().unwrap_or_else(|| panic!("no TCP candidate in\n{answer}"));
                let wire = Wire::tcp(server).await.expect("the TCP candidate is open");
                let local = wire.local_addr().expect("a connected socket");
                rtc.add_local_candidate(Candidate::host(local, "tcp").expect("a valid address"));
                wire
            }
        };
        let local = wire.local_addr().expect("a bound socket");
        let (events_in, events) = mpsc::unbounded_channel();
        let (commands, receiver) = mpsc::unbounded_channel();
        let counts = Arc::new(Counts::default());
        let mut peer = Peer::new(rtc, wire, mids, pending, answer, events_in, counts.clone());
        peer.checking = checking;
        let task = tokio::spawn(peer.run(receiver)).abort_handle();
        let sender = RtcSender { commands, counts };
        RtcClient { sender, events, task, offer: sdp, answer: answer.to_owned(), local, session: None }
    }
}

impl RtcClient {
    /// The sending side.
    pub fn sender(&self) -> RtcSender {
        self.sender.clone()
    }

    /// The next event; `None` when the task is over.
    pub async fn next(&mut self) -> Option<RtcEvent> {
        self.events.recv().await
    }

    /// What has happened until now and was not read.
    pub fn drain(&mut self) -> Vec<RtcEvent> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }

    /// Reads events until `found` makes something of one; panics with `what` after `limit`.
    pub async fn wait_for<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut found: impl FnMut(RtcEvent) -> Option<T>,
    ) -> T {
        let search = async {
            while let Some(event) = self.events.recv().await {
                if let Some(value) = found(event) {
                    return value;
                }
            }
            panic!("the client ended before: {what}");
        };
        let outcome = tokio::time::timeout(limit, search).await;
        outcome.unwrap_or_else(|_| panic!("not within {limit:?}: {what}"))
    }

    /// All events of the next `length` of time.
    pub async fn collect(&mut self, length: Duration) -> Vec<RtcEvent> {
        let mut events = Vec::new();
        let end = tokio::time::Instant::now() + length;
        while let Ok(Some(event)) = tokio::time::timeout_at(end, self.events.recv()).await {
            events.push(event);
        }
        events
    }

    /// Waits, at most 10 s, until ICE and DTLS are done.
    pub async fn connected(&mut self) {
        self.wait_for("connected", PATIENCE, |event| matches!(event, RtcEvent::Connected).then_some(()))
            .await;
    }

    /// The next media packet of a kind, at most 10 s from now.
    pub async fn packet(&mut self, kind: MediaKind) -> MediaPacket {
        self.wait_for("a media packet", PATIENCE, |event| match event {
            RtcEvent::Media(packet) if packet.kind == kind => Some(packet),
            _ => None,
        })
        .await
    }

    /// Decides from now on about each datagram that is read from the socket, before the stack sees it.
    pub async fn filter_incoming(&self, filter: impl FnMut(&[u8]) -> Fate + Send + 'static) {
        self.sender.with(|peer| peer.incoming = Box::new(filter)).await;
    }

    /// Decides from now on about each datagram of the stack, before the socket sends it.
    pub async fn filter_outgoing(&self, filter: impl FnMut(&[u8]) -> Fate + Send + 'static) {
        self.sender.with(|peer| peer.outgoing = Box::new(filter)).await;
    }

    /// Reads its socket no more, or again. What it has to send still goes out.
    pub async fn set_reading(&self, reading: bool) {
        self.sender.with(move |peer| peer.reading = reading).await;
    }

    /// Does nothing at all any more, or goes on: as a process that was stopped.
    pub async fn set_frozen(&self, frozen: bool) {
        self.sender.with(move |peer| peer.frozen = frozen).await;
    }

    /// Sends no STUN any more, neither checks nor answers, or does again: consent (RFC 7675) runs out.
    pub async fn set_checking(&self, checking: bool) {
        self.sender.with(move |peer| peer.checking = checking).await;
    }

    /// Sends a datagram from its socket as it is.
    pub async fn send_raw(&self, data: Vec<u8>, to: SocketAddr) {
        self.sender.with(move |peer| peer.send_raw(data, to)).await;
    }

    /// Sends PLI for the video it receives. By itself it never does.
    pub async fn request_keyframe(&self) {
        self.sender.with(Peer::request_keyframe).await;
    }

    /// Sends NACK for the video it receives although no retransmissions were negotiated.
    pub async fn nack_without_rtx(&self) {
        self.sender.with(Peer::nack_without_rtx).await;
    }

    /// New ICE credentials: the fragment that tells them. The old ones hold until [`Self::finish_restart`].
    pub async fn begin_restart(&self) -> String {
        self.sender.with(Peer::begin_restart).await
    }

    /// Goes on with the credentials and candidates of the server's fragment.
    pub async fn finish_restart(&self, fragment: &str) {
        let fragment = fragment.to_owned();
        self.sender.with(move |peer| peer.finish_restart(&fragment)).await;
    }

    /// A candidate of the server's that the answer does not hold.
    pub async fn add_remote_candidate(&self, address: SocketAddr, transport: &str) {
        let candidate = Candidate::host(address, transport).expect("a valid candidate");
        self.sender.with(|peer| peer.add_remote_candidate(candidate)).await;
    }

    /// Says BYE and close_notify, without HTTP.
    pub async fn leave(&self) {
        self.sender.with(Peer::leave).await;
    }
}

impl Drop for RtcClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RtcSender {
    /// Sends one packet, as soon as its task has its turn. Before the connection it is lost.
    pub fn send(&self, packet: RtpOut) {
        let _ = self.commands.send(Box::new(|peer| peer.write(packet)));
    }

    /// Sends the payloads of one picture or audio frame: same timestamp, marker on the last one.
    pub fn send_frame(&self, kind: MediaKind, rid: Option<&str>, timestamp: u32, payloads: &[Vec<u8>]) {
        for (index, payload) in payloads.iter().enumerate() {
            self.send(RtpOut {
                kind,
                rid: rid.map(str::to_owned),
                sequence: None,
                timestamp,
                marker: kind == MediaKind::Video && index + 1 == payloads.len(),
                payload: payload.clone(),
            });
        }
    }

    /// Keyframe requests so far, of all layers.
    pub fn keyframe_requests(&self) -> u64 {
        self.counts.keyframe_requests.load(Ordering::Relaxed)
    }

    /// Whether it has been connected.
    pub fn has_connected(&self) -> bool {
        self.counts.connected.load(Ordering::Relaxed) > 0
    }

    /// Whether its client is there.
    pub fn is_closed(&self) -> bool {
        self.commands.is_closed()
    }

    async fn with<T: Send + 'static>(&self, act: impl FnOnce(&mut Peer) -> T + Send + 'static) -> T {
        let (done, outcome) = oneshot::channel();
        let command: Command = Box::new(|peer| drop(done.send(act(peer))));
        assert!(self.commands.send(command).is_ok(), "the client's task is over");
        outcome.await.expect("the client's task runs")
    }
}
