//! The tests' own instruments, checked against ffmpeg and nginx, so that a verdict on the server can be believed.

mod common;

use common::{
    Ffmpeg, Hls, Nginx, NginxCache, Process, RtmpClient, Source, decode_errors, eventually, free_tcp_port,
    machine, messages_of, offset, packets, probe, seconds,
};
use std::process::Command;

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

#[tokio::test]
async fn the_hand_made_publisher_is_understood() {
    let _machine = machine().await;
    let target = Nginx::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let flv = folder.path().join("source.flv");
    Ffmpeg::render(Source::Baseline, seconds(4), &flv);
    let mut client = RtmpClient::connect(target.port()).await;
    client.publish("hand").await;
    for pair in messages_of(&flv).chunks(2) {
        match pair {
            [one, other] if one.csid != other.csid => client.send_interleaved(pair).await,
            _ => {
                for message in pair {
                    client.send(message).await;
                }
            }
        }
    }
    let file = target.recorded("hand", seconds(3)).await;
    let path = file.to_str().expect("a path");
    let found = probe(path).await;
    assert_eq!((found.video.as_deref(), found.audio.as_deref()), (Some("h264"), Some("aac")), "{found:?}");
    assert!(packets(path, "v").await.len() > 80);
    // The name is taken as long as this publisher is there.
    let code = RtmpClient::connect(target.port()).await.try_publish("hand").await;
    assert_eq!(code, "NetStream.Publish.BadName");
}

#[tokio::test]
async fn the_hls_client_reads_separate_renditions() {
    let _machine = machine().await;
    let folder = tempfile::tempdir().expect("a folder");
    let flv = folder.path().join("source.flv");
    Ffmpeg::render(Source::Baseline, seconds(8), &flv);
    let mut command = tokio::process::Command::new("ffmpeg");
    command.args([
        "-v",
        "error",
        "-nostdin",
        "-i",
        "source.flv",
        "-map",
        "0:v",
        "-map",
        "0:a",
        "-c",
        "copy",
        "-f",
        "hls",
    ]);
    command.args([
        "-hls_time",
        "2",
        "-hls_segment_type",
        "fmp4",
        "-hls_list_size",
        "0",
        "-master_pl_name",
        "index.m3u8",
    ]);
    command.args(["-var_stream_map", "a:0,agroup:sound,name:a v:0,agroup:sound,name:v", "%v.m3u8"]);
    let status = command.current_dir(folder.path()).status().await;
    assert!(status.is_ok_and(|status| status.success()));

    let root = folder.path().to_owned();
    let serve = |axum::extract::Path(name): axum::extract::Path<String>| async move {
        std::fs::read(root.join(name)).ok()
    };
    let serve = |path| async move { serve(path).await.ok_or(axum::http::StatusCode::NOT_FOUND) };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let app = axum::Router::new().route("/{name}", axum::routing::get(serve));
    tokio::spawn(async move { axum::serve(listener, app).await });

    let client = common::http_client().build().expect("a client");
    let hls = Hls::open(&client, &format!("http://{address}/index.m3u8"), seconds(5)).await;
    let mut files = Vec::new();
    for (kind, rendition) in hls.renditions() {
        let playlist = hls.wait_for(rendition, seconds(6)).await;
        assert!(playlist.ended && playlist.segments.len() >= 3, "{}", playlist.text);
        let file = hls.download(rendition, folder.path(), kind).await;
        assert_eq!(decode_errors(file.to_str().expect("a path")).await, "");
        files.push(file);
    }
    let [picture, sound] = files.as_slice() else { panic!("two renditions") };
    let found = offset(picture, sound).await;
    assert!(found.median.abs() < 30.0, "{found:?}");
}

/// The processes of a group that are alive: `/proc/ID/stat` tells name, state, parent and group (proc(5)).
fn members(group: u32) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").expect("it is mounted").flatten();
    let stats = processes.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    stats
        .filter(|stat| {
            let (_, after_name) = stat.rsplit_once(") ").expect("a name in brackets");
            let mut words = after_name.split(' ');
            words.next() != Some("Z") && words.nth(1) == Some(&group.to_string())
        })
        .collect()
}

#[tokio::test]
async fn nothing_outlives_the_end_of_a_test_that_passes_or_panics() {
    for panics in [false, true] {
        let cache = NginxCache::start(free_tcp_port()).await;
        let group = cache.group();
        eventually("master, worker, cache manager and loader", seconds(10), || async {
            (members(group).len() == 4).then_some(())
        })
        .await;
        let test = tokio::spawn(async move {
            let _cache = cache;
            assert!(!panics, "as a test that fails");
        });
        assert_eq!(test.await.is_err(), panics);
        eventually("none of them", seconds(5), || async { members(group).is_empty().then_some(()) }).await;
    }
}

#[tokio::test]
async fn no_child_holds_the_lock_of_the_machine() {
    let _machine = machine().await;
    let mut child = Process::spawn("ls", Command::new("ls").args(["-l", "/proc/self/fd/"]));
    assert!(child.wait(seconds(10)).await.is_some_and(|status| status.success()));
    let files = child.log();
    assert!(files.contains("/dev/null") && !files.contains("tidegate-tests.lock"), "{files}");
}
