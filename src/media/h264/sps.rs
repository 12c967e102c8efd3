//! Sequence parameter sets: what a gateway must know of a picture without decoding it.

use super::{H264Error, NAL_SPS, nal_type};
use crate::media::bits::{BitReader, without_emulation_prevention};

/// A sequence parameter set (ITU-T H.264 §7.3.2.1.1), as far as a gateway needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sps {
    /// `profile_idc`.
    pub profile: u8,
    /// The byte of `constraint_set` flags.
    pub constraints: u8,
    /// `level_idc`: ten times the level.
    pub level: u8,
    /// Width in pixels after cropping.
    pub width: u32,
    /// Height in pixels after cropping.
    pub height: u32,
    /// Pictures a second, if the timing information states it.
    pub frame_rate: Option<f64>,
    /// `max_num_reorder_frames`, or 0 where the profile or the picture order count type rules
    /// reordering out; `None` if the stream leaves it open.
    pub max_reorder_frames: Option<u32>,
    /// `chroma_format_idc`: 1 is 4:2:0.
    pub chroma_format: u8,
    /// Bits of a luma sample.
    pub bit_depth_luma: u8,
    /// Bits of a chroma sample.
    pub bit_depth_chroma: u8,
    /// `transfer_characteristics`, if the video signal is described.
    pub transfer: Option<u8>,
}

impl Sps {
    /// Parses a NAL unit of type 7, header byte included, emulation prevention bytes still in it.
    pub fn parse(unit: &[u8]) -> Result<Self, H264Error> {
        if unit.first().is_none_or(|header| nal_type(*header) != NAL_SPS) {
            return Err(H264Error::Impossible("NAL unit type"));
        }
        // A parameter set is some dozens of bytes; VUI with HRD at its largest stays below this.
        let payload = without_emulation_prevention(&unit[1..unit.len().min(4096)]);
        let parsed = read_sps(&mut BitReader::new(&payload));
        parsed.ok_or(H264Error::Truncated("sequence parameter set"))?
    }
}

/// `None`: the data ended. `Some(Err(_))`: a field has an impossible value.
fn read_sps(reader: &mut BitReader<'_>) -> Option<Result<Sps, H264Error>> {
    macro_rules! ensure {
        ($condition:expr, $what:literal) => {
            if !$condition {
                return Some(Err(H264Error::Impossible($what)));
            }
        };
    }
    let profile = reader.bits(8)? as u8;
    let constraints = reader.bits(8)? as u8;
    let level = reader.bits(8)? as u8;
    ensure!(reader.unsigned_golomb()? <= 31, "identifier");
    let (mut chroma_format, mut separate_planes) = (1, false);
    let (mut bit_depth_luma, mut bit_depth_chroma) = (8, 8);
    if has_chroma_format(profile) {
        chroma_format = reader.unsigned_golomb()?;
        ensure!(chroma_format <= 3, "chroma format");
        if chroma_format == 3 {
            separate_planes = reader.flag()?;
        }
        let (luma, chroma) = (reader.unsigned_golomb()?, reader.unsigned_golomb()?);
        ensure!(luma <= 6 && chroma <= 6, "bit depth");
        (bit_depth_luma, bit_depth_chroma) = (8 + luma as u8, 8 + chroma as u8);
        reader.flag()?; // qpprime_y_zero_transform_bypass_flag
        if reader.flag()? {
            for list in 0..if chroma_format == 3 { 12 } else { 8 } {
                if reader.flag()? {
                    skip_scaling_list(reader, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    ensure!(reader.unsigned_golomb()? <= 12, "frame number length");
    let order_count_type = reader.unsigned_golomb()?;
    match order_count_type {
        0 => ensure!(reader.unsigned_golomb()? <= 12, "picture order count length"),
        1 => {
            reader.flag()?;
            reader.signed_golomb()?;
            reader.signed_golomb()?;
            let cycle = reader.unsigned_golomb()?;
            ensure!(cycle <= 255, "picture order count cycle");
            for _ in 0..cycle {
                reader.signed_golomb()?;
            }
        }
        2 => {}
        _ => ensure!(false, "picture order count type"),
    }
    reader.unsigned_golomb()?; // max_num_ref_frames
    reader.flag()?; // gaps_in_frame_num_value_allowed_flag
    let (wide, high) = (reader.unsigned_golomb()?, reader.unsigned_golomb()?);
    ensure!(wide < 1024 && high < 1024, "picture size");
    let frames_only = reader.flag()?;
    if !frames_only {
        reader.flag()?; // mb_adaptive_frame_field_flag
    }
    reader.flag()?; // direct_8x8_inference_flag
    let fields = if frames_only { 1 } else { 2 };
    let (width, height) = ((wide + 1) * 16, (high + 1) * 16 * fields);
    let (across, down) = reader.cropping(separate_planes, chroma_format)?;
    let down = down * u64::from(fields);
    ensure!(across < u64::from(width) && down < u64::from(height), "cropping");
    let (width, height) = (width - across as u32, height - down as u32);
    let mut sps = Sps {
        profile,
        constraints,
        level,
        width,
        height,
        frame_rate: None,
        // §E.2.1: baseline has no B slices; type 2 means output order is decoding order.
        max_reorder_frames: (profile == 66 || order_count_type == 2).then_some(0),
        chroma_format: chroma_format as u8,
        bit_depth_luma,
        bit_depth_chroma,
        transfer: None,
    };
    if reader.flag()? {
        // A VUI that ends too early costs only what it would have told.
        let _ = read_vui(reader, &mut sps);
    }
    Some(Ok(sps))
}

/// ITU-T H.264 §E.1.1.
fn read_vui(reader: &mut BitReader<'_>, sps: &mut Sps) -> Option<()> {
    if reader.flag()? && reader.bits(8)? == 255 {
        reader.bits(32)?; // sar_width, sar_height
    }
    if reader.flag()? {
        reader.flag()?; // overscan_appropriate_flag
    }
    if reader.flag()? {
        reader.bits(4)?; // video_format, video_full_range_flag
        if reader.flag()? {
            reader.bits(8)?; // colour_primaries
            sps.transfer = Some(reader.bits(8)? as u8);
            reader.bits(8)?; // matrix_coefficients
        }
    }
    if reader.flag()? {
        reader.unsigned_golomb()?; // chroma sample locations
        reader.unsigned_golomb()?;
    }
    if reader.flag()? {
        let (units, scale) = (reader.bits(32)?, reader.bits(32)?);
        reader.flag()?; // fixed_frame_rate_flag
        let rate = f64::from(scale) / (2.0 * f64::from(units));
        sps.frame_rate = (rate.is_finite() && rate > 0.0 && rate <= 1000.0).then_some(rate);
    }
    let nal_hrd = reader.flag()?;
    if nal_hrd {
        skip_hrd(reader)?;
    }
    let vcl_hrd = reader.flag()?;
    if vcl_hrd {
        skip_hrd(reader)?;
    }
    if nal_hrd || vcl_hrd {
        reader.flag()?; // low_delay_hrd_flag
    }
    reader.flag()?; // pic_struct_present_flag
    if reader.flag()? {
        reader.flag()?; // motion_vectors_over_pic_boundaries_flag
        for _ in 0..4 {
            reader.unsigned_golomb()?;
        }
        let reorder = reader.unsigned_golomb()?;
        sps.max_reorder_frames = Some(reorder.min(16));
    }
    Some(())
}

/// ITU-T H.264 §E.1.2.
fn skip_hrd(reader: &mut BitReader<'_>) -> Option<()> {
    let count = reader.unsigned_golomb()?;
    if count > 31 {
        return None;
    }
    reader.bits(8)?; // scales
    for _ in 0..=count {
        reader.unsigned_golomb()?;
        reader.unsigned_golomb()?;
        reader.flag()?;
    }
    reader.bits(20).map(|_| ())
}

/// ITU-T H.264 §7.3.2.1.1.1.
fn skip_scaling_list(reader: &mut BitReader<'_>, size: usize) -> Option<()> {
    let (mut last, mut next) = (8i64, 8i64);
    for _ in 0..size {
        if next != 0 {
            next = (last + i64::from(reader.signed_golomb()?)).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

pub(super) fn has_chroma_format(profile: u8) -> bool {
    matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{HIGH, hex};
    use super::*;

    #[test]
    fn a_high_profile_sps_tells_size_rate_and_reordering() {
        let sps = Sps::parse(&hex(HIGH)).expect("valid");
        assert_eq!((sps.profile, sps.level, sps.width, sps.height), (100, 31, 1280, 720));
        assert_eq!(sps.frame_rate, Some(30.0));
        assert_eq!(sps.max_reorder_frames, Some(2));
    }

    #[test]
    fn baseline_never_reorders() {
        // x264, constrained baseline, 320x180: cropped from 192 lines.
        let sps = Sps::parse(&hex("6742c00cd901419f 9f01100000030010 0000030320f142a4 80")).expect("valid");
        assert_eq!((sps.profile, sps.max_reorder_frames), (66, Some(0)));
        assert_eq!((sps.width, sps.height, sps.frame_rate, sps.transfer), (320, 180, Some(25.0), None));
    }

    #[test]
    fn a_described_signal_tells_its_transfer_characteristics() {
        // x264, High 10, PQ.
        let unit = hex("676e000ca6cd941419f9f016a12201280000030008000003019078a14cb0");
        let sps = Sps::parse(&unit).expect("valid");
        assert_eq!(
            (sps.profile, sps.bit_depth_luma, sps.transfer, sps.frame_rate),
            (110, 10, Some(16), Some(25.0))
        );
    }
}
