//! D01–D09: what delivery directives do.

use super::each;
use crate::check_hls::evidence::{Answer, Evidence, Expect, History, Probe, Version, edge, holds};
use crate::check_hls::playlist::Playlist;
use crate::check_hls::report::Broken;

pub(super) fn d01(evidence: &Evidence) -> Vec<Broken> {
    let mut broken = unheld(evidence, "D01", |version| version.asked.is_some_and(|(_, part)| part.is_none()));
    broken.extend(probes(evidence, "D01"));
    broken
}

pub(super) fn d02(evidence: &Evidence) -> Vec<Broken> {
    let mut broken = unheld(evidence, "D02", |version| version.asked.is_some_and(|(_, part)| part.is_some()));
    broken.extend(probes(evidence, "D02"));
    broken
}

pub(super) fn d03(evidence: &Evidence) -> Vec<Broken> {
    probes(evidence, "D03")
}

pub(super) fn d04(evidence: &Evidence) -> Vec<Broken> {
    probes(evidence, "D04")
}

pub(super) fn d05(evidence: &Evidence) -> Vec<Broken> {
    probes(evidence, "D05")
}

pub(super) fn d06(evidence: &Evidence) -> Vec<Broken> {
    probes(evidence, "D06")
}

pub(super) fn d07(evidence: &Evidence) -> Vec<Broken> {
    probes(evidence, "D07")
}

/// Blocking requests that were answered before what they asked for was there.
fn unheld(evidence: &Evidence, rule: &'static str, ours: impl Fn(&Version) -> bool) -> Vec<Broken> {
    each(evidence, |history| {
        let mut broken = Vec::new();
        for (index, version) in history.versions.iter().enumerate().filter(|(_, version)| ours(version)) {
            let Some(asked) = version.asked.filter(|asked| !holds(&version.playlist, *asked)) else {
                continue;
            };
            if !version.playlist.ended {
                let what = format!("answered without {asked:?}; the end is {:?}", edge(&version.playlist));
                broken.push(Broken::new(rule, &version.answer.url, what).seen(index, None));
            }
        }
        for refusal in history.refusals.iter().filter(|refusal| ours(refusal)) {
            // 503 is for D08, what is gone for L12, what broke off for L04.
            if !matches!(refusal.answer.status, 0 | 200 | 404 | 410 | 503) {
                let what = format!("{} to a request for what comes next", refusal.answer.status);
                broken.push(Broken::new(rule, &refusal.answer.url, what));
            }
        }
        broken
    })
}

/// Probes of this rule that were answered otherwise than they should.
fn probes(evidence: &Evidence, rule: &'static str) -> Vec<Broken> {
    each(evidence, |history| {
        let at_once = evidence.tolerance + 3.0 * quickest(history);
        let ours = history.probes.iter().filter(|probe| probe.rule == rule);
        let broken = ours.filter_map(|probe| {
            let what = format!("{}: {}", probe.what, misanswered(probe, at_once)?);
            let mut broken = Broken::new(rule, &probe.answer.url, what);
            broken.lines.extend(probe.answer.text.lines().take(1).map(|line| format!("answer: {line}")));
            Some(broken)
        });
        broken.collect()
    })
}

/// Seconds of the fastest answer: what the way there and back takes.
pub(super) fn quickest(history: &History) -> f64 {
    let times = history.probes.iter().map(|probe| &probe.answer);
    let times = times.chain(history.versions.iter().map(|version| &version.answer));
    times.map(|answer| answer.done - answer.sent).fold(f64::INFINITY, f64::min).clamp(0.0, 1.0)
}

/// What is wrong with the answer to a probe.
pub(super) fn misanswered(probe: &Probe, at_once: f64) -> Option<String> {
    let Answer { status, sent, done, .. } = probe.answer;
    let took = done - sent;
    let wanted = match &probe.expect {
        Expect::Status(status) => *status,
        Expect::Gzip => return None,
        _ => 200,
    };
    if status != wanted {
        return Some(match &probe.answer.error {
            Some(error) => format!("{error}; {wanted} is due"),
            None => format!("{status}; {wanted} is due"),
        });
    }
    if !matches!(probe.expect, Expect::Holds { .. } | Expect::Plain) && took > at_once {
        return Some(format!("{status} after {took:.3} s; it is due at once"));
    }
    let playlist = Playlist::parse(&probe.answer.text, &probe.answer.url);
    match probe.expect {
        Expect::Holds { position } if !playlist.ended && !holds(&playlist, position) => {
            Some(format!("answered without {position:?}; the end is {:?}", edge(&playlist)))
        }
        Expect::Whole | Expect::Plain if playlist.skipped.is_some() => {
            Some("a delta update; a whole playlist is due".to_owned())
        }
        Expect::Whole | Expect::Plain if playlist.segments.is_empty() && playlist.open.parts.is_empty() => {
            Some("no playlist with media".to_owned())
        }
        Expect::Delta if playlist.skipped.is_none() && !playlist.ended => {
            Some("a whole playlist; a delta update is due".to_owned())
        }
        _ => None,
    }
}

pub(super) fn d08(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history| {
        let Some(target) = history.target() else { return Vec::new() };
        let limit = 3.0 * target;
        let versions = history.versions.iter().chain(&history.refusals);
        let asked = versions.filter(|version| version.asked.is_some()).map(|version| &version.answer);
        let held = history.probes.iter().filter(|probe| matches!(probe.expect, Expect::Holds { .. }));
        let mut broken = Vec::new();
        for answer in asked.chain(held.map(|probe| &probe.answer)) {
            let took = answer.done - answer.sent;
            if took > limit + evidence.tolerance {
                let what =
                    format!("held for {took:.3} s, then {}; after {limit} s 503 is due", answer.status);
                broken.push(Broken::new("D08", &answer.url, what));
            } else if answer.status == 503 && took < limit - evidence.tolerance {
                let what = format!("503 after {took:.3} s; the media has {limit} s to come");
                broken.push(Broken::new("D08", &answer.url, what));
            }
        }
        broken
    })
}

pub(super) fn d09(evidence: &Evidence) -> Vec<Broken> {
    let mut broken = probes(evidence, "D09");
    broken.extend(each(evidence, |history| {
        let deltas =
            history.versions.iter().enumerate().filter(|(_, version)| version.playlist.skipped.is_some());
        let whole = history.versions.iter().filter(|version| version.asked_skip && skips_too_little(version));
        let whole: Vec<Broken> = whole
            .map(|version| {
                Broken::new("D09", &version.answer.url, "a whole playlist, although a delta update is due")
            })
            .collect();
        let found = deltas.filter_map(|(index, version)| {
            let what = skipped_wrongly(version)?;
            let line =
                version.answer.text.lines().find(|line| line.starts_with("#EXT-X-SKIP")).map(str::to_owned);
            Some(Broken::new("D09", &version.answer.url, what).seen(index, line))
        });
        found.chain(whole).collect()
    }));
    broken
}

/// Whether nothing was skipped although a whole segment, and some more, lies beyond the skip boundary.
fn skips_too_little(version: &Version) -> bool {
    let playlist = &version.playlist;
    let until = playlist.control.as_ref().and_then(|control| control.can_skip_until);
    let Some((until, first)) = until.zip(playlist.segments.first()) else { return false };
    playlist.skipped.is_none() && !playlist.ended && playlist.duration() - first.duration > until + 1.0
}

/// What is wrong with a delta update that was made whole.
fn skipped_wrongly(version: &Version) -> Option<String> {
    if !version.asked_skip {
        return Some("a delta update that was not asked for".to_owned());
    }
    let playlist = &version.playlist;
    let until = playlist.control.as_ref()?.can_skip_until?;
    let skipped = playlist.segments.get(..playlist.skipped? as usize)?;
    // What is skipped ends further from the end than the boundary.
    let left = playlist.duration() - skipped.iter().map(|segment| segment.duration).sum::<f64>();
    (left < until - 0.01)
        .then(|| format!("only the last {left:.3} s are listed; the skip boundary is {until} s"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::evidence::samples::{answer, breaks, evidence, history, live, version};

    const PARTS: &str = "#EXT-X-PART-INF:PART-TARGET=1\n";

    fn playlist() -> String {
        live(5, &format!("{PARTS}#EXTINF:2,\na\n#EXTINF:2,\nb\n#EXT-X-PART:DURATION=1,URI=\"p\"\n"))
    }

    fn asked(position: (u64, Option<u64>), text: &str) -> Evidence {
        let mut history = history(&[text]);
        history.versions[0].asked = Some(position);
        evidence(vec![history])
    }

    /// A probe that was answered after `took` seconds.
    fn probed(rule: &'static str, expect: Expect, status: u16, took: f64, text: &str) -> Evidence {
        let mut history = history(&[]);
        let mut answer = answer("v.m3u8", 0.0, status, text);
        answer.done = took;
        history.probes.push(Probe { rule, what: "_HLS_x=1".to_owned(), expect, answer });
        evidence(vec![history])
    }

    #[test]
    fn d01_holds_the_segment() {
        assert!(!breaks(d01, &asked((6, None), &playlist())));
        assert!(breaks(d01, &asked((7, None), &playlist())));
        assert!(!breaks(d01, &asked((9, None), &(playlist() + "#EXT-X-ENDLIST\n"))));
    }

    #[test]
    fn d02_holds_the_part() {
        assert!(!breaks(d02, &asked((7, Some(0)), &playlist())));
        assert!(breaks(d02, &asked((7, Some(1)), &playlist())));
        let refused = |status| {
            let mut history = history(&[]);
            let mut refusal = version(0.0, "");
            (refusal.asked, refusal.answer.status) = (Some((7, Some(1))), status);
            history.refusals.push(refusal);
            evidence(vec![history])
        };
        assert!(breaks(d02, &refused(400)));
        assert!(!breaks(d02, &refused(503)));
    }

    #[test]
    fn d03_to_d07_answers_as_they_should_be() {
        let next = Expect::Holds { position: (7, Some(0)) };
        assert!(!breaks(d03, &probed("D03", next.clone(), 200, 2.0, &playlist())));
        let early = live(5, &format!("{PARTS}#EXTINF:2,\na\n#EXTINF:2,\nb\n"));
        assert!(breaks(d03, &probed("D03", next, 200, 2.0, &early)));
        assert!(!breaks(d04, &probed("D04", Expect::Whole, 200, 0.1, &playlist())));
        assert!(breaks(d04, &probed("D04", Expect::Whole, 404, 0.1, "")));
        assert!(breaks(d04, &probed("D04", Expect::Whole, 200, 9.0, &playlist())));
        assert!(breaks(d04, &probed("D04", Expect::Whole, 200, 0.1, "#EXTM3U\n")));
        assert!(!breaks(d05, &probed("D05", Expect::Whole, 200, 0.1, &playlist())));
        assert!(breaks(d05, &probed("D05", Expect::Whole, 400, 0.1, "")));
        for rule in [("D06", d06 as fn(&Evidence) -> Vec<Broken>), ("D07", d07)] {
            assert!(!breaks(rule.1, &probed(rule.0, Expect::Status(400), 400, 0.1, "")));
            assert!(breaks(rule.1, &probed(rule.0, Expect::Status(400), 200, 0.1, &playlist())));
            assert!(breaks(rule.1, &probed(rule.0, Expect::Status(400), 400, 5.0, "")));
        }
    }

    #[test]
    fn d08_the_wait_is_bounded() {
        let held = |status, took| {
            let expect = Expect::Holds { position: (7, None) };
            let mut evidence = probed("D01", expect, status, took, &playlist());
            evidence.histories[0].versions.push(version(0.0, &playlist()));
            evidence
        };
        assert!(!breaks(d08, &held(200, 11.9)));
        assert!(!breaks(d08, &held(503, 12.1)));
        assert!(breaks(d08, &held(503, 2.0)));
        assert!(breaks(d08, &held(200, 13.0)));
    }

    #[test]
    fn d09_delta_updates() {
        let skip = "#EXT-X-SKIP:SKIPPED-SEGMENTS=1\n";
        assert!(!breaks(d09, &probed("D09", Expect::Delta, 200, 0.1, &live(1, skip))));
        assert!(breaks(d09, &probed("D09", Expect::Delta, 200, 0.1, &playlist())));
        assert!(breaks(d09, &probed("D09", Expect::Whole, 200, 0.1, &live(1, skip))));

        let delta = |until, asked_skip| {
            let control = format!("#EXT-X-SERVER-CONTROL:CAN-SKIP-UNTIL={until}\n");
            let whole = live(1, &format!("{control}#EXTINF:4,\na\n#EXTINF:4,\nb\n"));
            let mut version = version(1.0, &live(1, &format!("{control}{skip}#EXTINF:4,\nb\n")));
            let earlier = crate::check_hls::evidence::samples::version(0.0, &whole);
            version.playlist = version.playlist.completed(&earlier.playlist).expect("it has what is skipped");
            version.asked_skip = asked_skip;
            let mut history = history(&[&whole]);
            history.versions.push(version);
            evidence(vec![history])
        };
        assert!(!breaks(d09, &delta(4.0, true)));
        assert!(breaks(d09, &delta(4.0, false)));
        assert!(breaks(d09, &delta(6.0, true)));

        let whole = |segments: usize| {
            let control = "#EXT-X-SERVER-CONTROL:CAN-SKIP-UNTIL=24\n".to_owned();
            let mut version = version(1.0, &live(1, &(control + &"#EXTINF:4,\na\n".repeat(segments))));
            version.asked_skip = true;
            let mut history = history(&[]);
            history.versions.push(version);
            evidence(vec![history])
        };
        assert!(!breaks(d09, &whole(7)));
        assert!(breaks(d09, &whole(8)));
    }
}
