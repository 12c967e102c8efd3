//! From chunks to messages.
//!
//! Each chunk stream is assembled apart, so interleaved messages are no problem. Holds no more memory
//! than its [`Limits`] say, whatever lengths the peer declares. Obeys Set Chunk Size and Abort, because
//! they change how later bytes are read, and hands everything else out.

use super::{EXTENDED, Message, control_number, kind};
use bytes::{Buf, BytesMut};

/// A message can't be longer than this, so no larger chunk size makes a difference (§5.4.1).
const LARGEST_CHUNK: u32 = 0xff_ffff;
/// What is reserved for a message before its bytes arrive.
const FIRST_RESERVATION: usize = 64 * 1024;

/// Turns bytes into messages.
#[derive(Debug)]
pub struct ChunkReader {
    input: BytesMut,
    streams: Vec<ChunkStream>,
    /// The chunk whose payload is being read: index into `streams`, bytes to come.
    current: Option<(usize, usize)>,
    chunk_size: usize,
    limits: Limits,
    buffered: usize,
    received: u64,
}

/// How much a peer may make us hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one message.
    pub message: usize,
    /// Bytes of unfinished messages on all chunk streams.
    pub buffered: usize,
    /// Chunk streams.
    pub chunk_streams: usize,
}

impl Limits {
    /// For a peer that may not send media yet.
    pub const COMMANDS: Self = Self { message: 64 << 10, buffered: 256 << 10, chunk_streams: 64 };
    /// For a publisher.
    pub const MEDIA: Self = Self { message: 8 << 20, buffered: 16 << 20, chunk_streams: 64 };
}

/// Why a chunk stream can't be read on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("a message of {length} bytes, {limit} are allowed")]
    MessageTooLong { length: usize, limit: usize },
    #[error("more than {0} bytes of unfinished messages")]
    TooMuchBuffered(usize),
    #[error("more than {0} chunk streams")]
    TooManyChunkStreams(usize),
    #[error("a chunk refers to an earlier one on chunk stream {0}, but there is none")]
    NoEarlierChunk(u32),
    #[error("a new message begins on chunk stream {0} before the last one is complete")]
    Interrupted(u32),
    #[error("a control message of {0} bytes is too short")]
    ShortControl(usize),
}

#[derive(Debug)]
struct ChunkStream {
    id: u32,
    timestamp: u32,
    delta: u32,
    /// The value of the extended timestamp field of the last header, if it had one.
    extended: Option<u32>,
    length: usize,
    kind: u8,
    stream: u32,
    partial: BytesMut,
    in_message: bool,
}

impl ChunkReader {
    pub fn new(limits: Limits) -> Self {
        Self {
            input: BytesMut::new(),
            streams: Vec::new(),
            current: None,
            chunk_size: 128,
            limits,
            buffered: 0,
            received: 0,
        }
    }

    /// From now on these limits hold.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Where bytes from the peer are appended. Call [`Self::next_message`] until it gives `None` after that.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Bytes consumed so far, for Acknowledgement messages (§5.4.3).
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The next whole message, or `None` until more bytes come.
    pub fn next_message(&mut self) -> Result<Option<Message>, ChunkError> {
        loop {
            let (index, left) = match self.current {
                Some(current) => current,
                None => match self.begin_chunk()? {
                    Some(current) => current,
                    None => return Ok(None),
                },
            };
            let take = left.min(self.input.len());
            let stream = &mut self.streams[index];
            stream.partial.extend_from_slice(&self.input[..take]);
            self.input.advance(take);
            self.received += take as u64;
            self.buffered += take;
            if take < left {
                self.current = Some((index, left - take));
                return Ok(None);
            }
            self.current = None;
            if stream.partial.len() < stream.length {
                continue;
            }
            stream.in_message = false;
            self.buffered -= stream.partial.len();
            let message = Message {
                kind: stream.kind,
                stream: stream.stream,
                timestamp: stream.timestamp,
                data: std::mem::take(&mut stream.partial).freeze(),
            };
            match message.kind {
                kind::SET_CHUNK_SIZE => {
                    // §5.4.1: 31 bits; zero would never end.
                    let size = control_number(&message.data)? & 0x7fff_ffff;
                    self.chunk_size = size.clamp(1, LARGEST_CHUNK) as usize;
                }
                kind::ABORT => self.abort(control_number(&message.data)?),
                _ => return Ok(Some(message)),
            }
        }
    }

    /// Reads a chunk header, if all of it is there, and says whose payload follows and how much.
    fn begin_chunk(&mut self) -> Result<Option<(usize, usize)>, ChunkError> {
        let Some(header) = BasicHeader::parse(&self.input) else { return Ok(None) };
        let known = self.streams.iter().position(|stream| stream.id == header.id);
        let message_header = [11, 7, 3, 0][usize::from(header.format)];
        let Some(fields) = self.input.get(header.length..header.length + message_header) else {
            return Ok(None);
        };
        let mut size = header.length + message_header;
        let (mut timestamp, mut extended) = (0, None);
        if header.format < 3 {
            timestamp = u24(&fields[..3]);
            if timestamp == EXTENDED {
                let Some(field) = self.input.get(size..size + 4) else { return Ok(None) };
                timestamp = u32::from_be_bytes([field[0], field[1], field[2], field[3]]);
                extended = Some(timestamp);
                size += 4;
            }
        }
        let index = match known {
            Some(index) => index,
            // A format 1 header on a new chunk stream lacks only the message stream: librtmp sends that.
            None if header.format > 1 => return Err(ChunkError::NoEarlierChunk(header.id)),
            None if self.streams.len() >= self.limits.chunk_streams => {
                return Err(ChunkError::TooManyChunkStreams(self.limits.chunk_streams));
            }
            None => {
                self.streams.push(ChunkStream::new(header.id));
                self.streams.len() - 1
            }
        };
        let stream = &mut self.streams[index];
        if header.format < 3 && stream.in_message {
            return Err(ChunkError::Interrupted(header.id));
        }
        if header.format == 3
            && let Some(value) = stream.extended
        {
            // §5.3.1.3: a format 3 chunk repeats the extended timestamp. Some senders leave it out, so
            // it is one only if it has the same value.
            let value = value.to_be_bytes();
            let there = &self.input[size..self.input.len().min(size + 4)];
            if there == value {
                size += 4;
            } else if value.starts_with(there) {
                return Ok(None);
            }
        }
        if header.format < 2 {
            stream.length = u24(&fields[3..6]) as usize;
            stream.kind = fields[6];
        }
        if header.format == 0 {
            stream.stream = u32::from_le_bytes([fields[7], fields[8], fields[9], fields[10]]);
        }
        if header.format < 3 {
            stream.extended = extended;
            stream.delta = timestamp;
        }
        if !stream.in_message {
            if stream.length > self.limits.message {
                return Err(ChunkError::MessageTooLong { length: stream.length, limit: self.limits.message });
            }
            // §5.3.1.2.4: a new message with a format 3 header repeats the last delta, or the timestamp
            // of a format 0 header.
            stream.timestamp = match header.format {
                0 => timestamp,
                _ => stream.timestamp.wrapping_add(stream.delta),
            };
            stream.in_message = true;
            stream.partial.reserve(stream.length.min(FIRST_RESERVATION));
        }
        let left = (stream.length - stream.partial.len()).min(self.chunk_size);
        if self.buffered + left > self.limits.buffered {
            return Err(ChunkError::TooMuchBuffered(self.limits.buffered));
        }
        self.input.advance(size);
        self.received += size as u64;
        Ok(Some((index, left)))
    }

    /// §5.4.2: the rest of the unfinished message on chunk stream `id` won't come.
    fn abort(&mut self, id: u32) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) {
            self.buffered -= stream.partial.len();
            stream.partial = BytesMut::new();
            stream.in_message = false;
        }
    }
}

impl ChunkStream {
    fn new(id: u32) -> Self {
        Self {
            id,
            timestamp: 0,
            delta: 0,
            extended: None,
            length: 0,
            kind: 0,
            stream: 0,
            partial: BytesMut::new(),
            in_message: false,
        }
    }
}

/// §5.3.1.1.
struct BasicHeader {
    format: u8,
    id: u32,
    length: usize,
}

impl BasicHeader {
    fn parse(input: &[u8]) -> Option<Self> {
        let first = *input.first()?;
        let (id, length) = match first & 0x3f {
            0 => (64 + u32::from(*input.get(1)?), 2),
            1 => (64 + u32::from(*input.get(1)?) + 256 * u32::from(*input.get(2)?), 3),
            id => (u32::from(id), 1),
        };
        Some(Self { format: first >> 6, id, length })
    }
}

fn u24(field: &[u8]) -> u32 {
    field.iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::super::ChunkWriter;
    use super::*;
    use bytes::BufMut;

    fn read_all(reader: &mut ChunkReader, bytes: &[u8]) -> Result<Vec<Message>, ChunkError> {
        let mut messages = Vec::new();
        // Byte by byte: no boundary of reads may matter.
        for byte in bytes {
            reader.input().put_u8(*byte);
            while let Some(message) = reader.next_message()? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    fn reader() -> ChunkReader {
        ChunkReader::new(Limits::MEDIA)
    }

    fn header(format: u8, id: u8, timestamp: u32, length: usize, kind: u8) -> Vec<u8> {
        let mut bytes = vec![format << 6 | id];
        if format < 3 {
            bytes.extend_from_slice(&timestamp.to_be_bytes()[1..]);
        }
        if format < 2 {
            bytes.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
            bytes.push(kind);
        }
        if format == 0 {
            bytes.extend_from_slice(&1u32.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn what_is_written_is_read_at_each_chunk_size_and_timestamp() {
        for size in [1, 127, 128, 4096, 65_536] {
            for timestamp in [0, 1, 0xff_fffe, 0xff_ffff, 0x100_0000, u32::MAX] {
                let mut writer = ChunkWriter::new();
                writer.set_chunk_size(size);
                let payload: Vec<u8> = (0..1000u32).map(|n| n as u8).collect();
                writer.write(6, kind::VIDEO, 1, timestamp, &[&payload[..5], &payload[5..]]);
                writer.write(4, kind::AUDIO, 1, timestamp, &[&payload[..2]]);
                let messages = read_all(&mut reader(), writer.output()).expect("legal");
                assert_eq!(messages.len(), 2);
                assert_eq!(messages[0].data, payload);
                assert_eq!((messages[0].timestamp, messages[0].kind), (timestamp, kind::VIDEO));
                assert_eq!((messages[1].timestamp, messages[1].data.len()), (timestamp, 2));
            }
        }
    }

    #[test]
    fn audio_may_be_interleaved_with_the_chunks_of_a_video_message() {
        let mut bytes = header(0, 6, 10, 300, kind::VIDEO);
        bytes.extend([1; 128]);
        bytes.extend(header(0, 4, 11, 200, kind::AUDIO));
        bytes.extend([7; 128]);
        bytes.extend(header(3, 6, 0, 0, 0));
        bytes.extend([2; 128]);
        bytes.extend(header(3, 4, 0, 0, 0));
        bytes.extend([8; 72]);
        bytes.extend(header(3, 6, 0, 0, 0));
        bytes.extend([3; 44]);
        let messages = read_all(&mut reader(), &bytes).expect("legal");
        let expected: Vec<u8> = [[1; 128].as_slice(), &[2; 128], &[3; 44]].concat();
        assert_eq!(messages[0].data, [[7; 128].as_slice(), &[8; 72]].concat());
        assert_eq!(messages[1].data, expected);
    }

    #[test]
    fn chunk_stream_ids_have_one_two_or_three_bytes() {
        let tail = &header(0, 0, 5, 1, kind::AUDIO)[1..];
        for id in [&[63][..], &[0, 0], &[0, 255], &[1, 255, 255], &[1, 0, 1]] {
            let bytes = [id, tail, &[9]].concat();
            let messages = read_all(&mut reader(), &bytes).expect("legal");
            assert_eq!(messages[0].data, [9].as_slice(), "{id:?}");
        }
    }

    #[test]
    fn format_three_chunks_may_leave_the_extended_timestamp_out() {
        for repeated in [true, false] {
            let mut bytes = header(0, 6, EXTENDED, 200, kind::VIDEO);
            bytes.extend(0x0123_4567u32.to_be_bytes());
            bytes.extend([1; 128]);
            bytes.push(0xc6);
            if repeated {
                bytes.extend(0x0123_4567u32.to_be_bytes());
            }
            bytes.extend([2; 72]);
            let messages = read_all(&mut reader(), &bytes).expect("legal");
            assert_eq!(messages[0].timestamp, 0x0123_4567);
            assert_eq!(messages[0].data, [[1; 128].as_slice(), &[2; 72]].concat());
        }
    }

    #[test]
    fn deltas_add_up_across_the_24_and_the_32_bit_borders() {
        let mut bytes = header(0, 6, EXTENDED - 10, 1, kind::VIDEO);
        bytes.push(0);
        bytes.extend(header(1, 6, 20, 1, kind::VIDEO));
        bytes.push(0);
        bytes.extend(header(2, 6, 40, 0, 0));
        bytes.push(0);
        bytes.extend(header(3, 6, 0, 0, 0));
        bytes.push(0);
        let messages = read_all(&mut reader(), &bytes).expect("legal");
        let times: Vec<_> = messages.iter().map(|message| message.timestamp).collect();
        assert_eq!(times, [EXTENDED - 10, EXTENDED + 10, EXTENDED + 50, EXTENDED + 90]);
        let mut bytes = header(0, 6, EXTENDED, 1, kind::VIDEO);
        bytes.extend((u32::MAX - 5).to_be_bytes());
        bytes.push(0);
        bytes.extend(header(2, 6, 40, 0, 0));
        bytes.push(0);
        let messages = read_all(&mut reader(), &bytes).expect("legal");
        assert_eq!(messages[1].timestamp, 34);
    }

    #[test]
    fn abort_drops_the_unfinished_message() {
        let mut bytes = header(0, 6, 0, 300, kind::VIDEO);
        bytes.extend([1; 128]);
        bytes.extend(header(0, 2, 0, 4, kind::ABORT));
        bytes.extend(6u32.to_be_bytes());
        bytes.extend(header(0, 6, 0, 2, kind::VIDEO));
        bytes.extend([4, 4]);
        let mut reader = reader();
        let messages = read_all(&mut reader, &bytes).expect("legal");
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].data, [4, 4].as_slice());
        assert_eq!(reader.buffered, 0);
        assert_eq!(reader.received(), bytes.len() as u64);
    }

    #[test]
    fn a_chunk_size_of_zero_counts_as_one() {
        let mut bytes = header(0, 2, 0, 4, kind::SET_CHUNK_SIZE);
        bytes.extend([0; 4]);
        bytes.extend(header(0, 4, 0, 2, kind::AUDIO));
        bytes.extend([1, 0xc4, 2]);
        assert_eq!(read_all(&mut reader(), &bytes).expect("legal")[0].data, [1, 2].as_slice());
    }

    #[test]
    fn each_bound_holds() {
        let commands = || ChunkReader::new(Limits::COMMANDS);
        let error = read_all(&mut commands(), &header(0, 3, 0, 70_000, kind::COMMAND));
        assert_eq!(error, Err(ChunkError::MessageTooLong { length: 70_000, limit: 65_536 }));
        assert_eq!(read_all(&mut commands(), &[0xc5]), Err(ChunkError::NoEarlierChunk(5)));
        let mut interrupted = header(0, 6, 0, 300, kind::VIDEO);
        interrupted.extend([1; 128]);
        interrupted.extend(header(0, 6, 0, 300, kind::VIDEO));
        assert_eq!(read_all(&mut commands(), &interrupted), Err(ChunkError::Interrupted(6)));
        let mut many = Vec::new();
        for id in 0..=64u8 {
            many.extend([0, id]);
            many.extend(&header(0, 0, 0, 0, kind::DATA)[1..]);
        }
        assert_eq!(read_all(&mut commands(), &many), Err(ChunkError::TooManyChunkStreams(64)));
        let mut heap = header(0, 2, 0, 4, kind::SET_CHUNK_SIZE);
        heap.extend(60_000u32.to_be_bytes());
        for id in 3..10 {
            heap.extend(header(0, id, 0, 65_000, kind::VIDEO));
            heap.extend(vec![0; 60_000]);
        }
        assert_eq!(read_all(&mut commands(), &heap), Err(ChunkError::TooMuchBuffered(256 << 10)));
    }

    #[test]
    fn declared_lengths_allocate_nothing() {
        let mut reader = reader();
        for id in 3..63 {
            reader.input().extend_from_slice(&header(0, id, 0, 8 << 20, kind::VIDEO));
            reader.input().extend_from_slice(&[0; 128]);
            assert_eq!(reader.next_message(), Ok(None));
        }
        let held: usize = reader.streams.iter().map(|stream| stream.partial.capacity()).sum();
        assert!(held <= 60 * (FIRST_RESERVATION + 1024), "{held}");
    }

    #[test]
    fn noise_never_panics() {
        let mut state = 1u64;
        for _ in 0..3000 {
            let mut reader = ChunkReader::new(Limits::COMMANDS);
            let noise: Vec<u8> = (0..400)
                .map(|_| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    // Small numbers are likelier to be lengths that end within the noise.
                    let byte = (state >> 56) as u8;
                    if state >> 40 & 3 == 0 { byte } else { byte & 0x83 }
                })
                .collect();
            let _ = read_all(&mut reader, &noise);
        }
    }
}
