//! Restreams to real servers: what arrives, and what happens when they go away.

mod common;

use common::in_process::{Gateway, dialer, next_stream, reaches, restreams, show, target, until};
use common::{LoginServer, Nginx};
use rml_rtmp::chunk_io::{ChunkDeserializer, ChunkSerializer};
use rml_rtmp::messages::RtmpMessage;
use rml_rtmp::rml_amf0::Amf0Value;
use rml_rtmp::time::RtmpTimestamp;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tidegate::media::MediaKind;
use tidegate::restream::{TargetState, TargetStateKind};
use tidegate::rtmp::{FailureClass, TlsRoots};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Codec names and, for each packet, stream, decoding time in ms and flags.
async fn probe(file: &Path) -> (Vec<String>, Vec<(usize, i64, String)>) {
    let arguments = "-v error -show_entries stream=codec_name:packet=stream_index,dts,flags -of json";
    let output = Command::new("ffprobe").args(arguments.split_whitespace()).arg(file).output().await;
    let output = output.expect("installed");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let array = |name: &str| json[name].as_array().cloned().unwrap_or_default();
    let codecs = array("streams").iter().map(|stream| text(&stream["codec_name"])).collect();
    let packet = |packet: &serde_json::Value| {
        let number = |name: &str| packet[name].as_i64().expect("a number");
        (number("stream_index") as usize, number("dts"), text(&packet["flags"]))
    };
    (codecs, array("packets").iter().map(packet).collect())
}

async fn assert_good_recording(file: &Path, least_seconds: i64) {
    let (codecs, packets) = probe(file).await;
    let video = codecs.iter().position(|codec| codec == "h264").expect("H.264");
    let audio = codecs.iter().position(|codec| codec == "aac").expect("AAC");
    for track in [video, audio] {
        let of_track: Vec<_> = packets.iter().filter(|packet| packet.0 == track).collect();
        assert!(of_track.windows(2).all(|pair| pair[0].1 < pair[1].1), "decoding times rise");
        let (first, last) = (of_track[0].1, of_track[of_track.len() - 1].1);
        assert!(first < 1000, "begins near 0, not at {first}");
        assert!(last - first >= least_seconds * 1000, "{} ms", last - first);
        let rate = of_track.len() as f64 * 1000.0 / (last - first) as f64;
        let expected = if track == video { 25.0 } else { 46.9 };
        assert!((rate / expected - 1.0).abs() < 0.05, "{rate} frames a second, nothing may be missing");
    }
    let first = packets.iter().find(|packet| packet.0 == video).expect("video");
    assert!(first.2.starts_with('K'), "begins at a keyframe");
}

#[tokio::test]
async fn nginx_records_the_show_and_its_death_and_return_disturb_nobody() {
    let (gateway, mut nginx) = (Gateway::start().await, Nginx::start().await);
    let restreams = restreams(&gateway.hub, dialer(TlsRoots::only([])));
    let view = restreams.add(show(), target(&nginx.url("canary"))).await.expect("added");
    assert!(matches!(view.state, TargetState::Waiting { .. }));
    let (mut ffmpeg, mut bystander) = gateway.show("show").await;
    let view = reaches(&restreams, &view.id, 10, TargetStateKind::Live).await;
    assert!(!serde_json::to_string(&view).expect("JSON").contains("canary"));
    sleep(Duration::from_secs(4)).await;

    nginx.kill();
    let view = reaches(&restreams, &view.id, 5, TargetStateKind::Retrying).await;
    assert!(view.bytes_sent > 50_000 && view.live_since.is_none(), "{view:?}");
    let failure = view.last_error.expect("a failure");
    assert!(failure.reason.contains("closed") && view.attempts == 1, "{failure:?}");
    assert_eq!(failure.class, FailureClass::Closed);
    nginx.revive().await;
    let view = reaches(&restreams, &view.id, 35, TargetStateKind::Live).await;
    assert_eq!((view.reconnects, view.attempts), (1, 0));
    sleep(Duration::from_secs(3)).await;
    restreams.remove(show(), view.id, None).await.expect("there");
    assert!(restreams.list(&show()).is_empty());

    let recordings = nginx.recordings("canary");
    assert_eq!(recordings.len(), 2);
    for recording in &recordings {
        assert_good_recording(recording, 2).await;
    }
    // Another reader of the stream has every frame.
    let mut last = None;
    while let Some(frame) = bystander.try_recv() {
        if frame.kind == MediaKind::Video {
            if let Some(last) = last {
                assert!(frame.dts.since(last) < Duration::from_millis(100), "a gap");
            }
            last = Some(frame.dts);
        }
    }
    assert_eq!(bystander.lost(), 0);
    ffmpeg.kill().await.expect("killed");
    gateway.stop().await;
}

#[tokio::test]
async fn a_failure_is_told_with_its_class_and_a_refusal_is_not_tried_at_once() {
    let (gateway, receiver, nginx) = (Gateway::start().await, Gateway::start().await, Nginx::start().await);
    let restreams = restreams(&gateway.hub, dialer(TlsRoots::only([])));
    let (mut ffmpeg, _) = gateway.show("show").await;
    let url = format!("rtmp://{}/live/canary?token=wrong", receiver.address);
    let view = restreams.add(show(), target(&url)).await.expect("added");
    let refused = reaches(&restreams, &view.id, 5, TargetStateKind::Failing).await;
    let failure = refused.last_error.clone().expect("a failure");
    assert_eq!(
        (failure.class, failure.code.as_deref()),
        (FailureClass::Rejected, Some("NetStream.Publish.Denied"))
    );
    assert!(failure.reason.contains("unknown") && !failure.reason.contains("canary"), "{failure:?}");
    let wait = (refused.next_try.expect("a time") - failure.at).num_seconds();
    assert!((59..=66).contains(&wait), "after a minute, not {wait} s");
    restreams.remove(show(), view.id, None).await.expect("there");

    use FailureClass::{Closed, NameResolution, NotAllowed, Refused};
    use TargetStateKind::{Failing, Retrying};
    for (url, word, class, state) in [
        (format!("rtmp://127.0.0.1:{}/closed/canary", nginx.port()), "closed", Closed, Retrying),
        ("rtmp://127.0.0.1:1/live/canary".to_owned(), "can't connect to 127.0.0.1:1", Refused, Retrying),
        (
            "rtmp://nowhere.invalid/live/canary".to_owned(),
            "can't find nowhere.invalid",
            NameResolution,
            Retrying,
        ),
        ("rtmp://10.1.2.3/live/canary".to_owned(), "restream.egress_allow", NotAllowed, Failing),
    ] {
        let view = restreams.add(show(), target(&url)).await.expect("added");
        let failed = reaches(&restreams, &view.id, 12, state).await;
        let failure = failed.last_error.expect("a failure");
        assert!(failure.reason.contains(word) && !failure.reason.contains("canary"), "{failure:?}");
        assert_eq!(failure.class, class);
        restreams.remove(show(), view.id, None).await.expect("there");
    }
    ffmpeg.kill().await.expect("killed");
    gateway.stop().await;
    receiver.stop().await;
}

#[tokio::test]
async fn a_server_that_wants_a_login_gets_it() {
    let (gateway, server) = (Gateway::start().await, LoginServer::start("me", "canary:1").await);
    let restreams = restreams(&gateway.hub, dialer(TlsRoots::only([])));
    let (mut ffmpeg, _) = gateway.show("show").await;
    let url = |user: &str| format!("rtmp://{user}127.0.0.1:{}/live/canary", server.port);
    let view = restreams.add(show(), target(&url("me:canary:1@"))).await.expect("added");
    let live = until(&restreams, &view.id, 10, "sending", |view| view.bytes_sent > 10_000).await;
    assert_eq!((live.state.kind(), live.last_error), (TargetStateKind::Live, None));
    let connects = server.connects();
    let apps: Vec<&str> = connects.iter().map(|(app, _)| app.as_str()).collect();
    assert_eq!(apps[..2], ["live", "live?authmod=adobe&user=me"]);
    assert!(apps.len() == 3 && apps[2].starts_with("live?authmod=adobe&user=me&challenge="), "{apps:?}");
    // Until the server asks for a challenge, what was typed is sent as typed.
    assert!(connects[1..].iter().all(|(app, tc_url)| !app.contains("canary") && !tc_url.contains("canary")));

    // On air: a test logs in, and goes no further.
    let trial = restreams.test(&show(), &view.id).await.expect("there");
    let steps = serde_json::to_value(&trial).expect("JSON");
    let names: Vec<_> = steps["steps"].as_array().expect("steps").iter().map(|step| &step["step"]).collect();
    assert_eq!(names, ["nameResolution", "tcp", "handshake", "connect", "publish"], "{steps}");
    for (user, word) in [("me:wrong@", "does not know"), ("", "USER:PASSWORD")] {
        let view = restreams.add(show(), target(&url(user))).await.expect("added");
        let failing = reaches(&restreams, &view.id, 10, TargetStateKind::Failing).await;
        let failure = failing.last_error.expect("a failure");
        assert_eq!(failure.class, FailureClass::Rejected);
        assert!(failure.reason.contains(word) && !failure.reason.contains("canary"), "{failure:?}");
    }
    restreams.shutdown().await;
    ffmpeg.kill().await.expect("killed");
    gateway.stop().await;
}

#[tokio::test]
async fn a_server_that_closes_at_the_key_again_and_again_is_said_to_mean_the_key() {
    let (gateway, nginx) = (Gateway::start().await, Nginx::start().await);
    let restreams = restreams(&gateway.hub, dialer(TlsRoots::only([])));
    let (mut ffmpeg, _) = gateway.show("show").await;
    let closed = format!("rtmp://127.0.0.1:{}/closed/canary", nginx.port());
    // One that takes connections and drops them: the key is not even told.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let deaf = listener.local_addr().expect("bound");
    let dropping = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let at_key = restreams.add(show(), target(&closed)).await.expect("added");
    let before = restreams.add(show(), target(&format!("rtmp://{deaf}/app/canary"))).await.expect("added");
    for (view, suspected) in [(at_key, true), (before, false)] {
        // It waits a second at least before it tries again, so its first failure can be seen.
        let first = until(&restreams, &view.id, 10, "failing", |view| view.attempts > 0).await;
        let reason =
            |view: &tidegate::restream::TargetView| view.last_error.clone().expect("a failure").reason;
        assert!(first.attempts > 1 || !reason(&first).contains("key"), "once may be chance: {first:?}");
        let again = until(&restreams, &view.id, 15, "failing again", |view| view.attempts > 1).await;
        assert_eq!(reason(&again).contains("the key is wrong"), suspected, "{again:?}");
        assert!(reason(&again).contains("closed") && !reason(&again).contains("canary"), "{again:?}");
        assert_eq!(again.last_error.as_ref().map(|failure| failure.class), Some(FailureClass::Closed));
        // Else it is on its way to the next try.
        if let TargetState::Retrying { reason: shown, .. } = &again.state {
            assert_eq!(*shown, reason(&again));
        }
        restreams.remove(show(), view.id, None).await.expect("there");
    }
    // While it waits for its next try, somebody else may publish.
    let view = restreams.add(show(), target(&closed)).await.expect("added");
    reaches(&restreams, &view.id, 10, TargetStateKind::Retrying).await;
    let trial = restreams.test(&show(), &view.id).await.expect("there");
    let steps = format!("{trial:?}");
    assert!(trial.error.expect(&steps).reason.contains("the key is wrong"), "{steps}");
    restreams.shutdown().await;
    dropping.abort();
    ffmpeg.kill().await.expect("killed");
    gateway.stop().await;
}

#[tokio::test]
async fn a_target_added_in_mid_show_begins_at_a_keyframe_and_ends_cleanly() {
    let (gateway, receiver) = (Gateway::start().await, Gateway::start().await);
    let restreams = restreams(&gateway.hub, dialer(TlsRoots::only([])));
    let (mut ffmpeg, _) = gateway.show("show").await;
    sleep(Duration::from_millis(1700)).await;
    let mut events = receiver.hub.events();
    let url = format!("rtmp://user:pass@{}/live/copy?token=right", receiver.address);
    let view = restreams.add(show(), target(&url)).await.expect("added");
    let mut copy = next_stream(&mut events).await;
    let first = timeout(Duration::from_secs(5), copy.recv()).await.expect("media").expect("live");
    assert!(first.keyframe && first.kind == MediaKind::Video);
    assert!(first.epoch.tracks.audio.is_some() && first.epoch.tracks.video.is_some());
    let live = until(&restreams, &view.id, 10, "measured", |view| view.bitrate > 0).await;
    assert!(live.bytes_sent > 0 && live.dropped_frames == 0 && live.live_since.is_some(), "{live:?}");
    let source = gateway.hub.get(&show()).expect("live");
    assert_eq!(source.statistics().snapshot().restream_readers, 1);

    // On air: a test goes as far as it disturbs nobody.
    let trial = restreams.test(&show(), &view.id).await.expect("there");
    let steps = serde_json::to_value(&trial).expect("JSON");
    assert_eq!(steps["steps"][4]["outcome"], "skipped", "{steps}");
    assert!(trial.ok && steps["steps"][3]["step"] == "connect", "{steps}");
    assert_eq!(restreams.get(&show(), &view.id).expect("there").state.kind(), TargetStateKind::Live);

    let start = Instant::now();
    restreams.remove(show(), view.id, None).await.expect("there");
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(receiver.hub.get(&"copy".parse().expect("valid")).is_none_or(|stream| stream.source().is_none()));
    assert_eq!(source.statistics().snapshot().restream_readers, 0);

    // A show that ends takes its target back to waiting.
    let view = restreams.add(show(), target(&url)).await.expect("added");
    reaches(&restreams, &view.id, 5, TargetStateKind::Live).await;
    ffmpeg.kill().await.expect("killed");
    reaches(&restreams, &view.id, 5, TargetStateKind::Waiting).await;
    restreams.shutdown().await;
    assert!(restreams.add(show(), target(&url)).await.is_err());
    gateway.stop().await;
    receiver.stop().await;
}

#[tokio::test]
async fn a_target_is_begun_and_ended_as_servers_like_it() {
    let (gateway, mut stage) = (Gateway::start().await, Stage::open().await);
    let (mut ffmpeg, _) = gateway.show("show").await;
    let first = restreams(&gateway.hub, dialer(TlsRoots::only([])));
    let view = first.add(show(), target(&stage.url)).await.expect("added");
    reaches(&first, &view.id, 10, TargetStateKind::Live).await;
    first.remove(show(), view.id, None).await.expect("there");
    assert_whole(&stage.connection().await, "the target was removed");

    let view = first.add(show(), target(&stage.url)).await.expect("added");
    reaches(&first, &view.id, 10, TargetStateKind::Live).await;
    first.shutdown().await;
    assert_whole(&stage.connection().await, "the gateway goes down");

    let second = restreams(&gateway.hub, dialer(TlsRoots::only([])));
    let view = second.add(show(), target(&stage.url)).await.expect("added");
    reaches(&second, &view.id, 10, TargetStateKind::Live).await;
    ffmpeg.kill().await.expect("killed");
    assert_whole(&stage.connection().await, "the stream is over");
    second.shutdown().await;
    gateway.stop().await;
}

/// Sequence headers and a keyframe first, and at the end, on a connection that is then closed in order, all the words
/// that servers wait for: without them Twitch shows its disconnect protection.
fn assert_whole(said: &[Said], why: &str) {
    let media: Vec<_> = said.iter().filter_map(Said::media).collect();
    let stray = media.iter().find(|(stream, ..)| *stream != MESSAGE_STREAM);
    assert_eq!(stray, None, "{why}: media beside the publication");
    let begin: Vec<_> = media.iter().take(4).map(|(_, kind, head)| (*kind, *head)).collect();
    // `@setDataFrame`, a text; the headers of H.264 and AAC; a keyframe of H.264.
    let expected: [(u8, [u8; 2]); 4] = [(18, [2, 0]), (9, [0x17, 0]), (8, [0xaf, 0]), (9, [0x17, 1])];
    assert_eq!(begin, expected, "{why}");
    let stream = Amf0Value::Number(MESSAGE_STREAM.into());
    let key = Amf0Value::Utf8String("canary".to_owned());
    let end = [
        Said::command(0, "FCUnpublish", vec![key]),
        Said::command(0, "deleteStream", vec![stream]),
        Said::command(MESSAGE_STREAM, "closeStream", Vec::new()),
        Said::Closed,
    ];
    let at = said.len().saturating_sub(end.len());
    let (show, last) = said.split_at(at);
    assert_eq!(last, end, "{why}");
    assert!(show.last().is_some_and(|last| last.media().is_some()), "{why}: {:?}", show.last());
}

#[tokio::test]
async fn a_name_that_is_taken_is_asked_for_again_without_haste_until_it_is_free() {
    let (gateway, mut stage) = (Gateway::start().await, Stage::open().await);
    stage.taken.store(true, Ordering::Relaxed);
    let restreams = restreams(&gateway.hub, dialer(TlsRoots::only([])));
    let (mut ffmpeg, _) = gateway.show("show").await;
    let view = restreams.add(show(), target(&stage.url)).await.expect("added");
    let refused = reaches(&restreams, &view.id, 5, TargetStateKind::Retrying).await;
    let failure = refused.last_error.clone().expect("a failure");
    assert_eq!(
        (failure.class, failure.code.as_deref()),
        (FailureClass::Rejected, Some("NetStream.Publish.BadName"))
    );
    assert!(!failure.reason.contains("canary"), "{failure:?}");
    let wait = (refused.next_try.expect("a time") - failure.at).num_milliseconds();
    assert!((5_000..=30_000).contains(&wait), "an old session takes some seconds to go, not {wait} ms");
    stage.taken.store(false, Ordering::Relaxed);
    // The first wait is of 5 s.
    let live = reaches(&restreams, &view.id, 10, TargetStateKind::Live).await;
    assert_eq!((live.attempts, live.last_error), (0, Some(failure)));
    restreams.shutdown().await;

    let refused = stage.connection().await;
    let asked = |said: &[Said]| said.iter().filter(|said| said.is_command("publish")).count();
    assert_eq!((asked(&refused), refused.iter().filter_map(Said::media).count()), (1, 0), "{refused:?}");
    assert_whole(&stage.connection().await, "the name was free");
    assert!(stage.said.try_recv().is_err(), "it did not come a third time");
    ffmpeg.kill().await.expect("killed");
    gateway.stop().await;
}

#[tokio::test]
async fn a_secure_target_must_have_the_right_certificate() {
    use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio_rustls::{TlsAcceptor, rustls};
    let mut authority = rcgen::CertificateParams::new(Vec::new()).expect("valid");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().expect("a key");
    let root = authority.self_signed(&authority_key).expect("signed");
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let leaf_key = rcgen::KeyPair::generate().expect("a key");
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("valid");
    let leaf = leaf.signed_by(&leaf_key, &issuer).expect("signed");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .expect("a certificate");
    let (gateway, receiver) = (Gateway::start().await, Gateway::start().await);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let port = listener.local_addr().expect("bound").port();
    let (acceptor, behind) = (TlsAcceptor::from(Arc::new(config)), receiver.address);
    let terminator = tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let Ok(mut secure) = acceptor.accept(connection).await else { continue };
            let name = secure.get_ref().1.server_name().map(str::to_owned);
            assert_eq!(name.as_deref(), Some("localhost"), "the name is indicated");
            let mut plain = TcpStream::connect(behind).await.expect("listening");
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut secure, &mut plain).await });
        }
    });
    let (mut ffmpeg, _) = gateway.show("show").await;
    let url = format!("rtmps://localhost:{port}/live/copy");

    let trusting = restreams(&gateway.hub, dialer(TlsRoots::only([root.der().to_vec()])));
    let mut events = receiver.hub.events();
    trusting.add(show(), target(&url)).await.expect("added");
    let mut copy = next_stream(&mut events).await;
    for _ in 0..50 {
        timeout(Duration::from_secs(5), copy.recv()).await.expect("media").expect("live");
    }
    trusting.shutdown().await;

    let strangers = restreams(&gateway.hub, dialer(TlsRoots::only([])));
    let view = strangers.add(show(), target(&url)).await.expect("added");
    let failed = reaches(&strangers, &view.id, 5, TargetStateKind::Retrying).await;
    let failure = failed.last_error.expect("a failure");
    assert!(failure.reason.contains("no secure connection to localhost"), "{failure:?}");
    assert_eq!(failure.class, FailureClass::Tls);
    strangers.shutdown().await;
    ffmpeg.kill().await.expect("killed");
    terminator.abort();
    gateway.stop().await;
    receiver.stop().await;
}

#[tokio::test]
async fn a_target_that_takes_nothing_any_more_is_found_within_15_seconds() {
    let (gateway, receiver) = (Gateway::start().await, Gateway::start().await);
    // A proxy that stops moving bytes when told to.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let freeze = CancellationToken::new();
    let (frozen, behind) = (freeze.clone(), receiver.address);
    let proxy = tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.expect("a connection");
        let mut far = TcpStream::connect(behind).await.expect("listening");
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            () = frozen.cancelled() => std::future::pending().await,
        }
    });
    let restreams = restreams(&gateway.hub, dialer(TlsRoots::only([])));
    let (mut ffmpeg, mut bystander) = gateway.show("show").await;
    let view = restreams.add(show(), target(&format!("rtmp://{address}/live/copy"))).await.expect("added");
    reaches(&restreams, &view.id, 10, TargetStateKind::Live).await;
    freeze.cancel();
    let start = Instant::now();
    let view = reaches(&restreams, &view.id, 25, TargetStateKind::Retrying).await;
    println!("found after {:?}: {:?}", start.elapsed(), view.state);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    assert_eq!(view.last_error.expect("a failure").class, FailureClass::Silent);
    while bystander.try_recv().is_some() {}
    assert_eq!(bystander.lost(), 0);
    restreams.shutdown().await;
    proxy.abort();
    ffmpeg.kill().await.expect("killed");
    gateway.stop().await;
    receiver.stop().await;
}

/// The message stream that a [`Stage`] gives to a publication.
const MESSAGE_STREAM: u32 = 7;

/// An RTMP server of the test's own: it lets everybody publish, unless the name is taken, and tells what it hears.
struct Stage {
    url: String,
    /// Whether the next who asks hears `NetStream.Publish.BadName`.
    taken: Arc<AtomicBool>,
    said: mpsc::UnboundedReceiver<Said>,
    task: JoinHandle<()>,
}

/// What a client said.
#[derive(Debug, PartialEq)]
enum Said {
    Command {
        stream: u32,
        name: String,
        arguments: Vec<Amf0Value>,
    },
    /// Data, audio or video: its type and first bytes.
    Media {
        stream: u32,
        kind: u8,
        head: [u8; 2],
    },
    /// It has closed the connection in order …
    Closed,
    /// … or has not.
    Broken,
}

impl Said {
    fn command(stream: u32, name: &str, arguments: Vec<Amf0Value>) -> Self {
        Self::Command { stream, name: name.to_owned(), arguments }
    }

    fn is_command(&self, wanted: &str) -> bool {
        matches!(self, Self::Command { name, .. } if name == wanted)
    }

    /// Of media: message stream, type and first bytes.
    fn media(&self) -> Option<(u32, u8, [u8; 2])> {
        match self {
            Self::Media { stream, kind, head } => Some((*stream, *kind, *head)),
            _ => None,
        }
    }
}

impl Stage {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let url = format!("rtmp://{}/live/canary", listener.local_addr().expect("bound"));
        let taken = Arc::new(AtomicBool::new(false));
        let (tell, said) = mpsc::unbounded_channel();
        let is_taken = taken.clone();
        let task = tokio::spawn(async move {
            // A target has one connection at a time.
            while let Ok((connection, _)) = listener.accept().await {
                perform(connection, &is_taken, &tell).await;
            }
        });
        Self { url, taken, said, task }
    }

    /// All that is said on the next connection, which must be about to end.
    async fn connection(&mut self) -> Vec<Said> {
        let mut all = Vec::new();
        while !matches!(all.last(), Some(Said::Closed | Said::Broken)) {
            let said = timeout(Duration::from_secs(5), self.said.recv()).await;
            all.push(said.expect("an end").expect("the stage is open"));
        }
        all
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves one connection until the client closes it.
async fn perform(mut connection: TcpStream, taken: &AtomicBool, tell: &mpsc::UnboundedSender<Said>) {
    let mut hello = vec![0; 1537];
    connection.read_exact(&mut hello).await.expect("a greeting");
    let greeting = [&[3][..], &[0; 1536], &hello[1..]].concat();
    connection.write_all(&greeting).await.expect("open");
    connection.read_exact(&mut hello[1..]).await.expect("the end of the handshake");
    let (mut reader, mut writer) = (ChunkDeserializer::new(), ChunkSerializer::new());
    let mut buffer = vec![0; 65_536];
    // The test may be over.
    let tell = |said| drop(tell.send(said));
    loop {
        let count = match connection.read(&mut buffer).await {
            Ok(0) => return tell(Said::Closed),
            Ok(count) => count,
            Err(_) => return tell(Said::Broken),
        };
        let mut fresh = &buffer[..count];
        while let Some(payload) = reader.get_next_message(fresh).expect("chunks") {
            fresh = &[];
            let (stream, kind) = (payload.message_stream_id, payload.type_id);
            if matches!(kind, 8 | 9 | 18) {
                let head = payload.data.first_chunk::<2>().copied().unwrap_or_default();
                tell(Said::Media { stream, kind, head });
                continue;
            }
            match payload.to_rtmp_message().expect("a message") {
                RtmpMessage::SetChunkSize { size } => {
                    reader.set_max_chunk_size(size as usize).expect("a size");
                }
                RtmpMessage::Amf0Command {
                    command_name: name, transaction_id, additional_arguments, ..
                } => {
                    let answer = answer_to(&name, transaction_id, taken.load(Ordering::Relaxed));
                    tell(Said::command(stream, &name, additional_arguments));
                    let Some(answer) = answer else { continue };
                    let payload = answer.into_message_payload(RtmpTimestamp::new(0), stream).expect("short");
                    let packet = writer.serialize(&payload, false, false).expect("short");
                    connection.write_all(&packet.bytes).await.expect("open");
                }
                _ => {}
            }
        }
    }
}

/// What a [`Stage`] answers to a command.
fn answer_to(command: &str, transaction: f64, is_taken: bool) -> Option<RtmpMessage> {
    let status = |level: &str, code: &str| {
        let properties = [("level", level), ("code", code), ("description", "canary, as you wish")];
        let text = |text: &str| Amf0Value::Utf8String(text.to_owned());
        let owned = properties.map(|(name, value)| (name.to_owned(), text(value)));
        Amf0Value::Object(owned.into())
    };
    let (name, transaction_id, argument) = match command {
        "connect" => ("_result", transaction, status("status", "NetConnection.Connect.Success")),
        "createStream" => ("_result", transaction, Amf0Value::Number(MESSAGE_STREAM.into())),
        "publish" if is_taken => ("onStatus", 0.0, status("error", "NetStream.Publish.BadName")),
        "publish" => ("onStatus", 0.0, status("status", "NetStream.Publish.Start")),
        _ => return None,
    };
    let (command_name, command_object) = (name.to_owned(), Amf0Value::Null);
    let additional_arguments = vec![argument];
    Some(RtmpMessage::Amf0Command { command_name, transaction_id, command_object, additional_arguments })
}
