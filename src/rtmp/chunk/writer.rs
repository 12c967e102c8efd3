//! From messages to chunks.
//!
//! Headers are always complete (format 0): that costs a dozen bytes a frame and nothing can be
//! misread. A payload given in parts is copied once.

use super::{EXTENDED, kind};
use bytes::{BufMut, BytesMut};

/// Turns messages into bytes.
#[derive(Debug)]
pub struct ChunkWriter {
    chunk_size: usize,
    output: BytesMut,
}

impl ChunkWriter {
    pub fn new() -> Self {
        Self { chunk_size: 128, output: BytesMut::new() }
    }

    /// Tells the peer a new chunk size, 1 to 65 536, and uses it from here on.
    pub fn set_chunk_size(&mut self, size: u32) {
        let size = size.clamp(1, 65_536);
        self.write(2, kind::SET_CHUNK_SIZE, 0, 0, &[&size.to_be_bytes()]);
        self.chunk_size = size as usize;
    }

    /// Appends a message, whose payload is the concatenation of `parts`, on chunk stream `id` (2 to 63).
    pub fn write(&mut self, id: u8, kind: u8, stream: u32, timestamp: u32, parts: &[&[u8]]) {
        debug_assert!((2..64).contains(&id));
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let short = timestamp.min(EXTENDED);
        self.output.reserve(16 + length + 5 * (length / self.chunk_size));
        self.output.put_u8(id);
        self.output.put_uint(u64::from(short), 3);
        self.output.put_uint(length as u64, 3);
        self.output.put_u8(kind);
        self.output.put_u32_le(stream);
        if short == EXTENDED {
            self.output.put_u32(timestamp);
        }
        let mut room = self.chunk_size;
        for part in parts {
            let mut part = *part;
            while !part.is_empty() {
                if room == 0 {
                    self.output.put_u8(0xc0 | id);
                    if short == EXTENDED {
                        self.output.put_u32(timestamp);
                    }
                    room = self.chunk_size;
                }
                let (now, later) = part.split_at(room.min(part.len()));
                self.output.put_slice(now);
                room -= now.len();
                part = later;
            }
        }
    }

    /// What is to be sent; the sender advances it.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }
}
