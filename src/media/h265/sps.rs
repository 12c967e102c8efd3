//! Sequence parameter sets of H.265: what a gateway must know of a picture without decoding it.

use super::{NAL_SPS, nal_type, reference_sets};
use crate::media::bits::{BitReader, without_emulation_prevention};

/// A sequence parameter set (ITU-T H.265 §7.3.2.2), as far as a gateway needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sps {
    /// Width in pixels after cropping.
    pub width: u32,
    /// Height in pixels after cropping.
    pub height: u32,
    /// Pictures may be decoded in another order than they are shown.
    pub reordered: bool,
    /// `transfer_characteristics`, if the video signal is described.
    pub transfer: Option<u8>,
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
        let order_count_bits = reader.unsigned_golomb()?.checked_add(4)?;
        let each = reader.flag()?;
        let mut reordered = false;
        for _ in 0..if each { sub_layers + 1 } else { 1 } {
            reader.unsigned_golomb()?; // sps_max_dec_pic_buffering_minus1
            reordered = reader.unsigned_golomb()? > 0; // that of the highest sub-layer counts
            reader.unsigned_golomb()?; // sps_max_latency_increase_plus1
        }
        let possible = (1..=16_384).contains(&width) && (1..=16_384).contains(&height) && chroma_format <= 3;
        // What is cut short from here on costs only what it would have told.
        let transfer = read_transfer(&mut reader, order_count_bits).flatten();
        possible.then_some(Self { width, height, reordered, transfer })
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

/// The rest up to `transfer_characteristics` in the VUI (§E.2.1). The outer `None`: it ends too early, or a field is
/// impossible.
fn read_transfer(reader: &mut BitReader<'_>, order_count_bits: u32) -> Option<Option<u8>> {
    for _ in 0..6 {
        reader.unsigned_golomb()?; // sizes of coding and transform blocks, depths of transform hierarchies
    }
    if reader.flag()? && reader.flag()? {
        skip_scaling_lists(reader)?;
    }
    reader.bits(2)?; // amp_enabled_flag, sample_adaptive_offset_enabled_flag
    if reader.flag()? {
        reader.bits(8)?; // bit depths of PCM samples
        reader.unsigned_golomb()?;
        reader.unsigned_golomb()?;
        reader.flag()?; // pcm_loop_filter_disabled_flag
    }
    reference_sets::skip(reader)?;
    if reader.flag()? {
        let count = reader.unsigned_golomb()?;
        if count > 32 || order_count_bits > 16 {
            return None;
        }
        for _ in 0..count {
            reader.bits(order_count_bits + 1)?; // lt_ref_pic_poc_lsb_sps, used_by_curr_pic_lt_sps_flag
        }
    }
    reader.bits(2)?; // sps_temporal_mvp_enabled_flag, strong_intra_smoothing_enabled_flag
    if !reader.flag()? {
        return Some(None);
    }
    if reader.flag()? && reader.bits(8)? == 255 {
        reader.bits(32)?; // sar_width, sar_height
    }
    if reader.flag()? {
        reader.flag()?; // overscan_appropriate_flag
    }
    if !reader.flag()? {
        return Some(None);
    }
    reader.bits(4)?; // video_format, video_full_range_flag
    if !reader.flag()? {
        return Some(None);
    }
    reader.bits(8)?; // colour_primaries
    Some(Some(reader.bits(8)? as u8))
}

/// §7.3.4.
fn skip_scaling_lists(reader: &mut BitReader<'_>) -> Option<()> {
    for size in 0..4u32 {
        for _ in 0..if size == 3 { 2 } else { 6 } {
            if !reader.flag()? {
                reader.unsigned_golomb()?; // scaling_list_pred_matrix_id_delta
                continue;
            }
            if size > 1 {
                reader.signed_golomb()?; // scaling_list_dc_coef_minus8
            }
            for _ in 0..64.min(1 << (4 + 2 * size)) {
                reader.signed_golomb()?;
            }
        }
    }
    Some(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{NAL_VPS, is_random_access};
    use super::*;

    // x265, Main, 642x362, B-frames.
    const SPS: &str = "420101016000000300900000030000\
                       03003fa005120171c9265959a4932bc05a02000003000200000300 3c10";

    // x265, Main 10: PQ; with scaling lists and HLG.
    const PQ: &str =
        "42010102200000030090000003000003003ca00a080b9f6d96566924caf016a122012080000003008000000c84";
    const HLG: &str =
        "42010102200000030090000003000003003ca00a080b9f6d96566924e5780b5091209040000003004000000642";

    pub(in super::super) fn unit() -> Vec<u8> {
        bytes(SPS)
    }

    fn bytes(hexadecimal: &str) -> Vec<u8> {
        let digits: Vec<u8> = hexadecimal.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16);
        digits.chunks(2).map(|pair| byte(pair).expect("hexadecimal")).collect()
    }

    #[test]
    fn a_parameter_set_tells_size_and_reordering() {
        let sps = Sps { width: 642, height: 362, reordered: true, transfer: None };
        assert_eq!(Sps::parse(&unit()), Some(sps));
        assert_eq!((nal_type(0x42), nal_type(0x40), nal_type(0x26)), (NAL_SPS, NAL_VPS, 19));
        assert!(
            is_random_access(19) && is_random_access(21) && !is_random_access(1) && !is_random_access(32)
        );
    }

    #[test]
    fn a_described_signal_tells_its_transfer_characteristics() {
        for (unit, transfer) in [(PQ, 16), (HLG, 18)] {
            let sps = Sps::parse(&bytes(unit)).expect("valid");
            assert_eq!((sps.width, sps.height, sps.transfer), (320, 180, Some(transfer)));
        }
        let cut = Sps::parse(&bytes(PQ)[..30]).expect("the size is there");
        assert_eq!((cut.width, cut.transfer), (320, None));
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
