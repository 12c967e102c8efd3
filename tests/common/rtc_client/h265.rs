//! H.265 in RTP (RFC 7798) for tests: packetising the pictures of a file, and NAL units from packets.

use std::path::Path;

use super::event::MediaPacket;
use super::nal_units::NalUnits;

const VPS: u8 = 32;
const PPS: u8 = 34;
const DELIMITER: u8 = 35;
const AGGREGATION: u8 = 48;
const FRAGMENT: u8 = 49;

const H265: NalUnits = NalUnits {
    header: 2,
    kind: h265_type,
    is_slice: |kind| kind < VPS,
    is_parameter_set: |kind| (VPS..=PPS).contains(&kind),
    delimiter: DELIMITER,
    aggregation: &[AGGREGATION << 1, 1],
    fragment: |unit, bits| vec![unit[0] & 0x81 | FRAGMENT << 1, unit[1], bits | h265_type(unit)],
};

/// The type of a NAL unit; slices have those below 32.
pub fn h265_type(unit: &[u8]) -> u8 {
    unit[0] >> 1 & 0x3f
}

/// The access units of an Annex B file (`ffmpeg … -f hevc`), each as its NAL units without delimiters.
pub fn units_of_h265_file(file: &Path) -> Vec<Vec<Vec<u8>>> {
    H265.of_file(file)
}

/// RTP payloads of one access unit: parameter sets together in an aggregation packet, large units in
/// fragments.
pub fn packetise_h265(units: &[Vec<u8>]) -> Vec<Vec<u8>> {
    H265.packetise(units)
}

/// The NAL units in packets of one SSRC that came in order, nothing missing.
pub fn units_of_h265_packets(packets: &[MediaPacket]) -> Vec<Vec<u8>> {
    let mut units: Vec<Vec<u8>> = Vec::new();
    for MediaPacket { payload, .. } in packets {
        match h265_type(payload) {
            AGGREGATION => {
                let mut rest = &payload[2..];
                while let [high, low, tail @ ..] = rest {
                    let length = usize::from(u16::from_be_bytes([*high, *low]));
                    units.push(tail[..length].to_vec());
                    rest = &tail[length..];
                }
            }
            FRAGMENT => {
                if payload[2] & 0x80 != 0 {
                    units.push(vec![payload[0] & 0x81 | (payload[2] & 0x3f) << 1, payload[1]]);
                }
                units.last_mut().expect("a first fragment comes first").extend(&payload[3..]);
            }
            _ => units.push(payload.clone()),
        }
    }
    units
}
