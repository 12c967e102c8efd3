//! H01 and H02: preload hints.

use super::directives::{misanswered, quickest};
use super::each;
use crate::check_hls::evidence::{Evidence, HintFetched, History};
use crate::check_hls::playlist::Resource;
use crate::check_hls::report::Broken;
use std::collections::{BTreeSet, HashMap};

pub(super) fn h01(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history| {
        let (listed, quickest) = (first_listed(history), quickest(history));
        let broken = history.hints.iter().filter_map(|hint| {
            let listed = listed.get(&hint.media).copied();
            let what = unkept(history, hint, listed, quickest, evidence.tolerance)?;
            let version = history.versions.get(hint.version);
            let line = version.and_then(|version| {
                let hinted = version.playlist.hints.iter().find(|hinted| hinted.media == hint.media)?;
                Some(version.quote(hinted.line))
            });
            Some(Broken::new("H01", &hint.media.url, what).seen(hint.version, line))
        });
        broken.collect()
    })
}

/// When the head of the first version was here that listed a part.
fn first_listed(history: &History) -> HashMap<&Resource, f64> {
    let mut listed = HashMap::new();
    for version in &history.versions {
        for part in version.playlist.all().flat_map(|segment| segment.parts.iter()).filter(|part| !part.gap) {
            listed.entry(&part.media).or_insert(version.answer.headed);
        }
    }
    listed
}

/// What is wrong with the answer to a hint whose part was listed at the moment `listed`.
fn unkept(
    history: &History,
    hint: &HintFetched,
    listed: Option<f64>,
    quickest: f64,
    tolerance: f64,
) -> Option<String> {
    let answer = &hint.fetched.answer;
    if !matches!(answer.status, 200 | 206) {
        // A hint may come to nothing when the stream ends or is cut, or nothing comes (GAP=YES).
        let listed = listed?;
        let why = answer.error.as_deref().unwrap_or("it was listed later");
        return Some(format!(
            "{} to a hinted part, {why}, {:.3} s after the request",
            answer.status,
            listed - answer.sent
        ));
    }
    let took = answer.done - answer.headed;
    let most = tolerance + hint.fetched.digest.length as f64 / super::speed::SLOWEST;
    if took > most {
        return Some(format!("the body took {took:.3} s after the head; {most:.3} s are due"));
    }
    let late = answer.headed - listed?;
    if late > tolerance + quickest {
        return Some(format!("answered {late:.3} s after the playlist listed the part"));
    }
    let part = history.fetched.get(&hint.media).filter(|part| matches!(part.answer.status, 200 | 206))?;
    (part.digest != hint.fetched.digest).then(|| {
        format!(
            "{} bytes came for the hint, other {} for the part",
            hint.fetched.digest.length, part.digest.length
        )
    })
}

pub(super) fn h02(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history| {
        let mut broken = Vec::new();
        for (index, version) in history.versions.iter().enumerate() {
            let mut kinds = BTreeSet::new();
            for hint in version.playlist.hints.iter().filter(|hint| !kinds.insert(&hint.kind)) {
                let what = format!("a second hint of type {}", hint.kind);
                broken.push(Broken::new("H02", &history.url, what).seen(index, version.quote(hint.line)));
            }
        }
        let at_once = evidence.tolerance + 3.0 * quickest(history);
        let unknown = history.probes.iter().filter(|probe| probe.rule == "H02");
        broken.extend(unknown.filter_map(|probe| {
            let what = format!("{}: {}", probe.what, misanswered(probe, at_once)?);
            Some(Broken::new("H02", &probe.answer.url, what))
        }));
        broken
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::digest::Digest;
    use crate::check_hls::evidence::samples::{answer, breaks, evidence, history, live, url, version};
    use crate::check_hls::evidence::{Expect, Fetched, Probe};
    use crate::check_hls::media::Content;
    use crate::check_hls::playlist::Resource;

    const HINT: &str = "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p\"\n";

    /// A part that was hinted at second 0 and listed at second 1.
    fn hinted(status: u16, headed: f64, done: f64, body: &[u8]) -> Evidence {
        let listed = live(1, "#EXT-X-PART:DURATION=1,URI=\"p\"\n");
        let mut history = history(&[&live(1, HINT), &listed]);
        let media = Resource { url: url("p"), range: None };
        let file = |status, headed, done, body: &[u8]| {
            let mut answer = answer("p", 0.0, status, "");
            (answer.headed, answer.done) = (headed, done);
            Fetched { answer, digest: Digest::of(body), content: Content::Opaque }
        };
        history.fetched.insert(media.clone(), file(200, 1.0, 1.0, b"part"));
        let fetched = file(status, headed, done, body);
        history.hints.push(HintFetched { media, version: 0, fetched });
        evidence(vec![history])
    }

    #[test]
    fn h01_hints_are_kept() {
        assert!(!breaks(h01, &hinted(200, 1.0, 1.0, b"part")));
        assert!(breaks(h01, &hinted(404, 0.1, 0.1, b"")));
        assert!(breaks(h01, &hinted(200, 0.1, 1.0, b"part")));
        assert!(breaks(h01, &hinted(200, 2.0, 2.0, b"part")));
        assert!(breaks(h01, &hinted(200, 1.0, 1.0, b"other")));
        let mut missing = hinted(404, 1.0, 1.0, b"");
        let listed = live(1, "#EXT-X-PART:DURATION=1,URI=\"p\",GAP=YES\n");
        missing.histories[0].versions[1] = version(1.0, &listed);
        assert!(!breaks(h01, &missing));
    }

    #[test]
    fn h02_one_hint_of_a_type() {
        let with = |text: &str| evidence(vec![history(&[&live(1, text)])]);
        let map = "#EXT-X-PRELOAD-HINT:TYPE=MAP,URI=\"i\"\n";
        assert!(!breaks(h02, &with(&format!("{HINT}{map}"))));
        assert!(breaks(h02, &with(&format!("{HINT}{HINT}"))));
    }

    #[test]
    fn h02_unknown_names() {
        let unknown = |status, took| {
            let mut history = history(&[]);
            let mut answer = answer("x", 0.0, status, "");
            answer.done = took;
            let what = "a name that is not listed".to_owned();
            history.probes.push(Probe { rule: "H02", what, expect: Expect::Status(404), answer });
            evidence(vec![history])
        };
        assert!(!breaks(h02, &unknown(404, 0.1)));
        assert!(breaks(h02, &unknown(200, 0.1)));
        assert!(breaks(h02, &unknown(404, 9.0)));
    }
}
