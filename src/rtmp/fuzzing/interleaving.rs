//! A sender of chunks that makes use of everything RTMP 1.0 §5.3 allows, driven by a fuzzer's bytes: chunk streams of
//! each width taking turns, all header formats, extended timestamps, any chunk size.

use super::read;
use crate::media::fuzzing::Input;
use crate::rtmp::chunk::{Limits, Message, kind};
use bytes::Bytes;

/// Chunk streams whose basic headers have one, two and three bytes.
const IDS: [u32; 8] = [3, 6, 63, 64, 319, 320, 511, 65_599];
/// Messages of one input; bounds what it costs.
const MESSAGES: usize = 60;

/// What a legal sender wrote is read as it was meant, in the order in which the messages became complete.
pub fn interleaving(data: &[u8]) {
    let mut input = Input(data);
    let size = [1, 7, 128, 4096][input.number::<1>() as usize % 4];
    let mut wire = vec![2, 0, 0, 0, 0, 0, 4, kind::SET_CHUNK_SIZE, 0, 0, 0, 0];
    wire.extend_from_slice(&(size as u32).to_be_bytes());
    let mut senders = IDS.map(Sender::new);
    let (mut sent, mut begun) = (Vec::new(), 0);
    while !input.0.is_empty() && begun < MESSAGES {
        let turn = input.number::<1>() as usize;
        let sender = &mut senders[turn % IDS.len()];
        if sender.rest.is_none() {
            sender.begin(turn >> 3, &mut input, &mut wire);
            begun += 1;
        } else {
            sender.header(3, &mut wire);
        }
        sent.extend(sender.payload(size, &mut wire));
    }
    for sender in &mut senders {
        while sender.rest.is_some() {
            sender.header(3, &mut wire);
            sent.extend(sender.payload(size, &mut wire));
        }
    }
    let pieces = wire.chunks(1 + data.len() % 97);
    assert_eq!(read(Limits::MEDIA, pieces), (sent, None));
}

/// One chunk stream.
struct Sender {
    id: u32,
    message: Message,
    /// What the last header with a timestamp field had there.
    field: u32,
    /// A header of format 0 was sent.
    known: bool,
    /// What of the message is still to be sent; `None` between messages.
    rest: Option<Bytes>,
}

impl Sender {
    fn new(id: u32) -> Self {
        let message = Message { kind: kind::AUDIO, stream: 0, timestamp: 0, data: Bytes::new() };
        Self { id, message, field: 0, known: false, rest: None }
    }

    /// Writes the header of a new message, of a format that is legal now.
    fn begin(&mut self, wish: usize, input: &mut Input<'_>, wire: &mut Vec<u8>) {
        let format = if self.known { wish as u8 % 4 } else { 0 };
        if format < 3 {
            // Around the border of the extended timestamp as often as not.
            let field = input.number::<2>() as u32;
            self.field = match field & 3 {
                0 => field,
                1 => 0xff_ff00 + (field >> 7),
                _ => (field as u16).rotate_left(3) as u32 * 65_537,
            };
        }
        if format < 2 {
            let length = input.number::<2>() as usize % 300;
            self.message.kind = [kind::AUDIO, kind::VIDEO, kind::DATA, kind::COMMAND][length % 4];
            self.message.data = vec![self.id as u8; length].into();
        }
        if format == 0 {
            self.message.stream = self.field ^ 0x0102_0304;
            self.message.timestamp = self.field;
        } else {
            self.message.timestamp = self.message.timestamp.wrapping_add(self.field);
        }
        self.known = true;
        self.rest = Some(self.message.data.clone());
        self.header(format, wire);
    }

    fn header(&self, format: u8, wire: &mut Vec<u8>) {
        let first = format << 6;
        match self.id {
            2..=63 => wire.push(first | self.id as u8),
            64..=319 => wire.extend([first, (self.id - 64) as u8]),
            _ => wire.extend([first | 1, (self.id - 64) as u8, ((self.id - 64) >> 8) as u8]),
        }
        if format < 3 {
            wire.extend(&self.field.min(0xff_ffff).to_be_bytes()[1..]);
        }
        if format < 2 {
            wire.extend(&(self.message.data.len() as u32).to_be_bytes()[1..]);
            wire.push(self.message.kind);
        }
        if format == 0 {
            wire.extend(self.message.stream.to_le_bytes());
        }
        if self.field >= 0xff_ffff {
            wire.extend(self.field.to_be_bytes());
        }
    }

    /// Writes the payload of one chunk; the message, if that was the last.
    fn payload(&mut self, size: usize, wire: &mut Vec<u8>) -> Option<Message> {
        let mut rest = self.rest.take()?;
        wire.extend(rest.split_to(size.min(rest.len())));
        if rest.is_empty() {
            return Some(self.message.clone());
        }
        self.rest = Some(rest);
        None
    }
}
