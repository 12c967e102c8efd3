//! The cryptography of DTLS and SRTP: AWS-LC as `webrtc` provides it, and signatures by peers' keys on P-224.
//!
//! FFmpeg built with GnuTLS makes itself a certificate with such a key, and as the DTLS server, which its
//! WHIP muxer is, it signs the key exchange with it. Ours are never on that curve.

use p224::ecdsa::signature::hazmat::PrehashVerifier;
use p224::ecdsa::{DerSignature, VerifyingKey};
use std::sync::Arc;
use webrtc::peer_connection::crypto::providers::AwsLcRsProvider;
use webrtc::peer_connection::crypto::{
    ActiveKeyExchange, AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, CbcAlgorithm, CbcCipher,
    CryptoAlgorithm, CryptoError, HashAlgorithm, HmacAlgorithm, KeyExchangeAlgorithm, Mac, PublicKey,
    PublicKeyEncoding, RTCCrypto, RTCCryptoProvider, RTCRandom, SignatureScheme, SigningKey, StreamCipher,
    StreamCipherAlgorithm,
};

/// The octets of an uncompressed point on P-224 (SEC 1 §2.3.3).
const P224_POINT: usize = 1 + 2 * 28;

/// The cryptography of all sessions.
pub(in crate::webrtc) fn crypto_provider() -> Arc<dyn RTCCryptoProvider> {
    Arc::new(WithP224(Arc::new(AwsLcRsProvider::new())))
}

/// A provider that also verifies ECDSA signatures by keys on P-224.
struct WithP224(Arc<dyn RTCCryptoProvider>);

impl RTCCryptoProvider for WithP224 {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn crypto(&self) -> &dyn RTCCrypto {
        self
    }

    fn random(&self) -> &dyn RTCRandom {
        self.0.random()
    }
}

impl RTCCrypto for WithP224 {
    fn verify_signature(
        &self,
        scheme: SignatureScheme,
        public_key: PublicKey<'_>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        // RFC 5246 §7.4.1.4.1: in TLS 1.2 the hash says nothing of the curve; `rtc` takes SHA-256 for P-256.
        let on_p224 = scheme == SignatureScheme::EcdsaP256Sha256
            && public_key.encoding == PublicKeyEncoding::EcUncompressedPoint
            && public_key.bytes.len() == P224_POINT;
        if !on_p224 {
            return self.0.crypto().verify_signature(scheme, public_key, message, signature);
        }
        let digest = self.hash(HashAlgorithm::Sha256, message)?;
        let key = VerifyingKey::from_sec1_bytes(public_key.bytes);
        let signature = DerSignature::try_from(signature);
        let (Ok(key), Ok(signature)) = (key, signature) else { return Err(CryptoError::InvalidSignature) };
        key.verify_prehash(&digest, &signature).map_err(|_| CryptoError::InvalidSignature)
    }

    fn supports(&self, algorithm: CryptoAlgorithm) -> bool {
        self.0.crypto().supports(algorithm)
    }

    fn hash(&self, algorithm: HashAlgorithm, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.0.crypto().hash(algorithm, data)
    }

    fn block_encrypt(
        &self,
        algorithm: BlockCipherAlgorithm,
        key: &[u8],
        block: &mut [u8],
    ) -> Result<(), CryptoError> {
        self.0.crypto().block_encrypt(algorithm, key, block)
    }

    fn new_hmac(&self, algorithm: HmacAlgorithm, key: &[u8]) -> Result<Box<dyn Mac>, CryptoError> {
        self.0.crypto().new_hmac(algorithm, key)
    }

    fn new_stream_cipher(
        &self,
        algorithm: StreamCipherAlgorithm,
        key: &[u8],
    ) -> Result<Box<dyn StreamCipher>, CryptoError> {
        self.0.crypto().new_stream_cipher(algorithm, key)
    }

    fn new_aead(&self, algorithm: AeadAlgorithm, key: &[u8]) -> Result<Box<dyn AeadCipher>, CryptoError> {
        self.0.crypto().new_aead(algorithm, key)
    }

    fn new_cbc(&self, algorithm: CbcAlgorithm, key: &[u8]) -> Result<Box<dyn CbcCipher>, CryptoError> {
        self.0.crypto().new_cbc(algorithm, key)
    }

    fn start_key_exchange(
        &self,
        algorithm: KeyExchangeAlgorithm,
    ) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        self.0.crypto().start_key_exchange(algorithm)
    }

    fn generate_signing_key(&self, scheme: SignatureScheme) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.0.crypto().generate_signing_key(scheme)
    }

    fn import_signing_key(
        &self,
        scheme: SignatureScheme,
        pkcs8_der: &[u8],
    ) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.0.crypto().import_signing_key(scheme, pkcs8_der)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with OpenSSL, SHA-256.
    const POINT: &str = "048b2f3d7d4c71b975d1c2908c6511e7da8bfaff917afa0c65249805108902fce0\
                         42663f9ee0995a1635105a0441ea460a0524463de83693a3";
    const MESSAGE: &[u8] = b"signed by a key on P-224";
    const SIGNATURE: &str = "303d021c73248b1c81b727a6754f9f390ba53c700a6d718dd0fec7104ae7cbb0\
                             021d00ddeadca01e67fb08ed5af0472ec62328cbd5d04c692177270d3b5693";

    fn verify(point: &[u8], message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let provider = crypto_provider();
        let key = PublicKey { encoding: PublicKeyEncoding::EcUncompressedPoint, bytes: point };
        provider.crypto().verify_signature(SignatureScheme::EcdsaP256Sha256, key, message, signature)
    }

    #[test]
    fn signatures_on_p224_are_verified() {
        let (point, signature) = (bytes(POINT), bytes(SIGNATURE));
        assert!(verify(&point, MESSAGE, &signature).is_ok());
        assert!(verify(&point, b"signed by another key on P-224", &signature).is_err());
        let mut forged = signature.clone();
        *forged.last_mut().expect("not empty") ^= 1;
        assert!(verify(&point, MESSAGE, &forged).is_err());
        assert!(verify(&point, MESSAGE, &signature[..20]).is_err());
        let mut beside = point.clone();
        *beside.last_mut().expect("not empty") ^= 1; // not on the curve
        assert!(verify(&beside, MESSAGE, &signature).is_err());
    }

    #[test]
    fn keys_on_other_curves_go_to_the_default_provider() {
        let provider = crypto_provider();
        let scheme = SignatureScheme::EcdsaP256Sha256;
        let key = provider.crypto().generate_signing_key(scheme).expect("a key");
        let signature = key.sign(scheme, MESSAGE).expect("a signature");
        let verify =
            |message| provider.crypto().verify_signature(scheme, key.public_key(), message, &signature);
        assert!(verify(MESSAGE).is_ok());
        assert!(verify(b"another message").is_err());
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
        (0..hex.len()).step_by(2).map(digit).collect()
    }
}
