//! H.264 in RTP payloads (RFC 6184 §5).

use super::{Contents, Picture};
use crate::media::h264::Sps;

const IDR: u8 = 5;
const SEI: u8 = 6;
const SPS: u8 = 7;
const DELIMITER: u8 = 9;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// Looks into a payload.
pub(super) fn contents(payload: &[u8]) -> Contents {
    let mut found = Contents::Prefix;
    for (kind, _) in nal_units(payload) {
        match kind {
            SPS | IDR => return Contents::Start,
            SEI | DELIMITER => {}
            _ => found = Contents::Other,
        }
    }
    let begins_idr = |header: u8| header & 0x80 != 0 && header & 0x1f == IDR;
    match payload {
        [indicator, header, ..] if indicator & 0x1f == FU_A && begins_idr(*header) => Contents::Start,
        [indicator, ..] if (1..=STAP_A).contains(&(indicator & 0x1f)) => found,
        _ => Contents::Other,
    }
}

/// The whole NAL units in a payload, with their types: one, those of a STAP-A, or none of a fragment.
fn nal_units(payload: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let kind = payload.first().map_or(0, |header| header & 0x1f);
    let single = (1..STAP_A).contains(&kind).then_some((kind, payload));
    let mut rest = if kind == STAP_A { &payload[1..] } else { &[] };
    let aggregated = std::iter::from_fn(move || {
        let (size, after) = rest.split_first_chunk::<2>()?;
        let (unit, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*size)))?;
        rest = after;
        Some((unit.first()? & 0x1f, unit))
    });
    single.into_iter().chain(aggregated)
}

/// What the sequence parameter set in a payload says, if it is there whole.
pub(super) fn picture(payload: &[u8]) -> Option<Picture> {
    let (_, unit) = nal_units(payload).find(|(kind, _)| *kind == SPS)?;
    let parameters = Sps::parse(unit).ok()?;
    Some(Picture {
        resolution: (parameters.width, parameters.height),
        frame_rate: parameters.frame_rate,
        // What the stream leaves open is not done in real time: B-frames delay.
        reordered: parameters.max_reorder_frames.is_some_and(|frames| frames > 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_sets_and_idr_pictures_start_decoding() {
        for start in [
            &[0x67, 0x42][..],
            &[0x65, 0x88],
            &[0x78, 0, 2, 0x09, 0x10, 0, 2, 0x67, 0x42],
            &[0x78, 0, 1, 0x65],
            &[0x7c, 0x85, 1],
        ] {
            assert_eq!(contents(start), Contents::Start, "{start:x?}");
        }
        for other in
            [&[0x41, 1][..], &[0x68, 1], &[0x7c, 0x05, 1], &[0x7c, 0x81, 1], &[0x78, 0, 1, 0x41], &[], &[0]]
        {
            assert_eq!(contents(other), Contents::Other, "{other:x?}");
        }
        for prefix in [&[0x09, 0x10][..], &[0x06, 5], &[0x78, 0, 2, 0x09, 0x10, 0, 1, 0x06]] {
            assert_eq!(contents(prefix), Contents::Prefix, "{prefix:x?}");
        }
    }

    #[test]
    fn cut_off_aggregates_are_no_danger() {
        for cut in [&[0x78][..], &[0x78, 0], &[0x78, 0xff, 0xff, 0x67], &[0x78, 0, 0, 0, 0], &[0x7c]] {
            contents(cut);
            assert_eq!(picture(cut), None, "{cut:x?}");
        }
        let units: Vec<_> = nal_units(&[0x78, 0, 2, 0x67, 0x42, 0, 9]).collect();
        assert_eq!(units, [(SPS, &[0x67, 0x42][..])]);
    }
}
