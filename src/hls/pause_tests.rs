//! Pauses that nothing fills: the publisher leaves and returns, and what its playlist says of that.

use super::lower_tests::{GROUP, frame, settle, tracks};
use super::{Hls, HlsSettings, Request, Viewer};
use crate::media::Frame;
use crate::pipeline::Pipelines;
use crate::stream::{Hub, Publisher, Source, SourceKind};
use m3u8_rs::MediaSegment;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio_util::sync::CancellationToken;

fn publish(hub: &Hub) -> Publisher<Frame> {
    let source = Source { kind: SourceKind::Rtmp, remote: None };
    hub.publish("show".parse().expect("a name"), source).expect("free")
}

/// Two groups of pictures, faster than they would be shown.
async fn write(publisher: &Publisher<Frame>) {
    let epoch = publisher.begin_epoch(tracks(640), SystemTime::now());
    for number in 0..2 * GROUP {
        publisher.write(frame(&epoch, number, number % GROUP == 0));
        settle(number).await;
    }
}

/// Waits until the playlist is so.
async fn playlist(hls: &Hls, is_so: impl Fn(&str) -> bool) -> String {
    let waited = async {
        loop {
            let viewer = Viewer { address: Ipv4Addr::LOCALHOST.into(), user_agent_hash: 1 };
            let request = Request { file: "video.m3u8", query: None, gzip: false, viewer };
            let served = hls.serve(&"show".parse().expect("a name"), request).await.expect("served");
            let text = String::from_utf8(served.body.to_vec()).expect("text");
            if is_so(&text) {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waited).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn l11_rel02_a_pause_that_nothing_fills_has_gaps_until_the_one_discontinuity_of_the_return() {
    let pipelines = Pipelines::load(None).expect("GStreamer and its plugins");
    let settings = HlsSettings { always: true, pauses_are_filled: false, ..HlsSettings::default() };
    let hls = Hls::new(settings, pipelines);
    let (hub, _watcher) = Hub::new(Duration::from_secs(60));
    let publisher = publish(&hub);
    let cancel = CancellationToken::new();
    let output = tokio::spawn(hls.clone().run(Arc::clone(publisher.stream()), cancel.clone()));
    write(&publisher).await;
    drop(publisher);
    let left = Instant::now();
    let paused = playlist(&hls, |text| text.matches(",GAP=YES").count() >= 10).await;
    let so_far: f64 = left.elapsed().as_secs_f64();
    assert!(so_far > 2.0, "at the pace of the clock, not before: {so_far}");
    let (media, gap) = paused.split_once("#EXT-X-GAP\n").expect("a gap");
    assert!(media.contains("#EXT-X-PART:") && !media.contains("GAP=YES"), "{paused}");
    assert!(
        gap.lines().filter(|line| line.starts_with("#EXT-X-PART:")).all(|line| line.ends_with("GAP=YES"))
    );
    assert!(!paused.contains("#EXT-X-DISCONTINUITY\n") && !paused.contains("#EXT-X-ENDLIST"), "{paused}");

    let publisher = publish(&hub);
    write(&publisher).await;
    let back = playlist(&hls, |text| {
        text.split_once("#EXT-X-DISCONTINUITY\n").is_some_and(|(_, after)| after.contains("#EXTINF"))
    })
    .await;
    let pause = left.elapsed();
    cancel.cancel();
    output.await.expect("no panic");
    let (before, after) = back.split_once("#EXT-X-DISCONTINUITY\n").expect("it was there");
    assert!(!after.contains("#EXT-X-DISCONTINUITY\n") && !after.contains("GAP"), "{back}");
    assert!(before.contains("#EXT-X-GAP\n"), "{back}");
    let target = |text: &str| text.lines().find(|line| line.contains("TARGETDURATION")).map(str::to_owned);
    assert_eq!(target(&back), target(&paused));
    let list = m3u8_rs::parse_media_playlist_res(back.as_bytes()).expect("a playlist");
    let is_gap = |segment: &&MediaSegment| segment.unknown_tags.iter().any(|tag| tag.tag == "X-GAP");
    let missing: f32 = list.segments.iter().filter(is_gap).map(|segment| segment.duration).sum();
    assert!(missing > 2.5 && missing < pause.as_secs_f32() + 0.3, "{missing} s of {pause:?}\n{back}");
    assert!(list.segments.iter().all(|one| one.duration.round() as u64 <= list.target_duration), "{back}");
}
