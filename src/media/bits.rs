//! Reading bits, most significant first, from bytes that may end too early.

/// A cursor over bits. Each read gives `None` past the end, so hostile input ends parsing, nothing else.
pub(super) struct BitReader<'a> {
    data: &'a [u8],
    position: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, position: 0 }
    }

    /// One bit.
    pub(super) fn flag(&mut self) -> Option<bool> {
        let byte = *self.data.get(self.position / 8)?;
        let bit = byte >> (7 - self.position % 8) & 1;
        self.position += 1;
        Some(bit == 1)
    }

    /// `count` bits, at most 32.
    pub(super) fn bits(&mut self, count: u32) -> Option<u32> {
        debug_assert!(count <= 32);
        let mut value = 0u32;
        for _ in 0..count {
            value = value << 1 | u32::from(self.flag()?);
        }
        Some(value)
    }

    /// Goes on to the next whole byte.
    pub(super) fn align(&mut self) {
        self.position = self.position.next_multiple_of(8);
    }

    /// ITU-T H.264 §9.1: ue(v). Values that need more than 32 bits don't exist.
    pub(super) fn unsigned_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let suffix = self.bits(zeros)?;
        Some((1u32 << zeros) - 1 + suffix)
    }

    /// ITU-T H.264 §9.1.1: se(v).
    pub(super) fn signed_golomb(&mut self) -> Option<i32> {
        let code = i64::from(self.unsigned_golomb()?);
        let magnitude = (code + 1) / 2;
        i32::try_from(if code % 2 == 1 { magnitude } else { -magnitude }).ok()
    }

    /// What a sequence parameter set crops, across and down, in luma samples of a frame or field: it counts in
    /// chroma samples (ITU-T H.264 §7.4.2.1.1, H.265 §7.4.3.2.1).
    pub(super) fn cropping(&mut self, separate_planes: bool, chroma_format: u32) -> Option<(u64, u64)> {
        if !self.flag()? {
            return Some((0, 0));
        }
        let (across, down) = match (separate_planes, chroma_format) {
            (false, 1) => (2, 2),
            (false, 2) => (2, 1),
            _ => (1, 1),
        };
        let mut edge = || self.unsigned_golomb().map(u64::from);
        let (left, right, top, bottom) = (edge()?, edge()?, edge()?, edge()?);
        Some(((left + right) * across, (top + bottom) * down))
    }
}

/// ITU-T H.264 §7.4.1, H.265 §7.4.2: drops the 3 of each 0 0 3.
pub(super) fn without_emulation_prevention(data: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(data.len());
    let mut zeros = 0;
    for &byte in data {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        payload.push(byte);
    }
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_golomb_codes_follow_the_table() {
        // 1 | 010 | 011 | 00100 | 00101 -> 0 1 2 3 4
        let mut reader = BitReader::new(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        let codes: Vec<_> = (0..5).map_while(|_| reader.unsigned_golomb()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4]);
        let mut reader = BitReader::new(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        let codes: Vec<_> = (0..5).map_while(|_| reader.signed_golomb()).collect();
        assert_eq!(codes, [0, 1, -1, 2, -2]);
    }

    #[test]
    fn the_end_and_endless_zeros_give_none() {
        assert_eq!(BitReader::new(&[]).flag(), None);
        assert_eq!(BitReader::new(&[0; 3]).unsigned_golomb(), None);
        assert_eq!(BitReader::new(&[0; 30]).unsigned_golomb(), None);
        assert_eq!(BitReader::new(&[0xff]).bits(9), None);
    }
}
