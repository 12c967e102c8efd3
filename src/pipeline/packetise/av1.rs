//! AV1 temporal units into RTP payloads (RTP Payload Format for AV1, version 1.0, §4 and §5).

use super::MAX_PAYLOAD;
use super::payloads::Payloads;
use crate::media::av1::{Unit, units};
use bytes::Bytes;

/// §4.4, the aggregation header: the first element goes on from the packet before, the last one goes on in
/// the next packet, there is one element only and so it has no length, a coded video sequence begins.
const CONTINUES: u8 = 0x80;
const GOES_ON: u8 = 0x40;
const ONE_ELEMENT: u8 = 0x10;
const NEW_SEQUENCE: u8 = 0x08;
/// Bytes of an element's length at most: a packet is shorter than 2^14.
const LENGTH: usize = 2;

/// Packetises one track.
#[derive(Debug)]
pub(in crate::pipeline) struct Av1 {
    /// AV1CodecConfigurationRecord: four bytes, and perhaps the sequence header.
    record: Bytes,
}

impl Av1 {
    pub(super) fn new(record: Bytes) -> Self {
        Self { record }
    }

    pub(super) fn payloads(&mut self, keyframe: bool, frame: &Bytes) -> Vec<Bytes> {
        let Some(mut elements) = read(frame) else { return Vec::new() };
        if keyframe && !elements.iter().any(Unit::is_sequence_header) {
            let header = self.record.get(4..).and_then(read).unwrap_or_default();
            elements.splice(..0, header.into_iter().filter(Unit::is_sequence_header));
        }
        packetise(&elements, keyframe, frame.len())
    }
}

/// The units that travel; `None` if the data are malformed.
fn read(data: &[u8]) -> Option<Vec<Unit<'_>>> {
    let mut list = Vec::with_capacity(4);
    for unit in units(data) {
        let unit = unit?;
        // §5: senders leave out what says nothing to receivers.
        if unit.travels() {
            list.push(unit);
        }
    }
    Some(list)
}

fn packetise(elements: &[Unit<'_>], keyframe: bool, size: usize) -> Vec<Bytes> {
    let mut payloads = Payloads::new(size + 256);
    let mut first = if keyframe { NEW_SEQUENCE } else { 0 };
    for (number, element) in elements.iter().enumerate() {
        let (head, mut rest) = (element.head(), element.payload());
        let mut head = &head.0[..head.1];
        let last = number + 1 == elements.len();
        loop {
            if payloads.pending() == 0 {
                payloads.write(&[first]);
                first = 0;
            }
            let alone = payloads.pending() == 1;
            let room = MAX_PAYLOAD - payloads.pending();
            let length = head.len() + rest.len();
            // The one element of a packet that is full, or ends the unit, needs no length.
            let (prefix, fits) = match alone && (length >= room || last) {
                true => (0, length <= room),
                false => (LENGTH, length + LENGTH <= room),
            };
            let now = if fits { length } else { room.saturating_sub(prefix) };
            if !fits && now <= head.len() {
                payloads.complete(); // no room for anything of it
                continue;
            }
            match prefix {
                0 => set(&mut payloads, ONE_ELEMENT),
                _ => payloads.write(&leb128(now)),
            }
            let (here, later) = rest.split_at(now - head.len());
            payloads.write(head);
            payloads.write(here);
            (head, rest) = (&[], later);
            if fits {
                break;
            }
            set(&mut payloads, GOES_ON);
            payloads.complete();
            first = CONTINUES;
        }
    }
    payloads.finish()
}

fn set(payloads: &mut Payloads, flag: u8) {
    if let Some(header) = payloads.first_byte() {
        *header |= flag;
    }
}

/// In two bytes always: an encoding may be longer than it must be (AV1 specification §4.10.5).
fn leb128(value: usize) -> [u8; LENGTH] {
    [value as u8 | 0x80, (value >> 7) as u8]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::av1::Depacketizer;
    use crate::media::{MediaKind, MediaTime, Packet};

    /// libaom, real time, 640x360.
    const SEQUENCE: [u8; 14] = [0x0a, 12, 0, 0, 0, 0x0c, 0xc4, 0xff, 0x67, 0xe0, 0x6d, 0x7c, 0x80, 0x20];

    /// A frame of so many bytes; the first begins as a shown key frame's header does.
    fn unit(kind: u8, payload: usize) -> Vec<u8> {
        let mut unit = vec![kind << 3 | 2];
        unit.extend_from_slice(&leb128(payload));
        unit.push(0x10);
        unit.extend((1..payload).map(|n| n as u8));
        unit
    }

    fn packets(payloads: Vec<Bytes>) -> Vec<Packet> {
        let last = payloads.len() - 1;
        let packet = |(index, payload)| Packet {
            kind: MediaKind::Video,
            layer: 0,
            sequence: index as u64,
            timestamp: 7,
            pts: MediaTime::ZERO,
            marker: index == last,
            keyframe: index == 0,
            payload,
        };
        payloads.into_iter().enumerate().map(packet).collect()
    }

    #[test]
    fn units_of_all_sizes_come_out_of_the_depacketiser_again() {
        let payload = |unit: &[u8]| unit[3..].to_vec();
        for metadata in [0, 1, 60, 1160, 1165, 1166, 1167, 1168, 1169, 1170, 1180, 1190, 2400] {
            for size in [1, 2, 1000, 1180, 1183, 1184, 1185, 1186, 1187, 1188, 1189, 2371, 2375, 5000] {
                let (extra, frame) = (unit(5, metadata.max(1)), unit(6, size));
                let mut data = vec![0x12, 0];
                data.extend_from_slice(&SEQUENCE);
                if metadata > 0 {
                    data.extend_from_slice(&extra);
                }
                data.extend_from_slice(&frame);
                let payloads = Av1::new(Bytes::new()).payloads(true, &data.into());
                assert_eq!(payloads[0][0] & NEW_SEQUENCE, NEW_SEQUENCE);
                assert!(payloads.iter().all(|payload| (2..=MAX_PAYLOAD).contains(&payload.len())));
                let mut depacketizer = Depacketizer::default();
                let units: Vec<_> =
                    packets(payloads).iter().filter_map(|packet| depacketizer.push(packet)).collect();
                assert_eq!(units.len(), 1, "{metadata} {size}");
                assert!(units[0].keyframe);
                let back: Vec<_> = super::units(&units[0].data)
                    .map(|unit| unit.expect("valid").payload().to_vec())
                    .collect();
                let mut expected = vec![SEQUENCE[2..].to_vec()];
                expected.extend((metadata > 0).then(|| payload(&extra)));
                expected.push(payload(&frame));
                assert_eq!(back, expected, "{metadata} {size}");
            }
        }
    }

    #[test]
    fn the_record_gives_the_sequence_header_that_a_keyframe_lacks() {
        let record: Bytes = [&[0x81, 1, 0x0c, 0][..], &SEQUENCE].concat().into();
        let frame: Bytes = unit(6, 20).into();
        let payloads = Av1::new(record.clone()).payloads(true, &frame);
        assert_eq!(payloads.len(), 1);
        let mut depacketizer = Depacketizer::default();
        let whole = depacketizer.push(&packets(payloads)[0]).expect("a temporal unit");
        assert!(whole.keyframe && whole.data.starts_with(&SEQUENCE));
        let alone = Av1::new(record).payloads(false, &frame);
        assert_eq!(alone[0][..2], [ONE_ELEMENT, 6 << 3]);
        assert_eq!(alone[0][2..], frame[3..]);
    }

    #[test]
    fn what_is_malformed_gives_nothing() {
        assert!(Av1::new(Bytes::new()).payloads(true, &Bytes::from_static(&[0x32, 9, 1])).is_empty());
        assert!(Av1::new(Bytes::new()).payloads(false, &Bytes::from_static(&[0x12, 0])).is_empty());
    }
}
