//! Parts of Tidegate in the test's own process: an RTMP server on a hub, and restreams from it.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tidegate::admission::EgressGuard;
use tidegate::media::{Frame, Secret, StreamName};
use tidegate::restream::{NewTarget, RestreamSettings, Restreams, TargetStateKind, TargetView};
use tidegate::rtmp::{Authorize, Dialer, Refusal, RtmpServer, TlsRoots};
use tidegate::store::Store;
use tidegate::stream::{Hub, StreamEvent, Subscriber};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// An RTMP server on a hub: a source of streams, and a target for others.
pub struct Gateway {
    pub hub: Hub,
    pub address: SocketAddr,
    cancel: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Gateway {
    /// Takes every key that is a stream's name, without a query or with `token=right`.
    pub async fn start() -> Self {
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

    /// Ends it in order.
    pub async fn stop(self) {
        self.cancel.cancel();
        for task in self.tasks {
            timeout(Duration::from_secs(5), task).await.expect("ends in time").expect("no panic");
        }
    }

    /// ffmpeg publishes in real time until it is killed; returns when media flows.
    pub async fn show(&self, name: &str) -> (Child, Subscriber<Frame>) {
        let mut events = self.hub.events();
        let url = format!("rtmp://{}/live/{name}", self.address);
        let arguments = "-v error -nostdin -re -f lavfi -i testsrc2=s=320x180:r=25 -re -f lavfi -i sine=r=48000 \
             -pix_fmt yuv420p -c:v libx264 -preset ultrafast -bf 2 -g 25 -sc_threshold 0 -c:a aac -f flv";
        let mut command = Command::new("ffmpeg");
        command.args(arguments.split_whitespace()).arg(url).stdin(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().expect("installed");
        let mut subscriber = next_stream(&mut events).await;
        timeout(Duration::from_secs(20), subscriber.recv()).await.expect("media").expect("live");
        (child, subscriber)
    }
}

/// A subscriber of the next stream that begins.
pub async fn next_stream(events: &mut tokio::sync::broadcast::Receiver<StreamEvent>) -> Subscriber<Frame> {
    loop {
        let event = timeout(Duration::from_secs(20), events.recv()).await.expect("in time").expect("open");
        if let StreamEvent::Started(stream) = event {
            return stream.subscribe();
        }
    }
}

/// Pushes may go to this machine, and trust `roots`.
pub fn dialer(roots: TlsRoots) -> Dialer {
    Dialer::new(
        roots,
        EgressGuard::new(["127.0.0.0/8", "::1/128"].map(|network| network.parse().expect("a network"))),
    )
}

/// Restreams that keep nothing, through `dialer`.
pub fn restreams(hub: &Hub, dialer: Dialer) -> Arc<Restreams> {
    let settings = RestreamSettings { dialer, ..RestreamSettings::default() };
    Restreams::new(hub.clone(), Store::in_memory(), settings)
}

/// A target at `url`, with nothing else wanted.
pub fn target(url: &str) -> NewTarget {
    NewTarget { url: Secret::new(url), name: None, enabled: true, audio_bitrate: None }
}

/// The stream that is shown.
pub fn show() -> StreamName {
    "show".parse().expect("valid")
}

/// Waits until the target `id` of the show is in a state.
pub async fn reaches(restreams: &Restreams, id: &str, most: u64, wanted: TargetStateKind) -> TargetView {
    until(restreams, id, most, wanted.as_str(), |view| view.state.kind() == wanted).await
}

/// Waits until the target `id` of the show is as it is wanted.
pub async fn until(
    restreams: &Restreams,
    id: &str,
    most: u64,
    what: &str,
    wanted: impl Fn(&TargetView) -> bool,
) -> TargetView {
    let start = Instant::now();
    loop {
        let view = restreams.get(&show(), id).expect("the target is there");
        if wanted(&view) {
            return view;
        }
        assert!(start.elapsed() < Duration::from_secs(most), "not {what} within {most} s: {view:?}");
        sleep(Duration::from_millis(20)).await;
    }
}
