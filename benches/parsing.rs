//! What it costs to read what publishers send.
//!
//! `rtmp_ingest`, measured: 10 s of H.264 at 8 Mbit/s and AAC at 128 kbit/s, sent as fast as it goes over
//! loopback to an `RtmpServer`, until the stream's publisher has left: connection, handshake, commands, and
//! each message from chunks to a frame on the hub. Sender and server share one thread.
//!
//! How to read it: `thrpt` is what comes over the wire. `socket_only` sends the same bytes to a reader that
//! drops them; what the others take longer is mostly the parsing. Senders choose the chunk size: 128 bytes
//! is the protocol's default, and encoders commonly raise it. The price of small chunks is their headers.
//!
//! `h264`: a configuration record and a sequence parameter set (each once an epoch), and finding the NAL
//! units of an access unit of 8 slices (each frame): the parts of ingest that can be called by themselves.

use bytes::{BufMut, Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tidegate::media::h264::{AvcConfig, NAL_IDR, NalUnits, Sps, nal_type};
use tidegate::rtmp::RtmpServer;
use tidegate::stream::{Hub, StreamEvent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

const SECONDS: u32 = 10;
const FRAME_RATE: u32 = 30;
const FRAME_BYTES: usize = 8_000_000 / 8 / FRAME_RATE as usize;
const AAC_BYTES: usize = 341;
const SLICES: usize = 8;
const HANDSHAKE: usize = 1536;
/// Parameter sets of 1280x720 at 30 pictures a second, High profile, as x264 writes them.
const SPS: &[u8] =
    b"\x67\x64\0\x1f\xac\xd9\x40\x50\x05\xbb\x01\x10\0\0\x03\0\x10\0\0\x03\x03\xc0\xf1\x83\x19\x60";
const PPS: &[u8] = b"\x68\xeb\xe3\xcb\x22\xc0";

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2));
    targets = rtmp_ingest, h264
}
criterion_main!(benches);

fn rtmp_ingest(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut group = criterion.benchmark_group("rtmp_ingest");
    let recorded = Publication::record(4096);
    group.throughput(Throughput::Bytes(recorded.bytes.len() as u64));
    group.bench_function("socket_only", |bencher| {
        bencher.iter(|| runtime.block_on(send_to_nobody(&recorded.bytes)));
    });
    let (hub, reaper) = Hub::new(Duration::ZERO);
    let cancel = CancellationToken::new();
    let reaper = runtime.spawn(reaper.run(cancel.clone()));
    let (address, server) = serve(&runtime, &hub, &cancel);
    for chunk_size in [128, 4096, 60_000] {
        let recorded = Publication::record(chunk_size);
        group.throughput(Throughput::Bytes(recorded.bytes.len() as u64));
        group.bench_function(BenchmarkId::new("chunks_of", chunk_size), |bencher| {
            bencher.iter(|| runtime.block_on(publish(address, &hub, &recorded)));
        });
    }
    group.finish();
    cancel.cancel();
    runtime.block_on(async { tokio::try_join!(reaper, server).expect("no panic") });
}

fn h264(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("h264");
    let record = avc_config();
    group.bench_function("avc_config", |bencher| {
        bencher.iter(|| AvcConfig::parse(black_box(record.clone())).expect("valid"));
    });
    group.bench_function("sps", |bencher| bencher.iter(|| Sps::parse(black_box(SPS)).expect("valid")));
    let access_unit = access_unit(NAL_IDR);
    group.bench_function("nal_units", |bencher| {
        bencher.iter(|| {
            let units = NalUnits::new(black_box(&access_unit), 4);
            units.filter(|unit| unit.as_ref().is_ok_and(|unit| nal_type(unit[0]) == NAL_IDR)).count()
        });
    });
    group.finish();
}

fn serve(
    runtime: &Runtime,
    hub: &Hub,
    cancel: &CancellationToken,
) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let authorize = Arc::new(|_: &_| Ok("bench".parse().expect("a valid name")));
    let server = runtime.block_on(RtmpServer::bind(listen, hub.clone(), authorize)).expect("a free port");
    (server.local_addr(), runtime.spawn(server.run(cancel.clone())))
}

/// Publishes and leaves; all frames must have reached the hub.
async fn publish(address: SocketAddr, hub: &Hub, recorded: &Publication) {
    let mut events = hub.events();
    let mut connection = TcpStream::connect(address).await.expect("the server listens");
    let mut greeting = vec![0; 1 + HANDSHAKE];
    greeting[0] = 3;
    connection.write_all(&greeting).await.expect("the server reads");
    let mut answer = vec![0; 1 + 2 * HANDSHAKE];
    connection.read_exact(&mut answer).await.expect("the server answers");
    connection.write_all(&answer[1..1 + HANDSHAKE]).await.expect("the server reads");
    connection.write_all(&recorded.bytes).await.expect("the server reads");
    connection.shutdown().await.expect("still open");
    let mut answers = vec![];
    connection.read_to_end(&mut answers).await.expect("the server closes");
    let mut frames = 0;
    loop {
        match events.recv().await.expect("the hub lives") {
            StreamEvent::Started(stream) | StreamEvent::PublisherReturned(stream) => {
                frames = stream.statistics().snapshot().items_received;
            }
            StreamEvent::PublisherLeft(_)
            | StreamEvent::Stalled(_)
            | StreamEvent::Resumed(_)
            | StreamEvent::TracksChanged(..) => {}
            StreamEvent::Ended(_) => break,
        }
    }
    assert_eq!(frames, recorded.frames, "each frame arrives");
}

/// The same bytes with nobody to parse them.
async fn send_to_nobody(bytes: &[u8]) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let send = async {
        let mut connection = TcpStream::connect(address).await.expect("the listener listens");
        connection.write_all(bytes).await.expect("the reader reads");
    };
    let receive = async {
        let (mut connection, _) = listener.accept().await.expect("a connection");
        let mut buffer = BytesMut::with_capacity(32 * 1024);
        while connection.read_buf(&mut buffer).await.expect("readable") > 0 {
            buffer.clear();
        }
    };
    tokio::join!(send, receive);
}

/// All that a publisher sends after its handshake.
struct Publication {
    bytes: Vec<u8>,
    chunk_size: usize,
    frames: u64,
}

impl Publication {
    /// Commands, configurations, and ten seconds of media in chunks of `chunk_size` bytes.
    fn record(chunk_size: usize) -> Self {
        let mut recorded = Self { bytes: vec![], chunk_size: 128, frames: 0 };
        let app = [&[3, 0, 3][..], b"app", &text("live"), &[0, 0, 9]].concat();
        recorded.message(3, 20, 0, 0, &[text("connect"), number(1.0), app].concat());
        recorded.message(2, 1, 0, 0, &(chunk_size as u32).to_be_bytes());
        recorded.chunk_size = chunk_size;
        recorded.message(3, 20, 0, 0, &[text("createStream"), number(2.0), vec![5]].concat());
        let arguments = [vec![5], text("key"), text("live")].concat();
        recorded.message(4, 20, 1, 0, &[text("publish"), number(3.0), arguments].concat());
        recorded.message(6, 9, 1, 0, &[&[0x17, 0, 0, 0, 0], &avc_config()[..]].concat());
        recorded.message(4, 8, 1, 0, &[0xaf, 0, 0x11, 0x90]);
        let mut audio_frames = 0;
        for picture in 0..SECONDS * FRAME_RATE {
            let time = picture * 1000 / FRAME_RATE;
            let keyframe = picture % (2 * FRAME_RATE) == 0;
            let (first, nal_type) = if keyframe { (0x17, NAL_IDR) } else { (0x27, 1) };
            recorded.message(6, 9, 1, time, &[&[first, 1, 0, 0, 0], &access_unit(nal_type)[..]].concat());
            while audio_frames * 1024 / 48 <= time {
                let frame = [&[0xaf, 1][..], &[0x21; AAC_BYTES]].concat();
                recorded.message(4, 8, 1, audio_frames * 1024 / 48, &frame);
                audio_frames += 1;
            }
        }
        recorded.frames = u64::from(SECONDS * FRAME_RATE + audio_frames);
        recorded
    }

    /// A message with a whole header (RTMP 1.0 §5.3.1.2.1), cut into chunks.
    fn message(&mut self, chunk_stream: u8, kind: u8, stream: u32, time: u32, payload: &[u8]) {
        self.bytes.put_u8(chunk_stream);
        self.bytes.put_uint(time.into(), 3);
        self.bytes.put_uint(payload.len() as u64, 3);
        self.bytes.put_u8(kind);
        self.bytes.put_u32_le(stream);
        for (number, chunk) in payload.chunks(self.chunk_size).enumerate() {
            if number > 0 {
                self.bytes.put_u8(0xc0 | chunk_stream);
            }
            self.bytes.put_slice(chunk);
        }
    }
}

fn avc_config() -> Bytes {
    let config = AvcConfig::from_parameter_sets(&[Bytes::from_static(SPS)], &[Bytes::from_static(PPS)]);
    config.expect("valid parameter sets").record().clone()
}

/// An access unit of eight slices with 4-byte lengths.
fn access_unit(nal_type: u8) -> Bytes {
    let mut data = BytesMut::new();
    for _ in 0..SLICES {
        let length = FRAME_BYTES / SLICES - 4;
        data.put_u32(length as u32);
        data.put_u8(0x60 | nal_type);
        data.put_bytes(0x9d, length - 1);
    }
    data.freeze()
}

/// An AMF0 string.
fn text(value: &str) -> Vec<u8> {
    [&[2], &(value.len() as u16).to_be_bytes()[..], value.as_bytes()].concat()
}

/// An AMF0 number.
fn number(value: f64) -> Vec<u8> {
    [&[0], &value.to_be_bytes()[..]].concat()
}
