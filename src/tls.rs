//! The server's side of TLS: the operator's certificate and key, read once at start.
//!
//! One [`ServerTls`] serves every listener that speaks TLS. It knows no protocol above, and doesn't
//! notice when the files change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// A connection after its TLS handshake.
pub type TlsStream<S> = tokio_rustls::server::TlsStream<S>;

/// A certificate with its key. Cheap to clone.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
}

/// Why a certificate or a key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The system does not let us read it.
    #[error("{key} = {path:?} can't be read: {why}")]
    Unreadable {
        /// The setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// Nothing of the kind in it.
    #[error("{key} = {path:?} holds no {wanted}")]
    Lacks {
        /// The setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// The two are not of one pair.
    #[error("the key in {private_key:?} is not the one of the certificate in {certificate:?}")]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        private_key: PathBuf,
    },
    /// Both were found, but they are of no use.
    #[error("the certificate in {certificate:?} can't be used: {why}")]
    Unusable {
        /// The file of the certificate.
        certificate: PathBuf,
        /// What is wrong.
        why: rustls::Error,
    },
}

const CERTIFICATE: &str = "tls.certificate";
const PRIVATE_KEY: &str = "tls.private_key";

/// Makes the cryptography of our TLS that of all libraries in this process that ask for one. Any number of
/// times.
pub fn install_provider() {
    // An error says that there is one already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

impl ServerTls {
    /// Reads PEM files: the certificate with its chain, the server's own first, and the private key.
    pub fn load(certificate: &Path, private_key: &Path) -> Result<Self, TlsError> {
        let lacks_certificate = TlsError::Lacks {
            key: CERTIFICATE,
            path: certificate.to_owned(),
            wanted: "certificate (PEM, the server's own first, then its chain)",
        };
        let text = read(CERTIFICATE, certificate)?;
        let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
        let chain = match chain {
            Ok(chain) if !chain.is_empty() => chain,
            _ => return Err(lacks_certificate),
        };
        let text = read(PRIVATE_KEY, private_key)?;
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| TlsError::Lacks {
            key: PRIVATE_KEY,
            path: private_key.to_owned(),
            wanted: "private key (PEM: PKCS #8, PKCS #1 or SEC1, not encrypted)",
        })?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the cipher suites of both TLS versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|why| match why {
                rustls::Error::InconsistentKeys(_) => TlsError::Mismatch {
                    certificate: certificate.to_owned(),
                    private_key: private_key.to_owned(),
                },
                why => TlsError::Unusable { certificate: certificate.to_owned(), why },
            })?;
        Ok(Self { config: Arc::new(config) })
    }

    /// The handshake with a client. Waits as long as the client lets it: set a timeout.
    pub async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(self.config.clone()).accept(stream).await
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|why| TlsError::Unreadable { key, path: path.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_files_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let pair = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("written");
        };
        let (first, second) = (pair(), pair());
        write("cert.pem", &first.cert.pem());
        write("key.pem", &first.signing_key.serialize_pem());
        write("other-key.pem", &second.signing_key.serialize_pem());
        write("empty.pem", "");
        write("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let load = |certificate: &str, key: &str| {
            let path = |name: &str| folder.path().join(name);
            ServerTls::load(&path(certificate), &path(key)).map_err(|error| error.to_string())
        };
        assert!(load("cert.pem", "key.pem").is_ok());
        for (certificate, key, part) in [
            ("none.pem", "key.pem", "tls.certificate = "),
            ("cert.pem", "none.pem", "can't be read: No such file"),
            ("empty.pem", "key.pem", "holds no certificate"),
            ("key.pem", "cert.pem", "holds no certificate"),
            ("cert.pem", "empty.pem", "holds no private key"),
            ("cert.pem", "cert.pem", "tls.private_key = "),
            ("cert.pem", "other-key.pem", "is not the one of the certificate"),
            ("broken.pem", "key.pem", "can't be used"),
        ] {
            let error = load(certificate, key).expect_err("unusable");
            assert!(error.contains(part), "{certificate} {key}: {error}");
        }
    }
}
