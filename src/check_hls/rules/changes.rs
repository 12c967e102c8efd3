//! L03, L05, L06: what may change between two versions.
//!
//! What a version says of a segment is held against what was said of it first, which compares all pairs.

use super::each;
use crate::check_hls::evidence::{Evidence, History, Version};
use crate::check_hls::playlist::{Part, Segment};
use crate::check_hls::report::Broken;
use std::collections::BTreeMap;

pub(super) fn l03(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history| {
        let mut broken = Vec::new();
        let mut first: BTreeMap<u64, (usize, &Segment)> = BTreeMap::new();
        let mut newest: Option<(usize, &Version)> = None;
        for (index, version) in history.by_edge() {
            for segment in version.playlist.all() {
                let Some((told, before)) = first.insert(segment.sequence, (index, segment)) else { continue };
                if let Some(what) = difference(before, segment) {
                    let lines = [history.versions[told].quote(line(before)), version.quote(line(segment))];
                    let [old, new] = lines;
                    let what = format!("segment {}: {what}", segment.sequence);
                    broken.push(Broken::new("L03", &history.url, what).seen(told, old).seen(index, new));
                }
                // Parts that were dropped are remembered from when they were there.
                if segment.parts.is_empty() && !before.parts.is_empty() {
                    first.insert(segment.sequence, (told, before));
                }
            }
            if let Some((before, old)) = newest
                && old.playlist.ended
                && (!version.playlist.ended || version.playlist.segments.len() > old.playlist.segments.len())
            {
                let what = "the playlist went on after EXT-X-ENDLIST";
                broken.push(Broken::new("L03", &history.url, what).seen(before, None).seen(index, None));
            }
            newest = Some((index, version));
        }
        broken.extend(back(history));
        broken
    })
}

/// Versions that went back: asked for after a newer one had arrived, with directives, so that no cache is
/// to blame.
fn back(history: &History) -> Vec<Broken> {
    let versions: Vec<_> =
        history.versions.iter().enumerate().filter(|(_, version)| !version.aside).collect();
    let mut broken = Vec::new();
    for pair in versions.windows(2) {
        let [(before, old), (index, new)] = pair else { continue };
        let edge = crate::check_hls::evidence::edge;
        if edge(&new.playlist) < edge(&old.playlist) && new.answer.sent >= old.answer.done {
            let what = format!(
                "the end went back from {:?} to {:?} (media sequence number and part)",
                edge(&old.playlist),
                edge(&new.playlist)
            );
            broken.push(Broken::new("L03", &history.url, what).seen(*before, None).seen(*index, None));
        }
    }
    broken
}

fn line(segment: &Segment) -> usize {
    if segment.line > 0 { segment.line } else { segment.parts.first().map_or(0, |part| part.line) }
}

/// What `after` says otherwise than `before` of the same segment.
fn difference(before: &Segment, after: &Segment) -> Option<String> {
    if before.media.is_some() && after.media.is_none() {
        return Some("it was complete and is no longer".to_owned());
    }
    if before.media.is_some() {
        if before.media != after.media {
            return Some("another URI".to_owned());
        }
        if (before.duration - after.duration).abs() > 1e-6 {
            return Some(format!("its duration went from {} to {}", before.duration, after.duration));
        }
        if before.gap != after.gap {
            return Some("EXT-X-GAP changed".to_owned());
        }
    }
    if before.map.is_some() && after.map.is_some() && before.map != after.map {
        return Some("another EXT-X-MAP".to_owned());
    }
    if let (Some(old), Some(new)) = (before.date, after.date)
        && old != new
    {
        return Some(format!("its date-time went from {old} to {new}"));
    }
    parts(&before.parts, &after.parts, after.media.is_some() && before.media.is_some())
}

/// Parts are appended while the segment grows, and may be dropped later: all, or from the front.
fn parts(before: &[Part], after: &[Part], complete: bool) -> Option<String> {
    let same = |a: &Part, b: &Part| {
        a.media == b.media && a.duration == b.duration && a.independent == b.independent && a.gap == b.gap
    };
    if after.is_empty() || before.is_empty() {
        return None;
    }
    let dropped = before.iter().position(|part| same(part, &after[0]));
    let Some(dropped) = dropped else { return Some("other parts than before".to_owned()) };
    let kept = &before[dropped..];
    if kept.len() > after.len() || !kept.iter().zip(after).all(|(a, b)| same(a, b)) {
        return Some("a part changed or left".to_owned());
    }
    if complete && after.len() > kept.len() {
        return Some("a part was added to a complete segment".to_owned());
    }
    None
}

pub(super) fn l05(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history| {
        let mut broken = Vec::new();
        let mut names = BTreeMap::new();
        for (index, version) in history.by_edge() {
            for segment in &version.playlist.segments {
                let Some(media) = &segment.media else { continue };
                if let Some((told, sequence)) = names.insert(media, (index, segment.sequence))
                    && sequence != segment.sequence
                {
                    let what = format!(
                        "{} was number {sequence} and is number {}: segments removed and EXT-X-MEDIA-SEQUENCE differ",
                        media.url, segment.sequence
                    );
                    let lines = (history.versions[told].quote(line(segment)), version.quote(segment.line));
                    broken.push(
                        Broken::new("L05", &history.url, what).seen(told, lines.0).seen(index, lines.1),
                    );
                }
            }
        }
        broken
            .extend(falls(history, "L05", "EXT-X-MEDIA-SEQUENCE", |version| version.playlist.media_sequence));
        broken
    })
}

pub(super) fn l06(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history| {
        let mut broken = Vec::new();
        let mut first: BTreeMap<u64, (usize, u64)> = BTreeMap::new();
        for (index, version) in history.by_edge() {
            for segment in version.playlist.all() {
                let number = segment.discontinuity_number;
                let (told, before) = *first.entry(segment.sequence).or_insert((index, number));
                if before != number {
                    let what = format!(
                        "segment {} had discontinuity sequence number {before} and has {number}",
                        segment.sequence
                    );
                    broken.push(Broken::new("L06", &history.url, what).seen(told, None).seen(index, None));
                    break;
                }
            }
        }
        let number = |version: &Version| version.playlist.discontinuity_sequence;
        broken.extend(falls(history, "L06", "EXT-X-DISCONTINUITY-SEQUENCE", number));
        broken
    })
}

/// Where a number of the head falls from one version to one asked for after it.
fn falls(history: &History, rule: &'static str, tag: &str, number: impl Fn(&Version) -> u64) -> Vec<Broken> {
    let mut versions = history.versions.iter().enumerate().filter(|(_, version)| !version.aside).peekable();
    let mut broken = Vec::new();
    while let Some((before, old)) = versions.next() {
        let Some((index, new)) = versions.peek() else { break };
        if number(new) < number(old) && new.answer.sent >= old.answer.done {
            let what = format!("{tag} fell from {} to {}", number(old), number(new));
            broken.push(Broken::new(rule, &history.url, what).seen(before, None).seen(*index, None));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::evidence::samples::{breaks, evidence, history, live};

    fn broken(rule: fn(&Evidence) -> Vec<Broken>, versions: &[&str]) -> bool {
        breaks(rule, &evidence(vec![history(versions)]))
    }

    const PARTS: &str = "#EXT-X-PART-INF:PART-TARGET=1\n";

    #[test]
    fn l03_appending_and_removing_from_the_front_is_fine() {
        let part = |n| format!("#EXT-X-PART:DURATION=1,URI=\"p{n}\"\n");
        let grows = live(1, &format!("{PARTS}#EXTINF:2,\na\n{}", part(0)));
        let more = live(1, &format!("{PARTS}#EXTINF:2,\na\n{}{}", part(0), part(1)));
        let complete = live(2, &format!("{PARTS}{}{}#EXTINF:2,\nb\n#EXT-X-ENDLIST\n", part(0), part(1)));
        let without_parts = live(2, &format!("{PARTS}#EXTINF:2,\nb\n#EXTINF:2,\nc\n"));
        assert!(!broken(l03, &[&grows, &more, &complete]));
        assert!(!broken(l03, &[&grows, &more, &without_parts]));
        assert!(broken(l03, &[&more, &live(1, &format!("{PARTS}#EXTINF:2,\na\n{}", part(0)))]));
        assert!(broken(
            l03,
            &[&more, &live(1, &format!("{PARTS}#EXTINF:2,\na\n{}{}{}", part(0), part(2), part(3)))]
        ));
    }

    #[test]
    fn l03_nothing_that_was_told_changes() {
        let first = live(1, "#EXTINF:2,\na\n#EXTINF:2,\nb\n");
        assert!(broken(l03, &[&first, &live(1, "#EXTINF:2.5,\na\n#EXTINF:2,\nb\n")]));
        assert!(broken(l03, &[&first, &live(1, "#EXTINF:2,\nx\n#EXTINF:2,\nb\n#EXTINF:2,\nc\n")]));
        assert!(broken(l03, &[&first, &live(1, "#EXT-X-GAP\n#EXTINF:2,\na\n#EXTINF:2,\nb\n")]));
        assert!(broken(
            l03,
            &[&format!("{first}#EXT-X-ENDLIST\n"), &live(1, "#EXTINF:2,\na\n#EXTINF:2,\nb\n#EXTINF:2,\nc\n")]
        ));
        assert!(broken(l03, &[&first, &live(1, "#EXTINF:2,\na\n")]));
    }

    #[test]
    fn l05_numbers_go_with_segments() {
        let first = live(1, "#EXTINF:2,\na\n#EXTINF:2,\nb\n");
        assert!(!broken(l05, &[&first, &live(2, "#EXTINF:2,\nb\n#EXTINF:2,\nc\n")]));
        assert!(broken(l05, &[&first, &live(1, "#EXTINF:2,\nb\n#EXTINF:2,\nc\n")]));
        assert!(broken(l05, &[&live(9, "#EXTINF:2,\nb\n"), &live(0, "#EXTINF:2,\nc\n")]));
    }

    #[test]
    fn l06_discontinuities_that_leave_are_counted() {
        let first = live(1, "#EXTINF:2,\na\n#EXT-X-DISCONTINUITY\n#EXTINF:2,\nb\n");
        let counted = live(2, "#EXT-X-DISCONTINUITY-SEQUENCE:1\n#EXTINF:2,\nb\n");
        assert!(!broken(l06, &[&first, &counted]));
        assert!(broken(l06, &[&first, &live(2, "#EXTINF:2,\nb\n")]));
        assert!(broken(l06, &[&counted, &live(3, "#EXTINF:2,\nc\n")]));
    }
}
