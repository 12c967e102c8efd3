//! How a push gets to its server: name resolution, the guard, TCP, and TLS for `rtmps`.
//!
//! A name is resolved once, all its addresses are judged, and one of those is connected to: there is no
//! second question whose answer could differ. Sets the socket up so that a peer that has gone silent is
//! found within seconds, and so that what it does not take stays with us.

use super::{PushError, PushUrl, Step, Steps};
use crate::admission::EgressGuard;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, rustls};

/// How long sent bytes may stay unacknowledged, or unsent because the peer takes none.
const UNACKNOWLEDGED: Duration = Duration::from_secs(8);
/// What may be under way to a server that is far off.
const SEND_BUFFER: u32 = 512 * 1024;
/// What the kernel may hold back unsent: the rest stays with us, where whole groups of pictures can be left
/// out.
const UNSENT: u32 = 64 * 1024;
const STEP: Duration = Duration::from_secs(5);
/// Addresses tried for one name.
const ADDRESSES: usize = 4;

/// A connected transport.
pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// Answers with the addresses of a host and a port.
pub type Resolver = Arc<
    dyn Fn(String, u16) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> + Send + Sync,
>;

/// What all pushes need to connect. Cheap to clone.
#[derive(Clone)]
pub struct Dialer {
    roots: TlsRoots,
    guard: EgressGuard,
    resolver: Resolver,
}

/// Whom a push over TLS trusts. Cheap to clone.
#[derive(Clone)]
pub struct TlsRoots {
    config: Arc<rustls::ClientConfig>,
}

/// Why certificates can't be trusted.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// The system does not let us read the file.
    #[error("restream.extra_roots = {path:?} can't be read: {why}")]
    Unreadable {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// Nothing of use in it.
    #[error("restream.extra_roots = {0:?} holds no certificate (PEM) that can be used")]
    Empty(std::path::PathBuf),
}

impl Dialer {
    /// Trusts `roots`, goes where `guard` lets it, and asks the system for addresses.
    pub fn new(roots: TlsRoots, guard: EgressGuard) -> Self {
        let resolver: Resolver =
            Arc::new(|host, port| Box::pin(async move { Ok(lookup_host((host, port)).await?.collect()) }));
        Self { roots, guard, resolver }
    }

    /// The same with another answer to names.
    #[must_use]
    pub fn with_resolver(mut self, resolver: Resolver) -> Self {
        self.resolver = resolver;
        self
    }

    /// Resolves, connects, and greets by TLS where the URL says so; tells of each step that is done.
    pub(super) async fn dial(
        &self,
        url: &PushUrl,
        steps: &mut Steps<'_>,
    ) -> Result<Box<dyn Transport>, PushError> {
        let addresses = self.resolve(url).await?;
        steps(Step::NameResolution);
        let connection = connect_first(&addresses[..addresses.len().min(ADDRESSES)]).await?;
        steps(Step::Tcp);
        if !url.tls {
            return Ok(Box::new(connection));
        }
        let connection = self.secure(connection, url).await?;
        steps(Step::Tls);
        Ok(connection)
    }

    /// All addresses of the host, each of which may be connected to; at least one.
    async fn resolve(&self, url: &PushUrl) -> Result<Vec<SocketAddr>, PushError> {
        let dns = |reason: String| PushError::Dns { host: url.host.clone(), reason };
        let addresses = match timeout(STEP, (self.resolver)(url.host.clone(), url.port)).await {
            Ok(Ok(found)) if found.is_empty() => return Err(dns("the name has no address".into())),
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return Err(dns(error.to_string())),
            Err(_) => return Err(dns("the name server does not answer".into())),
        };
        let judged = self.guard.check(&addresses);
        judged.map_err(|why| PushError::NotAllowed { host: url.host.clone(), why })?;
        Ok(addresses)
    }

    async fn secure(&self, connection: TcpStream, url: &PushUrl) -> Result<Box<dyn Transport>, PushError> {
        let failed = |reason: String| PushError::Tls { host: url.host.clone(), reason };
        let name = ServerName::try_from(url.host.clone()).map_err(|error| failed(error.to_string()))?;
        let connector = TlsConnector::from(self.roots.config.clone());
        match timeout(STEP, connector.connect(name, connection)).await {
            Ok(Ok(connection)) => Ok(Box::new(connection)),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed("no answer".into())),
        }
    }
}

impl TlsRoots {
    /// The system's trusted certificates, and those of the PEM file `extra`.
    pub fn system(extra: Option<&Path>) -> Result<Self, RootsError> {
        let mut roots = rustls::RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if let Some(path) = extra {
            let text =
                std::fs::read(path).map_err(|why| RootsError::Unreadable { path: path.to_owned(), why })?;
            let found: Vec<_> = CertificateDer::pem_slice_iter(&text).flatten().collect();
            if roots.add_parsable_certificates(found).0 == 0 {
                return Err(RootsError::Empty(path.to_owned()));
            }
        }
        if roots.is_empty() {
            tracing::warn!("No trusted certificates were found; rtmps targets won't connect.");
        }
        Ok(Self::new(roots))
    }

    /// These certificates (DER) only.
    pub fn only(certificates: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(certificates.into_iter().map(CertificateDer::from));
        Self::new(roots)
    }

    fn new(roots: rustls::RootCertStore) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the cipher suites of both TLS versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { config: Arc::new(config) }
    }
}

/// A connection to the first of `addresses` that takes one.
async fn connect_first(addresses: &[SocketAddr]) -> Result<TcpStream, PushError> {
    let mut failed = PushError::Protocol("no address".into());
    for &address in addresses {
        match timeout(STEP, connect_tcp(address)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => {
                let refused = error.kind() == io::ErrorKind::ConnectionRefused;
                failed = PushError::Connect { address, reason: error.to_string(), refused };
            }
            Err(_) => {
                failed = PushError::Connect { address, reason: "no answer".into(), refused: false };
            }
        }
    }
    Err(failed)
}

async fn connect_tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_send_buffer_size(SEND_BUFFER)?;
    let connection = socket.connect(address).await?;
    connection.set_nodelay(true)?;
    rustix::net::sockopt::set_tcp_user_timeout(&connection, UNACKNOWLEDGED.as_millis() as u32)?;
    socket2::SockRef::from(&connection).set_tcp_notsent_lowat(UNSENT)?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_roots_are_read_and_faults_name_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        for (name, text, fault) in [
            ("good.pem", Some(pair.cert.pem()), None),
            ("none.pem", None, Some("can't be read")),
            ("empty.pem", Some(String::new()), Some("holds no certificate")),
            ("key.pem", Some(pair.signing_key.serialize_pem()), Some("holds no certificate")),
        ] {
            let path = folder.path().join(name);
            if let Some(text) = text {
                std::fs::write(&path, text).expect("written");
            }
            let error = TlsRoots::system(Some(&path)).err().map(|error| error.to_string());
            match fault {
                None => assert_eq!(error, None),
                Some(fault) => {
                    let error = error.expect(name);
                    assert!(error.contains(fault) && error.contains(name), "{error}");
                }
            }
        }
    }

    #[tokio::test]
    async fn all_addresses_are_judged_before_one_is_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let good = listener.local_addr().expect("bound");
        let resolver: Resolver = Arc::new(move |_, port| {
            let bad = SocketAddr::from(([10, 0, 0, 1], port));
            Box::pin(async move { Ok(vec![good, bad]) })
        });
        let guard = EgressGuard::new(["127.0.0.0/8".parse().expect("a network")]);
        let dialer = Dialer::new(TlsRoots::only([]), guard).with_resolver(resolver);
        let url = "rtmp://mixed.example/app/key".parse().expect("valid");
        let error = dialer.dial(&url, &mut |_| {}).await.err().expect("refused");
        assert!(matches!(error, PushError::NotAllowed { .. }), "{error}");
        let accepted = timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(accepted.is_err(), "nobody was connected to");
    }
}
