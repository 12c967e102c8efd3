//! Publishers that vanish, return and take names over (REL-01 to REL-03), over RTMP, over WHIP and across:
//! what the API, events, HLS and WebRTC viewers see of it.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{
    EventStream, Ffmpeg, Hls, Layer, MediaKind, MediaPacket, Picture, PictureSource, Pictures, Programme,
    Publishing, RtcClient, RtcEvent, RtcOptions, RtmpClient, Server, Source, eventually, header, machine,
    problem, seconds, units_of_h264_file,
};
use serde_json::{Value, json};

#[tokio::test]
async fn rel01_an_rtmp_publisher_that_vanishes_stalls_leaves_and_its_stream_ends_after_its_grace() {
    vanishes(Protocol::Rtmp).await;
}

#[tokio::test]
async fn rel01_a_whip_publisher_that_vanishes_stalls_leaves_and_its_stream_ends_after_its_grace() {
    vanishes(Protocol::Whip).await;
}

async fn vanishes(protocol: Protocol) {
    let _machine = machine().await;
    let server = Server::builder().env("TIDEGATE_STREAM_GRACE_FOR", "show=6s,other=1s").start().await;
    let mut publisher = Publisher::start(protocol, &server).await;
    let mut viewer = Viewer::start(&server).await;
    viewer.picture(seconds(5)).await;
    let mut events = Events::of(&server, &viewer).await;
    events.wait_for("active", seconds(10)).await;
    let hls = Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(15)).await;
    let video = hls.video.clone().expect("a video rendition");

    let mut journal = EventStream::open(server.api("GET", "/api/v1/events?stream=show")).await;

    publisher.vanish().await;
    let vanished = Instant::now();
    let rest_of = |limit: Duration| limit.saturating_sub(vanished.elapsed());
    journal.until("stream.stalled", rest_of(seconds(3))).await;
    println!("{protocol:?}: stalled after {:?}", vanished.elapsed());
    let stalled = state(&server, "stalled", rest_of(seconds(3))).await;
    assert!(!stalled["source"].is_null(), "it keeps the name: {stalled}");
    // Viewers are told within a second of that.
    events.wait_for("inactive", seconds(1)).await;
    journal.until("publisher.left", rest_of(seconds(10))).await;
    let left = Instant::now();
    println!("{protocol:?}: left after {:?}", vanished.elapsed());
    let waiting = state(&server, "waiting", rest_of(seconds(10))).await;
    assert!(waiting["source"].is_null() && waiting["stateSince"].is_string(), "{waiting}");
    assert!(!hls.playlist(&video).await.ended, "it ends after the grace only");
    let playlist = eventually("HLS ends", seconds(9), || async {
        let playlist = hls.playlist(&video).await;
        playlist.ended.then_some(playlist)
    })
    .await;
    let grace = left.elapsed();
    assert!(grace >= seconds(5) && grace <= seconds(8), "ended after {grace:?}");
    journal.until("stream.ended", seconds(1)).await;
    assert!(!playlist.segments.is_empty());
    assert!(server.stream("show").await.is_none());
    viewer.closed(seconds(3)).await;
}

#[tokio::test]
async fn rel02_rtmp_returns_as_rtmp() {
    returns(Protocol::Rtmp, Protocol::Rtmp).await;
}

#[tokio::test]
async fn rel02_whip_returns_as_whip() {
    returns(Protocol::Whip, Protocol::Whip).await;
}

#[tokio::test]
async fn rel02_rtmp_returns_as_whip() {
    returns(Protocol::Rtmp, Protocol::Whip).await;
}

#[tokio::test]
async fn rel02_whip_returns_as_rtmp() {
    returns(Protocol::Whip, Protocol::Rtmp).await;
}

/// A publisher vanishes, and another returns while its dead session still holds the name.
async fn returns(first: Protocol, second: Protocol) {
    let _machine = machine().await;
    let server = Server::start().await;
    let mut one = Publisher::start(first, &server).await;
    let mut viewer = Viewer::start(&server).await;
    viewer.picture(seconds(5)).await;
    let hls = Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(15)).await;
    let mut before = BTreeMap::new();
    for (kind, rendition) in hls.renditions() {
        before.insert(kind, hls.wait_for(rendition, seconds(2)).await);
    }
    let old = state(&server, "live", seconds(1)).await["source"]["since"].clone();

    one.vanish().await;
    state(&server, "stalled", seconds(10)).await;
    viewer.read_what_is_there();
    let seen = viewer.pictures.len();
    let _two = Publisher::start(second, &server).await;
    eventually("the other publishes", seconds(5), || async {
        let source = server.stream("show").await?["source"].clone();
        (source["since"] != old && source["kind"] == second.name()).then_some(())
    })
    .await;
    let back = Instant::now();
    let resumed = viewer.picture(seconds(5)).await;
    println!("{first:?} to {second:?}: a picture {:?} after the return", back.elapsed());
    assert!(back.elapsed() <= seconds(2), "{:?}", back.elapsed());
    assert!(resumed.is_decodable_start(), "{resumed:?}");
    for _ in 0..60 {
        viewer.picture(seconds(5)).await;
    }
    viewer.goes_on_without_a_break(seen);

    breaks_once(&hls).await;
    for (kind, rendition) in hls.renditions() {
        let (before, after) = (&before[kind], hls.playlist(rendition).await);
        assert!(after.next_sequence() > before.next_sequence(), "{}", after.text);
        assert!(after.media_sequence >= before.media_sequence && !after.ended, "{}", after.text);
    }
    superseded(&server).await;
}

/// The log says why the old session has ended: some time after that, its peer may read why first.
async fn superseded(server: &Server) {
    eventually("the old session is closed", seconds(10), || async {
        server.process.log().contains("another publisher has taken the name over").then_some(())
    })
    .await;
}

#[tokio::test]
async fn rel02_an_rtmp_publisher_that_pauses_goes_on_in_its_session() {
    let _machine = machine().await;
    let server = Server::start().await;
    let one = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    state(&server, "live", seconds(10)).await;
    let mut viewer = Viewer::start(&server).await;
    viewer.picture(seconds(5)).await;
    let hls = Hls::open(&server.client, &server.url("/show/index.m3u8"), seconds(15)).await;
    let since = server.stream("show").await.expect("live")["source"]["since"].clone();
    one.process.signal("STOP");
    state(&server, "stalled", seconds(10)).await;
    one.process.signal("CONT");
    let live = state(&server, "live", seconds(2)).await;
    assert_eq!(live["source"]["since"], since, "the same session");
    for _ in 0..90 {
        viewer.picture(seconds(5)).await;
    }
    viewer.numbers_go_on();
    breaks_once(&hls).await;
}

#[tokio::test]
async fn rel02_a_whip_publisher_that_pauses_is_asked_for_a_keyframe_and_goes_on_in_its_session() {
    let _machine = machine().await;
    let server = Server::start().await;
    let mut client = RtcClient::publish(&server, "show", RtcOptions::default()).await;
    // No keyframe for 20 s, unless it is asked for.
    let programme = Programme { group: 600, ..Programme::default() };
    let media = Publishing::start(client.sender(), programme);
    client.connected().await;
    let mut viewer = Viewer::start(&server).await;
    viewer.picture(seconds(5)).await;
    let before = viewer.pictures.len();
    media.pause(true);
    state(&server, "stalled", seconds(10)).await;
    viewer.read_what_is_there();
    let asked = client.sender().keyframe_requests();
    media.pause(false);
    let resumed = Instant::now();
    state(&server, "live", seconds(1)).await;
    let again = viewer.pictures.len();
    assert!(again >= before);
    while !viewer.picture(seconds(2)).await.is_decodable_start() {}
    println!("a keyframe {:?} after the pause", resumed.elapsed());
    assert!(client.sender().keyframe_requests() > asked && resumed.elapsed() < seconds(2));
    for _ in 0..60 {
        viewer.picture(seconds(5)).await;
    }
    viewer.goes_on_without_a_break(again);
}

/// One discontinuity in each rendition, with segments on both sides.
async fn breaks_once(hls: &Hls) {
    for (kind, rendition) in hls.renditions() {
        let after = eventually("HLS goes on", seconds(10), || async {
            let playlist = hls.playlist(rendition).await;
            let next = playlist.segments.iter().rposition(|segment| segment.discontinuity)?;
            (next > 0 && playlist.segments.len() - next >= 2).then_some(playlist)
        })
        .await;
        // One for each change of what fills the lane: the next publisher, and before it what held its place.
        let breaks = after.segments.iter().filter(|segment| segment.discontinuity).count();
        assert!((1..=2).contains(&breaks), "{kind}: {}", after.text);
    }
}

#[tokio::test]
async fn rel02_a_publisher_that_left_politely_is_waited_for() {
    let _machine = machine().await;
    let server = Server::start().await;
    let ffmpeg = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
    state(&server, "live", seconds(10)).await;
    let mut viewer = Viewer::start(&server).await;
    viewer.picture(seconds(5)).await;
    let mut events = Events::of(&server, &viewer).await;
    events.wait_for("active", seconds(10)).await;
    ffmpeg.leave().await;
    state(&server, "waiting", seconds(2)).await;
    events.wait_for("inactive", seconds(5)).await;
    viewer.read_what_is_there();
    let seen = viewer.pictures.len();
    let _two = Publisher::start(Protocol::Whip, &server).await;
    events.wait_for("active", seconds(10)).await;
    assert!(viewer.picture(seconds(2)).await.is_decodable_start());
    for _ in 0..30 {
        viewer.picture(seconds(5)).await;
    }
    viewer.goes_on_without_a_break(seen);
}

#[tokio::test]
async fn rel03_a_session_that_is_silent_loses_its_name() {
    let _machine = machine().await;
    for (first, second) in [
        (Protocol::Rtmp, Protocol::Rtmp),
        (Protocol::Rtmp, Protocol::Whip),
        (Protocol::Whip, Protocol::Rtmp),
        (Protocol::Whip, Protocol::Whip),
    ] {
        let server = Server::start().await;
        let mut one = Publisher::start(first, &server).await;
        state(&server, "live", seconds(5)).await;
        one.vanish().await;
        state(&server, "stalled", seconds(10)).await;
        let asked = Instant::now();
        claim(second, &server).await.unwrap_or_else(|refused| panic!("{first:?}, {second:?}: {refused}"));
        println!("{first:?} to {second:?}: taken over within {:?}", asked.elapsed());
        assert!(asked.elapsed() <= seconds(1), "{:?}", asked.elapsed());
        // Its session does not wait for its own silence to be found.
        superseded(&server).await;
        drop(one);
    }
}

#[tokio::test]
async fn rel03_who_asks_for_the_name_of_one_that_sends_is_refused_at_once() {
    let _machine = machine().await;
    for first in [Protocol::Rtmp, Protocol::Whip] {
        let server = Server::start().await;
        let _one = Publisher::start(first, &server).await;
        state(&server, "live", seconds(5)).await;
        for second in [Protocol::Rtmp, Protocol::Whip] {
            let asked = Instant::now();
            let refused = claim(second, &server).await.expect_err("it sends");
            assert!(asked.elapsed() < seconds(1), "{:?}", asked.elapsed());
            match second {
                Protocol::Rtmp => assert_eq!(refused, "NetStream.Publish.BadName"),
                Protocol::Whip => assert!(refused.contains("already has a publisher"), "{refused}"),
            }
        }
    }
}

#[tokio::test]
async fn rel03_who_comes_back_at_once_gets_the_name_when_the_silence_is_long_enough() {
    let _machine = machine().await;
    for (first, second) in [(Protocol::Rtmp, Protocol::Rtmp), (Protocol::Whip, Protocol::Whip)] {
        let server = Server::start().await;
        let mut one = Publisher::start(first, &server).await;
        state(&server, "live", seconds(5)).await;
        one.vanish().await;
        let asked = Instant::now();
        claim(second, &server).await.unwrap_or_else(|refused| panic!("{first:?}, {second:?}: {refused}"));
        println!("{first:?} to {second:?}: answered after {:?}", asked.elapsed());
        assert!(asked.elapsed() <= seconds(3), "{:?}", asked.elapsed());
    }
}

#[tokio::test]
async fn rel03_a_publisher_that_never_sends_does_not_block_the_name() {
    let server = Server::start().await;
    let mut mute = RtmpClient::connect(server.rtmp).await;
    mute.publish("show").await;
    state(&server, "stalled", seconds(10)).await;
    claim(Protocol::Whip, &server).await.expect("nobody sends");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Rtmp,
    Whip,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Rtmp => "rtmp",
            Self::Whip => "whip",
        }
    }
}

/// Somebody who publishes `show`: real H.264 with a keyframe every 2 s, AAC or Opus.
enum Publisher {
    Rtmp(Ffmpeg),
    Whip { client: RtcClient, media: Option<Publishing> },
}

impl Publisher {
    async fn start(protocol: Protocol, server: &Server) -> Self {
        match protocol {
            Protocol::Rtmp => {
                let publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("show"));
                eventually("RTMP is there", seconds(10), || async {
                    (server.stream("show").await?["source"]["kind"] == "rtmp").then_some(())
                })
                .await;
                Self::Rtmp(publisher)
            }
            Protocol::Whip => {
                let folder = tempfile::tempdir().expect("a folder");
                let file = folder.path().join("source.h264");
                Ffmpeg::render_h264(seconds(6), &file);
                let units = Arc::new(units_of_h264_file(&file));
                let layers = vec![Layer { rid: None, pictures: PictureSource::File(units) }];
                let programme = Programme { layers, answers_requests: false, ..Programme::default() };
                let mut client = RtcClient::publish(server, "show", RtcOptions::default()).await;
                let media = Publishing::start(client.sender(), programme);
                client.connected().await;
                Self::Whip { client, media: Some(media) }
            }
        }
    }

    /// Nothing comes from it any more, not even a farewell; its sockets stay open.
    async fn vanish(&mut self) {
        match self {
            Self::Rtmp(ffmpeg) => ffmpeg.process.signal("STOP"),
            Self::Whip { client, media } => {
                *media = None;
                client.set_frozen(true).await;
            }
        }
    }
}

/// Asks for the name `show`; why it was refused.
async fn claim(protocol: Protocol, server: &Server) -> Result<(), String> {
    match protocol {
        Protocol::Rtmp => {
            let code = RtmpClient::connect(server.rtmp).await.try_publish("show").await;
            if code == "NetStream.Publish.Start" { Ok(()) } else { Err(code) }
        }
        Protocol::Whip => {
            let posted =
                RtcClient::post(&server.client, &server.url("/show/whip"), true, RtcOptions::default()).await;
            let Err(refused) = posted else { return Ok(()) };
            assert_eq!(header(&refused, "retry-after"), "2");
            Err(problem(refused, 409).await)
        }
    }
}

/// Waits until the API says that `show` is in this state.
async fn state(server: &Server, wanted: &str, limit: Duration) -> Value {
    eventually(&format!("the stream is {wanted}"), limit, || async {
        server.stream("show").await.filter(|stream| stream["state"] == wanted)
    })
    .await
}

/// A WebRTC viewer of `show`.
struct Viewer {
    client: RtcClient,
    assembling: Pictures,
    packets: Vec<MediaPacket>,
    pictures: Vec<Picture>,
    closed: bool,
}

impl Viewer {
    async fn start(server: &Server) -> Self {
        let client = eventually("a viewer is let in", seconds(10), || async {
            let url = server.url("/show/whep");
            RtcClient::post(&server.client, &url, false, RtcOptions::default()).await.ok()
        })
        .await;
        let (assembling, packets, pictures) = Default::default();
        Self { client, assembling, packets, pictures, closed: false }
    }

    /// The next whole picture.
    async fn picture(&mut self, limit: Duration) -> Picture {
        let seen = self.pictures.len();
        let next = async {
            while self.pictures.len() == seen {
                let event = self.client.next().await.expect("its task runs");
                self.take(event);
                assert!(!self.closed, "the server has ended the session");
            }
            self.pictures[seen].clone()
        };
        tokio::time::timeout(limit, next).await.unwrap_or_else(|_| panic!("no picture within {limit:?}"))
    }

    fn read_what_is_there(&mut self) {
        for event in self.client.drain() {
            self.take(event);
        }
        assert!(!self.closed, "the server has ended the session");
    }

    async fn closed(&mut self, limit: Duration) {
        let closing = async {
            while !self.closed {
                let event = self.client.next().await.expect("its task runs");
                self.take(event);
            }
        };
        tokio::time::timeout(limit, closing).await.unwrap_or_else(|_| panic!("not closed within {limit:?}"));
    }

    fn take(&mut self, event: RtcEvent) {
        match event {
            RtcEvent::Media(packet) if packet.kind == MediaKind::Video => {
                self.pictures.extend(self.assembling.push(&packet));
                self.packets.push(packet);
            }
            RtcEvent::Media(packet) => self.packets.push(packet),
            RtcEvent::Closed => self.closed = true,
            _ => {}
        }
    }

    /// One SSRC a kind, sequence numbers without a hole, and RTP time that only rises.
    fn numbers_go_on(&self) {
        for kind in [MediaKind::Audio, MediaKind::Video] {
            let of_kind: Vec<_> = self.packets.iter().filter(|packet| packet.kind == kind).collect();
            assert!(of_kind.len() > 30, "{} packets of {kind:?}", of_kind.len());
            assert!(of_kind.iter().all(|packet| packet.ssrc == of_kind[0].ssrc), "another SSRC");
            let mut sequences: Vec<u64> = of_kind.iter().map(|packet| packet.sequence).collect();
            sequences.sort_unstable();
            sequences.dedup();
            let hole = sequences.windows(2).find(|pair| pair[1] != pair[0] + 1);
            assert_eq!(hole, None, "a hole in {kind:?}");
        }
        for pair in self.pictures.windows(2) {
            assert!((1..1 << 31).contains(&step(pair)), "RTP time goes back: {pair:?}");
        }
    }

    /// … and RTP time follows real time over the pause, which is before the picture `resumed`.
    fn goes_on_without_a_break(&self, resumed: usize) {
        self.numbers_go_on();
        let pair = &self.pictures[resumed - 1..=resumed];
        let (told, passed) = (f64::from(step(pair)) / 90_000.0, pair[1].at - pair[0].at);
        // Between pictures of one publisher it is 33 ms.
        assert!(passed > Duration::from_millis(100), "there was no pause: {passed:?}");
        assert!((told - passed.as_secs_f64()).abs() < 1.0, "{told} s of RTP time in {passed:?}");
    }
}

/// Ticks of RTP time from one picture to the next.
fn step(pair: &[Picture]) -> u32 {
    pair[1].timestamp.wrapping_sub(pair[0].timestamp)
}

/// The server-sent events of a viewer's session.
struct Events {
    response: reqwest::Response,
    text: String,
}

impl Events {
    async fn of(server: &Server, viewer: &Viewer) -> Self {
        let session = viewer.client.session.as_ref().expect("a session").url.clone();
        let wanted = json!(["active", "inactive"]);
        let created =
            server.client.post(format!("{session}/sse")).json(&wanted).send().await.expect("an answer");
        assert_eq!(created.status(), 201);
        let path = header(&created, "location");
        Self { response: server.get(&path).await, text: String::new() }
    }

    /// Reads up to the next event of this name.
    async fn wait_for(&mut self, name: &str, limit: Duration) {
        let line = format!("event: {name}\n");
        let reading = async {
            while !self.text.contains(&line) {
                let chunk = self.response.chunk().await.expect("readable").expect("not the end");
                self.text += std::str::from_utf8(&chunk).expect("UTF-8");
            }
            let (_, rest) = self.text.split_once(&line).expect("it is there");
            self.text = rest.to_owned();
        };
        tokio::time::timeout(limit, reading).await.unwrap_or_else(|_| panic!("no {name} within {limit:?}"));
    }
}
