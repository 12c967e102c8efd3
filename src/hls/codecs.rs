//! What the `CODECS` attribute calls a track (RFC 6381 and what each codec's binding adds to it). Pure.

use crate::media::aac::AudioSpecificConfig;
use crate::media::h264::AvcConfig;
use crate::media::h265::HevcConfig;
use crate::media::{AudioTrack, Codec, VideoTrack};

/// From the decoder configuration record; `None` if that is cut short or the codec has no such name.
pub(super) fn video_codec(track: &VideoTrack) -> Option<String> {
    let record = &track.codec_data[..];
    match track.codec {
        Codec::H264 => match record {
            // RFC 6381 §3.3: profile, constraints and level
            [_, profile, constraints, level, ..] => {
                Some(format!("avc1.{profile:02X}{constraints:02X}{level:02X}"))
            }
            _ => None,
        },
        Codec::H265 => h265(record),
        Codec::Vp9 => match record {
            // VP Codec ISO Media File Format Binding, "Codecs Parameter String"
            [profile, level, format, ..] => Some(format!("vp09.{profile:02}.{level:02}.{:02}", format >> 4)),
            _ => None,
        },
        Codec::Av1 => match record {
            // AV1 in ISOBMFF §5: profile, level and tier, bit depth
            [_, profile, format, ..] => {
                let tier = if format & 0x80 == 0 { 'M' } else { 'H' };
                let bit_depth = match format >> 5 & 3 {
                    0b10 => 10,
                    0b11 => 12,
                    _ => 8,
                };
                Some(format!("av01.{}.{:02}{tier}.{bit_depth:02}", profile >> 5, profile & 0x1f))
            }
            _ => None,
        },
        Codec::Vp8 | Codec::Opus | Codec::Aac | Codec::Mp3 => None,
    }
}

/// ISO/IEC 14496-15 §E.3: profile space and profile, compatibility flags in reverse order, tier and level,
/// and the constraint bytes without the zeros at their end.
fn h265(record: &[u8]) -> Option<String> {
    let &[_, profile, c0, c1, c2, c3, ref constraints @ .., level] = record.get(..13)? else { return None };
    let space = ["", "A", "B", "C"][usize::from(profile >> 6)];
    let tier = if profile & 0x20 == 0 { 'L' } else { 'H' };
    let compatibility = u32::from_be_bytes([c0, c1, c2, c3]).reverse_bits();
    let mut name = format!("hvc1.{space}{}.{compatibility:X}.{tier}{level}", profile & 0x1f);
    let used = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    for byte in &constraints[..used] {
        name += &format!(".{byte:X}");
    }
    Some(name)
}

/// `VIDEO-RANGE` (RFC 8216bis §4.4.6.2), from the transfer characteristics; what does not state them is SDR if it has
/// eight bits, and unknown otherwise.
pub(super) fn video_range(track: &VideoTrack) -> Option<&'static str> {
    const UNSPECIFIED: u8 = 2;
    match transfer(track) {
        Some(16) => Some("PQ"),
        Some(18) => Some("HLG"),
        None | Some(UNSPECIFIED) => has_eight_bits(track).then_some("SDR"),
        Some(_) => Some("SDR"),
    }
}

/// `transfer_characteristics` of ISO/IEC 23091-2 §8.2.
fn transfer(track: &VideoTrack) -> Option<u8> {
    let record = &track.codec_data;
    match track.codec {
        Codec::H264 => AvcConfig::parse(record.clone()).ok()?.first_sps().ok()?.transfer,
        Codec::H265 => HevcConfig::parse(record.clone()).ok()?.sps.transfer,
        Codec::Vp9 => record.get(4).copied(),
        _ => track.transfer,
    }
}

fn has_eight_bits(track: &VideoTrack) -> bool {
    match (track.codec, &track.codec_data[..]) {
        // Baseline, Main, Extended and High
        (Codec::H264, [_, 66 | 77 | 88 | 100, ..]) => true,
        (Codec::H265, [_, profile, ..]) => profile & 0x1f == 1,
        (Codec::Av1, [_, _, format, ..]) => format & 0x40 == 0,
        (Codec::Vp9, [_, _, format, ..]) => format >> 4 == 8,
        _ => false,
    }
}

/// RFC 6381 §3.3: `mp4a.40.` and the audio object type from the AudioSpecificConfig.
pub(super) fn audio_codec(track: &AudioTrack) -> Option<String> {
    match track.codec {
        Codec::Aac if is_high_efficiency(track) => return Some("mp4a.40.5".to_owned()),
        Codec::Aac => {}
        Codec::Opus => return Some("opus".to_owned()), // Opus in ISOBMFF §4.3.1, as browsers spell it
        _ => return None,
    }
    let object_type = match track.codec_data.as_ref() {
        // ISO/IEC 14496-3 §1.6.2.1: 31 escapes to six more bits.
        [first, second, ..] if first >> 3 == 31 => 32 + ((first & 7) << 3 | second >> 5),
        [first, ..] => first >> 3,
        [] => 2,
    };
    Some(format!("mp4a.40.{object_type}"))
}

/// Spectral band replication that is signalled behind the configuration of the core.
fn is_high_efficiency(track: &AudioTrack) -> bool {
    let config = AudioSpecificConfig::parse(&track.codec_data);
    let explicit = track.codec_data.first().is_some_and(|first| first >> 3 != 2);
    !explicit && config.is_ok_and(|config| config.object_type == 2 && config.frame_samples > 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn name(codec: Codec, record: &[u8]) -> Option<String> {
        video_codec(&VideoTrack { codec_data: Bytes::copy_from_slice(record), ..VideoTrack::new(codec) })
    }

    #[test]
    fn each_codec_is_named_as_its_binding_has_it() {
        let main_l93 = [1, 0x01, 0x60, 0, 0, 0, 0xb0, 0, 0, 0, 0, 0, 93, 0xf0];
        assert_eq!(name(Codec::H265, &main_l93).as_deref(), Some("hvc1.1.6.L93.B0"));
        let high_tier = [1, 0x22, 0x20, 0, 0, 0, 0x90, 0, 0x10, 0, 0, 0, 120, 0xf0];
        assert_eq!(name(Codec::H265, &high_tier).as_deref(), Some("hvc1.2.4.H120.90.0.10"));
        assert_eq!(name(Codec::Vp9, &[0, 31, 0x82, 1, 1, 1, 0, 0]).as_deref(), Some("vp09.00.31.08"));
        assert_eq!(name(Codec::Vp9, &[2, 10, 0xa2, 9, 16, 9, 0, 0]).as_deref(), Some("vp09.02.10.10"));
        assert_eq!(name(Codec::Av1, &[0x81, 0x04, 0x0c, 0]).as_deref(), Some("av01.0.04M.08"));
        assert_eq!(name(Codec::Av1, &[0x81, 0x0d, 0xcc, 0]).as_deref(), Some("av01.0.13H.10"));
        assert_eq!(name(Codec::H264, &[1, 0x64, 0, 0x1f, 0xff]).as_deref(), Some("avc1.64001F"));
    }

    #[test]
    fn sound_is_named_by_its_object_type() {
        let name = |codec, record: &'static [u8]| {
            audio_codec(&AudioTrack {
                codec,
                sample_rate: 48_000,
                channels: 2,
                codec_data: Bytes::from_static(record),
                fmtp: String::new(),
            })
        };
        for (record, named) in [
            (&[0x11, 0x90][..], "mp4a.40.2"),
            (&[0x2b, 0x92, 0x08, 0x00], "mp4a.40.5"), // SBR in front of the core …
            (&[0x13, 0x90, 0x56, 0xe5, 0x98], "mp4a.40.5"), // … and behind it
            (&[0xeb, 0x8a, 0x08, 0x00], "mp4a.40.29"),
        ] {
            assert_eq!(name(Codec::Aac, record).as_deref(), Some(named), "{record:x?}");
        }
        assert_eq!(name(Codec::Opus, &[]).as_deref(), Some("opus"));
        assert_eq!(name(Codec::Mp3, &[]), None, "it becomes AAC");
    }

    #[test]
    fn the_range_is_said_where_it_is_known() {
        let range = |codec, record: &[u8]| {
            video_range(&VideoTrack { codec_data: Bytes::copy_from_slice(record), ..VideoTrack::new(codec) })
        };
        assert_eq!(range(Codec::H264, &[1, 100, 0, 31]), Some("SDR"));
        assert_eq!(range(Codec::H264, &[1, 110, 0, 31]), None);
        assert_eq!(range(Codec::H265, &[1, 0x22]), None);
        assert_eq!(range(Codec::Vp9, &[2, 10, 0xa2, 9, 16, 9]), Some("PQ"));
        assert_eq!(range(Codec::Vp9, &[2, 10, 0xa2, 9, 18, 9]), Some("HLG"));
        assert_eq!(range(Codec::Vp9, &[0, 31, 0x82, 1, 1, 1]), Some("SDR"));
        assert_eq!(range(Codec::Av1, &[0x81, 4, 0x0c]), Some("SDR"));
        assert_eq!(range(Codec::Av1, &[0x81, 4, 0x4c]), None);
        for (transfer, said) in [(16, Some("PQ")), (18, Some("HLG")), (14, Some("SDR")), (2, None)] {
            let codec_data = Bytes::from_static(&[0x81, 4, 0x4c]);
            let track = VideoTrack { codec_data, transfer: Some(transfer), ..VideoTrack::new(Codec::Av1) };
            assert_eq!(video_range(&track), said);
        }
    }

    #[test]
    fn a_record_that_is_cut_short_has_no_name() {
        for codec in [Codec::H264, Codec::H265, Codec::Vp9, Codec::Av1] {
            assert_eq!(name(codec, &[1, 2]), None);
        }
        assert_eq!(name(Codec::Vp8, &[0; 20]), None);
    }
}
