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
    fn surround_is_refused_by_its_number() {
        let mut surround = STEREO.to_vec();
        surround[9] = 6;
        surround[18] = 1;
        assert_eq!(OpusHead::parse(&surround), Err(OpusError::Channels(6)));
        surround[8] = 0x11;
        assert_eq!(OpusHead::parse(&surround), Err(OpusError::Malformed));
    }
}
