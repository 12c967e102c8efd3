//! AV1 sequence headers (AV1 bitstream specification §5.5): the size of the pictures.

use super::bits::BitReader;

/// `obu_type` of a sequence header.
pub const OBU_SEQUENCE_HEADER: u8 = 1;

/// The type of an OBU, from its first byte.
pub const fn obu_type(header: u8) -> u8 {
    header >> 3 & 0x0f
}

/// The greatest width and height in pixels that a sequence header allows. `unit`: the OBU, with its header.
pub fn sequence_size(unit: &[u8]) -> Option<(u32, u32)> {
    let mut reader = BitReader::new(unit);
    let header = reader.bits(8)? as u8;
    if obu_type(header) != OBU_SEQUENCE_HEADER {
        return None;
    }
    if header & 0x04 != 0 {
        reader.bits(8)?; // obu_extension_header
    }
    if header & 0x02 != 0 {
        // obu_size: leb128, which a stream of packets leaves out mostly.
        (0..8).map_while(|_| reader.bits(8)).find(|byte| byte & 0x80 == 0)?;
    }
    reader.bits(4)?; // seq_profile, still_picture
    if reader.flag()? {
        reader.bits(5)?; // reduced_still_picture_header: seq_level_idx
    } else {
        skip_operating_points(&mut reader)?;
    }
    let (wide, high) = (reader.bits(4)? + 1, reader.bits(4)? + 1);
    Some((reader.bits(wide)? + 1, reader.bits(high)? + 1))
}

fn skip_operating_points(reader: &mut BitReader<'_>) -> Option<()> {
    let mut delay_length = None;
    if reader.flag()? {
        // timing_info: units, scale, and an exp-Golomb code if the interval is constant
        reader.bits(32)?;
        reader.bits(32)?;
        if reader.flag()? {
            reader.unsigned_golomb()?;
        }
        if reader.flag()? {
            delay_length = Some(reader.bits(5)? + 1);
            reader.bits(32)?; // num_units_in_decoding_tick
            reader.bits(10)?; // lengths of removal and presentation times
        }
    }
    let initial_delays = reader.flag()?;
    for _ in 0..=reader.bits(5)? {
        reader.bits(12)?; // operating_point_idc
        if reader.bits(5)? > 7 {
            reader.flag()?; // seq_tier
        }
        if let Some(length) = delay_length
            && reader.flag()?
        {
            reader.bits(length)?;
            reader.bits(length)?;
            reader.flag()?; // low_delay_mode_flag
        }
        if initial_delays && reader.flag()? {
            reader.bits(4)?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // libaom, 642x362.
    const HEADER: [u8; 13] = [0x0a, 0x0b, 0, 0, 0, 0x0c, 0xc5, 0x03, 0x69, 0x36, 0xbe, 0x40, 0x10];

    #[test]
    fn a_sequence_header_tells_the_size_with_and_without_its_own() {
        assert_eq!(sequence_size(&HEADER), Some((642, 362)));
        let mut without = vec![0x08];
        without.extend(&HEADER[2..]);
        assert_eq!(sequence_size(&without), Some((642, 362)));
        let mut extended = vec![0x0c, 0];
        extended.extend(&HEADER[2..]);
        assert_eq!(sequence_size(&extended), Some((642, 362)));
        assert_eq!(sequence_size(&[0x32, 0, 0, 0]), None, "a frame");
        for length in 0..9 {
            assert_eq!(sequence_size(&HEADER[..length]), None);
        }
    }
}
