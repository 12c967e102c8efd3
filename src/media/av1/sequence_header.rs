//! The AV1 sequence header, as far as containers need it.

use crate::media::bits::BitReader;
use bytes::Bytes;

/// What a sequence header says, AV1 specification §5.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceHeader {
    /// `seq_profile`: 0 main, 1 high, 2 professional.
    pub profile: u8,
    /// `seq_level_idx` of the first operating point.
    pub level: u8,
    /// `seq_tier` of the first operating point: 1 is the high tier.
    pub tier: u8,
    /// Bits a sample: 8, 10 or 12.
    pub bit_depth: u8,
    /// There is no colour.
    pub monochrome: bool,
    /// Chroma is halved across, and down.
    pub subsampling: (bool, bool),
    /// `chroma_sample_position`.
    pub chroma_position: u8,
    /// The largest frame, in pixels.
    pub resolution: (u32, u32),
    /// `transfer_characteristics`, if the colours are described.
    pub transfer: Option<u8>,
    /// All frames are key frames with short headers.
    pub(super) reduced_still_picture: bool,
}

impl SequenceHeader {
    /// Parses the payload of a sequence header OBU; `None` if it is cut short or impossible.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut bits = BitReader::new(payload);
        let reader = &mut bits;
        let profile = reader.bits(3)? as u8;
        if profile > 2 {
            return None;
        }
        reader.flag()?; // still_picture
        let reduced_still_picture = reader.flag()?;
        let (mut level, mut tier) = (0, 0);
        if reduced_still_picture {
            level = reader.bits(5)? as u8;
        } else {
            let mut decoder_model = None;
            if reader.flag()? {
                // timing_info: two numbers of 32 bits, and the ticks of a picture if they are equal
                reader.bits(32)?;
                reader.bits(32)?;
                if reader.flag()? {
                    reader.unsigned_golomb()?; // uvlc() codes as ue(v) does
                }
                if reader.flag()? {
                    let delay_bits = reader.bits(5)? + 1;
                    reader.bits(32)?; // num_units_in_decoding_tick
                    reader.bits(10)?; // two lengths less one
                    decoder_model = Some(delay_bits);
                }
            }
            let initial_delays = reader.flag()?;
            for point in 0..=reader.bits(5)? {
                reader.bits(12)?; // operating_point_idc
                let level_of_point = reader.bits(5)? as u8;
                let tier_of_point = if level_of_point > 7 { reader.bits(1)? as u8 } else { 0 };
                if point == 0 {
                    (level, tier) = (level_of_point, tier_of_point);
                }
                if let Some(delay_bits) = decoder_model
                    && reader.flag()?
                {
                    reader.bits(delay_bits)?;
                    reader.bits(delay_bits)?;
                    reader.flag()?; // low_delay_mode_flag
                }
                if initial_delays && reader.flag()? {
                    reader.bits(4)?;
                }
            }
        }
        let (width_bits, height_bits) = (reader.bits(4)? + 1, reader.bits(4)? + 1);
        let resolution = (reader.bits(width_bits)? + 1, reader.bits(height_bits)? + 1);
        skip_tools(reader, reduced_still_picture)?;
        let colour = Colour::read(reader, profile)?;
        Some(Self {
            profile,
            level,
            tier,
            bit_depth: colour.bit_depth,
            monochrome: colour.monochrome,
            subsampling: colour.subsampling,
            chroma_position: colour.chroma_position,
            resolution,
            transfer: colour.transfer,
            reduced_still_picture,
        })
    }

    /// The fixed part of AV1CodecConfigurationRecord, without configOBUs (AV1 in ISOBMFF §2.3.3).
    pub fn record(&self) -> Bytes {
        let bit = |flag: bool, shift: u8| u8::from(flag) << shift;
        Bytes::copy_from_slice(&[
            0x81, // marker and version
            self.profile << 5 | self.level,
            self.tier << 7
                | bit(self.bit_depth > 8, 6)
                | bit(self.bit_depth > 10, 5)
                | bit(self.monochrome, 4)
                | bit(self.subsampling.0, 3)
                | bit(self.subsampling.1, 2)
                | self.chroma_position,
            0,
        ])
    }
}

/// Between the frame size and the colour configuration.
fn skip_tools(reader: &mut BitReader<'_>, reduced_still_picture: bool) -> Option<()> {
    if !reduced_still_picture && reader.flag()? {
        reader.bits(7)?; // lengths of frame identifiers
    }
    reader.bits(3)?; // superblocks of 128, filter_intra, intra_edge_filter
    if !reduced_still_picture {
        reader.bits(4)?; // interintra, masked compound, warped motion, dual filter
        let order_hint = reader.flag()?;
        if order_hint {
            reader.bits(2)?; // jnt_comp, ref_frame_mvs
        }
        let chooses_screen_content = reader.flag()?;
        let forced_screen_content = chooses_screen_content || reader.flag()?;
        if forced_screen_content && !reader.flag()? {
            reader.flag()?; // seq_force_integer_mv
        }
        if order_hint {
            reader.bits(3)?;
        }
    }
    reader.bits(3).map(drop) // superres, cdef, restoration
}

/// `color_config`, AV1 specification §5.5.2.
struct Colour {
    bit_depth: u8,
    monochrome: bool,
    subsampling: (bool, bool),
    chroma_position: u8,
    transfer: Option<u8>,
}

impl Colour {
    fn read(reader: &mut BitReader<'_>, profile: u8) -> Option<Self> {
        const SRGB: (u32, u32, u32) = (1, 13, 0);
        let high = reader.flag()?;
        let bit_depth = match (high, profile) {
            (true, 2) => 10 + 2 * reader.bits(1)? as u8,
            (true, _) => 10,
            (false, _) => 8,
        };
        let monochrome = profile != 1 && reader.flag()?;
        let described = match reader.flag()? {
            true => Some((reader.bits(8)?, reader.bits(8)?, reader.bits(8)?)),
            false => None,
        };
        let transfer = described.map(|(_, transfer, _)| transfer as u8);
        let mut chroma_position = 0;
        let subsampling = if monochrome {
            reader.flag()?; // color_range
            (true, true)
        } else if described == Some(SRGB) {
            (false, false)
        } else {
            reader.flag()?; // color_range
            let subsampling = match (profile, bit_depth) {
                (0, _) => (true, true),
                (1, _) => (false, false),
                (_, 12) => {
                    let across = reader.flag()?;
                    (across, across && reader.flag()?)
                }
                _ => (true, false),
            };
            if subsampling == (true, true) {
                chroma_position = reader.bits(2)? as u8;
            }
            subsampling
        };
        Some(Self { bit_depth, monochrome, subsampling, chroma_position, transfer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// libaom, real time, 640x360.
    const AOM: [u8; 12] = [0, 0, 0, 0x0c, 0xc4, 0xff, 0x67, 0xe0, 0x6d, 0x7c, 0x80, 0x20];
    /// SVT-AV1, 1920x1080, level 4.0 in the high half of the levels.
    const SVT: [u8; 11] = [0, 0, 0, 0x42, 0xab, 0xbf, 0xc3, 0x73, 0xef, 0xe4, 0x01];

    #[test]
    fn headers_of_real_encoders_are_understood() {
        let aom = SequenceHeader::parse(&AOM).expect("valid");
        assert_eq!((aom.resolution, aom.profile, aom.bit_depth, aom.level), ((640, 360), 0, 8, 1));
        assert_eq!(
            (aom.monochrome, aom.subsampling, aom.reduced_still_picture),
            (false, (true, true), false)
        );
        assert_eq!(aom.record()[..], [0x81, 0x01, 0x0c | aom.chroma_position, 0]);
        let svt = SequenceHeader::parse(&SVT).expect("valid");
        assert_eq!((svt.resolution, svt.level, svt.tier), ((1920, 1080), 8, 0));
        assert_eq!((aom.transfer, svt.transfer), (None, None));
        // libaom, ten bits, HLG.
        let hlg = [0, 0, 0, 0x04, 0x3c, 0xfe, 0xcc, 0xda, 0xf9, 0x50, 0x91, 0x20, 0x90, 0x40];
        let hlg = SequenceHeader::parse(&hlg).expect("valid");
        assert_eq!((hlg.resolution, hlg.bit_depth, hlg.transfer), ((320, 180), 10, Some(18)));
    }

    #[test]
    fn what_is_cut_short_is_none_and_noise_never_panics() {
        for end in 0..8 {
            assert_eq!(SequenceHeader::parse(&AOM[..end]), None, "{end}");
        }
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..50_000 {
            let mut bytes = [0u8; 40];
            for byte in &mut bytes {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                *byte = (state >> 33) as u8;
            }
            if let Some(header) = SequenceHeader::parse(&bytes) {
                assert!(header.profile <= 2 && header.level < 32 && header.chroma_position < 4);
                assert_eq!(header.record().len(), 4);
            }
        }
    }
}
