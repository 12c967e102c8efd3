//! Opus over RTP (RFC 7587): a packet is a payload; how long it lasts is in its first bytes.

/// Samples at 48 kHz in a packet (RFC 6716 §3.1 and §3.2); `None` if it is empty or longer than 120 ms.
pub(in crate::pipeline) fn samples(packet: &[u8]) -> Option<i64> {
    let &first = packet.first()?;
    let config = first >> 3;
    let frame = match config {
        0..12 => [480, 960, 1920, 2880][usize::from(config & 3)],
        12..16 => [480, 960][usize::from(config & 1)],
        _ => [120, 240, 480, 960][usize::from(config & 3)],
    };
    let count = match first & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => i64::from(packet.get(1)? & 0x3f),
    };
    Some(frame * count).filter(|samples| (1..=5760).contains(samples))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_duration() {
        // SILK 60 ms; hybrid 20 ms; CELT 20 ms, once, twice, six times and too often.
        assert_eq!(samples(&[3 << 3]), Some(2880));
        assert_eq!(samples(&[13 << 3]), Some(960));
        assert_eq!(samples(&[31 << 3]), Some(960));
        assert_eq!(samples(&[31 << 3 | 1]), Some(1920));
        assert_eq!(samples(&[31 << 3 | 3, 6]), Some(5760));
        assert_eq!(samples(&[31 << 3 | 3, 7]), None);
        assert_eq!(samples(&[31 << 3 | 3]), None);
        assert_eq!(samples(&[]), None);
    }
}
