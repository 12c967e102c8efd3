//! Opening of incoming SRTP packets in place, without allocation.
//!
//! Promises what `rtc::srtp` would read, for the two protection profiles we offer. The caller gives the
//! 48-bit packet index: it keeps roll-over counters and the replay window of each source (RFC 3711 §3.3), and
//! changes them only after a packet was found authentic.

use super::srtp::{Cipher, HEADER, Profile, counter, gcm_nonce};
use rtc::crypto::{CryptoError, RTCCrypto};
use subtle::ConstantTimeEq;

/// The keys that open one direction of one session.
pub(in crate::webrtc) struct Opener {
    profile: Profile,
    cipher: Cipher,
}

impl Opener {
    /// Derives the session keys from a master key of 16 bytes and a salt of [`Profile::salt_len`].
    pub(super) fn new(
        profile: Profile,
        master_key: &[u8],
        master_salt: &[u8],
        crypto: &dyn RTCCrypto,
    ) -> Result<Self, CryptoError> {
        Ok(Self { profile, cipher: Cipher::new(profile, master_key, master_salt, crypto)? })
    }

    /// Authenticates `packet` and decrypts what follows its header of `header` bytes, extensions included.
    /// `index` is the sequence number with its roll-over counter: 48 bits. Gives the end of the payload; `None`
    /// if the packet is not authentic: its payload is garbage then.
    pub(in crate::webrtc) fn open(&mut self, packet: &mut [u8], header: usize, index: u64) -> Option<usize> {
        let end = packet.len().checked_sub(self.profile.tag_len())?;
        if header < HEADER || end < header {
            return None;
        }
        let (body, tag) = packet.split_at_mut(end);
        let index = &index.to_be_bytes()[2..];
        match &mut self.cipher {
            Cipher::Gcm { aead, salt } => {
                let (header, payload) = body.split_at_mut(header);
                let nonce = gcm_nonce(salt, &header[8..12], index);
                aead.open_in_place(&nonce, header, payload, tag).ok()?;
            }
            Cipher::CounterSha1 { stream, mac, salt } => {
                // RFC 3711 §4.2: over the packet and the ROC; the first 80 bits count.
                let mut full = [0; 20];
                mac.sign(&[body, &index[..4]], &mut full).ok()?;
                if !bool::from(full[..tag.len()].ct_eq(tag)) {
                    return None;
                }
                let (header, payload) = body.split_at_mut(header);
                stream.apply_keystream(&counter(salt, &header[8..12], index), payload).ok()?;
            }
        }
        Some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc::crypto::default_provider;
    use rtc::srtp::context::Context;
    use rtc::srtp::protection_profile::ProtectionProfile;

    const BOTH: [(Profile, ProtectionProfile); 2] = [
        (Profile::AeadAes128Gcm, ProtectionProfile::AeadAes128Gcm),
        (Profile::Aes128CmHmacSha1_80, ProtectionProfile::Aes128CmHmacSha1_80),
    ];

    fn pair(ours: Profile, theirs: ProtectionProfile) -> (Context, Opener) {
        let provider = default_provider().expect("a provider");
        let key: Vec<u8> = (1..17).collect();
        let salt: Vec<u8> = (101..101 + ours.salt_len() as u8).collect();
        let reference = Context::new(&key, &salt, theirs, None, None, provider.crypto()).expect("keys");
        (reference, Opener::new(ours, &key, &salt, provider.crypto()).expect("keys"))
    }

    /// A packet with a contributing source and a header extension: 28 bytes of header.
    fn packet(sequence: u16) -> Vec<u8> {
        let mut packet = vec![0x91, 96];
        packet.extend(sequence.to_be_bytes());
        packet.extend([0, 0, 0, 9, 0xaa, 0xbb, 0xcc, 0xdd, 1, 2, 3, 4]);
        packet.extend([0xbe, 0xde, 0, 2, 0x31, 7, 7, 0, 0, 0, 0, 0]);
        packet.extend(b"payload");
        packet
    }

    #[test]
    fn what_the_reference_seals_is_opened_also_past_the_wrap_of_the_sequence() {
        for (ours, theirs) in BOTH {
            let (mut reference, mut opener) = pair(ours, theirs);
            for index in 0x7ff0..0x1_0010u64 {
                let plain = packet(index as u16);
                let mut sealed = reference.encrypt_rtp(&plain).expect("sealed");
                let end = opener.open(&mut sealed, 28, index).expect("authentic");
                assert_eq!(&sealed[..end], plain, "{ours:?} {index:#x}");
            }
        }
    }

    #[test]
    fn what_is_changed_or_has_another_index_is_refused() {
        for (ours, theirs) in BOTH {
            let (mut reference, mut opener) = pair(ours, theirs);
            let sealed = reference.encrypt_rtp(&packet(5)).expect("sealed");
            for position in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[position] ^= 1;
                assert_eq!(opener.open(&mut changed, 28, 5), None, "{ours:?} byte {position}");
            }
            assert_eq!(opener.open(&mut sealed.clone(), 28, 0x1_0005), None, "another roll-over");
            for length in 0..sealed.len() {
                assert_eq!(opener.open(&mut sealed.clone()[..length], 28, 5), None);
            }
            assert!(opener.open(&mut sealed.clone(), 28, 5).is_some());
        }
    }
}
