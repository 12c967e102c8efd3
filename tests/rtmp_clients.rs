//! Encoders as they are: recorded publications replayed in any fragmentation, OBS's own sequence, and real
//! clients whose streams are readable over HLS.

mod common;
#[path = "common/rtmp_wire.rs"]
mod rtmp_wire;

use common::{Ffmpeg, Hls, Process, Server, Source, decode_errors, eventually, machine, packets, seconds};
use rtmp_wire::{AAC_HEADER, AVC_HEADER, Site, Wire, command, number, picture, started, text};
use std::process::Command;
use tidegate::media::MediaKind;
use tokio::time::timeout;

/// Publishes a recording in pieces of this many bytes; video and audio frames that came of it.
async fn replay(recording: &[u8], piece: usize) -> (usize, usize) {
    let site = Site::start().await;
    let mut events = site.hub.events();
    let mut wire = Wire::open(site.address).await;
    // The reader is there before the first media.
    let publish = find(recording, b"publish");
    let (calls, media) = recording.split_at(publish + find(&recording[publish..], b"live") + 4);
    for bytes in calls.chunks(piece) {
        wire.raw(bytes).await;
    }
    let mut frames = started(&mut events).await;
    for bytes in media.chunks(piece) {
        wire.raw(bytes).await;
    }
    let (mut video, mut audio) = (0, 0);
    while let Some(frame) = timeout(seconds(10), frames.recv()).await.expect("an end") {
        match frame.kind {
            MediaKind::Video => video += 1,
            MediaKind::Audio => audio += 1,
        }
    }
    assert_eq!(frames.lost(), 0);
    wire.until("NetStream.Unpublish.Success").await;
    assert_eq!(site.requests.lock().expect("not poisoned")[0].key.reveal(), "recorded");
    site.stop().await;
    (video, audio)
}

fn find(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|window| window == part).expect("in the recording")
}

#[tokio::test]
async fn recorded_publications_are_understood_in_any_fragmentation() {
    for name in ["ffmpeg", "librtmp", "rtmp2sink"] {
        let file = format!("{}/tests/data/rtmp/{name}.bin", env!("CARGO_MANIFEST_DIR"));
        let recording = std::fs::read(file).expect("a recording");
        let whole = replay(&recording, usize::MAX).await;
        assert!(whole.0 >= 20 && whole.1 >= 30, "{name}: {whole:?}");
        for piece in [1, 7, 129, 1460] {
            assert_eq!(replay(&recording, piece).await, whole, "{name} in pieces of {piece}");
        }
    }
}

/// obs-studio's librtmp: the chunk size before `connect`, calls with headers of format 1, and all media on
/// chunk stream 4.
#[tokio::test]
async fn the_sequence_of_obs_is_understood() {
    let site = Site::start().await;
    let mut events = site.hub.events();
    let mut wire = Wire::connect(site.address).await;
    let property = |name: &str, value: &str| [&[0, name.len() as u8], name.as_bytes(), &text(value)].concat();
    let object = [
        vec![3],
        property("app", "live"),
        property("type", "nonprivate"),
        property("flashVer", "FMLE/3.0 (compatible; FMSc/1.0)"),
        property("swfUrl", "rtmp://127.0.0.1/live"),
        property("tcUrl", "rtmp://127.0.0.1/live"),
        vec![0, 0, 9],
    ];
    let large = |id: u8, time: u8, kind: u8, stream: u8, payload: &[u8]| {
        let length = (payload.len() as u32).to_be_bytes();
        let head = [id, 0, 0, time, length[1], length[2], length[3], kind, stream, 0, 0, 0];
        [&head[..], payload].concat()
    };
    let medium = |id: u8, delta: u8, kind: u8, payload: &[u8]| {
        let length = (payload.len() as u32).to_be_bytes();
        [&[0x40 | id, 0, 0, delta, length[1], length[2], length[3], kind], payload].concat()
    };
    let call = |name: &str, transaction: f64, rest: Vec<u8>| {
        [text(name), number(transaction), vec![5], rest].concat()
    };
    wire.raw(&large(2, 0, 1, 0, &4096u32.to_be_bytes())).await;
    wire.raw(&large(3, 0, 20, 0, &[command("connect"), object.concat()].concat())).await;
    wire.until("NetConnection.Connect.Success").await;
    let mut calls = medium(3, 0, 20, &call("releaseStream", 2.0, text("cam")));
    calls.extend(medium(3, 0, 20, &call("FCPublish", 3.0, text("cam"))));
    calls.extend(large(2, 0, 5, 0, &2_500_000u32.to_be_bytes()));
    calls.extend(large(2, 0, 4, 0, &[0, 3, 0, 0, 0, 0, 0, 0, 1, 44]));
    calls.extend(medium(3, 0, 20, &call("createStream", 4.0, Vec::new())));
    wire.raw(&calls).await;
    wire.until([text("_result"), number(4.0), vec![5], number(1.0)].concat()).await;
    let publish = call("publish", 5.0, [text("cam"), text("live")].concat());
    wire.raw(&large(4, 0, 20, 1, &publish)).await;
    wire.until("NetStream.Publish.Start").await;
    let mut frames = started(&mut events).await;
    let metadata = [text("@setDataFrame"), text("onMetaData"), vec![8, 0, 0, 0, 0, 0, 0, 9]].concat();
    let (data, video) = picture(300, 7);
    let mut media = large(4, 0, 18, 1, &metadata);
    media.extend(medium(4, 0, 8, AAC_HEADER));
    media.extend(medium(4, 0, 9, AVC_HEADER));
    media.extend(medium(4, 0, 9, &video));
    media.extend(medium(4, 23, 8, &[0xaf, 1, 4, 5, 6]));
    wire.raw(&media).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let frame = timeout(seconds(5), frames.recv()).await.expect("media").expect("live");
        seen.push((frame.kind, frame.data.to_vec()));
    }
    seen.sort_by_key(|(_, data)| data.len());
    assert_eq!(seen, [(MediaKind::Audio, vec![4, 5, 6]), (MediaKind::Video, data)]);
    let mut end = medium(3, 0, 20, &call("FCUnpublish", 6.0, text("cam")));
    end.extend(medium(3, 0, 20, &call("deleteStream", 7.0, number(1.0))));
    wire.raw(&end).await;
    wire.until("NetStream.Unpublish.Success").await;
    site.stop().await;
}

const KEY: &str = "publish-key-of-the-tests";

async fn guarded() -> Server {
    Server::builder().guarded().env("TIDEGATE_AUTH_PUBLISH_KEY", KEY).start().await
}

/// Two seconds of it, as ffprobe sees them over HLS.
async fn assert_readable(server: &Server, stream: &str) {
    let hls = Hls::open(&server.client, &server.url(&format!("/{stream}/index.m3u8")), seconds(20)).await;
    let folder = tempfile::tempdir().expect("a folder");
    for (name, least) in [("video", 40), ("audio", 60)] {
        let (_, rendition) = hls.renditions().into_iter().find(|(kind, _)| *kind == name).expect(name);
        hls.wait_for(rendition, seconds(2)).await;
        let file = hls.download(rendition, folder.path(), name).await;
        let path = file.to_str().expect("a path");
        let found = packets(path, &name[..1]).await.len();
        assert!(found >= least, "{found} {name} packets");
        assert_eq!(decode_errors(path).await, "");
    }
}

fn gstreamer(sink: &str) -> Process {
    let pipeline = format!(
        "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=30/1 ! \
         x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 ! h264parse ! \
         flvmux streamable=true name=m ! {sink} \
         audiotestsrc is-live=true ! audio/x-raw,rate=48000 ! voaacenc ! aacparse ! m."
    );
    let mut command = Command::new("gst-launch-1.0");
    Process::spawn("gst-launch", command.arg("-q").args(pipeline.split_whitespace()))
}

#[tokio::test]
async fn ffmpeg_with_user_and_password_in_the_query() {
    let _machine = machine().await;
    let server = guarded().await;
    // As users of other servers write it: no application, and a password.
    let url = format!("rtmp://127.0.0.1:{}/cam?user=joe&pass={KEY}", server.rtmp);
    let _publisher = Ffmpeg::publish(Source::Baseline, &url);
    assert_readable(&server, "cam").await;
}

#[tokio::test]
async fn ffmpeg_over_rtmps() {
    let _machine = machine().await;
    let folder = tempfile::tempdir().expect("a folder");
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("a path").to_owned()
    };
    let port = common::free_tcp_port();
    let server = Server::builder()
        .env("TIDEGATE_TLS_CERTIFICATE", &write("cert.pem", pair.cert.pem()))
        .env("TIDEGATE_TLS_PRIVATE_KEY", &write("key.pem", pair.signing_key.serialize_pem()))
        .env("TIDEGATE_RTMP_TLS_LISTEN", &format!("127.0.0.1:{port}"))
        .start()
        .await;
    eventually("the banner says so", seconds(10), async || {
        server.process.log().contains(&format!("rtmps://127.0.0.1:{port}/live")).then_some(())
    })
    .await;
    let _publisher = Ffmpeg::publish(Source::Baseline, &format!("rtmps://127.0.0.1:{port}/live/cam"));
    assert_readable(&server, "cam").await;
}

#[tokio::test]
async fn gstreamer_rtmp2sink_with_the_key_in_the_query() {
    let _machine = machine().await;
    let server = guarded().await;
    let url = format!("rtmp://127.0.0.1:{}/live/cam?key={KEY}", server.rtmp);
    let _publisher = gstreamer(&format!("rtmp2sink location={url}"));
    assert_readable(&server, "cam").await;
}

#[tokio::test]
async fn librtmp_with_the_key_in_the_query() {
    let _machine = machine().await;
    let server = guarded().await;
    let url = format!("rtmp://127.0.0.1:{}/live/cam?token={KEY}", server.rtmp);
    let _publisher = gstreamer(&format!("rtmpsink location={url}"));
    assert_readable(&server, "cam").await;
}
