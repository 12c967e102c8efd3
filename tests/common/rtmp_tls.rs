//! A certificate for RTMPS, and connections of a client that trusts it.

use std::sync::Arc;

use tidegate::tls::ServerTls;
use tokio::net::TcpStream;
use tokio_rustls::rustls::{self, pki_types};

/// A server's certificate, and a client that trusts it.
pub fn certificate() -> (ServerTls, Arc<rustls::ClientConfig>) {
    let folder = tempfile::tempdir().expect("a folder");
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, pair.cert.pem()).expect("written");
    std::fs::write(&key, pair.signing_key.serialize_pem()).expect("written");
    let server = ServerTls::load(&certificate, &key).expect("a pair");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pair.cert.der().clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (server, Arc::new(client))
}

/// A connection that has shaken hands for TLS.
pub async fn connect_tls(
    client: &Arc<rustls::ClientConfig>,
    address: std::net::SocketAddr,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let connection = TcpStream::connect(address).await.expect("listening");
    let name = pki_types::ServerName::try_from("localhost").expect("a name");
    tokio_rustls::TlsConnector::from(client.clone()).connect(name, connection).await.expect("a handshake")
}
