//! The encodings of a simulcast video track, and wishes for their keyframes.

/// Encodings that one publisher may send at once.
pub const MAX_LAYERS: usize = 4;

/// One encoding of a simulcast video track (RFC 8853).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerInfo {
    /// Its restriction identifier (RFC 8851): how the publisher calls it.
    pub rid: String,
    /// Width and height in pixels, once the bitstream has told them.
    pub resolution: Option<(u32, u32)>,
    /// Bits a second, as measured lately; 0 before the first measurement.
    pub bitrate: u64,
    /// Whether media of it comes now.
    pub active: bool,
}

/// How many wishes for a keyframe there have been, by layer. Without simulcast, layer 0 counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyframeWishes([u64; MAX_LAYERS]);

impl KeyframeWishes {
    /// Whether there have been more wishes for `layer` than at the time of `earlier`.
    pub fn newer(&self, earlier: &Self, layer: u8) -> bool {
        let of = |wishes: &Self| wishes.0.get(usize::from(layer)).copied();
        of(self) > of(earlier)
    }

    pub(super) fn wish(&mut self, layer: Option<u8>) {
        match layer.map(usize::from) {
            None => self.0.iter_mut().for_each(|count| *count += 1),
            Some(layer) => {
                if let Some(count) = self.0.get_mut(layer) {
                    *count += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_counted_by_layer() {
        let before = KeyframeWishes::default();
        let mut wishes = before;
        wishes.wish(Some(1));
        wishes.wish(Some(200));
        let newer = |wishes: &KeyframeWishes, before| [0, 1, 2, 200].map(|layer| wishes.newer(before, layer));
        assert_eq!(newer(&wishes, &before), [false, true, false, false]);
        let before = wishes;
        wishes.wish(None);
        assert_eq!(newer(&wishes, &before), [true, true, true, false]);
    }
}
