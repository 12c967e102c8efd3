//! REL-04 and REL-05: targets that are down, slow, silent or mad cost nobody else a frame, and come back.

mod common;

use common::in_process::{Gateway, dialer, next_stream, reaches, restreams, show, target, until};
use common::{Chaos, Ffmpeg, Mischief, Source, messages_of, seconds};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};
use tidegate::media::{Codec, Frame, MediaKind, MediaTime, Tracks, VideoTrack};
use tidegate::restream::TargetStateKind::{Failing, Live, Retrying, Waiting};
use tidegate::rtmp::{Dialer, FailureClass, Resolver, TlsRoots};
use tidegate::stream::{Hub, Publisher, Source as Origin, SourceKind};
use tokio::time::{Instant, interval, timeout};
use tokio_util::sync::CancellationToken;

#[tokio::test(start_paused = true)]
async fn rel04_ten_minutes_down_and_live_from_a_keyframe_half_a_minute_after() {
    const DOWN: Duration = Duration::from_secs(600);
    let (hub, _watcher) = Hub::new(Duration::from_secs(60));
    let receiver = Gateway::start().await;
    let mut arriving = receiver.hub.events();
    let begun = Instant::now();
    let tries = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let restreams = restreams(&hub, with_answers(tries.clone(), begun, DOWN, receiver.address));
    let show_runs = Show::begin(&hub);
    let mut bystander = show_runs.publisher.stream().subscribe::<Frame>();
    let view = restreams.add(show(), target("rtmp://target.example/live/copy")).await.expect("added");

    // The show goes on for ten minutes of the paused clock; then it is real time.
    let written = show_runs.written.clone();
    let playing = tokio::spawn(show_runs.play());
    let reading = tokio::spawn(async move {
        let mut read = 0u64;
        while let Ok(Some(_)) = timeout(Duration::from_secs(3600), bystander.recv()).await {
            read += 1;
        }
        (read, bystander.lost())
    });
    while begun.elapsed() < DOWN - Duration::from_secs(1) {
        let view = restreams.get(&show(), &view.id).expect("there");
        assert!(view.state.kind() != Live && view.state.kind() != Failing, "{view:?}");
        assert_eq!((view.queue.frames, view.queue.bytes), (0, 0), "nothing is kept for it");
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let view = until(&restreams, &view.id, 60, "live", |view| view.state.kind() == Live).await;
    let after = begun.elapsed() - DOWN;
    assert!(after <= Duration::from_secs(35), "live {after:?} after its return");
    let failure = view.last_error.expect("a failure");
    assert_eq!((failure.class, view.attempts, view.reconnects), (FailureClass::NameResolution, 0, 1));
    let first = timeout(seconds(5), next_stream(&mut arriving)).await.expect("arrives").recv().await;
    let first = first.expect("media");
    assert!(first.keyframe && first.kind == MediaKind::Video, "it begins with a keyframe");

    let tries = tries.lock().clone();
    let waits: Vec<_> = tries.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
    println!("{} tries, live {after:?} after the return", tries.len());
    assert!(waits.iter().all(|wait| (0.99..30.1).contains(wait)), "{waits:?}");
    assert!(waits[1..].iter().any(|wait| *wait > 8.0) && waits.len() > 20, "they grow: {waits:?}");
    let distinct = waits.windows(2).filter(|pair| (pair[0] - pair[1]).abs() > 0.1).count();
    assert!(distinct * 10 > waits.len() * 8, "chance spreads them: {waits:?}");

    playing.abort();
    let _ = playing.await;
    hub.close();
    let (read, lost) = timeout(seconds(10), reading).await.expect("it ends").expect("no panic");
    assert_eq!((read, lost), (written.load(Relaxed), 0), "another reader has every frame");
    restreams.shutdown().await;
}

#[tokio::test]
async fn rel04_rel05_whatever_targets_do_nobody_else_loses_a_frame() {
    let (gateway, receiver) = (Gateway::start().await, Gateway::start().await);
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let restreams = restreams(&gateway.hub, dialer(TlsRoots::only([])));
    let (mut ffmpeg, mut bystander) = gateway.show("show").await;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let reading = tokio::spawn(async move {
        let mut last = None;
        while let Some(Some(frame)) = stopped.run_until_cancelled(bystander.recv()).await {
            if frame.kind == MediaKind::Video {
                assert!(last.is_none_or(|last| frame.dts.since(last) < Duration::from_millis(100)), "a gap");
                last = Some(frame.dts);
            }
        }
        bystander.lost()
    });
    let add = async |address: SocketAddr, key: &str| {
        let url = format!("rtmp://{address}/live/{key}");
        restreams.add(show(), target(&url)).await.expect("added").id
    };
    let (reset, stall) = (Mischief::Reset(seconds(5)), Mischief::Stall(seconds(1)));
    let latency = Mischief::Latency(Duration::from_millis(30));
    let chaos = async |seed, mischief| Chaos::start(receiver.address, seed, mischief).await;
    let (resets, stalls) = (chaos(1, reset).await, chaos(2, stall).await);
    let (slow, late) = (chaos(3, Mischief::Throttle(25_000)).await, chaos(4, latency).await);
    let garbage = chaos(5, Mischief::Garbage).await;
    let started = Instant::now();
    let steady = add(receiver.address, "steady").await;
    let resetting = add(resets.address(), "reset").await;
    let stalling = add(stalls.address(), "stall").await;
    let slowed = add(slow.address(), "slow").await;
    let lagging = add(late.address(), "late").await;
    let mad = add(garbage.address(), "garbage").await;
    let mute = add(silent.local_addr().expect("bound"), "mute").await;

    // Accepts TCP and says nothing; says nonsense; stops in mid-show: each is found and told.
    let view = reaches(&restreams, &mute, 15, Retrying).await;
    assert_eq!(view.last_error.expect("a failure").class, FailureClass::Silent);
    assert!(started.elapsed() < seconds(15));
    let view = reaches(&restreams, &mad, 15, Retrying).await;
    let class = view.last_error.expect("a failure").class;
    assert!(
        [FailureClass::Protocol, FailureClass::Closed, FailureClass::Silent].contains(&class),
        "{class:?}"
    );
    let view = until(&restreams, &stalling, 30, "found silent", |view| view.last_error.is_some()).await;
    let failure = view.last_error.expect("a failure");
    assert_eq!(failure.class, FailureClass::Silent);
    println!("a stall after 1 s was found {:?} after the start", started.elapsed());
    assert!(started.elapsed() < seconds(18), "{:?}", started.elapsed());
    // Torn down every 5 s, it comes back each time, later each time.
    let view = until(&restreams, &resetting, 40, "back twice", |view| view.reconnects >= 1).await;
    assert!(view.last_error.is_some());
    // A third of what it should take: frames are left out, in whole groups, within the bound.
    let view = until(&restreams, &slowed, 60, "too slow", |view| {
        assert!(view.queue.bytes <= 4_200_000, "{view:?}");
        view.last_error.as_ref().is_some_and(|failure| failure.class == FailureClass::TooSlow)
    })
    .await;
    println!("slow: {} frames left out, {:?}", view.dropped_frames, view.queue);

    // Those beside them never noticed.
    for id in [&steady, &lagging] {
        let view = reaches(&restreams, id, 5, Live).await;
        assert_eq!((view.dropped_frames, view.reconnects), (0, 0), "{view:?}");
        assert!(view.last_error.is_none(), "{view:?}");
    }
    stop.cancel();
    assert_eq!(timeout(seconds(5), reading).await.expect("it ends").expect("no gap"), 0, "frames lost");
    assert!(resets.connections() >= 2 && garbage.connections() >= 1);
    ffmpeg.kill().await.expect("killed");
    reaches(&restreams, &steady, 10, Waiting).await;
    restreams.shutdown().await;
    gateway.stop().await;
    receiver.stop().await;
}

#[tokio::test]
async fn a_name_is_asked_for_once_and_what_was_judged_is_connected_to() {
    let (gateway, receiver) = (Gateway::start().await, Gateway::start().await);
    let (mut ffmpeg, _) = gateway.show("show").await;
    // The answer to a second question would be this machine's metadata service.
    let (asked, good) = (Arc::new(AtomicU64::new(0)), receiver.address);
    let count = asked.clone();
    let resolver: Resolver = Arc::new(move |_, port| {
        let first = count.fetch_add(1, Relaxed) == 0;
        let bad = SocketAddr::from(([169, 254, 169, 254], port));
        Box::pin(async move { Ok(vec![if first { good } else { bad }]) })
    });
    let restreams = restreams(&gateway.hub, dialer(TlsRoots::only([])).with_resolver(resolver));
    let view = restreams.add(show(), target("rtmp://rebinding.example/live/copy")).await.expect("added");
    reaches(&restreams, &view.id, 10, Live).await;
    assert_eq!(asked.load(Relaxed), 1);
    let trial = restreams.test(&show(), &view.id).await.expect("there");
    let error = trial.error.expect("refused");
    assert_eq!(error.class, FailureClass::NotAllowed);
    assert!(error.reason.contains("169.254.169.254") && error.reason.contains("egress_allow"), "{error:?}");
    ffmpeg.kill().await.expect("killed");
    restreams.shutdown().await;
    gateway.stop().await;
    receiver.stop().await;
}

/// Answers with `address` once `down` of the paused clock is over; then time is real.
fn with_answers(
    tries: Arc<parking_lot::Mutex<Vec<Duration>>>,
    begun: Instant,
    down: Duration,
    address: SocketAddr,
) -> Dialer {
    let paused = Arc::new(AtomicBool::new(true));
    let resolver: Resolver = Arc::new(move |_, _| {
        tries.lock().push(begun.elapsed());
        let up = begun.elapsed() >= down;
        if up && paused.swap(false, Relaxed) {
            tokio::time::resume();
        }
        Box::pin(
            async move { if up { Ok(vec![address]) } else { Err(io::Error::other("the server is down")) } },
        )
    });
    dialer(TlsRoots::only([])).with_resolver(resolver)
}

/// A show that is published from memory: two seconds of pictures, again and again.
struct Show {
    publisher: Publisher<Frame>,
    tracks: Tracks,
    pictures: Vec<(bool, bytes::Bytes)>,
    written: Arc<AtomicU64>,
}

impl Show {
    fn begin(hub: &Hub) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("show.flv");
        Ffmpeg::render(Source::VideoOnly, seconds(2), &file);
        let (mut codec_data, mut pictures) = (bytes::Bytes::new(), Vec::new());
        for message in messages_of(&file) {
            let data = bytes::Bytes::copy_from_slice(&message.payload[5..]);
            match message.payload[1] {
                0 => codec_data = data,
                1 => pictures.push((message.payload[0] >> 4 == 1, data)),
                _ => {}
            }
        }
        let video = VideoTrack { resolution: Some((640, 360)), codec_data, ..VideoTrack::new(Codec::H264) };
        let tracks = Tracks { video: Some(video), ..Tracks::default() };
        let origin = Origin { kind: SourceKind::Demo, remote: None };
        let publisher = hub.publish(show(), origin).expect("free");
        Self { publisher, tracks, pictures, written: Arc::default() }
    }

    async fn play(self) {
        let epoch = self.publisher.begin_epoch(self.tracks, SystemTime::now());
        let mut ticks = interval(Duration::from_millis(33));
        for (number, (keyframe, data)) in self.pictures.iter().cycle().enumerate() {
            ticks.tick().await;
            let pts = MediaTime::from_millis(number as i64 * 33);
            let (kind, keyframe, data) = (MediaKind::Video, *keyframe, data.clone());
            self.publisher.write(Frame { epoch: epoch.clone(), kind, pts, dts: pts, keyframe, data });
            self.written.fetch_add(1, Relaxed);
        }
    }
}
