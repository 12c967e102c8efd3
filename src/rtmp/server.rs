//! The RTMP listeners: accept connections, bound their number, and await their end.

use super::session::{Session, SessionError};
use super::sessions::RtmpSessions;
use crate::admission::{Exempt, Limit, Place, Places, Refusals};
use crate::media::{Secret, StreamName};
use crate::stream::Hub;
use crate::tls::ServerTls;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

/// Connections that were turned away are reported at most this often.
const REPORTS: Duration = Duration::from_secs(10);

/// Decides who may publish, and as which stream. Called once for each `publish`; must not block.
pub type Authorize = Arc<dyn Fn(&PublishRequest) -> Result<StreamName, Refusal> + Send + Sync>;

/// What a client wants to publish: `rtmp://user:password@host/app/key?query`.
#[derive(Clone, Debug)]
pub struct PublishRequest {
    /// The first segment of the path.
    pub app: String,
    /// The rest of the path, without the query: a stream name or a stream key. May be empty.
    pub key: Secret,
    /// What follows the question marks, wherever the client put them; the key's own comes first.
    pub query: Option<Secret>,
    /// The user named in the URL.
    pub user: Option<String>,
    /// The password named in the URL.
    pub password: Option<Secret>,
    /// The client's address.
    pub remote: SocketAddr,
}

/// Why a client may not publish; it is told so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One sentence for the person who publishes.
    pub description: String,
}

/// How many connections there may be at a time.
#[derive(Clone, Debug)]
pub struct RtmpLimits {
    /// In all; one more is closed at once.
    pub connections: usize,
    /// Of one source (an IPv4 address or an IPv6 /64).
    pub connections_per_source: usize,
    /// That have not published yet, in all.
    pub half_open: usize,
    /// That have not published yet, of one source.
    pub half_open_per_source: usize,
    /// Networks that the bounds by source don't hold for.
    pub exempt: Exempt,
    /// Who is turned away is counted there.
    pub refusals: Refusals,
}

impl Default for RtmpLimits {
    /// 1024 connections, whoever holds them.
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_source: usize::MAX,
            half_open: usize::MAX,
            half_open_per_source: usize::MAX,
            exempt: Exempt::default(),
            refusals: Refusals::default(),
        }
    }
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

/// A bound RTMP listener, or two.
pub struct RtmpServer {
    plain: Listener,
    secure: Option<(Listener, ServerTls)>,
    hub: Hub,
    authorize: Authorize,
    doors: Doors,
    sessions: Arc<RtmpSessions>,
}

/// A connection that was let in.
pub(super) struct Visitor {
    pub(super) connection: TcpStream,
    /// How to begin, if the connection is for TLS.
    pub(super) tls: Option<ServerTls>,
    pub(super) remote: SocketAddr,
    pub(super) place: Place,
    /// Given back once something is published.
    pub(super) half_open: Place,
}

impl RtmpServer {
    /// Binds `listen`; connections wait until [`Self::run`].
    pub async fn bind(listen: SocketAddr, hub: Hub, authorize: Authorize) -> Result<Self, RtmpError> {
        let plain = Listener::bind(listen).await?;
        let (doors, sessions) = (Doors::new(RtmpLimits::default()), Arc::default());
        Ok(Self { plain, secure: None, hub, authorize, doors, sessions })
    }

    /// Binds `listen` as well, for RTMPS.
    pub async fn with_tls(self, listen: SocketAddr, tls: ServerTls) -> Result<Self, RtmpError> {
        let secure = Some((Listener::bind(listen).await?, tls));
        Ok(Self { secure, ..self })
    }

    /// These bounds instead of [`RtmpLimits::default`].
    pub fn with_limits(self, limits: RtmpLimits) -> Self {
        Self { doors: Doors::new(limits), ..self }
    }

    /// The connections that publish.
    pub fn sessions(&self) -> Arc<RtmpSessions> {
        self.sessions.clone()
    }

    /// Where it listens, with the port that the system chose for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.plain.address
    }

    /// Where it listens for RTMPS, if it does.
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.secure.as_ref().map(|(listener, _)| listener.address)
    }

    /// Serves until `cancel`; returns when all connections have ended.
    pub async fn run(self, cancel: CancellationToken) {
        let Self { plain, secure, hub, authorize, mut doors, sessions: known } = self;
        let mut sessions = JoinSet::new();
        loop {
            let (accepted, tls) = tokio::select! {
                () = cancel.cancelled() => break,
                Some(ended) = sessions.join_next() => {
                    report(ended);
                    continue;
                }
                accepted = plain.inner.accept() => (accepted, None),
                accepted = accept_secure(&secure) => accepted,
            };
            match accepted {
                Ok((connection, remote)) => {
                    if let Some(visitor) = doors.admit(connection, remote, tls) {
                        sessions.spawn(serve(
                            visitor,
                            hub.clone(),
                            authorize.clone(),
                            known.clone(),
                            cancel.clone(),
                        ));
                    }
                }
                Err(error) => {
                    // Out of descriptors, most likely: the running streams matter more.
                    warn!(%error, "No RTMP connection could be accepted.");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop((plain, secure));
        while let Some(ended) = sessions.join_next().await {
            report(ended);
        }
    }
}

/// A socket and where it listens.
struct Listener {
    inner: TcpListener,
    address: SocketAddr,
}

impl Listener {
    async fn bind(address: SocketAddr) -> Result<Self, RtmpError> {
        let failed = |source| RtmpError::Bind { address, source };
        let inner = TcpListener::bind(address).await.map_err(failed)?;
        let address = inner.local_addr().map_err(failed)?;
        Ok(Self { inner, address })
    }
}

/// The bounds, and who was turned away since it was last said.
struct Doors {
    connections: Places,
    half_open: Places,
    turned_away: u64,
    reported: Option<Instant>,
}

impl Doors {
    fn new(limits: RtmpLimits) -> Self {
        let places = |per_source, in_all, limit| {
            Places::new(per_source, in_all)
                .exempting(limits.exempt.clone())
                .counting(limits.refusals.clone(), limit)
        };
        let (connections, half_open) = (Limit::RtmpConnections, Limit::HalfOpen);
        Self {
            connections: places(limits.connections_per_source, limits.connections, connections),
            half_open: places(limits.half_open_per_source, limits.half_open, half_open),
            turned_away: 0,
            reported: None,
        }
    }

    fn admit(
        &mut self,
        connection: TcpStream,
        remote: SocketAddr,
        tls: Option<ServerTls>,
    ) -> Option<Visitor> {
        let places = (self.connections.admit(remote.ip()), self.half_open.admit(remote.ip()));
        let (Some(place), Some(half_open)) = places else {
            self.turned_away += 1;
            let now = Instant::now();
            if self.reported.is_none_or(|last| now >= last + REPORTS) {
                warn!(%remote, count = self.turned_away, "Too many RTMP connections; some were turned away.");
                (self.turned_away, self.reported) = (0, Some(now));
            }
            return None;
        };
        Some(Visitor { connection, tls, remote, place, half_open })
    }
}

/// The next connection for TLS; never, without a certificate.
async fn accept_secure(
    secure: &Option<(Listener, ServerTls)>,
) -> (io::Result<(TcpStream, SocketAddr)>, Option<ServerTls>) {
    match secure {
        Some((listener, tls)) => (listener.inner.accept().await, Some(tls.clone())),
        None => std::future::pending().await,
    }
}

async fn serve(
    visitor: Visitor,
    hub: Hub,
    authorize: Authorize,
    sessions: Arc<RtmpSessions>,
    cancel: CancellationToken,
) {
    let remote = visitor.remote;
    match Session::run(visitor, hub, authorize, sessions, cancel).await {
        Ok(()) => info!(%remote, "RTMP connection closed."),
        // Whoever looks for open ports comes here, again and again.
        Err(error @ (SessionError::Handshake(_) | SessionError::HandshakeTimeout)) => {
            debug!(%remote, %error, "No RTMP connection came about.");
        }
        Err(error) => info!(%remote, %error, "RTMP connection ended."),
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        error!(%error, "An RTMP session failed; its publisher was ended.");
    }
}
