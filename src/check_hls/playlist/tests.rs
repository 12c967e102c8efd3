//! Reading playlists, and making delta updates whole.

use super::*;

fn parse(text: &str) -> Playlist {
    Playlist::parse(text, &Url::parse("http://h/live/v.m3u8").expect("a URL"))
}

const LIVE: &str = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:4\n\
    #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=24.0,PART-HOLD-BACK=1.5\n\
    #EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-DISCONTINUITY-SEQUENCE:3\n\
    #EXT-X-MAP:URI=\"i.mp4\"\n#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00.000Z\n#EXTINF:4.00000,\na.m4s\n\
    #EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"j.mp4\"\n\
    #EXT-X-PART:DURATION=0.5,URI=\"b0.m4s\",INDEPENDENT=YES\n#EXTINF:0.5,\nb.m4s\n\
    #EXT-X-PART:DURATION=0.4,URI=\"c0.m4s\"\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"c1.m4s\"\n\
    #EXT-X-RENDITION-REPORT:URI=\"a.m3u8\",LAST-MSN=9,LAST-PART=1\n";

#[test]
fn a_live_playlist_is_read() {
    let playlist = parse(LIVE);
    assert_eq!((playlist.version, playlist.needs.0, playlist.target), (6, 6, Some(4)));
    assert_eq!(playlist.part_target, Some(0.5));
    assert!(playlist.is_low_latency() && !playlist.ended);
    let [a, b] = &playlist.segments[..] else { panic!("two segments") };
    assert_eq!((a.sequence, a.discontinuity_number, a.duration, a.line), (7, 3, 4.0, 10));
    assert_eq!((b.sequence, b.discontinuity_number, b.discontinuities), (8, 4, 1));
    assert_eq!(b.map.as_ref().map(|map| map.url.path()), Some("/live/j.mp4"));
    assert!(b.parts[0].independent && a.date.is_some());
    assert_eq!((playlist.open.sequence, playlist.open.parts.len()), (9, 1));
    assert_eq!(playlist.open.map, b.map);
    assert_eq!(playlist.last(), Some((9, Some(0))));
    assert_eq!(playlist.hints[0].media.url.path(), "/live/c1.m4s");
    assert_eq!(playlist.reports[0].last_part, Some(1));
    assert!((playlist.duration() - 4.9).abs() < 1e-9);
    assert_eq!(playlist.faults, []);
}

#[test]
fn a_delta_update_is_made_whole() {
    let full = parse(LIVE);
    let delta = parse(
        "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:8\n\
         #EXT-X-DISCONTINUITY-SEQUENCE:4\n#EXT-X-SKIP:SKIPPED-SEGMENTS=1\n#EXTINF:2.0,\nc.m4s\n",
    );
    assert_eq!(delta.needs, (9, "EXT-X-SKIP"));
    let whole = delta.clone().completed(&full).expect("it has what is skipped");
    assert_eq!(whole.segments.len(), 2);
    assert_eq!(whole.segments[1].sequence, 9);
    assert_eq!(whole.segments[1].map.as_ref().map(|map| map.url.path()), Some("/live/j.mp4"));
    assert_eq!(whole.segments[0].discontinuity_number, 4);
    assert_eq!(whole.segments[1].discontinuity_number, 4);
    let earlier = parse("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:100\n");
    assert!(delta.completed(&earlier).is_err());
}

#[test]
fn byte_ranges_go_on_where_the_last_ended() {
    let playlist = parse(
        "#EXTM3U\n#EXT-X-PART:DURATION=1,URI=\"f\",BYTERANGE=\"10@5\"\n\
         #EXT-X-PART:DURATION=1,URI=\"f\",BYTERANGE=\"20\"\n#EXT-X-BYTERANGE:30@5\n#EXTINF:2,\nf\n\
         #EXT-X-BYTERANGE:7\n#EXTINF:2,\nf\n",
    );
    let range = |media: &Resource| media.range;
    assert_eq!(range(&playlist.segments[0].parts[1].media), Some((15, Some(20))));
    assert_eq!(playlist.segments[1].media.as_ref().and_then(range), Some((35, Some(7))));
}

#[test]
fn what_cannot_be_read_is_a_fault_with_its_line() {
    let playlist = parse("#EXTM3U\n#EXT-X-TARGETDURATION:2.5\nx.ts\n#EXT-X-PROGRAM-DATE-TIME:today\n");
    let lines: Vec<usize> = playlist.faults.iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [2, 3, 4]);
}
