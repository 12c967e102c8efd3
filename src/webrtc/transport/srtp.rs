//! Sealing of outgoing SRTP packets in place, without allocation.
//!
//! Promises what `rtc::srtp` would write, byte for byte, for the two protection profiles we offer. The
//! caller gives the 48-bit packet index, so there is no roll-over state here, and retransmission and
//! reordering are free. The caller must never seal two different packets under one (SSRC, index): that
//! would repeat a nonce (RFC 7714 §8.1). `track.rs` keeps that promise.

use rtc::crypto::{
    AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, CryptoError, HmacAlgorithm, Mac, RTCCrypto,
    StreamCipher, StreamCipherAlgorithm,
};

/// RTP header without contributing sources and extensions.
pub(in crate::webrtc) const HEADER: usize = 12;

/// A protection profile (RFC 5764 §4.1.2, RFC 7714 §14.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Profile {
    /// AEAD_AES_128_GCM: the faster one, chosen whenever it is offered.
    AeadAes128Gcm,
    /// SRTP_AES128_CM_HMAC_SHA1_80: what every client has.
    Aes128CmHmacSha1_80,
}

impl Profile {
    /// Bytes of the master salt.
    pub(super) const fn salt_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm => 12,
            Self::Aes128CmHmacSha1_80 => 14,
        }
    }

    /// Bytes behind each packet.
    pub(super) const fn tag_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm => 16,
            Self::Aes128CmHmacSha1_80 => 10,
        }
    }
}

/// The keys that seal one direction of one session.
pub(in crate::webrtc) struct Sealer {
    profile: Profile,
    cipher: Cipher,
}

/// The session keys of one direction.
pub(super) enum Cipher {
    /// RFC 7714.
    Gcm { aead: Box<dyn AeadCipher>, salt: [u8; 12] },
    /// RFC 3711 §4.
    CounterSha1 { stream: Box<dyn StreamCipher>, mac: Box<dyn Mac>, salt: [u8; 14] },
}

impl Cipher {
    /// Derives the session keys from a master key of 16 bytes and a salt of [`Profile::salt_len`].
    pub(super) fn new(
        profile: Profile,
        master_key: &[u8],
        master_salt: &[u8],
        crypto: &dyn RTCCrypto,
    ) -> Result<Self, CryptoError> {
        // RFC 3711 §4.3.2: labels 0 encryption, 1 authentication, 2 salt.
        let key: [u8; 16] = derive(0, master_key, master_salt, crypto)?;
        Ok(match profile {
            Profile::AeadAes128Gcm => Self::Gcm {
                aead: crypto.new_aead(AeadAlgorithm::Aes128Gcm, &key)?,
                salt: derive(2, master_key, master_salt, crypto)?,
            },
            Profile::Aes128CmHmacSha1_80 => {
                let authentication: [u8; 20] = derive(1, master_key, master_salt, crypto)?;
                Self::CounterSha1 {
                    stream: crypto.new_stream_cipher(StreamCipherAlgorithm::Aes128Ctr, &key)?,
                    mac: crypto.new_hmac(HmacAlgorithm::Sha1, &authentication)?,
                    salt: derive(2, master_key, master_salt, crypto)?,
                }
            }
        })
    }
}

/// RFC 7714 §8.1: 0x0000 | SSRC | ROC | SEQ, exclusive-or the salt. `ssrc` has 4 bytes, `index` 6.
pub(super) fn gcm_nonce(salt: &[u8; 12], ssrc: &[u8], index: &[u8]) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[2..6].copy_from_slice(ssrc);
    nonce[6..].copy_from_slice(index);
    mix(&mut nonce, salt);
    nonce
}

/// RFC 3711 §4.1.1: (salt * 2^16) XOR (SSRC * 2^64) XOR (i * 2^16). `ssrc` has 4 bytes, `index` 6.
pub(super) fn counter(salt: &[u8; 14], ssrc: &[u8], index: &[u8]) -> [u8; 16] {
    let mut counter = [0; 16];
    counter[4..8].copy_from_slice(ssrc);
    counter[8..14].copy_from_slice(index);
    mix(&mut counter, salt);
    counter
}

impl Sealer {
    /// Derives the session keys from a master key of 16 bytes and a salt of [`Profile::salt_len`].
    pub(super) fn new(
        profile: Profile,
        master_key: &[u8],
        master_salt: &[u8],
        crypto: &dyn RTCCrypto,
    ) -> Result<Self, CryptoError> {
        Ok(Self { profile, cipher: Cipher::new(profile, master_key, master_salt, crypto)? })
    }

    /// Bytes that `seal` needs behind the packet.
    pub(in crate::webrtc) fn tag_len(&self) -> usize {
        self.profile.tag_len()
    }

    /// Encrypts and authenticates `packet`: a header without contributing sources, the payload, and room for
    /// the tag.
    /// `index` is the sequence number with its roll-over counter: 48 bits.
    pub(in crate::webrtc) fn seal(&mut self, packet: &mut [u8], index: u64) -> Result<(), CryptoError> {
        let end = packet.len() - self.tag_len();
        let (body, tag) = packet.split_at_mut(end);
        let header = header_len(body).min(body.len());
        let (header, payload) = body.split_at_mut(header);
        let ssrc = &header[8..12];
        let index = &index.to_be_bytes()[2..];
        match &mut self.cipher {
            Cipher::Gcm { aead, salt } => {
                aead.seal_in_place(&gcm_nonce(salt, ssrc, index), header, payload, tag)
            }
            Cipher::CounterSha1 { stream, mac, salt } => {
                stream.apply_keystream(&counter(salt, ssrc, index), payload)?;
                // RFC 3711 §4.2: over the packet and the ROC; the first 80 bits count.
                let mut full = [0; 20];
                mac.sign(&[body, &index[..4]], &mut full)?;
                tag.copy_from_slice(&full[..tag.len()]);
                Ok(())
            }
        }
    }
}

/// The header's length with its extension, which stays readable (RFC 3550 §5.3.1, RFC 3711 §3.1).
fn header_len(packet: &[u8]) -> usize {
    const EXTENSION: u8 = 0x10;
    match packet {
        [first, _, _, _, _, _, _, _, _, _, _, _, _, _, high, low, ..] if first & EXTENSION != 0 => {
            HEADER + 4 + 4 * usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => HEADER,
    }
}

/// AES-CM key derivation with a derivation rate of zero (RFC 3711 §4.3.3).
fn derive<const N: usize>(
    label: u8,
    master_key: &[u8],
    master_salt: &[u8],
    crypto: &dyn RTCCrypto,
) -> Result<[u8; N], CryptoError> {
    let mut output = [0; N];
    for (counter, chunk) in output.chunks_mut(16).enumerate() {
        let mut block = [0; 16];
        mix(&mut block, master_salt);
        block[7] ^= label;
        block[15] ^= counter as u8;
        crypto.block_encrypt(BlockCipherAlgorithm::Aes128, master_key, &mut block)?;
        chunk.copy_from_slice(&block[..chunk.len()]);
    }
    Ok(output)
}

fn mix(target: &mut [u8], salt: &[u8]) {
    for (byte, salt) in target.iter_mut().zip(salt) {
        *byte ^= salt;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc::crypto::default_provider;
    use rtc::srtp::context::Context;
    use rtc::srtp::protection_profile::ProtectionProfile;

    fn keys(profile: Profile) -> (Vec<u8>, Vec<u8>) {
        ((1..17).collect(), (101..101 + profile.salt_len() as u8).collect())
    }

    fn pair(profile: Profile) -> (Sealer, Context) {
        let provider = default_provider().expect("a provider");
        let (key, salt) = keys(profile);
        let theirs = match profile {
            Profile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
            Profile::Aes128CmHmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        };
        let sealer = Sealer::new(profile, &key, &salt, provider.crypto()).expect("keys");
        (sealer, Context::new(&key, &salt, theirs, None, None, provider.crypto()).expect("keys"))
    }

    fn packet(sealer: &Sealer, index: u64, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x80, 96];
        packet.extend((index as u16).to_be_bytes());
        packet.extend([0, 0, 0, 9, 0xaa, 0xbb, 0xcc, 0xdd]);
        packet.extend(payload);
        packet.resize(packet.len() + sealer.tag_len(), 0);
        packet
    }

    const BOTH: [Profile; 2] = [Profile::AeadAes128Gcm, Profile::Aes128CmHmacSha1_80];

    #[test]
    fn packets_are_those_of_the_reference_also_past_the_wrap_of_the_sequence() {
        for profile in BOTH {
            let (mut sealer, mut reference) = pair(profile);
            // The reference counts roll-overs itself, so it must see every packet in order.
            for index in 0x7ff0..0x2_0010u64 {
                let mut ours = packet(&sealer, index, b"payload");
                let plain = ours[..ours.len() - sealer.tag_len()].to_vec();
                sealer.seal(&mut ours, index).expect("sealed");
                let theirs = reference.encrypt_rtp(&plain).expect("encrypted");
                assert_eq!(ours, &theirs[..], "{profile:?} {index:#x}");
            }
        }
    }

    #[test]
    fn the_reference_opens_reordered_packets_around_the_wrap() {
        for profile in BOTH {
            let (mut sealer, mut reference) = pair(profile);
            for index in [0xfff0, 0xffff, 0xfffe, 0x1_0001, 0x1_0000, 0xfffd, 0x1_0002] {
                let mut sealed = packet(&sealer, index, b"payload");
                sealer.seal(&mut sealed, index).expect("sealed");
                let opened = reference.decrypt_rtp(&sealed).expect("authentic");
                assert_eq!(&opened[HEADER..], b"payload");
            }
        }
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        for profile in BOTH {
            let (mut sealer, mut reference) = pair(profile);
            let mut sealed = packet(&sealer, 5, b"payload");
            sealer.seal(&mut sealed, 5).expect("sealed");
            sealed[HEADER] ^= 1;
            assert!(reference.decrypt_rtp(&sealed).is_err());
        }
    }
}
