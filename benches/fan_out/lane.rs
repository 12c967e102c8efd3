//! What one write to a stream's packet lane costs, by the number of its subscribers.
//!
//! Measured: `Publisher::write` of a batch of 10 RTP payloads until each subscriber, a task that waits in
//! `Subscriber::recv`, has taken it: lock, cache of the group of pictures, wake-ups, and the tasks' turns,
//! all on one thread. Not measured: making the batch, and what a viewer does with it (SRTP, sockets).
//!
//! How to read it: (`100_subscribers` − `0_subscribers`) / 100 is the price of one more viewer in front of
//! its own work. `100_subscribers_of_12_kB_packets` hands over ten times the bytes of `100_subscribers`
//! and should cost the same: payloads are shared. `100_copies` is what merely copying the ordinary batch
//! for each subscriber would cost.

use bytes::Bytes;
use criterion::Criterion;
use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tidegate::media::{Codec, Epoch, MediaKind, MediaTime, Packet, PacketBatch, Tracks, VideoTrack};
use tidegate::stream::{Hub, Publisher, Source, SourceKind};
use tokio::runtime::Builder;
use tokio::task::{LocalSet, yield_now};

const PACKETS: usize = 10;
const PAYLOAD: usize = 1200;
/// A keyframe begins each 300th batch, so that the cache of the group of pictures stays bounded.
const GROUP: u64 = 300;
/// Batches made ahead of the clock.
const AHEAD: u64 = 256;

/// Measures.
pub fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan_out");
    for (name, subscribers, payload) in [
        ("0_subscribers", 0, PAYLOAD),
        ("1_subscriber", 1, PAYLOAD),
        ("100_subscribers", 100, PAYLOAD),
        ("100_subscribers_of_12_kB_packets", 100, 10 * PAYLOAD),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|writes| written(subscribers, payload, writes));
        });
    }
    let payloads = vec![vec![7u8; PAYLOAD]; PACKETS];
    group.bench_function("100_copies", |bencher| {
        bencher.iter(|| (0..100).for_each(|_| drop(black_box(payloads.clone()))));
    });
    group.finish();
}

/// How long `writes` writes take until all `subscribers` have each batch.
fn written(subscribers: u64, payload: usize, writes: u64) -> Duration {
    let runtime = Builder::new_current_thread().build().expect("a runtime without drivers");
    LocalSet::new().block_on(&runtime, async {
        let (hub, _reaper) = Hub::new(Duration::ZERO);
        let name = "bench".parse().expect("a valid name");
        let source = Source { kind: SourceKind::Whip, remote: None };
        let publisher: Publisher<PacketBatch> = hub.publish(name, source).expect("the name is free");
        let epoch = publisher.begin_epoch(tracks(), SystemTime::UNIX_EPOCH);
        let payload = Bytes::from(vec![7; payload]);
        let taken = Rc::new(Cell::new(0));
        for _ in 0..subscribers {
            let mut subscriber = publisher.stream().subscribe::<PacketBatch>();
            let (taken, address) = (taken.clone(), payload.as_ptr());
            tokio::task::spawn_local(async move {
                while let Some(batch) = subscriber.recv().await {
                    assert_eq!(batch.packets[0].payload.as_ptr(), address, "payloads are shared");
                    taken.set(taken.get() + 1);
                }
            });
        }
        yield_now().await;
        let (mut elapsed, mut written) = (Duration::ZERO, 0);
        while written < writes {
            let end = writes.min(written + AHEAD);
            let batches: Vec<_> = (written..end).map(|number| batch(&epoch, number, &payload)).collect();
            let start = Instant::now();
            for batch in batches {
                publisher.write(batch);
                written += 1;
                while taken.get() < written * subscribers {
                    yield_now().await;
                }
            }
            elapsed += start.elapsed();
        }
        elapsed
    })
}

fn batch(epoch: &Arc<Epoch>, number: u64, payload: &Bytes) -> PacketBatch {
    let first = number * PACKETS as u64;
    let packet = |sequence: u64| Packet {
        kind: MediaKind::Video,
        layer: 0,
        sequence,
        timestamp: number as u32 * 3000,
        pts: MediaTime::from_ticks(number as i64 * 3000, 90_000),
        marker: sequence + 1 == first + PACKETS as u64,
        keyframe: sequence == first && number.is_multiple_of(GROUP),
        payload: payload.clone(),
    };
    PacketBatch { epoch: epoch.clone(), packets: (first..first + PACKETS as u64).map(packet).collect() }
}

fn tracks() -> Tracks {
    let video = VideoTrack::new(Codec::H264);
    Tracks { video: Some(video), audio: None }
}
