//! The AudioSpecificConfig of ISO/IEC 14496-3 §1.6.2.1: what FLV and MP4 carry ahead of AAC frames.
//!
//! Reads object type, sampling rate, channels and the length of frames; leaves the rest to decoders.

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
    /// Channels of the decoded sound, parametric stereo included where it is signalled.
    pub channels: u16,
    /// Samples of each channel in a frame, at `sample_rate`.
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
    /// A reserved channel configuration.
    #[error("AAC channel configuration {0} is not supported")]
    Channels(u8),
    /// A program config element without channels, or with more than eight.
    #[error("an AAC program of {0} channels is not supported, send mono to 7.1")]
    Program(u16),
    /// Not one of the AAC object types.
    #[error("audio object type {0} is not AAC")]
    ObjectType(u8),
}

const SBR: u8 = 5;
const PARAMETRIC_STEREO: u8 = 29;
const LOW_DELAY: u8 = 23;
const ENHANCED_LOW_DELAY: u8 = 39;
/// `syncExtensionType` before what a decoder of plain AAC LC must not see (§1.6.6.1).
const SBR_EXTENSION: u32 = 0x2b7;
const PARAMETRIC_STEREO_EXTENSION: u32 = 0x548;

impl AudioSpecificConfig {
    /// Parses the beginning of `data`; what follows is ignored.
    ///
    /// Spectral band replication is signalled in front (hierarchical), behind (backward compatible), or not at
    /// all (implicit): then rate and frames are those of the core, which are what it lasts as well.
    pub fn parse(data: &[u8]) -> Result<Self, AacError> {
        let mut reader = BitReader::new(data);
        let first_type = object_type(&mut reader)?;
        let core_rate = sample_rate(&mut reader)?;
        let configuration = reader.bits(4).ok_or(AacError::Truncated)? as u8;
        let (mut object_type, mut extension_rate) = (first_type, None);
        let mut parametric_stereo = first_type == PARAMETRIC_STEREO;
        if first_type == SBR || first_type == PARAMETRIC_STEREO {
            extension_rate = Some(sample_rate(&mut reader)?);
            object_type = self::object_type(&mut reader)?;
        }
        let mut channels = match configuration {
            0 => 0,
            1..=6 => u16::from(configuration),
            7 => 8,
            other => return Err(AacError::Channels(other)),
        };
        let core_samples = match object_type {
            1..=4 | 17 | LOW_DELAY => {
                let general = GeneralConfig::read(&mut reader, object_type, channels == 0);
                // Some encoders end after the channels, which is all that there is to know.
                let general = match general {
                    None if channels == 0 => return Err(AacError::Truncated),
                    general => general.unwrap_or_default(),
                };
                if channels == 0 {
                    channels = general.channels;
                    if !(1..=8).contains(&channels) {
                        return Err(AacError::Program(channels));
                    }
                }
                if extension_rate.is_none() && object_type <= 4 {
                    (extension_rate, parametric_stereo) = extension(&mut reader);
                }
                match (object_type, general.short_frames) {
                    (LOW_DELAY, true) => 480,
                    (LOW_DELAY, false) => 512,
                    (_, true) => 960,
                    (_, false) => 1024,
                }
            }
            ENHANCED_LOW_DELAY if channels > 0 => {
                if reader.flag() == Some(true) {
                    480
                } else {
                    512
                }
            }
            42 if channels > 0 => 1024,
            ENHANCED_LOW_DELAY | 42 => return Err(AacError::Channels(0)),
            other => return Err(AacError::ObjectType(other)),
        };
        if parametric_stereo && channels == 1 {
            channels = 2;
        }
        let sample_rate = extension_rate.unwrap_or(core_rate);
        // Twice as many as in the core, or as many; no other ratio exists.
        let frame_samples = if sample_rate > core_rate { core_samples * 2 } else { core_samples };
        Ok(Self { object_type, sample_rate, channels, frame_samples })
    }
}

/// §1.6.5: what may follow the configuration of the core: the rate with spectral band replication, and whether
/// there is parametric stereo.
fn extension(reader: &mut BitReader<'_>) -> (Option<u32>, bool) {
    let mut read = || {
        let found = reader.bits(11)? == SBR_EXTENSION && object_type(reader).ok()? == SBR && reader.flag()?;
        let rate = if found { sample_rate(reader).ok()? } else { return None };
        let stereo = reader.bits(11) == Some(PARAMETRIC_STEREO_EXTENSION) && reader.flag() == Some(true);
        Some((rate, stereo))
    };
    read().map_or((None, false), |(rate, stereo)| (Some(rate), stereo))
}

/// GASpecificConfig, §4.4.1.
#[derive(Clone, Copy, Debug, Default)]
struct GeneralConfig {
    /// 960 samples instead of 1024, or 480 instead of 512.
    short_frames: bool,
    /// Those of the program config element, if there is one.
    channels: u16,
}

impl GeneralConfig {
    fn read(reader: &mut BitReader<'_>, object_type: u8, has_program: bool) -> Option<Self> {
        let short_frames = reader.flag()?;
        if reader.flag()? {
            reader.bits(14)?; // coreCoderDelay
        }
        let extended = reader.flag()?;
        let channels = if has_program { program_channels(reader)? } else { 0 };
        if extended {
            if matches!(object_type, 17 | LOW_DELAY) {
                reader.bits(3)?; // error resilience
            }
            reader.flag()?; // extensionFlag3
        }
        Some(Self { short_frames, channels })
    }
}

/// program_config_element, §4.4.1.1: how many channels it describes.
fn program_channels(reader: &mut BitReader<'_>) -> Option<u16> {
    reader.bits(4 + 2 + 4)?; // instance, profile, rate
    let (front, side, back) = (reader.bits(4)?, reader.bits(4)?, reader.bits(4)?);
    let (effects, data, coupling) = (reader.bits(2)?, reader.bits(3)?, reader.bits(4)?);
    for bits in [4, 4, 3] {
        if reader.flag()? {
            reader.bits(bits)?; // mixdowns
        }
    }
    let mut channels = effects as u16;
    for _ in 0..front + side + back {
        channels += if reader.flag()? { 2 } else { 1 };
        reader.bits(4)?;
    }
    for bits in
        std::iter::repeat_n(4, (effects + data) as usize).chain(std::iter::repeat_n(5, coupling as usize))
    {
        reader.bits(bits)?;
    }
    reader.align();
    for _ in 0..reader.bits(8)? {
        reader.bits(8)?; // comment
    }
    Some(channels)
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

    fn frame(data: &[u8]) -> Option<u32> {
        AudioSpecificConfig::parse(data).ok().map(|config| config.frame_samples)
    }

    #[test]
    fn configurations_of_common_encoders() {
        assert_eq!(parse(&[0x11, 0x90]), Ok((2, 48_000, 2)));
        assert_eq!(parse(&[0x12, 0x10, 0x56, 0xe5, 0x00]), Ok((2, 44_100, 2)));
        assert_eq!(parse(&[0x12, 0x08]), Ok((2, 44_100, 1)));
        assert_eq!(parse(&[0x13, 0x90]), Ok((2, 22_050, 2)));
        assert_eq!(parse(&[0x11, 0xb0]), Ok((2, 48_000, 6)), "5.1");
        assert_eq!(parse(&[0x11, 0xb8]), Ok((2, 48_000, 8)), "7.1");
        // Explicit frequency: 15, then 24 bits.
        assert_eq!(parse(&[0x17, 0x80, 0x5d, 0xc0, 0x10]), Ok((2, 48_000, 2)));
        assert_eq!((frame(&[0x11, 0x90]), frame(&[0x11, 0x94])), (Some(1024), Some(960)));
    }

    #[test]
    fn band_replication_and_parametric_stereo_however_they_are_signalled() {
        // In front: 22 050 Hz core, 44 100 Hz heard; then of one channel, heard as two.
        assert_eq!(parse(&[0x2b, 0x92, 0x08, 0x00]), Ok((2, 44_100, 2)));
        assert_eq!(parse(&[0xeb, 0x8a, 0x08, 0x00]), Ok((2, 44_100, 2)));
        // Behind, where a decoder of plain AAC stops reading.
        assert_eq!(parse(&[0x13, 0x90, 0x56, 0xe5, 0xa0]), Ok((2, 44_100, 2)));
        assert_eq!(parse(&[0x13, 0x88, 0x56, 0xe5, 0xa5, 0x48, 0x80]), Ok((2, 44_100, 2)));
        assert_eq!(parse(&[0x13, 0x08, 0x56, 0xe5, 0x9d, 0x48, 0x80]), Ok((2, 48_000, 2)));
        assert_eq!(parse(&[0x13, 0x88, 0x56, 0xe5, 0xa5, 0x48, 0x00]), Ok((2, 44_100, 1)), "none after all");
        // Not at all: a decoder finds out, a container can't.
        assert_eq!(parse(&[0x13, 0x88]), Ok((2, 22_050, 1)));
        for doubled in [&[0x2b, 0x92, 0x08, 0x00][..], &[0x13, 0x90, 0x56, 0xe5, 0xa0]] {
            assert_eq!(frame(doubled), Some(2048));
        }
        assert_eq!(frame(&[0x13, 0x88]), Some(1024));
        // Band replication without a higher rate: 48 kHz in, 48 kHz out.
        assert_eq!(
            (parse(&[0x29, 0x91, 0x88]), frame(&[0x29, 0x91, 0x88])),
            (Ok((2, 48_000, 2)), Some(1024))
        );
    }

    /// LC at 48 kHz with a program config element: `elements` in front, at the side and behind, and LFEs.
    fn program(front: &[bool], side: &[bool], back: &[bool], effects: u8, comment: &[u8]) -> Vec<u8> {
        let mut bits = String::from("00010001100000000000010011");
        for (count, width) in [(front.len(), 4), (side.len(), 4), (back.len(), 4), (effects.into(), 2)] {
            bits += &format!("{count:0width$b}");
        }
        bits += "0000000000"; // no data, no coupling, no mixdowns
        for pair in [front, side, back].concat() {
            bits += if pair { "10000" } else { "00000" };
        }
        bits += &"0000".repeat(effects.into());
        bits += &"0".repeat(bits.len().next_multiple_of(8) - bits.len());
        for byte in std::iter::once(&(comment.len() as u8)).chain(comment) {
            bits += &format!("{byte:08b}");
        }
        let byte = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).expect("ASCII"), 2);
        bits.as_bytes().chunks(8).map(|digits| byte(digits).expect("binary")).collect()
    }

    #[test]
    fn a_program_config_element_states_channels() {
        let surround = program(&[false, true], &[], &[true], 1, b"Lavc");
        assert_eq!(parse(&surround), Ok((2, 48_000, 6)));
        assert_eq!(parse(&program(&[true], &[], &[], 0, b"")), Ok((2, 48_000, 2)));
        assert_eq!(parse(&program(&[true; 5], &[], &[], 0, b"")), Err(AacError::Program(10)));
        assert_eq!(parse(&program(&[], &[], &[], 0, b"")), Err(AacError::Program(0)));
        for end in 0..surround.len() {
            assert_eq!(parse(&surround[..end]), Err(AacError::Truncated), "{end}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(parse(&[]), Err(AacError::Truncated));
        assert_eq!(parse(&[0x11]), Err(AacError::Truncated));
        assert_eq!(parse(&[0x16, 0x90]), Err(AacError::SampleRate));
        assert_eq!(parse(&[0x11, 0x80]), Err(AacError::Truncated), "a program must follow");
        assert_eq!(parse(&[0x11, 0xc0]), Err(AacError::Channels(8)));
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
