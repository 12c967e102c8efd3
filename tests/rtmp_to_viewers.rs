//! ffmpeg publishes by RTMP; browsers view by LL-HLS and WHEP, and ffprobe reads the HLS.

mod common;

use common::{Browser, Ffmpeg, Hls, Server, Source, decode_errors, machine, packets, probe, seconds};
use serde_json::json;

#[tokio::test]
async fn ffmpeg_publishes_and_browsers_view_it_both_ways() {
    let _machine = machine().await;
    let server = Server::start().await;
    let _publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    views_both_ways(&server).await;
}

/// What OBS sends with its defaults: H.264 High with two B-frames, which WebRTC does not know.
#[tokio::test]
async fn a_stream_with_b_frames_is_viewed_both_ways() {
    let _machine = machine().await;
    let server = Server::start().await;
    let _publisher = Ffmpeg::publish(Source::BFrames, &server.rtmp_url("show"));
    views_both_ways(&server).await;
}

#[tokio::test]
async fn ffprobe_reads_the_hls_without_an_error() {
    let _machine = machine().await;
    let server = Server::start().await;
    for source in [Source::Baseline, Source::BFrames] {
        let name = format!("{source:?}");
        let _publisher = Ffmpeg::publish(source, &server.rtmp_url(&name));
        let url = server.url(&format!("/{name}/index.m3u8"));
        let hls = Hls::open(&server.client, &url, seconds(15)).await;
        for (_, rendition) in hls.renditions() {
            hls.wait_for(rendition, seconds(6)).await;
        }

        let found = probe(&url).await;
        assert_eq!(
            (found.video.as_deref(), found.audio.as_deref()),
            (Some("h264"), Some("aac")),
            "{found:?}"
        );
        assert_eq!((found.width, found.height), (640, 360));
        assert_eq!(found.complaints, "");

        let folder = tempfile::tempdir().expect("a folder");
        for (kind, rendition) in hls.renditions() {
            let file = hls.download(rendition, folder.path(), kind).await;
            let path = file.to_str().expect("a path");
            assert_eq!(decode_errors(path).await, "", "{kind} of {name}");
            let packets = packets(path, &kind[..1]).await;
            assert!(packets.len() > 150, "{} packets of {kind} of {name}", packets.len());
            assert!(
                packets.windows(2).all(|pair| pair[0].1 < pair[1].1),
                "decoding times of {kind} of {name} rise"
            );
            assert!(
                packets.windows(2).all(|pair| pair[1].1 - pair[0].1 < 0.1),
                "{kind} of {name} has no hole"
            );
        }
    }
}

/// A player may join or seek to any segment: each must be decodable from its first picture.
#[tokio::test]
async fn each_segment_after_the_first_group_begins_with_a_keyframe() {
    let _machine = machine().await;
    let server = Server::start().await;
    let _publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    let hls = Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(15)).await;
    let video = hls.video.clone().expect("a video rendition");
    let playlist = hls.wait_for(&video, seconds(5)).await;
    let folder = tempfile::tempdir().expect("a folder");
    // The first segment is the first part alone, so that players can begin at once; the second is the
    // rest of that group of pictures, and so the playlist may not claim independent segments.
    assert!(!playlist.text.contains("#EXT-X-INDEPENDENT-SEGMENTS"), "{}", playlist.text);
    for (index, segment) in playlist.segments.iter().enumerate() {
        let map = segment.map.clone().expect("an EXT-X-MAP");
        let media = [hls.media(&video, &map).await, hls.media(&video, &segment.uri).await].concat();
        let file = folder.path().join("segment.mp4");
        std::fs::write(&file, media).expect("a file");
        let packets = packets(file.to_str().expect("a path"), "v").await;
        assert!(
            index == 1 || packets.first().is_some_and(|first| first.2),
            "{} begins {:?}\n{}",
            segment.uri,
            packets.first(),
            playlist.text
        );
        let listed = packets.len() as f64 / 30.0;
        assert!(
            (listed - segment.duration).abs() < 0.05,
            "{} holds {listed} s, not {}",
            segment.uri,
            segment.duration
        );
    }
}

async fn views_both_ways(server: &Server) {
    let viewed = Browser::view_hls(&server.url("/show/index.m3u8"), json!({ "seconds": 5 })).await;
    common::assert_plays_hls(&viewed);
    let viewed = Browser::view_whep(&server.url("/show/whep"), json!({ "seconds": 4, "settle": 2 })).await;
    common::assert_plays_whep(&viewed, 25.0);
}
