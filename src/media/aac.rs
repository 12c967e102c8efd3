//! The AudioSpecificConfig of ISO/IEC 14496-3 §1.6.2.1: what FLV and MP4 carry ahead of AAC frames.
//!
//! Reads object type, sampling rate and channels; leaves the rest to decoders.

use super::bits::BitReader;

/// ISO/IEC 14496-3 table 1.18.
const SAMPLE_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// What an AudioSpecificConfig says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioSpecificConfig {
    /// The audio object type of the core: 2 is AAC LC.
    pub object_type: u8,
    /// Samples a second of the decoded sound, spectral band replication included where it is signalled.
    pub sample_rate: u32,
    /// Channels of the decoded sound.
    pub channels: u16,
}

/// Why an AudioSpecificConfig can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AacError {
    /// It ends before its fields do.
    #[error("the AudioSpecificConfig ends too early")]
    Truncated,
    /// A reserved frequency index, or a rate outside 1 to 192 000 Hz.
    #[error("the AudioSpecificConfig has an impossible sampling rate")]
    SampleRate,
    /// A channel layout that only a program config element describes, or a reserved one.
    #[error("AAC channel configuration {0} is not supported")]
    Channels(u8),
    /// Not one of the AAC object types.
    #[error("audio object type {0} is not AAC")]
    ObjectType(u8),
}

impl AudioSpecificConfig {
    /// Parses the beginning of `data`; what follows is ignored.
    pub fn parse(data: &[u8]) -> Result<Self, AacError> {
        let mut reader = BitReader::new(data);
        let mut object_type = object_type(&mut reader)?;
        let mut sample_rate = sample_rate(&mut reader)?;
        let configuration = reader.bits(4).ok_or(AacError::Truncated)? as u8;
        let mut channels = match configuration {
            1..=6 => u16::from(configuration),
            7 => 8,
            other => return Err(AacError::Channels(other)),
        };
        // Hierarchical signalling of spectral band replication (5) and parametric stereo (29).
        if object_type == 5 || object_type == 29 {
            if object_type == 29 {
                channels = 2;
            }
            sample_rate = self::sample_rate(&mut reader)?;
            object_type = self::object_type(&mut reader)?;
        }
        match object_type {
            1..=4 | 17 | 23 | 39 | 42 => Ok(Self { object_type, sample_rate, channels }),
            other => Err(AacError::ObjectType(other)),
        }
    }
}

fn object_type(reader: &mut BitReader<'_>) -> Result<u8, AacError> {
    match reader.bits(5).ok_or(AacError::Truncated)? {
        31 => Ok(32 + reader.bits(6).ok_or(AacError::Truncated)? as u8),
        plain => Ok(plain as u8),
    }
}

fn sample_rate(reader: &mut BitReader<'_>) -> Result<u32, AacError> {
    let rate = match reader.bits(4).ok_or(AacError::Truncated)? {
        15 => reader.bits(24).ok_or(AacError::Truncated)?,
        index => *SAMPLE_RATES.get(index as usize).ok_or(AacError::SampleRate)?,
    };
    if rate == 0 || rate > 192_000 { Err(AacError::SampleRate) } else { Ok(rate) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(data: &[u8]) -> Result<(u8, u32, u16), AacError> {
        AudioSpecificConfig::parse(data)
            .map(|config| (config.object_type, config.sample_rate, config.channels))
    }

    #[test]
    fn configurations_of_common_encoders() {
        assert_eq!(parse(&[0x11, 0x90]), Ok((2, 48_000, 2)));
        assert_eq!(parse(&[0x12, 0x10, 0x56, 0xe5, 0x00]), Ok((2, 44_100, 2)));
        assert_eq!(parse(&[0x12, 0x08]), Ok((2, 44_100, 1)));
        // HE-AAC: 22 050 Hz core, 44 100 Hz heard.
        assert_eq!(parse(&[0x2b, 0x92, 0x08, 0x00]), Ok((2, 44_100, 2)));
        // Explicit frequency: 15, then 24 bits.
        assert_eq!(parse(&[0x17, 0x80, 0x5d, 0xc0, 0x10]), Ok((2, 48_000, 2)));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(parse(&[]), Err(AacError::Truncated));
        assert_eq!(parse(&[0x11]), Err(AacError::Truncated));
        assert_eq!(parse(&[0x16, 0x90]), Err(AacError::SampleRate));
        assert_eq!(parse(&[0x11, 0x80]), Err(AacError::Channels(0)));
        assert_eq!(parse(&[0x01, 0x90]), Err(AacError::ObjectType(0)));
    }

    #[test]
    fn no_input_panics() {
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                let _ = parse(&[a, b]);
                let _ = parse(&[a, b, !a, b, a]);
            }
        }
    }
}
