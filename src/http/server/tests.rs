//! Limits of the accept loop, on real sockets and in real time (the slowest takes 10 s).

use super::*;
use crate::auth::{Keyring, Publishing};
use crate::declarations::Declarations;
use crate::events::Journal;
use crate::hls::{Hls, HlsSettings};
use crate::http::connection::{HEADER_BYTES, HEADER_COUNT};
use crate::media::Secret;
use crate::metrics::{Metrics, Sources};
use crate::pipeline::Pipelines;
use crate::restream::{RestreamSettings, Restreams};
use crate::store::Store;
use crate::stream::Hub;
use crate::webhooks::Webhooks;
use crate::webrtc::{WebRtc, WebRtcSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

struct Running {
    address: SocketAddr,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

async fn run(connections_per_source: usize) -> Running {
    run_with(connections_per_source, &[], crate::http::RateSettings::off()).await
}

async fn run_with(
    connections_per_source: usize,
    proxies: &[&str],
    rates: crate::http::RateSettings,
) -> Running {
    let (hub, _reaper) = Hub::new(Duration::ZERO);
    let pipelines = Pipelines::load(None).expect("GStreamer");
    let settings = HlsSettings::default();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let webrtc = WebRtcSettings::new(any);
    let journal = Journal::new(std::time::SystemTime::now(), 100);
    let webhooks = Webhooks::idle();
    let restreams = Restreams::new(hub.clone(), Store::in_memory(), RestreamSettings::default());
    let webrtc = WebRtc::start(webrtc, hub.clone()).expect("a port");
    let sources = Sources {
        webhooks: webhooks.clone(),
        hub: hub.clone(),
        restreams: restreams.clone(),
        webrtc: webrtc.clone(),
        rtmp: Arc::default(),
        refusals: Default::default(),
        pipelines: pipelines.clone(),
        journal: journal.clone(),
    };
    let rooms = Rooms {
        hub: hub.clone(),
        hls: Hls::new(settings, pipelines),
        webrtc,
        restreams,
        rtmp: Arc::default(),
        declarations: Declarations::load(Store::in_memory(), hub).await.expect("empty"),
        journal,
        webhooks,
        metrics: Metrics::new(sources, false),
    };
    let access = Access {
        admin_token: Secret::new("admin-token"),
        publishing: Publishing::Open,
        keyring: Keyring::empty(),
    };
    let trusted = proxies.iter().map(|network| network.parse().expect("a network"));
    let settings = HttpSettings {
        listen: any,
        connections_per_source,
        proxies: Proxies::new(trusted, crate::http::ForwardedHeader::XForwardedFor),
        rates,
        origins: crate::http::Origins::Any,
        ice_servers: crate::http::IceServers::none(),
        open_metrics: false,
        about: About::nothing(),
        hosts: None,
    };
    let http = Http::bind(settings, rooms, access, CancellationToken::new()).await.expect("a port");
    let address = http.local_addr();
    let cancel = CancellationToken::new();
    Running { address, task: tokio::spawn(http.run(cancel.clone())), cancel }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    /// What the server says after `request`, until it closes.
    async fn exchange(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request).await.expect("sent");
        rest(stream).await
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.expect("no panic");
    }
}

/// Everything until the end of the connection, however it ends.
async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_request_is_answered_over_a_socket() {
    let server = run(10).await;
    let answer = server.exchange(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("ok\n"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn too_many_or_too_large_headers_are_refused() {
    let server = run(10).await;
    let many = "a: b\r\n".repeat(HEADER_COUNT + 1);
    let large = format!("a: {}\r\n", "x".repeat(HEADER_BYTES));
    for headers in [many, large] {
        let request = format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        let answer = server.exchange(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn who_sends_far_too_much_still_hears_why() {
    let server = run(10).await;
    let length = 2_000_000;
    let head = format!(
        "POST /x/whip HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/sdp\r\n\
         content-length: {length}\r\n\r\n"
    );
    let request = [head.into_bytes(), vec![b'a'; length]].concat();
    let answer = server.exchange(&request).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn who_is_refused_before_the_body_is_read_keeps_the_connection() {
    let server = run(10).await;
    let mut stream = server.connect().await;
    let head =
        "POST /x/whip HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 60000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("sent");
    // The body comes in pieces, as from a client on a slow line.
    for _ in 0..60 {
        stream.write_all(&[b'a'; 1000]).await.expect("sent");
        tokio::task::yield_now().await;
    }
    let second = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(second).await.expect("sent");
    let answers = rest(stream).await;
    assert!(answers.starts_with("HTTP/1.1 415 ") && answers.contains("HTTP/1.1 200 "), "{answers}");
    server.stop().await;
}

#[tokio::test]
async fn a_source_gets_no_more_connections_than_its_limit() {
    let server = run(1).await;
    let mut first = server.connect().await;
    first.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    let mut answer = [0; 12];
    first.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
    assert_eq!(server.exchange(b"").await, "", "closed without an answer");
    drop(first);
    server.stop().await;
}

#[tokio::test]
async fn clients_of_a_trusted_proxy_are_told_apart_and_nobody_else_is_believed() {
    let rates = || crate::http::RateSettings {
        posts_per_second: Some(std::num::NonZeroU32::MIN),
        ..crate::http::RateSettings::off()
    };
    let post = async |server: &Running, forwarded: &str| {
        let request = format!(
            "POST /x/whip HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: text/plain\r\n\
             content-length: 0\r\n{forwarded}\r\n"
        );
        let answer = server.exchange(request.as_bytes()).await;
        answer.get(9..12).expect("a status").to_owned()
    };
    let server = run_with(1, &["127.0.0.1/32"], rates()).await;
    let held = server.connect().await; // the bound of connections is not for proxies
    assert_eq!(post(&server, "X-Forwarded-For: 203.0.113.1\r\n").await, "415");
    assert_eq!(post(&server, "X-Forwarded-For: 203.0.113.1\r\n").await, "429", "the same client");
    assert_eq!(post(&server, "X-Forwarded-For: 203.0.113.2\r\n").await, "415", "another one");
    let spoofed = "X-Forwarded-For: 198.51.100.7, 203.0.113.2\r\nForwarded: for=198.51.100.8\r\n";
    assert_eq!(post(&server, spoofed).await, "429", "what the client wrote itself does not count");
    drop(held);
    server.stop().await;
    let server = run_with(10, &["10.0.0.0/8"], rates()).await;
    assert_eq!(post(&server, "X-Forwarded-For: 203.0.113.1\r\n").await, "415");
    assert_eq!(post(&server, "X-Forwarded-For: 203.0.113.2\r\n").await, "429", "this is no proxy of ours");
    server.stop().await;
}

#[tokio::test]
async fn who_says_nothing_is_closed_after_5_s_and_who_stops_halfway_after_10() {
    let server = run(10).await;
    let silent = server.connect().await;
    let mut halfway = server.connect().await;
    halfway.write_all(b"GET /healthz HTTP/1.1\r\nhost: ").await.expect("sent");
    let began = Instant::now();
    let (silent, halfway) = tokio::join!(
        async {
            rest(silent).await;
            began.elapsed()
        },
        async {
            rest(halfway).await;
            began.elapsed()
        }
    );
    assert!((4..6).contains(&silent.as_secs()), "{silent:?}");
    assert!((9..12).contains(&halfway.as_secs()), "{halfway:?}");
    server.stop().await;
}

#[tokio::test]
async fn stopping_closes_idle_connections_at_once() {
    let server = run(10).await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    let mut answer = [0; 12];
    idle.read_exact(&mut answer).await.expect("an answer");
    let address = server.address;
    let began = Instant::now();
    server.stop().await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    rest(idle).await;
    assert!(TcpStream::connect(address).await.is_err());
}
