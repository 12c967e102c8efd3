//! D10, H01 to H03: hints, reports and control values.

use super::*;
use crate::hls::Cache;

#[test]
fn d10_h02_h03_reports_hint_and_control() {
    let mut feed = Feed::new(MediaKind::Video);
    feed.parts(20, 7);
    let version = text(feed.now().playlist().plain());
    assert_eq!(attributes(version, "#EXT-X-PRELOAD-HINT", "URI"), ["video_cafe_p20.m4s"]);
    assert!(version.contains("#EXT-X-RENDITION-REPORT:URI=\"audio.m3u8\",LAST-MSN=217000000,LAST-PART=3\n"));
    let control = |name| seconds(attributes(version, "#EXT-X-SERVER-CONTROL", name)[0]);
    let part_target = seconds(attributes(version, "#EXT-X-PART-INF", "PART-TARGET")[0]);
    let target = parse(version).target_duration as f64;
    assert!(control("PART-HOLD-BACK") >= 3.0 * part_target);
    assert!(control("HOLD-BACK") >= 3.0 * target && control("CAN-SKIP-UNTIL") >= 6.0 * target);
    assert!(version.contains("CAN-BLOCK-RELOAD=YES"));
}

#[tokio::test(start_paused = true)]
async fn h01_h02_the_hinted_part_is_waited_for_and_no_other() {
    let mut origin = Origin::new();
    origin.feed.parts(14, 7);
    origin.announce();
    let hinted = origin.ask("video_cafe_p14.m4s", None);
    settle().await;
    assert!(!hinted.is_finished());
    origin.feed.part(true); // in another segment than the hint could know
    let served = hinted.await.expect("no panic").expect("served");
    assert_eq!((served.body.len(), served.cache), (10_000, Cache::Immutable));
    // What comes soon may not be remembered as missing.
    let segment = format!("video_cafe_{}.m4s", FIRST + 3);
    for early in ["video_cafe_p16.m4s", "video_cafe_p20.m4s", &segment] {
        let answer = origin.ask(early, None).await.expect("no panic");
        assert_eq!(answer.err(), Some(HlsError::NotYet(early.into())), "{early}");
    }
    for unknown in
        ["video_cafe_p999.m4s", "video_beef_p1.m4s", "audio_cafe_p1.m4s", "video_cafe_init1.mp4", "x.m4s"]
    {
        let answer = origin.ask(unknown, None).await.expect("no panic");
        assert_eq!(answer.err(), Some(HlsError::UnknownFile(unknown.into())), "{unknown}");
    }
    let last = origin.ask("video_cafe_p15.m4s", None);
    settle().await;
    origin.feed.end();
    assert!(matches!(last.await.expect("no panic"), Err(HlsError::UnknownFile(_))));
}

#[tokio::test(start_paused = true)]
async fn h01_d02_in_a_pause_playlists_are_answered_part_by_part_and_hints_are_not_kept() {
    let mut origin = Origin::new();
    origin.feed.parts(9, 7); // 1 part | 6 parts | 2 parts
    origin.announce();
    let next = origin.ask("video.m3u8", Some(&format!("_HLS_msn={}&_HLS_part=2", FIRST + 2)));
    let hinted = origin.ask("video_cafe_p9.m4s", None);
    settle().await;
    assert!(!next.is_finished() && !hinted.is_finished());
    origin.feed.gap(PART);
    // The segment has ended with two parts: it is the first of the next.
    let served = next.await.expect("no panic").expect("served");
    assert!(text(&served.body).contains("URI=\"video_cafe_p9.m4s\",GAP=YES\n"), "{}", text(&served.body));
    assert!(matches!(hinted.await.expect("no panic"), Err(HlsError::UnknownFile(_))));
    let second = origin.ask("video.m3u8", Some(&format!("_HLS_msn={}&_HLS_part=1", FIRST + 3)));
    settle().await;
    assert!(!second.is_finished());
    origin.feed.gap(PART);
    assert!(second.await.expect("no panic").is_ok());
    origin.feed.gap(PART * 7);
    let segment = format!("video_cafe_{}.m4s", FIRST + 3);
    let answer = origin.ask(&segment, None).await.expect("no panic");
    assert_eq!(answer.err(), Some(HlsError::UnknownFile(segment)));
}
