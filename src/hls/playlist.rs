//! The text of a media playlist (RFC 8216bis §4.4): `m3u8-rs` writes the body, the low-latency tags are
//! ours.
//!
//! Tags that belong to a segment are written in the order DISCONTINUITY, MAP, PROGRAM-DATE-TIME, GAP, PART,
//! EXTINF. Each segment has its date-time, so that nothing but the front changes when segments leave.

use super::limits::Limits;
use super::names::{File, Piece, RenditionName};
use super::segment::{Part, Segment};
use crate::media::MediaKind;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use m3u8_rs::{ExtTag, MediaPlaylist, MediaSegment, WRITE_OPT_FLOAT_PRECISION};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What one version of a media playlist says.
#[derive(Debug)]
pub(super) struct PlaylistState<'a> {
    pub rendition: RenditionName,
    /// The token in media names.
    pub run: &'a str,
    pub limits: &'a Limits,
    /// Complete segments, oldest first.
    pub listed: &'a [Arc<Segment>],
    /// The segment that grows.
    pub open: Option<&'a Segment>,
    /// The number of the part to hint.
    pub next_part: u64,
    /// The stream is over.
    pub ended: bool,
    /// The other renditions' last parts.
    pub siblings: &'a [Report],
}

/// `EXT-X-RENDITION-REPORT`: a rendition's last media sequence number and part index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub rendition: RenditionName,
    pub sequence: u64,
    pub part: usize,
}

impl PlaylistState<'_> {
    /// The whole playlist.
    pub fn full(&self) -> Bytes {
        self.write(0)
    }

    /// A delta update (RFC 8216bis §6.2.5.1); `None` if no segment lies before the skip boundary.
    pub fn delta(&self) -> Option<Bytes> {
        let mut from_end = self.open.map_or(Duration::ZERO, |open| open.duration);
        let kept = self.listed.iter().rev().take_while(|segment| {
            // A segment may be skipped if all of it is further than the boundary from the end.
            let within = from_end < self.limits.skip_until();
            from_end += segment.duration;
            within
        });
        let skipped = self.listed.len() - kept.count();
        (skipped > 0 && !self.ended).then(|| self.write(skipped))
    }

    fn write(&self, skipped: usize) -> Bytes {
        WRITE_OPT_FLOAT_PRECISION.store(5, Relaxed);
        let mut segments = Vec::with_capacity(self.listed.len());
        let part_horizon = self.part_horizon();
        let mut previous = skipped.checked_sub(1).and_then(|last| self.listed.get(last)).map(AsRef::as_ref);
        for (index, segment) in self.listed.iter().enumerate().skip(skipped) {
            let mut tags = self.segment_tags(previous, segment);
            if index >= part_horizon {
                tags.extend(segment.parts.iter().map(|part| self.part_tag(segment, part)));
            }
            if skipped > 0 && index == skipped {
                tags.insert(0, tag("X-SKIP", format!("SKIPPED-SEGMENTS={skipped}")));
            }
            segments.push(MediaSegment {
                uri: self.name(Piece::Segment(segment.sequence)),
                duration: segment.duration.as_secs_f32(),
                unknown_tags: tags,
                ..MediaSegment::default()
            });
            previous = Some(segment);
        }
        let first = self.listed.first().map(AsRef::as_ref).or(self.open);
        let body = MediaPlaylist {
            version: Some(Self::version(skipped)),
            independent_segments: self.rendition.kind() == MediaKind::Audio,
            target_duration: self.limits.target,
            media_sequence: first.map_or(0, |first| first.sequence),
            discontinuity_sequence: first.map_or(0, |first| first.stretch.discontinuity),
            segments,
            end_list: self.ended,
            ..MediaPlaylist::default()
        };
        let mut text = Vec::with_capacity(4096);
        body.write_to(&mut text).expect("a vector takes all that is written");
        let text = String::from_utf8(text).expect("all its parts are text");
        let mut text =
            text.replacen("#EXT-X-TARGETDURATION:", &(self.control_tags() + "#EXT-X-TARGETDURATION:"), 1);
        if !self.ended {
            self.write_edge(&mut text, previous);
        }
        text.into()
    }

    /// RFC 8216bis §8: 6 for EXT-X-MAP, 9 for EXT-X-SKIP.
    fn version(skipped: usize) -> usize {
        if skipped == 0 { 6 } else { 9 }
    }

    /// RFC 8216bis §4.4.3.7 and §4.4.3.8.
    fn control_tags(&self) -> String {
        let part = self.limits.part_target.as_secs_f64();
        let target = self.limits.target as f64;
        format!(
            "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL={:.1},PART-HOLD-BACK={:.5},HOLD-BACK={:.1}\n\
             #EXT-X-PART-INF:PART-TARGET={part:.5}\n",
            self.limits.skip_until().as_secs_f64(),
            self.limits.part_hold_back().as_secs_f64(),
            3.0 * target,
        )
    }

    /// What follows the last complete segment.
    fn write_edge(&self, text: &mut String, previous: Option<&Segment>) {
        const INFALLIBLE: &str = "a string takes all that is written";
        if let Some(open) = self.open {
            for tag in self.segment_tags(previous, open) {
                writeln!(text, "{tag}").expect(INFALLIBLE);
            }
            for part in &open.parts {
                writeln!(text, "{}", self.part_tag(open, part)).expect(INFALLIBLE);
            }
        }
        let hint = self.name(Piece::Part(self.next_part));
        writeln!(text, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{hint}\"").expect(INFALLIBLE);
        for Report { rendition, sequence, part } in self.siblings {
            let uri = File::Playlist(*rendition);
            writeln!(text, "#EXT-X-RENDITION-REPORT:URI=\"{uri}\",LAST-MSN={sequence},LAST-PART={part}")
                .expect(INFALLIBLE);
        }
    }

    /// The index of the first segment whose parts are listed: those within three target durations of the
    /// end (RFC 8216bis §4.4.4.9).
    fn part_horizon(&self) -> usize {
        let mut from_end = self.open.map_or(Duration::ZERO, |open| open.duration);
        let within = self.listed.iter().rev().take_while(|segment| {
            from_end += segment.duration;
            from_end <= 3 * self.limits.target_duration()
        });
        self.listed.len() - within.count()
    }

    fn segment_tags(&self, previous: Option<&Segment>, segment: &Segment) -> Vec<ExtTag> {
        let mut tags = Vec::with_capacity(8 + segment.parts.len());
        let number = segment.stretch.discontinuity;
        if let Some(previous) = previous {
            // One tag for each: a stretch in which this rendition had no media counts too, since the
            // discontinuity sequence numbers are the same in all renditions.
            for _ in previous.stretch.discontinuity..number {
                tags.push(ExtTag { tag: "X-DISCONTINUITY".into(), rest: None });
            }
        }
        if previous.is_none_or(|previous| previous.stretch.discontinuity != number) {
            tags.push(tag("X-MAP", format!("URI=\"{}\"", self.name(Piece::Init(number)))));
        }
        let time = DateTime::<Utc>::from(segment.date_time());
        tags.push(tag("X-PROGRAM-DATE-TIME", time.to_rfc3339_opts(SecondsFormat::Millis, true)));
        if segment.gap {
            tags.push(ExtTag { tag: "X-GAP".into(), rest: None });
        }
        tags
    }

    fn part_tag(&self, segment: &Segment, part: &Part) -> ExtTag {
        let uri = self.name(Piece::Part(part.number));
        let more = match (segment.gap, part.independent) {
            (true, _) => ",GAP=YES",
            (false, true) => ",INDEPENDENT=YES",
            (false, false) => "",
        };
        tag("X-PART", format!("DURATION={:.5},URI=\"{uri}\"{more}", part.duration.as_secs_f64()))
    }

    fn name(&self, piece: Piece) -> String {
        File::Media(self.rendition, self.run, piece).to_string()
    }
}

fn tag(name: &str, rest: String) -> ExtTag {
    ExtTag { tag: name.into(), rest: Some(rest) }
}
