//! Several renditions of one stream: the layers of a simulcast publisher, the rungs of a ladder, and sound as Opus.
//! Judges are ffprobe, the playlists themselves, and hls.js in Chromium, which changes between them.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{
    Browser, Ffmpeg, Server, Simulcast, attribute_of, decode_errors, eventually, json_number, machine,
    packets, probe, seconds,
};
use serde_json::{Value, json};

/// The layers: rid and size.
const LAYERS: [(&str, (u32, u32)); 3] = [("f", (960, 540)), ("h", (640, 360)), ("q", (320, 180))];

#[tokio::test]
async fn layers_are_renditions_in_step_and_players_change_between_them() {
    let _machine = machine().await;
    let server = Server::start().await;
    let publisher = Simulcast::start(&server, "show", &LAYERS).await;
    let stream = Renditions::open(&server, "show", 3).await;
    let sizes: Vec<_> = stream.video.iter().map(|variant| variant.size).collect();
    assert_eq!(sizes, LAYERS.map(|(_, size)| size), "the best first: {}", stream.text);
    assert!(stream.video.iter().all(|variant| variant.audio.is_some()), "{}", stream.text);
    // Two that are complete, and the present one.
    stream.agree(3).await;
    stream.look_as_they_say().await;

    let mut viewer = Viewer::start(&stream.url, 0).await;
    assert_eq!(viewer.levels.len(), 3);
    for level in [1, 0, 2, 1, 2, 0] {
        viewer.change(level, LAYERS[viewer.layer(level)].1.1).await;
    }

    // The one that is watched goes away: its viewer gets another, the others' nothing of it.
    let lowest = viewer.level_of(180);
    drop(viewer);
    let mut viewer = Viewer::start(&stream.url, lowest).await;
    viewer.shows("the lowest layer", seconds(12), |stats| json_number(stats, "/height") == 180.0).await;
    publisher.media.pause_layer("q", true);
    viewer.command("auto");
    viewer.shows("another layer", seconds(15), |stats| json_number(stats, "/height") > 180.0).await;
    let low = stream.video[2].url.clone();
    let gap = eventually("the layer's playlist has a gap", seconds(15), || async {
        Some(fetch(&server, &low).await).filter(|text| text.contains("#EXT-X-GAP"))
    })
    .await;
    assert!(!gap.contains("#EXT-X-DISCONTINUITY\n") && !gap.contains("#EXT-X-ENDLIST"), "{gap}");
    let left = Renditions::open(&server, "show", 2).await;
    for variant in &left.video {
        let text = fetch(&server, &variant.url).await;
        assert!(!text.contains("#EXT-X-DISCONTINUITY\n") && !text.contains("#EXT-X-GAP"), "{text}");
    }
    publisher.media.pause_layer("q", false);
    eventually("the layer is back", seconds(15), || async {
        let back = Renditions::read(&server, "show").await?;
        (back.video.len() == 3).then_some(())
    })
    .await;
    // hls.js leaves a level where it finds a gap: what a viewer loads must be behind it.
    eventually("the layer has segments behind its gap", seconds(15), || async {
        let text = fetch(&server, &low).await;
        let behind = text.rsplit("#EXT-X-GAP").next().expect("a piece");
        (behind.matches("#EXTINF:").count() >= 3).then_some(())
    })
    .await;
    drop(viewer);
    let mut viewer = Viewer::start(&stream.url, lowest).await;
    viewer.shows("the layer that is back", seconds(12), |stats| json_number(stats, "/height") == 180.0).await;
}

#[tokio::test]
async fn l18_a_layer_that_comes_late_joins_the_others_in_step_and_costs_them_nothing() {
    let _machine = machine().await;
    let server = Server::start().await;
    let publisher = Simulcast::start_without(&server, "show", &LAYERS, &["q"]).await;
    let stream = Renditions::open(&server, "show", 2).await;
    let sizes = |stream: &Renditions| stream.video.iter().map(|variant| variant.size).collect::<Vec<_>>();
    assert_eq!(sizes(&stream), LAYERS[..2].iter().map(|(_, size)| *size).collect::<Vec<_>>());
    stream.agree(3).await;
    let late = server.url("/show/video-3.m3u8");
    assert_eq!(server.client.get(&late).send().await.expect("an answer").status(), 404, "it never came");
    let others: Vec<&str> =
        stream.video.iter().map(|variant| variant.url.as_str()).chain([stream.audio.as_str()]).collect();
    let mut maps = Vec::new();
    for url in &others {
        maps.push(tagged(&fetch(&server, url).await, "#EXT-X-MAP").map(str::to_owned));
    }

    publisher.media.pause_layer("q", false);
    let grown = Renditions::open(&server, "show", 3).await;
    assert_eq!(sizes(&grown), LAYERS.map(|(_, size)| size), "the best first: {}", grown.text);
    assert_eq!(grown.video[2].url, late);
    grown.agree(3).await;
    grown.look_as_they_say().await;
    let text = fetch(&server, &late).await;
    assert!(!text.contains("#EXT-X-GAP") && !text.contains("#EXT-X-DISCONTINUITY\n"), "{text}");
    for (url, map) in others.iter().zip(&maps) {
        let text = fetch(&server, url).await;
        assert_eq!(tagged(&text, "#EXT-X-MAP"), map.as_deref(), "one stretch: {text}");
        assert!(!text.contains("#EXT-X-GAP") && !text.contains("#EXT-X-DISCONTINUITY\n"), "{text}");
    }
}

#[tokio::test]
async fn a_ladder_is_encoded_in_step_with_its_source() {
    let _machine = machine().await;
    let ladder = ("TIDEGATE_TRANSCODE_LADDER_FOR", "show=1080p+360p+180p+audio");
    let server = Server::builder().env(ladder.0, ladder.1).start().await;
    let _publisher = publish_b_frames(&server.rtmp_url("show"));
    let stream = Renditions::open(&server, "show", 3).await;
    let sizes: Vec<_> = stream.video.iter().map(|variant| variant.size).collect();
    assert_eq!(sizes, [(960, 540), (640, 360), (320, 180)], "nothing is made larger: {}", stream.text);
    assert!(stream.audio_only.is_some(), "{}", stream.text);
    // Two that are complete, and the present one.
    stream.agree(3).await;
    stream.look_as_they_say().await;
    let mut viewer = Viewer::start(&stream.url, 0).await;
    for height in [180, 540, 360] {
        let level = viewer.level_of(height);
        viewer.change(level, height).await;
    }
    // Another stream has none.
    let _other = publish_b_frames(&server.rtmp_url("other"));
    let other = Renditions::open(&server, "other", 1).await;
    assert_eq!(other.audio_only, None, "{}", other.text);
}

#[tokio::test]
async fn opus_stays_opus_where_it_may() {
    let _machine = machine().await;
    let server = Server::builder().env("TIDEGATE_HLS_AUDIO", "opus").start().await;
    let options = json!({ "source": "flash", "codec": "H264", "width": 320, "height": 180 });
    let _publisher = Browser::publish(&server.url("/show/whip"), options).await;
    let viewed = Browser::view_hls(&server.url("/show/index.m3u8"), json!({ "seconds": 5 })).await;
    assert_eq!(viewed["stalls"], 0, "{viewed}");
    assert!(viewed["codecs"][0].as_str().is_some_and(|codecs| codecs.ends_with(",opus")), "{viewed}");
    assert!(
        json_number(&viewed, "/sound/peak") > 0.05 && json_number(&viewed, "/advanced") > 4.0,
        "{viewed}"
    );
    let found = probe(&server.url("/show/index.m3u8")).await;
    assert_eq!(found.audio.as_deref(), Some("opus"), "{found:?}");
}

/// H.264 with two B-frames and AAC at 960x540, a keyframe every 2 s.
fn publish_b_frames(url: &str) -> Ffmpeg {
    let args = "-re -f lavfi -i testsrc2=s=960x540:r=25,format=yuv420p -re -f lavfi -i sine=f=500:r=48000 \
                -c:v libx264 -preset ultrafast -profile:v main -bf 2 -g 50 -sc_threshold 0 -b:v 1M -maxrate 1M \
                -bufsize 1M -threads 1 -c:a aac -b:a 96k";
    Ffmpeg::publish_with(&args.split_whitespace().collect::<Vec<_>>(), url)
}

/// A multivariant playlist.
struct Renditions<'a> {
    server: &'a Server,
    url: String,
    text: String,
    video: Vec<Variant>,
    audio_only: Option<String>,
    audio: String,
}

struct Variant {
    url: String,
    size: (u32, u32),
    audio: Option<String>,
    bandwidth: f64,
    frame_rate: f64,
    codecs: String,
}

impl<'a> Renditions<'a> {
    /// Waits until there are so many of pictures, and sound.
    async fn open(server: &'a Server, name: &str, count: usize) -> Self {
        eventually("the stream has its renditions", seconds(30), || async {
            let read = Self::read(server, name).await?;
            (read.video.len() == count && read.text.contains("#EXT-X-MEDIA:")).then_some(read)
        })
        .await
    }

    async fn read(server: &'a Server, name: &str) -> Option<Self> {
        let path = format!("/{name}/index.m3u8");
        let response = server.client.get(server.url(&path)).send().await.ok()?;
        if response.status() != 200 {
            return None;
        }
        let text = response.text().await.ok()?;
        let url = |file: &str| server.url(&format!("/{name}/{file}"));
        let (mut video, mut audio_only) = (Vec::new(), None);
        let lines: Vec<_> = text.lines().collect();
        for pair in lines.windows(2) {
            let Some(attributes) = pair[0].strip_prefix("#EXT-X-STREAM-INF:") else { continue };
            let value = |name| attribute_of(attributes, name);
            let Some(size) = value("RESOLUTION") else {
                audio_only = Some(url(pair[1]));
                continue;
            };
            let (width, height) = size.split_once('x').expect("two numbers");
            video.push(Variant {
                url: url(pair[1]),
                size: (width.parse().expect("a number"), height.parse().expect("a number")),
                audio: value("AUDIO"),
                bandwidth: value("BANDWIDTH")?.parse().expect("a number"),
                frame_rate: value("FRAME-RATE").map_or(0.0, |rate| rate.parse().expect("a number")),
                codecs: value("CODECS")?,
            });
        }
        Some(Self { server, url: url("index.m3u8"), video, audio_only, audio: url("audio.m3u8"), text })
    }

    /// All playlists have the same durations, control tags and discontinuity sequence, and a report of each other
    /// rendition; those of the pictures begin segments at the same times. Looks until that is seen of `segments`.
    async fn agree(&self, segments: usize) {
        eventually("the renditions have segments of the same times", seconds(20), || async {
            let mut lists = Vec::new();
            for variant in &self.video {
                lists.push(fetch(self.server, &variant.url).await);
            }
            let audio = fetch(self.server, &self.audio).await;
            for list in lists.iter().chain([&audio]) {
                for tag in [
                    "#EXT-X-TARGETDURATION",
                    "#EXT-X-PART-INF",
                    "#EXT-X-SERVER-CONTROL",
                    "#EXT-X-DISCONTINUITY-SEQUENCE",
                ] {
                    assert_eq!(tagged(list, tag), tagged(&audio, tag), "{tag} of\n{list}\n{audio}");
                }
                // A rendition can be reported once it has a part.
                if list.matches("#EXT-X-RENDITION-REPORT:").count() < self.video.len() {
                    return None;
                }
            }
            let times: Vec<Vec<i64>> = lists.iter().map(|list| independent_starts(list)).collect();
            let (best, others) = times.split_first().expect("there are pictures");
            let near = |time: &i64, list: &Vec<i64>| list.iter().any(|other| (other - time).abs() <= 40);
            let common = best.iter().filter(|time| others.iter().all(|list| near(time, list))).count();
            (common >= segments).then_some(())
        })
        .await;
    }

    /// What is in the renditions is what the multivariant playlist says, and shows the same at the same time.
    async fn look_as_they_say(&self) {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut keyframes, mut peaks): (Vec<Vec<f64>>, Vec<f64>) = Default::default();
        for (index, variant) in self.video.iter().enumerate() {
            let list = fetch(self.server, &variant.url).await;
            let (file, peak) =
                download(self.server, &variant.url, &list, &folder.path().join(index.to_string())).await;
            let found = probe(&file).await;
            assert_eq!((found.width as u32, found.height as u32), variant.size, "{found:?}");
            assert_eq!(decode_errors(&file).await, "", "{}", variant.url);
            assert!(
                variant.codecs.starts_with("avc1.") && variant.codecs.ends_with(",mp4a.40.2"),
                "{}",
                variant.codecs
            );
            assert!((variant.frame_rate - 27.5).abs() < 3.0, "25 or 30: {}", variant.frame_rate);
            println!("{}: BANDWIDTH {}, measured {peak:.0} without sound", variant.url, variant.bandwidth);
            peaks.push(peak);
            // ffprobe shows a track with negative composition offsets late by the largest of them. The decode time of
            // a segment's first picture is the segment's earliest presentation time (CMAF), and so the keyframe's.
            let times = packets(&file, "v").await;
            keyframes.push(times.iter().filter(|packet| packet.2).map(|packet| packet.1).collect());
        }
        assert!(peaks.is_sorted_by(|larger, smaller| larger > smaller), "smaller, fewer bits: {peaks:?}");
        let (best, others) = keyframes.split_first().expect("there are pictures");
        for list in others {
            let near = |time: &&f64| list.iter().any(|other| (other - **time).abs() < 0.005);
            let common = best.iter().filter(near).count();
            assert!(common >= 2, "keyframes at {best:?} and {list:?}");
        }
    }
}

/// hls.js in Chromium.
struct Viewer {
    browser: Browser,
    /// The attributes of its levels: hls.js has the worst first.
    levels: Vec<Value>,
}

impl Viewer {
    /// Begins with a level.
    async fn start(url: &str, level: usize) -> Self {
        let mut browser = Browser::start("switch_levels", json!({ "url": url, "level": level }));
        let playing = browser.event("playing", seconds(40)).await;
        let levels = playing["levels"].as_array().cloned().unwrap_or_default();
        Self { browser, levels }
    }

    fn level_of(&self, height: u32) -> usize {
        let has = |level: &Value| {
            level["RESOLUTION"].as_str().is_some_and(|size| size.ends_with(&format!("x{height}")))
        };
        self.levels.iter().position(has).unwrap_or_else(|| panic!("{height} of {:?}", self.levels))
    }

    /// The layer that a level is.
    fn layer(&self, level: usize) -> usize {
        let is = |(_, (_, height)): &(&str, (u32, u32))| self.level_of(*height) == level;
        LAYERS.iter().position(is).expect("a layer")
    }

    fn command(&mut self, command: &str) {
        self.browser.command(command);
    }

    async fn stats(&mut self) -> Value {
        self.browser.command("stats");
        self.browser.event("stats", seconds(5)).await
    }

    /// Loads a level; waits until it is seen, and that without a stall.
    async fn change(&mut self, level: usize, height: u32) {
        let before = self.stats().await;
        self.command(&level.to_string());
        let what = format!("a picture {height} high");
        let after =
            self.shows(&what, seconds(12), |stats| json_number(stats, "/height") == f64::from(height)).await;
        assert_eq!(after["stalls"], before["stalls"], "on the way to {height}: {after}");
    }

    async fn shows(&mut self, what: &str, limit: Duration, holds: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + limit;
        loop {
            let stats = self.stats().await;
            if holds(&stats) {
                return stats;
            }
            assert!(Instant::now() < end, "not within {limit:?}: {what}: {stats}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn fetch(server: &Server, url: &str) -> String {
    let response = server.client.get(url).send().await.expect("an answer");
    assert_eq!(response.status(), 200, "GET {url}");
    response.text().await.expect("text")
}

/// Initialisation and complete segments of a playlist in one file; with the most bits a second of a segment.
async fn download(server: &Server, url: &str, list: &str, path: &Path) -> (String, f64) {
    let file = |name: &str| format!("{}/{name}", url.rsplit_once('/').expect("a path").0);
    let map = tagged(list, "#EXT-X-MAP").and_then(|map| attribute_of(map, "URI")).expect("an initialisation");
    let get = async |name: &str| {
        server.client.get(file(name)).send().await.expect("an answer").bytes().await.expect("bytes")
    };
    let mut data = get(&map).await.to_vec();
    let (mut duration, mut peak) = (0.0, 0.0_f64);
    for line in list.lines() {
        if let Some(value) = line.strip_prefix("#EXTINF:") {
            duration = value.trim_end_matches(',').parse().expect("a duration");
        } else if !line.starts_with('#') && !line.is_empty() {
            let segment = get(line).await;
            if duration > 1.5 {
                peak = peak.max(segment.len() as f64 * 8.0 / duration);
            }
            data.extend(segment);
        }
    }
    let path = path.with_extension("mp4");
    std::fs::write(&path, data).expect("a file");
    (path.to_str().expect("a path").to_owned(), peak)
}

/// The date-times in milliseconds of segments that begin with an independent part.
fn independent_starts(list: &str) -> Vec<i64> {
    let (mut starts, mut time) = (Vec::new(), None);
    for line in list.lines() {
        if let Some(value) = line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:") {
            time = chrono::DateTime::parse_from_rfc3339(value).ok().map(|time| time.timestamp_millis());
        } else if line.starts_with("#EXT-X-PART:")
            && let Some(time) = time.take()
            && line.contains("INDEPENDENT=YES")
        {
            starts.push(time);
        }
    }
    starts
}

/// What follows the tag in its first line.
fn tagged<'a>(list: &'a str, tag: &str) -> Option<&'a str> {
    list.lines().find_map(|line| line.strip_prefix(tag)?.strip_prefix(':'))
}
