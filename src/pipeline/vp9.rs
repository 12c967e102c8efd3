//! What containers must know of VP9: the VP codec configuration record, as GStreamer states it and as it
//! is stored (VP Codec ISO Media File Format Binding, version 1.0).

use bytes::{Bytes, BytesMut};
use gstreamer as gst;

/// The fields of a VPCodecConfigurationRecord.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vp9Config {
    profile: u8,
    level: u8,
    bit_depth: u8,
    /// `chromaSubsampling`: 0 and 1 are 4:2:0 with chroma beside or between luma, 2 is 4:2:2, 3 is 4:4:4.
    chroma: u8,
    full_range: bool,
    /// Colour primaries, transfer characteristics and matrix coefficients of ISO/IEC 23091-2.
    colour: [u8; 3],
}

/// The names that GStreamer has for what a VP9 bitstream can state.
const COLOURS: [(&str, [u8; 3]); 5] = [
    ("bt601", [6, 6, 6]),
    ("bt709", [1, 1, 1]),
    ("smpte240m", [7, 7, 7]),
    ("bt2020", [9, 14, 9]),
    ("sRGB", [1, 13, 0]),
];
const UNSPECIFIED: [u8; 3] = [2, 2, 2];
/// Level and the largest picture of it, in luma samples (VP9 levels, annex A), for some 30 pictures a second.
const LEVELS: [(u8, u32); 9] = [
    (10, 27_648),
    (11, 73_728),
    (20, 122_880),
    (21, 245_760),
    (30, 552_960),
    (31, 983_040),
    (40, 2_228_224),
    (50, 8_912_896),
    (60, 35_651_584),
];

impl Vp9Config {
    /// As `vp9parse` states it; `None` while caps are incomplete.
    pub(super) fn of(caps: &gst::StructureRef) -> Option<Self> {
        let number = |name| caps.get::<i32>(name).ok().and_then(|number| u32::try_from(number).ok());
        let samples = number("width")?.saturating_mul(number("height")?);
        let chroma = match caps.get::<&str>("chroma-format").ok()? {
            "4:2:0" => 1,
            "4:2:2" => 2,
            "4:4:4" => 3,
            _ => return None,
        };
        let colorimetry = caps.get::<&str>("colorimetry").ok();
        let colour = COLOURS.iter().find(|(name, _)| Some(*name) == colorimetry);
        let level = LEVELS.iter().find(|(_, largest)| samples <= *largest).map_or(62, |(level, _)| *level);
        Some(Self {
            profile: caps.get::<&str>("profile").ok()?.parse().ok().filter(|profile| *profile <= 3)?,
            level,
            bit_depth: u8::try_from(caps.get::<u32>("bit-depth-luma").ok()?).ok()?,
            chroma,
            full_range: colorimetry == Some("sRGB"),
            colour: colour.map_or(UNSPECIFIED, |(_, colour)| *colour),
        })
    }

    /// From the record without its box header; `None` if it is cut short.
    pub(super) fn read(record: &[u8]) -> Option<Self> {
        let &[profile, level, format, primaries, transfer, matrix, ..] = record else { return None };
        Some(Self {
            profile,
            level,
            bit_depth: format >> 4,
            chroma: format >> 1 & 7,
            full_range: format & 1 == 1,
            colour: [primaries, transfer, matrix],
        })
    }

    /// The record without its box header.
    pub(super) fn record(&self) -> Bytes {
        let format = self.bit_depth << 4 | self.chroma << 1 | u8::from(self.full_range);
        let [primaries, transfer, matrix] = self.colour;
        Bytes::copy_from_slice(&[self.profile, self.level, format, primaries, transfer, matrix, 0, 0])
    }

    /// Adds the fields that the muxer wants.
    pub(super) fn put(
        &self,
        caps: gst::caps::Builder<gst::caps::NoFeature>,
    ) -> gst::caps::Builder<gst::caps::NoFeature> {
        let chroma_format = match self.chroma {
            2 => "4:2:2",
            3 => "4:4:4",
            _ => "4:2:0",
        };
        let colorimetry = COLOURS.iter().find(|(_, colour)| *colour == self.colour);
        caps.field("profile", self.profile.to_string())
            .field("chroma-format", chroma_format)
            .field("bit-depth-luma", u32::from(self.bit_depth))
            .field("bit-depth-chroma", u32::from(self.bit_depth))
            // It must be stated, be it unknown: range, matrix, transfer and primaries.
            .field("colorimetry", colorimetry.map_or("2:0:0:0", |(name, _)| name))
    }
}

/// Puts `record` into the `vpcC` box of an initialisation segment: the muxer calls everything level 1.
pub(super) fn correct_level(init: &Bytes, record: &[u8]) -> Bytes {
    const VERSION_AND_FLAGS: usize = 4;
    let Some(at) = init.windows(4).position(|name| name == b"vpcC") else {
        return init.clone();
    };
    let mut corrected = BytesMut::from(&init[..]);
    let start = at + 4 + VERSION_AND_FLAGS;
    if let Some(stated) = corrected.get_mut(start..start + record.len()) {
        stated.copy_from_slice(record);
    }
    corrected.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_survives_the_way_into_a_container_and_back() {
        gst::init().expect("installed");
        let caps = |width: i32, height: i32, colorimetry: &str| {
            gst::Structure::builder("video/x-vp9")
                .field("width", width)
                .field("height", height)
                .field("profile", "0")
                .field("chroma-format", "4:2:0")
                .field("bit-depth-luma", 8u32)
                .field("bit-depth-chroma", 8u32)
                .field("colorimetry", colorimetry)
                .build()
        };
        for (width, height, colorimetry, level) in [
            (320, 180, "bt601", 11),
            (640, 360, "bt709", 21),
            (1280, 720, "bt709", 31),
            (1920, 1080, "other", 40),
        ] {
            let config = Vp9Config::of(&caps(width, height, colorimetry)).expect("complete");
            let record = config.record();
            assert_eq!((record[0], record[1], record[2]), (0, level, 0x82));
            assert_eq!(Vp9Config::read(&record), Some(config));
            let again =
                config.put(gst::Caps::builder("video/x-vp9")).field("width", width).field("height", height);
            assert_eq!(Vp9Config::of(again.build().structure(0).expect("one")), Some(config));
        }
        assert_eq!(Vp9Config::read(&[0; 5]), None);
    }
}
