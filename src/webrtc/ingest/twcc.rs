//! When packets arrived, over all tracks, as the publisher's congestion control wants to know it
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).

use std::collections::VecDeque;
use std::time::Instant;

/// Packets whose arrival is remembered: as many may be late and still be told.
const MEMORY: usize = 1024;
/// Packets in one message: it stays below 1200 bytes.
const MAX_PACKETS: u64 = 400;
/// Microseconds of one tick of a delta.
const TICK: i64 = 250;
/// Ticks of one unit of the reference time: 64 ms.
const REFERENCE: i64 = 256;

/// The arrivals of one session's packets.
#[derive(Debug)]
pub(super) struct Arrivals {
    origin: Instant,
    /// Ticks since the origin of the packets from `first` on.
    times: VecDeque<Option<i64>>,
    first: u64,
    /// The first that was not told yet, or came after it had been told to be missing.
    untold: u64,
    /// Messages so far.
    count: u8,
}

impl Arrivals {
    /// Nothing has arrived.
    pub(super) fn new(now: Instant) -> Self {
        Self { origin: now, times: VecDeque::new(), first: 0, untold: 0, count: 0 }
    }

    /// An authentic packet with this transport-wide sequence number arrived.
    pub(super) fn arrived(&mut self, now: Instant, sequence: u16) {
        let ticks = now.saturating_duration_since(self.origin).as_micros() as i64 / TICK;
        if self.times.is_empty() && self.first == 0 {
            // Room for those that were sent before the first.
            self.first = (1 << 16) + u64::from(sequence);
            self.untold = self.first;
        }
        let end = self.first + self.times.len() as u64;
        let distance = i64::from(sequence.wrapping_sub(end as u16) as i16);
        let Some(number) = end.checked_add_signed(distance) else { return };
        if number < self.first {
            return; // too late to be of use
        }
        if number >= end + MEMORY as u64 {
            self.times.clear();
            self.first = number; // an outage, or a sender that counts anew
            self.untold = number;
        }
        while self.first + (self.times.len() as u64) <= number {
            self.times.push_back(None);
        }
        if let Some(time) = self.times.get_mut((number - self.first) as usize)
            && time.is_none()
        {
            *time = Some(ticks);
            self.untold = self.untold.min(number);
        }
        while self.times.len() > MEMORY {
            self.times.pop_front();
            self.first += 1;
        }
        self.untold = self.untold.max(self.first);
    }

    /// Whether there is something to tell.
    pub(super) fn has_news(&self) -> bool {
        self.untold < self.first + self.times.len() as u64
    }

    /// Appends one message about what was not told yet. False: there was nothing.
    pub(super) fn write(&mut self, ours: u32, media: u32, output: &mut Vec<u8>) -> bool {
        let (base, end) = (self.untold, self.first + self.times.len() as u64);
        // The reference time is that of the first packet that is there.
        let Some(reference) = (base..end).find_map(|number| self.time(number)) else {
            self.untold = end;
            return false;
        };
        let reference = reference.div_euclid(REFERENCE);
        let (mut statuses, mut deltas) = (Vec::new(), Vec::new());
        let mut previous = reference * REFERENCE;
        let mut next = base;
        while next < end.min(base + MAX_PACKETS) {
            match self.time(next).map(|ticks| ticks - previous) {
                None => statuses.push(0),
                Some(delta @ 0..=255) => {
                    statuses.push(1);
                    deltas.push(delta as u8);
                    previous += delta;
                }
                Some(delta) => {
                    let Ok(large) = i16::try_from(delta) else { break }; // the next message begins here
                    statuses.push(2);
                    deltas.extend(large.to_be_bytes());
                    previous += delta;
                }
            }
            next += 1;
        }
        self.untold = next;
        let start = output.len();
        output.extend([0x8f, 205, 0, 0]);
        output.extend(ours.to_be_bytes());
        output.extend(media.to_be_bytes());
        output.extend((base as u16).to_be_bytes());
        output.extend((statuses.len() as u16).to_be_bytes());
        output.extend(&(reference as u32).to_be_bytes()[1..]);
        output.push(self.count);
        self.count = self.count.wrapping_add(1);
        write_chunks(&statuses, output);
        output.extend(deltas);
        let padding = (start.wrapping_sub(output.len())) % 4;
        if padding > 0 {
            output[start] |= 0x20;
            output.resize(output.len() + padding - 1, 0);
            output.push(padding as u8);
        }
        let words = ((output.len() - start) / 4 - 1) as u16;
        output[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
        true
    }

    fn time(&self, number: u64) -> Option<i64> {
        *self.times.get(usize::try_from(number.checked_sub(self.first)?).ok()?)?
    }
}

/// Writes the packet status chunks (§3.1.1): a long run as one, the rest as vectors of 14 or 7.
fn write_chunks(mut statuses: &[u8], output: &mut Vec<u8>) {
    while let Some(first) = statuses.first() {
        let run = statuses.iter().take(0x1fff).take_while(|status| *status == first).count();
        let ones = statuses.iter().take(14).take_while(|status| **status < 2).count();
        let short = statuses.len().min(14);
        let (chunk, taken) = if run >= 14 || run == statuses.len() {
            (u16::from(*first) << 13 | run as u16, run)
        } else if ones == short {
            let bits = statuses[..short].iter().enumerate();
            (bits.fold(0x8000, |chunk, (at, status)| chunk | u16::from(*status) << (13 - at)), short)
        } else {
            let taken = statuses.len().min(7);
            let pairs = statuses[..taken].iter().enumerate();
            (pairs.fold(0xc000, |chunk, (at, status)| chunk | u16::from(*status) << (12 - 2 * at)), taken)
        };
        output.extend(chunk.to_be_bytes());
        statuses = &statuses[taken..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc::rtcp::transport_feedbacks::transport_layer_cc::{
        PacketStatusChunk, SymbolTypeTcc, TransportLayerCc,
    };
    use rtc::shared::marshal::Unmarshal;
    use std::time::Duration;

    /// What others read: for each packet its number and its arrival in ms, `None` if missing.
    fn read(data: &[u8]) -> Vec<(u16, Option<i64>)> {
        let message = TransportLayerCc::unmarshal(&mut &data[..]).expect("readable");
        assert_eq!((message.sender_ssrc, message.media_ssrc), (1, 2));
        let mut symbols = Vec::new();
        for chunk in &message.packet_chunks {
            match chunk {
                PacketStatusChunk::RunLengthChunk(chunk) => {
                    symbols.extend(vec![chunk.packet_status_symbol; usize::from(chunk.run_length)]);
                }
                PacketStatusChunk::StatusVectorChunk(chunk) => {
                    symbols.extend(chunk.symbol_list.iter().copied())
                }
            }
        }
        symbols.truncate(usize::from(message.packet_status_count));
        let mut micros = i64::from(message.reference_time) * 64_000;
        let mut deltas = message.recv_deltas.iter();
        let numbered = symbols.iter().enumerate().map(|(at, symbol)| {
            let number = message.base_sequence_number.wrapping_add(at as u16);
            let arrived = *symbol != SymbolTypeTcc::PacketNotReceived;
            (
                number,
                arrived.then(|| {
                    micros += deltas.next().expect("one each").delta;
                    micros / 1_000
                }),
            )
        });
        numbered.collect()
    }

    fn told(arrivals: &mut Arrivals) -> Vec<Vec<(u16, Option<i64>)>> {
        let mut all = Vec::new();
        loop {
            let mut output = vec![];
            if !arrivals.write(1, 2, &mut output) {
                return all;
            }
            assert!(output.len().is_multiple_of(4) && output.len() < 1_200, "{}", output.len());
            all.push(read(&output));
        }
    }

    #[test]
    fn arrivals_are_told_once_with_their_times_and_gaps() {
        let start = Instant::now();
        let mut arrivals = Arrivals::new(start);
        let at = |millis: u64| start + Duration::from_millis(millis);
        assert_eq!(told(&mut arrivals), Vec::<Vec<_>>::new());
        for (millis, number) in [(100, 65_534), (100, 65_535), (105, 1), (305, 2), (304, 3)] {
            arrivals.arrived(at(millis), number);
        }
        assert!(arrivals.has_news());
        let expected = [
            (65_534, Some(100)),
            (65_535, Some(100)),
            (0, None),
            (1, Some(105)),
            (2, Some(305)),
            (3, Some(304)),
        ];
        assert_eq!(told(&mut arrivals), [expected.to_vec()]);
        assert!(!arrivals.has_news());
        // A straggler is told with what follows it, which had been told already.
        arrivals.arrived(at(310), 0);
        assert_eq!(told(&mut arrivals)[0][0], (0, Some(310)));
    }

    #[test]
    fn long_runs_mixtures_and_pauses_are_read_back() {
        let start = Instant::now();
        let mut arrivals = Arrivals::new(start);
        let mut expected = Vec::new();
        let mut millis = 0;
        for number in 0..900u16 {
            let missing = (300..330).contains(&number) || number % 17 == 5;
            millis += if number % 40 == 0 { 100 } else { 1 };
            if number == 600 {
                millis += 20_000; // more than a delta can say
            }
            if !missing {
                arrivals.arrived(start + Duration::from_millis(millis), number);
                expected.push((number, millis as i64));
            }
        }
        let all = told(&mut arrivals);
        assert!(all.len() >= 3);
        let got: Vec<(u16, i64)> =
            all.into_iter().flatten().filter_map(|(number, millis)| Some((number, millis?))).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn memory_is_bounded_and_jumps_are_survived() {
        let start = Instant::now();
        let mut arrivals = Arrivals::new(start);
        let mut seed = 1u32;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            arrivals.arrived(start + Duration::from_millis(u64::from(seed >> 20)), (seed >> 8) as u16);
            assert!(arrivals.times.len() <= MEMORY);
        }
        told(&mut arrivals);
    }
}
