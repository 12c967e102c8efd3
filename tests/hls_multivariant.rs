//! What the multivariant playlist says of a stream is what its media are, for each codec: judged by ffprobe, and by
//! counting the bytes of all segments since the stream began.

mod common;

use std::time::{Duration, Instant};

use common::{Browser, Ffmpeg, Hls, Server, attribute_of, decode_errors, machine, packets, probe, seconds};
use reqwest::Url;
use serde_json::{Value, json};

/// So much of a stream is measured.
const MEASURED: Duration = seconds(20);
/// What a bandwidth may be off (L18).
const TOLERANCE: f64 = 0.1;

#[tokio::test]
async fn h264() {
    let _machine = machine().await;
    let server = Server::start().await;
    let args = "-re -f lavfi -i testsrc2=s=640x360:r=30000/1001,format=yuv420p -re -f lavfi -i sine=f=500:r=48000 \
                -c:v libx264 -preset ultrafast -profile:v main -bf 2 -g 60 -sc_threshold 0 -b:v 1M -threads 1 \
                -c:a aac -b:a 96k";
    let args: Vec<_> = args.split_whitespace().collect();
    let _publisher = Ffmpeg::publish_with(&args, &server.rtmp_url("show"));
    says_what_is(&server, |level| format!("avc1.4D40{level:02X}"), "mp4a.40.2", "SDR").await;
}

#[tokio::test]
async fn h265() {
    published("hevc", "aac", |level| format!("hvc1.1.6.L{level}.90"), "mp4a.40.2").await;
}

#[tokio::test]
async fn av1() {
    published("av1", "aac", |level| format!("av01.0.{level:02}M.08"), "mp4a.40.2").await;
}

#[tokio::test]
async fn vp9() {
    // ffprobe knows no level of VP9. 640x360 at 30 pictures a second is level 2.1.
    published("vp9", "opus", |_| "vp09.00.21.08".to_owned(), "mp4a.40.2").await;
}

#[tokio::test]
async fn h265_with_the_high_dynamic_range_of_pq() {
    let options = json!({ "video": "hevc", "audio": "aac", "transfer": "smpte2084" });
    published_with(options, |level| format!("hvc1.2.4.L{level}.90"), "mp4a.40.2", "PQ").await;
}

#[tokio::test]
async fn av1_with_the_high_dynamic_range_of_hlg() {
    let options = json!({ "video": "av1", "audio": "aac", "transfer": "arib-std-b67" });
    published_with(options, |level| format!("av01.0.{level:02}M.10"), "mp4a.40.2", "HLG").await;
}

async fn published(video: &str, audio: &str, named: impl Fn(i64) -> String, sound: &str) {
    published_with(json!({ "video": video, "audio": audio }), named, sound, "SDR").await;
}

/// By FFmpeg 8 over Enhanced RTMP.
async fn published_with(options: Value, named: impl Fn(i64) -> String, sound: &str, range: &str) {
    let _machine = machine().await;
    let server = Server::start().await;
    let _publisher = Browser::publish_with("ffmpeg_rtmp.py", &server.rtmp_url("show"), options).await;
    says_what_is(&server, named, sound, range).await;
}

/// `named` gives the codec's name, from the level that ffprobe finds.
async fn says_what_is(server: &Server, named: impl Fn(i64) -> String, sound: &str, range: &str) {
    let url = server.url("/show/index.m3u8");
    let hls = Hls::open(&server.client, &url, seconds(30)).await;
    let (video, audio) = (hls.video.clone().expect("pictures"), hls.audio.clone().expect("sound"));
    println!("at first: {}", stream_inf(&hls.multivariant));
    let end = Instant::now() + MEASURED;
    let (pictures, sounds) = tokio::join!(Sizes::follow(&hls, &video, end), Sizes::follow(&hls, &audio, end));
    let folder = tempfile::tempdir().expect("a folder");
    let file = hls.download(&video, folder.path(), "video").await;
    let text = server.client.get(&url).send().await.expect("an answer").text().await.expect("text");
    let told = stream_inf(&text);
    println!("after {MEASURED:?}: {told}");
    let value = |name: &str| attribute_of(told, name).unwrap_or_else(|| panic!("no {name}: {told}"));
    let number = |name: &str| value(name).parse::<f64>().expect("a number");

    let near = |name: &str, measured: f64| {
        let told = number(name);
        println!("{name} is {told}, measured are {measured:.0}");
        assert!((told / measured - 1.0).abs() <= TOLERANCE, "{name} is {told}, measured are {measured:.0}");
    };
    near("BANDWIDTH", pictures.peak() + sounds.peak());
    near("AVERAGE-BANDWIDTH", pictures.average() + sounds.average());

    let path = file.to_str().expect("a path");
    let found = probe(path).await;
    assert_eq!(decode_errors(path).await, "");
    assert_eq!(value("RESOLUTION"), format!("{}x{}", found.width, found.height));
    assert_eq!(value("CODECS"), format!("{},{sound}", named(found.level)), "{found:?}");
    let mut times: Vec<f64> = packets(path, "v").await.iter().map(|packet| packet.0).collect();
    times.sort_by(f64::total_cmp);
    let length = times.last().expect("pictures") - times.first().expect("pictures");
    let rate = (times.len() - 1) as f64 / length;
    assert!((number("FRAME-RATE") / rate - 1.0).abs() < 0.005, "measured are {rate}: {told}");
    assert_eq!(value("VIDEO-RANGE"), range);
}

/// The attributes of the one variant.
fn stream_inf(text: &str) -> &str {
    let mut variants = text.lines().filter_map(|line| line.strip_prefix("#EXT-X-STREAM-INF:"));
    let variant = variants.next().unwrap_or_else(|| panic!("no variant: {text}"));
    assert_eq!(variants.next(), None, "{text}");
    variant
}

/// Durations in seconds and bits of a rendition's segments, from the first on.
struct Sizes {
    target: f64,
    segments: Vec<(f64, f64)>,
}

impl Sizes {
    /// Fetches each segment until `end`.
    async fn follow(hls: &Hls, rendition: &Url, end: Instant) -> Self {
        let (mut sizes, mut next) = (Self { target: 0.0, segments: Vec::new() }, None);
        while Instant::now() < end {
            let playlist = hls.playlist(rendition).await;
            sizes.target = playlist.target_duration;
            let wanted = *next.get_or_insert(playlist.media_sequence);
            assert!(playlist.media_sequence <= wanted, "segment {wanted} was missed:\n{}", playlist.text);
            for segment in playlist.segments.iter().skip((wanted - playlist.media_sequence) as usize) {
                let bytes = hls.media(rendition, &segment.uri).await.len();
                sizes.segments.push((segment.duration, 8.0 * bytes as f64));
            }
            next = Some(playlist.next_sequence());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        sizes
    }

    /// The peak segment bit rate (RFC 8216bis §4.4.6.2): of contiguous segments that last between half and one and a
    /// half target durations together, the largest.
    fn peak(&self) -> f64 {
        let all = &self.segments;
        let runs = (0..all.len()).flat_map(|from| (from + 1..=all.len()).map(move |to| &all[from..to]));
        let sums = runs.map(|run| run.iter().fold((0.0, 0.0), |sum, size| (sum.0 + size.0, sum.1 + size.1)));
        let lasting = sums.filter(|(length, _)| (0.5..=1.5).contains(&(length / self.target)));
        lasting.map(|(length, bits)| bits / length).fold(0.0, f64::max)
    }

    fn average(&self) -> f64 {
        let sum = self.segments.iter().fold((0.0, 0.0), |sum, size| (sum.0 + size.0, sum.1 + size.1));
        sum.1 / sum.0
    }
}
