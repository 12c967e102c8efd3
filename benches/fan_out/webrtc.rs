//! What a viewer costs the gateway, in multiples of what the system takes for its packets alone.
//!
//! One stream of 2.9 Mbit/s (30 pictures of 10 packets and 50 packets of sound a second) goes through the
//! gateway's WebRTC, in this process, to N viewers of another stack over loopback. Measured: the processor
//! time of the gateway's WebRTC threads over 8 s, system calls included, divided by the packets that arrived.
//! On loopback the sender's system call also delivers the packet; that is in the figure. The floor: one thread
//! that sends packets of the same size at the same pace to as many counting sockets, one `sendto` each, no
//! encryption. Not measured: publishers, HTTP, what the viewers do.
//!
//! How to read it: `ratio` is what the gateway takes for a packet in units of a bare `sendto` on this machine
//! in this minute; it may be below 1, since packets of one size for one viewer share a system call. `ms a
//! viewer-second` is what one more viewer costs a core. `arrived` below 99 % means that the machine was too
//! busy for its figure.

use super::clients::{Counts, Offered, count, counting_socket};
use super::cpu;
use bytes::Bytes;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use tidegate::media::{
    AudioTrack, Codec, Epoch, MediaKind, MediaTime, Packet, PacketBatch, StreamName, Tracks, VideoTrack,
};
use tidegate::stream::{Hub, Publisher, Source, SourceKind};
use tidegate::webrtc::{WebRtc, WebRtcSettings};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

const VIEWERS: [usize; 3] = [50, 100, 300];
/// A picture's packets and the bytes of one.
const PACKETS: u64 = 10;
const PAYLOAD: usize = 1200;
const SOUND: usize = 160;
const FRAME_RATE: u32 = 30;
/// Pictures from a keyframe to the next.
const GROUP: u64 = 60;
const SETTLE: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(8);
const CONNECT: Duration = Duration::from_secs(30);
/// The names of threads begin so.
const GATEWAY: &str = "webrtc";
const FLOOR: &str = "floor";
/// An RTP header and the tag of AEAD_AES_128_GCM.
const SEALING: usize = 12 + 16;

/// One measurement.
struct Figure {
    cpu: Duration,
    elapsed: Duration,
    packets: u64,
    /// Of the packets that were due.
    arrived: f64,
    viewers: usize,
}

/// Measures and prints a table.
pub fn report() {
    println!(
        "\nWHEP fan-out, 1 stream of 2.9 Mbit/s, {} s each; ns and ms are processor time",
        WINDOW.as_secs()
    );
    println!("viewers   ns a packet   floor: sendto   ratio   ms a viewer-second   arrived (floor)");
    for viewers in VIEWERS {
        let gateway = through_gateway(viewers);
        let floor = by_sendto(viewers);
        println!(
            "{viewers:>7}   {:>11.0}   {:>13.0}   {:>5.2}   {:>18.2}   {:>6.1} % ({:.1} %)",
            gateway.nanoseconds(),
            floor.nanoseconds(),
            gateway.nanoseconds() / floor.nanoseconds(),
            gateway.milliseconds(),
            gateway.arrived * 100.0,
            floor.arrived * 100.0,
        );
    }
}

impl Figure {
    /// A packet's.
    fn nanoseconds(&self) -> f64 {
        self.cpu.as_nanos() as f64 / self.packets as f64
    }

    /// A viewer-second's.
    fn milliseconds(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e3 / self.elapsed.as_secs_f64() / self.viewers as f64
    }
}

fn through_gateway(viewers: usize) -> Figure {
    let clients = client_runtime();
    let gateway = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (hub, _reaper) = Hub::new(Duration::ZERO);
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let webrtc = {
        let _inside = gateway.enter();
        WebRtc::start(
            WebRtcSettings { half_open_per_source: 500, ..WebRtcSettings::new(listen) },
            hub.clone(),
        )
    };
    let webrtc = webrtc.expect("WebRTC starts");
    let name: StreamName = "bench".parse().expect("a valid name");
    let source = Source { kind: SourceKind::Whip, remote: None };
    let publisher: Publisher<PacketBatch> = hub.publish(name.clone(), source).expect("the name is free");
    let ended = Arc::new(AtomicBool::new(false));
    let writer = {
        let ended = ended.clone();
        thread::Builder::new().name("publisher".into()).spawn(move || publish(&publisher, &ended))
    };
    let counts = Arc::new(Counts::default());
    let mut tasks = JoinSet::new();
    for _ in 0..viewers {
        let offered = Offered::new();
        let answer = gateway.block_on(webrtc.whep(&name, &offered.sdp, listen)).expect("an answer");
        tasks.spawn_on(offered.run(answer.sdp, counts.clone()), clients.handle());
    }
    let deadline = Instant::now() + CONNECT;
    while counts.connected.load(Ordering::Relaxed) < viewers as u64 {
        assert!(Instant::now() < deadline, "not all viewers connected: {counts:?}");
        thread::sleep(Duration::from_millis(10));
    }
    let figure = measure(GATEWAY, &counts, viewers);
    assert_eq!(counts.over.load(Ordering::Relaxed), 0, "the gateway closed sessions");
    ended.store(true, Ordering::Relaxed);
    writer.expect("a thread").join().expect("the publisher does not panic");
    gateway.block_on(webrtc.shutdown());
    drop(tasks);
    clients.shutdown_timeout(Duration::from_secs(1));
    figure
}

fn by_sendto(viewers: usize) -> Figure {
    let clients = client_runtime();
    let counts = Arc::new(Counts::default());
    let mut addresses = Vec::new();
    for _ in 0..viewers {
        let socket = counting_socket();
        addresses.push(socket.local_addr().expect("a bound socket"));
        clients.spawn(count(socket, counts.clone()));
    }
    let ended = Arc::new(AtomicBool::new(false));
    let sender = {
        let ended = ended.clone();
        thread::Builder::new().name(FLOOR.into()).spawn(move || {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let (picture, sound) = ([7; PAYLOAD + SEALING], [7; SOUND + SEALING]);
            in_real_time(&ended, |_, kind| {
                for address in &addresses {
                    match kind {
                        MediaKind::Video => {
                            for _ in 0..PACKETS {
                                let _ = socket.send_to(&picture, address);
                            }
                        }
                        MediaKind::Audio => {
                            let _ = socket.send_to(&sound, address);
                        }
                    }
                }
            });
        })
    };
    let figure = measure(FLOOR, &counts, viewers);
    ended.store(true, Ordering::Relaxed);
    sender.expect("a thread").join().expect("the sender does not panic");
    clients.shutdown_timeout(Duration::from_secs(1));
    figure
}

/// The processor time of the threads `prefix` and the packets that arrive, over the window.
fn measure(prefix: &str, counts: &Counts, viewers: usize) -> Figure {
    thread::sleep(SETTLE);
    let (cpu, packets, start) =
        (cpu::of_threads(prefix), counts.packets.load(Ordering::Relaxed), Instant::now());
    thread::sleep(WINDOW);
    let cpu = cpu::of_threads(prefix).saturating_sub(cpu);
    let packets = counts.packets.load(Ordering::Relaxed) - packets;
    let a_second = u64::from(FRAME_RATE) * PACKETS + 50;
    let elapsed = start.elapsed();
    let due = elapsed.as_secs_f64() * a_second as f64 * viewers as f64;
    assert!(packets > 0, "nothing arrives");
    Figure { cpu, elapsed, packets, arrived: packets as f64 / due, viewers }
}

fn client_runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).thread_name("clients").enable_all().build().expect("a runtime")
}

/// Calls `step` for each picture and each sound when it is due, with its number.
fn in_real_time(ended: &AtomicBool, mut step: impl FnMut(u64, MediaKind)) {
    let start = Instant::now();
    let (mut pictures, mut sounds) = (0u64, 0u64);
    while !ended.load(Ordering::Relaxed) {
        let picture = Duration::from_secs(1) * pictures as u32 / FRAME_RATE;
        let sound = Duration::from_millis(20) * sounds as u32;
        thread::sleep(picture.min(sound).saturating_sub(start.elapsed()));
        if picture <= sound {
            step(pictures, MediaKind::Video);
            pictures += 1;
        } else {
            step(sounds, MediaKind::Audio);
            sounds += 1;
        }
    }
}

fn publish(publisher: &Publisher<PacketBatch>, ended: &AtomicBool) {
    let epoch = publisher.begin_epoch(tracks(), SystemTime::now());
    let picture = payload(PAYLOAD, 0x41);
    let keyframe = payload(PAYLOAD, 0x65);
    let sound = payload(SOUND, 0xf8);
    in_real_time(ended, |number, kind| {
        let packets = match kind {
            MediaKind::Video => {
                let is_keyframe = number.is_multiple_of(GROUP);
                let payload = if is_keyframe { &keyframe } else { &picture };
                let ticks = number * 90_000 / u64::from(FRAME_RATE);
                let packet = |index| Packet {
                    layer: 0,
                    kind,
                    sequence: number * PACKETS + index,
                    timestamp: ticks as u32,
                    pts: MediaTime::from_ticks(ticks as i64, 90_000),
                    marker: index + 1 == PACKETS,
                    keyframe: is_keyframe && index == 0,
                    payload: payload.clone(),
                };
                (0..PACKETS).map(packet).collect()
            }
            MediaKind::Audio => vec![Packet {
                layer: 0,
                kind,
                sequence: number,
                timestamp: (number * 960) as u32,
                pts: MediaTime::from_ticks(number as i64 * 960, 48_000),
                marker: false,
                keyframe: false,
                payload: sound.clone(),
            }],
        };
        publisher.write(batch(&epoch, packets));
    });
}

fn batch(epoch: &Arc<Epoch>, packets: Vec<Packet>) -> PacketBatch {
    PacketBatch { epoch: epoch.clone(), packets }
}

fn payload(bytes: usize, first: u8) -> Bytes {
    let mut payload = vec![7; bytes];
    payload[0] = first;
    payload.into()
}

fn tracks() -> Tracks {
    let video = VideoTrack {
        resolution: Some((1280, 720)),
        fmtp: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f".to_owned(),
        ..VideoTrack::new(Codec::H264)
    };
    let audio = AudioTrack {
        codec: Codec::Opus,
        sample_rate: 48_000,
        channels: 2,
        codec_data: Bytes::new(),
        fmtp: String::new(),
    };
    Tracks { video: Some(video), audio: Some(audio) }
}
