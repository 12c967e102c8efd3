//! The DTLS handshake of one session, and the keys that come out of it.
//!
//! Promises that keys are given out only after the peer's certificate was found to have the fingerprint
//! of its offer, and that AEAD_AES_128_GCM is used whenever the client has it.

use super::client_hello::{Hello, HelloReader};
use super::opener::Opener;
use super::provider::crypto_provider;
use super::srtp::{Profile, Sealer};
use crate::webrtc::{IceMode, WebRtcError};
use bytes::BytesMut;
use rtc::crypto::{HashAlgorithm, RTCCryptoProvider};
use rtc::dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc::dtls::crypto::Certificate;
use rtc::dtls::endpoint::{Endpoint, EndpointEvent};
use rtc::dtls::state::State;
use rtc::shared::TransportProtocol;
use rtc::srtp::context::Context;
use rtc::srtp::option::{srtcp_replay_protection, srtp_no_replay_protection};
use rtc::srtp::protection_profile::ProtectionProfile;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use webrtc::peer_connection::SrtpProtectionProfile;

/// RFC 5764 §4.2.
const EXPORTER: &str = "EXTRACTOR-dtls_srtp";
/// Retransmission interval of handshake flights. FFmpeg is deaf to what comes before it listens, so it is short.
const FLIGHT_INTERVAL: Duration = Duration::from_millis(100);
/// The id of AEAD_AES_128_GCM in `use_srtp` (RFC 7714 §14.2).
const GCM: u16 = 0x0007;

/// Who we are in every transport: our certificate, the handshake configurations made from it, and the kind of
/// ICE agent; once per process.
pub(in crate::webrtc) struct Identity {
    ice: IceMode,
    provider: Arc<dyn RTCCryptoProvider>,
    fingerprint: String,
    server_gcm: Arc<HandshakeConfig>,
    server_any: Arc<HandshakeConfig>,
    client: Arc<HandshakeConfig>,
}

impl Identity {
    /// Generates a certificate.
    pub(in crate::webrtc) fn generate() -> Result<Self, WebRtcError> {
        let failed = |error: &dyn std::fmt::Display| WebRtcError::Certificate(error.to_string());
        let provider = crypto_provider();
        let certificate = Certificate::generate_self_signed(vec!["tidegate".to_owned()], provider.crypto())
            .map_err(|error| failed(&error))?;
        let der = certificate.certificate.first().ok_or_else(|| failed(&"no certificate"))?;
        let fingerprint = fingerprint(der.as_ref(), &*provider).ok_or_else(|| failed(&"no SHA-256"))?;
        let config = |profiles: Vec<SrtpProtectionProfile>, is_client: bool| {
            ConfigBuilder::default()
                .with_crypto_provider(provider.clone())
                .with_certificates(vec![certificate.clone()])
                .with_srtp_protection_profiles(profiles)
                .with_client_auth(ClientAuthType::RequireAnyClientCert)
                // The certificate is checked by its fingerprint: RFC 8827 §6.5.
                .with_insecure_skip_verify(true)
                .with_extended_master_secret(ExtendedMasterSecretType::Require)
                .with_flight_interval(FLIGHT_INTERVAL)
                .build(is_client, None)
                .map(Arc::new)
                .map_err(|error| failed(&error))
        };
        use SrtpProtectionProfile::{Srtp_Aead_Aes_128_Gcm as Gcm, Srtp_Aes128_Cm_Hmac_Sha1_80 as Sha1};
        Ok(Self {
            ice: IceMode::Lite,
            fingerprint,
            server_gcm: config(vec![Gcm], false)?,
            server_any: config(vec![Gcm, Sha1], false)?,
            client: config(vec![Gcm, Sha1], true)?,
            provider: provider.clone(),
        })
    }

    /// With this kind of ICE agent; without it, lite.
    pub(in crate::webrtc) fn with_ice(self, ice: IceMode) -> Self {
        Self { ice, ..self }
    }

    /// SHA-256 of our certificate, as `a=fingerprint` writes it.
    pub(in crate::webrtc) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The kind of ICE agent that we are.
    pub(super) fn ice(&self) -> IceMode {
        self.ice
    }

    /// Cryptography.
    pub(super) fn provider(&self) -> &dyn RTCCryptoProvider {
        &*self.provider
    }
}

/// What the handshake yields.
pub(in crate::webrtc) struct Keys {
    pub(super) profile: Profile,
    /// Seals outgoing RTP.
    pub(in crate::webrtc) rtp: Sealer,
    /// Seals outgoing RTCP.
    pub(in crate::webrtc) rtcp_out: Context,
    /// Opens incoming RTP.
    pub(in crate::webrtc) rtp_in: Opener,
    /// Opens incoming RTCP, with a replay window.
    pub(in crate::webrtc) incoming: Context,
}

/// What a datagram led to.
pub(in crate::webrtc) enum Progress {
    /// Go on.
    Pending,
    /// The handshake is over and the peer is who the offer says.
    Established(Box<Keys>),
    /// The peer closed the session.
    Closed,
    /// It can't go on; the text says why.
    Failed(&'static str),
}

/// One association.
pub(in crate::webrtc) struct Dtls {
    identity: Arc<Identity>,
    remote_fingerprint: String,
    is_client: bool,
    hello: Option<HelloReader>,
    endpoint: Endpoint,
    established: bool,
}

impl Dtls {
    /// An association with the peer whose certificate has this SHA-256 fingerprint.
    pub(in crate::webrtc) fn new(identity: Arc<Identity>, remote_fingerprint: &str, is_client: bool) -> Self {
        let endpoint = Endpoint::new(peer(), TransportProtocol::UDP, Some(identity.server_any.clone()));
        Self {
            identity,
            remote_fingerprint: remote_fingerprint.to_ascii_uppercase(),
            is_client,
            hello: (!is_client).then(HelloReader::default),
            endpoint,
            established: false,
        }
    }

    /// Begins the handshake if that is our part.
    pub(in crate::webrtc) fn start(&mut self, now: Instant) {
        if self.is_client && self.endpoint.get_connection_state(peer()).is_none() {
            let _ = self.endpoint.connect(now, peer(), self.identity.client.clone(), None);
        }
    }

    /// Takes a datagram.
    pub(in crate::webrtc) fn read(&mut self, now: Instant, data: &[u8]) -> Progress {
        let Some(hello) = &mut self.hello else { return self.feed(now, data) };
        let Hello::Offered(profiles, held) = hello.push(data) else { return Progress::Pending };
        self.hello = None;
        if profiles.contains(&GCM) {
            self.endpoint.set_server_config(Some(self.identity.server_gcm.clone()));
        }
        for datagram in held {
            match self.feed(now, &datagram) {
                Progress::Pending => {}
                other => return other,
            }
        }
        Progress::Pending
    }

    /// Lets retransmissions happen. False if the handshake has failed.
    pub(in crate::webrtc) fn handle_timeout(&mut self, now: Instant) -> bool {
        let waiting = self.established || self.endpoint.get_connection_state(peer()).is_none();
        waiting || self.endpoint.handle_timeout(peer(), now).is_ok()
    }

    /// Says goodbye.
    pub(in crate::webrtc) fn close(&mut self, now: Instant) {
        let _ = self.endpoint.close(now);
    }

    /// The next datagram to send.
    pub(in crate::webrtc) fn poll_transmit(&mut self) -> Option<BytesMut> {
        self.endpoint.poll_transmit().map(|transmit| transmit.message)
    }

    fn feed(&mut self, now: Instant, data: &[u8]) -> Progress {
        // An error here is a datagram that does not fit: the sender repeats itself, or its time runs out.
        let events = self.endpoint.read(now, peer(), None, BytesMut::from(data)).unwrap_or_default();
        let mut progress = Progress::Pending;
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => {
                    self.established = true;
                    progress = self.keys();
                }
                EndpointEvent::PeerClosed => return Progress::Closed,
                _ => {}
            }
        }
        progress
    }

    fn keys(&self) -> Progress {
        let Some(state) = self.endpoint.get_connection_state(peer()) else {
            return Progress::Failed("the DTLS association is gone");
        };
        let provider = self.identity.provider();
        let presented = state.peer_certificates.first().and_then(|der| fingerprint(der, provider));
        if presented.as_deref() != Some(self.remote_fingerprint.as_str()) {
            return Progress::Failed("the certificate is not the one of the offer");
        }
        match keys(state, self.is_client, provider) {
            Some(keys) => Progress::Established(Box::new(keys)),
            None => Progress::Failed("no SRTP keys came out of the handshake"),
        }
    }
}

/// The endpoint's constant idea of its peer: a change of address does not concern DTLS.
fn peer() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9))
}

fn keys(state: &State, is_client: bool, provider: &dyn RTCCryptoProvider) -> Option<Keys> {
    let (profile, theirs) = match state.srtp_protection_profile() {
        SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => {
            (Profile::AeadAes128Gcm, ProtectionProfile::AeadAes128Gcm)
        }
        SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => {
            (Profile::Aes128CmHmacSha1_80, ProtectionProfile::Aes128CmHmacSha1_80)
        }
        _ => return None,
    };
    let salt_len = profile.salt_len();
    let material = state.export_keying_material(EXPORTER, &[], 2 * (16 + salt_len)).ok()?;
    // RFC 5764 §4.2: client key, server key, client salt, server salt.
    let (keys, salts) = material.as_ref().split_at_checked(32)?;
    let client = (&keys[..16], salts.get(..salt_len)?);
    let server = (&keys[16..], salts.get(salt_len..)?);
    let (ours, theirs_keys) = if is_client { (client, server) } else { (server, client) };
    let crypto = provider.crypto();
    let replay = Some(srtcp_replay_protection(64));
    Some(Keys {
        profile,
        rtp: Sealer::new(profile, ours.0, ours.1, crypto).ok()?,
        rtcp_out: Context::new(ours.0, ours.1, theirs, None, None, crypto).ok()?,
        rtp_in: Opener::new(profile, theirs_keys.0, theirs_keys.1, crypto).ok()?,
        incoming: Context::new(
            theirs_keys.0,
            theirs_keys.1,
            theirs,
            Some(srtp_no_replay_protection()),
            replay,
            crypto,
        )
        .ok()?,
    })
}

/// SHA-256 in the form `AB:CD:…` (RFC 8122 §5).
fn fingerprint(der: &[u8], provider: &dyn RTCCryptoProvider) -> Option<String> {
    let digest = provider.crypto().hash(HashAlgorithm::Sha256, der).ok()?;
    let bytes: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    Some(bytes.join(":"))
}
