//! Making secrets, and their hashes.

use crate::media::Secret;
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use rand::TryRngCore;
use rand::rngs::OsRng;

/// Characters of a secret, 6 random bits each: 192 bits.
const LENGTH: usize = 32;

/// The system gives no random bytes.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the system gives no random bytes: {0}")]
pub struct NoRandomness(String);

/// SHA-256 of a secret.
pub(super) type Hash = [u8; SHA256_OUTPUT_LEN];

/// A new secret of letters, digits, `-` and `_` (RFC 4648 §5): safe in URLs and stream keys.
pub fn generate() -> Result<Secret, NoRandomness> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = [0_u8; LENGTH];
    OsRng.try_fill_bytes(&mut bytes).map_err(|why| NoRandomness(why.to_string()))?;
    Ok(Secret::new(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 63)])).collect::<String>()))
}

/// Its hash.
pub(super) fn hash(secret: &str) -> Hash {
    digest(&SHA256, secret.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Its last four characters; nothing of a short one.
pub(super) fn hint(secret: &Secret) -> String {
    let text = secret.reveal();
    match text.len() {
        LENGTH.. => text[text.len() - 4..].to_owned(),
        _ => String::new(),
    }
}
