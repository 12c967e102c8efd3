//! The name of a track's codec (RFC 6381 and what each codec's binding adds), from its sample entry.

use super::boxes::find;
use super::init::Kind;

/// As `CODECS` has it; `None` if the entry is cut short or not known.
pub(super) fn name(entry: [u8; 4], contents: &[u8], kind: Kind) -> Option<String> {
    // ISO/IEC 14496-12 §12.1.3, §12.2.3: fixed fields, then boxes.
    let inside = contents.get(if kind == Kind::Video { 78 } else { 28 }..)?;
    let entry_name = std::str::from_utf8(&entry).ok()?;
    match &entry {
        b"avc1" | b"avc3" => {
            // RFC 6381 §3.3: profile, constraints and level
            let [_, profile, constraints, level, ..] = find(inside, &[b"avcC"])? else { return None };
            Some(format!("{entry_name}.{profile:02x}{constraints:02x}{level:02x}"))
        }
        b"hvc1" | b"hev1" => hevc(entry_name, find(inside, &[b"hvcC"])?),
        b"av01" => {
            let [_, profile, format, ..] = find(inside, &[b"av1C"])? else { return None };
            let tier = if format & 0x80 == 0 { 'M' } else { 'H' };
            // AV1 §5.5.2: high_bitdepth, twelve_bit
            let depth = if format & 0x40 == 0 {
                8
            } else if format & 0x20 == 0 {
                10
            } else {
                12
            };
            Some(format!("av01.{}.{:02}{tier}.{depth:02}", profile >> 5, profile & 31))
        }
        b"vp09" | b"vp08" => {
            let [_, _, _, _, profile, level, format, ..] = find(inside, &[b"vpcC"])? else { return None };
            Some(format!("{entry_name}.{profile:02}.{level:02}.{:02}", format >> 4))
        }
        b"mp4a" => mpeg4_audio(find(inside, &[b"esds"])?),
        b"Opus" => Some("opus".to_owned()),
        b"fLaC" | b"ac-3" | b"ec-3" => Some(entry_name.to_ascii_lowercase()),
        _ => None,
    }
}

/// ISO/IEC 14496-15 §E.3.
fn hevc(entry: &str, record: &[u8]) -> Option<String> {
    let record = record.get(..13)?;
    let space = ["", "A", "B", "C"][usize::from(record[1] >> 6)];
    let profile = record[1] & 31;
    let compatibility = u32::from_be_bytes([record[2], record[3], record[4], record[5]]).reverse_bits();
    let tier = if record[1] & 32 == 0 { 'L' } else { 'H' };
    let mut name = format!("{entry}.{space}{profile}.{compatibility:x}.{tier}{}", record[12]);
    let constraints = &record[6..12];
    let used = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    for byte in &constraints[..used] {
        name.push_str(&format!(".{byte:x}"));
    }
    Some(name)
}

/// The object types in an elementary stream descriptor (ISO/IEC 14496-1 §7.2.6).
fn mpeg4_audio(esds: &[u8]) -> Option<String> {
    let (mut at, mut object) = (4, None);
    loop {
        let tag = *esds.get(at)?;
        at += 1;
        let mut length = 0usize;
        loop {
            let byte = *esds.get(at)?;
            at += 1;
            length = length << 7 | usize::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                break;
            }
        }
        match tag {
            // ES_Descriptor: id, flags, nothing optional
            3 => at += 3,
            // DecoderConfigDescriptor
            4 => {
                object = Some(*esds.get(at)?);
                at += 13;
            }
            // DecoderSpecificInfo: AudioSpecificConfig
            5 => {
                let (first, second) = (*esds.get(at)?, esds.get(at + 1).copied().unwrap_or_default());
                let kind = match first >> 3 {
                    31 => 32 + ((first & 7) << 3 | second >> 5),
                    kind => kind,
                };
                return Some(format!("mp4a.{:x}.{kind}", object?));
            }
            _ => at += length,
        }
    }
}

/// Whether the codec names `told` and `found` mean the same.
///
/// Hexadecimal digits may be of either case; VP9 and AV1 may add optional fields.
pub(in crate::check_hls) fn same(told: &str, found: &str) -> bool {
    let (told, found) = (told.trim().to_ascii_lowercase(), found.to_ascii_lowercase());
    let longer = told.strip_prefix(&found).is_some_and(|rest| rest.starts_with('.'));
    told == found || longer && (found.starts_with("av01") || found.starts_with("vp0"))
}
