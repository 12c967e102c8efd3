//! RTP headers as publishers send them (RFC 3550 §5.1, RFC 8285): read in place, nothing copied.

use std::ops::Range;

/// Profile of one-byte header extensions.
const ONE_BYTE: u16 = 0xbede;

/// The fields of a header that count here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) marker: bool,
    pub(super) payload_type: u8,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) ssrc: u32,
    /// The last byte of the (decrypted) payload counts bytes of padding.
    pub(super) padded: bool,
    /// Bytes of the header: where the payload begins.
    pub(super) length: usize,
    profile: u16,
    extensions: Range<usize>,
}

impl Header {
    /// Reads the header of a packet. `None`: it is none.
    pub(super) fn parse(data: &[u8]) -> Option<Self> {
        let fixed: &[u8; 12] = data.first_chunk()?;
        let word = |at: usize| u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
        if fixed[0] >> 6 != 2 {
            return None;
        }
        let mut length = 12 + 4 * usize::from(fixed[0] & 0x0f);
        let (mut profile, mut extensions) = (0, length..length);
        if fixed[0] & 0x10 != 0 {
            let head = data.get(length..length + 4)?;
            profile = u16::from_be_bytes([head[0], head[1]]);
            let end = length + 4 + 4 * usize::from(u16::from_be_bytes([head[2], head[3]]));
            extensions = length + 4..end;
            length = end;
        }
        (data.len() >= length).then_some(Self {
            marker: fixed[1] & 0x80 != 0,
            payload_type: fixed[1] & 0x7f,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: word(4),
            ssrc: word(8),
            padded: fixed[0] & 0x20 != 0,
            length,
            profile,
            extensions,
        })
    }

    /// The header extensions of the packet that this header was read from: ids and values.
    pub(super) fn extensions<'a>(&self, data: &'a [u8]) -> Extensions<'a> {
        let two_bytes = self.profile & 0xfff0 == 0x1000;
        let known = two_bytes || self.profile == ONE_BYTE;
        let rest = if known { data.get(self.extensions.clone()).unwrap_or_default() } else { &[] };
        Extensions { rest, two_bytes }
    }

    /// The payload without padding (RFC 3550 §5.1) of a packet whose payload ends at `end`. `None`: the count is
    /// impossible.
    pub(super) fn payload<'a>(&self, data: &'a [u8], end: usize) -> Option<&'a [u8]> {
        let payload = data.get(self.length..end)?;
        if !self.padded {
            return Some(payload);
        }
        let padding = usize::from(*payload.last()?);
        if padding == 0 { None } else { payload.get(..payload.len().checked_sub(padding)?) }
    }
}

/// Header extensions, one by one; it ends at the first that doesn't fit.
pub(super) struct Extensions<'a> {
    rest: &'a [u8],
    two_bytes: bool,
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (first, rest) = self.rest.split_first()?;
            if *first == 0 {
                self.rest = rest; // padding between extensions
                continue;
            }
            let (id, length, rest) = if self.two_bytes {
                let (length, rest) = rest.split_first()?;
                (*first, usize::from(*length), rest)
            } else {
                (first >> 4, usize::from(first & 0x0f) + 1, rest)
            };
            if !self.two_bytes && id == 15 {
                self.rest = &[]; // RFC 8285 §4.2: reserved, reading stops
                return None;
            }
            let (value, rest) = rest.split_at_checked(length)?;
            self.rest = rest;
            return Some((id, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc::shared::marshal::Marshal;

    fn packet(profile: u16, extensions: &[(u8, &[u8])]) -> Vec<u8> {
        let mut header = rtc::rtp::Header {
            version: 2,
            marker: true,
            payload_type: 96,
            sequence_number: 65_535,
            timestamp: 0x0102_0304,
            ssrc: 0xdead_beef,
            csrc: vec![7, 8],
            extension: true,
            extension_profile: profile,
            ..Default::default()
        };
        for (id, value) in extensions {
            header.set_extension(*id, bytes::Bytes::copy_from_slice(value)).expect("fits");
        }
        let packet = rtc::rtp::Packet { header, payload: bytes::Bytes::from_static(b"media") };
        packet.marshal().expect("marshalled").to_vec()
    }

    #[test]
    fn headers_with_extensions_of_both_forms_are_read() {
        let long = [7; 20];
        let one_byte: [(u8, &[u8]); 2] = [(1, b"a"), (14, &long[..16])];
        let two_bytes: [(u8, &[u8]); 2] = [(1, b"ab"), (200, &long)];
        for (profile, extensions) in [(0xbede, &one_byte), (0x1000, &two_bytes)] {
            let data = packet(profile, extensions);
            let header = Header::parse(&data).expect("a header");
            let fields = (header.marker, header.payload_type, header.sequence, header.timestamp, header.ssrc);
            assert_eq!(fields, (true, 96, 65_535, 0x0102_0304, 0xdead_beef));
            assert_eq!(header.extensions(&data).collect::<Vec<_>>(), *extensions, "{profile:#x}");
            assert_eq!(header.payload(&data, data.len()), Some(&b"media"[..]));
            for length in 0..data.len() - 5 {
                assert_eq!(Header::parse(&data[..length]), None, "cut at {length}");
            }
        }
    }

    #[test]
    fn broken_extensions_end_the_reading() {
        let mut data = packet(0xbede, &[(1, b"abc"), (2, b"d")]);
        let at = 12 + 8 + 4;
        let read = |data: &[u8]| -> Vec<u8> {
            let header = Header::parse(data).expect("a header");
            header.extensions(data).map(|(id, _)| id).collect()
        };
        assert_eq!(read(&data), [1, 2]);
        data[at + 4] = 0x2f; // longer than what is there
        assert_eq!(read(&data), [1]);
        data[at] = 0xf2; // reserved
        assert!(read(&data).is_empty());
        data[12 + 8] = 0; // an unknown profile
        assert!(read(&data).is_empty());
        data[12 + 8 + 2] = 0xff; // longer than the packet
        assert_eq!(Header::parse(&data), None);
        assert_eq!(Header::parse(&[0x40; 20]), None, "another version");
    }

    #[test]
    fn padding_is_cut_off() {
        let mut data = vec![0xa0, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 9, 9, 0, 2];
        let payload = |data: &[u8]| Header::parse(data)?.payload(data, data.len()).map(<[u8]>::to_vec);
        assert_eq!(payload(&data), Some(vec![9, 9]));
        data[15] = 4;
        assert_eq!(payload(&data), Some(vec![]), "nothing but padding");
        data[15] = 5;
        assert_eq!(payload(&data), None);
        data[15] = 0;
        assert_eq!(payload(&data), None);
        assert_eq!(payload(&data[..12]), None, "no byte that counts");
    }
}
