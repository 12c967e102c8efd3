//! H.265 in RTP (RFC 7798) for tests: packetising the pictures of a file, and NAL units from packets.

use std::path::Path;

use super::event::MediaPacket;
use super::media::{PAYLOAD, split_annex_b};

const VPS: u8 = 32;
const PPS: u8 = 34;
const DELIMITER: u8 = 35;
const AGGREGATION: u8 = 48;
const FRAGMENT: u8 = 49;

/// The type of a NAL unit; slices have those below 32.
pub fn h265_type(unit: &[u8]) -> u8 {
    unit[0] >> 1 & 0x3f
}

/// The access units of an Annex B file (`ffmpeg … -f hevc`), each as its NAL units without delimiters.
pub fn units_of_h265_file(file: &Path) -> Vec<Vec<Vec<u8>>> {
    let data = std::fs::read(file).expect("the file can be read");
    let mut units: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut pending = Vec::new();
    for unit in split_annex_b(&data) {
        match h265_type(unit) {
            // first_slice_segment_in_pic_flag: a new picture.
            0..VPS if unit.get(2).is_some_and(|byte| byte & 0x80 != 0) => {
                pending.push(unit.to_vec());
                units.push(std::mem::take(&mut pending));
            }
            0..VPS => units.last_mut().expect("slices follow a first one").push(unit.to_vec()),
            DELIMITER => {}
            _ => pending.push(unit.to_vec()),
        }
    }
    units
}

/// RTP payloads of one access unit: parameter sets together in an aggregation packet, large units in
/// fragments.
pub fn packetise_h265(units: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    let (sets, rest): (Vec<_>, Vec<_>) =
        units.iter().partition(|unit| (VPS..=PPS).contains(&h265_type(unit)));
    if !sets.is_empty() {
        let mut payload = vec![AGGREGATION << 1, 1];
        for set in sets {
            payload.extend((set.len() as u16).to_be_bytes());
            payload.extend(set);
        }
        payloads.push(payload);
    }
    for unit in rest {
        if unit.len() <= PAYLOAD {
            payloads.push(unit.clone());
            continue;
        }
        let chunks: Vec<_> = unit[2..].chunks(PAYLOAD - 3).collect();
        for (index, chunk) in chunks.iter().enumerate() {
            let start = u8::from(index == 0) << 7;
            let end = u8::from(index + 1 == chunks.len()) << 6;
            let header = [unit[0] & 0x81 | FRAGMENT << 1, unit[1], start | end | h265_type(unit)];
            payloads.push([&header[..], *chunk].concat());
        }
    }
    payloads
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
