//! The order of pictures: whether they are shown as they are decoded, and which may be left out. Pure.

use crate::media::h264::{self, NalUnits};
use crate::media::h265;
use crate::media::{Codec, Frame, MediaTime};

/// Follows the times of the pictures that are forwarded.
#[derive(Debug, Default)]
pub(super) struct Order {
    latest: Option<MediaTime>,
}

impl Order {
    /// Whether `frame` is shown after all that were forwarded, or with the last; then it counts as forwarded.
    pub(super) fn goes_on(&mut self, frame: &Frame) -> bool {
        // Encoders that don't reorder may still repeat a time.
        let goes_on = self.latest.is_none_or(|latest| frame.pts >= latest);
        if goes_on {
            self.latest = self.latest.max(Some(frame.pts));
        }
        goes_on
    }
}

/// Whether no other picture depends on that of `frame`.
pub(super) fn is_disposable(codec: Codec, frame: &Frame) -> bool {
    let mut slices = 0;
    let disposable = NalUnits::new(&frame.data, 4).all(|unit| {
        let Ok(unit) = unit else { return false };
        match codec {
            // ITU-T H.264 §7.4.1: nal_ref_idc is 0 for all slices of a picture or for none.
            Codec::H264 if (h264::NAL_SLICE..=h264::NAL_IDR).contains(&h264::nal_type(unit[0])) => {
                slices += 1;
                unit[0] & 0x60 == 0
            }
            // ITU-T H.265 §7.4.2.2: even types below 16 are of sub-layer non-reference pictures; higher
            // sub-layers are no reference for lower ones.
            Codec::H265 if h265::nal_type(unit[0]) < 32 => {
                slices += 1;
                let kind = h265::nal_type(unit[0]);
                let sub_layer = unit.get(1).map_or(1, |byte| byte & 7);
                kind < 16 && (kind.is_multiple_of(2) || sub_layer > 1)
            }
            Codec::H264 | Codec::H265 => true,
            _ => false,
        }
    });
    disposable && slices > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Epoch, MediaKind, Tracks};
    use std::sync::Arc;
    use std::time::SystemTime;

    fn frame(pts: i64, dts: i64, units: &[&[u8]]) -> Frame {
        let data: Vec<u8> =
            units.iter().flat_map(|unit| [&(unit.len() as u32).to_be_bytes()[..], unit].concat()).collect();
        let epoch = Epoch { id: 1, tracks: Tracks::default(), wall_origin: SystemTime::UNIX_EPOCH };
        Frame {
            epoch: Arc::new(epoch),
            kind: MediaKind::Video,
            pts: MediaTime::from_millis(pts),
            dts: MediaTime::from_millis(dts),
            keyframe: false,
            data: data.into(),
        }
    }

    #[test]
    fn pictures_out_of_order_are_found() {
        let mut order = Order::default();
        let goes_on: Vec<bool> = [(40, 0), (160, 40), (80, 80), (120, 120), (280, 160), (200, 180)]
            .into_iter()
            .map(|(pts, dts)| order.goes_on(&frame(pts, dts, &[])))
            .collect();
        assert_eq!(goes_on, [true, true, false, false, true, false]);
    }

    #[test]
    fn references_are_told_from_what_may_go() {
        let is = |codec, units: &[&[u8]]| is_disposable(codec, &frame(0, 0, units));
        assert!(is(Codec::H264, &[&[0x06, 1], &[0x01, 9], &[0x01, 8]]));
        assert!(!is(Codec::H264, &[&[0x21, 9]]), "a reference");
        assert!(!is(Codec::H264, &[&[0x65, 9]]));
        assert!(!is(Codec::H264, &[&[0x06, 1]]), "no picture at all");
        assert!(is(Codec::H265, &[&[0x00, 1, 9]]), "TRAIL_N");
        assert!(is(Codec::H265, &[&[0x10, 1, 9]]), "RASL_N");
        assert!(!is(Codec::H265, &[&[0x02, 1, 9]]), "TRAIL_R");
        assert!(is(Codec::H265, &[&[0x02, 2, 9]]), "of a higher sub-layer");
        assert!(!is(Codec::H265, &[&[0x26, 1, 9]]), "IDR");
        assert!(!is(Codec::Vp9, &[&[0, 1, 9]]));
    }
}
