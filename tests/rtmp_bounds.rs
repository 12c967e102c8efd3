//! The bounds of RTMP sessions, before and after `publish`: one test a bound.

#[path = "common/rtmp_tls.rs"]
mod rtmp_tls;
#[path = "common/rtmp_wire.rs"]
mod rtmp_wire;

use rtmp_tls::{certificate, connect_tls};
use rtmp_wire::{Show, Site, Wire, header, number, picture};
use std::time::Duration;
use tidegate::admission::Exempt;
use tidegate::rtmp::RtmpLimits;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout};

/// For the server to close a connection that it has refused.
const SOON: Duration = Duration::from_secs(4);
/// How much sooner and later than its bound a connection may be closed: ours begin to count at other moments than the
/// server does, and it may be busy.
const EARLY: Duration = Duration::from_millis(300);
const LATE: Duration = Duration::from_millis(1500);

#[tokio::test]
async fn bound_amf_bombs_end_their_own_connection_only() {
    let site = Site::start().await;
    let mut bystander = Show::start(&site, Wire::connect(site.address).await, "bystander").await;
    // 45 kB of nested arrays before login: 9 000 levels. Then five bytes that declare 2^32-1 elements, and
    // more values than there may be.
    for (bomb, why) in [
        ([10, 0, 0, 0, 1].repeat(9000), "nested more than 16 deep"),
        ([3, 0, 1, b'a'].repeat(9000), "nested more than 16 deep"),
        (vec![10, 0xff, 0xff, 0xff, 0xff], "ends too early"),
        (vec![5; 5000], "more than 4096 AMF values"),
        (vec![5], "malformed"),
        (Vec::new(), "malformed"),
    ] {
        for kind in [20, 17] {
            let mut wire = Wire::connect(site.address).await;
            wire.send(kind, 0, &[&[0u8; 1][..usize::from(kind == 17)], &bomb].concat()).await;
            let answer = wire.until_closed(SOON).await;
            assert!(answer.contains("NetConnection.Call.Failed") && answer.contains(why), "{why}: {answer}");
        }
    }
    // The same as metadata of a publisher.
    let mut wire = Wire::connect(site.address).await;
    wire.publish("attacker").await;
    wire.send(18, 1, &[10, 0, 0, 0, 1].repeat(9000)).await;
    assert!(wire.until_closed(SOON).await.contains("nested more than 16 deep"));
    let (data, video) = picture(100, 7);
    bystander.wire.send(9, 1, &video).await;
    assert_eq!(bystander.next_picture().await.data[..], data);
    site.stop().await;
}

#[tokio::test]
async fn bound_amf_bombs_after_publish() {
    let site = Site::start().await;
    // Commands and data, as AMF0 and, behind a zero, as what calls itself AMF3.
    let payload = |kind: u8, amf: &[u8]| {
        let front: &[u8] = if matches!(kind, 15 | 17) { &[0] } else { &[] };
        [front, amf].concat()
    };
    let array: [u8; 5] = [10, 0xff, 0xff, 0xff, 0xff];
    let (all, commands): (&[u8], &[u8]) = (&[20, 17, 18, 15], &[20, 17]);
    for (number, (bomb, kinds, why)) in [
        ([10, 0, 0, 0, 1].repeat(9000), all, "nested more than 16 deep"),
        (vec![5; 4097], all, "more than 4096 AMF values"),
        ([vec![10, 0, 0, 16, 0], vec![5; 4096]].concat(), all, "more than 4096 AMF values"),
        // 2^32-1 elements, declared in five bytes.
        (array.to_vec(), commands, "ends too early"),
    ]
    .into_iter()
    .enumerate()
    {
        for kind in kinds {
            let mut wire = Wire::connect(site.address).await;
            wire.publish(&format!("cam{number}x{kind}")).await;
            wire.send(*kind, 1, &payload(*kind, &bomb)).await;
            let answer = wire.until_closed(SOON).await;
            let told = answer.contains("NetConnection.Call.Failed") && answer.contains(why);
            assert!(told, "type {kind}, {why}: {answer}");
        }
    }
    // As many values as there may be are read. Data that can't be read cost only what they would have told.
    let mut show = Show::start(&site, Wire::connect(site.address).await, "cam").await;
    for kind in [18, 15] {
        show.wire.send(kind, 1, &payload(kind, &[5; 4096])).await;
        show.wire.send(kind, 1, &payload(kind, &array)).await;
        let (data, video) = picture(100, kind);
        show.wire.send(9, 1, &video).await;
        assert_eq!(show.next_picture().await.data[..], data, "after data of type {kind}");
    }
    site.stop().await;
}

#[tokio::test]
async fn bound_messages_and_chunk_streams_before_publish() {
    let site = Site::start().await;
    let ends = async |bytes: Vec<u8>, why: &str| {
        let mut wire = Wire::connect(site.address).await;
        wire.raw(&bytes).await;
        let answer = wire.until_closed(SOON).await;
        assert!(answer.contains(why), "{why}: {answer}");
    };
    ends(header(3, 0, (64 << 10) + 1, 20), "a message of 65537 bytes, 65536 are allowed").await;
    // Unfinished messages on many chunk streams, 128 bytes a chunk: 5 x 60 000 bytes are too many.
    let mut woven: Vec<u8> =
        (3..8).flat_map(|id| [header(id, 0, 64 << 10, 9), vec![0; 128]].concat()).collect();
    for _ in 1..470 {
        woven.extend((3..8).flat_map(|id| [vec![0xc0 | id], vec![0; 128]].concat()));
    }
    ends(woven, "more than 262144 bytes of unfinished messages").await;
    let many: Vec<u8> =
        (0..=64).flat_map(|id| [vec![0, id], header(0, 0, 0, 18)[1..].to_vec()].concat()).collect();
    ends(many, "more than 64 chunk streams").await;
    ends(vec![0xc6; 8], "but there is none").await;
    ends(vec![0x86, 0, 0, 9], "but there is none").await;
    site.stop().await;
}

#[tokio::test]
async fn bound_messages_after_publish() {
    let site = Site::start().await;
    let mut wire = Wire::connect(site.address).await;
    wire.publish("cam").await;
    wire.raw(&header(6, 0, (8 << 20) + 1, 9)).await;
    assert!(wire.until_closed(SOON).await.contains("a message of 8388609 bytes, 8388608 are allowed"));

    let mut wire = Wire::connect(site.address).await;
    wire.publish("cam").await;
    wire.send(1, 0, &(1u32 << 20).to_be_bytes()).await;
    let megabyte = vec![0; 1 << 20];
    for n in 0..18 {
        let id = 6 + n % 3;
        let head = if n < 3 { header(id, 0, 8 << 20, 9) } else { vec![0xc0 | id] };
        wire.raw(&head).await;
        wire.raw(&megabyte).await;
    }
    assert!(wire.until_closed(SOON).await.contains("more than 16777216 bytes of unfinished messages"));
    site.stop().await;
}

#[tokio::test]
async fn bound_chunk_streams_after_publish() {
    let site = Site::start().await;
    let mut wire = Wire::connect(site.address).await;
    wire.publish("cam").await;
    let empty = |id: u8| [vec![0, id], header(0, 0, 0, 18)[1..].to_vec()].concat();
    // All commands came on one chunk stream. With 63 more it is served …
    let more: Vec<u8> = (0..63).flat_map(empty).collect();
    wire.raw(&more).await;
    wire.send(4, 0, &[0, 6, 1, 2, 3, 4]).await;
    wire.until([0, 7, 1, 2, 3, 4]).await;
    // … and with the next it is not.
    wire.raw(&empty(63)).await;
    assert!(wire.until_closed(SOON).await.contains("more than 64 chunk streams"));
    site.stop().await;
}

#[tokio::test]
async fn bound_connections_of_a_source_and_in_all() {
    let limits = RtmpLimits { connections: 3, ..RtmpLimits::default() };
    let per_source = RtmpLimits { connections_per_source: 3, ..RtmpLimits::default() };
    for limits in [limits, per_source.clone()] {
        let site = Site::with(limits, None).await;
        let mut held = Vec::new();
        for n in 0..3 {
            let mut wire = Wire::connect(site.address).await;
            wire.publish(&format!("cam{n}")).await;
            held.push(wire);
        }
        assert_eq!(Wire::open(site.address).await.until_closed(SOON).await, "");
        // A place that is given back can be had.
        let mut last = held.pop().expect("three");
        last.command(0, "deleteStream", &[vec![5], number(1.0)].concat()).await;
        drop(last);
        let again = async {
            loop {
                let mut wire = Wire::open(site.address).await;
                wire.raw(&[3]).await;
                wire.raw(&[0; 1536]).await;
                if wire.connection.read_exact(&mut [0; 3073]).await.is_ok() {
                    break;
                }
            }
        };
        timeout(SOON, again).await.expect("a place");
        site.stop().await;
    }
    // Exempt sources have no bound of their own.
    let exempt = Exempt::new(["127.0.0.0/8".parse().expect("a network")]);
    let site = Site::with(RtmpLimits { exempt, ..per_source }, None).await;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(Wire::connect(site.address).await);
    }
    site.stop().await;
}

#[tokio::test]
async fn bound_connections_that_have_not_published() {
    let limits = RtmpLimits { half_open: 2, ..RtmpLimits::default() };
    let per_source = RtmpLimits { half_open_per_source: 2, ..RtmpLimits::default() };
    for limits in [limits, per_source] {
        let (server, _) = certificate();
        let site = Site::with(limits, Some(server)).await;
        // Those on the way to TLS count with the others.
        let _mute = Wire::open(site.tls_address.expect("a listener")).await;
        let mut first = Wire::connect(site.address).await;
        assert_eq!(Wire::open(site.address).await.until_closed(SOON).await, "");
        first.publish("cam").await;
        let _second = Wire::connect(site.address).await;
        site.stop().await;
    }
}

#[tokio::test]
async fn bound_time_for_handshake_publish_and_silence() {
    let (server, client) = certificate();
    let site = Site::with(RtmpLimits::default(), Some(server)).await;
    let tls_address = site.tls_address.expect("a listener");
    let start = Instant::now();
    let mute = Wire::open(site.address).await;
    let mute_before_tls = Wire::open(tls_address).await;
    let mute_after_tls = Wire::over(connect_tls(&client, tls_address).await);
    let mut halfway = Wire::open(site.address).await;
    halfway.raw(&[3; 1000]).await;
    let idle = Wire::connect(site.address).await;
    let greeted = Instant::now();
    let mut vanished = Wire::connect(site.address).await;
    vanished.publish("cam").await;
    let published = Instant::now();
    let ended = async |what: &str, wire: Wire, since: Instant, bound: u64| {
        let answer = wire.until_closed(Duration::from_secs(15)).await;
        let (elapsed, bound) = (since.elapsed(), Duration::from_secs(bound));
        let in_time = (bound - EARLY..=bound + LATE).contains(&elapsed);
        assert!(in_time, "{what}: closed after {elapsed:?}, the bound is {bound:?}");
        answer
    };
    // Silence may last 10 s; README promises some 8 s, so that the name is free within REL-01's 10 s.
    let (.., idle, vanished) = tokio::join!(
        ended("mute", mute, start, 5),
        ended("mute before TLS", mute_before_tls, start, 5),
        ended("mute after TLS", mute_after_tls, start, 5),
        ended("half a handshake", halfway, start, 5),
        ended("nothing published", idle, greeted, 10),
        ended("silent", vanished, published, 8),
    );
    assert!(idle.contains("IdleTimeOut") && vanished.contains("IdleTimeOut"), "{idle} {vanished}");
    site.stop().await;
}
