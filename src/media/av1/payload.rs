//! AV1 temporal units from RTP payloads (RTP Payload Format for AV1, version 1.0, §4 and §5).

use super::{Obu, SequenceHeader, leb128, obu_type};
use crate::media::Packet;
use bytes::Bytes;

/// Puts temporal units together. Takes packets in order; says what it lost by leaving it out.
///
/// After a loss, and at the beginning, nothing comes out before a temporal unit that a decoder can start
/// with.
#[derive(Debug, Default)]
pub struct Depacketizer {
    /// The present temporal unit: whole OBUs with sizes, without delimiters.
    unit: Vec<u8>,
    /// The RTP timestamp of what is in `unit` and `fragment`.
    timestamp: Option<u32>,
    /// An OBU of which more is to come.
    fragment: Option<Vec<u8>>,
    /// The present temporal unit lacks something.
    damaged: bool,
    /// A decoder has begun, and lacks nothing.
    running: bool,
    sequence_header: Option<SequenceHeader>,
    starts_with_key_frame: Option<bool>,
    has_sequence_header: bool,
}

/// The OBUs of one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemporalUnit {
    /// OBUs, each with its size; no temporal delimiter.
    pub data: Bytes,
    /// A decoder can start here: a shown key frame behind its sequence header.
    pub keyframe: bool,
    /// The latest sequence header.
    pub sequence_header: SequenceHeader,
}

/// No temporal unit is larger, in bytes.
const MAX_UNIT: usize = 8 << 20;

impl Depacketizer {
    /// Takes the next packet; gives the temporal unit that it completes.
    pub fn push(&mut self, packet: &Packet) -> Option<TemporalUnit> {
        if self.timestamp.is_some_and(|timestamp| timestamp != packet.timestamp) {
            // The end of the unit before was lost.
            self.forget_unit();
            self.running = false;
        }
        self.timestamp = Some(packet.timestamp);
        if self.elements(&packet.payload).is_none() || self.unit.len() > MAX_UNIT {
            self.damaged = true;
        }
        // §4.2: the marker bit ends the temporal unit.
        if !packet.marker {
            return None;
        }
        self.complete()
    }

    /// Nothing comes out before a temporal unit that a decoder can start with: ask for one.
    pub fn needs_keyframe(&self) -> bool {
        !self.running
    }

    /// Packets before the next one are lost.
    pub fn lost(&mut self) {
        self.forget_unit();
        // What is left of a unit of which the front is lost must not look whole.
        self.damaged = true;
        self.running = false;
    }

    /// The OBU elements of one payload, §4.4. `None` where a length lies.
    fn elements(&mut self, payload: &[u8]) -> Option<()> {
        let (&header, mut rest) = payload.split_first()?;
        let (continues, goes_on) = (header & 0x80 != 0, header & 0x40 != 0);
        let count = usize::from(header >> 4 & 3);
        if continues != self.fragment.is_some() {
            self.damaged = true;
        }
        let mut number = 0usize;
        while !rest.is_empty() {
            number += 1;
            let element = if number == count {
                std::mem::take(&mut rest)
            } else {
                let (length, after) = leb128(rest)?;
                let (element, after) = after.split_at_checked(length)?;
                rest = after;
                element
            };
            let (first, last) = (number == 1, rest.is_empty());
            let begun = self.fragment.take().filter(|_| first && continues);
            match (begun, last && goes_on) {
                (None, false) => self.obu(element)?,
                (None, true) => self.fragment = Some(element.to_vec()),
                (Some(mut begun), more) => {
                    if begun.len() + element.len() > MAX_UNIT {
                        return None;
                    }
                    begun.extend_from_slice(element);
                    match more {
                        true => self.fragment = Some(begun),
                        false => self.obu(&begun)?,
                    }
                }
            }
        }
        Some(())
    }

    /// Takes a whole OBU.
    fn obu(&mut self, data: &[u8]) -> Option<()> {
        if data.is_empty() {
            return Some(());
        }
        let obu = Obu::read(data)?;
        match obu.kind {
            // §5: senders should leave these out, receivers must not pass them on.
            obu_type::TEMPORAL_DELIMITER | obu_type::TILE_LIST | obu_type::PADDING => return Some(()),
            obu_type::SEQUENCE_HEADER => {
                self.sequence_header = Some(SequenceHeader::parse(obu.payload)?);
                self.has_sequence_header = true;
            }
            obu_type::FRAME | obu_type::FRAME_HEADER if self.starts_with_key_frame.is_none() => {
                let reduced = self.sequence_header.is_some_and(|header| header.reduced_still_picture);
                self.starts_with_key_frame = Some(reduced || shows_key_frame(obu.payload));
            }
            _ => {}
        }
        obu.write(&mut self.unit);
        Some(())
    }

    fn complete(&mut self) -> Option<TemporalUnit> {
        let whole = !self.damaged && self.fragment.is_none() && !self.unit.is_empty();
        let keyframe = self.has_sequence_header && self.starts_with_key_frame == Some(true);
        let data = std::mem::take(&mut self.unit);
        self.forget_unit();
        self.running = whole && (self.running || keyframe);
        if !self.running {
            return None;
        }
        Some(TemporalUnit { data: data.into(), keyframe, sequence_header: self.sequence_header? })
    }

    fn forget_unit(&mut self) {
        self.unit.clear();
        self.fragment = None;
        self.timestamp = None;
        self.damaged = false;
        self.starts_with_key_frame = None;
        self.has_sequence_header = false;
    }
}

/// `uncompressed_header`, AV1 specification §5.9.2: show_existing_frame 0, frame_type 0 (KEY_FRAME),
/// show_frame 1.
pub(super) fn shows_key_frame(payload: &[u8]) -> bool {
    payload.first().is_some_and(|byte| byte >> 4 == 0b0001)
}
