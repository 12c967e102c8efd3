//! Fuzzing of RTMP: what one connection may send, layer by layer.

mod interleaving;

use super::address::Application;
use super::amf;
use super::assembly::{Assembly, Output};
use super::chunk::{ChunkError, ChunkReader, ChunkWriter, Limits, Message, aggregate, kind};
use super::command::Command;
use super::flv::{self, AudioTag, TrackChoice, VideoTag};
use super::handshake;
use super::push::PushUrl;
use crate::media::fuzzing::Input;
use crate::media::{MediaKind, MediaTime};
use bytes::Bytes;
pub use interleaving::interleaving;
use rml_rtmp::rml_amf0::Amf0Value;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

/// The chunk layer: the same messages come out however the bytes were cut, and what was read can be written.
pub fn chunk(data: &[u8]) {
    let mut input = Input(data);
    let mode = input.number::<1>();
    let limits = if mode & 1 == 0 { Limits::COMMANDS } else { Limits::MEDIA };
    let (whole, error) = read(limits, std::iter::once(input.0));
    let mut state = mode | 1;
    let cut = std::iter::from_fn(|| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let count = 1 + (state >> 33) as usize % 200;
        (!input.0.is_empty()).then(|| input.take(count))
    });
    assert_eq!(read(limits, cut), (whole.clone(), error), "the same in pieces");
    let mut writer = ChunkWriter::new();
    writer.set_chunk_size(1 + (mode as u32 >> 1) * 40);
    for message in &whole {
        let within: usize = aggregate::split(message).map(|part| part.data.len()).sum();
        assert!(within <= message.data.len(), "an aggregate holds its parts");
        assert!(message.data.len() <= limits.message, "{}", message.data.len());
        writer.write(3, message.kind, message.stream, message.timestamp, &[&message.data]);
    }
    let written = writer.output().split();
    assert_eq!(read(limits, std::iter::once(&written[..])), (whole, None), "written and read again");
}

fn read<'a>(limits: Limits, input: impl Iterator<Item = &'a [u8]>) -> (Vec<Message>, Option<ChunkError>) {
    let (mut reader, mut messages) = (ChunkReader::new(limits), Vec::new());
    for piece in input {
        reader.input().extend_from_slice(piece);
        loop {
            match reader.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

/// AMF0 behind its guard: commands, metadata, and that what is read can be written and read again.
pub fn amf(data: &[u8]) {
    let mut input = Input(data);
    let message_kind = if input.number::<1>() & 1 == 0 { kind::COMMAND } else { kind::COMMAND_AMF3 };
    if let Ok(command) = Command::parse(message_kind, input.0) {
        address(&command, command.text(0).unwrap_or_default());
    }
    let Ok(values) = amf::parse(input.0) else { return };
    for value in &values {
        let _ = flv::announced(value);
    }
    let written = amf::serialize(&values);
    let again = amf::parse(&written).expect("ours");
    // Not all numbers are equal to themselves.
    assert_eq!(format!("{:?}", shape(&values)), format!("{:?}", shape(&again)));
}

/// The values with the properties of objects in order.
fn shape(values: &[Amf0Value]) -> Vec<String> {
    let one = |value: &Amf0Value| match value {
        Amf0Value::Object(properties) => {
            let mut names: Vec<_> = properties.iter().collect();
            names.sort_by(|one, other| one.0.cmp(other.0));
            let shaped = names.into_iter().map(|(name, value)| (name, shape(std::slice::from_ref(value))));
            format!("{:?}", shaped.collect::<Vec<_>>())
        }
        Amf0Value::StrictArray(values) => format!("{:?}", shape(values)),
        plain => format!("{plain:?}"),
    };
    values.iter().map(one).collect()
}

/// FLV tags: the bodies of audio and video messages of one publisher.
pub fn flv(data: &[u8]) {
    let tags = std::iter::once(data).chain(Input(data).pieces());
    let (mut video, mut audio) = (TrackChoice::default(), TrackChoice::default());
    for tag in tags {
        let tag = Bytes::copy_from_slice(tag);
        let _ = VideoTag::parse(&tag, &mut video);
        let _ = AudioTag::parse(&tag, &mut audio);
    }
}

/// From tags with timestamps to epochs and frames.
pub fn assembly(data: &[u8]) {
    let mut now = Instant::now();
    let mut assembly = Assembly::new(now);
    let mut last: [Option<MediaTime>; 2] = [None; 2];
    let mut tracks = None;
    let mut timestamp = 0u32;
    for piece in Input(data).pieces() {
        let mut input = Input(piece);
        let head = input.number::<1>();
        // Small steps mostly, any number sometimes.
        timestamp = match head >> 6 {
            0 | 1 => timestamp.wrapping_add(head as u32 >> 1 & 31),
            2 => timestamp.wrapping_add_signed(i32::from(input.number::<2>() as i16)),
            _ => input.number::<4>() as u32,
        };
        now += Duration::from_millis(head >> 1 & 31);
        let body = Bytes::copy_from_slice(input.0);
        let result = match head & 3 {
            0 | 1 => assembly.video(now, timestamp, &body),
            2 => assembly.audio(now, timestamp, &body),
            _ if head & 4 == 0 => {
                now += Duration::from_millis(400);
                assembly.handle_timeout(now)
            }
            _ => {
                assembly.announce((head & 8 != 0, head & 16 != 0));
                Ok(())
            }
        };
        while let Some(output) = assembly.pop() {
            match output {
                Output::Epoch(begun) => {
                    assert!(
                        begun.has(MediaKind::Video) || begun.has(MediaKind::Audio),
                        "an epoch of nothing"
                    );
                    tracks = Some((begun, false));
                }
                Output::Frame(frame) => {
                    let (tracks, seen) = tracks.as_mut().expect("an epoch before its frames");
                    assert!(tracks.has(frame.kind), "a {} frame of no track", frame.kind);
                    if frame.kind == MediaKind::Video {
                        assert!(*seen || frame.keyframe, "video begins at a keyframe");
                        *seen = true;
                    }
                    let last = &mut last[usize::from(frame.kind == MediaKind::Audio)];
                    assert!(last.is_none_or(|last| frame.dts > last), "decoding times rise");
                    let offset = frame.pts.since(frame.dts).max(frame.dts.since(frame.pts));
                    assert!(offset <= Duration::from_secs(10), "shown {offset:?} from its decoding");
                    *last = Some(frame.dts);
                }
            }
        }
        if result.is_err() {
            return;
        }
    }
}

/// The handshake of a client, and of a server to which we push.
pub fn handshake(data: &[u8]) {
    let mut input = Input(data);
    let mode = input.number::<1>();
    let piece = 1 + (mode as usize >> 1) * 24;
    let run = async {
        let (mut near, mut far) = tokio::io::duplex(16 << 10);
        let ours = async {
            if mode & 1 == 0 {
                handshake::accept(&mut near).await
            } else {
                handshake::connect(&mut near).await
            }
        };
        let theirs = async {
            for piece in input.0.chunks(piece) {
                if far.write_all(piece).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            let _ = far.shutdown().await;
            // Kept open: what we answer finds room.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            done = ours => drop(done),
            () = theirs => {}
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime of one thread").block_on(run);
}

/// What `connect` and `publish` name, and the URLs of restream targets.
pub fn url(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let object = amf::object([("app", amf::text(line())), ("tcUrl", amf::text(line()))]);
    let connect = Command { name: "connect".into(), transaction: 1.0, object, arguments: Vec::new() };
    address(&connect, line());
    if let Ok(url) = text.parse::<PushUrl>() {
        assert!(text.len() <= 3000 && !url.host().is_empty());
        let (shown, tc) = (url.masked(), url.tc_url());
        assert!(!shown.contains(char::is_whitespace) && !tc.contains(char::is_control), "{shown}");
        assert!(!url.key_path().contains('?'));
    }
}

/// What a publisher asks for by a command object and a key.
fn address(connect: &Command, key: &str) {
    let Ok(application) = Application::parse(connect) else { return };
    let Ok(request) = application.request(key, ([192, 0, 2, 1], 1).into()) else { return };
    assert!(!request.app.contains('/') && !request.key.reveal().starts_with('/'), "{request:?}");
    assert!(request.app.len() + request.key.reveal().len() <= 2048);
    assert!(request.query.is_none_or(|query| !query.reveal().is_empty()));
}
