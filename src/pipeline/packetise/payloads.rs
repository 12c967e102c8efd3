//! The payloads of one frame while they are made: shared pieces of the frame, and what is written anew.

use bytes::{Bytes, BytesMut};
use std::ops::Range;

/// Payloads in order. What is written anew lies in one allocation.
#[derive(Debug)]
pub(super) struct Payloads {
    list: Vec<Payload>,
    written: BytesMut,
    /// Where the payload that is being written begins.
    start: usize,
}

#[derive(Debug)]
enum Payload {
    Shared(Bytes),
    Written(Range<usize>),
}

impl Payloads {
    /// For a frame of so many bytes.
    pub(super) fn new(size: usize) -> Self {
        let count = size / super::MAX_PAYLOAD + 2;
        // Headers of fragments and of aggregated units, a few bytes each.
        let written = BytesMut::with_capacity(size + 8 * count);
        Self { list: Vec::with_capacity(count), written, start: 0 }
    }

    /// A payload that is a piece of the frame.
    pub(super) fn share(&mut self, payload: Bytes) {
        self.list.push(Payload::Shared(payload));
    }

    /// Adds to the payload that is being written.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.written.extend_from_slice(bytes);
    }

    /// Bytes of the payload that is being written.
    pub(super) fn pending(&self) -> usize {
        self.written.len() - self.start
    }

    /// The first byte of the payload that is being written.
    pub(super) fn first_byte(&mut self) -> Option<&mut u8> {
        self.written.get_mut(self.start)
    }

    /// The payload that is being written is complete.
    pub(super) fn complete(&mut self) {
        let end = self.written.len();
        if end > self.start {
            self.list.push(Payload::Written(self.start..end));
            self.start = end;
        }
    }

    pub(super) fn finish(mut self) -> Vec<Bytes> {
        self.complete();
        let written = self.written.freeze();
        let payload = |payload| match payload {
            Payload::Shared(bytes) => bytes,
            Payload::Written(range) => written.slice(range),
        };
        self.list.into_iter().map(payload).collect()
    }
}

/// The sizes of the fragments of `length` bytes, each at most `most`: as equal as can be, since packets of
/// one size are sent together.
pub(super) fn even(length: usize, most: usize) -> impl Iterator<Item = usize> {
    let count = length.div_ceil(most).max(1);
    let (size, larger) = (length / count, length % count);
    // The smaller ones last.
    (0..count).map(move |index| size + usize::from(index < larger))
}
