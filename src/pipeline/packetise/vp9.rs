//! VP9 frames into RTP payloads: RFC 9628, non-flexible mode, one layer.

use super::MAX_PAYLOAD;
use super::payloads::{Payloads, even};
use crate::media::vp9;
use bytes::Bytes;

/// RFC 9628 §4.2, the bits of the first byte: a picture identifier, predicted from other pictures, begins
/// a frame, ends one, a scalability structure.
const PICTURE_ID: u8 = 0x80;
const PREDICTED: u8 = 0x40;
const BEGINS: u8 = 0x08;
const ENDS: u8 = 0x04;
const STRUCTURE: u8 = 0x02;
/// The identifier has 15 bits.
const LONG_ID: u16 = 0x8000;
/// A descriptor with its picture identifier, and what a structure adds to it.
const DESCRIPTOR: usize = 3;
const WITH_STRUCTURE: usize = 5;

/// Packetises one track.
#[derive(Debug)]
pub(in crate::pipeline) struct Vp9 {
    picture: u16,
}

impl Vp9 {
    /// Identifiers begin at a random value.
    pub(super) fn new() -> Self {
        Self { picture: rand::random::<u16>() & !LONG_ID }
    }

    /// A frame or superframe is one picture.
    pub(super) fn payloads(&mut self, keyframe: bool, frame: &Bytes) -> Vec<Bytes> {
        if frame.is_empty() {
            return Vec::new();
        }
        self.picture = self.picture.wrapping_add(1) & !LONG_ID;
        let mut payloads = Payloads::new(frame.len() + WITH_STRUCTURE);
        let [high, low] = (self.picture | LONG_ID).to_be_bytes();
        let predicted = if keyframe { 0 } else { PREDICTED };
        let size = vp9::keyframe(frame).filter(|_| keyframe);
        let extra = if size.is_some() { WITH_STRUCTURE } else { 0 };
        let mut rest = &frame[..];
        for fragment in even(rest.len(), MAX_PAYLOAD - DESCRIPTOR - extra) {
            let begins = rest.len() == frame.len();
            let (now, later) = rest.split_at(fragment);
            let structure = size.filter(|_| begins);
            let mut first = PICTURE_ID | predicted;
            first |= if begins { BEGINS } else { 0 };
            first |= if later.is_empty() { ENDS } else { 0 };
            first |= if structure.is_some() { STRUCTURE } else { 0 };
            payloads.write(&[first, high, low]);
            if let Some((width, height)) = structure {
                // §4.2.1: one spatial layer with its size; how pictures depend on each other is not told.
                payloads.write(&[0x10]);
                payloads.write(&(width as u16).to_be_bytes());
                payloads.write(&(height as u16).to_be_bytes());
            }
            payloads.write(now);
            payloads.complete();
            rest = later;
        }
        payloads.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_marked_where_it_begins_and_ends() {
        let mut packetiser = Vp9 { picture: 0x7fff };
        let frame: Bytes = std::iter::once(0x86).chain((1..2500).map(|n| n as u8)).collect();
        let payloads = packetiser.payloads(false, &frame);
        let heads: Vec<[u8; 3]> =
            payloads.iter().map(|payload| [payload[0], payload[1], payload[2]]).collect();
        assert_eq!(heads, [[0xc8, 0x80, 0], [0xc0, 0x80, 0], [0xc4, 0x80, 0]]);
        let whole: Vec<u8> = payloads.iter().flat_map(|payload| payload[3..].to_vec()).collect();
        assert_eq!(whole, frame);
        assert!(payloads.iter().all(|payload| payload.len() <= MAX_PAYLOAD));
        assert_eq!(packetiser.payloads(false, &Bytes::from_static(&[0x86]))[0], &[0xcc, 0x80, 1, 0x86][..]);
    }

    #[test]
    fn a_keyframe_tells_its_size() {
        let frame = Bytes::from_static(&[0x82, 0x49, 0x83, 0x42, 0x00, 0x28, 0x10, 0x16, 0x96, 0x38]);
        let payloads = Vp9 { picture: 4 }.payloads(true, &frame);
        assert_eq!(payloads[0][..8], [0x8e, 0x80, 5, 0x10, 0x02, 0x82, 0x01, 0x6a]);
        assert_eq!(payloads[0][8..], frame);
    }
}
