//! The identification header of Opus (RFC 7845 §5.1).

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpusHead {
    /// Number of channels, 1 or 2: more need a mapping that no output here has.
    pub channels: u16,
    /// Samples at 48 kHz to be thrown away at the beginning.
    pub pre_skip: u16,
}

/// Why a header can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpusError {
    /// It ends too early, or is something else.
    #[error("this is no Opus identification header")]
    Malformed,
    /// More than two channels, or none.
    #[error("Opus with {0} channels is not supported, send mono or stereo")]
    Channels(u8),
}

impl OpusHead {
    /// Reads a header.
    pub fn parse(header: &[u8]) -> Result<Self, OpusError> {
        let fields = header.strip_prefix(b"OpusHead").ok_or(OpusError::Malformed)?;
        let &[version, channels, low, high, _, _, _, _, _, _, family, ..] = fields else {
            return Err(OpusError::Malformed);
        };
        // §5.1: the upper half is the major version.
        if version & 0xf0 != 0 {
            return Err(OpusError::Malformed);
        }
        // §5.1.1.2: family 1 has the same two layouts, and adds larger ones.
        if !(1..=2).contains(&channels) || family > 1 {
            return Err(OpusError::Channels(channels));
        }
        Ok(Self { channels: channels.into(), pre_skip: u16::from_le_bytes([low, high]) })
    }
}

/// Samples at 48 kHz that a packet holds (RFC 6716 §3.1 and §3.2); `None` if it is cut short.
pub fn packet_samples(packet: &[u8]) -> Option<u32> {
    let first = *packet.first()?;
    let configuration = first >> 3;
    let frame = match configuration {
        // SILK: 10, 20, 40, 60 ms
        0..12 => [480, 960, 1920, 2880][usize::from(configuration & 3)],
        // hybrid: 10, 20 ms
        12..16 => [480, 960][usize::from(configuration & 1)],
        // CELT: 2.5, 5, 10, 20 ms
        _ => [120, 240, 480, 960][usize::from(configuration & 3)],
    };
    let frames = match first & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1)? & 0x3f),
    };
    Some(frame * frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEREO: &[u8] = b"OpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00";

    #[test]
    fn a_header_tells_channels_and_delay() {
        assert_eq!(OpusHead::parse(STEREO), Ok(OpusHead { channels: 2, pre_skip: 312 }));
        for end in 0..STEREO.len() {
            assert_eq!(OpusHead::parse(&STEREO[..end]), Err(OpusError::Malformed), "{end}");
        }
    }

    #[test]
    fn a_packet_tells_how_long_it_lasts() {
        let cases: [(&[u8], Option<u32>); 7] = [
            (&[0xf8, 0xff, 0xfe], Some(960)), // CELT, 20 ms
            (&[0x18], Some(2880)),            // SILK, 60 ms
            (&[0x68], Some(960)),             // hybrid, 20 ms
            (&[0x81], Some(240)),             // two of 2.5 ms
            (&[0x93, 3], Some(1440)),         // three of 10 ms
            (&[0x93], None),
            (&[], None),
        ];
        for (packet, samples) in cases {
            assert_eq!(packet_samples(packet), samples, "{packet:?}");
        }
    }

    #[test]
    fn surround_is_refused_by_its_number() {
        let mut surround = STEREO.to_vec();
        surround[9] = 6;
        surround[18] = 1;
        assert_eq!(OpusHead::parse(&surround), Err(OpusError::Channels(6)));
        surround[8] = 0x11;
        assert_eq!(OpusHead::parse(&surround), Err(OpusError::Malformed));
    }
}
