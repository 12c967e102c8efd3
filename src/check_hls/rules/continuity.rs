//! L07: within a stretch without discontinuity, codec, parameter sets and timeline go on.

use super::each;
use crate::check_hls::evidence::{Evidence, History};
use crate::check_hls::media::{Init, Sample};
use crate::check_hls::playlist::{Resource, Segment};
use crate::check_hls::report::Broken;
use std::collections::BTreeMap;

/// For the rounding of clocks.
const ROUNDING: f64 = 0.001;

pub(super) fn l07(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history| {
        let mut broken = Vec::new();
        let segments = history.segments();
        for pair in segments.windows(2) {
            let [(_, before), (index, segment)] = pair else { continue };
            let follows = segment.sequence == before.sequence + 1;
            if !follows || before.discontinuity_number != segment.discontinuity_number {
                continue;
            }
            let line = || history.versions[*index].quote(segment.line);
            if let (Some(old), Some(new)) = (history.init(before), history.init(segment))
                && let Some(what) = reconfigured(old, new)
            {
                let what = format!("without EXT-X-DISCONTINUITY before segment {}, {what}", segment.sequence);
                broken.push(Broken::new("L07", &history.url, what).seen(*index, line()));
            }
            let ends = before.media.as_ref().map(|media| edges(history, media)).unwrap_or_default();
            if let Some(what) = segment.media.as_ref().and_then(|media| jump(history, segment, &ends, media))
            {
                broken.push(Broken::new("L07", &history.url, what).seen(*index, line()));
            }
        }
        for (index, segment) in segments {
            for pair in segment.parts.windows(2) {
                let ends = edges(history, &pair[0].media);
                if let Some(what) = jump(history, segment, &ends, &pair[1].media) {
                    let line = history.versions[index].quote(pair[1].line);
                    broken.push(Broken::new("L07", &history.url, what).seen(index, line));
                }
            }
        }
        broken
    })
}

/// What differs between two initialization sections.
fn reconfigured(old: &Init, new: &Init) -> Option<String> {
    if old.tracks.len() != new.tracks.len() {
        return Some(format!("{} tracks become {}", old.tracks.len(), new.tracks.len()));
    }
    old.tracks.iter().zip(&new.tracks).find_map(|(old, new)| {
        if old.codec != new.codec {
            return Some(format!("codec {:?} becomes {:?}", old.codec, new.codec));
        }
        if old.resolution != new.resolution {
            return Some(format!("resolution {:?} becomes {:?}", old.resolution, new.resolution));
        }
        (old.configuration != new.configuration).then(|| "the parameter sets change".to_owned())
    })
}

/// Of each track in a file: where it begins, where it ends, and its longest sample, in ticks.
fn edges(history: &History, media: &Resource) -> BTreeMap<u32, (u64, u64, u32)> {
    let samples = history.fetched.get(media).map(|fetched| fetched.content.samples()).unwrap_or_default();
    let mut edges: BTreeMap<u32, (u64, u64, u32)> = BTreeMap::new();
    for Sample { track, decode_time, duration, .. } in samples {
        let end = decode_time + u64::from(*duration);
        let edge = edges.entry(*track).or_insert((*decode_time, end, *duration));
        (edge.1, edge.2) = (end, edge.2.max(*duration));
    }
    edges
}

/// Where `media` does not go on at the `ends` of what was before it.
fn jump(
    history: &History,
    segment: &Segment,
    ends: &BTreeMap<u32, (u64, u64, u32)>,
    media: &Resource,
) -> Option<String> {
    let init = history.init(segment)?;
    edges(history, media).into_iter().find_map(|(track, (start, ..))| {
        let (_, end, longest) = ends.get(&track)?;
        let scale = f64::from(init.track(track)?.timescale);
        let off = (start as f64 - *end as f64) / scale;
        (off.abs() > f64::from(*longest) / scale + ROUNDING)
            .then(|| format!("the timeline jumps by {off:.3} s without EXT-X-DISCONTINUITY at {}", media.url))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::evidence::samples::{breaks, live};
    use crate::check_hls::rules::fixtures::Media;

    const ONE: &str = "#EXT-X-MAP:URI=\"i\"\n#EXTINF:2,\na\n#EXTINF:2,\nb\n";

    #[test]
    fn l07_the_timeline_goes_on() {
        let media = |first| Media::new(&live(1, ONE)).init("i").samples("a", 0, 50).samples("b", first, 50);
        assert!(!breaks(l07, &media(50).evidence()));
        assert!(!breaks(l07, &media(51).evidence()));
        assert!(breaks(l07, &media(53).evidence()));
        assert!(breaks(l07, &media(0).evidence()));
    }

    #[test]
    fn l07_within_a_segment_too() {
        let text = live(
            1,
            "#EXT-X-MAP:URI=\"i\"\n#EXT-X-PART:DURATION=1,URI=\"p\"\n#EXT-X-PART:DURATION=1,URI=\"q\"\n#EXTINF:2,\na\n",
        );
        let media = |first| Media::new(&text).init("i").samples("p", 0, 25).samples("q", first, 25);
        assert!(!breaks(l07, &media(25).evidence()));
        assert!(breaks(l07, &media(40).evidence()));
    }

    #[test]
    fn l07_another_codec_needs_a_discontinuity() {
        let text = live(1, &ONE.replace("a\n", "a\n#EXT-X-MAP:URI=\"j\"\n"));
        let media = |text: &str, codec, resolution| {
            let media = Media::new(text).init("i").init_of("j", codec, resolution);
            media.samples("a", 0, 50).samples("b", 50, 50).evidence()
        };
        let same = ("avc1.42c01f", (640, 360));
        assert!(!breaks(l07, &media(&text, same.0, same.1)));
        assert!(breaks(l07, &media(&text, "avc1.64001f", same.1)));
        assert!(breaks(l07, &media(&text, same.0, (320, 180))));
        let told = text.replace("a\n#EXT-X-MAP", "a\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP");
        assert!(!breaks(l07, &media(&told, "avc1.64001f", (320, 180))));
    }
}
