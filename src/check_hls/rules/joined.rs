//! M01: the parts of a segment are the segment.

use super::each;
use crate::check_hls::digest::Digest;
use crate::check_hls::evidence::{Evidence, Fetched, History};
use crate::check_hls::media::Sample;
use crate::check_hls::playlist::Segment;
use crate::check_hls::report::Broken;

pub(super) fn m01(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history| {
        let mut broken = Vec::new();
        for (index, segment) in
            history.segments().into_iter().filter(|(_, segment)| !segment.parts.is_empty())
        {
            let mut found = |what: String| {
                let version = &history.versions[index];
                let line = version.quote(segment.line);
                broken.push(Broken::new("M01", &history.url, what).seen(index, line));
            };
            let sum: f64 = segment.parts.iter().map(|part| part.duration).sum();
            // Durations are rounded, each.
            let rounding = 0.001 * (segment.parts.len() + 1) as f64;
            if (sum - segment.duration).abs() > rounding {
                let last = history.versions[index].playlist.segments.last();
                // Of older segments the first parts may have left.
                if last.is_some_and(|last| last.sequence == segment.sequence) {
                    found(format!(
                        "its parts last {sum:.5} s, segment {} {} s",
                        segment.sequence, segment.duration
                    ));
                }
                continue;
            }
            if same(history, segment) == Some(false) {
                let what =
                    format!("segment {} is not what its {} parts are", segment.sequence, segment.parts.len());
                found(what);
            }
        }
        broken
    })
}

/// Whether bytes, or at least samples, are the same; `None` if not all was fetched.
fn same(history: &History, segment: &Segment) -> Option<bool> {
    let whole = history.media(segment).filter(|file| arrived(file))?;
    let parts =
        segment.parts.iter().map(|part| history.fetched.get(&part.media).filter(|file| arrived(file)));
    let parts: Vec<&Fetched> = parts.collect::<Option<_>>()?;
    let joined = parts.iter().fold(Digest::default(), |joined, part| joined.then(part.digest));
    if joined == whole.digest {
        return Some(true);
    }
    let samples: Vec<Sample> = parts.iter().flat_map(|part| part.content.samples()).copied().collect();
    Some(!samples.is_empty() && samples == whole.content.samples())
}

fn arrived(file: &Fetched) -> bool {
    matches!(file.answer.status, 200 | 206)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::evidence::samples::{breaks, live};
    use crate::check_hls::rules::fixtures::Media;

    #[test]
    fn m01_parts_make_the_segment() {
        let text = |duration: &str| {
            live(
                1,
                &format!(
                    "#EXT-X-MAP:URI=\"i\"\n#EXT-X-PART:DURATION=1,URI=\"p\"\n#EXT-X-PART:DURATION=1,URI=\"q\"\n#EXTINF:{duration},\na\n"
                ),
            )
        };
        let media = |duration: &str, second| {
            let media = Media::new(&text(duration)).init("i").samples("p", 0, 25).samples("q", second, 25);
            media.samples("a", 0, 50).evidence()
        };
        assert!(!breaks(m01, &media("2", 25)));
        assert!(breaks(m01, &media("2", 26)));
        assert!(breaks(m01, &media("2.5", 25)));
    }
}
