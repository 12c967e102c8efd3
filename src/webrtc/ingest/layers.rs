//! The encodings of a simulcast track as layers (RFC 8853): their order, and what readers are told of them.
//!
//! Promises that the order is found once, within a second of the first packet, and stays: layer 0 is the best.
//! Knows no RTP.

use crate::stream::LayerInfo;
use std::time::{Duration, Instant};

/// How long the order waits for the first keyframes of all encodings.
const PATIENCE: Duration = Duration::from_secs(1);
/// Readers are told at most so often.
const INTERVAL: Duration = Duration::from_secs(1);
/// An encoding without a packet for so long is not active.
const QUIET: Duration = Duration::from_secs(2);

/// The encodings of one track, in the order of the offer.
#[derive(Debug)]
pub(super) struct Layers {
    encodings: Vec<Encoding>,
    first_packet: Option<Instant>,
    /// Encodings, the best first, once that is known.
    order: Vec<usize>,
    told: Instant,
}

#[derive(Debug)]
struct Encoding {
    rid: String,
    resolution: Option<(u32, u32)>,
    /// Since readers were told last.
    bytes: u64,
    bitrate: u64,
    latest: Option<Instant>,
}

impl Layers {
    /// Nothing of them has come.
    pub(super) fn new(now: Instant, rids: &[String]) -> Self {
        let encoding = |rid: &String| Encoding {
            rid: rid.clone(),
            resolution: None,
            bytes: 0,
            bitrate: 0,
            latest: None,
        };
        Self {
            encodings: rids.iter().map(encoding).collect(),
            first_packet: None,
            order: Vec::new(),
            told: now,
        }
    }

    /// A packet of an encoding came.
    pub(super) fn received(&mut self, now: Instant, encoding: usize, bytes: usize) {
        let Some(encoding) = self.encodings.get_mut(encoding) else { return };
        self.first_packet.get_or_insert(now);
        encoding.latest = Some(now);
        encoding.bytes += bytes as u64;
    }

    /// A keyframe of an encoding told its size.
    pub(super) fn described(&mut self, encoding: usize, resolution: (u32, u32)) {
        if let Some(encoding) = self.encodings.get_mut(encoding) {
            encoding.resolution = Some(resolution);
        }
    }

    /// The layer that an encoding is; `None` before the order is known.
    pub(super) fn layer(&self, encoding: usize) -> Option<u8> {
        self.order.iter().position(|other| *other == encoding).map(|layer| layer as u8)
    }

    /// Whether the order is known.
    pub(super) fn is_ordered(&self) -> bool {
        !self.order.is_empty()
    }

    /// When the order is to be found at the latest; `None` before there is a packet, and after it was found.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.first_packet.filter(|_| !self.is_ordered()).map(|first| first + PATIENCE)
    }

    /// Whether the order can be found: all encodings have told their size, or the time is up.
    pub(super) fn is_ripe(&self, now: Instant) -> bool {
        let all = self.encodings.iter().all(|encoding| encoding.resolution.is_some());
        all || self.deadline().is_some_and(|deadline| now >= deadline)
    }

    /// Finds the order from what is known.
    pub(super) fn find_order(&mut self) {
        if !self.is_ordered() {
            self.order = order(&self.encodings);
        }
    }

    /// The size of the best layer.
    pub(super) fn best_resolution(&self) -> Option<(u32, u32)> {
        self.encodings.get(*self.order.first()?)?.resolution
    }

    /// Whether an encoding is the best of those that come now.
    pub(super) fn is_best(&self, now: Instant, encoding: usize) -> bool {
        let active = |index: &&usize| self.encodings[**index].is_active(now);
        self.order.iter().find(active) == Some(&encoding)
    }

    /// What readers are to be told now: at once when the order was found, then each second.
    pub(super) fn news(&mut self, now: Instant, at_once: bool) -> Option<Vec<LayerInfo>> {
        let passed = now.saturating_duration_since(self.told);
        if !self.is_ordered() || (!at_once && passed < INTERVAL) {
            return None;
        }
        self.told = now;
        for encoding in &mut self.encodings {
            if passed >= INTERVAL {
                encoding.bitrate = (u128::from(encoding.bytes) * 8_000 / passed.as_millis()) as u64;
                encoding.bytes = 0;
            }
        }
        let info = |index: &usize| {
            let encoding = &self.encodings[*index];
            LayerInfo {
                rid: encoding.rid.clone(),
                resolution: encoding.resolution,
                bitrate: encoding.bitrate,
                active: encoding.is_active(now),
            }
        };
        Some(self.order.iter().map(info).collect())
    }
}

impl Encoding {
    fn is_active(&self, now: Instant) -> bool {
        self.latest.is_some_and(|latest| now.saturating_duration_since(latest) < QUIET)
    }
}

/// Encodings, the best first. Those whose size is known tell in which direction the offer lists them; those that
/// have not come yet are better than a single known one: congestion control begins with the smallest.
fn order(encodings: &[Encoding]) -> Vec<usize> {
    let area = |index: usize| {
        encodings[index].resolution.map(|(width, height)| u64::from(width) * u64::from(height))
    };
    let all: Vec<usize> = (0..encodings.len()).collect();
    let known: Vec<usize> = all.iter().copied().filter(|index| area(*index).is_some()).collect();
    let mut order = all;
    match known[..] {
        [] => {} // as the client lists them
        [only] => order.sort_by_key(|index| std::cmp::Reverse(index.abs_diff(only))),
        [first, .., last] if known.len() < order.len() => {
            if area(first) < area(last) {
                order.reverse();
            }
        }
        _ => order.sort_by_key(|index| std::cmp::Reverse((area(*index), encodings[*index].bytes))),
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(count: usize, now: Instant) -> Layers {
        let rids: Vec<String> = (0..count).map(|rid| rid.to_string()).collect();
        Layers::new(now, &rids)
    }

    fn ordered(sizes: &[Option<u32>]) -> Vec<usize> {
        let now = Instant::now();
        let mut layers = layers(sizes.len(), now);
        for (encoding, size) in sizes.iter().enumerate() {
            if let Some(size) = size {
                layers.received(now, encoding, 100);
                layers.described(encoding, (*size, *size));
            }
        }
        layers.find_order();
        layers.order
    }

    #[test]
    fn the_best_layer_is_first_whatever_the_offer_lists_first() {
        assert_eq!(ordered(&[Some(180), Some(360), Some(720)]), [2, 1, 0]);
        assert_eq!(ordered(&[Some(720), Some(180), Some(360)]), [0, 2, 1]);
        assert_eq!(ordered(&[Some(720)]), [0]);
    }

    #[test]
    fn encodings_that_have_not_come_yet_are_placed_by_what_is_known() {
        assert_eq!(ordered(&[Some(180), None, None]), [2, 1, 0]);
        assert_eq!(ordered(&[None, None, Some(180)]), [0, 1, 2]);
        assert_eq!(ordered(&[Some(180), Some(360), None]), [2, 1, 0]);
        assert_eq!(ordered(&[Some(720), None, Some(180)]), [0, 1, 2]);
        assert_eq!(ordered(&[None, None]), [0, 1]);
    }

    #[test]
    fn the_order_waits_a_second_at_most_and_readers_are_told_each_second() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut layers = layers(2, start);
        assert_eq!((layers.is_ripe(at(5_000)), layers.deadline()), (false, None));
        layers.received(at(100), 1, 1_000);
        layers.described(1, (320, 180));
        assert!(!layers.is_ripe(at(1_099)) && layers.is_ripe(at(1_100)));
        assert_eq!(layers.news(at(1_100), true), None, "no order yet");
        layers.find_order();
        assert_eq!((layers.layer(0), layers.layer(1)), (Some(0), Some(1)));
        let told = layers.news(at(1_100), true).expect("at once");
        let seen: Vec<_> =
            told.iter().map(|layer| (layer.rid.as_str(), layer.resolution, layer.active)).collect();
        assert_eq!(seen, [("0", None, false), ("1", Some((320, 180)), true)]);
        assert!(layers.is_best(at(1_100), 1) && !layers.is_best(at(1_100), 0));
        layers.received(at(1_500), 0, 50_000);
        assert!(layers.is_best(at(1_500), 0));
        assert_eq!(layers.news(at(2_000), false), None);
        let told = layers.news(at(2_100), false).expect("a second later");
        assert_eq!(
            (told[0].bitrate, told[0].active, told[1].active),
            (400_000, true, false),
            "quiet for 2 s"
        );
    }
}
