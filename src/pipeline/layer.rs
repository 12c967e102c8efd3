//! Which layer of a simulcast track is read: the best that is active. Pure.

use crate::stream::LayerInfo;

/// Follows one layer, and moves to another at a keyframe of that one.
#[derive(Debug, Default)]
pub(super) struct TopLayer {
    current: Option<u8>,
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It belongs to the layer that is read.
    Follow,
    /// Its layer is read from here on.
    Switch,
    /// It belongs to another layer.
    Ignore,
}

impl TopLayer {
    /// Judges a packet of `layer`.
    pub(super) fn judge(&mut self, layer: u8, keyframe: bool, layers: &[LayerInfo]) -> Verdict {
        match self.current {
            None if layers.len() < 2 => {
                self.current = Some(layer); // there is no choice
                Verdict::Follow
            }
            Some(current) if current == layer => Verdict::Follow,
            _ if keyframe && layer == best(layers) => {
                let verdict = if self.current.is_some() { Verdict::Switch } else { Verdict::Follow };
                self.current = Some(layer);
                verdict
            }
            _ => Verdict::Ignore,
        }
    }

    /// The layer of which a keyframe is needed for the next change.
    pub(super) fn wanted(&self, layers: &[LayerInfo]) -> Option<u8> {
        let best = best(layers);
        (layers.len() > 1 && self.current != Some(best)).then_some(best)
    }
}

/// The best layer that is active; layer 0 if none is.
fn best(layers: &[LayerInfo]) -> u8 {
    layers.iter().position(|layer| layer.active).unwrap_or_default() as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Follow, Ignore, Switch};

    fn layers(active: [bool; 3]) -> Vec<LayerInfo> {
        let layer = |(index, active): (usize, bool)| LayerInfo {
            rid: index.to_string(),
            resolution: None,
            bitrate: 0,
            active,
        };
        active.into_iter().enumerate().map(layer).collect()
    }

    #[test]
    fn without_simulcast_all_is_read() {
        let mut top = TopLayer::default();
        assert_eq!([top.judge(0, false, &[]), top.judge(0, true, &[])], [Follow, Follow]);
        assert_eq!(top.wanted(&[]), None);
    }

    #[test]
    fn the_best_active_layer_is_read_and_changed_at_its_keyframe() {
        let (all, low) = (layers([true; 3]), layers([false, true, true]));
        let mut top = TopLayer::default();
        assert_eq!(top.judge(1, true, &all), Ignore);
        assert_eq!(top.judge(0, false, &all), Ignore, "it begins at a keyframe");
        assert_eq!(top.wanted(&all), Some(0));
        assert_eq!(top.judge(0, true, &all), Follow);
        assert_eq!((top.judge(0, false, &all), top.judge(2, true, &all)), (Follow, Ignore));
        // The best one goes: what still comes of it is read until the next one has its keyframe.
        assert_eq!(top.wanted(&low), Some(1));
        assert_eq!((top.judge(0, false, &low), top.judge(1, false, &low)), (Follow, Ignore));
        assert_eq!((top.judge(1, true, &low), top.judge(1, false, &low)), (Switch, Follow));
        assert_eq!((top.judge(0, true, &low), top.wanted(&low)), (Ignore, None));
        // And comes back.
        assert_eq!(top.wanted(&all), Some(0));
        assert_eq!((top.judge(0, true, &all), top.wanted(&all)), (Switch, None));
    }
}
