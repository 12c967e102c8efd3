//! H.265 in RTP payloads (RFC 7798 §4.4).

use super::{Contents, Picture};
use crate::media::h265::{NAL_AUD, NAL_PREFIX_SEI, NAL_SPS, NAL_VPS, Sps, is_random_access, nal_type};

const AGGREGATION: u8 = 48;
const FRAGMENT: u8 = 49;

/// Looks into a payload. Decoding starts with the video parameter set: without it, the others can't be read.
pub(super) fn contents(payload: &[u8]) -> Contents {
    if let [header, _, fragment, ..] = payload
        && nal_type(*header) == FRAGMENT
    {
        let begins = fragment & 0x80 != 0 && is_random_access(fragment & 0x3f);
        return if begins { Contents::Start } else { Contents::Other };
    }
    let mut found = None;
    for (kind, _) in nal_units(payload) {
        match kind {
            kind if matches!(kind, NAL_VPS | NAL_SPS) || is_random_access(kind) => return Contents::Start,
            NAL_AUD | NAL_PREFIX_SEI => {}
            _ => found = Some(Contents::Other),
        }
        found.get_or_insert(Contents::Prefix);
    }
    found.unwrap_or(Contents::Other)
}

/// What the sequence parameter set in a payload says, if it is there whole.
pub(super) fn picture(payload: &[u8]) -> Option<Picture> {
    let (_, unit) = nal_units(payload).find(|(kind, _)| *kind == NAL_SPS)?;
    let Sps { width, height, reordered, .. } = Sps::parse(unit)?;
    Some(Picture { resolution: (width, height), frame_rate: None, reordered })
}

/// The whole NAL units in a payload, with their types: one, those of an aggregation packet, or none of a
/// fragment.
fn nal_units(payload: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let kind = payload.first().map_or(FRAGMENT, |header| nal_type(*header));
    let single = (kind < AGGREGATION && payload.len() > 2).then_some((kind, payload));
    let mut rest = if kind == AGGREGATION { payload.get(2..).unwrap_or_default() } else { &[] };
    let aggregated = std::iter::from_fn(move || {
        let (size, after) = rest.split_first_chunk::<2>()?;
        let (unit, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*size)))?;
        rest = after;
        Some((nal_type(*unit.first()?), unit))
    });
    single.into_iter().chain(aggregated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_sets_and_random_access_pictures_start_decoding() {
        let (sps, idr, slice) = (NAL_SPS << 1, 19 << 1, 1 << 1);
        let aggregate = [AGGREGATION << 1, 1, 0, 3, NAL_VPS << 1, 1, 7, 0, 3, sps, 1, 7];
        for start in [
            &[NAL_VPS << 1, 1, 9][..],
            &[sps, 1, 9],
            &[idr, 1, 9],
            &[FRAGMENT << 1, 1, 0x80 | 20, 9],
            &aggregate,
        ] {
            assert_eq!(contents(start), Contents::Start, "{start:x?}");
        }
        for other in [
            &[slice, 1, 9][..],
            &[34 << 1, 1, 9],
            &[FRAGMENT << 1, 1, 20, 9],
            &[FRAGMENT << 1, 1, 0x81, 9],
            &[AGGREGATION << 1, 1, 0, 9, sps],
            &[],
        ] {
            assert_eq!(contents(other), Contents::Other, "{other:x?}");
        }
        for prefix in [[NAL_AUD << 1, 1, 9], [NAL_PREFIX_SEI << 1, 1, 9]] {
            assert_eq!(contents(&prefix), Contents::Prefix, "{prefix:x?}");
        }
    }
}
