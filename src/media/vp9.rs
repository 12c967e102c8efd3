//! VP9 frames (VP9 bitstream specification §6.2): whether one is a keyframe, and its size.

use super::bits::BitReader;
use bytes::Bytes;

/// Width and height in pixels of the keyframe that `frame` begins; `None` if it is not the beginning of one.
pub fn keyframe(frame: &[u8]) -> Option<(u32, u32)> {
    let mut reader = BitReader::new(frame);
    if reader.bits(2)? != 2 {
        return None; // frame_marker
    }
    let profile = reader.bits(1)? | reader.bits(1)? << 1;
    let reserved = profile == 3 && reader.flag()?;
    let (shows_existing, is_inter) = (reader.flag()?, reader.flag()?);
    if reserved || shows_existing || is_inter {
        return None;
    }
    reader.bits(2)?; // show_frame, error_resilient_mode
    if reader.bits(24)? != 0x49_8342 {
        return None; // frame_sync_code
    }
    if profile >= 2 {
        reader.flag()?; // ten_or_twelve_bit
    }
    const RGB: u32 = 7;
    let color_space = reader.bits(3)?;
    match (color_space, profile) {
        (RGB, 1 | 3) => drop(reader.flag()?), // reserved_zero
        (RGB, _) => return None,              // not possible in these profiles
        (_, 1 | 3) => drop(reader.bits(4)?),  // color_range, subsampling, reserved_zero
        _ => drop(reader.flag()?),            // color_range
    }
    Some((reader.bits(16)? + 1, reader.bits(16)? + 1))
}

/// The VPCodecConfigurationRecord from the profile on, as a track carries it, from one with or without the
/// version and flags of its box; `None` if it is cut short or impossible.
pub fn configuration(record: &[u8]) -> Option<Bytes> {
    const VERSION_1: &[u8] = &[1, 0, 0, 0];
    // Profile 1 at level 0 with samples of 0 bits does not exist.
    let record = record.strip_prefix(VERSION_1).unwrap_or(record);
    let &[profile, level, format, primaries, transfer, matrix, ..] = record else { return None };
    let possible = profile <= 3 && matches!(format >> 4, 8 | 10 | 12);
    possible.then(|| Bytes::copy_from_slice(&[profile, level, format, primaries, transfer, matrix, 0, 0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyframes_of_the_profiles_tell_their_size() {
        let profile_0 = [0x82, 0x49, 0x83, 0x42, 0x00, 0x28, 0x10, 0x16, 0x96, 0x38];
        assert_eq!(keyframe(&profile_0), Some((642, 362)));
        let profile_2 = [0x92, 0x49, 0x83, 0x42, 0x00, 0x14, 0x08, 0x0b, 0x4b, 0x03];
        assert_eq!(keyframe(&profile_2), Some((642, 362)));
        for length in 0..8 {
            assert_eq!(keyframe(&profile_0[..length]), None);
        }
    }

    #[test]
    fn records_come_with_and_without_the_version_of_their_box() {
        let plain = [0, 31, 0x82, 2, 2, 2, 0, 0];
        let boxed = [&[1, 0, 0, 0], &plain[..]].concat();
        assert_eq!(configuration(&plain).as_deref(), Some(&plain[..]));
        assert_eq!(configuration(&boxed).as_deref(), Some(&plain[..]));
        assert_eq!(configuration(&plain[..6]).as_deref(), Some(&plain[..]), "without initialisation data");
        for bad in [&plain[..5], &[4, 31, 0x82, 2, 2, 2], &[0, 31, 0x92, 2, 2, 2], &[1, 0, 0, 0]] {
            assert_eq!(configuration(bad), None, "{bad:x?}");
        }
    }

    #[test]
    fn other_frames_are_none() {
        for first in [0x86, 0x8a, 0x02, 0xc2] {
            // An interframe, one shown again, another marker.
            assert_eq!(
                keyframe(&[first, 0x49, 0x83, 0x42, 0x00, 0x28, 0x10, 0x16, 0x96, 0x38]),
                None,
                "{first:x}"
            );
        }
        assert_eq!(
            keyframe(&[0x82, 0x49, 0x83, 0x43, 0x00, 0x28, 0x10, 0x16, 0x96, 0x38]),
            None,
            "no sync code"
        );
    }
}
