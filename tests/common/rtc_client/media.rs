//! H.264 in RTP (RFC 6184) for tests: packetising, synthetic pictures, and whole pictures from packets.

use std::path::Path;
use std::time::Instant;

use super::event::MediaPacket;
use super::nal_units::NalUnits;

const FU_A: u8 = 28;
const STAP_A: u8 = 24;
const IDR: u8 = 5;
const SPS: u8 = 7;
const PPS: u8 = 8;
const DELIMITER: u8 = 9;

const H264: NalUnits = NalUnits {
    header: 1,
    kind: |unit| unit[0] & 0x1f,
    is_slice: |kind| matches!(kind, 1 | IDR),
    is_parameter_set: |kind| matches!(kind, SPS | PPS),
    delimiter: DELIMITER,
    aggregation: &[0x60 | STAP_A],
    fragment: |unit, bits| vec![unit[0] & 0xe0 | FU_A, bits | unit[0] & 0x1f],
};

/// A picture that came in packets.
#[derive(Clone, Debug)]
pub struct Picture {
    pub timestamp: u32,
    /// The NAL units, whole.
    pub units: Vec<Vec<u8>>,
    /// Whether no packet of it is missing.
    pub complete: bool,
    /// The sequence numbers of its first and last packet.
    pub sequences: (u64, u64),
    /// When its last packet came.
    pub at: Instant,
}

/// Makes pictures of the packets of one SSRC that come in order.
#[derive(Debug, Default)]
pub struct Pictures {
    open: Option<Picture>,
    next: Option<u64>,
}

impl Picture {
    /// Whether it has an IDR slice.
    pub fn is_keyframe(&self) -> bool {
        self.units.iter().any(|unit| unit[0] & 0x1f == IDR)
    }

    /// Whether a decoder can begin here: parameter sets and an IDR slice, nothing missing.
    pub fn is_decodable_start(&self) -> bool {
        let has = |kind| self.units.iter().any(|unit| unit[0] & 0x1f == kind);
        self.complete && has(SPS) && has(PPS) && has(IDR)
    }

    /// The number that [`synthetic_h264`] wrote into it.
    pub fn number(&self) -> Option<u32> {
        let slice = self.units.iter().find(|unit| matches!(unit[0] & 0x1f, 1 | IDR))?;
        u32::from_str_radix(std::str::from_utf8(slice.get(4..12)?).ok()?, 16).ok()
    }

    /// Annex B, for a decoder.
    pub fn annex_b(&self) -> Vec<u8> {
        self.units.iter().flat_map(|unit| [&[0, 0, 0, 1][..], unit].concat()).collect()
    }
}

impl Pictures {
    /// Takes a packet; the picture when it is the last one of it. Packets older than the last are passed over.
    pub fn push(&mut self, packet: &MediaPacket) -> Option<Picture> {
        if self.next.is_some_and(|next| packet.sequence < next) {
            return None;
        }
        let gap = self.next.is_some_and(|next| packet.sequence > next);
        self.next = Some(packet.sequence + 1);
        if self.open.as_ref().is_none_or(|open| open.timestamp != packet.timestamp) {
            self.open = Some(Picture {
                timestamp: packet.timestamp,
                units: Vec::new(),
                complete: true,
                sequences: (packet.sequence, packet.sequence),
                at: packet.at,
            });
        }
        let open = self.open.as_mut()?;
        open.complete &= !gap;
        open.sequences.1 = packet.sequence;
        open.at = packet.at;
        depacketise(&packet.payload, open);
        if packet.marker { self.open.take().filter(|picture| !picture.units.is_empty()) } else { None }
    }
}

fn depacketise(payload: &[u8], picture: &mut Picture) {
    let Some(&first) = payload.first() else { return };
    match first & 0x1f {
        STAP_A => {
            let mut rest = &payload[1..];
            while let [high, low, tail @ ..] = rest {
                let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
                if length > 0 {
                    picture.units.push(tail[..length].to_vec());
                }
                rest = &tail[length..];
            }
        }
        FU_A if payload.len() > 2 => {
            if payload[1] & 0x80 != 0 {
                picture.units.push(vec![first & 0xe0 | payload[1] & 0x1f]);
            }
            match picture.units.last_mut() {
                Some(unit) => unit.extend(&payload[2..]),
                None => picture.complete = false,
            }
        }
        1..=23 => picture.units.push(payload.to_vec()),
        _ => picture.complete = false,
    }
}

/// RTP payloads of one access unit: parameter sets together in a STAP-A, large units in FU-A fragments.
pub fn packetise_h264(units: &[Vec<u8>]) -> Vec<Vec<u8>> {
    H264.packetise(units)
}

/// SPS (constrained baseline, level 3.1) and PPS of a picture size; both a multiple of 2.
pub fn parameter_sets(width: u32, height: u32) -> [Vec<u8>; 2] {
    let (columns, rows) = (width.div_ceil(16), height.div_ceil(16));
    let mut bits = Bits::default();
    for value in [0, 0, 2, 1] {
        bits.golomb(value); // seq_parameter_set_id, log2_max_frame_num − 4, pic_order_cnt_type, max_num_ref_frames
    }
    bits.bit(false); // gaps_in_frame_num_value_allowed_flag
    bits.golomb(columns - 1);
    bits.golomb(rows - 1);
    bits.bit(true); // frame_mbs_only_flag
    bits.bit(true); // direct_8x8_inference_flag
    let (right, bottom) = (columns * 16 - width, rows * 16 - height);
    bits.bit(right + bottom > 0);
    if right + bottom > 0 {
        for value in [0, right / 2, 0, bottom / 2] {
            bits.golomb(value);
        }
    }
    bits.bit(false); // vui_parameters_present_flag
    bits.bit(true); // rbsp_stop_one_bit
    let sps = [vec![0x67, 0x42, 0xe0, 0x1f], bits.bytes].concat();
    [sps, vec![0x68, 0xce, 0x3c, 0x80]]
}

/// The payloads of a picture of about `bytes` bytes that no decoder can show: right in its NAL units, with
/// `number` inside, noise otherwise. A keyframe begins with its parameter sets.
pub fn synthetic_h264(keyframe: bool, number: u32, size: (u32, u32), bytes: usize) -> Vec<Vec<u8>> {
    let header: [u8; 4] = if keyframe { [0x65, 0x88, 0x84, 0x55] } else { [0x41, 0x9a, 0x22, 0x55] };
    let mut slice = [&header[..], format!("{number:08x}").as_bytes()].concat();
    // No zero among them, so no start code either.
    slice.extend((slice.len()..bytes.max(slice.len() + 1)).map(|index| (index % 251) as u8 | 1));
    let mut units = if keyframe { parameter_sets(size.0, size.1).to_vec() } else { Vec::new() };
    units.push(slice);
    packetise_h264(&units)
}

/// The access units of an Annex B file (`ffmpeg … -f h264`), each as its NAL units without delimiters.
pub fn units_of_h264_file(file: &Path) -> Vec<Vec<Vec<u8>>> {
    H264.of_file(file)
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn bit(&mut self, bit: bool) {
        if self.used.is_multiple_of(8) {
            self.bytes.push(0);
        }
        let shift = 7 - self.used % 8;
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << shift;
        }
        self.used += 1;
    }

    /// ue(v), H.264 §9.1.
    fn golomb(&mut self, value: u32) {
        let code = value + 1;
        let length = 32 - code.leading_zeros();
        (1..length).for_each(|_| self.bit(false));
        (0..length).rev().for_each(|shift| self.bit(code >> shift & 1 == 1));
    }
}
