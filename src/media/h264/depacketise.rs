//! H.264 access units from RTP payloads (RFC 6184, packetization modes 0 and 1).

use super::{AvcConfig, NAL_IDR, NAL_PPS, NAL_SPS, nal_type};
use crate::media::bits::{BitReader, without_emulation_prevention};
use crate::media::{MediaTime, Packet};
use bytes::Bytes;

/// Types beyond those of NAL units (RFC 6184 table 1); those of the interleaved mode are not offered.
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
/// Supplemental enhancement information, the last of the types that belong in an access unit beside its
/// configuration (ITU-T H.264 table 7-1); what follows delimits, fills, or extends for other decoders.
const NAL_SEI: u8 = 6;

/// No access unit is larger, in bytes.
const MAX_UNIT: usize = 8 << 20;
/// Parameter sets of a kind that are kept: more no live encoder has.
const MAX_SETS: usize = 16;

/// Puts access units together. Takes packets in order; says what it lost by leaving it out.
///
/// After a loss, and at the beginning, nothing comes out before a picture that a decoder can start with.
#[derive(Debug, Default)]
pub struct Depacketizer {
    /// The present access unit: NAL units, each behind its length. Its memory is used again.
    unit: Vec<u8>,
    /// The RTP timestamp and presentation time of the present access unit.
    instant: Option<(u32, MediaTime)>,
    /// Where in `unit` the NAL unit begins of which more is to come.
    fragment: Option<usize>,
    /// The present access unit lacks something.
    damaged: bool,
    /// The present access unit has an IDR slice.
    keyframe: bool,
    /// A decoder has begun, and lacks nothing.
    running: bool,
    sps: ParameterSets,
    pps: ParameterSets,
    /// A configuration with all parameter sets that have come was handed over.
    configured: bool,
}

/// One access unit as containers have it, without its parameter sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessUnit {
    /// When it is shown.
    pub pts: MediaTime,
    /// A decoder can start here.
    pub keyframe: bool,
    /// The configuration from here on, if it is another than before. Comes with keyframes only.
    pub config: Option<AvcConfig>,
    /// NAL units behind lengths of 4 bytes.
    pub data: Bytes,
}

impl Depacketizer {
    /// Takes the next packet; hands over the access units that it completes: one, commonly, or none.
    pub fn push(&mut self, packet: &Packet, mut output: impl FnMut(AccessUnit)) {
        // RFC 6184 §5.1: the marker bit is a hint, the timestamp tells.
        if self.instant.is_some_and(|(timestamp, _)| timestamp != packet.timestamp) {
            self.complete().into_iter().for_each(&mut output);
        }
        if packet.keyframe && self.instant.is_none() {
            // Of this picture nothing precedes, whatever was lost.
            self.damaged = false;
        }
        self.instant.get_or_insert((packet.timestamp, packet.pts));
        if self.payload(&packet.payload).is_none() || self.unit.len() > MAX_UNIT {
            (self.damaged, self.fragment) = (true, None);
            self.unit.clear();
        }
        if packet.marker {
            self.complete().into_iter().for_each(&mut output);
        }
    }

    /// Nothing comes out before a picture that a decoder can start with: ask for one.
    pub fn needs_keyframe(&self) -> bool {
        !self.running
    }

    /// Packets before the next one are lost.
    pub fn lost(&mut self) {
        self.forget_unit();
        // What is left of a picture of which the front is lost must not look whole.
        self.damaged = true;
        self.running = false;
    }

    /// The NAL units of one payload, §5.6 to 5.8. `None` where it can't be what it says.
    fn payload(&mut self, payload: &[u8]) -> Option<()> {
        let (&header, rest) = payload.split_first()?;
        if nal_type(header) == FU_A {
            return self.fragment(header, rest);
        }
        if self.fragment.is_some() {
            return None;
        }
        match nal_type(header) {
            STAP_A => {
                let mut rest = rest;
                while !rest.is_empty() {
                    let (length, after) = rest.split_first_chunk::<2>()?;
                    let (unit, after) = after.split_at_checked(u16::from_be_bytes(*length).into())?;
                    self.nal_unit(unit);
                    rest = after;
                }
                Some(())
            }
            0 | STAP_A.. => None,
            _ => {
                self.nal_unit(payload);
                Some(())
            }
        }
    }

    /// §5.8: a NAL unit in pieces, its header spread over indicator and FU header.
    fn fragment(&mut self, indicator: u8, rest: &[u8]) -> Option<()> {
        let (&header, piece) = rest.split_first()?;
        let (starts, ends) = (header & 0x80 != 0, header & 0x40 != 0);
        if starts != self.fragment.is_none() {
            return None;
        }
        let start = match self.fragment {
            Some(start) => start,
            None => {
                let start = self.unit.len();
                self.unit.extend_from_slice(&[0, 0, 0, 0, indicator & 0xe0 | nal_type(header)]);
                self.fragment = Some(start);
                start
            }
        };
        self.unit.extend_from_slice(piece);
        if ends {
            self.fragment = None;
            let whole = start + 4;
            match self.unit[whole] & 0x1f {
                1..=NAL_SEI => {
                    self.keyframe |= nal_type(self.unit[whole]) == NAL_IDR;
                    let length = (self.unit.len() - whole) as u32;
                    self.unit[start..whole].copy_from_slice(&length.to_be_bytes());
                }
                _ => {
                    let unit = self.unit.split_off(start);
                    self.nal_unit(&unit[4..]);
                }
            }
        }
        Some(())
    }

    fn nal_unit(&mut self, unit: &[u8]) {
        let Some(&header) = unit.first() else { return };
        match nal_type(header) {
            // The identifier follows profile, constraints and level (§7.3.2.1.1).
            NAL_SPS => self.configured &= !self.sps.put(unit, 4),
            NAL_PPS => self.configured &= !self.pps.put(unit, 1),
            kind @ 1..=NAL_SEI => {
                self.keyframe |= kind == NAL_IDR;
                self.unit.extend_from_slice(&(unit.len() as u32).to_be_bytes());
                self.unit.extend_from_slice(unit);
            }
            _ => {}
        }
    }

    /// Ends the access unit.
    fn complete(&mut self) -> Option<AccessUnit> {
        let (_, pts) = self.instant?;
        let (empty, keyframe) = (self.unit.is_empty(), self.keyframe);
        let damaged = self.damaged || self.fragment.is_some();
        let mut config = None;
        if !damaged && keyframe && !self.configured {
            config = AvcConfig::from_parameter_sets(&self.sps.units(), &self.pps.units()).ok();
            self.configured = config.is_some();
        }
        if damaged {
            self.running = false;
        } else if keyframe {
            self.running = self.configured;
        }
        let data = (self.running && !empty).then(|| Bytes::copy_from_slice(&self.unit));
        self.forget_unit();
        data.map(|data| AccessUnit { pts, keyframe, config, data })
    }

    fn forget_unit(&mut self) {
        self.unit.clear();
        (self.instant, self.fragment) = (None, None);
        (self.damaged, self.keyframe) = (false, false);
    }
}

/// The parameter sets of one kind, by their identifiers.
#[derive(Debug, Default)]
struct ParameterSets(Vec<(u32, Bytes)>);

impl ParameterSets {
    /// Keeps one whose identifier begins at byte `at`; whether it is news.
    fn put(&mut self, unit: &[u8], at: usize) -> bool {
        // An identifier has at most 17 bits.
        let Some(head) = unit.get(at..unit.len().min(at + 6)) else { return false };
        let payload = without_emulation_prevention(head);
        let Some(id) = BitReader::new(&payload).unsigned_golomb() else { return false };
        match self.0.iter_mut().find(|(known, _)| *known == id) {
            Some((_, known)) if known[..] == *unit => return false,
            Some((_, known)) => *known = Bytes::copy_from_slice(unit),
            None => {
                // The configuration tells of the first.
                self.0.insert(0, (id, Bytes::copy_from_slice(unit)));
                self.0.truncate(MAX_SETS);
            }
        }
        true
    }

    fn units(&self) -> Vec<Bytes> {
        self.0.iter().map(|(_, unit)| unit.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{HIGH, PPS, hex};
    use super::*;
    use crate::media::MediaKind;

    const IDR: &[u8] = &[0x65, 1, 2, 3, 4, 5, 6];
    const SLICE: &[u8] = &[0x41, 9, 8, 7];

    fn packet(timestamp: u32, marker: bool, payload: &[u8]) -> Packet {
        Packet {
            kind: MediaKind::Video,
            layer: 0,
            sequence: 0,
            timestamp,
            pts: MediaTime::from_ticks(timestamp.into(), 90_000),
            marker,
            keyframe: false,
            payload: Bytes::copy_from_slice(payload),
        }
    }

    fn push(depacketizer: &mut Depacketizer, packets: &[Packet]) -> Vec<AccessUnit> {
        let mut units = Vec::new();
        for packet in packets {
            depacketizer.push(packet, |unit| units.push(unit));
        }
        units
    }

    fn aggregate(units: &[&[u8]]) -> Vec<u8> {
        let prefixed = |unit: &&[u8]| [&(unit.len() as u16).to_be_bytes(), *unit].concat();
        std::iter::once(vec![0x78]).chain(units.iter().map(prefixed)).flatten().collect()
    }

    fn fragments(unit: &[u8], size: usize) -> Vec<Vec<u8>> {
        let pieces: Vec<_> = unit[1..].chunks(size).collect();
        let header = |number| {
            let start = if number == 0 { 0x80 } else { 0 };
            let end = if number + 1 == pieces.len() { 0x40 } else { 0 };
            [unit[0] & 0xe0 | 28, start | end | unit[0] & 0x1f]
        };
        pieces.iter().enumerate().map(|(number, piece)| [&header(number), *piece].concat()).collect()
    }

    fn lengths(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|unit| [&(unit.len() as u32).to_be_bytes(), *unit].concat()).collect()
    }

    /// Parameter sets in one packet, an IDR picture in pieces; one slice of the picture after it.
    fn begun() -> (Depacketizer, Vec<AccessUnit>) {
        let mut depacketizer = Depacketizer::default();
        let mut packets = vec![packet(0, false, &aggregate(&[&[9, 0xf0], &hex(HIGH), &hex(PPS)]))];
        let pieces = fragments(IDR, 2);
        let last = pieces.len() - 1;
        packets.extend(pieces.iter().enumerate().map(|(number, piece)| packet(0, number == last, piece)));
        packets.push(packet(3000, true, SLICE));
        let units = push(&mut depacketizer, &packets);
        (depacketizer, units)
    }

    #[test]
    fn aggregates_pieces_and_single_units_become_access_units_and_a_configuration() {
        let (depacketizer, units) = begun();
        assert_eq!(units.len(), 2);
        let config = AvcConfig::from_parameter_sets(&[hex(HIGH)], &[hex(PPS)]).ok();
        assert_eq!((units[0].keyframe, &units[0].config), (true, &config));
        assert_eq!(units[0].data, lengths(&[IDR]));
        assert_eq!((units[1].keyframe, &units[1].config), (false, &None));
        assert_eq!((units[1].pts.as_nanos(), &units[1].data[..]), (33_333_333, &lengths(&[SLICE])[..]));
        assert!(!depacketizer.needs_keyframe());
    }

    #[test]
    fn a_configuration_is_told_again_only_when_it_changes() {
        let (mut depacketizer, _) = begun();
        let keyframe =
            |pps: &[u8]| [packet(1, false, &hex(HIGH)), packet(1, false, pps), packet(1, true, IDR)];
        assert_eq!(push(&mut depacketizer, &keyframe(&hex(PPS)))[0].config, None);
        let other = [&hex(PPS)[..], &[0x80]].concat();
        let config = push(&mut depacketizer, &keyframe(&other)).remove(0).config;
        assert_eq!(config.map(|config| config.pps), Some(vec![Bytes::from(other)]));
    }

    #[test]
    fn after_a_loss_nothing_comes_before_a_keyframe() {
        let (mut depacketizer, _) = begun();
        depacketizer.lost();
        assert!(depacketizer.needs_keyframe());
        let pieces = fragments(SLICE, 1);
        let rest: Vec<_> = pieces[1..].iter().map(|piece| packet(6000, false, piece)).collect();
        assert!(push(&mut depacketizer, &rest).is_empty());
        assert!(push(&mut depacketizer, &[packet(6000, true, SLICE), packet(9000, true, SLICE)]).is_empty());
        let units = push(&mut depacketizer, &[packet(12_000, true, IDR), packet(15_000, true, SLICE)]);
        assert_eq!(units.iter().map(|unit| unit.keyframe).collect::<Vec<_>>(), [true, false]);
        assert!(!depacketizer.needs_keyframe());
        // A keyframe is whole if its first packet is there, even the first packet after a loss.
        depacketizer.lost();
        let units = push(&mut depacketizer, &[Packet { keyframe: true, ..packet(18_000, true, IDR) }]);
        assert!(units.len() == 1 && units[0].keyframe);
    }

    #[test]
    fn a_picture_ends_where_the_next_begins_also_without_a_marker() {
        let (mut depacketizer, _) = begun();
        let packets = [packet(6000, false, SLICE), packet(6000, false, SLICE), packet(9000, true, SLICE)];
        let units = push(&mut depacketizer, &packets);
        assert_eq!(units.len(), 2);
        assert_eq!(units[0].data, lengths(&[SLICE, SLICE]));
        assert_eq!(units[1].data, lengths(&[SLICE]));
    }

    #[test]
    fn what_lies_is_a_loss() {
        let pieces = fragments(IDR, 2);
        let middle = &pieces[1][..];
        for lie in [&[][..], &[0x78, 0, 9, 1], &[0x7c], middle, &[0x79, 0, 0], &[0x60]] {
            let (mut depacketizer, _) = begun();
            assert!(push(&mut depacketizer, &[packet(6000, true, lie)]).is_empty(), "{lie:?}");
            assert!(depacketizer.needs_keyframe(), "{lie:?}");
        }
        // Another unit inside one that is in pieces; one that never ends.
        for packets in [
            [packet(6000, false, &pieces[0]), packet(6000, true, SLICE)],
            [packet(6000, true, &pieces[0]), packet(9000, true, SLICE)],
        ] {
            let (mut depacketizer, _) = begun();
            assert!(push(&mut depacketizer, &packets).is_empty());
            assert!(depacketizer.needs_keyframe());
        }
    }

    #[test]
    fn a_keyframe_without_parameter_sets_is_no_beginning() {
        let mut depacketizer = Depacketizer::default();
        assert!(push(&mut depacketizer, &[packet(0, true, IDR), packet(3000, true, SLICE)]).is_empty());
        assert!(depacketizer.needs_keyframe());
    }
}
