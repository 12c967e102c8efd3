//! Restreams to real servers: what arrives, and what happens when they go away.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tidegate::media::{Frame, MediaKind, StreamName};
use tidegate::restream::{NewTarget, Restreams, TargetState, TargetView};
use tidegate::rtmp::{Authorize, Refusal, RtmpServer, TlsRoots};
use tidegate::stream::{Hub, StreamEvent, Subscriber};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// An RTMP server on a hub: a source of streams, and a target for others.
struct Gateway {
    hub: Hub,
    address: SocketAddr,
    cancel: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Gateway {
    async fn start() -> Self {
        let (hub, reaper) = Hub::new(Duration::from_millis(200));
        let cancel = CancellationToken::new();
        let authorize: Authorize = Arc::new(|request| {
            let key = request.key.reveal();
            let refusal = || Refusal { description: format!("the key {key} is unknown") };
            if request.query.as_ref().is_some_and(|query| !query.matches("token=right")) {
                return Err(refusal());
            }
            key.parse::<StreamName>().map_err(|_| refusal())
        });
        let listen = "127.0.0.1:0".parse().expect("an address");
        let server = RtmpServer::bind(listen, hub.clone(), authorize).await.expect("bound");
        let address = server.local_addr();
        let tasks = vec![tokio::spawn(server.run(cancel.clone())), tokio::spawn(reaper.run(cancel.clone()))];
        Self { hub, address, cancel, tasks }
    }

    async fn stop(self) {
        self.cancel.cancel();
        for task in self.tasks {
            timeout(Duration::from_secs(5), task).await.expect("ends in time").expect("no panic");
        }
    }

    /// ffmpeg publishes in real time until it is killed; returns when media flows.
    async fn show(&self, name: &str) -> (Child, Subscriber<Frame>) {
        let mut events = self.hub.events();
        let url = format!("rtmp://{}/live/{name}", self.address);
        let arguments = "-v error -nostdin -re -f lavfi -i testsrc2=s=320x180:r=25 -re -f lavfi -i sine=r=48000 \
             -pix_fmt yuv420p -c:v libx264 -preset ultrafast -bf 2 -g 25 -sc_threshold 0 -c:a aac -f flv";
        let mut command = Command::new("ffmpeg");
        command.args(arguments.split_whitespace()).arg(url).stdin(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().expect("installed");
        let mut subscriber = next_stream(&mut events).await;
        timeout(Duration::from_secs(10), subscriber.recv()).await.expect("media").expect("live");
        (child, subscriber)
    }
}

async fn next_stream(events: &mut tokio::sync::broadcast::Receiver<StreamEvent>) -> Subscriber<Frame> {
    loop {
        let event = timeout(Duration::from_secs(20), events.recv()).await.expect("in time").expect("open");
        if let StreamEvent::Started(stream) = event {
            return stream.subscribe();
        }
    }
}

fn name() -> StreamName {
    "show".parse().expect("valid")
}

fn target(url: &str) -> NewTarget {
    NewTarget { url: url.to_owned(), name: None }
}

/// Waits for a state of the only target.
async fn until(
    restreams: &Restreams,
    most: u64,
    what: &str,
    wanted: impl Fn(&TargetState) -> bool,
) -> TargetView {
    let start = Instant::now();
    loop {
        let view = restreams.list(&name()).pop().expect("a target");
        if wanted(&view.state) {
            return view;
        }
        assert!(start.elapsed() < Duration::from_secs(most), "not {what} within {most} s: {:?}", view.state);
        sleep(Duration::from_millis(20)).await;
    }
}

fn is_live(state: &TargetState) -> bool {
    matches!(state, TargetState::Live { .. })
}

fn is_retrying(state: &TargetState) -> bool {
    matches!(state, TargetState::Retrying { .. })
}

/// nginx with its RTMP module, recording what is pushed to it.
struct Nginx {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Nginx {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let free = StdListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let path = folder.path().display();
        let configuration = format!(
            "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\ndaemon off; master_process off;\n\
             pid {path}/pid; error_log {path}/error.log info;\nevents {{}}\n\
             rtmp {{ server {{ listen 127.0.0.1:{port}; application app {{ live on; record all; record_path {path}; \
             record_suffix -%s.flv; }} application closed {{ live on; deny publish all; }} }} }}\n"
        );
        std::fs::write(folder.path().join("nginx.conf"), configuration).expect("written");
        let mut nginx = Self { folder, port, child: None };
        nginx.run().await;
        nginx
    }

    async fn run(&mut self) {
        let mut command = Command::new("nginx");
        command.arg("-c").arg(self.folder.path().join("nginx.conf")).arg("-p").arg(self.folder.path());
        command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        self.child = Some(command.spawn().expect("installed"));
        let ready = async {
            while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(5), ready).await.expect("nginx listens");
    }

    async fn kill(&mut self) {
        self.child.take().expect("running").kill().await.expect("killed");
    }

    fn recordings(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path()).expect("readable").flatten();
        let mut found: Vec<_> = entries.map(|entry| entry.path()).filter(|path| is_flv(path)).collect();
        found.sort();
        found
    }

    fn url(&self, app: &str) -> String {
        format!("rtmp://127.0.0.1:{}/{app}/canary", self.port)
    }
}

fn is_flv(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "flv")
}

/// Codec names and, for each packet, stream, decoding time in ms and flags.
async fn probe(file: &Path) -> (Vec<String>, Vec<(usize, i64, String)>) {
    let arguments = "-v error -show_entries stream=codec_name:packet=stream_index,dts,flags -of json";
    let output = Command::new("ffprobe").args(arguments.split_whitespace()).arg(file).output().await;
    let output = output.expect("installed");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let array = |name: &str| json[name].as_array().cloned().unwrap_or_default();
    let codecs = array("streams").iter().map(|stream| text(&stream["codec_name"])).collect();
    let packet = |packet: &serde_json::Value| {
        let number = |name: &str| packet[name].as_i64().expect("a number");
        (number("stream_index") as usize, number("dts"), text(&packet["flags"]))
    };
    (codecs, array("packets").iter().map(packet).collect())
}

async fn assert_good_recording(file: &Path, least_seconds: i64) {
    let (codecs, packets) = probe(file).await;
    let video = codecs.iter().position(|codec| codec == "h264").expect("H.264");
    let audio = codecs.iter().position(|codec| codec == "aac").expect("AAC");
    for track in [video, audio] {
        let of_track: Vec<_> = packets.iter().filter(|packet| packet.0 == track).collect();
        assert!(of_track.windows(2).all(|pair| pair[0].1 < pair[1].1), "decoding times rise");
        let (first, last) = (of_track[0].1, of_track[of_track.len() - 1].1);
        assert!(first < 1000, "begins near 0, not at {first}");
        assert!(last - first >= least_seconds * 1000, "{} ms", last - first);
        let rate = of_track.len() as f64 * 1000.0 / (last - first) as f64;
        let expected = if track == video { 25.0 } else { 46.9 };
        assert!((rate / expected - 1.0).abs() < 0.05, "{rate} frames a second, nothing may be missing");
    }
    let first = packets.iter().find(|packet| packet.0 == video).expect("video");
    assert!(first.2.starts_with('K'), "begins at a keyframe");
}

#[tokio::test]
async fn nginx_records_the_show_and_its_death_and_return_disturb_nobody() {
    let (gateway, mut nginx) = (Gateway::start().await, Nginx::start().await);
    let restreams = Restreams::new(gateway.hub.clone());
    let view = restreams.add(name(), target(&nginx.url("app"))).expect("added");
    assert!(matches!(view.state, TargetState::Waiting { .. }));
    let (mut ffmpeg, mut bystander) = gateway.show("show").await;
    let view = until(&restreams, 10, "live", is_live).await;
    assert!(!serde_json::to_string(&view).expect("JSON").contains("canary"));
    sleep(Duration::from_secs(4)).await;

    nginx.kill().await;
    let view = until(&restreams, 5, "retrying", is_retrying).await;
    assert!(view.bytes_sent > 50_000 && view.live_since.is_none(), "{view:?}");
    let TargetState::Retrying { reason, attempt, .. } = view.state else { unreachable!() };
    assert!(reason.contains("closed") && attempt == 1, "{reason}");
    nginx.run().await;
    until(&restreams, 35, "live again", is_live).await;
    sleep(Duration::from_secs(3)).await;
    assert!(restreams.remove(&name(), &view.id).await);
    assert!(restreams.list(&name()).is_empty());

    let recordings = nginx.recordings();
    assert_eq!(recordings.len(), 2);
    for recording in &recordings {
        assert_good_recording(recording, 2).await;
    }
    // Another reader of the stream has every frame.
    let mut last = None;
    while let Some(frame) = bystander.try_recv() {
        if frame.kind == MediaKind::Video {
            if let Some(last) = last {
                assert!(frame.dts.since(last) < Duration::from_millis(100), "a gap");
            }
            last = Some(frame.dts);
        }
    }
    assert_eq!(bystander.lost(), 0);
    ffmpeg.kill().await.expect("killed");
    gateway.stop().await;
}

#[tokio::test]
async fn a_refusal_is_told_and_tried_again() {
    let (gateway, receiver, nginx) = (Gateway::start().await, Gateway::start().await, Nginx::start().await);
    let restreams = Restreams::new(gateway.hub.clone());
    let (mut ffmpeg, _) = gateway.show("show").await;
    let url = format!("rtmp://{}/live/canary?token=wrong", receiver.address);
    let view = restreams.add(name(), target(&url)).expect("added");
    let refused = until(&restreams, 5, "retrying", is_retrying).await;
    let TargetState::Retrying { reason, .. } = refused.state else { unreachable!() };
    assert!(reason.contains("NetStream.Publish.Denied") && !reason.contains("canary"), "{reason}");
    until(&restreams, 10, "tried again", |state| matches!(state, TargetState::Retrying { attempt: 2.., .. }))
        .await;
    restreams.remove(&name(), &view.id).await;

    for (url, word) in [
        (nginx.url("closed"), "closed"),
        ("rtmp://127.0.0.1:1/live/canary".to_owned(), "can't connect to 127.0.0.1:1"),
        ("rtmp://nowhere.invalid/live/canary".to_owned(), "can't find nowhere.invalid"),
    ] {
        let view = restreams.add(name(), target(&url)).expect("added");
        let failed = until(&restreams, 12, "retrying", is_retrying).await;
        let TargetState::Retrying { reason, .. } = failed.state else { unreachable!() };
        assert!(reason.contains(word) && !reason.contains("canary"), "{reason}");
        restreams.remove(&name(), &view.id).await;
    }
    ffmpeg.kill().await.expect("killed");
    gateway.stop().await;
    receiver.stop().await;
}

#[tokio::test]
async fn a_target_added_in_mid_show_begins_at_a_keyframe_and_ends_cleanly() {
    let (gateway, receiver) = (Gateway::start().await, Gateway::start().await);
    let restreams = Restreams::new(gateway.hub.clone());
    let (mut ffmpeg, _) = gateway.show("show").await;
    sleep(Duration::from_millis(1700)).await;
    let mut events = receiver.hub.events();
    let url = format!("rtmp://user:pass@{}/live/copy?token=right", receiver.address);
    let view = restreams.add(name(), target(&url)).expect("added");
    let mut copy = next_stream(&mut events).await;
    let first = timeout(Duration::from_secs(5), copy.recv()).await.expect("media").expect("live");
    assert!(first.keyframe && first.kind == MediaKind::Video);
    assert!(first.epoch.tracks.audio.is_some() && first.epoch.tracks.video.is_some());
    until(&restreams, 5, "live", is_live).await;
    let source = gateway.hub.get(&name()).expect("live");
    assert_eq!(source.statistics().snapshot().restream_readers, 1);

    let start = Instant::now();
    assert!(restreams.remove(&name(), &view.id).await);
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(receiver.hub.get(&"copy".parse().expect("valid")).is_none_or(|stream| stream.source().is_none()));
    assert_eq!(source.statistics().snapshot().restream_readers, 0);

    // A show that ends takes its target back to waiting.
    restreams.add(name(), target(&url)).expect("added");
    until(&restreams, 5, "live", is_live).await;
    ffmpeg.kill().await.expect("killed");
    until(&restreams, 5, "waiting", |state| matches!(state, TargetState::Waiting { .. })).await;
    restreams.shutdown().await;
    assert!(restreams.add(name(), target(&url)).is_err());
    gateway.stop().await;
    receiver.stop().await;
}

#[tokio::test]
async fn a_secure_target_must_have_the_right_certificate() {
    use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio_rustls::{TlsAcceptor, rustls};
    let mut authority = rcgen::CertificateParams::new(Vec::new()).expect("valid");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().expect("a key");
    let root = authority.self_signed(&authority_key).expect("signed");
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let leaf_key = rcgen::KeyPair::generate().expect("a key");
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("valid");
    let leaf = leaf.signed_by(&leaf_key, &issuer).expect("signed");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .expect("a certificate");
    let (gateway, receiver) = (Gateway::start().await, Gateway::start().await);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let port = listener.local_addr().expect("bound").port();
    let (acceptor, behind) = (TlsAcceptor::from(Arc::new(config)), receiver.address);
    let terminator = tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let Ok(mut secure) = acceptor.accept(connection).await else { continue };
            let name = secure.get_ref().1.server_name().map(str::to_owned);
            assert_eq!(name.as_deref(), Some("localhost"), "the name is indicated");
            let mut plain = TcpStream::connect(behind).await.expect("listening");
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut secure, &mut plain).await });
        }
    });
    let (mut ffmpeg, _) = gateway.show("show").await;
    let url = format!("rtmps://localhost:{port}/live/copy");

    let trusting = Restreams::with_roots(gateway.hub.clone(), TlsRoots::only([root.der().to_vec()]));
    let mut events = receiver.hub.events();
    trusting.add(name(), target(&url)).expect("added");
    let mut copy = next_stream(&mut events).await;
    for _ in 0..50 {
        timeout(Duration::from_secs(5), copy.recv()).await.expect("media").expect("live");
    }
    trusting.shutdown().await;

    let strangers = Restreams::with_roots(gateway.hub.clone(), TlsRoots::only([]));
    strangers.add(name(), target(&url)).expect("added");
    let failed = until(&strangers, 5, "retrying", is_retrying).await;
    let TargetState::Retrying { reason, .. } = failed.state else { unreachable!() };
    assert!(reason.contains("no secure connection to localhost"), "{reason}");
    strangers.shutdown().await;
    ffmpeg.kill().await.expect("killed");
    terminator.abort();
    gateway.stop().await;
    receiver.stop().await;
}

#[tokio::test]
async fn a_target_that_takes_nothing_any_more_is_found_within_15_seconds() {
    let (gateway, receiver) = (Gateway::start().await, Gateway::start().await);
    // A proxy that stops moving bytes when told to.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let freeze = CancellationToken::new();
    let (frozen, behind) = (freeze.clone(), receiver.address);
    let proxy = tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.expect("a connection");
        let mut far = TcpStream::connect(behind).await.expect("listening");
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            () = frozen.cancelled() => std::future::pending().await,
        }
    });
    let restreams = Restreams::new(gateway.hub.clone());
    let (mut ffmpeg, mut bystander) = gateway.show("show").await;
    restreams.add(name(), target(&format!("rtmp://{address}/live/copy"))).expect("added");
    until(&restreams, 10, "live", is_live).await;
    freeze.cancel();
    let start = Instant::now();
    let view = until(&restreams, 25, "retrying", is_retrying).await;
    println!("found after {:?}: {:?}", start.elapsed(), view.state);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    while bystander.try_recv().is_some() {}
    assert_eq!(bystander.lost(), 0);
    restreams.shutdown().await;
    proxy.abort();
    ffmpeg.kill().await.expect("killed");
    gateway.stop().await;
    receiver.stop().await;
}
