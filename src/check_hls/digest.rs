//! A fingerprint of bytes that can be put together: that of two pieces in a row follows from theirs.
//!
//! So parts can be compared with their segment after the bytes are gone. Against accidents, not attacks.

/// A Mersenne prime, so that products fit in 128 bits and the remainder is cheap.
const MODULUS: u128 = (1 << 61) - 1;
const BASE: u128 = 0x1234_5678_9abc_def1;

/// The fingerprint of some bytes, and how many they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Digest {
    pub length: u64,
    value: u64,
}

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        let value = bytes.iter().fold(0, |value, byte| (value * BASE + u128::from(*byte) + 1) % MODULUS);
        Self { length: bytes.len() as u64, value: value as u64 }
    }

    /// The fingerprint of these bytes and, after them, those of `next`.
    pub fn then(self, next: Self) -> Self {
        let shifted = u128::from(self.value) * power(next.length) % MODULUS;
        let value = (shifted + u128::from(next.value)) % MODULUS;
        Self { length: self.length + next.length, value: value as u64 }
    }
}

/// `BASE` to the power of `exponent`.
fn power(mut exponent: u64) -> u128 {
    let (mut result, mut square) = (1, BASE % MODULUS);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = result * square % MODULUS;
        }
        square = square * square % MODULUS;
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_add_up_to_the_whole() {
        let bytes: Vec<u8> = (0..1000u32).map(|index| (index * 7) as u8).collect();
        let whole = Digest::of(&bytes);
        for cut in [0, 1, 500, 1000] {
            let (first, second) = bytes.split_at(cut);
            assert_eq!(Digest::of(first).then(Digest::of(second)), whole);
        }
        let (first, second) = bytes.split_at(300);
        assert_ne!(Digest::of(second).then(Digest::of(first)), whole);
        assert_ne!(Digest::of(&bytes[1..]), whole);
    }
}
