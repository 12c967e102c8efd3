//! H.265 as far as a gateway looks into it: types of NAL units, the size in sequence parameter sets,
//! and the decoder configuration record.

mod config;
mod reference_sets;
mod sps;

pub use config::{HevcConfig, HevcConfigError};
pub use sps::Sps;

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
