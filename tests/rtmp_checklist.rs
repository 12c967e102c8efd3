//! The RTMP checklist as far as it is about sessions: one test a line, named by it. Bounds: `rtmp_bounds`.

#[path = "common/rtmp_tls.rs"]
mod rtmp_tls;
#[path = "common/rtmp_wire.rs"]
mod rtmp_wire;

use aws_lc_rs::hmac;
use rtmp_tls::{certificate, connect_tls};
use rtmp_wire::{AAC_HEADER, AVC_HEADER, Show, Site, Wire, command, header, number, picture, started, text};
use std::time::{Duration, Instant};
use tidegate::media::MediaKind;
use tidegate::rtmp::RtmpLimits;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

/// For the server to close a connection that it has refused.
const SOON: Duration = Duration::from_secs(4);
/// How long the server waits for a second track, in real time, where nobody said that there is none.
const PATIENCE: Duration = Duration::from_secs(1);

// --- The checklist ------------------------------------------------------------------------------------------

#[tokio::test]
async fn r01_simple_and_digest_handshakes() {
    let site = Site::start().await;
    // Simple: the answer holds an echo. In pieces, and with the next bytes right behind.
    let mut wire = Wire::open(site.address).await;
    let greeting: Vec<u8> =
        [3, 0, 0, 0, 9, 0, 0, 0, 0].into_iter().chain((0..1528).map(|n| n as u8)).collect();
    for piece in greeting.chunks(500) {
        wire.raw(piece).await;
    }
    let mut answer = vec![0; 3073];
    wire.connection.read_exact(&mut answer).await.expect("an answer");
    assert_eq!((answer[0], &answer[1537..]), (3, &greeting[1..]));
    let login = [header(3, 0, command("createStream").len() + 1, 20), command("createStream"), vec![5]];
    wire.raw(&[&answer[1..1537], &login.concat()].concat()).await;
    wire.until("none expected yet").await;

    // With a digest at either place: ours has one as well, and our answer is signed with the client's.
    for place in [8, 772] {
        let mut wire = Wire::open(site.address).await;
        let (greeting, digest) = greeting_with_digest(place);
        wire.raw(&greeting).await;
        let mut answer = vec![0; 3073];
        wire.connection.read_exact(&mut answer).await.expect("an answer");
        let (first, second) = (&answer[1..1537], &answer[1537..]);
        let found = [8, 772].into_iter().any(|place| {
            let at = digest_offset(first, place);
            let rest = [&first[..at], &first[at + 32..]].concat();
            first[at..at + 32] == *sign(SERVER_KEY, &rest)
        });
        assert!(found, "the server's greeting has a digest");
        let key = sign(&[SERVER_KEY, &SUFFIX].concat(), &digest);
        assert_eq!(second[1504..], *sign(&key, &second[..1504]), "place {place}");
        wire.raw(first).await;
        wire.publish("cam").await;
        drop(wire);
        // The name is free again once the server has seen that.
        let name = "cam".parse().expect("a name");
        while site.hub.get(&name).is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    // Another version, encrypted for one, is none of ours.
    for version in [6, 8, b'G'] {
        let mut wire = Wire::open(site.address).await;
        wire.raw(&[version; 1537]).await;
        assert_eq!(wire.until_closed(SOON).await, "");
    }
    site.stop().await;
}

#[tokio::test]
async fn r02_chunk_stream_ids_of_one_two_and_three_bytes() {
    let site = Site::start().await;
    let mut wire = Wire::connect(site.address).await;
    let message = |id: &[u8], payload: &[u8], stream: u8| {
        let mut head = header(0, 0, payload.len(), 20);
        head[8] = stream;
        [id, &head[1..], payload].concat()
    };
    let connect = [command("connect"), vec![3, 0, 3], b"app".to_vec(), text("live"), vec![0, 0, 9]].concat();
    wire.raw(&message(&[63], &connect, 0)).await;
    wire.until("NetConnection.Connect.Success").await;
    wire.raw(&message(&[0, 0], &[command("createStream"), vec![5]].concat(), 0)).await;
    let publish = [command("publish"), vec![5], text("cam"), text("live")].concat();
    wire.raw(&message(&[1, 255, 255], &publish, 1)).await;
    wire.until("NetStream.Publish.Start").await;
    site.stop().await;
}

#[tokio::test]
async fn r03_interleaved_chunk_streams() {
    let site = Site::start().await;
    let mut show = Show::start(&site, Wire::connect(site.address).await, "cam").await;
    let (data, video) = picture(303, 7);
    let audio = [&[0xaf, 1], [8; 150].as_slice()].concat();
    let mut bytes = header(6, 40, video.len(), 9);
    bytes.extend(&video[..128]);
    bytes.extend(header(4, 40, audio.len(), 8));
    bytes.extend(&audio[..128]);
    bytes.push(0xc6);
    bytes.extend(&video[128..256]);
    // Hardware encoders put control messages in between, too.
    bytes.extend([2, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0, 0, 9]);
    bytes.push(0xc4);
    bytes.extend(&audio[128..]);
    bytes.push(0xc6);
    bytes.extend(&video[256..]);
    show.wire.raw(&bytes).await;
    assert_eq!(show.next(MediaKind::Audio).await.data[..], audio[2..]);
    show.wire.send(9, 1, &picture(60, 3).1).await;
    assert_eq!(show.next_picture().await.data[..], data);
    site.stop().await;
}

#[tokio::test]
async fn r04_extended_timestamps_on_type_3_chunks_present_or_absent() {
    let site = Site::start().await;
    for (n, repeated) in [true, false].into_iter().enumerate() {
        let mut show = Show::start(&site, Wire::connect(site.address).await, &format!("cam{n}")).await;
        let field = 0x0100_0000u32.to_be_bytes();
        let (data, video) = picture(300, 7);
        let mut bytes = header(6, 0xff_ffff, video.len(), 9);
        bytes.extend(field);
        for (n, chunk) in video.chunks(128).enumerate() {
            if n > 0 {
                bytes.push(0xc6);
                bytes.extend(field.iter().filter(|_| repeated));
            }
            bytes.extend(chunk);
        }
        // Only if all of that was read right are these read right.
        let (after, video) = picture(90, 8);
        let length = (video.len() as u32).to_be_bytes();
        for _ in 0..2 {
            bytes.extend([0x46, 0, 0, 40, length[1], length[2], length[3], 9]);
            bytes.extend(&video);
        }
        show.wire.raw(&bytes).await;
        assert_eq!(show.next_picture().await.data[..], data, "repeated: {repeated}");
        let (second, third) = (show.next_picture().await, show.next_picture().await);
        assert_eq!((&second.data[..], &third.data[..]), (&after[..], &after[..]), "repeated: {repeated}");
        assert_eq!(third.dts.since(second.dts), Duration::from_millis(40));
    }
    site.stop().await;
}

#[tokio::test]
async fn r06_abort_drops_the_unfinished_message() {
    let site = Site::start().await;
    let mut show = Show::start(&site, Wire::connect(site.address).await, "cam").await;
    let (_, never) = picture(400, 5);
    let (data, video) = picture(100, 6);
    let mut bytes = header(6, 40, never.len(), 9);
    bytes.extend(&never[..128]);
    bytes.extend([2, 0, 0, 0, 0, 0, 4, 2, 0, 0, 0, 0, 0, 0, 0, 6]);
    bytes.extend(header(6, 80, video.len(), 9));
    bytes.extend(&video);
    show.wire.raw(&bytes).await;
    assert_eq!(show.next_picture().await.data[..], data);
    site.stop().await;
}

#[tokio::test]
async fn r07_acknowledgement_windows() {
    let site = Site::start().await;
    let mut wire = Wire::connect(site.address).await;
    wire.login().await;
    wire.until("NetConnection.Connect.Success").await;
    // Window Acknowledgement Size and Set Peer Bandwidth come before the result.
    let window = 2_500_000u32.to_be_bytes();
    assert!(wire.has([&[0, 0, 4, 5, 0, 0, 0, 0], &window[..]].concat()));
    assert!(wire.has([&[0, 0, 5, 6, 0, 0, 0, 0], &window[..], &[2]].concat()));
    // Another bandwidth is answered with the window.
    wire.received.clear();
    wire.send(6, 0, &[0, 0, 0x20, 0, 2]).await;
    wire.until([&[0, 0, 4, 5, 0, 0, 0, 0], &window[..]].concat()).await;
    // A window of ours is acknowledged before it is used up, with what was received.
    wire.received.clear();
    wire.send(5, 0, &20_000u32.to_be_bytes()).await;
    wire.send(18, 0, &vec![0; 12_000]).await;
    wire.until([2, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0]).await;
    while wire.received.len() < 16 {
        wire.connection.read_buf(&mut wire.received).await.expect("open");
    }
    let told = u32::from_be_bytes(wire.received[12..16].try_into().expect("four bytes"));
    assert!((10_000..13_000).contains(&told), "{told}");
    site.stop().await;
}

/// Sizes above 65 536 are taken at their word: to count smaller chunks than the sender cuts would read its
/// payload as headers.
#[tokio::test]
async fn r08_chunk_sizes_from_1_to_the_largest() {
    let site = Site::start().await;
    let mut show = Show::start(&site, Wire::connect(site.address).await, "cam").await;
    for (fill, size) in [(10, 1), (11, 127), (12, 65_536), (13, 70_000), (14, 0xff_ffff), (15, 0x7fff_ffff)] {
        show.wire.send(1, 0, &u32::to_be_bytes(size)).await;
        show.wire.chunk = size as usize;
        let length = if size < 1000 { 300 } else { 200_000 };
        let (data, video) = picture(length, fill);
        show.wire.send(9, 1, &video).await;
        assert_eq!(show.next_picture().await.data[..], data, "chunks of {size}");
    }
    // Zero would never end: it counts as one.
    show.wire.send(1, 0, &[0; 4]).await;
    show.wire.chunk = 1;
    let (data, video) = picture(50, 16);
    show.wire.send(9, 1, &video).await;
    assert_eq!(show.next_picture().await.data[..], data);
    site.stop().await;
}

#[tokio::test]
async fn r09_commands_that_encoders_send() {
    let site = Site::start().await;
    let mut events = site.hub.events();
    let mut wire = Wire::connect(site.address).await;
    wire.login().await;
    wire.until("NetConnection.Connect.Success").await;
    let undefined = [text("_result"), number(1.0), vec![5, 6]].concat();
    for name in ["releaseStream", "FCPublish", "_checkbw"] {
        wire.received.clear();
        wire.command(0, name, &[vec![5], text("cam")].concat()).await;
        wire.until(&undefined).await;
    }
    wire.received.clear();
    wire.command(0, "FCPublish", &[vec![5], text("cam")].concat()).await;
    // What vMix waits for.
    wire.until([text("onFCPublish"), number(0.0), vec![5, 3]].concat()).await;
    wire.until("NetStream.Publish.Start").await;
    wire.command(0, "getStreamLength", &[vec![5], text("cam")].concat()).await;
    wire.until([text("_result"), number(1.0), vec![5], number(0.0)].concat()).await;
    wire.command(0, "somethingUnheardOf", &[5]).await;
    // AMF3 commands are AMF0 behind a zero.
    wire.send(17, 0, &[vec![0], command("createStream"), vec![5]].concat()).await;
    wire.until([text("_result"), number(1.0), vec![5], number(1.0)].concat()).await;
    wire.received.clear();
    wire.send(17, 1, &[vec![0], command("publish"), vec![5], text("cam"), text("live")].concat()).await;
    wire.until("NetStream.Publish.Start").await;
    let mut frames = started(&mut events).await;
    let (data, video) = picture(100, 7);
    wire.send(9, 1, AVC_HEADER).await;
    wire.send(8, 1, AAC_HEADER).await;
    wire.send(9, 1, &video).await;
    let frame = timeout(Duration::from_secs(5), frames.recv()).await.expect("media").expect("live");
    assert_eq!(frame.data[..], data);
    wire.command(0, "FCUnpublish", &[vec![5], text("cam")].concat()).await;
    wire.until("onFCUnpublish").await;
    wire.until("NetStream.Unpublish.Success").await;
    wire.command(0, "deleteStream", &[vec![5], number(1.0)].concat()).await;
    // The same connection may publish again.
    wire.received.clear();
    wire.publish_after_login("cam").await;
    wire.until("NetStream.Publish.Start").await;
    site.stop().await;
}

/// Metadata of any kind that announce one track: none is waited for beside it. One frame is all that comes, so no
/// media time passes, and who does not heed the metadata hands it out after [`PATIENCE`] at the earliest.
#[tokio::test]
async fn r09_metadata_of_any_kind_announce_the_only_track() {
    let site = Site::start().await;
    let mut publishers = 0;
    let mut name = || {
        publishers += 1;
        format!("cam{publishers}")
    };
    for (kind, property, codec) in [
        (MediaKind::Audio, "audiocodecid", number(10.0)),
        (MediaKind::Video, "videocodecid", number(7.0)),
        (MediaKind::Video, "videocodecid", text("avc1")),
    ] {
        let object = [&[3, 0, 12][..], property.as_bytes(), &codec, &[0, 0, 9]].concat();
        let array = [&[8, 0, 0, 0, 1][..], &object[1..]].concat();
        for metadata in [
            [text("@setDataFrame"), text("onMetaData"), array.clone()].concat(),
            [text("@setDataFrame"), text("onMetaData"), object].concat(),
            [text("onMetaData"), array].concat(),
        ] {
            for message in [(18, metadata.clone()), (15, [vec![0], metadata].concat())] {
                let waited = first_frame_after(&site, &name(), std::slice::from_ref(&message), kind).await;
                assert!(waited < Duration::from_millis(600), "{kind:?} after {waited:?}: {message:02x?}");
            }
        }
    }
    // The control: where nothing says so, another track is waited for.
    let nothing = [
        (18, [text("@clearDataFrame"), text("onMetaData")].concat()),
        (18, text("onTextData")),
        (15, [vec![0], text("onTextData")].concat()),
    ];
    for (metadata, kind) in [(&nothing[..0], MediaKind::Audio), (&nothing[..], MediaKind::Video)] {
        let waited = first_frame_after(&site, &name(), metadata, kind).await;
        assert!(waited >= PATIENCE, "{kind:?} after {waited:?}: without metadata both kinds are expected");
    }
    site.stop().await;
}

/// Publishes these data messages (type and payload) and then a single frame of one kind: how long that took to come
/// out, as the only track.
async fn first_frame_after(site: &Site, key: &str, metadata: &[(u8, Vec<u8>)], kind: MediaKind) -> Duration {
    let mut events = site.hub.events();
    let mut wire = Wire::connect(site.address).await;
    wire.publish(key).await;
    let mut frames = started(&mut events).await;
    for (message, payload) in metadata {
        wire.send(*message, 1, payload).await;
    }
    let (message, header, (data, media)) = match kind {
        MediaKind::Audio => (8, AAC_HEADER, (vec![9, 9], vec![0xaf, 1, 9, 9])),
        MediaKind::Video => (9, AVC_HEADER, picture(100, 7)),
    };
    wire.send(message, 1, header).await;
    let sent = Instant::now();
    wire.send(message, 1, &media).await;
    let frame = timeout(Duration::from_secs(5), frames.recv()).await.expect("media").expect("live");
    let waited = sent.elapsed();
    assert_eq!((frame.kind, &frame.data[..]), (kind, &data[..]));
    let tracks = &frame.epoch.tracks;
    let both = (tracks.has(MediaKind::Video), tracks.has(MediaKind::Audio));
    assert_eq!(both, (kind == MediaKind::Video, kind == MediaKind::Audio), "it is the only track");
    waited
}

#[tokio::test]
async fn r10_application_key_query_and_user_of_any_url() {
    let site = Site::start().await;
    let ask = async |app: &str, url: &str, key: &str| {
        let mut wire = Wire::connect(site.address).await;
        wire.login_with(&[("app", text(app)), ("tcUrl", text(url))]).await;
        wire.publish_after_login(key).await;
        let answer = wire.until_closed(SOON).await;
        let request = site.requests.lock().expect("not poisoned").pop().expect("asked");
        let reveal =
            |secret: Option<tidegate::media::Secret>| secret.map(|secret| secret.reveal().to_owned());
        let key = request.key.reveal().to_owned();
        assert!(answer.contains("NetStream.Publish.Denied"), "{answer}");
        (request.app, key, reveal(request.query), request.user, reveal(request.password))
    };
    let some = |text: &str| Some(text.to_owned());
    // rtmp://host/other/a/b/cam?key=1 as ffmpeg cuts it, and the same as OBS does.
    let expected = ("other".to_owned(), "a/b/cam".to_owned(), some("key=1"), None, None);
    assert_eq!(ask("other/a", "rtmp://host/other/a", "b/cam?key=1").await, expected);
    assert_eq!(ask("other/a/b", "rtmp://host/other/a/b", "cam?key=1").await, expected);
    let expected = ("cam".to_owned(), String::new(), some("user=u&pass=p"), None, None);
    assert_eq!(ask("cam?user=u&pass=p", "rtmp://host/cam?user=u&pass=p", "").await, expected);
    let expected = ("other".to_owned(), "cam".to_owned(), some("x=y"), some("joe"), some("p@ss"));
    assert_eq!(ask("other", "rtmp://joe:p%40ss@host:1935/other", "cam?x=y").await, expected);

    let long = "k".repeat(1025);
    let mut wire = Wire::connect(site.address).await;
    wire.ask_to_publish(&long).await;
    assert!(wire.until_closed(SOON).await.contains("the stream key is longer than 1024 bytes"));
    let mut wire = Wire::connect(site.address).await;
    wire.login_with(&[("app", text(&long))]).await;
    assert!(wire.until_closed(SOON).await.contains("NetConnection.Connect.Rejected"));
    assert!(site.requests.lock().expect("not poisoned").is_empty(), "nobody was asked");
    site.stop().await;
}

#[tokio::test]
async fn r11_statuses_and_a_clear_refusal_before_the_connection_is_closed() {
    let site = Site::start().await;
    let mut wire = Wire::connect(site.address).await;
    wire.ask_to_publish("denied").await;
    let answer = wire.until_closed(SOON).await;
    assert!(answer.contains("NetStream.Publish.Denied") && answer.contains("unknown stream key"), "{answer}");

    let mut first = Wire::connect(site.address).await;
    first.publish("cam").await;
    let occupied = site.occupy("busy");
    let mut second = Wire::connect(site.address).await;
    second.ask_to_publish("busy").await;
    assert!(second.until_closed(SOON).await.contains("NetStream.Publish.BadName"));
    occupied.abort();
    // Twice on one connection.
    first.command(1, "publish", &[vec![5], text("other"), text("live")].concat()).await;
    assert!(first.until_closed(SOON).await.contains("NetStream.Publish.BadName"));

    let mut wire = Wire::connect(site.address).await;
    wire.login().await;
    wire.command(1, "play", &[vec![5], text("cam")].concat()).await;
    assert!(wire.until_closed(SOON).await.contains("NetStream.Play.StreamNotFound"));

    let mut wire = Wire::connect(site.address).await;
    wire.command(1, "publish", &[vec![5], text("cam"), text("live")].concat()).await;
    assert!(wire.until_closed(SOON).await.contains("connect first"));

    let mut wire = Wire::connect(site.address).await;
    wire.login().await;
    wire.login().await;
    let answer = wire.until_closed(SOON).await;
    assert!(answer.contains("_error") && answer.contains("NetConnection.Connect.Rejected"), "{answer}");

    let mut wire = Wire::connect(site.address).await;
    wire.login().await;
    for _ in 0..17 {
        wire.command(0, "createStream", &[5]).await;
    }
    assert!(wire.until_closed(SOON).await.contains("NetConnection.Call.Failed"));
    site.stop().await;
}

#[tokio::test]
async fn r14_rtmps() {
    let (server, client) = certificate();
    let site = Site::with(RtmpLimits::default(), Some(server)).await;
    let address = site.tls_address.expect("a listener");
    // Byte by byte: no boundary of records may matter.
    let mut wire = Wire::over(connect_tls(&client, address).await);
    wire.shake_hands().await;
    let mut show = Show::start(&site, wire, "cam").await;
    let (data, video) = picture(1000, 7);
    show.wire.chunk = 1000;
    show.wire.send(1, 0, &1000u32.to_be_bytes()).await;
    let bytes = [header(6, 40, video.len(), 9), video[..1000].to_vec(), vec![0xc6], video[1000..].to_vec()];
    for byte in bytes.concat() {
        show.wire.raw(&[byte]).await;
    }
    assert_eq!(show.next_picture().await.data[..], data);
    drop(show);

    // ffmpeg, by the same door.
    let mut events = site.hub.events();
    let url = format!("rtmps://127.0.0.1:{}/live/ffmpeg", address.port());
    let source = "-f lavfi -i testsrc2=s=320x180:r=25 -f lavfi -i sine=r=48000 -t 2 -pix_fmt yuv420p";
    let coding = "-c:v libx264 -preset ultrafast -tune zerolatency -c:a aac -f flv";
    let arguments = source.split_whitespace().chain(coding.split_whitespace());
    let mut ffmpeg = Command::new("ffmpeg");
    let mut child =
        ffmpeg.args(["-v", "error", "-nostdin"]).args(arguments).arg(url).spawn().expect("installed");
    let mut frames = started(&mut events).await;
    let mut video = 0;
    while let Some(frame) = timeout(Duration::from_secs(20), frames.recv()).await.expect("media") {
        video += usize::from(frame.kind == MediaKind::Video);
    }
    assert!(child.wait().await.expect("waited").success());
    assert_eq!(video, 50);

    // Neither speaks the other's language.
    let mut wire = Wire::open(address).await;
    wire.raw(&[3; 1537]).await;
    wire.until_closed(SOON).await;
    let mut wire = Wire::open(site.address).await;
    wire.raw(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await;
    assert_eq!(wire.until_closed(SOON).await, "");
    site.stop().await;
}

#[tokio::test]
async fn r15_a_ping_is_answered_with_its_own_timestamp() {
    let site = Site::start().await;
    let mut wire = Wire::connect(site.address).await;
    wire.send(4, 0, &[0, 6, 1, 2, 3, 4]).await;
    wire.until([0, 0, 6, 4, 0, 0, 0, 0, 0, 7, 1, 2, 3, 4]).await;
    wire.received.clear();
    // Answers and events that we know nothing of need none.
    wire.send(4, 0, &[0, 7, 1, 2, 3, 4]).await;
    wire.send(4, 0, &[0, 3, 0, 0, 0, 1, 0, 0, 1, 0]).await;
    wire.send(4, 0, &[0]).await;
    wire.send(4, 0, &[0, 6, 9, 9, 9, 9]).await;
    wire.until([0, 7, 9, 9, 9, 9]).await;
    assert_eq!(wire.received.len(), 18);
    site.stop().await;
}

/// Who said that it understands is asked to connect again before it is kicked.
#[tokio::test]
async fn r16_a_reconnect_request_is_the_drain() {
    let site = Site::start().await;
    let mut able = Wire::connect(site.address).await;
    able.login_with(&[("app", text("live")), ("capsEx", number(1.0))]).await;
    able.publish_after_login("able").await;
    able.until("NetStream.Publish.Start").await;
    assert!(able.has("capsEx"));
    let mut unable = Wire::connect(site.address).await;
    unable.publish("unable").await;
    site.close();
    let (able, unable) = tokio::join!(able.until_closed(SOON), unable.until_closed(SOON));
    let place = |answer: &str, text: &str| answer.find(text);
    let request = place(&able, "NetConnection.Connect.ReconnectRequest").expect("asked to come back");
    assert!(request < place(&able, "NetConnection.Connect.Closed").expect("told"));
    assert!(place(&unable, "ReconnectRequest").is_none() && place(&unable, "Connect.Closed").is_some());
    site.stop().await;
}

/// §7.1.6: several messages behind one header.
#[tokio::test]
async fn aggregate_messages_are_taken_apart() {
    let site = Site::start().await;
    let mut show = Show::start(&site, Wire::connect(site.address).await, "cam").await;
    let tag = |kind: u8, timestamp: u8, data: &[u8]| {
        let length = (data.len() as u32).to_be_bytes();
        let head = [kind, length[1], length[2], length[3], 0, 0, timestamp, 0, 0, 0, 0];
        [&head[..], data, &(data.len() as u32 + 11).to_be_bytes()].concat()
    };
    let (first, second) = (picture(80, 7), picture(90, 8));
    show.wire.send(22, 1, &[tag(9, 10, &first.1), tag(9, 50, &second.1)].concat()).await;
    let seen = (show.next_picture().await, show.next_picture().await);
    assert_eq!((&seen.0.data[..], &seen.1.data[..]), (&first.0[..], &second.0[..]));
    assert_eq!(seen.1.dts.since(seen.0.dts), Duration::from_millis(40));
    site.stop().await;
}

// --- Digests ------------------------------------------------------------------------------------------------

const CLIENT_KEY: &[u8] = b"Genuine Adobe Flash Player 001";
const SERVER_KEY: &[u8] = b"Genuine Adobe Flash Media Server 001";
const SUFFIX: [u8; 32] = [
    0xf0, 0xee, 0xc2, 0x4a, 0x80, 0x68, 0xbe, 0xe8, 0x2e, 0x00, 0xd0, 0xd1, 0x02, 0x9e, 0x7e, 0x57, 0x6e,
    0xec, 0x5d, 0x2d, 0x29, 0x80, 0x6f, 0xab, 0x93, 0xb8, 0xe6, 0x36, 0xcf, 0xeb, 0x31, 0xae,
];

fn sign(key: &[u8], data: &[u8]) -> Box<[u8]> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, data).as_ref().into()
}

/// Where the digest stands, given where the four bytes stand that say so.
fn digest_offset(greeting: &[u8], place: usize) -> usize {
    let sum: usize = greeting[place..place + 4].iter().map(|byte| usize::from(*byte)).sum();
    sum % 728 + place + 4
}

fn greeting_with_digest(place: usize) -> (Vec<u8>, Box<[u8]>) {
    let mut greeting: Vec<u8> = (0..1536u32).map(|n| (n * 7 % 251) as u8).collect();
    greeting[..8].copy_from_slice(&[0, 0, 0, 0, 9, 0, 124, 2]);
    let at = digest_offset(&greeting, place);
    let digest = sign(CLIENT_KEY, &[&greeting[..at], &greeting[at + 32..]].concat());
    greeting[at..at + 32].copy_from_slice(&digest);
    greeting.insert(0, 3);
    (greeting, digest)
}
