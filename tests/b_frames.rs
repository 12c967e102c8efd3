//! B-frames from encoders: what becomes of them for WHEP in each mode, and that HLS and restreams carry them
//! as they are.

mod common;

use common::{
    Browser, Ffmpeg, Hls, MediaKind, Nginx, RtcClient, RtcOptions, Server, Source, decode_errors, eventually,
    machine, packets, problem, seconds,
};
use serde_json::{Value, json};

/// H.264 with two B-frames in a row, which no other frame depends on.
const NO_PYRAMID: [&str; 22] = [
    "-re",
    "-f",
    "lavfi",
    "-i",
    "testsrc2=s=640x360:r=30,format=yuv420p",
    "-c:v",
    "libx264",
    "-preset",
    "veryfast",
    "-g",
    "30",
    "-bf",
    "2",
    "-b_strategy",
    "0",
    "-x264-params",
    "b-pyramid=none:scenecut=0",
    "-b:v",
    "800k",
    "-threads",
    "1",
    "-an",
];

async fn server(b_frames: &str, video: &str) -> Server {
    let server = Server::builder().env("TIDEGATE_WEBRTC_B_FRAMES", b_frames);
    server.env("TIDEGATE_TRANSCODE_VIDEO", video).start().await
}

/// What the API says of the stream's WHEP output, once it knows the stream's video.
async fn whep_output(server: &Server) -> Value {
    eventually("the API knows the video", seconds(10), async || {
        let stream = server.stream("show").await?;
        stream.pointer("/outputs/whep").filter(|whep| !whep.is_null()).cloned()
    })
    .await
}

/// The problem that a viewer is told.
async fn refused(server: &Server) -> String {
    whep_output(server).await;
    let Err(response) = RtcClient::try_view(server, "show", RtcOptions::default()).await else {
        panic!("the viewer is served")
    };
    let told = problem(response, 422).await;
    for word in ["B-frames", "OBS", "zerolatency"] {
        assert!(told.contains(word), "{told}");
    }
    told
}

/// Ticks of RTP time between the pictures that a viewer gets, `count` of them, once it is at the live edge: those
/// of the second before its coming are dated closer together.
async fn steps(server: &Server, count: usize) -> Vec<u32> {
    const GROUP: usize = 30;
    let mut viewer = RtcClient::view(server, "show", RtcOptions::default()).await;
    let mut last = viewer.packet(MediaKind::Video).await.timestamp;
    let mut cached = 0;
    while cached < GROUP {
        let timestamp = viewer.packet(MediaKind::Video).await.timestamp;
        cached += usize::from(timestamp != last);
        last = timestamp;
    }
    let mut steps = Vec::new();
    while steps.len() < count {
        let timestamp = viewer.packet(MediaKind::Video).await.timestamp;
        if timestamp != last {
            steps.push(timestamp.wrapping_sub(last));
            last = timestamp;
        }
    }
    assert!(steps.iter().all(|step| *step < 1 << 31), "in order: {steps:?}");
    steps
}

#[tokio::test]
async fn transcoded_pictures_play_in_a_browser_and_the_api_says_so() {
    let _machine = machine().await;
    let server = server("transcode", "on-demand").await;
    let _publisher = Ffmpeg::publish(Source::BFrames, &server.rtmp_url("show"));
    let whep = whep_output(&server).await;
    assert_eq!((&whep["available"], &whep["transcoded"]), (&true.into(), &true.into()), "{whep}");
    assert!(whep["note"].as_str().is_some_and(|note| note.contains("OBS")), "{whep}");
    let viewed = Browser::view_whep(&server.url("/show/whep"), json!({ "seconds": 4, "settle": 2 })).await;
    common::assert_plays_whep(&viewed, 25.0);
}

#[tokio::test]
async fn dropped_b_frames_leave_a_third_of_the_pictures_and_they_play() {
    let _machine = machine().await;
    let server = server("drop", "off").await;
    let _publisher = Ffmpeg::publish_with(&NO_PYRAMID, &server.rtmp_url("show"));
    let whep = whep_output(&server).await;
    assert_eq!((&whep["video"], &whep["transcoded"]), (&"H.264".into(), &false.into()), "{whep}");
    assert!(whep["note"].as_str().is_some_and(|note| note.contains("OBS")), "{whep}");
    // A picture of three is 9000 ticks from the next; groups of 30 begin with two anchors in a row.
    let steps = steps(&server, 44).await;
    let ticks: u32 = steps.iter().sum();
    assert!((330_000..=440_000).contains(&ticks), "44 pictures in {ticks} ticks of 90 kHz");
    assert!(steps.iter().all(|step| *step <= 12_000), "no hole: {steps:?}");
    let options = json!({ "seconds": 4, "settle": 2, "audio": false });
    let viewed = Browser::view_whep(&server.url("/show/whep"), options).await;
    common::assert_whep_sees(&viewed, 8.0);
}

#[tokio::test]
async fn a_pyramid_is_transcoded_instead_of_dropped_or_refused_where_that_is_off() {
    let _machine = machine().await;
    {
        let server = server("drop", "on-demand").await;
        let _publisher = Ffmpeg::publish(Source::BFrames, &server.rtmp_url("show"));
        assert_eq!(whep_output(&server).await["transcoded"], true);
        let ticks: u32 = steps(&server, 75).await.iter().sum();
        assert!(ticks <= 75 * 3_000 + 12_000, "all of the pictures: 75 in {ticks} ticks of 90 kHz");
    }
    for b_frames in ["drop", "transcode"] {
        let server = server(b_frames, "off").await;
        let _publisher = Ffmpeg::publish(Source::BFrames, &server.rtmp_url("show"));
        let told = refused(&server).await;
        assert!(told.contains("transcode.video"), "{told}");
        let whep = whep_output(&server).await;
        assert!(whep["reason"].as_str().is_some_and(|reason| reason.contains("transcode.video")), "{whep}");
        assert_eq!(whep["video"], Value::Null);
    }
}

/// A server that may use next to nothing, and uses more for the demo's encoder alone.
async fn busy_server() -> Server {
    Server::builder().demo().env("TIDEGATE_TRANSCODE_CPU_BUDGET", "1").start().await
}

/// What the API says of the stream's WHEP output, once its `field` tells that the budget is spent.
async fn budget_is_told(server: &Server, field: &str) -> Value {
    eventually("the API tells of the budget", seconds(20), async || {
        let whep = whep_output(server).await;
        whep[field].as_str()?.contains("transcode.cpu_budget").then_some(whep)
    })
    .await
}

#[tokio::test]
async fn without_processor_time_b_frames_are_left_out() {
    let _machine = machine().await;
    let server = busy_server().await;
    let _publisher = Ffmpeg::publish_with(&NO_PYRAMID, &server.rtmp_url("show"));
    let whep = budget_is_told(&server, "note").await;
    assert_eq!((&whep["video"], &whep["transcoded"]), (&"H.264".into(), &false.into()), "{whep}");
    assert!(whep["note"].as_str().is_some_and(|note| note.contains("OBS")), "{whep}");
    let ticks: u32 = steps(&server, 44).await.iter().sum();
    assert!((330_000..=440_000).contains(&ticks), "44 pictures in {ticks} ticks of 90 kHz");
    budget_is_told(&server, "note").await;
    let log = server.process.log();
    assert!(log.contains("transcode.cpu_budget"), "{log}");
}

#[tokio::test]
async fn without_processor_time_viewers_of_a_pyramid_are_refused_and_told_why() {
    let _machine = machine().await;
    let server = busy_server().await;
    let _publisher = Ffmpeg::publish(Source::BFrames, &server.rtmp_url("show"));
    let whep = budget_is_told(&server, "reason").await;
    assert_eq!(whep["video"], Value::Null, "{whep}");
    let told = refused(&server).await;
    assert!(told.contains("transcode.cpu_budget"), "{told}");
}

#[tokio::test]
async fn refused_viewers_learn_what_to_set_and_sound_alone_is_served() {
    let _machine = machine().await;
    let server = server("refuse", "on-demand").await;
    let _publisher = Ffmpeg::publish(Source::BFrames, &server.rtmp_url("show"));
    let told = refused(&server).await;
    assert!(told.contains("webrtc.b_frames"), "{told}");
    let sound = RtcOptions { video: Vec::new(), ..RtcOptions::default() };
    RtcClient::view(&server, "show", sound).await.packet(MediaKind::Audio).await;
    Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(15)).await;
}

/// Milliseconds from decoding to showing of each picture.
async fn offsets(file: &std::path::Path) -> Vec<i64> {
    let packets = packets(file.to_str().expect("a path"), "v").await;
    packets.iter().map(|(pts, dts, _)| ((pts - dts) * 1000.0).round() as i64).collect()
}

#[tokio::test]
async fn hls_and_restreams_keep_the_composition_offsets_that_were_sent() {
    let _machine = machine().await;
    let (server, target) = (Server::start().await, Nginx::start().await);
    server.add_target("show", &target.url("show")).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sent.flv");
    Ffmpeg::render(Source::BFrames, seconds(14), &file);
    let path = file.to_str().expect("a path");
    let _publisher = Ffmpeg::publish_with(&["-re", "-i", path, "-c", "copy"], &server.rtmp_url("show"));
    let sent = offsets(&file).await;
    assert!(sent.iter().collect::<std::collections::BTreeSet<_>>().len() >= 3, "reordered: {sent:?}");

    let hls = Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(10)).await;
    let video = hls.video.clone().expect("a video rendition");
    hls.wait_for(&video, seconds(5)).await;
    let downloaded = hls.download(&video, folder.path(), "video").await;
    assert_eq!(decode_errors(downloaded.to_str().expect("a path")).await, "");
    let packaged = offsets(&downloaded).await;
    assert!(packaged.len() > 100);
    // CMAF has no edit lists: all of a track is decoded later by the least offset, and shown when it was to be.
    let moved = |sent: &[i64]| {
        let differences = || sent.iter().zip(&packaged).map(|(sent, packaged)| sent - packaged);
        differences().max().unwrap_or(0) - differences().min().unwrap_or(0)
    };
    let alike = sent.windows(packaged.len()).any(|sent| moved(sent) <= 2);
    assert!(alike, "HLS: {packaged:?} of {sent:?}");

    let recorded = target.recorded("show", seconds(8)).await;
    let mut restreamed = offsets(&recorded).await;
    restreamed.pop(); // nginx may be writing it
    assert!(restreamed.len() > 150, "{}", restreamed.len());
    assert!(
        sent.windows(restreamed.len()).any(|sent| sent == restreamed),
        "restream: {restreamed:?} of {sent:?}"
    );
}
