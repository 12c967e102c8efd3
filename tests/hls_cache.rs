//! HLS through an ordinary cache, over HTTP/2, and by delta updates.

mod common;

use common::{
    Ffmpeg, Hls, NginxCache, Playlist, Server, Small, Source, attribute_of, eventually, http_client, machine,
    seconds,
};
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

/// A keyframe every half second.
const SHORT_GROUPS: Small = Small { group: 15, video: 300, audio: 64 };

/// The seconds of the parts that are listed behind the last segment of a playlist.
fn growing(playlist: &Playlist) -> f64 {
    let lines = playlist.text.lines().rev().take_while(|line| line.starts_with('#'));
    let parts = lines.filter_map(|line| line.strip_prefix("#EXT-X-PART:"));
    let length = |list| attribute_of(list, "DURATION").and_then(|text| text.parse::<f64>().ok());
    parts.map(|list| length(list).expect("a duration")).sum()
}

/// What follows the line that `is_last` finds, but for the reports on siblings, which change more often.
fn after(text: &str, is_last: impl Fn(&str) -> bool) -> Vec<&str> {
    let rest = text.lines().skip_while(|line| !is_last(line)).skip(1);
    rest.filter(|line| !line.starts_with("#EXT-X-RENDITION-REPORT:")).collect()
}

/// D09: segments of 1 s make the target duration 2 s, and what ended 12 s ago may be skipped. The window is longer.
#[tokio::test(flavor = "multi_thread")]
async fn d09_a_delta_update_leaves_out_what_is_beyond_the_skip_boundary() {
    let _machine = machine().await;
    let server = Server::builder()
        .env("TIDEGATE_HLS_SEGMENT_DURATION", "1s")
        .env("TIDEGATE_HLS_WINDOW", "20")
        .start()
        .await;
    let _publisher = Ffmpeg::publish_small(SHORT_GROUPS, &server.rtmp_url("show"));
    let hls = Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(20)).await;
    for (kind, rendition) in hls.renditions() {
        let client = &server.client;
        let reload = |sequence: u64| format!("{rendition}?_HLS_msn={sequence}");
        let skipping = |sequence: u64| reload(sequence) + "&_HLS_skip=YES";

        // As long as all of it is within the boundary, the answer is the whole playlist.
        if kind == "video" {
            let young = text(client, &skipping(hls.playlist(rendition).await.next_sequence())).await;
            assert!(!young.contains("#EXT-X-SKIP"), "too early:\n{young}");
        }

        let long = hls.wait_for(rendition, seconds(15)).await;
        let control = long.text.lines().find_map(|line| line.strip_prefix("#EXT-X-SERVER-CONTROL:"));
        let boundary =
            control.and_then(|list| attribute_of(list, "CAN-SKIP-UNTIL")).expect("a skip boundary");
        let boundary: f64 = boundary.parse().expect("a number");
        assert_eq!((long.target_duration, boundary), (2.0, 12.0), "{}", long.text);

        // Both are held until the same segment is complete. The answers are of one state, unless a part came between.
        let (whole, delta) = eventually("both playlists of one state", seconds(10), || async {
            let next = hls.playlist(rendition).await.next_sequence();
            let (whole, skipping) = (reload(next), skipping(next));
            let (whole, delta) = tokio::join!(text(client, &whole), text(client, &skipping));
            let hint = "#EXT-X-PRELOAD-HINT:";
            let hinted = whole.lines().find(|line| line.starts_with(hint)).expect("a hint");
            let same = delta.lines().any(|line| line == hinted);
            same.then(|| (Playlist::parse(&whole), Playlist::parse(&delta)))
        })
        .await;

        let skip = delta.text.lines().find_map(|line| line.strip_prefix("#EXT-X-SKIP:"));
        let skipped = skip.and_then(|list| attribute_of(list, "SKIPPED-SEGMENTS"));
        let skipped = skipped.unwrap_or_else(|| panic!("{kind}: no EXT-X-SKIP:\n{}", delta.text));
        let skipped: usize = skipped.parse().expect("a number");
        println!("{kind}: {skipped} of {} segments are skipped", whole.segments.len());
        assert!(skipped > 0 && skipped < whole.segments.len(), "{skipped}:\n{}", whole.text);
        let version = delta.text.lines().find_map(|line| line.strip_prefix("#EXT-X-VERSION:"));
        let version: u32 = version.and_then(|version| version.parse().ok()).expect("a version");
        assert!(version >= 9, "RFC 8216bis §8: {version}");
        assert!(delta.text.len() < whole.text.len(), "{} of {} bytes", delta.text.len(), whole.text.len());

        // What was skipped and what is listed are the playlist.
        assert_eq!(delta.media_sequence, whole.media_sequence);
        assert_eq!(skipped + delta.segments.len(), whole.segments.len());
        assert_eq!(delta.next_sequence() + skipped as u64, whole.next_sequence());
        let last_skipped = &whole.segments[skipped - 1].uri;
        assert_eq!(
            after(&delta.text, |line| line.starts_with("#EXT-X-SKIP:")),
            after(&whole.text, |line| line == last_skipped)
        );

        // Exactly what is beyond the boundary was skipped.
        let from_end = |skipped: usize| {
            let listed = whole.segments[skipped..].iter().map(|segment| segment.duration);
            listed.sum::<f64>() + growing(&whole)
        };
        assert!(from_end(skipped) > boundary - 0.01, "{} s are left:\n{}", from_end(skipped), delta.text);
        assert!(from_end(skipped + 1) < boundary + 0.01, "{skipped} are too few:\n{}", whole.text);
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
