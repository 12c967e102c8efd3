//! Reads a media playlist line by line.

use super::{Control, Fault, Hint, Part, Playlist, RenditionReport, Resource, Segment};
use crate::check_hls::lines::{Attributes, Content, lines};
use chrono::DateTime;
use url::Url;

/// Reads `text`; relative URIs are below `base`.
pub(super) fn read(text: &str, base: &Url) -> Playlist {
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
