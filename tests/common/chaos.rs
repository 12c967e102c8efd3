//! A TCP proxy that does to connections what networks and broken servers do, seeded.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What is done to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mischief {
    /// It is torn down (RST) after so long.
    Reset(Duration),
    /// No byte moves any more after so long; the connection stays.
    Stall(Duration),
    /// So many bytes a second go to the server.
    Throttle(usize),
    /// Bytes to the server wait a random time of up to so long.
    Latency(Duration),
    /// The server's answers are replaced by random bytes.
    Garbage,
}

/// The proxy; ends on drop.
pub struct Chaos {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Chaos {
    /// Stands before `behind`; the same seed makes the same choices.
    pub async fn start(behind: SocketAddr, seed: u64, mischief: Mischief) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let mut random = StdRng::seed_from_u64(seed);
        let task = tokio::spawn(async move {
            let mut running = tokio::task::JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let random = StdRng::seed_from_u64(random.random());
                running.spawn(relay(near, behind, mischief, random));
            }
        });
        Self { address, connections, task }
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(near: TcpStream, behind: SocketAddr, mischief: Mischief, random: StdRng) {
    let Ok(far) = TcpStream::connect(behind).await else { return };
    let _ = near.set_nodelay(true);
    let (reset, stall) = match mischief {
        Mischief::Reset(after) => (Some(after), None),
        Mischief::Stall(after) => (None, Some(after)),
        _ => (None, None),
    };
    if reset.is_some() {
        let _ = near.set_zero_linger();
    }
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let there = forth(near_in, far_out, mischief, random.clone());
    let back = back(far_in, near_out, mischief == Mischief::Garbage, random);
    let until = async {
        match (reset, stall) {
            (Some(after), _) | (_, Some(after)) => tokio::time::sleep(after).await,
            _ => std::future::pending().await,
        }
    };
    // Both halves are dropped together: a reset, where that is wanted.
    let (mut there, mut back) = (Box::pin(there), Box::pin(back));
    tokio::select! {
        () = until => {}
        () = &mut there => {}
        () = &mut back => {}
    }
    if stall.is_some() {
        std::future::pending::<()>().await;
    }
}

async fn forth(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mischief: Mischief,
    mut random: StdRng,
) {
    let mut buffer = vec![0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        match mischief {
            Mischief::Throttle(rate) => {
                tokio::time::sleep(Duration::from_secs_f64(count as f64 / rate as f64)).await;
            }
            Mischief::Latency(most) => tokio::time::sleep(most.mul_f64(random.random())).await,
            _ => {}
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn back(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    garbage: bool,
    mut random: StdRng,
) {
    let mut buffer = vec![0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if garbage {
            random.fill(&mut buffer[..count]);
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
