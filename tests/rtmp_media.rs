//! What RTMP media messages mean, end to end: timestamps that roll over, fall back or are changed, and Enhanced
//! RTMP. Sequences of messages one by one are in the unit tests of the same checklist lines.

mod common;

use common::{
    Browser, Ffmpeg, Hls, Machine, Message, Nginx, RtmpClient, Server, Source, assert_plays_hls,
    assert_whep_hears, decode_errors, eventually, machine, messages_of, number, offset, packets, probe,
    seconds, text,
};
use serde_json::{Value, json};
use std::time::Duration;

/// The media messages of a rendered file.
fn rendered(source: Source, length: Duration) -> Vec<Message> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("source.flv");
    Ffmpeg::render(source, length, &file);
    messages_of(&file)
}

/// Publishes messages as `show` in real time until they end.
async fn publish(server: &Server, messages: Vec<Message>) -> tokio::task::JoinHandle<RtmpClient> {
    let mut client = RtmpClient::connect(server.rtmp).await;
    client.publish("show").await;
    tokio::spawn(async move {
        client.play(&messages).await;
        client
    })
}

/// There are `least` packets, their decoding times rise, and nowhere is there a hole of `most` seconds.
async fn assert_continuous(path: &str, kind: &str, least: usize, most: f64) {
    let packets = packets(path, kind).await;
    assert!(packets.len() >= least, "{} packets of {kind} in {path}", packets.len());
    for pair in packets.windows(2) {
        let step = pair[1].1 - pair[0].1;
        assert!(step > 0.0 && step < most, "{kind}: {:?} then {:?}", pair[0], pair[1]);
    }
}

async fn rolls_over_at(limit: u64) {
    let _machine: Machine = machine().await;
    let server = Server::start().await;
    let target = Nginx::start().await;
    server.add_target("show", &target.url("show")).await;
    let mut messages = rendered(Source::BFrames, seconds(14));
    for message in &mut messages {
        // The limit lies between two keyframes, 5 s after the beginning.
        message.time = (limit - 5_000 + u64::from(message.time)) as u32;
    }
    let publisher = publish(&server, messages).await;
    let hls = Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(10)).await;
    let folder = tempfile::tempdir().expect("a folder");
    for (name, rendition) in hls.renditions() {
        hls.wait_for(rendition, seconds(8)).await;
        let playlist = hls.playlist(rendition).await;
        assert!(!playlist.text.contains("#EXT-X-DISCONTINUITY\n"), "{}", playlist.text);
        let file = hls.record(rendition, seconds(8), folder.path(), name).await;
        let path = file.to_str().expect("a path");
        assert_continuous(path, &name[..1], 200, 0.05).await;
        assert_eq!(decode_errors(path).await, "", "{name}");
    }
    let file = target.recorded("show", seconds(9)).await;
    let path = file.to_str().expect("a path");
    for kind in ["v", "a"] {
        assert_continuous(path, kind, 200, 0.06).await;
    }
    let stream = server.stream("show").await.expect("it is live");
    assert_eq!(stream["repairedTimestamps"], 0, "{stream}");
    publisher.abort();
}

#[tokio::test]
async fn r05_timestamps_roll_over_at_24_bits() {
    rolls_over_at(1 << 24).await;
}

#[tokio::test]
async fn r05_timestamps_roll_over_at_32_bits() {
    rolls_over_at(1 << 32).await;
}

/// From H.264 High with B-frames to Baseline, on one connection.
#[tokio::test]
async fn r12_new_sequence_headers_in_mid_stream() {
    let _machine = machine().await;
    let server = Server::start().await;
    let mut messages = rendered(Source::BFrames, seconds(4));
    let end = messages.iter().map(|message| message.time).max().expect("some") + 20;
    for mut message in rendered(Source::Baseline, seconds(8)) {
        message.time += end;
        messages.push(message);
    }
    let publisher = publish(&server, messages).await;
    let hls = Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(10)).await;
    let video = hls.video.clone().expect("a video rendition");
    let playlist = eventually("a discontinuity and media behind it", seconds(15), || async {
        let playlist = hls.playlist(&video).await;
        let broken = playlist.segments.iter().skip(1).any(|segment| segment.discontinuity);
        let behind: f64 = playlist.last_run().iter().map(|segment| segment.duration).sum();
        (broken && behind > 2.0).then_some(playlist)
    })
    .await;
    let maps: Vec<_> = playlist.segments.iter().filter_map(|segment| segment.map.clone()).collect();
    assert_ne!(maps.first(), maps.last(), "{}", playlist.text);
    let folder = tempfile::tempdir().expect("a folder");
    for (name, rendition) in hls.renditions() {
        let file = hls.download(rendition, folder.path(), name).await;
        assert_eq!(decode_errors(file.to_str().expect("a path")).await, "", "{name}");
    }
    publisher.abort();
}

/// A sender that shifts composition instead of decoding: every picture between two anchors has an offset below 0.
#[tokio::test]
async fn r12_negative_composition_offsets_are_kept() {
    let _machine = machine().await;
    let server = Server::start().await;
    let target = Nginx::start().await;
    server.add_target("show", &target.url("show")).await;
    let mut messages = rendered(Source::BFrames, seconds(12));
    let mut negative = 0;
    for message in messages.iter_mut().filter(|message| message.kind == 9 && message.payload[1] == 1) {
        let offset = composition_ms(message);
        // x264 delays everything by two pictures, so that no offset is negative.
        let offset = offset - 67;
        negative += usize::from(offset < 0);
        message.payload[2..5].copy_from_slice(&offset.to_be_bytes()[1..]);
    }
    assert!(negative > 50, "{negative}");
    let publisher = publish(&server, messages).await;
    let hls = Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(10)).await;
    let video = hls.video.clone().expect("a video rendition");
    let folder = tempfile::tempdir().expect("a folder");
    hls.wait_for(&video, seconds(4)).await;
    let file = hls.download(&video, folder.path(), "video").await;
    let path = file.to_str().expect("a path");
    // ffprobe moves decoding times back until no offset is negative; what counts is that pictures are shown
    // evenly. Clamped to 0, the offsets would hold two of three pictures.
    let mut shown: Vec<_> = packets(path, "v").await.into_iter().map(|packet| packet.0).collect();
    shown.sort_by(f64::total_cmp);
    let uneven = shown.windows(2).filter(|pair| !(0.025..0.042).contains(&(pair[1] - pair[0]))).count();
    assert!(shown.len() > 90 && uneven <= 2, "{uneven} of {} pictures: {shown:?}", shown.len());
    assert_continuous(path, "v", 90, 0.06).await;
    assert_eq!(decode_errors(path).await, "");

    let recorded = messages_of(&target.recorded("show", seconds(6)).await);
    let pictures = recorded.iter().filter(|message| message.kind == 9 && message.payload[1] == 1);
    let offsets: Vec<_> = pictures.clone().map(composition_ms).collect();
    let negative = offsets.iter().filter(|offset| **offset < 0).count();
    assert!(offsets.len() > 150 && negative > 50, "{negative} of {}: {offsets:?}", offsets.len());
    let times: Vec<_> = pictures.map(|message| message.time).collect();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    publisher.abort();
}

/// Presentation minus decoding time of a plain video message.
fn composition_ms(message: &Message) -> i32 {
    i32::from_be_bytes([message.payload[2], message.payload[3], message.payload[4], 0]) >> 8
}

#[tokio::test]
async fn r13_timestamps_that_fall_back_or_repeat_and_empty_messages() {
    let _machine = machine().await;
    let server = Server::start().await;
    let mut messages = rendered(Source::Baseline, seconds(9));
    let mut number = 0;
    for message in messages.iter_mut().filter(|message| message.kind == 9 && message.payload[1] == 1) {
        number += 1;
        match number % 10 {
            5 => message.time = message.time.saturating_sub(33), // that of the picture before
            8 => message.time = message.time.saturating_sub(50),
            _ => {}
        }
    }
    let empty =
        |kind, payload: &[u8]| Message { csid: 4, kind, time: 500, stream: 1, payload: payload.to_vec() };
    for (at, message) in [empty(9, &[]), empty(8, &[]), empty(9, &[0x17]), empty(9, &[0x27, 1, 0, 0, 0])]
        .into_iter()
        .enumerate()
    {
        messages.insert(40 + at, message);
    }
    let publisher = publish(&server, messages).await;
    let hls = Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(10)).await;
    let video = hls.video.clone().expect("a video rendition");
    hls.wait_for(&video, seconds(5)).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = hls.download(&video, folder.path(), "video").await;
    let path = file.to_str().expect("a path");
    assert_continuous(path, "v", 120, 0.1).await;
    assert_eq!(decode_errors(path).await, "");
    let stream = server.stream("show").await.expect("it is live");
    assert!(stream["repairedTimestamps"].as_u64().is_some_and(|count| count > 20), "{stream}");
    publisher.abort();
}

/// What the API says of the stream, if it has so many tracks.
async fn with_tracks(server: &Server, count: usize) -> Option<Value> {
    let stream = server.stream("show").await?;
    (stream["tracks"].as_array()?.len() == count).then_some(stream)
}

#[tokio::test]
async fn r13_a_track_without_its_configuration_is_told_and_the_other_goes_on() {
    let _machine = machine().await;
    let server = Server::start().await;
    let mut messages = rendered(Source::Baseline, seconds(14));
    let is_header = |message: &Message| message.kind == 9 && message.payload[1] == 0;
    let header = messages.iter().find(|message| is_header(message)).cloned().expect("a sequence header");
    messages.retain(|message| !is_header(message));
    let mut client = RtmpClient::connect(server.rtmp).await;
    client.publish("show").await;
    let end = messages.iter().position(|message| message.time > 6_000).expect("long enough");
    client.play(&messages[..end]).await;
    let code = client.wait_for_status("NetStream.Publish.").await;
    assert_eq!(code, "NetStream.Publish.UnusableTrack");
    let stream = eventually("the sound alone", seconds(2), || with_tracks(&server, 1)).await;
    let problem = stream["source"]["problem"].as_str().unwrap_or_default();
    assert!(problem.contains("H.264") && problem.contains("sequence header"), "{stream}");
    assert!(server.process.log().contains(problem), "{}", server.process.log());
    // The header that was missing.
    client.send(&Message { time: messages[end].time, ..header }).await;
    let playing = client.play(&messages[end..]);
    let joined = async {
        let stream = eventually("the pictures as well", seconds(7), || with_tracks(&server, 2)).await;
        assert_eq!(stream["source"]["problem"], Value::Null, "{stream}");
    };
    tokio::join!(playing, joined);
}

async fn ffmpeg_8_reaches_hls(video: &str, codecs: &str, probed: &str) {
    let _machine = machine().await;
    let server = Server::start().await;
    let options = json!({ "video": video });
    let _publisher = Browser::publish_with("ffmpeg_rtmp.py", &server.rtmp_url("show"), options).await;
    let hls = Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(20)).await;
    assert!(hls.multivariant.contains(&format!("CODECS=\"{codecs}")), "{}", hls.multivariant);
    let video = hls.video.clone().expect("a video rendition");
    hls.wait_for(&video, seconds(5)).await;
    let found = probe(&server.url("/show/index.m3u8")).await;
    assert_eq!((found.video.as_deref(), found.audio.as_deref()), (Some(probed), Some("aac")), "{found:?}");
    assert_eq!((found.width, found.height), (640, 360), "{found:?}");
    let folder = tempfile::tempdir().expect("a folder");
    for (name, rendition) in hls.renditions() {
        let file = hls.download(rendition, folder.path(), name).await;
        let path = file.to_str().expect("a path");
        assert_eq!(decode_errors(path).await, "", "{name}");
        assert_continuous(path, &name[..1], 100, 0.1).await;
    }
    let stream = server.stream("show").await.expect("it is live");
    assert_eq!((&stream["repairedTimestamps"], &stream["tracksLeftOut"]), (&json!(0), &json!(0)), "{stream}");
}

#[tokio::test]
async fn r16_h265_of_ffmpeg_8_goes_into_hls_as_it_is() {
    ffmpeg_8_reaches_hls("hevc", "hvc1.", "hevc").await;
}

#[tokio::test]
async fn r16_av1_of_ffmpeg_8_goes_into_hls_as_it_is() {
    ffmpeg_8_reaches_hls("av1", "av01.0.", "av1").await;
}

#[tokio::test]
async fn r16_vp9_of_ffmpeg_8_goes_into_hls_as_it_is() {
    ffmpeg_8_reaches_hls("vp9", "vp09.00.", "vp9").await;
}

#[tokio::test]
async fn r16_h265_of_ffmpeg_8_is_transcoded_for_restreams() {
    let _machine = machine().await;
    let server = Server::start().await;
    let target = Nginx::start().await;
    server.add_target("show", &target.url("show")).await;
    let _publisher = Browser::publish_with("ffmpeg_rtmp.py", &server.rtmp_url("show"), json!({})).await;
    let file = target.recorded("show", seconds(5)).await;
    let found = probe(file.to_str().expect("a path")).await;
    assert_eq!((found.video.as_deref(), found.audio.as_deref()), (Some("h264"), Some("aac")), "{found:?}");
    let path = file.to_str().expect("a path");
    assert_continuous(path, "v", 100, 0.1).await;
    assert_continuous(path, "a", 150, 0.06).await;
}

#[tokio::test]
async fn r16_opus_and_mp3_of_ffmpeg_8_play() {
    let _machine = machine().await;
    let server = Server::start().await;
    for (audio, codec) in [("opus", "Opus"), ("mp3", "MP3")] {
        let options = json!({ "video": "h264", "audio": audio });
        let _publisher = Browser::publish_with("ffmpeg_rtmp.py", &server.rtmp_url(audio), options).await;
        let stream = eventually("both tracks", seconds(10), || async {
            let stream = server.stream(audio).await?;
            (stream["tracks"].as_array()?.len() == 2).then_some(stream)
        })
        .await;
        let sound: &Value = &stream["tracks"][1];
        assert_eq!((&sound["codec"], &sound["sampleRate"]), (&json!(codec), &json!(48_000)), "{stream}");
        let url = server.url(&format!("/{audio}/index.m3u8"));
        let hls = Hls::open(&server.client, &url, seconds(15)).await;
        let viewed = Browser::view_hls(&url, json!({ "seconds": 3 })).await;
        assert_plays_hls(&viewed);
        // It is heard when it was sent: with the flash.
        let folder = tempfile::tempdir().expect("a folder");
        let mut files = Vec::new();
        for (name, rendition) in hls.renditions() {
            hls.wait_for(rendition, seconds(6)).await;
            files.push(hls.download(rendition, folder.path(), name).await);
        }
        let [picture, sound] = &files[..] else { panic!("two renditions: {files:?}") };
        let apart = offset(picture, sound).await;
        println!("{audio}: {:.0} ms of {:.0?}", apart.median, apart.all);
        assert!(apart.median.abs() <= 80.0, "{audio}: {apart:?}");
        let whep = server.url(&format!("/{audio}/whep"));
        let viewed = Browser::view_whep(&whep, json!({ "seconds": 2, "video": false })).await;
        assert_whep_hears(&viewed);
    }
}

#[tokio::test]
async fn r16_of_several_tracks_the_first_is_taken_and_the_rest_is_reported() {
    let _machine = machine().await;
    let server = Server::start().await;
    let mut messages = rendered(Source::Baseline, seconds(9));
    for message in &mut messages {
        message.payload = two_tracks(message.kind, &message.payload);
    }
    let publisher = publish(&server, messages).await;
    let hls = Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(10)).await;
    let video = hls.video.clone().expect("a video rendition");
    hls.wait_for(&video, seconds(4)).await;
    let folder = tempfile::tempdir().expect("a folder");
    for (name, rendition) in hls.renditions() {
        let file = hls.download(rendition, folder.path(), name).await;
        assert_eq!(decode_errors(file.to_str().expect("a path")).await, "", "{name}");
    }
    let stream = server.stream("show").await.expect("it is live");
    assert_eq!(stream["tracksLeftOut"], 2, "{stream}");
    publisher.abort();
}

/// A plain message as ManyTracksManyCodecs, behind it a second track of a codec that nobody knows.
fn two_tracks(kind: u8, payload: &[u8]) -> Vec<u8> {
    let (head, code, packet_type, body) = match kind {
        // Sequence start 0 and coded frames 1, as in plain messages; a sequence start has no offset.
        9 if payload[1] == 0 => (0x90 | (payload[0] & 0x70) | 6, b"avc1", 0, &payload[5..]),
        9 if payload[1] == 1 => (0x80 | (payload[0] & 0x70) | 6, b"avc1", 1, &payload[2..]),
        9 => (0x80 | (payload[0] & 0x70) | 6, b"avc1", 2, &[][..]),
        _ => (0x95, b"mp4a", payload[1], &payload[2..]),
    };
    let size = (body.len() as u32).to_be_bytes();
    let mut message = vec![head, 0x20 | packet_type];
    message.extend(code);
    message.push(0);
    message.extend(&size[1..]);
    message.extend(body);
    message.extend(b"zzzz\x01\x00\x00\x02??");
    message
}

#[tokio::test]
async fn r16_what_is_unknown_is_refused_by_its_name() {
    let server = Server::start().await;
    for (key, kind, payload, named) in [
        ("codec", 9, &b"\x90vvc1...."[..], "vvc1"),
        ("packet", 9, b"\x98hvc1....", "video packet type 8"),
        ("sound", 8, b"\x90fLaC....", "fLaC"),
        ("old", 9, b"\x12....", "H.263"),
    ] {
        let mut client = RtmpClient::connect(server.rtmp).await;
        client.publish(key).await;
        client.send(&Message { csid: 6, kind, time: 0, stream: 1, payload: payload.to_vec() }).await;
        let told = client.wait_for_status("unusable media").await;
        assert!(told.contains(named), "{told}");
        assert!(client.closed_within(seconds(5)).await);
    }
}

#[tokio::test]
async fn r16_the_answer_to_connect_states_what_is_supported() {
    let server = Server::start().await;
    for property in ["fourCcList", "videoFourCcInfoMap", "audioFourCcInfoMap", "capsEx", "hvc1", "Opus"] {
        let mut client = RtmpClient::connect(server.rtmp).await;
        let object = [&[3, 0, 3][..], b"app", &text("live"), &[0, 0, 9]].concat();
        let payload = [text("connect"), number(1.0), object].concat();
        client.send(&Message { csid: 3, kind: 20, time: 0, stream: 0, payload }).await;
        assert_eq!(client.wait_for_status(property).await, property);
    }
}
