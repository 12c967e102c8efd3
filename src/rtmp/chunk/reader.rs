//! From chunks to messages.
//!
//! Each chunk stream is assembled apart, so interleaved messages are no problem. Holds no more memory
//! than its [`Limits`] say, whatever lengths the peer declares. Obeys Set Chunk Size and Abort, because
//! they change how later bytes are read, and hands everything else out.

use super::header::Header;
use super::{Message, control_number, kind};
use bytes::{Buf, Bytes, BytesMut};

/// A message can't be longer than this, so no larger chunk size makes a difference (§5.4.1).
///
/// Sizes above 65 536 are taken at their word: the sender cuts its chunks that long, whatever we would like,
/// and to count shorter ones would read its payload as headers. A large chunk costs nothing, since what is
/// held is bounded by [`Limits`], not by the chunk.
const LARGEST_CHUNK: u32 = 0xff_ffff;

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
    /// Bytes reserved for a message whose bytes have not arrived.
    pub reservation: usize,
}

impl Limits {
    /// For a peer that may not send media yet.
    pub const COMMANDS: Self =
        Self { message: 64 << 10, buffered: 256 << 10, chunk_streams: 64, reservation: 1 << 10 };
    /// For a publisher.
    pub const MEDIA: Self =
        Self { message: 8 << 20, buffered: 16 << 20, chunk_streams: 64, reservation: 64 << 10 };
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
    partial: Vec<u8>,
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
            stream.take(&self.input[..take]);
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
                data: Bytes::from(std::mem::take(&mut stream.partial)),
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
        let Some(header) = Header::parse(&self.input) else { return Ok(None) };
        let index = self.stream_of(&header)?;
        let stream = &mut self.streams[index];
        if header.format < 3 && stream.in_message {
            return Err(ChunkError::Interrupted(header.id));
        }
        let mut size = header.size;
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
        if let Some((length, kind)) = header.message {
            (stream.length, stream.kind) = (length, kind);
        }
        if let Some(message_stream) = header.stream {
            stream.stream = message_stream;
        }
        if let Some(timestamp) = header.timestamp {
            stream.extended = header.is_extended.then_some(timestamp);
            stream.delta = timestamp;
        }
        if !stream.in_message {
            if stream.length > self.limits.message {
                return Err(ChunkError::MessageTooLong { length: stream.length, limit: self.limits.message });
            }
            // §5.3.1.2.4: a new message with a format 3 header repeats the last delta, or the timestamp
            // of a format 0 header.
            stream.timestamp = match header.format {
                0 => stream.delta,
                _ => stream.timestamp.wrapping_add(stream.delta),
            };
            stream.in_message = true;
            stream.partial.reserve_exact(stream.length.min(self.limits.reservation));
        }
        let left = (stream.length - stream.partial.len()).min(self.chunk_size);
        if self.buffered + left > self.limits.buffered {
            return Err(ChunkError::TooMuchBuffered(self.limits.buffered));
        }
        self.input.advance(size);
        self.received += size as u64;
        Ok(Some((index, left)))
    }

    /// The index of a header's chunk stream, which begins with it if it is new.
    fn stream_of(&mut self, header: &Header) -> Result<usize, ChunkError> {
        if let Some(index) = self.streams.iter().position(|stream| stream.id == header.id) {
            return Ok(index);
        }
        // A format 1 header on a new chunk stream lacks only the message stream: librtmp sends that.
        if header.format > 1 {
            return Err(ChunkError::NoEarlierChunk(header.id));
        }
        if self.streams.len() >= self.limits.chunk_streams {
            return Err(ChunkError::TooManyChunkStreams(self.limits.chunk_streams));
        }
        self.streams.push(ChunkStream::new(header.id));
        Ok(self.streams.len() - 1)
    }

    /// §5.4.2: the rest of the unfinished message on chunk stream `id` won't come.
    fn abort(&mut self, id: u32) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) {
            self.buffered -= stream.partial.len();
            stream.partial = Vec::new();
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
            partial: Vec::new(),
            in_message: false,
        }
    }

    /// Appends payload. Room grows with what has come, never beyond the message: what is kept of media for
    /// minutes has no slack.
    fn take(&mut self, bytes: &[u8]) {
        let room = self.partial.capacity() - self.partial.len();
        if bytes.len() > room {
            let missing = self.length - self.partial.len();
            self.partial.reserve_exact(missing.min(self.partial.len().max(bytes.len())));
        }
        self.partial.extend_from_slice(bytes);
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
