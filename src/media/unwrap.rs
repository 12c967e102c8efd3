//! RTP's counters, which wrap, as numbers that don't: timestamps and sequence numbers.

/// Unwraps 32-bit RTP timestamps, which begin anywhere and wrap (RFC 3550 §5.1).
#[derive(Clone, Copy, Debug, Default)]
pub struct TimestampUnwrapper {
    highest: Option<i64>,
}

impl TimestampUnwrapper {
    /// The timestamp without wraps; the first stays as it is. Earlier ones may come later.
    pub fn unwrap(&mut self, timestamp: u32) -> i64 {
        let ticks = self.peek(timestamp);
        self.highest = Some(self.highest.map_or(ticks, |highest| highest.max(ticks)));
        ticks
    }

    /// As [`Self::unwrap`], for a timestamp that is not a packet's.
    pub fn peek(&self, timestamp: u32) -> i64 {
        match self.highest {
            None => i64::from(timestamp),
            Some(highest) => highest + i64::from(timestamp.wrapping_sub(highest as u32) as i32),
        }
    }
}

/// Unwraps 16-bit RTP sequence numbers to 64 bits and knows which were there already.
#[derive(Clone, Debug)]
pub struct SequenceUnwrapper {
    highest: Option<u64>,
    /// One bit for each of the latest sequence numbers, at the number modulo their count.
    seen: [u64; Self::WINDOW as usize / 64],
}

/// What a sequence number turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// Seen for the first time.
    New(u64),
    /// Seen before.
    Duplicate(u64),
    /// So far behind the highest that nobody remembers whether it was seen.
    Stale(u64),
}

impl SequenceUnwrapper {
    /// How far a packet may be behind the highest: more than a second of 30 Mbit/s.
    pub const WINDOW: u64 = 4096;

    /// Unwraps the sequence number of a packet. The first becomes 65 536 and itself, so that what
    /// preceded it has a number too.
    pub fn unwrap(&mut self, sequence: u16) -> Sequence {
        let found = self.peek(sequence);
        if let Sequence::New(extended) = found {
            match self.highest {
                Some(highest) if extended <= highest => {}
                Some(highest) => {
                    self.forget(highest + 1, extended - highest);
                    self.highest = Some(extended);
                }
                None => self.highest = Some(extended),
            }
            self.mark(extended);
        }
        found
    }

    /// As [`Self::unwrap`], without taking note of the packet.
    pub fn peek(&self, sequence: u16) -> Sequence {
        let Some(highest) = self.highest else {
            return Sequence::New((1 << 16) + u64::from(sequence));
        };
        let distance = i64::from(sequence.wrapping_sub(highest as u16) as i16);
        // A stream that runs backwards for ever stays at zero, where all is stale.
        let extended = highest.saturating_add_signed(distance);
        if distance > 0 {
            Sequence::New(extended)
        } else if highest - extended >= Self::WINDOW {
            Sequence::Stale(extended)
        } else if self.is_marked(extended) {
            Sequence::Duplicate(extended)
        } else {
            Sequence::New(extended)
        }
    }

    /// The highest number so far.
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }

    fn mark(&mut self, sequence: u64) {
        let bit = sequence % Self::WINDOW;
        self.seen[(bit / 64) as usize] |= 1 << (bit % 64);
    }

    fn is_marked(&self, sequence: u64) -> bool {
        let bit = sequence % Self::WINDOW;
        self.seen[(bit / 64) as usize] & (1 << (bit % 64)) != 0
    }

    fn forget(&mut self, from: u64, count: u64) {
        if count >= Self::WINDOW {
            self.seen.fill(0);
            return;
        }
        for sequence in from..from + count {
            let bit = sequence % Self::WINDOW;
            self.seen[(bit / 64) as usize] &= !(1 << (bit % 64));
        }
    }
}

impl Default for SequenceUnwrapper {
    fn default() -> Self {
        Self { highest: None, seen: [0; Self::WINDOW as usize / 64] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_unwrap_both_ways() {
        let mut unwrapper = TimestampUnwrapper::default();
        assert_eq!(unwrapper.unwrap(u32::MAX - 1), (1 << 32) - 2);
        assert_eq!(unwrapper.unwrap(3), (1 << 32) + 3);
        assert_eq!(unwrapper.unwrap(u32::MAX), (1 << 32) - 1);
        assert_eq!(unwrapper.unwrap(4), (1 << 32) + 4);
    }

    #[test]
    fn sequence_numbers_unwrap_and_duplicates_are_known() {
        let mut unwrapper = SequenceUnwrapper::default();
        let base = 1 << 16;
        assert_eq!(unwrapper.unwrap(65_534), Sequence::New(base + 65_534));
        assert_eq!(unwrapper.unwrap(1), Sequence::New(base + 65_537));
        assert_eq!(unwrapper.unwrap(65_535), Sequence::New(base + 65_535));
        assert_eq!(unwrapper.unwrap(65_535), Sequence::Duplicate(base + 65_535));
        assert_eq!(unwrapper.unwrap(1), Sequence::Duplicate(base + 65_537));
        assert_eq!(unwrapper.unwrap(0), Sequence::New(base + 65_536));
        assert_eq!(unwrapper.unwrap(60_000), Sequence::Stale(base + 60_000));
        assert_eq!(unwrapper.unwrap(20_000), Sequence::New(2 * base + 20_000));
        assert_eq!(unwrapper.unwrap(19_000), Sequence::New(2 * base + 19_000));
    }

    #[test]
    fn every_sequence_number_is_new_once_over_many_wraps() {
        let mut unwrapper = SequenceUnwrapper::default();
        for sequence in 0..300_000_u64 {
            assert_eq!(unwrapper.unwrap(sequence as u16), Sequence::New((1 << 16) + sequence));
        }
        assert_eq!(unwrapper.unwrap((300_000_u64 - 1) as u16), Sequence::Duplicate((1 << 16) + 299_999));
    }
}
