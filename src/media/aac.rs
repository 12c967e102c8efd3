//! The AudioSpecificConfig of ISO/IEC 14496-3 §1.6.2.1: what FLV and MP4 carry ahead of AAC frames.
//!
//! Reads object type, sampling rate, channels and the length of frames; leaves the rest to decoders.

use super::bits::BitReader;

/// ISO/IEC 14496-3 table 1.18.
const SAMPLE_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
/// Channels that a program config element may describe here.
const MAX_CHANNELS: u16 = 8;

/// What an AudioSpecificConfig says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioSpecificConfig {
    /// The audio object type of the core: 2 is AAC LC.
    pub object_type: u8,
    /// Samples a second of the decoded sound, spectral band replication included where it is signalled.
    pub sample_rate: u32,
    /// Channels of the decoded sound.
    pub channels: u16,
    /// Samples a frame at [`Self::sample_rate`]: 1024 or 960, and twice that where spectral band replication is
    /// signalled.
    pub frame_samples: u32,
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
    /// A reserved channel configuration, or a program config element without channels or with more than 8.
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
        let core_rate = sample_rate(&mut reader)?;
        let configuration = reader.bits(4).ok_or(AacError::Truncated)? as u8;
        let (mut sample_rate, mut parametric_stereo) = (core_rate, false);
        // Hierarchical signalling of spectral band replication (5) and parametric stereo (29).
        if object_type == 5 || object_type == 29 {
            parametric_stereo = object_type == 29;
            sample_rate = self::sample_rate(&mut reader)?;
            object_type = self::object_type(&mut reader)?;
        }
        if !matches!(object_type, 1..=4 | 17 | 23 | 39 | 42) {
            return Err(AacError::ObjectType(object_type));
        }
        // GASpecificConfig, §4.4.1. Configurations that end here are met: they have frames of 1024.
        let short_frames = reader.flag().unwrap_or(false);
        let channels = match configuration {
            0 => program_channels(&mut reader).ok_or(AacError::Truncated)?,
            1..=6 => u16::from(configuration),
            7 => 8,
            other => return Err(AacError::Channels(other)),
        };
        if !(1..=MAX_CHANNELS).contains(&channels) {
            return Err(AacError::Channels(configuration));
        }
        let channels = if parametric_stereo { 2 } else { channels };
        let core_samples = if short_frames { 960 } else { 1024 };
        // Spectral band replication may double the rate, or leave it (§4.6.18).
        let frame_samples = if sample_rate == 2 * core_rate { 2 * core_samples } else { core_samples };
        Ok(Self { object_type, sample_rate, channels, frame_samples })
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

/// The channels of the program config element (§4.4.1.1) that a configuration of 0 brings: layouts like 5.1
/// with channels at the sides have no number.
fn program_channels(reader: &mut BitReader<'_>) -> Option<u16> {
    if reader.flag()? {
        reader.bits(14)?; // coreCoderDelay
    }
    reader.flag()?; // extensionFlag
    reader.bits(10)?; // element_instance_tag, object_type, sampling_frequency_index
    let elements = reader.bits(4)? + reader.bits(4)? + reader.bits(4)?; // front, side, back
    let low_frequency = reader.bits(2)?;
    reader.bits(7)?; // associated data and coupling channels
    for mixdown in [4, 4, 3] {
        if reader.flag()? {
            reader.bits(mixdown)?;
        }
    }
    let mut channels = low_frequency as u16;
    for _ in 0..elements {
        channels += 1 + reader.bits(1)? as u16; // a pair?
        reader.bits(4)?;
    }
    Some(channels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(data: &[u8]) -> Result<(u8, u32, u16, u32), AacError> {
        AudioSpecificConfig::parse(data)
            .map(|config| (config.object_type, config.sample_rate, config.channels, config.frame_samples))
    }

    #[test]
    fn configurations_of_common_encoders() {
        assert_eq!(parse(&[0x11, 0x90]), Ok((2, 48_000, 2, 1024)));
        assert_eq!(parse(&[0x12, 0x10, 0x56, 0xe5, 0x00]), Ok((2, 44_100, 2, 1024)));
        assert_eq!(parse(&[0x12, 0x08]), Ok((2, 44_100, 1, 1024)));
        // HE-AAC: 22 050 Hz core, 44 100 Hz heard.
        assert_eq!(parse(&[0x2b, 0x92, 0x08, 0x00]), Ok((2, 44_100, 2, 2048)));
        // With parametric stereo: a mono core of 24 kHz.
        assert_eq!(parse(&[0xeb, 0x09, 0x88, 0x00]), Ok((2, 48_000, 2, 2048)));
        // Explicit frequency: 15, then 24 bits.
        assert_eq!(parse(&[0x17, 0x80, 0x5d, 0xc0, 0x10]), Ok((2, 48_000, 2, 1024)));
        // Frames of 960 samples.
        assert_eq!(parse(&[0x11, 0x94]), Ok((2, 48_000, 2, 960)));
    }

    /// ffmpeg, 5.1 with the surround channels at the sides.
    #[test]
    fn a_program_config_element_tells_the_channels() {
        let config = [
            0x11, 0x80, 0x04, 0xc8, 0x44, 0x00, 0x20, 0x00, 0xc4, 0x0d, 0x4c, 0x61, 0x76, 0x63, 0x35, 0x39,
            0x2e, 0x33, 0x37, 0x2e, 0x31, 0x30, 0x30, 0x56, 0xe5, 0x00,
        ];
        assert_eq!(parse(&config), Ok((2, 48_000, 6, 1024)));
        for end in 2..8 {
            assert_eq!(parse(&config[..end]), Err(AacError::Truncated), "{end}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(parse(&[]), Err(AacError::Truncated));
        assert_eq!(parse(&[0x11]), Err(AacError::Truncated));
        assert_eq!(parse(&[0x16, 0x90]), Err(AacError::SampleRate));
        assert_eq!(parse(&[0x11, 0xc0]), Err(AacError::Channels(8)));
        assert_eq!(parse(&[0x11, 0x80, 0, 0, 0, 0, 0, 0]), Err(AacError::Channels(0)));
        assert_eq!(parse(&[0x01, 0x90]), Err(AacError::ObjectType(0)));
    }

    #[test]
    fn no_input_panics() {
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                let _ = parse(&[a, b]);
                let _ = parse(&[a, b, !a, b, a]);
                let _ = parse(&[a, b, !a, b, a, !b, a, b]);
            }
        }
    }
}
