//! The accept loop: connections within bounds of number.
//!
//! `axum::serve` would set no timeout for headers. Here a connection that says nothing, or says it too
//! slowly, is closed (see `connection`); one source holds a bounded number of connections; and when the
//! system runs out of descriptors, accepting waits while what runs goes on.

use super::api::EventReaders;
use super::bitrate::Bitrates;
use super::connection::Connection;
use super::proxies::Proxies;
use super::rates::{RateSettings, Rates};
use super::router::router;
use super::sessions::Sessions;
use super::site::Site;
use super::{About, App, IceServers, Origins, Rooms};
use crate::admission::{Exempt, Limit, Places};
use crate::auth::Access;
use hyper_util::server::graceful::GracefulShutdown;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

/// Connections in all.
const CONNECTIONS: usize = 16 * 1024;
/// For requests that are being answered when the server stops.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// Pause after the system refused to accept: doubled from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Where and how HTTP is served.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// The address; port 0 for any.
    pub listen: SocketAddr,
    /// Connections that one source (an IPv4 address or an IPv6 /64) may hold at a time.
    pub connections_per_source: usize,
    /// Proxies before us: what they say of their clients counts, and the bound of connections does not hold for
    /// them.
    pub proxies: Proxies,
    /// What one source may do how often.
    pub rates: RateSettings,
    /// Whose pages may use WHIP and WHEP.
    pub origins: Origins,
    /// What sessions are told of.
    pub ice_servers: IceServers,
    /// What the API tells of the gateway.
    pub about: About,
    /// The names under which the API is served, without ports; `None`: any.
    pub hosts: Option<Vec<String>>,
    /// `/metrics` needs no token.
    pub open_metrics: bool,
}

/// Why HTTP can't be served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is taken or not ours.
    #[error("HTTP can't listen on {listen}: {why}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        why: io::Error,
    },
}

/// A bound HTTP server.
pub struct Http {
    listener: TcpListener,
    local: SocketAddr,
    app: Arc<App>,
    places: Places,
}

impl Http {
    /// Takes the port. When `closing` is cancelled, `/readyz` says 503 and new sessions are refused.
    pub async fn bind(
        settings: HttpSettings,
        rooms: Rooms,
        access: Access,
        closing: CancellationToken,
    ) -> Result<Self, HttpError> {
        let address = settings.listen;
        let listen = |why| HttpError::Listen { listen: address, why };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let local = listener.local_addr().map_err(listen)?;
        let places = Places::new(settings.connections_per_source, CONNECTIONS)
            .exempting(Exempt::new(settings.proxies.trusted().iter().copied()))
            .counting(settings.rates.refusals.clone(), Limit::HttpConnections);
        let app = Arc::new(App {
            rooms,
            access,
            bitrates: Bitrates::default(),
            rates: Rates::new(&settings.rates),
            proxies: settings.proxies,
            origins: settings.origins,
            ice_servers: settings.ice_servers,
            sessions: Sessions::default(),
            event_readers: EventReaders::default(),
            open_metrics: settings.open_metrics,
            idempotency: Default::default(),
            about: settings.about,
            local,
            hosts: settings.hosts,
            closing,
        });
        Ok(Self { listener, local, app, places })
    }

    /// The address that was taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves until `cancel`; then accepts no more, lets running requests be answered for 2 s, and
    /// returns when all connections are closed.
    pub async fn run(self, cancel: CancellationToken) {
        let Self { listener, app, places, .. } = self;
        let site = Site::new(app.clone(), router(app.clone()));
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        let mut backoff = BACKOFF.0;
        let mut sampling = interval(Bitrates::INTERVAL);
        sampling.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let accepted = tokio::select! {
                () = cancel.cancelled() => break,
                _ = sampling.tick() => {
                    sample(&app);
                    continue;
                }
                Some(ended) = connections.join_next() => {
                    report(ended);
                    continue;
                }
                accepted = listener.accept(), if connections.len() < CONNECTIONS => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    warn!(%error, "HTTP can't accept connections now; those that are there go on.");
                    tokio::select! {
                        () = cancel.cancelled() => break,
                        () = sleep(backoff) => {}
                    }
                    backoff = (backoff * 2).min(BACKOFF.1);
                    continue;
                }
            };
            backoff = BACKOFF.0;
            let Some(place) = places.admit(peer.ip()) else {
                debug!(%peer, "Too many HTTP connections of this source.");
                continue;
            };
            let connection = Connection { stream, peer, site: site.clone(), place };
            connections.spawn(connection.serve(graceful.watcher(), cancel.clone()));
        }
        drop(listener);
        if timeout(LAST_ANSWERS, graceful.shutdown()).await.is_err() {
            debug!("HTTP requests were cut off.");
        }
        connections.shutdown().await;
    }
}

fn sample(app: &App) {
    let streams = app.rooms.hub.list();
    let counters = streams.iter();
    let counters =
        counters.map(|stream| (stream.name().clone(), stream.statistics().snapshot().bytes_received));
    app.bitrates.sample(Instant::now(), counters);
    app.rates.sweep();
    app.sessions.sweep();
    app.event_readers.sweep(tokio::time::Instant::now());
    app.idempotency.sweep(Instant::now());
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        error!(%error, "An HTTP connection's task panicked.");
    }
}

/// Faults of the connection that was about to be accepted, not of the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as E;
    matches!(error.kind(), E::ConnectionRefused | E::ConnectionAborted | E::ConnectionReset)
}

#[cfg(test)]
mod tests;
