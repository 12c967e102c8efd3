//! Aggregate messages (RTMP 1.0 §7.1.6): several messages behind one header, as FLV tags.

use super::Message;
use bytes::{Buf, Bytes};

/// The header of one message within.
const HEADER: usize = 11;
/// The length of it all, repeated behind each message.
const BACK_POINTER: usize = 4;

/// The messages within, with the timestamps that they have on the outside. Ends at what is cut short.
pub fn split(aggregate: &Message) -> impl Iterator<Item = Message> {
    let (stream, outer) = (aggregate.stream, aggregate.timestamp);
    let (mut rest, mut first) = (aggregate.data.clone(), None);
    std::iter::from_fn(move || {
        let (kind, timestamp, data) = next(&mut rest)?;
        // The first message has the time of the aggregate; the others keep their distance to it.
        let offset = timestamp.wrapping_sub(*first.get_or_insert(timestamp));
        Some(Message { kind, stream, timestamp: outer.wrapping_add(offset), data })
    })
    // One within another would never be meant, and could go on for ever.
    .filter(|message| message.kind != super::kind::AGGREGATE)
}

fn next(rest: &mut Bytes) -> Option<(u8, u32, Bytes)> {
    let header: [u8; HEADER] = *rest.first_chunk()?;
    let [kind, a, b, c, t1, t2, t3, t0, ..] = header;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    let data = (rest.len() >= HEADER + length).then(|| rest.slice(HEADER..HEADER + length))?;
    rest.advance((HEADER + length + BACK_POINTER).min(rest.len()));
    Some((kind, u32::from_be_bytes([t0, t1, t2, t3]), data))
}

#[cfg(test)]
mod tests {
    use super::super::kind;
    use super::*;

    fn tag(kind: u8, timestamp: u32, data: &[u8]) -> Vec<u8> {
        let (length, [t0, t1, t2, t3]) = ((data.len() as u32).to_be_bytes(), timestamp.to_be_bytes());
        let header = [kind, length[1], length[2], length[3], t1, t2, t3, t0, 0, 0, 0];
        [&header[..], data, &(data.len() as u32 + 11).to_be_bytes()].concat()
    }

    fn aggregate(data: Vec<u8>) -> Message {
        Message { kind: kind::AGGREGATE, stream: 1, timestamp: 1000, data: data.into() }
    }

    #[test]
    fn the_messages_within_keep_their_distances() {
        let inner = [
            tag(kind::VIDEO, 0x0100_0000, b"one"),
            tag(kind::AUDIO, 0x0100_0015, b"two"),
            tag(kind::AGGREGATE, 0x0100_0015, b"no"),
        ];
        let message = aggregate(inner.concat());
        let found: Vec<_> = split(&message).map(|part| (part.kind, part.timestamp, part.data)).collect();
        let expected = [(kind::VIDEO, 1000, "one"), (kind::AUDIO, 1021, "two")];
        assert_eq!(found, expected.map(|(kind, time, data)| (kind, time, Bytes::from(data))));
    }

    #[test]
    fn what_is_cut_short_ends_it() {
        let whole = tag(kind::VIDEO, 0, b"picture");
        for length in 0..whole.len() {
            let found = split(&aggregate(whole[..length].to_vec())).count();
            assert_eq!(found, usize::from(length >= whole.len() - BACK_POINTER), "{length}");
        }
    }
}
