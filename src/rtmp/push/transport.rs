//! The connection under a push: TCP, and TLS for `rtmps`.
//!
//! Owns the trusted certificates. Sets the socket up so that a peer that has gone silent is found within
//! seconds: what it does not acknowledge for [`UNACKNOWLEDGED`] ends the connection.

use super::{PushError, PushUrl};
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, rustls};

/// How long sent bytes may stay unacknowledged, or unsent because the peer takes none.
const UNACKNOWLEDGED: Duration = Duration::from_secs(8);
/// Enough for a second of high-quality video; more would only hide that the peer is slow.
const SEND_BUFFER: u32 = 512 * 1024;
const STEP: Duration = Duration::from_secs(5);
/// Addresses tried for one name.
const ADDRESSES: usize = 4;

/// A connected transport.
pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// Whom a push over TLS trusts. Cheap to clone.
#[derive(Clone)]
pub struct TlsRoots {
    config: Arc<rustls::ClientConfig>,
}

impl TlsRoots {
    /// The system's trusted certificates.
    pub fn system() -> Self {
        let mut roots = rustls::RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            tracing::warn!("No trusted certificates were found; rtmps targets won't connect.");
        }
        Self::new(roots)
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

/// Resolves, connects, and greets by TLS where the URL says so.
pub(super) async fn connect(url: &PushUrl, roots: &TlsRoots) -> Result<Box<dyn Transport>, PushError> {
    let address = (url.host.as_str(), url.port);
    let resolved = timeout(STEP, lookup_host(address)).await;
    let dns = |reason: String| PushError::Dns { host: url.host.clone(), reason };
    let addresses: Vec<SocketAddr> = match resolved {
        Ok(Ok(found)) => found.take(ADDRESSES).collect(),
        Ok(Err(error)) => return Err(dns(error.to_string())),
        Err(_) => return Err(dns("the name server does not answer".into())),
    };
    let mut failed = dns("the name has no address".into());
    for address in addresses {
        match timeout(STEP, connect_tcp(address)).await {
            Ok(Ok(connection)) => {
                if !url.tls {
                    return Ok(Box::new(connection));
                }
                return connect_tls(connection, url, roots).await;
            }
            Ok(Err(error)) => failed = PushError::Connect { address, reason: error.to_string() },
            Err(_) => failed = PushError::Connect { address, reason: "no answer".into() },
        }
    }
    Err(failed)
}

async fn connect_tcp(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_send_buffer_size(SEND_BUFFER)?;
    let connection = socket.connect(address).await?;
    connection.set_nodelay(true)?;
    rustix::net::sockopt::set_tcp_user_timeout(&connection, UNACKNOWLEDGED.as_millis() as u32)?;
    Ok(connection)
}

async fn connect_tls(
    connection: TcpStream,
    url: &PushUrl,
    roots: &TlsRoots,
) -> Result<Box<dyn Transport>, PushError> {
    let failed = |reason: String| PushError::Tls { host: url.host.clone(), reason };
    let name = ServerName::try_from(url.host.clone()).map_err(|error| failed(error.to_string()))?;
    let connector = TlsConnector::from(roots.config.clone());
    match timeout(STEP, connector.connect(name, connection)).await {
        Ok(Ok(connection)) => Ok(Box::new(connection)),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed("no answer".into())),
    }
}
