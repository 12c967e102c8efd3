//! Real media through the whole room: ffmpeg makes it, the hub carries it, the muxers cut it, and ffmpeg
//! reads it back over a small HTTP server of the test's own.

use super::{Hls, HlsError, HlsSettings, Request, Viewer};
use crate::media::h264::{AvcConfig, NalUnits};
use crate::media::{
    AudioTrack, Codec, Epoch, Frame, Ladder, MediaKind, MediaTime, Packet, PacketBatch, Tracks, Transcoding,
    VideoTrack,
};
use crate::pipeline::{Pipelines, run_bridges};
use crate::stream::{Hub, Media, Publisher, Source, SourceKind};
use bytes::Bytes;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A recorded programme.
struct Programme {
    tracks: Tracks,
    frames: Vec<(MediaKind, MediaTime, MediaTime, bool, Bytes)>,
}

impl Programme {
    /// Lets ffmpeg make an FLV with these arguments after the inputs, and takes it apart.
    async fn record(arguments: &str) -> Self {
        let output = Command::new("ffmpeg")
            .args("-v error".split(' '))
            .args(arguments.split_whitespace())
            .args(["-f", "flv", "-"])
            .output()
            .await
            .expect("ffmpeg runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self::parse(&Bytes::from(output.stdout))
    }

    /// The FLV file format, annex E of the specification, as far as ffmpeg writes it.
    fn parse(flv: &Bytes) -> Self {
        let mut programme = Self { tracks: Tracks::default(), frames: Vec::new() };
        let mut at = 13;
        while at + 11 <= flv.len() {
            let size = number(&flv[at + 1..at + 4]);
            let millis = number(&flv[at + 4..at + 7]) as i64;
            let body = flv.slice(at + 11..at + 11 + size);
            match (flv[at], body.first().copied()) {
                (9, Some(head)) => programme.video(head, millis, &body),
                (8, Some(_)) => programme.audio(millis, &body),
                _ => {}
            }
            at += 11 + size + 4;
        }
        programme
    }

    fn video(&mut self, head: u8, millis: i64, body: &Bytes) {
        let data = body.slice(5..);
        match body[1] {
            0 => {
                self.tracks.video = Some(VideoTrack {
                    resolution: Some((320, 180)),
                    codec_data: data,
                    ..VideoTrack::new(Codec::H264)
                });
            }
            1 => {
                let dts = MediaTime::from_millis(millis);
                let pts = MediaTime::from_millis(millis + number(&body[2..5]) as i64);
                self.frames.push((MediaKind::Video, pts, dts, head >> 4 == 1, data));
            }
            _ => {}
        }
    }

    fn audio(&mut self, millis: i64, body: &Bytes) {
        let (time, data) = (MediaTime::from_millis(millis), body.slice(2..));
        if body[1] == 0 {
            self.tracks.audio = Some(AudioTrack {
                codec: Codec::Aac,
                sample_rate: 48_000,
                channels: 2,
                codec_data: data,
                fmtp: String::new(),
            });
        } else {
            self.frames.push((MediaKind::Audio, time, time, true, data));
        }
    }

    /// The pictures in packets, one for each NAL unit.
    fn packets(&self) -> Vec<Vec<Packet>> {
        let config = self.tracks.video.as_ref().map(|track| track.codec_data.clone()).expect("pictures");
        let config = AvcConfig::parse(config).expect("avcC");
        let mut sequence = 0;
        let packets = |(_, pts, _, keyframe, data): &(MediaKind, MediaTime, MediaTime, bool, Bytes)| {
            let sets = config.sps.iter().chain(&config.pps).filter(|_| *keyframe).cloned();
            let slices = NalUnits::new(data, config.length_size).map(|unit| unit.expect("whole"));
            let slices = slices.map(Bytes::copy_from_slice);
            let units: Vec<Bytes> = sets.chain(slices).collect();
            let packet = |(index, payload): (usize, &Bytes)| {
                sequence += 1;
                Packet {
                    kind: MediaKind::Video,
                    layer: 0,
                    sequence,
                    timestamp: pts.to_ticks(90_000) as u32,
                    pts: *pts,
                    marker: index + 1 == units.len(),
                    keyframe: *keyframe && index == 0,
                    payload: payload.clone(),
                }
            };
            units.iter().enumerate().map(packet).collect()
        };
        self.frames.iter().map(packets).collect()
    }

    /// Publishes it at the pace of its timestamps.
    async fn publish(&self, publisher: &Publisher<Frame>) {
        let epoch: Arc<Epoch> = publisher.begin_epoch(self.tracks.clone(), SystemTime::now());
        let began = Instant::now();
        for (kind, pts, dts, keyframe, data) in &self.frames {
            tokio::time::sleep_until(began + dts.since(MediaTime::ZERO)).await;
            publisher.write(Frame {
                epoch: epoch.clone(),
                kind: *kind,
                pts: *pts,
                dts: *dts,
                keyframe: *keyframe,
                data: data.clone(),
            });
        }
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// The room, a hub, and an HTTP server in front of them.
struct House {
    hub: Hub,
    hls: Arc<Hls>,
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl House {
    async fn build() -> Self {
        let pipelines = Pipelines::load(None).expect("GStreamer and its plugins");
        let settings = HlsSettings { always: true, ..HlsSettings::default() };
        let hls = Hls::new(settings, pipelines);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let server = {
            let hls = hls.clone();
            tokio::spawn(async move {
                while let Ok((socket, _)) = listener.accept().await {
                    tokio::spawn(answer(socket, hls.clone()));
                }
            })
        };
        let (hub, _reaper) = Hub::new(Duration::ZERO);
        Self { hub, hls, address, server }
    }

    fn publish<T: Media>(&self) -> Publisher<T> {
        let source = Source { kind: SourceKind::Rtmp, remote: None };
        self.hub.publish("show".parse().expect("a name"), source).expect("free")
    }

    fn start<T: Media>(&self, publisher: &Publisher<T>) -> (JoinHandle<()>, CancellationToken) {
        let cancel = CancellationToken::new();
        let run = self.hls.clone().run(publisher.stream().clone(), cancel.clone());
        (tokio::spawn(run), cancel)
    }

    fn url(&self) -> String {
        format!("http://{}/index.m3u8", self.address)
    }

    async fn get(&self, file: &str) -> Result<super::Served, super::HlsError> {
        self.hls.serve(&"show".parse().expect("a name"), request(file)).await
    }

    /// The last version of a playlist.
    async fn ended(&self, file: &str) -> String {
        loop {
            let version = self.text(file).await;
            if version.contains("#EXT-X-ENDLIST") {
                return version;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn text(&self, file: &str) -> String {
        let body = self.get(file).await.expect("served").body;
        String::from_utf8(body.to_vec()).expect("text")
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn request(path: &str) -> Request<'_> {
    let (file, query) = path.split_once('?').map_or((path, None), |(file, query)| (file, Some(query)));
    let viewer = Viewer { address: Ipv4Addr::LOCALHOST.into(), user_agent_hash: 1 };
    Request { file, query, gzip: false, viewer }
}

async fn answer(socket: TcpStream, hls: Arc<Hls>) -> Option<()> {
    let mut socket = BufReader::new(socket);
    let mut line = String::new();
    socket.read_line(&mut line).await.ok()?;
    let mut header = String::new();
    while socket.read_line(&mut header).await.ok()? > 2 {
        header.clear();
    }
    let path = line.split(' ').nth(1)?.trim_start_matches('/').to_owned();
    let answer = hls.serve(&"show".parse().expect("a name"), request(&path)).await;
    let (status, kind, body) = match answer {
        Ok(served) => ("200 OK", served.content_type, served.body),
        Err(error) => ("404 Not Found", "text/plain", error.to_string().into()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.ok()?;
    socket.write_all(&body).await.ok()?;
    socket.shutdown().await.ok()
}

/// What a program of ffmpeg's says: standard output, standard error.
async fn run(program: &str, arguments: &str, url: &str) -> (String, String) {
    let arguments = arguments.replace("URL", url);
    let output = Command::new(program).args(arguments.split_whitespace()).output().await.expect("it runs");
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Parts last 85 to 100 % of the target; the last of a segment may be shorter.
fn l11_parts_keep_to_their_target(version: &str) {
    let value = |line: &str, name: &str| -> Option<f64> {
        line.split([':', ',']).find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    };
    let target = version.lines().find_map(|line| value(line, "PART-TARGET")).expect("a part target");
    let lines: Vec<_> = version.lines().collect();
    let mut parts = 0;
    for pair in lines.windows(2).filter(|pair| pair[0].starts_with("#EXT-X-PART:")) {
        let duration = value(pair[0], "DURATION").expect("a duration");
        let last = pair[1].starts_with("#EXTINF");
        assert!(
            duration <= target && (last || duration >= 0.85 * target),
            "{duration} of {target}\n{version}"
        );
        parts += 1;
    }
    assert!(parts > 20, "{version}");
}

const PICTURE: &str = "-f lavfi -i testsrc2=size=320x180:rate=30";
const SOUND: &str = "-f lavfi -i sine=frequency=440:sample_rate=48000";
const X264: &str = "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -b:v 500k";
const AAC: &str = "-c:a aac -ac 2 -b:a 96k";

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_reads_picture_and_sound_without_an_error() {
    let programme = Programme::record(&format!("{PICTURE} {SOUND} -t 12 {X264} -g 60 {AAC}")).await;
    let house = House::build().await;
    let publisher = house.publish();
    let (output, _cancel) = house.start(&publisher);
    let began = Instant::now();
    let publishing = tokio::spawn(async move {
        programme.publish(&publisher).await;
        publisher
    });
    let index = house.text("index.m3u8").await;
    println!("playable after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_millis(800), "playable after {:?}", began.elapsed());
    assert!(index.contains("avc1.") && index.contains("mp4a.40.2") && index.contains("RESOLUTION=320x180"));
    assert!(index.contains("FRAME-RATE=30"), "{index}");
    // A player that is there from the first moment.
    let decode = "-v error -i URL -t 5 -f null -";
    let (_, errors) = run("ffmpeg", decode, &house.url()).await;
    assert_eq!(errors, "");
    let entries = "-v error -show_entries stream=codec_name,codec_type -of csv=p=0 URL";
    let (streams, errors) = run("ffprobe", entries, &house.url()).await;
    assert_eq!(errors, "");
    let mut streams: Vec<_> = streams.split_whitespace().collect();
    streams.sort_unstable();
    streams.dedup();
    assert_eq!(streams, ["aac,audio", "h264,video"]);
    assert_eq!(house.hub.list()[0].statistics().snapshot().hls_readers, 1);
    let publisher = publishing.await.expect("no panic");
    drop(publisher);
    house.hub.close();
    let video = house.ended("video.m3u8").await;
    l11_parts_keep_to_their_target(&video);
    l11_parts_keep_to_their_target(&house.text("audio.m3u8").await);
    // After the end it can be read as a recording, to its last frame.
    let (_, errors) = run("ffmpeg", "-v error -i URL -f null -", &house.url()).await;
    assert_eq!(errors, "");
    output.abort();
}

/// Packets become frames only when somebody reads them, and what was there before comes all at once then.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_segment_of_packets_holds_what_was_there_too() {
    const THERE: Duration = Duration::from_millis(1400);
    let programme = Programme::record(&format!("{PICTURE} -t 3 {X264} -g 90 -an")).await;
    let house = House::build().await;
    let publisher = house.publish::<PacketBatch>();
    let epoch = publisher.begin_epoch(programme.tracks.clone(), SystemTime::now() - THERE);
    let (before, after): (Vec<_>, Vec<_>) = programme
        .packets()
        .into_iter()
        .map(|packets| PacketBatch { epoch: epoch.clone(), packets })
        .partition(|batch| batch.packets[0].pts.since(MediaTime::ZERO) < THERE);
    before.into_iter().for_each(|batch| publisher.write(batch));
    let pipelines = Pipelines::load(None).expect("GStreamer and its plugins");
    let cancel = CancellationToken::new();
    let stream = publisher.stream().clone();
    let bridges = run_bridges(pipelines, stream, Transcoding::default(), Ladder::default(), cancel);
    let bridges = tokio::spawn(bridges);
    let (output, _cancel) = house.start(&publisher);
    let publishing = tokio::spawn(async move {
        let began = Instant::now();
        for batch in after {
            let due = batch.packets[0].pts.since(MediaTime::ZERO).saturating_sub(THERE);
            tokio::time::sleep_until(began + due).await;
            publisher.write(batch);
        }
        publisher
    });
    let first = house.text("video.m3u8").await;
    let (segment, _) = first.split_once("#EXTINF:").expect("a whole segment");
    assert!(segment.matches("#EXT-X-PART:").count() >= 5, "{first}");
    drop(publishing.await.expect("no panic"));
    output.abort();
    bridges.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_alone_is_the_variant() {
    let programme = Programme::record(&format!("{SOUND} -t 3 {AAC}")).await;
    let house = House::build().await;
    let publisher = house.publish();
    let (output, cancel) = house.start(&publisher);
    programme.publish(&publisher).await;
    let index = house.text("index.m3u8").await;
    assert!(
        index.contains("CODECS=\"mp4a.40.2\"\naudio.m3u8\n") && !index.contains("EXT-X-MEDIA"),
        "{index}"
    );
    // A shutdown flushes the last part and ends the playlist.
    cancel.cancel();
    output.await.expect("no panic");
    let playlist =
        m3u8_rs::parse_media_playlist_res(house.text("audio.m3u8").await.as_bytes()).expect("a playlist");
    assert!(playlist.end_list && playlist.independent_segments);
    let duration: f32 = playlist.segments.iter().map(|segment| segment.duration).sum();
    assert!((2.95..3.1).contains(&duration), "{duration} s of 3 s");
    assert!(matches!(house.get("video.m3u8").await, Err(HlsError::UnknownFile(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn picture_alone_with_one_keyframe_only_is_cut_and_played() {
    let programme = Programme::record(&format!("{PICTURE} -t 10 {X264} -g 1000")).await;
    let house = House::build().await;
    let publisher = house.publish();
    let (output, cancel) = house.start(&publisher);
    programme.publish(&publisher).await;
    let index = house.text("index.m3u8").await;
    assert!(!index.contains("EXT-X-MEDIA") && !index.contains("mp4a"), "{index}");
    cancel.cancel();
    output.await.expect("no panic");
    let playlist =
        m3u8_rs::parse_media_playlist_res(house.text("video.m3u8").await.as_bytes()).expect("a playlist");
    let durations: Vec<_> = playlist.segments.iter().map(|segment| segment.duration).collect();
    assert!(
        durations.iter().all(|duration| duration.round() as u64 <= playlist.target_duration),
        "{durations:?}"
    );
    assert!((9.95..10.1).contains(&durations.iter().sum::<f32>()), "{durations:?}");
    let (_, errors) = run("ffmpeg", "-v error -i URL -f null -", &house.url()).await;
    assert_eq!(errors, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_returns_goes_on_after_a_discontinuity() {
    let first = Programme::record(&format!("{PICTURE} {SOUND} -t 3 {X264} -g 30 {AAC}")).await;
    let second = Programme::record(&format!(
        "{SOUND} -f lavfi -i mandelbrot=size=320x180:rate=25 -t 3 {X264} -g 25 {AAC}"
    ))
    .await;
    let mut house = House::build().await;
    let (hub, reaper) = Hub::new(Duration::from_secs(30));
    house.hub = hub;
    let cancel = CancellationToken::new();
    let reaping = tokio::spawn(reaper.run(cancel.clone()));
    let publisher = house.publish();
    let (output, _cancel) = house.start(&publisher);
    first.publish(&publisher).await;
    drop(publisher);
    // The last part does not wait for the publisher's return.
    let listed = |text: &str| -> f64 {
        let durations =
            text.lines().filter_map(|line| line.strip_prefix("#EXT-X-PART:DURATION=")?.split(',').next());
        durations.map(|duration| duration.parse::<f64>().expect("a number")).sum()
    };
    while listed(&house.text("video.m3u8").await) < 2.99 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let publisher = house.publish();
    second.publish(&publisher).await;
    drop(publisher);
    house.hub.close();
    for file in ["video.m3u8", "audio.m3u8"] {
        let version = house.ended(file).await;
        assert_eq!(version.matches("#EXT-X-DISCONTINUITY\n#EXT-X-MAP").count(), 1, "{version}");
        assert!((5.9..6.2).contains(&listed(&version)), "{}", listed(&version));
    }
    let (_, errors) = run("ffmpeg", "-v error -i URL -f null -", &house.url()).await;
    assert_eq!(errors, "");
    cancel.cancel();
    reaping.await.expect("no panic");
    output.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_muxer_costs_a_discontinuity() {
    let programme = Programme::record(&format!("{PICTURE} {SOUND} -t 4 {X264} -g 15 {AAC}")).await;
    let house = House::build().await;
    let publisher = house.publish();
    let (output, _cancel) = house.start(&publisher);
    let mut broken = programme;
    // An epoch whose video configuration is garbage, between two stretches that are sound.
    let frames = broken.frames.split_off(broken.frames.len() / 2);
    broken.publish(&publisher).await;
    let mut tracks = broken.tracks.clone();
    tracks.video.as_mut().expect("a picture").codec_data = Bytes::from_static(b"garbage");
    let garbage = Programme { tracks, frames: broken.frames[..10].to_vec() };
    garbage.publish(&publisher).await;
    Programme { tracks: broken.tracks, frames }.publish(&publisher).await;
    drop(publisher);
    house.hub.close();
    let version = house.ended("video.m3u8").await;
    let playlist = m3u8_rs::parse_media_playlist_res(version.as_bytes()).expect("a playlist");
    let duration: f32 = playlist.segments.iter().map(|segment| segment.duration).sum();
    assert!(version.contains("#EXT-X-DISCONTINUITY\n#EXT-X-MAP") && duration > 3.0, "{version}");
    output.abort();
}
