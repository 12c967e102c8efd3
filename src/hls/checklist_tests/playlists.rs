//! L01 to L16: what each version of a media playlist says, and how one follows another.

use super::*;
use crate::hls::directives::Directives;
use m3u8_rs::MediaSegment;

#[test]
fn l01_a_rounded_segment_duration_never_exceeds_the_target() {
    for group in [1, 2, 7, 13, 14, 15, 28, 1000] {
        let mut feed = Feed::new(MediaKind::Video);
        feed.parts(200, group);
        for version in feed.texts() {
            let playlist = parse(version);
            for segment in &playlist.segments {
                assert!(
                    segment.duration.round() as u64 <= playlist.target_duration,
                    "group of {group}: {version}"
                );
            }
        }
    }
}

#[test]
fn l02_l10_l16_the_head_of_a_playlist_never_changes() {
    let mut feed = Feed::new(MediaKind::Video);
    feed.parts(100, 7);
    feed.discontinuity(FIRST + 1);
    feed.parts(50, 28);
    feed.end();
    let head = |text: &str| -> Vec<String> {
        let of_the_head = |line: &&str| {
            line.starts_with('#')
                && ["VERSION", "TARGETDURATION", "PART-INF", "SERVER-CONTROL"]
                    .iter()
                    .any(|tag| line.contains(tag))
        };
        text.lines().filter(of_the_head).map(Into::into).collect()
    };
    let first = head(feed.texts().next().expect("a version"));
    assert_eq!(first.len(), 4);
    for version in feed.texts() {
        assert_eq!(head(version), first);
        assert!(!version.contains("PLAYLIST-TYPE") && !version.contains("INDEPENDENT-SEGMENTS"));
    }
    let mut audio = Feed::new(MediaKind::Audio);
    audio.part(true);
    assert!(parse(text(audio.now().playlist().plain())).independent_segments);
}

#[test]
fn l03_l05_a_version_only_appends_and_removes_from_the_front() {
    let mut feed = Feed::new(MediaKind::Video);
    feed.parts(60, 7);
    feed.discontinuity(FIRST + 1);
    feed.parts(200, 20);
    feed.end();
    let versions: Vec<_> = feed.texts().map(parse).collect();
    assert_eq!(versions[0].media_sequence, FIRST);
    let bare =
        |segment: &MediaSegment| (segment.uri.clone(), segment.duration.to_bits(), segment.program_date_time);
    for pair in versions.windows(2) {
        let [before, after] = pair else { unreachable!("windows of two") };
        let removed =
            after.media_sequence.checked_sub(before.media_sequence).expect("it never falls") as usize;
        let kept: Vec<_> = before.segments[removed..].iter().map(bare).collect();
        let common: Vec<_> = after.segments.iter().take(kept.len()).map(bare).collect();
        assert_eq!(kept, common);
    }
    assert!(versions.last().expect("versions").end_list);
}

#[test]
fn l06_l07_discontinuities_are_numbered_and_bring_their_map() {
    let mut feed = Feed::new(MediaKind::Video);
    feed.parts(21, 7);
    feed.discontinuity(FIRST + 1);
    feed.parts(21, 7);
    // A stretch in which this rendition had no media counts all the same.
    feed.discontinuity(FIRST + 3);
    feed.part(true);
    let version = text(feed.now().playlist().plain()).to_owned();
    assert_eq!(version.matches("#EXT-X-DISCONTINUITY\n").count(), 3);
    assert_eq!(
        attributes(&version, "#EXT-X-MAP", "URI"),
        ["video_cafe_init217000000.mp4", "video_cafe_init217000001.mp4", "video_cafe_init217000003.mp4",]
    );
    let second = version.find("#EXT-X-DISCONTINUITY\n#EXT-X-MAP").expect("the tag, then its map");
    assert!(
        version[second..].find("#EXT-X-PROGRAM-DATE-TIME").expect("a date")
            < version[second..].find("#EXT-X-PART").expect("a part")
    );
    feed.parts(140, 7);
    let mut number = 0;
    for version in feed.texts() {
        let playlist = parse(version);
        assert!(playlist.discontinuity_sequence >= number, "it never falls");
        number = playlist.discontinuity_sequence;
    }
    assert_eq!(number, FIRST + 3);
}

#[test]
fn l08_date_times_follow_the_media() {
    let mut feed = Feed::new(MediaKind::Video);
    feed.parts(100, 7);
    let playlist = parse(text(feed.now().playlist().plain()));
    for pair in playlist.segments.windows(2) {
        let time =
            |segment: &MediaSegment| segment.program_date_time.expect("a date-time").timestamp_millis();
        let expected = (pair[0].duration * 1000.0).round() as i64;
        assert!((time(&pair[1]) - time(&pair[0]) - expected).abs() <= 1);
    }
}

#[test]
fn l09_the_window_holds_six_segments_and_three_targets() {
    for group in [1, 2, 7, 14] {
        let mut feed = Feed::new(MediaKind::Video);
        feed.parts(400, group);
        let start = parse(feed.texts().next().expect("a version")).media_sequence;
        for version in feed.texts().map(parse).filter(|version| version.media_sequence > start) {
            let duration: f32 = version.segments.iter().map(|segment| segment.duration).sum();
            assert!(
                version.segments.len() >= 6 && duration >= 12.0 - 0.01,
                "{} {duration}",
                version.segments.len()
            );
            assert!(duration < 12.0 + 7.0 * 4.5, "and does not grow without end");
        }
    }
}

#[test]
fn l11_what_does_not_come_is_listed_part_by_part_without_a_discontinuity() {
    let mut feed = Feed::new(MediaKind::Video);
    feed.parts(38, 7);
    let before = feed.now().last_part().expect("parts");
    for _ in 0..20 {
        feed.gap(PART);
    }
    assert_eq!(feed.now().last_part(), Some((before.0 + 3, 5)), "of 7 parts each: half a target duration");
    // A gap of another length, as that up to a keyframe, and media again.
    feed.gap(PART + PART / 3);
    feed.parts(14, 7);
    let limits = Limits::new(&settings(), Duration::ZERO);
    for version in feed.texts() {
        let mut is_gap = false;
        for line in version.lines() {
            // The first of a segment's tags, and the next.
            is_gap &= !line.starts_with("#EXT-X-PROGRAM-DATE-TIME:");
            is_gap |= line == "#EXT-X-GAP";
            if line.starts_with("#EXT-X-PART:") {
                assert_eq!(line.ends_with(",GAP=YES"), is_gap, "{line}\n{version}");
            }
        }
        let parts = attributes(version, "#EXT-X-PART", "DURATION").into_iter().map(seconds);
        assert!(parts.max_by(f64::total_cmp) <= Some(limits.part_target.as_secs_f64()), "{version}");
        let playlist = parse(version);
        assert!(!version.contains("#EXT-X-DISCONTINUITY\n"), "{version}");
        assert!(playlist.segments.iter().all(|one| one.duration.round() as u64 <= playlist.target_duration));
    }
    let playlist = parse(text(feed.now().playlist().plain()));
    let is_gap = |segment: &&MediaSegment| segment.unknown_tags.iter().any(|tag| tag.tag == "X-GAP");
    let missing: f32 = playlist.segments.iter().filter(is_gap).map(|segment| segment.duration).sum();
    assert!((missing - 6.4).abs() < 0.001, "{missing}");
    // Dates go through it.
    for pair in playlist.segments.windows(2) {
        let time = |segment: &MediaSegment| segment.program_date_time.expect("a date").timestamp_millis();
        let expected = (pair[0].duration * 1000.0).round() as i64;
        assert!((time(&pair[1]) - time(&pair[0]) - expected).abs() <= 1);
    }
}

#[test]
fn l12_d05_the_end_is_final_and_directives_are_ignored_then() {
    let mut feed = Feed::new(MediaKind::Video);
    feed.parts(20, 7);
    let end = feed.end();
    let version = text(end.playlist().plain());
    assert!(version.trim_end().ends_with("#EXT-X-ENDLIST"));
    assert!(!version.contains("PRELOAD-HINT") && !version.contains("RENDITION-REPORT"));
    let directives = Directives::parse(Some("_HLS_msn=999999999&_HLS_part=77")).expect("numbers");
    assert_eq!(directives.check(end, &Limits::new(&settings(), Duration::ZERO)), Ok(()));
    assert!(end.reached(directives.block.expect("a position")));
}

#[test]
fn l13_parts_only_near_the_end_and_removed_media_stay_a_while() {
    use crate::hls::names::Piece;
    let mut feed = Feed::new(MediaKind::Video);
    feed.parts(150, 7);
    for version in feed.texts() {
        let listed: f64 = attributes(version, "#EXT-X-PART", "DURATION").into_iter().map(seconds).sum();
        assert!(listed <= 12.0 + 1e-6, "{listed} s of parts");
    }
    let now = feed.now();
    let removed = now.listed[0].sequence - 1;
    assert!(now.find(Piece::Segment(removed)).is_some());
    assert!(now.find(Piece::Segment(FIRST)).is_none(), "memory is bounded");
    let kept: Duration = now.removed.iter().map(|segment| segment.duration).sum();
    assert!(kept >= Duration::from_secs(14), "at least the playlist's duration: {kept:?}");
}

#[test]
fn l14_a_segment_is_the_concatenation_of_its_parts() {
    let mut feed = Feed::new(MediaKind::Video);
    feed.parts(30, 7);
    for segment in &feed.now().listed {
        let parts: Vec<_> = (0..segment.parts.len()).filter_map(|index| segment.part(index)).collect();
        let whole = segment.whole();
        assert_eq!(whole, parts.concat());
        let shared: Vec<_> = (0..segment.parts.len()).filter_map(|index| segment.part(index)).collect();
        assert_eq!(shared, parts);
    }
}

#[tokio::test(start_paused = true)]
async fn l04_readers_see_whole_states_only() {
    let mut origin = Origin::new();
    origin.feed.parts(9, 7);
    origin.announce();
    for index in 0..50 {
        origin.feed.part(index % 7 == 0);
        let body = origin.ask("video.m3u8", None).await.expect("no panic").expect("served").body;
        let version = text(&body);
        // Whatever it lists can be fetched, now.
        for uri in attributes(version, "#EXT-X-PART", "URI").into_iter().chain(attributes(
            version,
            "#EXT-X-MAP",
            "URI",
        )) {
            assert!(origin.ask(uri, None).await.expect("no panic").is_ok(), "{uri}");
        }
        for segment in parse(version).segments {
            assert!(origin.ask(&segment.uri, None).await.expect("no panic").is_ok(), "{}", segment.uri);
        }
    }
}
