//! D01 to D09: delivery directives.

use super::*;
use crate::hls::Cache;
use crate::hls::directives::Directives;

#[test]
fn d09_a_delta_update_leaves_out_what_lies_before_the_boundary() {
    let settings = HlsSettings { window: 20, ..settings() };
    let mut feed = Feed::new(MediaKind::Video);
    feed.rendition = Rendition::new(
        RenditionName::VIDEO,
        "cafe".into(),
        Limits::new(&settings, Duration::ZERO),
        FIRST,
        MediaTime::ZERO,
    );
    feed.discontinuity(FIRST);
    feed.parts(60, 7);
    assert!(feed.now().delta().is_none(), "nothing is older than six target durations");
    feed.parts(70, 7);
    let (full, delta) =
        (text(feed.now().playlist().plain()), text(feed.now().delta().expect("a delta").plain()));
    let skipped = seconds(attributes(delta, "#EXT-X-SKIP", "SKIPPED-SEGMENTS")[0]) as usize;
    let (full_list, delta_list) = (parse(full), parse(delta));
    assert!(skipped > 0 && skipped + delta_list.segments.len() == full_list.segments.len());
    assert_eq!(full_list.media_sequence, delta_list.media_sequence);
    let kept: f32 = delta_list.segments.iter().map(|segment| segment.duration).sum();
    assert!(kept >= 24.0 - 0.3 * 7.0, "{kept}");
    assert!(feed.end().delta().is_none());
}

#[test]
fn d07_directives_are_read_strictly() {
    let position = |query| {
        Directives::parse(Some(query))
            .map(|directives| directives.block.map(|block| (block.sequence, block.part)))
    };
    assert_eq!(position(""), Ok(None));
    assert_eq!(position("_HLS_msn=5&token=x&_HLS_part=0&_HLS_new=1"), Ok(Some((5, Some(0)))));
    assert!(Directives::parse(Some("_HLS_skip=v2")).is_ok_and(|directives| directives.skip));
    for query in [
        "_HLS_part=1",
        "_HLS_msn=",
        "_HLS_msn",
        "_HLS_msn=-1",
        "_HLS_msn=+1",
        "_HLS_msn=x",
        "_HLS_msn=1&_HLS_part=y",
        "_HLS_msn=1&_HLS_msn=2",
        "_HLS_msn=99999999999999999999",
    ] {
        assert!(matches!(position(query), Err(HlsError::BadDirective { .. })), "{query}");
    }
}

#[test]
fn d06_too_far_ahead_is_refused_at_once() {
    let mut feed = Feed::new(MediaKind::Video);
    feed.parts(10, 7); // segments of 1 and 6 parts, then 3 parts of the next
    let limits = Limits::new(&settings(), Duration::ZERO);
    let check = |query: String| Directives::parse(Some(&query)).expect("numbers").check(feed.now(), &limits);
    let last = FIRST + 1;
    assert_eq!(check(format!("_HLS_msn={}", last + 2)), Ok(()));
    assert_eq!(check(format!("_HLS_msn={}&_HLS_part={}", last + 1, 2 + limits.advance_parts())), Ok(()));
    assert_eq!(
        check(format!("_HLS_msn={last}&_HLS_part=9999")),
        Ok(()),
        "a past segment: part 0 of the next"
    );
    for (query, directive) in [
        (format!("_HLS_msn={}", last + 3), "_HLS_msn"),
        (format!("_HLS_msn={}", u64::MAX), "_HLS_msn"),
        (format!("_HLS_msn={}&_HLS_part={}", last + 1, 3 + limits.advance_parts()), "_HLS_part"),
    ] {
        assert!(
            matches!(check(query), Err(HlsError::TooFarAhead { directive: named, .. }) if named == directive)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn d01_d02_a_blocking_reload_is_answered_by_the_part_it_asked_for() {
    let mut origin = Origin::new();
    origin.feed.parts(9, 7); // 1 part | 6 parts | 2 parts
    origin.announce();
    let part = origin.ask("video.m3u8", Some(&format!("_HLS_msn={}&_HLS_part=2", FIRST + 2)));
    let whole = origin.ask("video.m3u8", Some(&format!("_HLS_msn={}", FIRST + 2)));
    settle().await;
    assert!(!part.is_finished() && !whole.is_finished());
    origin.feed.part(false);
    let served = part.await.expect("no panic").expect("served");
    assert!(text(&served.body).contains("video_cafe_p9.m4s\""));
    assert!(matches!(served.cache, Cache::Playlist { .. }));
    assert!(!whole.is_finished());
    origin.feed.part(true); // begins the next segment, so the one asked for is whole
    let served = whole.await.expect("no panic").expect("served");
    assert!(text(&served.body).contains(&format!("video_cafe_{}.m4s\n", FIRST + 2)));
}

#[tokio::test(start_paused = true)]
async fn d03_a_part_beyond_the_last_means_the_first_of_the_next_segment() {
    let mut origin = Origin::new();
    origin.feed.parts(14, 7); // 1 | 6 | 7 growing
    origin.announce();
    let request = origin.ask("video.m3u8", Some(&format!("_HLS_msn={}&_HLS_part=7", FIRST + 2)));
    settle().await;
    assert!(!request.is_finished());
    origin.feed.part(true);
    let served = request.await.expect("no panic").expect("served");
    assert!(text(&served.body).contains("video_cafe_p14.m4s\""));
    // The same where the next segment has not begun.
    let mut origin = Origin::new();
    origin.feed.part(true);
    origin.announce();
    let request = origin.ask("video.m3u8", Some(&format!("_HLS_msn={FIRST}&_HLS_part=1")));
    settle().await;
    assert!(!request.is_finished());
    origin.feed.part(false);
    assert!(request.await.expect("no panic").is_ok());
}

#[tokio::test(start_paused = true)]
async fn d04_an_old_number_gets_the_whole_playlist() {
    let mut origin = Origin::new();
    origin.feed.parts(100, 7);
    origin.announce();
    for query in ["_HLS_msn=0", "_HLS_msn=0&_HLS_part=500", "_HLS_msn=1&_HLS_skip=YES"] {
        let served = origin.ask("video.m3u8", Some(query)).await.expect("no panic").expect("served");
        assert_eq!(served.body, *origin.feed.now().playlist().plain());
    }
}

#[tokio::test(start_paused = true)]
async fn l17_only_an_answer_that_goes_with_its_number_is_cached_for_long() {
    let mut origin = Origin::new();
    origin.feed.parts(100, 7);
    origin.announce();
    let (long, short) = (Duration::from_secs(24), Duration::from_secs(1));
    let oldest = origin.feed.now().listed[0].sequence;
    let newest = origin.feed.now().last_complete().expect("segments");
    for (sequence, max_age) in
        [(0, short), (FIRST, short), (oldest - 1, short), (oldest, long), (newest, long)]
    {
        let query = format!("_HLS_msn={sequence}");
        let served = origin.ask("video.m3u8", Some(&query)).await.expect("no panic").expect("served");
        assert_eq!(served.cache, Cache::Playlist { max_age }, "{sequence} of {oldest} to {newest}");
    }
    let held = origin.ask("video.m3u8", Some(&format!("_HLS_msn={}&_HLS_part=3", newest + 1)));
    origin.feed.parts(3, 7);
    let served = held.await.expect("no panic").expect("served");
    assert_eq!(served.cache, Cache::Playlist { max_age: long });
    // After the end directives mean nothing: the numbers may be another stream's soon.
    origin.feed.end();
    let query = format!("_HLS_msn={}", newest + 2);
    let served = origin.ask("video.m3u8", Some(&query)).await.expect("no panic").expect("served");
    assert_eq!(served.cache, Cache::Playlist { max_age: short });
}

#[tokio::test(start_paused = true)]
async fn d08_a_request_held_for_three_targets_times_out() {
    let mut origin = Origin::new();
    origin.feed.parts(9, 7);
    origin.announce();
    let began = tokio::time::Instant::now();
    let request = origin.ask("video.m3u8", Some(&format!("_HLS_msn={}", FIRST + 3)));
    assert_eq!(request.await.expect("no panic").err(), Some(HlsError::TimedOut));
    assert_eq!(began.elapsed().as_secs(), 12);
}
