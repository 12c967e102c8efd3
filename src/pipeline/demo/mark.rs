//! The wall clock as a row of black and white blocks, for machines: see the room's documentation.

/// Blocks in the row, each one bit.
pub(super) const BLOCKS: usize = 64;
/// Width and height of a block in pixels.
pub(super) const SIZE: usize = 16;
/// Luma of black and white in the limited range.
const BLACK: u8 = 16;
const WHITE: u8 = 235;

/// Milliseconds since the Unix epoch (their low 48 bits) with the checksum behind.
pub(super) fn encode(millis: u64) -> u64 {
    let millis = millis & 0xffff_ffff_ffff;
    let words = [millis >> 32, millis >> 16, millis].map(|word| word as u16);
    let checksum = words.into_iter().fold(0u16, u16::wrapping_add);
    millis << 16 | u64::from(checksum)
}

/// Draws the row into the top left corner of a luma plane `stride` bytes wide.
pub(super) fn draw(luma: &mut [u8], stride: usize, millis: u64) {
    let code = encode(millis);
    let (first, rest) = luma.split_at_mut(stride);
    for (block, pixels) in first.chunks_exact_mut(SIZE).take(BLOCKS).enumerate() {
        let bit = code >> (BLOCKS - 1 - block) & 1;
        pixels.fill(if bit == 1 { WHITE } else { BLACK });
    }
    for row in rest.chunks_exact_mut(stride).take(SIZE - 1) {
        row[..BLOCKS * SIZE].copy_from_slice(&first[..BLOCKS * SIZE]);
    }
}

#[cfg(test)]
pub(in crate::pipeline) fn read(luma: &[u8], stride: usize) -> Option<u64> {
    let middle = &luma[SIZE / 2 * stride..];
    let bit = |block: usize| u64::from(middle[block * SIZE + SIZE / 2] > 125);
    let code = (0..BLOCKS).fold(0, |code, block| code << 1 | bit(block));
    let millis = code >> 16;
    (encode(millis) == code).then_some(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_can_be_read_and_damage_is_noticed() {
        let mut luma = vec![100; 1280 * 32];
        for millis in [0, 1, 0xffff_ffff_ffff, 1_795_000_000_123] {
            draw(&mut luma, 1280, millis);
            assert_eq!(read(&luma, 1280), Some(millis));
        }
        luma[8 * 1280 + 60 * SIZE + 8] ^= 0xff;
        assert_eq!(read(&luma, 1280), None);
        assert_eq!(luma[SIZE * 1280], 100, "only 16 rows are drawn");
    }
}
