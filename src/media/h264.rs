//! H.264 as containers carry it: NAL units, the decoder configuration record, sequence parameter sets.
//!
//! Everything read here came over a network: reads are bounded, nothing panics, nothing is allocated
//! from a declared length.

use super::bits::BitReader;
use bytes::{BufMut, Bytes, BytesMut};

/// `nal_unit_type` of a non-IDR slice (ITU-T H.264 table 7-1).
pub const NAL_SLICE: u8 = 1;
/// `nal_unit_type` of an IDR slice.
pub const NAL_IDR: u8 = 5;
/// `nal_unit_type` of a sequence parameter set.
pub const NAL_SPS: u8 = 7;
/// `nal_unit_type` of a picture parameter set.
pub const NAL_PPS: u8 = 8;

/// Why a bitstream element can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum H264Error {
    /// It ends before its fields do.
    #[error("the {0} ends too early")]
    Truncated(&'static str),
    /// A configuration record of another version.
    #[error("AVC configuration version {0}, not 1")]
    Version(u8),
    /// A configuration without any sequence or picture parameter set.
    #[error("the AVC configuration lacks a {0} parameter set")]
    Missing(&'static str),
    /// More parameter sets than a record can count, or one longer than 65 535 bytes.
    #[error("the parameter sets don't fit an AVC configuration")]
    TooLarge,
    /// A field with a value that the standard rules out.
    #[error("the sequence parameter set has an impossible {0}")]
    Impossible(&'static str),
}

/// The type of a NAL unit, from its first byte.
pub const fn nal_type(header: u8) -> u8 {
    header & 0x1f
}

/// The AVCDecoderConfigurationRecord of ISO/IEC 14496-15 §5.3.3.1 (`avcC` without its box header).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvcConfig {
    /// Bytes of each NAL unit's length prefix: 1, 2 or 4.
    pub length_size: u8,
    /// Sequence parameter sets; at least one.
    pub sps: Vec<Bytes>,
    /// Picture parameter sets; at least one.
    pub pps: Vec<Bytes>,
    record: Bytes,
}

impl AvcConfig {
    /// Parses a record. The parameter sets share `record`'s memory.
    pub fn parse(record: Bytes) -> Result<Self, H264Error> {
        const WHAT: &str = "AVC configuration";
        let header = record.get(..6).ok_or(H264Error::Truncated(WHAT))?;
        if header[0] != 1 {
            return Err(H264Error::Version(header[0]));
        }
        let length_size = (header[4] & 3) + 1;
        if length_size == 3 {
            return Err(H264Error::Impossible("NAL unit length size"));
        }
        let mut position = 6;
        let sps = parameter_sets(&record, &mut position, header[5] & 0x1f)?;
        let count = *record.get(position).ok_or(H264Error::Truncated(WHAT))?;
        position += 1;
        let pps = parameter_sets(&record, &mut position, count)?;
        let config = Self { length_size, sps, pps, record };
        config.check()?;
        Ok(config)
    }

    /// Builds a record with 4-byte lengths from parameter sets as they stand in a bitstream, without
    /// start codes.
    pub fn from_parameter_sets(sps: &[Bytes], pps: &[Bytes]) -> Result<Self, H264Error> {
        let fits =
            |sets: &[Bytes], most: usize| sets.len() <= most && sets.iter().all(|set| set.len() <= 0xffff);
        if !fits(sps, 31) || !fits(pps, 255) {
            return Err(H264Error::TooLarge);
        }
        let first = sps.first().ok_or(H264Error::Missing("sequence"))?;
        let parsed = Sps::parse(first)?;
        let mut record = BytesMut::new();
        record.put_slice(&[1, first[1], first[2], first[3], 0xff, 0xe0 | sps.len() as u8]);
        put_parameter_sets(&mut record, sps);
        record.put_u8(pps.len() as u8);
        put_parameter_sets(&mut record, pps);
        if has_chroma_format(parsed.profile) {
            record.put_slice(&[
                0xfc | parsed.chroma_format,
                0xf8 | parsed.bit_depth_luma - 8,
                0xf8 | parsed.bit_depth_chroma - 8,
                0,
            ]);
        }
        let config = Self { length_size: 4, sps: sps.to_vec(), pps: pps.to_vec(), record: record.freeze() };
        config.check()?;
        Ok(config)
    }

    /// The record itself.
    pub fn record(&self) -> &Bytes {
        &self.record
    }

    /// The record for access units whose NAL units have 4-byte lengths, whatever the sender's had.
    pub fn record_with_four_byte_lengths(&self) -> Bytes {
        if self.length_size == 4 {
            return self.record.clone();
        }
        let mut record = BytesMut::from(&self.record[..]);
        record[4] |= 3;
        record.freeze()
    }

    /// The first sequence parameter set, parsed.
    pub fn first_sps(&self) -> Result<Sps, H264Error> {
        Sps::parse(self.sps.first().ok_or(H264Error::Missing("sequence"))?)
    }

    fn check(&self) -> Result<(), H264Error> {
        let has =
            |sets: &[Bytes], kind| sets.iter().any(|set| set.first().is_some_and(|b| nal_type(*b) == kind));
        if !has(&self.sps, NAL_SPS) {
            return Err(H264Error::Missing("sequence"));
        }
        if !has(&self.pps, NAL_PPS) {
            return Err(H264Error::Missing("picture"));
        }
        Ok(())
    }
}

fn parameter_sets(record: &Bytes, position: &mut usize, count: u8) -> Result<Vec<Bytes>, H264Error> {
    const ERROR: H264Error = H264Error::Truncated("AVC configuration");
    let mut sets = Vec::new();
    for _ in 0..count {
        let start = *position + 2;
        let length = record.get(*position..start).ok_or(ERROR)?;
        let end = start + usize::from(u16::from_be_bytes([length[0], length[1]]));
        if end > record.len() {
            return Err(ERROR);
        }
        sets.push(record.slice(start..end));
        *position = end;
    }
    Ok(sets)
}

fn put_parameter_sets(record: &mut BytesMut, sets: &[Bytes]) {
    for set in sets {
        record.put_u16(set.len() as u16);
        record.put_slice(set);
    }
}

/// The NAL units of an access unit in which each is prefixed by its length.
///
/// Yields `Err` once, and then nothing, where a length reaches past the end. Empty NAL units are skipped.
#[derive(Clone, Debug)]
pub struct NalUnits<'a> {
    rest: &'a [u8],
    length_size: usize,
}

impl<'a> NalUnits<'a> {
    /// Over `data`, with lengths of `length_size` bytes (1 to 4).
    pub fn new(data: &'a [u8], length_size: u8) -> Self {
        Self { rest: data, length_size: usize::from(length_size.clamp(1, 4)) }
    }
}

impl<'a> Iterator for NalUnits<'a> {
    type Item = Result<&'a [u8], H264Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            let Some((prefix, body)) = rest.split_at_checked(self.length_size) else {
                return Some(Err(H264Error::Truncated("access unit")));
            };
            let length = prefix.iter().fold(0usize, |value, byte| value << 8 | usize::from(*byte));
            let Some((unit, rest)) = body.split_at_checked(length) else {
                return Some(Err(H264Error::Truncated("access unit")));
            };
            self.rest = rest;
            if !unit.is_empty() {
                return Some(Ok(unit));
            }
        }
        None
    }
}

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
    let (mut width, mut height) = ((wide + 1) * 16, (high + 1) * 16 * fields);
    if reader.flag()? {
        // §7.4.2.1.1: cropping counts in chroma samples, and in fields of interlaced video.
        let (across, down) = match (separate_planes, chroma_format) {
            (false, 1) => (2, 2),
            (false, 2) => (2, 1),
            _ => (1, 1),
        };
        let mut edge = || reader.unsigned_golomb().map(u64::from);
        let (left, right, top, bottom) = (edge()?, edge()?, edge()?, edge()?);
        let (cut_across, cut_down) = ((left + right) * across, (top + bottom) * down * u64::from(fields));
        ensure!(cut_across < u64::from(width) && cut_down < u64::from(height), "cropping");
        width -= cut_across as u32;
        height -= cut_down as u32;
    }
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
            reader.bits(24)?; // colour description
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

fn has_chroma_format(profile: u8) -> bool {
    matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135)
}

/// ITU-T H.264 §7.4.1: drops the 3 of each 0 0 3.
fn without_emulation_prevention(data: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(data.len());
    let mut zeros = 0;
    for &byte in data {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        payload.push(byte);
    }
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    // x264, High, 1280x720, 30 fps, two B-frames.
    const HIGH: &str = "6764001facd94050 05bb011000000300 1000000303c0f183 1960";
    const PPS: &str = "68ebe3cb22c0";

    fn hex(text: &str) -> Bytes {
        let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        digits
            .chunks(2)
            .map(|pair| {
                let text = std::str::from_utf8(pair).expect("ASCII");
                u8::from_str_radix(text, 16).expect("hexadecimal")
            })
            .collect()
    }

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
        assert_eq!((sps.width, sps.height, sps.frame_rate), (320, 180, Some(25.0)));
    }

    #[test]
    fn a_record_survives_the_way_there_and_back() {
        let built = AvcConfig::from_parameter_sets(&[hex(HIGH)], &[hex(PPS)]).expect("valid");
        assert_eq!(&built.record()[..6], [1, 0x64, 0x00, 0x1f, 0xff, 0xe1]);
        assert_eq!(&built.record()[built.record().len() - 4..], [0xfd, 0xf8, 0xf8, 0]);
        let parsed = AvcConfig::parse(built.record().clone()).expect("valid");
        assert_eq!(parsed, built);
    }

    #[test]
    fn each_truncation_of_a_record_is_an_error_or_a_record() {
        let built = AvcConfig::from_parameter_sets(&[hex(HIGH)], &[hex(PPS)]).expect("valid");
        for end in 0..built.record().len() - 4 {
            assert!(AvcConfig::parse(built.record().slice(..end)).is_err(), "{end}");
        }
        assert_eq!(AvcConfig::parse(Bytes::from_static(&[0; 9])), Err(H264Error::Version(0)));
        let empty = Bytes::from_static(&[1, 66, 0, 30, 0xff, 0xe0, 0]);
        assert_eq!(AvcConfig::parse(empty), Err(H264Error::Missing("sequence")));
    }

    #[test]
    fn nal_units_end_at_the_first_lie() {
        let data = [0, 0, 0, 2, 0x65, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0x41, 0, 0, 0, 9, 0x41];
        let units: Vec<_> = NalUnits::new(&data, 4).collect();
        let expected = [Ok(&[0x65, 1][..]), Ok(&[0x41][..]), Err(H264Error::Truncated("access unit"))];
        assert_eq!(units, expected);
        assert!(NalUnits::new(&[0xff; 4], 4).next().expect("an error").is_err());
    }

    #[test]
    fn noise_never_panics() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for round in 0..20_000 {
            let mut bytes: Vec<u8> = if round % 2 == 0 { hex(HIGH).to_vec() } else { vec![0x67; 40] };
            for _ in 0..3 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let index = 1 + (state >> 33) as usize % (bytes.len() - 1);
                bytes[index] = (state >> 20) as u8;
            }
            let _ = Sps::parse(&bytes);
            let _ = AvcConfig::parse(Bytes::from(bytes));
        }
    }
}
