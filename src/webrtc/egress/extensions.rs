//! Header extensions of a viewer's packets (RFC 8285 §4.2): what one packet carries, and the instant of sending.
//!
//! A receiver that is not told when packets were sent takes their timestamps for it. Those say when a picture
//! was taken: what its encoder took longer for looks like a queue in the network, and the estimate of what the
//! network carries falls. So pictures carry the instant of sending where a viewer's estimate counts.

use std::time::Instant;

/// The extension's name: <https://webrtc.googlesource.com/src/+/main/docs/native-code/rtp-hdrext/abs-send-time>.
pub(super) const SEND_TIME_URI: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
/// Bytes of an element: its identifier and length, and three bytes of data.
pub(super) const ELEMENT: usize = 4;
/// Elements of one packet at most.
const ELEMENTS: usize = 2;

/// What goes between a packet's header and its payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    bytes: [u8; 4 + ELEMENTS * ELEMENT],
    length: usize,
}

impl Extensions {
    /// These elements; nothing if there are none.
    pub(super) fn new(elements: [Option<[u8; ELEMENT]>; ELEMENTS]) -> Self {
        let mut this = Self { bytes: [0xbe, 0xde, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], length: 0 };
        for element in elements.into_iter().flatten() {
            this.length = this.length.max(4);
            this.bytes[this.length..this.length + ELEMENT].copy_from_slice(&element);
            this.length += ELEMENT;
            this.bytes[3] += 1; // words of 32 bits
        }
        this
    }

    /// The bytes; none without elements.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Tells a viewer when its packets were sent.
#[derive(Debug)]
pub(super) struct SendTime {
    id: u8,
    origin: Instant,
    /// Whether packets carry it: it costs bytes, and only a choice among layers needs it.
    pub(super) wanted: bool,
}

impl SendTime {
    /// Under the negotiated identifier, 1 to 14; the clock begins now.
    pub(super) fn new(id: u8) -> Self {
        Self { id, origin: Instant::now(), wanted: false }
    }

    /// The negotiated identifier.
    pub(super) fn id(&self) -> u8 {
        self.id
    }

    /// The element of a packet sent at `now`, if it carries one: seconds, of which 18 of 24 bits are the fraction.
    pub(super) fn element(&self, now: Instant) -> Option<[u8; ELEMENT]> {
        if !self.wanted {
            return None;
        }
        let passed = now.saturating_duration_since(self.origin);
        let seconds = (passed.as_micros() << 18) / 1_000_000;
        let [_, high, middle, low] = (seconds as u32).to_be_bytes(); // wraps every 64 s, as it should
        Some([self.id << 4 | 2, high, middle, low])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn elements_follow_a_header_that_counts_them() {
        let (one, two) = ([0x12, 1, 2, 3], [0x22, 4, 5, 6]);
        assert_eq!(Extensions::new([None, None]).bytes(), [0; 0]);
        assert_eq!(Extensions::new([None, Some(one)]).bytes(), [0xbe, 0xde, 0, 1, 0x12, 1, 2, 3]);
        let both = Extensions::new([Some(one), Some(two)]);
        assert_eq!(both.bytes(), [0xbe, 0xde, 0, 2, 0x12, 1, 2, 3, 0x22, 4, 5, 6]);
    }

    #[test]
    fn the_instant_of_sending_is_told_in_seconds_where_it_is_wanted() {
        let mut time = SendTime::new(3);
        let at = |millis| time.origin + Duration::from_millis(millis);
        let (soon, later, wrapped) = (at(500), at(63_750), at(64_500));
        assert_eq!(time.element(soon), None);
        time.wanted = true;
        assert_eq!(time.element(soon), Some([0x32, 0x02, 0, 0]));
        assert_eq!(time.element(later), Some([0x32, 0xff, 0, 0]));
        assert_eq!(time.element(wrapped), Some([0x32, 0x02, 0, 0]));
    }
}
