//! P01 and L04: a playlist can be read, and is whole.

use super::each;
use crate::check_hls::evidence::{Evidence, History};
use crate::check_hls::report::Broken;

pub(super) fn readable(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history| {
        let mut broken = Vec::new();
        for (index, version) in history.versions.iter().enumerate() {
            let mut found = |line: usize, what: &str| {
                let line = (line > 0).then(|| version.quote(line));
                broken.push(Broken::new("P01", &history.url, what).seen(index, line));
            };
            for fault in &version.playlist.faults {
                found(fault.line, &fault.what);
            }
            if version.playlist.target.is_none() {
                found(0, "no EXT-X-TARGETDURATION");
            }
            let has_parts = version.playlist.all().any(|segment| !segment.parts.is_empty());
            if has_parts && version.playlist.part_target.is_none() {
                found(0, "EXT-X-PART without EXT-X-PART-INF");
            }
        }
        let incomplete = history.refusals.iter().filter_map(|version| version.incomplete.as_ref());
        broken
            .extend(incomplete.map(|why| Broken::new("P01", &history.url, format!("a delta update: {why}"))));
        broken
    })
}

/// Half a playlist: its last line is cut off, or the connection ended before the body did.
pub(super) fn l04(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history: &History| {
        let mut broken = Vec::new();
        for (index, version) in history.versions.iter().enumerate() {
            let text = &version.answer.text;
            let last = text.lines().count();
            let dangling = text.lines().next_back().is_some_and(|line| line.starts_with("#EXTINF"));
            if !text.ends_with('\n') {
                let what = "the last line is cut off";
                broken.push(Broken::new("L04", &history.url, what).seen(index, version.quote(last)));
            } else if dangling {
                let what = "the last segment has no URI";
                broken.push(Broken::new("L04", &history.url, what).seen(index, version.quote(last)));
            }
        }
        let lost = history.refusals.iter().filter(|version| version.answer.status == 0);
        // The head was there, so the server was: it broke off.
        for version in lost.filter(|version| version.answer.headed > version.answer.sent) {
            let why = version.answer.error.as_deref().unwrap_or_default();
            broken.push(Broken::new("L04", &version.answer.url, format!("the body broke off: {why}")));
        }
        broken
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::evidence::samples::{breaks, evidence, history, live};

    #[test]
    fn p01_what_cannot_be_read() {
        let fine = live(1, "#EXTINF:4,\na.ts\n");
        assert!(!breaks(readable, &evidence(vec![history(&[&fine])])));
        let no_target = fine.replace("#EXT-X-TARGETDURATION:4\n", "");
        assert!(breaks(readable, &evidence(vec![history(&[&no_target])])));
        let no_inf = live(1, "#EXTINF:4,\na.ts\n#EXT-X-PART:DURATION=1,URI=\"b\"\n");
        assert!(breaks(readable, &evidence(vec![history(&[&no_inf])])));
    }

    #[test]
    fn l04_half_a_playlist() {
        let fine = live(1, "#EXTINF:4,\na.ts\n");
        assert!(!breaks(l04, &evidence(vec![history(&[&fine])])));
        assert!(breaks(l04, &evidence(vec![history(&[&live(1, "#EXTINF:4,\na.t")])])));
        assert!(breaks(l04, &evidence(vec![history(&[&live(1, "#EXTINF:4,\n")])])));
    }
}
