//! The tests' own instruments, checked against ffmpeg and nginx, so that a verdict on the server can be believed.

mod common;

use common::{Ffmpeg, Nginx, Source, decode_errors, machine, offset, packets, probe, seconds};

#[tokio::test]
async fn the_offset_meter_finds_a_known_offset() {
    let _machine = machine().await;
    let folder = tempfile::tempdir().expect("a folder");
    let straight = folder.path().join("straight.flv");
    Ffmpeg::render(Source::Baseline, seconds(6), &straight);
    let found = offset(&straight, &straight).await;
    assert!(found.median.abs() < 10.0, "{found:?}");

    let late = folder.path().join("late.mkv");
    let path = straight.to_str().expect("a path");
    let args = [
        "-v",
        "error",
        "-i",
        path,
        "-itsoffset",
        "0.12",
        "-i",
        path,
        "-map",
        "0:v",
        "-map",
        "1:a",
        "-c",
        "copy",
    ];
    let status = tokio::process::Command::new("ffmpeg").args(args).arg(&late).status().await;
    assert!(status.is_ok_and(|status| status.success()));
    let found = offset(&late, &late).await;
    assert!((found.median - 120.0).abs() < 10.0, "{found:?}");
}

#[tokio::test]
async fn a_target_records_what_is_published_to_it() {
    let _machine = machine().await;
    let target = Nginx::start().await;
    for source in [Source::Baseline, Source::BFrames] {
        let key = format!("{source:?}");
        let publisher = Ffmpeg::publish(source, &target.url(&key));
        target.recorded(&key, seconds(5)).await;
        publisher.leave().await;
        let file = target.recordings(&key).pop().expect("a recording");
        let path = file.to_str().expect("a path");
        let found = probe(path).await;
        assert_eq!(
            (found.video.as_deref(), found.audio.as_deref()),
            (Some("h264"), Some("aac")),
            "{found:?}"
        );
        assert_eq!(decode_errors(path).await, "");
        let video = packets(path, "v").await;
        assert!(video.len() > 100 && video.windows(2).all(|pair| pair[0].1 < pair[1].1));
        assert_eq!(source == Source::BFrames, video.iter().any(|(pts, dts, _)| pts != dts));
        let found = offset(&file, &file).await;
        assert!(found.median.abs() < 10.0, "{found:?}");
    }
}
