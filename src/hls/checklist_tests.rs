//! The checklist's lines that are proved without media: renditions fed with synthetic parts, each version
//! of the playlist read back with the parser of `m3u8-rs`.

use super::directives::Directives;
use super::limits::Limits;
use super::live::{Live, Programme, RenditionView};
use super::names::RenditionName;
use super::playlist::Report;
use super::rendition::Rendition;
use super::segment::Stretch;
use super::snapshot::Snapshot;
use super::{Cache, HlsError, HlsSettings, Served, Viewer};
use crate::media::{Frame, MediaTime};
use crate::pipeline::MuxedPart;
use crate::stream::{Hub, Publisher, Source, SourceKind};
use bytes::Bytes;
use m3u8_rs::{MediaPlaylist, MediaSegment};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio_util::sync::CancellationToken;

const FIRST: u64 = 217_000_000;
const PART: Duration = Duration::from_millis(300);

/// A rendition and the times of what it is fed.
struct Feed {
    rendition: Rendition,
    clock: Instant,
    next: MediaTime,
    count: u64,
    versions: Vec<Arc<Snapshot>>,
}

impl Feed {
    fn new(name: RenditionName) -> Self {
        let limits = Limits::new(&HlsSettings::default());
        let mut rendition = Rendition::new(name, "cafe".into(), limits, FIRST);
        let clock = Instant::now();
        rendition.begin(clock, stretch(FIRST));
        Self { rendition, clock, next: MediaTime::ZERO, count: 0, versions: Vec::new() }
    }

    fn discontinuity(&mut self, number: u64) {
        self.rendition.begin(self.clock, stretch(number));
    }

    fn part(&mut self, starts_segment: bool) -> &Snapshot {
        self.part_of(PART, starts_segment)
    }

    fn part_of(&mut self, duration: Duration, starts_segment: bool) -> &Snapshot {
        let part = MuxedPart {
            start: self.next,
            duration,
            independent: starts_segment,
            starts_segment,
            data: Bytes::from(vec![self.count as u8; 10_000]),
        };
        self.next = self.next + duration;
        self.clock += duration;
        self.count += 1;
        let siblings = vec![Report { rendition: RenditionName::Audio, sequence: FIRST, part: 3 }];
        self.rendition.push(self.clock, part, siblings);
        self.remember()
    }

    /// `seconds` of media with groups of pictures of `group` parts.
    fn parts(&mut self, count: usize, group: usize) {
        for index in 0..count {
            self.part(index.is_multiple_of(group));
        }
    }

    fn end(&mut self) -> &Snapshot {
        self.rendition.end(self.clock);
        self.remember()
    }

    fn remember(&mut self) -> &Snapshot {
        self.versions.push(self.rendition.subscribe().borrow().clone());
        self.now()
    }

    fn now(&self) -> &Snapshot {
        self.versions.last().expect("something was fed")
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        self.versions.iter().map(|version| text(version.playlist()))
    }
}

fn stretch(discontinuity: u64) -> Stretch {
    Stretch {
        discontinuity,
        init: Bytes::from(format!("init{discontinuity}")),
        wall_origin: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    }
}

fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

fn parse(text: &str) -> MediaPlaylist {
    m3u8_rs::parse_media_playlist_res(text.as_bytes()).expect("a media playlist")
}

/// Attribute `name` of each tag that begins with `tag`.
fn attributes<'a>(text: &'a str, tag: &'a str, name: &'a str) -> Vec<&'a str> {
    let lines = text.lines().filter_map(move |line| line.strip_prefix(tag)?.strip_prefix(':'));
    lines
        .filter_map(|list| list.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')))
        .map(|value| value.trim_matches('"'))
        .collect()
}

fn seconds(text: &str) -> f64 {
    text.parse().expect("a number")
}

#[test]
fn l01_a_rounded_segment_duration_never_exceeds_the_target() {
    for group in [1, 2, 7, 13, 14, 15, 28, 1000] {
        let mut feed = Feed::new(RenditionName::VIDEO);
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
    let mut feed = Feed::new(RenditionName::VIDEO);
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
    let mut audio = Feed::new(RenditionName::Audio);
    audio.part(true);
    assert!(parse(text(audio.now().playlist())).independent_segments);
}

#[test]
fn l03_l05_a_version_only_appends_and_removes_from_the_front() {
    let mut feed = Feed::new(RenditionName::VIDEO);
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
    let mut feed = Feed::new(RenditionName::VIDEO);
    feed.parts(21, 7);
    feed.discontinuity(FIRST + 1);
    feed.parts(21, 7);
    // A stretch in which this rendition had no media counts all the same.
    feed.discontinuity(FIRST + 3);
    feed.part(true);
    let version = text(feed.now().playlist()).to_owned();
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
    let mut feed = Feed::new(RenditionName::VIDEO);
    feed.parts(100, 7);
    let playlist = parse(text(feed.now().playlist()));
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
        let mut feed = Feed::new(RenditionName::VIDEO);
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
fn l11_parts_are_between_85_and_100_percent_of_their_target() {
    let limits = Limits::new(&HlsSettings::default());
    // What the muxer makes of 24, 25, 30, 50 and 60 pictures a second, and of AAC.
    for millis in [291.6, 320.0, 300.0, 316.6, 333.3, 325.0] {
        let share = millis / 1000.0 / limits.part_target.as_secs_f64();
        assert!((0.85..=1.0).contains(&share), "{millis} ms are {share}");
    }
}

#[test]
fn l12_d05_the_end_is_final_and_directives_are_ignored_then() {
    let mut feed = Feed::new(RenditionName::VIDEO);
    feed.parts(20, 7);
    let end = feed.end();
    let version = text(end.playlist());
    assert!(version.trim_end().ends_with("#EXT-X-ENDLIST"));
    assert!(!version.contains("PRELOAD-HINT") && !version.contains("RENDITION-REPORT"));
    let directives = Directives::parse(Some("_HLS_msn=999999999&_HLS_part=77")).expect("numbers");
    assert_eq!(directives.check(end, &Limits::new(&HlsSettings::default())), Ok(()));
    assert!(end.reached(directives.block.expect("a position")));
}

#[test]
fn l13_parts_only_near_the_end_and_removed_media_stay_a_while() {
    use super::names::Piece;
    let mut feed = Feed::new(RenditionName::VIDEO);
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
    let mut feed = Feed::new(RenditionName::VIDEO);
    feed.parts(30, 7);
    for segment in &feed.now().listed {
        let parts: Vec<_> = (0..segment.parts.len()).filter_map(|index| segment.part(index)).collect();
        let whole = segment.whole();
        assert_eq!(whole, parts.concat());
        let shared: Vec<_> = (0..segment.parts.len()).filter_map(|index| segment.part(index)).collect();
        assert_eq!(shared, parts);
    }
}

#[test]
fn the_first_part_makes_the_first_segment_at_once() {
    let mut feed = Feed::new(RenditionName::VIDEO);
    let playlist = parse(text(feed.part(true).playlist()));
    assert_eq!(playlist.segments.len(), 1);
    assert!(feed.rendition.playable());
}

#[test]
fn d09_a_delta_update_leaves_out_what_lies_before_the_boundary() {
    let settings = HlsSettings { window: 20, ..HlsSettings::default() };
    let mut feed = Feed::new(RenditionName::VIDEO);
    feed.rendition = Rendition::new(RenditionName::VIDEO, "cafe".into(), Limits::new(&settings), FIRST);
    feed.discontinuity(FIRST);
    feed.parts(60, 7);
    assert!(feed.now().delta().is_none(), "nothing is older than six target durations");
    feed.parts(70, 7);
    let (full, delta) = (text(feed.now().playlist()), text(feed.now().delta().expect("a delta")));
    let skipped = seconds(attributes(delta, "#EXT-X-SKIP", "SKIPPED-SEGMENTS")[0]) as usize;
    let (full_list, delta_list) = (parse(full), parse(delta));
    assert!(skipped > 0 && skipped + delta_list.segments.len() == full_list.segments.len());
    assert_eq!(full_list.media_sequence, delta_list.media_sequence);
    let kept: f32 = delta_list.segments.iter().map(|segment| segment.duration).sum();
    assert!(kept >= 24.0 - 0.3 * 7.0, "{kept}");
    assert!(feed.end().delta().is_none());
}

#[test]
fn d10_h02_h03_reports_hint_and_control() {
    let mut feed = Feed::new(RenditionName::VIDEO);
    feed.parts(20, 7);
    let version = text(feed.now().playlist());
    assert_eq!(attributes(version, "#EXT-X-PRELOAD-HINT", "URI"), ["video_cafe_p20.m4s"]);
    assert!(version.contains("#EXT-X-RENDITION-REPORT:URI=\"audio.m3u8\",LAST-MSN=217000000,LAST-PART=3\n"));
    let control = |name| seconds(attributes(version, "#EXT-X-SERVER-CONTROL", name)[0]);
    let part_target = seconds(attributes(version, "#EXT-X-PART-INF", "PART-TARGET")[0]);
    let target = parse(version).target_duration as f64;
    assert!(control("PART-HOLD-BACK") >= 3.0 * part_target);
    assert!(control("HOLD-BACK") >= 3.0 * target && control("CAN-SKIP-UNTIL") >= 6.0 * target);
    assert!(version.contains("CAN-BLOCK-RELOAD=YES"));
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
    let mut feed = Feed::new(RenditionName::VIDEO);
    feed.parts(10, 7); // segments of 1 and 6 parts, then 3 parts of the next
    let limits = Limits::new(&HlsSettings::default());
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

/// A live stream with one rendition, to ask.
struct Origin {
    feed: Feed,
    live: Arc<Live>,
    _publisher: Publisher<Frame>,
}

impl Origin {
    fn new() -> Self {
        let (hub, _reaper) = Hub::new(Duration::ZERO);
        let source = Source { kind: SourceKind::Rtmp, remote: None };
        let publisher = hub.publish("a".parse().expect("a name"), source).expect("free");
        let live = Live::new(publisher.stream().clone(), Limits::new(&HlsSettings::default()));
        Self { feed: Feed::new(RenditionName::VIDEO), live: Arc::new(live), _publisher: publisher }
    }

    fn announce(&self) {
        let view = RenditionView {
            name: RenditionName::VIDEO,
            run: "cafe".into(),
            states: self.feed.rendition.subscribe(),
        };
        self.live.publish(Programme {
            multivariant: Some("#EXTM3U".into()),
            renditions: vec![view],
            ended: false,
        });
    }

    fn ask(&self, file: &str, query: Option<&str>) -> tokio::task::JoinHandle<Result<Served, HlsError>> {
        let (live, file, query) = (self.live.clone(), file.to_owned(), query.map(str::to_owned));
        let viewer = Viewer { address: Ipv4Addr::LOCALHOST.into(), user_agent_hash: 1 };
        tokio::spawn(async move { live.serve(&file, query.as_deref(), viewer).await })
    }
}

/// Lets held requests come to their waiting point; with the clock paused this takes no time.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
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
        assert_eq!(served.body, *origin.feed.now().playlist());
    }
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
    for unknown in
        ["video_cafe_p16.m4s", "video_beef_p1.m4s", "audio_cafe_p1.m4s", "video_cafe_init1.mp4", "x.m4s"]
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
    let mut feed = Feed::new(RenditionName::VIDEO);
    // Segments of 1, 6, 7, 7 … parts of 300 ms; only the second begins without an IDR.
    let joinable: Vec<bool> = (0..40).map(|index| feed.part(index % 7 == 0).joinable).collect();
    // 1.02 s before the end lies in the third segment, which begins after 2.1 s, from 3.3 s on.
    let held: Vec<usize> = (0..40).filter(|index| !joinable[*index]).collect();
    assert_eq!(held, (2..=9).collect::<Vec<_>>());
    // A group of 40 parts is cut after 14: whoever would begin in a part cut off has to wait.
    let mut feed = Feed::new(RenditionName::VIDEO);
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
