//! Short-term reference picture sets of a sequence parameter set (ITU-T H.265 §7.3.7, §7.4.8): how long they are
//! follows from what they say.

use crate::media::bits::BitReader;

/// More are impossible.
const MOST_SETS: u32 = 64;
const MOST_PICTURES: u32 = 16;

/// Order counts relative to the present picture: those before it, the nearest first, then those after it, the nearest
/// first.
type Set = Vec<i32>;

/// Reads past all of them. `None` if they end too early or are impossible.
pub(super) fn skip(reader: &mut BitReader<'_>) -> Option<()> {
    let count = reader.unsigned_golomb()?;
    if count > MOST_SETS {
        return None;
    }
    let mut last = None;
    for _ in 0..count {
        last = Some(read(reader, last.as_ref())?);
    }
    Some(())
}

/// One set; all but the first may be told by its difference to the one before.
fn read(reader: &mut BitReader<'_>, before: Option<&Set>) -> Option<Set> {
    match before {
        Some(before) if reader.flag()? => predicted(reader, before),
        _ => explicit(reader),
    }
}

fn predicted(reader: &mut BitReader<'_>, before: &Set) -> Option<Set> {
    let sign = reader.flag()?;
    let distance = i32::try_from(reader.unsigned_golomb()?).ok().filter(|distance| *distance < 1 << 15)? + 1;
    let delta = if sign { -distance } else { distance };
    let mut set = Vec::with_capacity(before.len() + 1);
    // The picture of the set before is the last candidate.
    for candidate in before.iter().copied().chain([0]) {
        let used = reader.flag()?;
        let kept = used || reader.flag()?;
        let moved = candidate + delta;
        if kept && moved != 0 {
            set.push(moved);
        }
    }
    set.sort_by_key(|count| (*count > 0, count.abs()));
    (set.len() <= MOST_PICTURES as usize).then_some(set)
}

fn explicit(reader: &mut BitReader<'_>) -> Option<Set> {
    let (earlier, later) = (reader.unsigned_golomb()?, reader.unsigned_golomb()?);
    if earlier > MOST_PICTURES || later > MOST_PICTURES - earlier {
        return None;
    }
    let mut set = Vec::new();
    for (count, sign) in [(earlier, -1), (later, 1)] {
        let mut at = 0i32;
        for _ in 0..count {
            let step = i32::try_from(reader.unsigned_golomb()?).ok().filter(|step| *step < 1 << 15)? + 1;
            at += sign * step;
            set.push(at);
            reader.flag()?; // used_by_curr_pic
        }
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits from words of 0 and 1.
    fn bits(words: &str) -> Vec<u8> {
        let bits: Vec<u8> = words.bytes().filter(|bit| *bit != b' ').map(|bit| bit - b'0').collect();
        bits.chunks(8)
            .map(|byte| byte.iter().enumerate().fold(0, |sum, (at, bit)| sum | bit << (7 - at)))
            .collect()
    }

    #[test]
    fn sets_are_read_as_the_standard_derives_them() {
        // Two before, 1 and 3 back, and one after, 2 on.
        let data = bits("011 010 1 1 010 1 010 1");
        let first = read(&mut BitReader::new(&data), None).expect("whole");
        assert_eq!(first, [-1, -3, 2]);
        // Moved by 1 back, all kept: what lies at -1, -3, 2 and 0 comes to -2, -4, 1 and -1.
        let data = bits("1 1 1 1 1 1 1");
        assert_eq!(read(&mut BitReader::new(&data), Some(&first)).expect("whole"), [-1, -2, -4, 1]);
        // Moved by 1 on: what lay at -1 is the present picture itself; the second is left out.
        let data = bits("1 0 1 1 00 1 1");
        assert_eq!(read(&mut BitReader::new(&data), Some(&first)).expect("whole"), [1, 3]);
        // Not by its difference.
        let data = bits("0 010 1 1 1");
        assert_eq!(read(&mut BitReader::new(&data), Some(&first)).expect("whole"), [-1]);
    }

    #[test]
    fn all_sets_are_passed_and_impossible_ones_are_none() {
        let data = bits("011 010 1 1 1 1 1 1 1 1");
        let mut reader = BitReader::new(&data);
        assert_eq!(skip(&mut reader), Some(()));
        assert_eq!((reader.bits(2), reader.flag()), (Some(0), None), "only what fills the byte is left");
        assert_eq!(skip(&mut BitReader::new(&bits("000000 1000010"))), None, "65 sets");
        assert_eq!(skip(&mut BitReader::new(&bits("010 0000 10010 1"))), None, "17 pictures");
        assert_eq!(skip(&mut BitReader::new(&bits("011 010"))), None, "it ends");
    }
}
