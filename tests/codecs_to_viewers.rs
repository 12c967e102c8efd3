//! E04: WHEP viewers that lack the stream's video codec get H.264 that is made of it, once for all of them, while the
//! others go on getting it as it is.

mod common;

use common::{
    Browser, Ffmpeg, Layer, MediaKind, MediaPacket, Picture, PictureSource, Pictures, Programme, Publishing,
    RtcClient, RtcEvent, RtcOptions, Server, VideoCodec, decode_errors, eventually, machine, probe, problem,
    seconds, units_of_h265_file,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

const STARTED: &str = r#"tidegate_pipelines_started_total{description="frames-to-baseline-frames"}"#;

/// How many encoders for such viewers have been started.
async fn encoders(server: &Server) -> f64 {
    let page = server.api("GET", "/metrics").send().await.expect("an answer").text().await.expect("text");
    let count = page.lines().find_map(|line| line.strip_prefix(STARTED)?.trim().parse().ok());
    count.unwrap_or_else(|| panic!("no {STARTED} in {page}"))
}

/// What the API says of the stream's WHEP output, once it knows the stream's video.
async fn whep_output(server: &Server) -> Value {
    eventually("the API knows the video", seconds(10), async || {
        let stream = server.stream("show").await?;
        stream.pointer("/outputs/whep").filter(|whep| !whep.is_null()).cloned()
    })
    .await
}

/// Pictures from the first one that a decoder can begin with on, and the sound that came meanwhile.
async fn watch(viewer: &mut RtcClient, count: usize) -> (Vec<Picture>, Vec<MediaPacket>) {
    let (mut assembled, mut pictures, mut sound) = (Pictures::default(), Vec::new(), Vec::new());
    viewer
        .wait_for("pictures", seconds(20), |event| {
            let RtcEvent::Media(packet) = event else { return None };
            if packet.kind == MediaKind::Audio {
                sound.push(packet);
                return None;
            }
            let picture = assembled.push(&packet)?;
            if !pictures.is_empty() || picture.is_decodable_start() {
                pictures.push(picture);
            }
            (pictures.len() == count).then_some(())
        })
        .await;
    (pictures, sound)
}

async fn assert_decodes(pictures: &[Picture]) {
    assert!(pictures.iter().all(|picture| picture.complete), "nothing is missing");
    let steps = pictures.windows(2).map(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp));
    assert!(
        steps.clone().all(|step| (1..1 << 31).contains(&step)),
        "in order: {:?}",
        steps.collect::<Vec<_>>()
    );
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("seen.h264");
    std::fs::write(&file, pictures.iter().flat_map(Picture::annex_b).collect::<Vec<u8>>()).expect("written");
    let path = file.to_str().expect("a plain path");
    assert_eq!(probe(path).await.video.as_deref(), Some("h264"));
    assert_eq!(decode_errors(path).await, "");
}

#[tokio::test]
async fn e04_a_viewer_of_h264_alone_sees_h265_while_another_gets_it_as_it_is() {
    let _machine = machine().await;
    let server = Server::builder().env("TIDEGATE_LOG", "warn,tidegate=debug").start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sent.h265");
    Ffmpeg::render_h265(seconds(4), &file);
    let h265 = || RtcOptions { video: vec![VideoCodec::H265], ..RtcOptions::default() };
    let mut publisher = RtcClient::publish(&server, "show", h265()).await;
    let pictures = PictureSource::FileH265(Arc::new(units_of_h265_file(&file)));
    let programme = Programme {
        layers: vec![Layer { rid: None, pictures }],
        answers_requests: false,
        ..Programme::default()
    };
    let _media = Publishing::start(publisher.sender(), programme);
    publisher.connected().await;
    let whep = whep_output(&server).await;
    assert_eq!((&whep["video"], &whep["transcoded"]), (&"H.265".into(), &false.into()), "{whep}");
    assert!(whep["note"].as_str().is_some_and(|note| note.contains("H.264")), "{whep}");

    let mut as_it_is = RtcClient::view(&server, "show", h265()).await;
    as_it_is.connected().await;
    as_it_is.packet(MediaKind::Video).await;
    assert_eq!(encoders(&server).await, 0.0, "nobody needs one");

    let asked = Instant::now();
    let mut viewer = RtcClient::view(&server, "show", RtcOptions::default()).await;
    assert!(viewer.answer.contains(" H264/90000") && !viewer.answer.contains("H265"), "{}", viewer.answer);
    viewer.connected().await;
    let (pictures, _) = watch(&mut viewer, 1).await;
    let first = pictures[0].at - asked;
    assert!(first < seconds(5), "the first picture {first:?} after the offer");
    let (pictures, sound) = watch(&mut viewer, 60).await;
    assert_decodes(&pictures).await;
    assert!(sound.len() > 50, "{} packets of sound in two seconds", sound.len());
    assert!(sound.iter().all(|packet| packet.payload == [0xf8, 0xff, 0xfe]), "as it was published");

    // What it asks for is made here; the publisher's pictures are as they were.
    viewer.drain();
    viewer.request_keyframe().await;
    let (pictures, _) = watch(&mut viewer, 1).await;
    assert!(pictures[0].is_keyframe());
    as_it_is.drain();
    as_it_is.packet(MediaKind::Video).await;
    let mut second = RtcClient::view(&server, "show", RtcOptions::default()).await;
    second.connected().await;
    watch(&mut second, 5).await;
    assert_eq!(encoders(&server).await, 1.0, "one for all");
    let said = |server: &Server, text: &str| server.process.log().matches(text).count();
    assert_eq!(said(&server, "is encoded again as H.264 for WebRTC viewers"), 1, "{}", server.process.log());

    assert_eq!((viewer.delete().await, second.delete().await), (200, 200));
    eventually("the encoder stops", seconds(20), async || {
        let log = server.process.log();
        log.lines()
            .any(|line| line.contains("The bridge stopped") && line.contains("CompatiblePackets"))
            .then_some(())
    })
    .await;
    as_it_is.drain();
    as_it_is.packet(MediaKind::Video).await;
    let mut late = RtcClient::view(&server, "show", RtcOptions::default()).await;
    late.connected().await;
    watch(&mut late, 5).await;
    assert_eq!(encoders(&server).await, 2.0);
}

#[tokio::test]
async fn e04_a_browser_that_offers_h264_alone_plays_vp9_and_vp8() {
    let _machine = machine().await;
    let server = Server::start().await;
    for codec in ["VP9", "VP8"] {
        let options = json!({ "source": "camera", "codec": codec });
        let mut publisher = Browser::publish(&server.url(&format!("/{codec}/whip")), options).await;
        let options = json!({ "codec": "H264", "seconds": 4, "settle": 3 });
        let viewed = Browser::view_whep(&server.url(&format!("/{codec}/whep")), options).await;
        common::assert_plays_whep(&viewed, 15.0);
        assert_eq!(viewed["video"]["codec"], "video/H264", "{viewed}");
        let viewed =
            Browser::view_whep(&server.url(&format!("/{codec}/whep")), json!({ "codec": codec })).await;
        assert_eq!(viewed["video"]["codec"], format!("video/{codec}"), "{viewed}");
        publisher.command("delete");
        assert_eq!(publisher.event("deleted", seconds(5)).await["status"], 200);
    }
}

#[tokio::test]
async fn e04_such_a_viewer_stays_when_publishers_come_and_go() {
    let _machine = machine().await;
    let server = Server::builder().env("TIDEGATE_STREAM_GRACE", "1m").start().await;
    let publish = async |codec: &str| {
        Browser::publish(&server.url("/show/whip"), json!({ "source": "camera", "codec": codec })).await
    };
    let mut publisher = publish("VP8").await;
    let mut viewer = eventually("a viewer is let in", seconds(10), async || {
        RtcClient::try_view(&server, "show", RtcOptions::default()).await.ok()
    })
    .await;
    viewer.connected().await;
    let (pictures, sound) = watch(&mut viewer, 30).await;
    assert_decodes(&pictures).await;
    assert!(!sound.is_empty());
    // The last one's pictures are passed on as they are.
    for codec in ["VP9", "H264"] {
        publisher.command("delete");
        assert_eq!(publisher.event("deleted", seconds(5)).await["status"], 200);
        eventually("the stream waits", seconds(10), async || {
            (server.stream("show").await?["state"] == "waiting").then_some(())
        })
        .await;
        viewer.drain();
        publisher = publish(codec).await;
        let connected = Instant::now();
        let (pictures, _) = watch(&mut viewer, 30).await;
        let waited = pictures[0].at.saturating_duration_since(connected);
        assert!(waited < seconds(4), "the first picture of {codec} {waited:?} after it was published");
        assert_decodes(&pictures).await;
        viewer.packet(MediaKind::Audio).await;
    }
    drop(publisher);
}

#[tokio::test]
async fn e04_without_transcoding_it_is_a_422_that_says_what_would_serve_the_viewer() {
    let _machine = machine().await;
    let server = Server::builder().env("TIDEGATE_TRANSCODE_VIDEO", "off").start().await;
    let _publisher =
        Browser::publish(&server.url("/show/whip"), json!({ "source": "camera", "codec": "VP8" })).await;
    let note = whep_output(&server).await["note"].clone();
    assert!(note.as_str().is_some_and(|note| note.contains("transcode.video")), "{note}");
    let refused = async |codec| {
        let options = RtcOptions { video: vec![codec], ..RtcOptions::default() };
        let response = RtcClient::try_view(&server, "show", options).await;
        problem(response.err().expect("no VP8"), 422).await
    };
    let detail = refused(VideoCodec::H264).await;
    for word in ["VP8", "H264", "transcode.video", "on-demand"] {
        assert!(detail.contains(word), "{detail:?} lacks {word}");
    }
    let detail = refused(VideoCodec::Av1).await;
    assert!(detail.contains("VP8") && detail.contains("AV1") && !detail.contains("transcode"), "{detail}");
}
