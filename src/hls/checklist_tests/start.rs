//! The quick start, and when a player is let in: what the checklist does not number.

use super::*;
use tokio_util::sync::CancellationToken;

#[test]
fn the_first_part_makes_the_first_segment_at_once() {
    let mut feed = Feed::new(MediaKind::Video);
    let playlist = parse(text(feed.part(true).playlist().plain()));
    assert_eq!(playlist.segments.len(), 1);
    assert!(feed.rendition.playable());
}

#[test]
fn the_first_segment_holds_what_was_there_before_the_first_viewer() {
    let limits = Limits::new(&settings(), Duration::ZERO);
    let mut feed = Feed::new(MediaKind::Video);
    feed.rendition =
        Rendition::new(RenditionName::VIDEO, "cafe".into(), limits, FIRST, MediaTime::from_millis(1700));
    feed.discontinuity(FIRST);
    for index in 0..4 {
        feed.part(index == 0);
        assert!(!feed.rendition.playable(), "the fifth part is there, too");
    }
    assert_eq!(parse(text(feed.part(false).playlist().plain())).segments[0].duration, 1.5);
    assert!(feed.now().joinable);
    feed.part(false);
    assert!(feed.now().joinable, "who begins 1.07 s before the end begins in the first segment still");
}

#[test]
fn a_known_group_of_pictures_is_not_cut() {
    let limits = Limits::new(&settings(), Duration::from_millis(8330));
    let mut feed = Feed::new(MediaKind::Video);
    feed.rendition = Rendition::new(RenditionName::VIDEO, "cafe".into(), limits, FIRST, MediaTime::ZERO);
    feed.discontinuity(FIRST);
    feed.parts(140, 28); // 8.4 s
    let playlist = parse(text(feed.now().playlist().plain()));
    assert_eq!(playlist.target_duration, 8);
    let durations: Vec<_> = playlist.segments[2..].iter().map(|segment| segment.duration).collect();
    assert!(durations.iter().all(|duration| (duration - 8.4).abs() < 0.01), "{durations:?}");
    // Nobody waits once the second group has begun.
    assert!(feed.versions[33..].iter().all(|version| version.joinable));
}

#[tokio::test(start_paused = true)]
async fn a_request_before_the_first_media_is_held_and_bounded() {
    let mut origin = Origin::new();
    let early = origin.ask("index.m3u8", None);
    settle().await;
    assert!(!early.is_finished());
    let too_early = origin.ask("video.m3u8", None);
    tokio::time::sleep(Duration::from_secs(7)).await;
    origin.feed.part(true);
    origin.announce();
    assert!(early.await.expect("no panic").is_ok() && too_early.await.expect("no panic").is_ok());
    let origin = Origin::new();
    let never = origin.ask("index.m3u8", None).await.expect("no panic");
    assert!(matches!(never, Err(HlsError::NotReady(_))));
}

#[test]
fn a_player_is_let_in_where_it_begins_with_an_idr() {
    let mut feed = Feed::new(MediaKind::Video);
    // Segments of 1, 6, 7, 7 … parts of 300 ms; only the second begins without an IDR.
    let joinable: Vec<bool> = (0..40).map(|index| feed.part(index % 7 == 0).joinable).collect();
    // 1.02 s before the end lies in the third segment, which begins after 2.1 s, from 3.3 s on.
    let held: Vec<usize> = (0..40).filter(|index| !joinable[*index]).collect();
    assert_eq!(held, (2..=9).collect::<Vec<_>>());
    // A group of 40 parts is cut after 14: whoever would begin in a part cut off has to wait.
    let mut feed = Feed::new(MediaKind::Video);
    feed.parts(7, 7);
    let joinable: Vec<bool> = (0..80).map(|index| feed.part(index % 40 == 0).joinable).collect();
    assert!(joinable[4..14].iter().all(|joinable| *joinable), "{joinable:?}");
    assert!(joinable[16..40].iter().all(|joinable| !*joinable), "{joinable:?}");
    assert!(joinable[44..54].iter().all(|joinable| *joinable), "{joinable:?}");
}

#[tokio::test(start_paused = true)]
async fn a_first_request_is_held_until_a_player_can_begin_but_not_for_long() {
    let mut origin = Origin::new();
    origin.feed.parts(5, 7);
    origin.announce();
    let running = origin.ask("video.m3u8", Some(&format!("_HLS_msn={}", FIRST)));
    assert!(running.await.expect("no panic").is_ok());
    let first = origin.ask("video.m3u8", None);
    settle().await;
    assert!(!first.is_finished());
    origin.feed.parts(2, 7);
    origin.feed.parts(5, 7);
    assert!(first.await.expect("no panic").is_ok());
    let mut origin = Origin::new();
    origin.feed.parts(5, 7);
    origin.announce();
    assert!(origin.ask("video.m3u8", None).await.expect("no panic").is_ok(), "after its patience");
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_segmented_from_the_first_request_for_a_playlist_on() {
    let mut origin = Origin::new();
    origin.feed.part(true);
    let cancel = CancellationToken::new();
    let wanted = {
        let (live, cancel) = (origin.live.clone(), cancel.clone());
        tokio::spawn(async move { live.wanted(&cancel).await })
    };
    settle().await;
    assert!(!wanted.is_finished());
    let held = origin.ask("index.m3u8", None);
    assert!(wanted.await.expect("no panic"));
    assert!(!held.is_finished());
    origin.announce();
    assert!(held.await.expect("no panic").is_ok());

    // At rest it has no playlist, and the next request is a demand again.
    origin.live.rest();
    assert!(!origin.live.is_playable());
    let held = origin.ask("video.m3u8", None);
    assert!(origin.live.wanted(&cancel).await);
    held.abort();
    origin.live.rest();
    cancel.cancel();
    assert!(!origin.live.wanted(&cancel).await);
}
