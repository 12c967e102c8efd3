//! H.265 as far as a gateway looks into it: types of NAL units, the size in sequence parameter sets,
//! and the decoder configuration record.

mod config;

pub use config::{HevcConfig, HevcConfigError};

use super::bits::{BitReader, without_emulation_prevention};

/// `nal_unit_type` of a video parameter set (ITU-T H.265 table 7-1).
pub const NAL_VPS: u8 = 32;
/// `nal_unit_type` of a sequence parameter set.
pub const NAL_SPS: u8 = 33;
/// `nal_unit_type` of a picture parameter set.
pub const NAL_PPS: u8 = 34;
/// `nal_unit_type` of an access unit delimiter.
pub const NAL_AUD: u8 = 35;
/// `nal_unit_type` of supplemental information before a picture.
pub const NAL_PREFIX_SEI: u8 = 39;

/// The type of a NAL unit, from its first byte.
pub const fn nal_type(header: u8) -> u8 {
    header >> 1 & 0x3f
}

/// Whether NAL units of this type are slices of pictures at which decoding can start: IDR, BLA, CRA.
pub const fn is_random_access(nal_type: u8) -> bool {
    matches!(nal_type, 16..=21)
}

/// A sequence parameter set (ITU-T H.265 §7.3.2.2), as far as a gateway needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sps {
    /// Width in pixels after cropping.
    pub width: u32,
    /// Height in pixels after cropping.
    pub height: u32,
    /// Pictures may be decoded in another order than they are shown.
    pub reordered: bool,
}

impl Sps {
    /// Parses a NAL unit of type 33, header included, emulation prevention bytes still in it. `None` if it ends
    /// too early or a field is impossible.
    pub fn parse(unit: &[u8]) -> Option<Self> {
        if nal_type(*unit.first()?) != NAL_SPS {
            return None;
        }
        let payload = without_emulation_prevention(unit.get(2..unit.len().min(1024))?);
        let mut reader = BitReader::new(&payload);
        reader.bits(4)?; // sps_video_parameter_set_id
        let sub_layers = reader.bits(3)?;
        reader.flag()?; // sps_temporal_id_nesting_flag
        skip_profile_and_level(&mut reader, sub_layers)?;
        reader.unsigned_golomb()?; // sps_seq_parameter_set_id
        let chroma_format = reader.unsigned_golomb()?;
        let separate_planes = chroma_format == 3 && reader.flag()?;
        let (width, height) = (reader.unsigned_golomb()?, reader.unsigned_golomb()?);
        let (across, down) = reader.cropping(separate_planes, chroma_format)?;
        let width = u32::try_from(u64::from(width).checked_sub(across)?).ok()?;
        let height = u32::try_from(u64::from(height).checked_sub(down)?).ok()?;
        reader.unsigned_golomb()?; // bit_depth_luma_minus8
        reader.unsigned_golomb()?; // bit_depth_chroma_minus8
        reader.unsigned_golomb()?; // log2_max_pic_order_cnt_lsb_minus4
        let each = reader.flag()?;
        let mut reordered = false;
        for _ in 0..if each { sub_layers + 1 } else { 1 } {
            reader.unsigned_golomb()?; // sps_max_dec_pic_buffering_minus1
            reordered = reader.unsigned_golomb()? > 0; // that of the highest sub-layer counts
            reader.unsigned_golomb()?; // sps_max_latency_increase_plus1
        }
        let possible = (1..=16_384).contains(&width) && (1..=16_384).contains(&height) && chroma_format <= 3;
        possible.then_some(Self { width, height, reordered })
    }
}

/// §7.3.3: 88 bits of profile and 8 of level, and as many for each sub-layer that has its own.
fn skip_profile_and_level(reader: &mut BitReader<'_>, sub_layers: u32) -> Option<()> {
    skip_bytes(reader, 12)?;
    if sub_layers == 0 {
        return Some(());
    }
    let mut own = Vec::new();
    for _ in 0..sub_layers {
        own.push((reader.flag()?, reader.flag()?));
    }
    for _ in sub_layers..8 {
        reader.bits(2)?; // reserved
    }
    for (profile, level) in own {
        skip_bytes(reader, if profile { 11 } else { 0 } + u32::from(level))?;
    }
    Some(())
}

fn skip_bytes(reader: &mut BitReader<'_>, count: u32) -> Option<()> {
    (0..count).try_for_each(|_| reader.bits(8).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    // x265, Main, 642x362, B-frames.
    const SPS: &str = "420101016000000300900000030000\
                       03003fa005120171c9265959a4932bc05a02000003000200000300 3c10";

    pub(super) fn unit() -> Vec<u8> {
        let digits: Vec<u8> = SPS.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16);
        digits.chunks(2).map(|pair| byte(pair).expect("hexadecimal")).collect()
    }

    #[test]
    fn a_parameter_set_tells_size_and_reordering() {
        assert_eq!(Sps::parse(&unit()), Some(Sps { width: 642, height: 362, reordered: true }));
        assert_eq!((nal_type(0x42), nal_type(0x40), nal_type(0x26)), (NAL_SPS, NAL_VPS, 19));
        assert!(
            is_random_access(19) && is_random_access(21) && !is_random_access(1) && !is_random_access(32)
        );
    }

    #[test]
    fn cut_and_changed_sets_are_no_danger() {
        let unit = unit();
        for length in 0..unit.len() {
            assert!(length > 25 || Sps::parse(&unit[..length]).is_none(), "{length}");
        }
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..20_000 {
            let mut changed = unit.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let index = 1 + (state >> 33) as usize % (changed.len() - 1);
                changed[index] = (state >> 20) as u8;
            }
            let _ = Sps::parse(&changed);
        }
    }
}
