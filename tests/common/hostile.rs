//! RTMP connections that say what recorded encoders said, changed: the same for the same seed.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Connections at a time.
const AT_ONCE: usize = 24;
/// How long one connection waits for the server to say or to take something.
const PATIENCE: Duration = Duration::from_secs(10);

/// Many hostile connections.
pub struct Flood {
    port: u16,
    sessions: Vec<Vec<u8>>,
}

/// What became of them.
#[derive(Debug, Default)]
pub struct Harvest {
    /// Connections made.
    pub made: AtomicUsize,
    /// Handshakes that the server completed.
    pub greeted: AtomicUsize,
    /// Connections that the server answered beyond its handshake.
    pub answered: AtomicUsize,
    /// Connections that the server had neither closed nor served after [`PATIENCE`].
    pub stuck: AtomicUsize,
}

impl Flood {
    /// Against the RTMP listener at `port`.
    pub fn new(port: u16) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/rtmp_chunk");
        let mut files: Vec<_> =
            std::fs::read_dir(folder).expect("seeds").map(|entry| entry.expect("readable").path()).collect();
        files.sort();
        // The first byte is the fuzz target's.
        let sessions =
            files.iter().map(|file| std::fs::read(file).expect("readable")[1..].to_vec()).collect();
        Self { port, sessions }
    }

    /// Makes the connections `from` to `to`.
    pub async fn run(&self, from: usize, to: usize) -> Harvest {
        let (harvest, next) = (Harvest::default(), AtomicUsize::new(from));
        let workers = (0..AT_ONCE).map(|_| async {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= to {
                    return;
                }
                if tokio::time::timeout(PATIENCE, self.connection(number, &harvest)).await.is_err() {
                    harvest.stuck.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        futures_util::future::join_all(workers).await;
        harvest
    }

    async fn connection(&self, number: usize, harvest: &Harvest) {
        let mut random = StdRng::seed_from_u64(number as u64);
        let mut stream = self.connect(number).await;
        harvest.made.fetch_add(1, Ordering::Relaxed);
        let mut blob = self.blob(&mut random);
        if random.random_ratio(1, 8) {
            // No handshake, or half of one.
            let mut head = vec![3; random.random_range(1..2000)];
            let version = random.random_range(0..2);
            random.fill_bytes(&mut head[version..]);
            blob.splice(0..0, head);
        } else if shake_hands(&mut stream).await {
            harvest.greeted.fetch_add(1, Ordering::Relaxed);
        } else {
            return;
        }
        let mut rest = &blob[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(random.random_range(1..=rest.len()));
            if stream.write_all(now).await.is_err() {
                break;
            }
            rest = later;
        }
        match random.random_range(0..3) {
            // Gone at once, with a reset.
            0 => drop(stream.set_zero_linger()),
            // Leaves in peace, and reads what the server has to say.
            1 => {
                let _ = stream.shutdown().await;
                let mut answer = [0; 4096];
                let mut count = 0;
                while let Ok(read @ 1..) = stream.read(&mut answer).await {
                    count += read;
                }
                harvest.answered.fetch_add(usize::from(count > 0), Ordering::Relaxed);
            }
            _ => {}
        }
    }

    async fn connect(&self, number: usize) -> TcpStream {
        // From many addresses: the ports of one would be used up for a minute after each close.
        let socket = TcpSocket::new_v4().expect("a socket");
        let [high, low] = ((number % 2000 + 512) as u16).to_be_bytes();
        socket.bind(([127, 0, high, low.max(1)], 0).into()).expect("a loopback address");
        let stream = socket.connect(([127, 0, 0, 1], self.port).into()).await.expect("the listener is there");
        stream.set_nodelay(true).expect("a socket option");
        stream
    }

    /// What is sent behind the handshake.
    fn blob(&self, random: &mut StdRng) -> Vec<u8> {
        if random.random_ratio(1, 16) {
            let mut noise = vec![0; random.random_range(1..4000)];
            random.fill_bytes(&mut noise);
            return noise;
        }
        let pick = |random: &mut StdRng| &self.sessions[random.random_range(0..self.sessions.len())];
        let mut blob = pick(random).clone();
        // A few names only, so that they get into each other's way.
        for name in [&b"rec"[..], b"base", b"gst", b"lib"] {
            let key = random.random_range(b'a'..=b'h');
            for at in 0..blob.len().saturating_sub(name.len()) {
                if blob[at..].starts_with(name) {
                    blob[at + name.len() - 1] = key;
                }
            }
        }
        // As it was recorded, now and then.
        for _ in 0..[0, 1, 2, 8][random.random_range(0..4)] {
            change(&mut blob, pick(random), random);
        }
        blob
    }
}

/// Greets with zeros and echoes the server's greeting; whether the server did its part.
async fn shake_hands(stream: &mut TcpStream) -> bool {
    let mut hello = vec![0; 1537];
    hello[0] = 3;
    let mut answer = vec![0; 1 + 1536 + 1536];
    stream.write_all(&hello).await.is_ok()
        && stream.read_exact(&mut answer).await.is_ok()
        && stream.write_all(&answer[1..1537]).await.is_ok()
}

/// One change: a byte, a cut, a repetition, a jump into another session.
fn change(blob: &mut Vec<u8>, other: &[u8], random: &mut StdRng) {
    // Mostly where the commands are.
    let near = if random.random() { blob.len().min(600) } else { blob.len() };
    let at = random.random_range(0..=near);
    match random.random_range(0..6) {
        0..=2 if at < blob.len() => {
            let byte = [0, 1, 0x7f, 0x80, 0xff, random.random()][random.random_range(0..6)];
            blob[at] = byte;
        }
        3 => drop(blob.drain(at..(at + random.random_range(1..200)).min(blob.len()))),
        4 => {
            let copy = blob[at..(at + random.random_range(1..2000)).min(blob.len())].to_vec();
            blob.splice(at..at, copy);
        }
        _ => {
            blob.truncate(at);
            blob.extend_from_slice(&other[random.random_range(0..=other.len())..]);
        }
    }
}
