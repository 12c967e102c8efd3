//! The chunk stream of RTMP 1.0 §5.3: messages cut into chunks, and put together again.
//!
//! [`ChunkReader`] assembles each chunk stream apart and within bounds; [`ChunkWriter`] appends whole
//! messages to one contiguous buffer. Neither does I/O.

pub mod aggregate;
mod header;
mod reader;
mod writer;

pub use reader::{ChunkError, ChunkReader, Limits};
pub use writer::ChunkWriter;

use bytes::Bytes;

/// Message types (RTMP 1.0 §5.4 and §7.1).
pub mod kind {
    pub const SET_CHUNK_SIZE: u8 = 1;
    pub const ABORT: u8 = 2;
    pub const ACKNOWLEDGEMENT: u8 = 3;
    pub const USER_CONTROL: u8 = 4;
    pub const WINDOW_SIZE: u8 = 5;
    pub const PEER_BANDWIDTH: u8 = 6;
    pub const AUDIO: u8 = 8;
    pub const VIDEO: u8 = 9;
    pub const DATA_AMF3: u8 = 15;
    pub const COMMAND_AMF3: u8 = 17;
    pub const DATA: u8 = 18;
    pub const COMMAND: u8 = 20;
    pub const AGGREGATE: u8 = 22;
}

/// A 24-bit timestamp field with this value is followed by 32 bits.
const EXTENDED: u32 = 0xff_ffff;

/// One whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// See [`kind`].
    pub kind: u8,
    /// The message stream.
    pub stream: u32,
    /// Milliseconds, modulo 2^32.
    pub timestamp: u32,
    /// The payload.
    pub data: Bytes,
}

/// The first four bytes of a protocol control message.
pub fn control_number(data: &[u8]) -> Result<u32, ChunkError> {
    match data.first_chunk() {
        Some(field) => Ok(u32::from_be_bytes(*field)),
        None => Err(ChunkError::ShortControl(data.len())),
    }
}
