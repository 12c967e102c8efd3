//! What H.264 and H.265 have in common: as many NAL units as fit share a packet, one that fits none is cut.

use super::MAX_PAYLOAD;
use super::payloads::Payloads;
use bytes::Bytes;

/// How one of the two writes its packets.
pub(super) struct NalFormat {
    /// Bytes of a header, of a unit and of an aggregation packet alike.
    pub(super) header: usize,
    /// Writes several units as one packet.
    pub(super) aggregate: fn(&mut Payloads, &[Bytes]),
    /// Writes one unit as several packets.
    pub(super) fragment: fn(&mut Payloads, &Bytes),
}

impl NalFormat {
    /// The payloads of an access unit of `size` bytes.
    pub(super) fn packetise(&self, units: &[Bytes], size: usize) -> Vec<Bytes> {
        let mut payloads = Payloads::new(size + 64 * units.len());
        let mut rest = units;
        while let [first, ..] = rest {
            let count = self.fitting(rest);
            match count {
                0 => (self.fragment)(&mut payloads, first),
                1 => payloads.share(first.clone()),
                _ => (self.aggregate)(&mut payloads, &rest[..count]),
            }
            rest = &rest[count.max(1)..];
        }
        payloads.finish()
    }

    /// How many of the units fit one packet: 0 if not even the first does.
    fn fitting(&self, units: &[Bytes]) -> usize {
        if units.first().is_none_or(|unit| unit.len() > MAX_PAYLOAD) {
            return 0;
        }
        let mut size = self.header;
        let fits = |unit: &&Bytes| {
            size += 2 + unit.len();
            size <= MAX_PAYLOAD
        };
        units.iter().take_while(fits).count().max(1)
    }
}
