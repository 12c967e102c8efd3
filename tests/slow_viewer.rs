//! REL-06 for WHEP: a viewer that takes nothing any more costs the gateway little and the others nothing.

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::{
    Fate, MediaKind, Pictures, Programme, Publishing, RtcClient, RtcEvent, RtcOptions, Server, eventually,
    is_rtp, seconds,
};

/// What may be kept for one slow viewer.
const KEPT: u64 = 2 << 20;
/// Within which it is dropped or downgraded.
const LIMIT: Duration = seconds(10);
/// Datagrams a second that are more than reports and checks.
const MEDIA: u64 = 20;

#[tokio::test]
async fn rel06_viewers_that_fall_silent_cost_nothing_after_10_s() {
    let server = Server::start().await;
    let (_publisher, media) = publish(&server).await;
    let witness = Witness::start(&server).await;
    let mut stalled = Vec::new();
    for _ in 0..5 {
        let mut viewer = view(&server, RtcOptions::default()).await;
        viewer.packet(MediaKind::Video).await;
        stalled.push(viewer);
    }
    let (before, start) = (resident(&server), Instant::now());
    for viewer in &stalled {
        viewer.set_frozen(true).await;
    }
    // Their sockets are full at once: what comes after is dropped by the kernel, which counts it.
    for viewer in &stalled {
        eventually("datagrams are lost at the silent viewer", seconds(5), || async {
            (kernel_drops(viewer.local) > 0).then_some(())
        })
        .await;
    }
    for viewer in &stalled {
        eventually(
            "the silent viewer is dropped or sent no media",
            // What it takes to see it.
            (LIMIT + seconds(2)).saturating_sub(start.elapsed()),
            || async {
                let before = kernel_drops(viewer.local);
                tokio::time::sleep(seconds(1)).await;
                let is_over = viewer.trickle().await.status() == 404;
                (is_over || kernel_drops(viewer.local) - before < MEDIA).then_some(())
            },
        )
        .await;
    }
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < KEPT * stalled.len() as u64, "{grown} bytes more");
    witness.saw_all(&media).await;
}

#[tokio::test]
async fn rel06_a_tcp_viewer_that_reads_nothing_is_dropped_or_skips() {
    let server = Server::start().await;
    let (_publisher, media) = publish(&server).await;
    let witness = Witness::start(&server).await;
    let options = RtcOptions { tcp: true, ..RtcOptions::default() };
    let mut viewer = view(&server, options).await;
    viewer.packet(MediaKind::Video).await;
    // The stream's own caches have their size after two groups of pictures.
    eventually("the third group begins", seconds(10), || async { (media.sent() > 130).then_some(()) }).await;
    let before = resident(&server);
    viewer.set_reading(false).await;
    // The kernels' buffers are full long before; what the server adds is its own.
    let dropped = async {
        loop {
            let queued = unacknowledged(server.webrtc);
            let kept = resident(&server).saturating_sub(before) + queued;
            assert!(kept < KEPT, "{kept} bytes are kept, {queued} of them in the socket");
            if viewer.trickle().await.status() == 404 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let outcome = tokio::time::timeout(LIMIT + seconds(2), dropped).await;
    if outcome.is_err() {
        // Not dropped: then it has missed the time between, and goes on live.
        let live = media.sent();
        viewer.set_reading(true).await;
        let mut pictures = Pictures::default();
        viewer
            .wait_for("a live picture", seconds(5), |event| {
                let RtcEvent::Media(packet) = event else { return None };
                let picture = (packet.kind == MediaKind::Video).then(|| pictures.push(&packet)).flatten()?;
                (picture.number() >= Some(live)).then_some(())
            })
            .await;
    }
    witness.saw_all(&media).await;
}

#[tokio::test]
async fn rel06_a_viewer_that_loses_nearly_everything_is_told_that_it_is_over() {
    let server = Server::start().await;
    let (_publisher, media) = publish(&server).await;
    let witness = Witness::start(&server).await;
    // Retransmissions would hide a part of the loss in its reports.
    let mut viewer = view(&server, RtcOptions { rtx: false, ..RtcOptions::default() }).await;
    viewer.packet(MediaKind::Video).await;
    // Nineteen of twenty; its checks and reports get through.
    let mut count = 0;
    let lossy = move |data: &[u8]| {
        count += u32::from(is_rtp(data));
        if is_rtp(data) && !count.is_multiple_of(20) { Fate::Drop } else { Fate::Pass }
    };
    viewer.filter_incoming(lossy).await;
    // The limit, and the interval of its reports.
    let end = |event| matches!(event, RtcEvent::Closed).then_some(());
    viewer.wait_for("the end of the session", LIMIT + seconds(4), end).await;
    witness.saw_all(&media).await;
}

#[tokio::test]
async fn rel06_a_viewer_whose_network_comes_back_goes_on() {
    let server = Server::start().await;
    let (_publisher, media) = publish(&server).await;
    let mut viewer = view(&server, RtcOptions::default()).await;
    viewer.packet(MediaKind::Video).await;
    // Longer than it is sent anything, shorter than its consent: it must be served again.
    viewer.set_frozen(true).await;
    tokio::time::sleep(LIMIT).await;
    let live = media.sent();
    viewer.set_frozen(false).await;
    let mut pictures = Pictures::default();
    let mut decodable = false;
    viewer
        .wait_for("live pictures that can be decoded", seconds(10), |event| {
            let RtcEvent::Media(packet) = event else { return None };
            let picture = (packet.kind == MediaKind::Video).then(|| pictures.push(&packet)).flatten()?;
            decodable |= picture.is_decodable_start() && picture.number() >= Some(live.saturating_sub(60));
            (decodable && picture.number() > Some(live)).then_some(())
        })
        .await;
}

#[tokio::test]
async fn rel06_the_others_pictures_come_as_without_the_stalled_viewers() {
    let _machine = common::machine().await;
    // Side by side, so that whatever else the machine does delays both.
    let (with, without) = (Server::start().await, Server::start().await);
    let (_publisher, _media) = publish(&with).await;
    let (_other, _others_media) = publish(&without).await;
    let (mut with_stalled, mut alone) =
        (view(&with, RtcOptions::default()).await, view(&without, RtcOptions::default()).await);
    // Longer than it takes to see that others are stalled, and what is done about it.
    let pictures = 450;
    let (before, _) = tokio::join!(arrivals(&mut with_stalled, pictures), arrivals(&mut alone, pictures));
    let mut stalled = Vec::new();
    for number in 0..6 {
        let tcp = number % 2 == 0;
        let mut viewer = view(&with, RtcOptions { tcp, ..RtcOptions::default() }).await;
        viewer.packet(MediaKind::Video).await;
        if tcp {
            viewer.set_reading(false).await;
        } else {
            viewer.set_frozen(true).await;
        }
        stalled.push(viewer);
    }
    let (with, without) = tokio::join!(arrivals(&mut with_stalled, pictures), arrivals(&mut alone, pictures));
    println!("from picture to picture: before {before:?}, with {with:?}, without {without:?}");
    // p99 is unchanged, as far as a shared machine can tell.
    let limit = 2 * before.p99 + Duration::from_millis(15);
    assert!(with.p99 <= limit, "{with:?} after {before:?}, limit {limit:?}");
    // And no more than one of a hundred comes later than it may.
    assert!(with.starved <= 2 * without.starved + pictures / 100, "{with:?} against {without:?}");
}

/// How a viewer's pictures came.
#[derive(Debug)]
struct Arrivals {
    /// From a picture to the next.
    p99: Duration,
    /// Pictures that came more than [`STARVED`] after the one before.
    starved: usize,
}

/// Three pictures are missing by then.
const STARVED: Duration = Duration::from_millis(100);

/// Looks at so many pictures.
async fn arrivals(viewer: &mut RtcClient, count: usize) -> Arrivals {
    viewer.drain();
    let (mut pictures, mut times) = (Pictures::default(), Vec::new());
    viewer
        .wait_for("the pictures", seconds(60), |event| {
            let RtcEvent::Media(packet) = event else { return None };
            let picture = (packet.kind == MediaKind::Video).then(|| pictures.push(&packet)).flatten()?;
            times.push(picture.at);
            (times.len() > count).then_some(())
        })
        .await;
    let mut gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable();
    Arrivals { p99: gaps[gaps.len() * 99 / 100], starved: gaps.iter().filter(|gap| **gap > STARVED).count() }
}

/// A viewer that must not miss a picture.
struct Witness(tokio::task::JoinHandle<()>, tokio::sync::oneshot::Sender<u32>);

impl Witness {
    async fn start(server: &Server) -> Self {
        let mut viewer = view(server, RtcOptions::default()).await;
        viewer.packet(MediaKind::Video).await;
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let mut pictures = Pictures::default();
            let (mut last, mut until): (Option<u32>, _) = (None, None);
            while let Some(event) = viewer.next().await {
                let RtcEvent::Media(packet) = event else { continue };
                let Some(picture) =
                    (packet.kind == MediaKind::Video).then(|| pictures.push(&packet)).flatten()
                else {
                    continue;
                };
                let number = picture.number().expect("a number");
                if let Some(last) = last {
                    assert!(picture.complete && number == last + 1, "{number} after {last}: {picture:?}");
                }
                last = Some(number);
                until = until.or_else(|| stopped.try_recv().ok());
                if until.is_some_and(|until| number >= until) {
                    return;
                }
            }
            panic!("the witness was closed");
        });
        Self(task, stop)
    }

    /// Panics unless it has seen every picture until now.
    async fn saw_all(self, media: &Publishing) {
        let Self(task, stop) = self;
        stop.send(media.sent()).expect("the witness watches");
        tokio::time::timeout(seconds(5), task).await.expect("pictures come").expect("no picture is missing");
    }
}

/// A connected publisher of `show`.
async fn publish(server: &Server) -> (RtcClient, Publishing) {
    let mut publisher = RtcClient::publish(server, "show", RtcOptions::default()).await;
    let media = Publishing::start(publisher.sender(), Programme::default());
    publisher.connected().await;
    eventually("the first picture is sent", seconds(5), || async { (media.sent() > 0).then_some(()) }).await;
    (publisher, media)
}

/// A connected viewer of `show`.
async fn view(server: &Server, options: RtcOptions) -> RtcClient {
    let mut viewer = RtcClient::view(server, "show", options).await;
    viewer.connected().await;
    viewer
}

/// Resident bytes of the server.
fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process.id())).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    1024 * line.split_whitespace().next().and_then(|value| value.parse::<u64>().ok()).expect("a number")
}

/// Datagrams that found a socket's queue full.
fn kernel_drops(local: SocketAddr) -> u64 {
    let table = std::fs::read_to_string("/proc/net/udp").expect("procfs");
    let port = format!(":{:04X}", local.port());
    let line = table.lines().find(|line| line.split_whitespace().nth(1).is_some_and(|a| a.ends_with(&port)));
    line.and_then(|line| line.split_whitespace().last()?.parse().ok()).expect("the socket is there")
}

/// Bytes in the kernel's send queues of the connections at `port`.
fn unacknowledged(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("procfs");
    let local = format!(":{port:04X}");
    table
        .lines()
        .filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let sends = fields.get(1)?.ends_with(&local) && *fields.get(3)? == "01";
            let queue = u64::from_str_radix(fields.get(4)?.split(':').next()?, 16).ok()?;
            sends.then_some(queue)
        })
        .sum()
}
