//! A media playlist (RFC 8216bis §4.4) as it was read, each thing with its line.
//!
//! Lenient: what is missing or malformed is `None` or a [`Fault`]. Knows nothing of who wrote it.

use super::lines::{Attributes, Content, lines};
use chrono::{DateTime, FixedOffset};
use std::sync::Arc;
use url::Url;

/// Something that can be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Resource {
    pub url: Url,
    /// Offset and length in bytes, where it is a part of a file; a hint may leave the length open.
    pub range: Option<(u64, Option<u64>)>,
}

/// One version of a media playlist.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Playlist {
    /// `EXT-X-VERSION`; 1 where there is none.
    pub version: u64,
    /// The highest version that a tag or attribute in use needs, and what needs it.
    pub needs: (u64, &'static str),
    /// `EXT-X-TARGETDURATION` in seconds.
    pub target: Option<u64>,
    /// `PART-TARGET` in seconds.
    pub part_target: Option<f64>,
    pub media_sequence: u64,
    pub discontinuity_sequence: u64,
    pub independent_segments: bool,
    /// `EXT-X-PLAYLIST-TYPE`.
    pub kind: Option<String>,
    pub ended: bool,
    pub control: Option<Control>,
    /// This is a delta update, which leaves so many segments out.
    pub skipped: Option<u64>,
    /// Complete segments, oldest first.
    pub segments: Vec<Segment>,
    /// What follows the last complete segment.
    pub open: Segment,
    pub hints: Vec<Hint>,
    pub reports: Vec<RenditionReport>,
    pub faults: Vec<Fault>,
}

/// `EXT-X-SERVER-CONTROL`, durations in seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Control {
    pub can_block_reload: bool,
    pub can_skip_until: Option<f64>,
    pub hold_back: Option<f64>,
    pub part_hold_back: Option<f64>,
    pub line: usize,
}

/// A segment, or its beginning.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Segment {
    pub sequence: u64,
    /// Discontinuities before it: those of the head and those of the tags.
    pub discontinuity_number: u64,
    /// `EXT-X-DISCONTINUITY` tags right before it.
    pub discontinuities: u64,
    /// `EXT-X-MAP` right before it.
    pub own_map: Option<Resource>,
    /// The `EXT-X-MAP` that holds for it.
    pub map: Option<Resource>,
    pub date: Option<DateTime<FixedOffset>>,
    /// Whether `EXT-X-KEY` right before it begins (`Some(true)`) or ends encryption.
    pub own_key: Option<bool>,
    pub encrypted: bool,
    pub gap: bool,
    /// Seconds; 0 for what has no `EXTINF` yet.
    pub duration: f64,
    /// Where it is; `None` for what has no `EXTINF` yet.
    pub media: Option<Resource>,
    pub parts: Arc<[Part]>,
    /// The line of its `EXTINF`, 0 if there is none.
    pub line: usize,
}

/// `EXT-X-PART`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    pub media: Resource,
    /// Seconds.
    pub duration: f64,
    pub independent: bool,
    pub gap: bool,
    pub line: usize,
}

/// `EXT-X-PRELOAD-HINT`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Hint {
    pub kind: String,
    pub media: Resource,
    pub line: usize,
}

/// `EXT-X-RENDITION-REPORT`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RenditionReport {
    pub url: Url,
    pub last_sequence: Option<u64>,
    pub last_part: Option<u64>,
    pub line: usize,
}

/// What cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub line: usize,
    pub what: String,
}

/// The last thing in a playlist: media sequence number and part index. `None` for the part means the
/// whole segment; it is the greater.
pub(super) type Position = (u64, Option<u64>);

impl Playlist {
    /// Reads `text`; relative URIs are below `base`.
    pub fn parse(text: &str, base: &Url) -> Self {
        let mut reader = Reader::new(base);
        if !text.starts_with("#EXTM3U") {
            reader.fault(1, "the first line is not #EXTM3U");
        }
        for line in lines(text) {
            match line.content {
                Content::Tag(name, value) => reader.tag(line.number, name, value),
                Content::Uri(uri) => reader.uri(line.number, uri),
            }
        }
        reader.end()
    }

    /// A delta update made whole with what an earlier version said (RFC 8216bis §6.2.5.1).
    ///
    /// # Errors
    /// What `earlier` does not have.
    pub fn completed(mut self, earlier: &Self) -> Result<Self, String> {
        let Some(count) = self.skipped else { return Ok(self) };
        let mut whole = Vec::with_capacity(self.segments.len() + count as usize);
        for sequence in self.media_sequence..self.media_sequence.saturating_add(count) {
            let Some(segment) = earlier.segment(sequence) else {
                return Err(format!(
                    "segment {sequence} is skipped, but the version before does not list it"
                ));
            };
            // Of segments that are skipped, parts are skipped too.
            whole.push(Segment { line: 0, parts: Arc::default(), ..segment.clone() });
        }
        whole.append(&mut self.segments);
        self.segments = whole;
        self.number(earlier);
        Ok(self)
    }

    /// The complete segment with this media sequence number.
    pub fn segment(&self, sequence: u64) -> Option<&Segment> {
        let index = sequence.checked_sub(self.media_sequence)?;
        self.segments.get(usize::try_from(index).ok()?)
    }

    /// All segments, the one that grows too.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        let open = Some(&self.open).filter(|open| !open.parts.is_empty());
        self.segments.iter().chain(open)
    }

    /// The last part or segment; `None` for an empty playlist.
    pub fn last(&self) -> Option<Position> {
        match self.open.parts.len() as u64 {
            0 => self.segments.last().map(|last| (last.sequence, None)),
            parts => Some((self.open.sequence, Some(parts - 1))),
        }
    }

    /// Seconds of all that is listed.
    pub fn duration(&self) -> f64 {
        let open: f64 = self.open.parts.iter().map(|part| part.duration).sum();
        self.segments.iter().map(|segment| segment.duration).sum::<f64>() + open
    }

    /// Whether it offers blocking reload of parts.
    pub fn is_low_latency(&self) -> bool {
        self.part_target.is_some() && self.can_block()
    }

    pub fn can_block(&self) -> bool {
        self.control.as_ref().is_some_and(|control| control.can_block_reload)
    }

    /// Gives each segment its numbers and what it inherits.
    fn number(&mut self, earlier: &Self) {
        let skipped = self.skipped.unwrap_or_default();
        let mut number = self.discontinuity_sequence;
        let (mut map, mut encrypted) = (None, false);
        if let Some(first) = self.segments.first().filter(|_| skipped > 0) {
            // The head counts what left the playlist; tags of the first skipped segment are not among them.
            number = earlier.segment(first.sequence).map_or(number, |segment| segment.discontinuity_number);
            number -= first.discontinuities.min(number);
        }
        let all = self.segments.iter_mut().chain([&mut self.open]);
        for (sequence, segment) in (self.media_sequence..).zip(all) {
            number += segment.discontinuities;
            if segment.own_map.is_some() {
                map = segment.own_map.clone();
            } else if sequence < self.media_sequence + skipped {
                // It was numbered before: the tag may have left with the segment that it stood at.
                map = segment.map.clone();
                encrypted = segment.encrypted;
            }
            encrypted = segment.own_key.unwrap_or(encrypted);
            (segment.sequence, segment.discontinuity_number) = (sequence, number);
            (segment.map, segment.encrypted) = (map.clone(), encrypted);
        }
    }
}

/// What was read so far.
struct Reader<'a> {
    base: &'a Url,
    playlist: Playlist,
    parts: Vec<Part>,
    next: Segment,
    /// Of the `EXT-X-BYTERANGE` that stands before a URI.
    range: Option<(Option<u64>, u64)>,
    /// Where the last byte range of segments or of parts ended, by URL.
    ends: [Option<(Url, u64)>; 2],
    has_extinf: bool,
}

impl<'a> Reader<'a> {
    fn new(base: &'a Url) -> Self {
        Self {
            base,
            playlist: Playlist { version: 1, needs: (1, "nothing"), ..Playlist::default() },
            parts: Vec::new(),
            next: Segment::default(),
            range: None,
            ends: [None, None],
            has_extinf: false,
        }
    }

    fn tag(&mut self, line: usize, name: &str, value: &str) {
        let playlist = &mut self.playlist;
        match name {
            "EXTM3U" => {}
            "EXT-X-VERSION" => match value.parse() {
                Ok(version) => playlist.version = version,
                Err(_) => self.fault(line, "no whole number"),
            },
            "EXT-X-TARGETDURATION" => match value.parse() {
                Ok(target) => playlist.target = Some(target),
                Err(_) => self.fault(line, "no whole number of seconds"),
            },
            "EXT-X-MEDIA-SEQUENCE" => match value.parse() {
                Ok(sequence) => playlist.media_sequence = sequence,
                Err(_) => self.fault(line, "no whole number"),
            },
            "EXT-X-DISCONTINUITY-SEQUENCE" => match value.parse() {
                Ok(sequence) => playlist.discontinuity_sequence = sequence,
                Err(_) => self.fault(line, "no whole number"),
            },
            "EXT-X-PLAYLIST-TYPE" => playlist.kind = Some(value.to_owned()),
            "EXT-X-INDEPENDENT-SEGMENTS" => playlist.independent_segments = true,
            "EXT-X-ENDLIST" => playlist.ended = true,
            "EXT-X-I-FRAMES-ONLY" => self.needs(4, "EXT-X-I-FRAMES-ONLY"),
            "EXT-X-DEFINE" => self.needs(8, "EXT-X-DEFINE"),
            "EXT-X-PART-INF" => match Attributes::parse(value).number("PART-TARGET") {
                Some(target) => playlist.part_target = Some(target),
                None => self.fault(line, "no PART-TARGET"),
            },
            "EXT-X-SERVER-CONTROL" => {
                let list = Attributes::parse(value);
                playlist.control = Some(Control {
                    can_block_reload: list.yes("CAN-BLOCK-RELOAD"),
                    can_skip_until: list.number("CAN-SKIP-UNTIL"),
                    hold_back: list.number("HOLD-BACK"),
                    part_hold_back: list.number("PART-HOLD-BACK"),
                    line,
                });
            }
            "EXT-X-SKIP" => {
                let skipped = Attributes::parse(value).number("SKIPPED-SEGMENTS");
                playlist.skipped = skipped;
                self.needs(9, "EXT-X-SKIP");
                if skipped.is_none() {
                    self.fault(line, "no SKIPPED-SEGMENTS");
                }
            }
            "EXT-X-PRELOAD-HINT" => self.hint(line, value),
            "EXT-X-RENDITION-REPORT" => self.report(line, value),
            "EXT-X-PART" => self.part(line, value),
            _ => self.segment_tag(line, name, value),
        }
    }

    fn segment_tag(&mut self, line: usize, name: &str, value: &str) {
        match name {
            "EXTINF" => {
                let duration = value.split(',').next().unwrap_or_default().trim();
                match duration.parse() {
                    Ok(seconds) => self.next.duration = seconds,
                    Err(_) => self.fault(line, "no duration"),
                }
                if duration.contains('.') {
                    self.needs(3, "a duration with a decimal point");
                }
                self.next.line = line;
                self.has_extinf = true;
            }
            "EXT-X-DISCONTINUITY" => self.next.discontinuities += 1,
            "EXT-X-GAP" => self.next.gap = true,
            "EXT-X-BYTERANGE" => {
                self.needs(4, "EXT-X-BYTERANGE");
                self.range = byte_range(value);
                if self.range.is_none() {
                    self.fault(line, "no byte range");
                }
            }
            "EXT-X-MAP" => {
                self.needs(6, "EXT-X-MAP");
                let list = Attributes::parse(value);
                let range = list.get("BYTERANGE").and_then(byte_range);
                let range = range.map(|(offset, length)| (offset.unwrap_or_default(), Some(length)));
                match list.get("URI").and_then(|uri| self.base.join(uri).ok()) {
                    Some(url) => self.next.own_map = Some(Resource { url, range }),
                    None => self.fault(line, "no URI"),
                }
            }
            "EXT-X-KEY" => {
                let list = Attributes::parse(value);
                if list.get("IV").is_some() {
                    self.needs(2, "IV");
                }
                if list.get("KEYFORMAT").is_some() {
                    self.needs(5, "KEYFORMAT");
                }
                self.next.own_key = Some(list.get("METHOD") != Some("NONE"));
            }
            "EXT-X-PROGRAM-DATE-TIME" => match DateTime::parse_from_rfc3339(value) {
                Ok(date) => self.next.date = Some(date),
                // ISO 8601 allows an offset without its colon, RFC 3339 does not.
                Err(_) => match DateTime::parse_from_str(value, "%Y-%m-%dT%H:%M:%S%.f%z") {
                    Ok(date) => self.next.date = Some(date),
                    Err(_) => self.fault(line, "no ISO 8601 date and time with a time zone"),
                },
            },
            // Tags that are not known are ignored (RFC 8216bis §6.3.1).
            _ => {}
        }
    }

    fn part(&mut self, line: usize, value: &str) {
        let list = Attributes::parse(value);
        let Some(url) = list.get("URI").and_then(|uri| self.base.join(uri).ok()) else {
            return self.fault(line, "no URI");
        };
        let Some(duration) = list.number("DURATION") else { return self.fault(line, "no DURATION") };
        let range = list.get("BYTERANGE").and_then(byte_range);
        let range = range.map(|range| self.resolved(1, &url, range));
        self.parts.push(Part {
            media: Resource { url, range },
            duration,
            independent: list.yes("INDEPENDENT"),
            gap: list.yes("GAP"),
            line,
        });
    }

    fn hint(&mut self, line: usize, value: &str) {
        let list = Attributes::parse(value);
        let Some(url) = list.get("URI").and_then(|uri| self.base.join(uri).ok()) else {
            return self.fault(line, "no URI");
        };
        let start: Option<u64> = list.number("BYTERANGE-START");
        let length: Option<u64> = list.number("BYTERANGE-LENGTH");
        let range = (start.is_some() || length.is_some()).then(|| (start.unwrap_or_default(), length));
        let kind = list.get("TYPE").unwrap_or_default().to_owned();
        self.playlist.hints.push(Hint { kind, media: Resource { url, range }, line });
    }

    fn report(&mut self, line: usize, value: &str) {
        let list = Attributes::parse(value);
        let Some(url) = list.get("URI").and_then(|uri| self.base.join(uri).ok()) else {
            return self.fault(line, "no URI");
        };
        let (last_sequence, last_part) = (list.number("LAST-MSN"), list.number("LAST-PART"));
        self.playlist.reports.push(RenditionReport { url, last_sequence, last_part, line });
    }

    fn uri(&mut self, line: usize, uri: &str) {
        if !std::mem::take(&mut self.has_extinf) {
            return self.fault(line, "a URI without EXTINF");
        }
        let Ok(url) = self.base.join(uri) else { return self.fault(line, "no URI") };
        let range = self.range.take().map(|range| self.resolved(0, &url, range));
        let mut segment = std::mem::take(&mut self.next);
        segment.media = Some(Resource { url, range });
        segment.parts = std::mem::take(&mut self.parts).into();
        self.playlist.segments.push(segment);
    }

    /// A byte range without an offset begins where the one before ended.
    fn resolved(&mut self, list: usize, url: &Url, range: (Option<u64>, u64)) -> (u64, Option<u64>) {
        let before = self.ends[list].as_ref().filter(|(before, _)| before == url).map(|(_, end)| *end);
        let start = range.0.or(before).unwrap_or_default();
        self.ends[list] = Some((url.clone(), start + range.1));
        (start, Some(range.1))
    }

    fn needs(&mut self, version: u64, what: &'static str) {
        if version > self.playlist.needs.0 {
            self.playlist.needs = (version, what);
        }
    }

    fn fault(&mut self, line: usize, what: &str) {
        self.playlist.faults.push(Fault { line, what: what.to_owned() });
    }

    fn end(mut self) -> Playlist {
        self.next.parts = self.parts.into();
        self.playlist.open = self.next;
        // Of a delta update, the skipped segments come first.
        if self.playlist.skipped.is_none() {
            self.playlist.number(&Playlist::default());
        }
        self.playlist
    }
}

/// `length[@offset]` as offset and length.
fn byte_range(value: &str) -> Option<(Option<u64>, u64)> {
    match value.split_once('@') {
        Some((length, offset)) => Some((Some(offset.parse().ok()?), length.parse().ok()?)),
        None => Some((None, value.parse().ok()?)),
    }
}

#[cfg(test)]
mod tests {
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
}
