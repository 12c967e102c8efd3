//! AV1 in RTP (RTP Payload Format for AV1, version 1.0) for tests: packetising the pictures of a file.

use std::path::Path;

use super::nal_units::PAYLOAD;

const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
/// §4.4, the aggregation header: the unit goes on from the packet before, or in the next one; it is the packet's
/// only one; a coded video sequence begins.
const CONTINUES: u8 = 0x80;
const GOES_ON: u8 = 0x40;
const ONE_UNIT: u8 = 0x10;
const NEW_SEQUENCE: u8 = 0x08;

/// The temporal units of a file of open bitstream units (`ffmpeg … -f obu`), each as its units without delimiters
/// and, as RTP carries them, without their sizes.
pub fn units_of_av1_file(file: &Path) -> Vec<Vec<Vec<u8>>> {
    let data = std::fs::read(file).expect("the file can be read");
    let mut units: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut rest = &data[..];
    while let Some((&header, after)) = rest.split_first() {
        assert!(header & 0x02 != 0, "a unit of a file has its size");
        let (extension, after) = after.split_at(usize::from(header & 0x04 != 0));
        let (size, after) = leb128(after);
        let (payload, after) = after.split_at(size);
        if kind(header) == TEMPORAL_DELIMITER {
            units.push(Vec::new());
        } else {
            let unit = [&[header & !0x02][..], extension, payload].concat();
            units.last_mut().expect("a delimiter comes first").push(unit);
        }
        rest = after;
    }
    units
}

/// RTP payloads of one temporal unit, no two open bitstream units in one packet.
pub fn packetise_av1(units: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut payloads: Vec<Vec<u8>> = Vec::new();
    let begins = units.iter().any(|unit| kind(unit[0]) == SEQUENCE_HEADER);
    for unit in units {
        let chunks: Vec<_> = unit.chunks(PAYLOAD - 1).collect();
        for (index, chunk) in chunks.iter().enumerate() {
            let flag = |set: bool, flag: u8| if set { flag } else { 0 };
            let header = ONE_UNIT
                | flag(index > 0, CONTINUES)
                | flag(index + 1 < chunks.len(), GOES_ON)
                | flag(begins && payloads.is_empty(), NEW_SEQUENCE);
            payloads.push([&[header][..], chunk].concat());
        }
    }
    payloads
}

fn kind(header: u8) -> u8 {
    header >> 3 & 0x0f
}

/// AV1 specification §4.10.5.
fn leb128(data: &[u8]) -> (usize, &[u8]) {
    let length = data.iter().position(|byte| byte & 0x80 == 0).expect("a last byte") + 1;
    let (number, rest) = data.split_at(length);
    (number.iter().rev().fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f)), rest)
}
