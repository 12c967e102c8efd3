//! A UDP relay between clients and the server: loss, delay, jitter, reordering and outages, all from a seed.
//!
//! What happens to a datagram depends on the seed, its direction and its number there alone, so that a run
//! meets the same losses again as far as its clients send the same. Each client address has an upstream
//! socket of its own, so that the server tells clients apart. Works on a thread of its own.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The way of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What one direction does to datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Conditions {
    /// The share that is lost, 0–1.
    pub loss: f64,
    /// How long each takes.
    pub delay: Duration,
    /// At most so much longer, rising and falling over 16 datagrams, without changing their order.
    pub jitter: Duration,
    /// Bits a second that get through, one datagram after the other; 0: any number.
    pub rate: u64,
    /// How long a datagram may wait for its turn at this rate; one that would wait longer is lost.
    pub queue: Duration,
    /// The share that is held back by [`Self::REORDERED_BY`], so that later ones overtake it, 0–1.
    pub reordered: f64,
}

impl Conditions {
    /// How long a reordered datagram is held back.
    pub const REORDERED_BY: Duration = Duration::from_millis(30);

    /// Loss of this share and nothing else.
    pub fn loss(share: f64) -> Self {
        Self { loss: share, ..Self::default() }
    }

    /// A bottleneck of so many bits a second, with a queue of so long before it.
    pub fn bottleneck(rate: u64, queue: Duration) -> Self {
        Self { rate, queue, ..Self::default() }
    }

    /// When a datagram of so many bytes has passed the bottleneck, which is `busy` until the datagrams before
    /// have; `None` if the queue is full.
    pub fn pass(&self, now: Instant, bytes: usize, busy: &mut Instant) -> Option<Instant> {
        if self.rate == 0 {
            return Some(now);
        }
        let turn = now.max(*busy);
        if turn - now > self.queue {
            return None;
        }
        *busy = turn + Duration::from_secs_f64(8.0 * bytes as f64 / self.rate as f64);
        Some(*busy)
    }

    /// What happens to the datagram with this number.
    pub fn fate(&self, seed: u64, direction: Direction, number: u64) -> Fate {
        let stream = seed ^ (direction as u64 + 1).wrapping_mul(0xa076_1d64_78bd_642f);
        if noise(stream, number) < self.loss {
            return Fate::Lost;
        }
        let (knot, between) = (number / 16, (number % 16) as f64 / 16.0);
        let at = |knot| noise(stream ^ 0x5bf0_3635, knot);
        let jitter = self.jitter.mul_f64(at(knot) * (1.0 - between) + at(knot + 1) * between);
        let delay = self.delay + jitter;
        if noise(stream ^ 0x27d4_eb2f, number) < self.reordered {
            return Fate::HeldBack(delay + Self::REORDERED_BY);
        }
        Fate::Delayed(delay)
    }
}

/// What happens to one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Lost,
    /// Arrives so much later, never before one that was sent earlier.
    Delayed(Duration),
    /// Arrives so much later, and others may overtake it.
    HeldBack(Duration),
}

/// How many datagrams one direction had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub received: u64,
    pub lost: u64,
    /// Lost to an outage.
    pub cut: u64,
    pub reordered: u64,
    pub delivered: u64,
}

/// A running relay; ended on drop.
pub struct Relay {
    port: u16,
    shared: Arc<Shared>,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Relay {
    /// A relay to the UDP port `server` of this machine that does nothing to datagrams yet.
    pub fn start(server: u16, seed: u64) -> Self {
        let shared = Arc::new(Shared { seed, ..Shared::default() });
        let stop = CancellationToken::new();
        let (announce, port) = std::sync::mpsc::channel();
        let thread = std::thread::spawn({
            let (shared, stop) = (shared.clone(), stop.clone());
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(async {
                    // Browsers gather no loopback candidates: they come from an interface's address.
                    let socket = bind(Ipv4Addr::UNSPECIFIED).await;
                    announce.send(socket.local_addr().expect("it is bound").port()).expect("the test waits");
                    tokio::select! {
                        () = accept(socket, server, &shared) => {}
                        () = stop.cancelled() => {}
                    }
                });
            }
        });
        let port = port.recv().expect("the relay listens");
        Self { port, shared, stop, thread: Some(thread) }
    }

    /// The port that clients are to use instead of the server's.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets what a direction does from now on.
    pub fn set(&self, direction: Direction, conditions: Conditions) {
        *self.shared.of(direction).conditions.lock().expect("no panic under it") = conditions;
    }

    /// The same for both directions.
    pub fn set_both(&self, conditions: Conditions) {
        self.set(Direction::Up, conditions);
        self.set(Direction::Down, conditions);
    }

    /// Cuts both directions, or joins them again.
    pub fn outage(&self, on: bool) {
        self.shared.outage.store(on, Ordering::Relaxed);
    }

    /// What a direction has counted so far.
    pub fn counts(&self, direction: Direction) -> Counts {
        let way = self.shared.of(direction);
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            received: of(&way.received),
            lost: of(&way.lost),
            cut: of(&way.cut),
            reordered: of(&way.reordered),
            delivered: of(&way.delivered),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.cancel();
        let _ = self.thread.take().expect("it is taken here alone").join();
    }
}

#[derive(Default)]
struct Shared {
    seed: u64,
    outage: AtomicBool,
    up: Way,
    down: Way,
}

#[derive(Default)]
struct Way {
    conditions: Mutex<Conditions>,
    received: AtomicU64,
    lost: AtomicU64,
    cut: AtomicU64,
    reordered: AtomicU64,
    delivered: AtomicU64,
}

impl Shared {
    fn of(&self, direction: Direction) -> &Way {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    /// When the datagram that has just come is due; `None` if it is lost.
    fn due(&self, direction: Direction, bytes: usize, progress: &mut Progress) -> Option<Instant> {
        let way = self.of(direction);
        let number = way.received.fetch_add(1, Ordering::Relaxed);
        if self.outage.load(Ordering::Relaxed) {
            way.cut.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let conditions = *way.conditions.lock().expect("no panic under it");
        let Some(now) = conditions.pass(Instant::now(), bytes, &mut progress.busy) else {
            way.lost.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        match conditions.fate(self.seed, direction, number) {
            Fate::Lost => {
                way.lost.fetch_add(1, Ordering::Relaxed);
                None
            }
            Fate::Delayed(delay) => {
                progress.last_due = (now + delay).max(progress.last_due);
                Some(progress.last_due)
            }
            Fate::HeldBack(delay) => {
                way.reordered.fetch_add(1, Ordering::Relaxed);
                Some(now + delay)
            }
        }
    }
}

/// Takes datagrams from clients; each new address gets a way to the server of its own.
async fn accept(socket: UdpSocket, server: u16, shared: &Arc<Shared>) {
    let socket = Arc::new(socket);
    let mut clients: HashMap<SocketAddr, (mpsc::UnboundedSender<Datagram>, Progress)> = HashMap::new();
    let mut buffer = vec![0; 65_536];
    loop {
        // An ICMP error of an earlier datagram is not an error of the socket.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        if let Entry::Vacant(place) = clients.entry(client) {
            let upstream = Arc::new(bind(Ipv4Addr::LOCALHOST).await);
            upstream.connect((Ipv4Addr::LOCALHOST, server)).await.expect("a datagram socket connects");
            let (up, queue) = mpsc::unbounded_channel();
            tokio::spawn(deliver(upstream.clone(), None, queue, shared.clone(), Direction::Up));
            tokio::spawn(answer(upstream, socket.clone(), client, shared.clone()));
            place.insert((up, Progress::default()));
        }
        let (up, progress) = clients.get_mut(&client).expect("it is there now");
        if let Some(due) = shared.due(Direction::Up, length, progress) {
            let _ = up.send((due, buffer[..length].to_vec()));
        }
    }
}

/// Takes datagrams from the server for one client.
async fn answer(upstream: Arc<UdpSocket>, socket: Arc<UdpSocket>, client: SocketAddr, shared: Arc<Shared>) {
    let (down, queue) = mpsc::unbounded_channel();
    tokio::spawn(deliver(socket, Some(client), queue, shared.clone(), Direction::Down));
    let (mut buffer, mut progress) = (vec![0; 65_536], Progress::default());
    loop {
        let Ok(length) = upstream.recv(&mut buffer).await else { continue };
        if let Some(due) = shared.due(Direction::Down, length, &mut progress) {
            let _ = down.send((due, buffer[..length].to_vec()));
        }
    }
}

/// How far one client's datagrams in one direction have come.
struct Progress {
    last_due: Instant,
    busy: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        let now = Instant::now();
        Self { last_due: now, busy: now }
    }
}

type Datagram = (Instant, Vec<u8>);

/// Sends each datagram when it is due, those due together in the order they came.
async fn deliver(
    socket: Arc<UdpSocket>,
    to: Option<SocketAddr>,
    mut queue: mpsc::UnboundedReceiver<Datagram>,
    shared: Arc<Shared>,
    direction: Direction,
) {
    let mut waiting: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>> = BinaryHeap::new();
    let mut order = 0;
    loop {
        let due = waiting.peek().map(|Reverse((due, ..))| *due);
        let next = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            datagram = queue.recv() => {
                let Some((due, data)) = datagram else { return };
                waiting.push(Reverse((due, order, data)));
                order += 1;
            }
            () = next => {}
        }
        while waiting.peek().is_some_and(|Reverse((due, ..))| *due <= Instant::now()) {
            let Some(Reverse((_, _, data))) = waiting.pop() else { break };
            let sent = match to {
                Some(client) => socket.send_to(&data, client).await,
                None => socket.send(&data).await,
            };
            if sent.is_ok() {
                shared.of(direction).delivered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// A socket whose buffers don't lose what the relay is not told to lose.
async fn bind(address: Ipv4Addr) -> UdpSocket {
    let socket = UdpSocket::bind((address, 0)).await.expect("a port");
    let borrowed = socket2::SockRef::from(&socket);
    let _ = borrowed.set_recv_buffer_size(4 << 20);
    let _ = borrowed.set_send_buffer_size(4 << 20);
    socket
}

/// A number in 0–1 that is the same for the same arguments (SplitMix64).
fn noise(seed: u64, index: u64) -> f64 {
    let mut bits = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}
