//! Lower renditions beside the best one: frames without meaning, faster than they would be shown, through lanes
//! and muxers into playlists.

use super::{Hls, HlsSettings, Request, Viewer};
use crate::media::{Codec, Epoch, Frame, MediaKind, MediaTime, Tracks, VideoTrack};
use crate::pipeline::Pipelines;
use crate::stream::{BridgeWriter, Hub, Publisher, RenditionFrame, Source, SourceKind};
use bytes::Bytes;
use m3u8_rs::{MasterPlaylist, MediaPlaylist, MediaSegment};
use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Milliseconds from picture to picture, and pictures from keyframe to keyframe.
const STEP: i64 = 40;
pub(super) const GROUP: i64 = 50;

/// A stream with HLS, and what is written into it.
struct Show {
    hls: Arc<Hls>,
    publisher: Publisher<Frame>,
    writer: BridgeWriter<RenditionFrame>,
    epochs: [Arc<Epoch>; 2],
    cancel: CancellationToken,
    output: JoinHandle<()>,
}

impl Show {
    fn begin() -> Self {
        let pipelines = Pipelines::load(None).expect("GStreamer and its plugins");
        let hls = Hls::new(HlsSettings { always: true, ..HlsSettings::default() }, pipelines);
        let (hub, _watcher) = Hub::new(Duration::ZERO);
        let source = Source { kind: SourceKind::Rtmp, remote: None };
        let publisher: Publisher<Frame> = hub.publish("show".parse().expect("a name"), source).expect("free");
        let writer = publisher.stream().bridge::<RenditionFrame>();
        writer.promise(1);
        let origin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let epochs = [publisher.begin_epoch(tracks(640), origin), writer.begin_epoch(tracks(320), origin)];
        let cancel = CancellationToken::new();
        let output = tokio::spawn(hls.clone().run(publisher.stream().clone(), cancel.clone()));
        Self { hls, publisher, writer, epochs, cancel, output }
    }

    fn best(&self, number: i64) {
        self.publisher.write(frame(&self.epochs[0], number, number % GROUP == 0));
    }

    fn lower(&self, number: i64, keyframe: bool) {
        self.writer.write(RenditionFrame { rendition: 1, frame: frame(&self.epochs[1], number, keyframe) });
    }

    /// Writes pictures of both; the lower rendition's come `late` pictures later.
    async fn both(&self, numbers: Range<i64>, late: i64) {
        for number in numbers {
            self.best(number);
            self.lower(number - late, (number - late) % GROUP == 0);
            settle(number).await;
        }
    }

    async fn multivariant(&self) -> Vec<String> {
        let text = self.text("index.m3u8").await;
        let list: MasterPlaylist =
            m3u8_rs::parse_master_playlist_res(text.as_bytes()).expect("a multivariant playlist");
        list.variants.into_iter().map(|variant| variant.uri).collect()
    }

    /// Ends it; the last versions of both playlists.
    async fn end(self) -> [(String, MediaPlaylist); 2] {
        self.cancel.cancel();
        let texts = loop {
            let texts = [self.text("video.m3u8").await, self.text("video-2.m3u8").await];
            if texts.iter().all(|text| text.contains("#EXT-X-ENDLIST")) {
                break texts;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        self.output.await.expect("no panic");
        texts.map(|text| {
            let list = m3u8_rs::parse_media_playlist_res(text.as_bytes()).expect("a playlist");
            (text, list)
        })
    }

    async fn text(&self, file: &str) -> String {
        let viewer = Viewer { address: Ipv4Addr::LOCALHOST.into(), user_agent_hash: 1 };
        let request = Request { file, query: None, gzip: false, viewer };
        let served = self.hls.serve(&"show".parse().expect("a name"), request).await.expect("served");
        String::from_utf8(served.body.to_vec()).expect("text")
    }
}

/// Lets the output's task and the muxers come to their turn: some hundred times faster than the media.
pub(super) async fn settle(number: i64) {
    if number % 4 == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(super) fn tracks(width: u32) -> Tracks {
    let video = VideoTrack {
        resolution: Some((width, width * 9 / 16)),
        frame_rate: Some(25.0),
        codec_data: Bytes::from_static(&[
            1, 66, 0xc0, 30, 0xff, 0xe1, 0, 4, 0x67, 66, 0xc0, 30, 1, 0, 2, 0x68, 0xce,
        ]),
        ..VideoTrack::new(Codec::H264)
    };
    Tracks { video: Some(video), audio: None }
}

pub(super) fn frame(epoch: &Arc<Epoch>, number: i64, keyframe: bool) -> Frame {
    let pts = MediaTime::from_millis(number * STEP);
    let data = Bytes::from_static(&[0, 0, 0, 4, 0x65, 1, 2, 3]);
    Frame { epoch: epoch.clone(), kind: MediaKind::Video, pts, dts: pts, keyframe, data }
}

/// When segments begin that are there, in milliseconds.
fn starts(list: &MediaPlaylist) -> Vec<i64> {
    let time = |segment: &MediaSegment| segment.program_date_time.map(|time| time.timestamp_millis());
    let there = list.segments.iter().filter(|segment| !is_gap(segment));
    there.map(|segment| time(segment).expect("a date-time") - 1_800_000_000_000).collect()
}

fn is_gap(segment: &MediaSegment) -> bool {
    segment.unknown_tags.iter().any(|tag| tag.tag == "X-GAP")
}

#[tokio::test(flavor = "multi_thread")]
async fn l18_renditions_begin_segments_together_whoever_comes_first() {
    for late in [-3, 0, 6] {
        let show = Show::begin();
        show.both(0..200, late).await;
        assert_eq!(show.multivariant().await, ["video.m3u8", "video-2.m3u8"], "{late}");
        let [(_, best), (text, lower)] = show.end().await;
        let whole: Vec<_> =
            starts(&best).into_iter().filter(|start| start % 2000 == 0 && *start > 0).collect();
        assert_eq!(whole, [2000, 4000, 6000], "{late}");
        let lower = starts(&lower);
        assert!(whole.iter().all(|start| lower.contains(start)), "{late}: {lower:?}\n{text}");
        assert!(!text.contains("#EXT-X-GAP") && !text.contains("#EXT-X-DISCONTINUITY\n"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn l11_a_rendition_that_goes_away_has_gaps_and_costs_the_best_one_nothing() {
    let show = Show::begin();
    show.both(0..90, 0).await;
    for number in 90..240 {
        show.best(number);
        settle(number).await;
        if number == 150 {
            tokio::time::sleep(Duration::from_millis(1600)).await; // as long as it takes to be missed
        }
    }
    while show.multivariant().await.len() > 1 {
        tokio::time::sleep(Duration::from_millis(5)).await; // the muxer is on its way
    }
    show.both(240..400, 0).await;
    while show.multivariant().await.len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let [(best, _), (text, lower)] = show.end().await;
    for text in [&best, &text] {
        assert!(!text.contains("#EXT-X-DISCONTINUITY\n"), "{text}");
    }
    assert!(!best.contains("#EXT-X-GAP"), "{best}");
    let gap: f32 = lower.segments.iter().filter(|segment| is_gap(segment)).map(|one| one.duration).sum();
    // From picture 90 to the next keyframe, number 250.
    assert!((gap - 6.4).abs() < 0.1, "{gap} s\n{text}");
    let mut expected = None;
    for segment in &lower.segments {
        let start = segment.program_date_time.expect("a date-time").timestamp_millis();
        assert!(expected.is_none_or(|expected: i64| (expected - start).abs() <= 2), "{expected:?}\n{text}");
        assert!(segment.duration.round() as u64 <= lower.target_duration, "{text}");
        expected = Some(start + (f64::from(segment.duration) * 1000.0).round() as i64);
    }
    assert!(starts(&lower).contains(&10_000) && starts(&lower).contains(&12_000), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rendition_whose_keyframes_are_elsewhere_is_no_choice_until_it_is_in_step() {
    let show = Show::begin();
    show.both(0..80, 0).await;
    assert_eq!(show.multivariant().await.len(), 2);
    // Half a group later than the best one's, then together again.
    for number in 80..350 {
        show.best(number);
        show.lower(number, if number < 200 { number % GROUP == 25 } else { number % GROUP == 0 });
        if number == 170 {
            while show.multivariant().await.len() > 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        settle(number).await;
    }
    while show.multivariant().await.len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let [_, (text, lower)] = show.end().await;
    let starts = starts(&lower);
    assert!(
        !starts.contains(&4000) && starts.contains(&8000) && starts.contains(&10_000),
        "{starts:?}\n{text}"
    );
    assert!(lower.segments.iter().all(|one| one.duration.round() as u64 <= lower.target_duration), "{text}");
}
