//! The chunk reader against what peers send, and against what no peer should.

use super::super::{ChunkWriter, EXTENDED};
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
    for (limits, length) in [(Limits::COMMANDS, 64 << 10), (Limits::MEDIA, 8 << 20)] {
        let mut reader = ChunkReader::new(limits);
        for id in 3..63 {
            reader.input().extend_from_slice(&header(0, id, 0, length, kind::VIDEO));
            reader.input().extend_from_slice(&[0; 128]);
            assert_eq!(reader.next_message(), Ok(None));
        }
        let held: usize = reader.streams.iter().map(|stream| stream.partial.capacity()).sum();
        assert!(held <= 60 * (limits.reservation + 128), "{held}");
    }
}

#[test]
fn what_a_message_holds_is_what_it_has() {
    let mut writer = ChunkWriter::new();
    writer.write(6, kind::VIDEO, 1, 0, &[&[7; 300_001]]);
    let mut reader = reader();
    for piece in writer.output().chunks(10_000) {
        reader.input().extend_from_slice(piece);
        if let Some(message) = reader.next_message().expect("legal") {
            assert_eq!(message.data.len(), 300_001);
            return;
        }
        let held = reader.streams[0].partial.capacity();
        assert!(held <= 300_001, "{held}");
    }
    panic!("no message");
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
