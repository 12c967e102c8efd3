//! Chunk headers (RTMP 1.0 §5.3.1): basic header, message header, extended timestamp.

use super::EXTENDED;

/// One header as it stands on the wire. What a format leaves out is `None`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// 0 to 3.
    pub(super) format: u8,
    /// The chunk stream.
    pub(super) id: u32,
    /// Format 0: the timestamp; formats 1 and 2: the distance to the last one.
    pub(super) timestamp: Option<u32>,
    /// Whether `timestamp` came in the extended field.
    pub(super) is_extended: bool,
    /// Length and type of the message.
    pub(super) message: Option<(usize, u8)>,
    /// The message stream.
    pub(super) stream: Option<u32>,
    /// Bytes of all this, without the extended timestamp that may follow format 3.
    pub(super) size: usize,
}

impl Header {
    /// Reads the header at the start of `input`; `None` until all of it is there.
    pub(super) fn parse(input: &[u8]) -> Option<Self> {
        let first = *input.first()?;
        // §5.3.1.1: ids of one, two and three bytes.
        let (id, basic) = match first & 0x3f {
            0 => (64 + u32::from(*input.get(1)?), 2),
            1 => (64 + u32::from(*input.get(1)?) + 256 * u32::from(*input.get(2)?), 3),
            id => (u32::from(id), 1),
        };
        let format = first >> 6;
        let length = [11, 7, 3, 0][usize::from(format)];
        let fields = input.get(basic..basic + length)?;
        let mut header = Self {
            format,
            id,
            timestamp: None,
            is_extended: false,
            message: None,
            stream: None,
            size: basic + length,
        };
        if format < 3 {
            let mut timestamp = u24(&fields[..3]);
            if timestamp == EXTENDED {
                let field: [u8; 4] = *input.get(header.size..)?.first_chunk()?;
                timestamp = u32::from_be_bytes(field);
                header.is_extended = true;
                header.size += 4;
            }
            header.timestamp = Some(timestamp);
        }
        if format < 2 {
            header.message = Some((u24(&fields[3..6]) as usize, fields[6]));
        }
        if format == 0 {
            header.stream = Some(u32::from_le_bytes([fields[7], fields[8], fields[9], fields[10]]));
        }
        Some(header)
    }
}

fn u24(field: &[u8]) -> u32 {
    field.iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
}
