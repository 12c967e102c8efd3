//! What H.264 (RFC 6184) and H.265 (RFC 7798) share for tests: NAL units of a file, and their way into RTP
//! payloads.

use std::path::Path;

/// Bytes of a payload at most.
pub(super) const PAYLOAD: usize = 1200;

/// What one of the two codecs is like.
pub(super) struct NalUnits {
    /// Bytes of a unit's header.
    pub(super) header: usize,
    /// The type of a unit.
    pub(super) kind: fn(&[u8]) -> u8,
    pub(super) is_slice: fn(u8) -> bool,
    pub(super) is_parameter_set: fn(u8) -> bool,
    /// The type of access unit delimiters.
    pub(super) delimiter: u8,
    /// The payload header of a packet with several units.
    pub(super) aggregation: &'static [u8],
    /// The headers of a fragment of a unit, with these bits for start and end.
    pub(super) fragment: fn(&[u8], u8) -> Vec<u8>,
}

impl NalUnits {
    /// The access units of an Annex B file of ffmpeg's, each as its NAL units without delimiters.
    pub(super) fn of_file(&self, file: &Path) -> Vec<Vec<Vec<u8>>> {
        let data = std::fs::read(file).expect("the file can be read");
        let mut units: Vec<Vec<Vec<u8>>> = Vec::new();
        let mut pending = Vec::new();
        for unit in split_annex_b(&data) {
            let kind = (self.kind)(unit);
            if !(self.is_slice)(kind) {
                if kind != self.delimiter {
                    pending.push(unit.to_vec());
                }
                continue;
            }
            // first_mb_in_slice is 0, or first_slice_segment_in_pic_flag: a new picture.
            if unit.get(self.header).is_some_and(|byte| byte & 0x80 != 0) {
                units.push(std::mem::take(&mut pending));
            }
            units.last_mut().expect("slices follow a first one").push(unit.to_vec());
        }
        units
    }

    /// RTP payloads of one access unit: parameter sets together in one packet, large units in fragments.
    pub(super) fn packetise(&self, units: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut payloads = Vec::new();
        let (sets, rest): (Vec<_>, Vec<_>) =
            units.iter().partition(|unit| (self.is_parameter_set)((self.kind)(unit)));
        if !sets.is_empty() {
            let mut payload = self.aggregation.to_vec();
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
            let chunks: Vec<_> = unit[self.header..].chunks(PAYLOAD - self.header - 1).collect();
            for (index, chunk) in chunks.iter().enumerate() {
                let start = u8::from(index == 0) << 7;
                let end = u8::from(index + 1 == chunks.len()) << 6;
                payloads.push([(self.fragment)(unit, start | end), chunk.to_vec()].concat());
            }
        }
        payloads
    }
}

/// The NAL units of an Annex B stream.
fn split_annex_b(data: &[u8]) -> Vec<&[u8]> {
    let mut starts: Vec<usize> = Vec::new();
    for (index, window) in data.windows(3).enumerate() {
        if window == [0, 0, 1] {
            starts.push(index + 3);
        }
    }
    let end = |index: usize| starts.get(index + 1).map_or(data.len(), |next| next - 3);
    let units = starts.iter().enumerate().map(|(index, start)| &data[*start..end(index)]);
    units.map(without_trailing_zeros).filter(|unit| !unit.is_empty()).collect()
}

fn without_trailing_zeros(unit: &[u8]) -> &[u8] {
    let length = unit.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &unit[..length]
}
