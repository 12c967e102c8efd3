//! The RTMP listener: accepts connections, bounds their number, and awaits their end.

use super::session::Session;
use crate::media::{Secret, StreamName};
use crate::stream::Hub;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Connections at a time; one more is closed at once.
const CONNECTIONS: usize = 1024;

/// Decides who may publish, and as which stream. Called once for each `publish`; must not block.
pub type Authorize = Arc<dyn Fn(&PublishRequest) -> Result<StreamName, Refusal> + Send + Sync>;

/// What a client wants to publish: `rtmp://host/app/key?query`.
#[derive(Clone, Debug)]
pub struct PublishRequest {
    /// The first segment of the path.
    pub app: String,
    /// The rest of the path, without the query: a stream name or a stream key. May be empty.
    pub key: Secret,
    /// What follows the question mark.
    pub query: Option<Secret>,
    /// The client's address.
    pub remote: SocketAddr,
}

/// Why a client may not publish; it is told so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One sentence for the person who publishes.
    pub description: String,
}

/// Why the server can't start.
#[derive(Debug, thiserror::Error)]
pub enum RtmpError {
    /// The address can't be listened on.
    #[error("can't listen for RTMP on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A bound RTMP listener.
pub struct RtmpServer {
    listener: TcpListener,
    address: SocketAddr,
    hub: Hub,
    authorize: Authorize,
}

impl RtmpServer {
    /// Binds `listen`; connections wait until [`Self::run`].
    pub async fn bind(listen: SocketAddr, hub: Hub, authorize: Authorize) -> Result<Self, RtmpError> {
        let failed = |source| RtmpError::Bind { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, hub, authorize })
    }

    /// Where it listens, with the port that the system chose for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `cancel`; returns when all connections have ended.
    pub async fn run(self, cancel: CancellationToken) {
        let mut sessions = JoinSet::new();
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                Some(ended) = sessions.join_next() => report(ended),
                accepted = self.listener.accept() => match accepted {
                    Ok((connection, remote)) if sessions.len() < CONNECTIONS => {
                        sessions.spawn(self.serve(connection, remote, cancel.clone()));
                    }
                    Ok((_, remote)) => {
                        warn!(%remote, "Too many RTMP connections, one was closed.");
                    }
                    Err(error) => {
                        // Out of descriptors, most likely: the running streams matter more.
                        warn!(%error, "No RTMP connection could be accepted.");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        drop(self.listener);
        while let Some(ended) = sessions.join_next().await {
            report(ended);
        }
    }

    fn serve(
        &self,
        connection: TcpStream,
        remote: SocketAddr,
        cancel: CancellationToken,
    ) -> impl Future<Output = ()> + use<> {
        let (hub, authorize) = (self.hub.clone(), self.authorize.clone());
        async move {
            match Session::run(connection, remote, hub, authorize, cancel).await {
                Ok(()) => info!(%remote, "RTMP connection closed."),
                Err(error) => info!(%remote, %error, "RTMP connection ended."),
            }
        }
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        error!(%error, "An RTMP session failed; its publisher was ended.");
    }
}
