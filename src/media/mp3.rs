//! MP3: the header that begins each frame (ISO/IEC 11172-3 §2.4.1.3, 13818-3 for the lower rates).

/// Layer III, by MPEG version (2.5, reserved, 2, 1) and index.
const SAMPLE_RATES: [[u32; 3]; 4] =
    [[11_025, 12_000, 8_000], [0; 3], [22_050, 24_000, 16_000], [44_100, 48_000, 32_000]];
const MPEG_1: usize = 3;

/// What a frame header says of the sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Samples a second.
    pub sample_rate: u32,
    /// 1 or 2.
    pub channels: u16,
    /// Samples of each channel in the frame.
    pub samples: u32,
}

impl FrameHeader {
    /// Reads the header at the beginning of `frame`; `None` if there is none of layer III.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let &[first, second, third, fourth, ..] = frame else { return None };
        let synchronous = first == 0xff && second & 0xe0 == 0xe0;
        let (version, layer) = (usize::from(second >> 3 & 3), second >> 1 & 3);
        const LAYER_3: u8 = 1;
        let bit_rate = third >> 4;
        if !synchronous || layer != LAYER_3 || bit_rate == 15 {
            return None;
        }
        let sample_rate = *SAMPLE_RATES[version].get(usize::from(third >> 2 & 3))?;
        const SINGLE_CHANNEL: u8 = 3;
        let channels = if fourth >> 6 == SINGLE_CHANNEL { 1 } else { 2 };
        let samples = if version == MPEG_1 { 1152 } else { 576 };
        (sample_rate > 0).then_some(Self { sample_rate, channels, samples })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(header: [u8; 4]) -> Option<(u32, u16, u32)> {
        FrameHeader::parse(&header).map(|header| (header.sample_rate, header.channels, header.samples))
    }

    #[test]
    fn headers_of_the_three_versions() {
        assert_eq!(parse([0xff, 0xfb, 0x90, 0x64]), Some((44_100, 2, 1152)));
        assert_eq!(parse([0xff, 0xfb, 0x94, 0xc4]), Some((48_000, 1, 1152)));
        assert_eq!(parse([0xff, 0xf3, 0x80, 0x00]), Some((22_050, 2, 576)));
        assert_eq!(parse([0xff, 0xe3, 0x48, 0xc0]), Some((8_000, 1, 576)));
    }

    #[test]
    fn what_is_no_header_of_layer_3_is_none() {
        assert_eq!(parse([0xff, 0xfd, 0x90, 0x64]), None, "layer II");
        assert_eq!(parse([0xff, 0xfb, 0x9c, 0x64]), None, "a reserved rate");
        assert_eq!(parse([0xff, 0xeb, 0x90, 0x64]), None, "a reserved version");
        assert_eq!(parse([0xff, 0xfb, 0xf0, 0x64]), None, "a reserved bit rate");
        assert_eq!(parse(*b"ID3\x03"), None);
        assert_eq!(FrameHeader::parse(&[0xff, 0xfb, 0x90]), None);
    }
}
