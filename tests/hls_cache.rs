//! HLS through an ordinary cache, and over HTTP/2.

mod common;

use common::{Ffmpeg, Hls, NginxCache, Server, Source, http_client, machine, seconds};
use reqwest::{Client, StatusCode, Version};
use std::time::Duration;
use tokio::task::JoinSet;

const PLAYERS: usize = 200;
/// Parts that each player fetches, one after the other.
const PARTS: usize = 12;

/// What a player knows from a playlist: where the next part will be, and the parts there are.
struct Edge {
    next: (u64, u64),
    parts: Vec<String>,
}

impl Edge {
    fn read(playlist: &str) -> Self {
        let (mut segment, mut part, mut parts) = (0, 0, Vec::new());
        for line in playlist.lines() {
            if let Some(number) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
                segment = number.parse().expect("a number");
            } else if line.starts_with("#EXTINF:") {
                (segment, part) = (segment + 1, 0);
            } else if let Some((_, uri)) =
                line.strip_prefix("#EXT-X-PART:").and_then(|list| list.split_once("URI=\""))
            {
                parts.push(uri.split('"').next().expect("a name").to_owned());
                part += 1;
            }
        }
        Self { next: (segment, part), parts }
    }
}

async fn text(client: &Client, url: &str) -> String {
    let answer = client.get(url).send().await.unwrap_or_else(|error| panic!("GET {url}: {error}"));
    assert_eq!(answer.status(), StatusCode::OK, "GET {url}");
    answer.text().await.expect("a body")
}

/// A player of low latency: asks for the playlist with the next part, then for the part.
async fn play(client: Client, folder: String) {
    text(&client, &format!("{folder}/index.m3u8")).await;
    let mut edge = Edge::read(&text(&client, &format!("{folder}/video.m3u8")).await);
    for _ in 0..PARTS {
        let (segment, part) = edge.next;
        let reload = format!("{folder}/video.m3u8?_HLS_msn={segment}&_HLS_part={part}");
        edge = Edge::read(&text(&client, &reload).await);
        let newest = edge.parts.last().expect("a part");
        let answer = client.get(format!("{folder}/{newest}")).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK, "{newest}");
        assert!(answer.bytes().await.expect("a body").len() > 100, "{newest}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_players_behind_a_cache_cost_the_server_one_request_a_part() {
    let _machine = machine().await;
    let server = Server::start().await;
    let _publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(20)).await;
    let cache = NginxCache::start(server.http).await;
    let mut players = JoinSet::new();
    for _ in 0..PLAYERS {
        // Each with connections of its own.
        let client = http_client().build().expect("a client");
        players.spawn(play(client, cache.url("/show")));
    }
    while let Some(played) = players.join_next().await {
        played.expect("a player plays");
    }
    let asked = cache.asked();
    let named = |part: &'static str| asked.iter().filter(move |(uri, _)| uri.contains(part));
    let (parts, reloads) = (named(".m4s"), named("_HLS_"));
    for (uri, (players, upstream)) in parts.chain(reloads) {
        assert_eq!(*upstream, 1, "{uri}, which {players} asked for");
    }
    let of_players: usize = named(".m4s").map(|(_, (players, _))| players).sum();
    assert_eq!(of_players, PLAYERS * PARTS);
    assert!(named(".m4s").count() < 10 * PARTS, "they asked for the same parts: {}", named(".m4s").count());
    // Without directives a playlist is asked for again when it is a second old.
    for uri in ["/show/index.m3u8", "/show/video.m3u8"] {
        let (players, upstream) = asked[uri];
        assert!(players == PLAYERS && upstream < PLAYERS / 4, "{uri}: {upstream} of {players}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hls_over_http_2_and_by_ranges() {
    let server = Server::start().await;
    let _publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(20)).await;
    let client = http_client().http2_prior_knowledge().build().expect("a client");
    let answer = client.get(server.url("/show/video.m3u8")).send().await.expect("an answer");
    assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2));
    let edge = Edge::read(&answer.text().await.expect("a body"));
    // Requests that are held share one connection with those that are not.
    let (segment, part) = edge.next;
    let ask = |part: u64| {
        let url = server.url(&format!("/show/video.m3u8?_HLS_msn={segment}&_HLS_part={part}"));
        let client = client.clone();
        async move { client.get(url).send().await.expect("an answer").status() }
    };
    let (first, second, health) =
        tokio::join!(ask(part), ask(part + 2), client.get(server.url("/healthz")).send());
    assert_eq!((first, second), (StatusCode::OK, StatusCode::OK));
    assert_eq!(health.expect("an answer").version(), Version::HTTP_2);

    let url = server.url(&format!("/show/{}", edge.parts[0]));
    for client in [&client, &server.client] {
        let whole = client.get(&url).send().await.expect("an answer").bytes().await.expect("a body");
        let head = client.head(&url).send().await.expect("an answer");
        assert_eq!(head.headers()["content-length"], whole.len().to_string());
        assert!(head.bytes().await.expect("no body").is_empty());
        let range = client.get(&url).header("range", "bytes=10-19").send().await.expect("an answer");
        assert_eq!(range.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(range.headers()["content-range"], format!("bytes 10-19/{}", whole.len()));
        assert_eq!(range.bytes().await.expect("a body"), whole[10..20]);
        let beyond = client.get(&url).header("range", "bytes=99999999-").send().await.expect("an answer");
        assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    }
}

/// HTTP/2 has no timeout for headers in hyper: the server watches over it.
#[tokio::test(flavor = "multi_thread")]
async fn an_http_2_client_that_asks_for_nothing_is_closed() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = Server::start().await;
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", server.http)).await.expect("a connection");
    // The preface, empty SETTINGS, and the beginning of a request's headers that never end.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("sent");
    stream.write_all(b"\0\0\x01\x01\0\0\0\0\x01\x82").await.expect("sent");
    let mut told = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut told)).await;
    assert!(closed.is_ok(), "still open after 30 s");
    assert!(!told.is_empty(), "its own SETTINGS at least");
}
