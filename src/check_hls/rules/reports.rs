//! D10: rendition reports are there and true.
//!
//! What a report says is held against what the sibling's own playlist said at about that time: no older than
//! what was served a part target before the answer came, no newer than a part target after.

use super::each;
use crate::check_hls::evidence::{Evidence, History, Version, edge};
use crate::check_hls::playlist::RenditionReport;
use crate::check_hls::report::Broken;

pub(super) fn d10(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history| {
        let siblings: Vec<&History> =
            evidence.histories.iter().filter(|other| other.url != history.url).collect();
        let mut broken = Vec::new();
        for (index, version) in history.versions.iter().enumerate() {
            if !version.playlist.is_low_latency() || version.playlist.ended {
                continue;
            }
            for sibling in siblings.iter().filter(|sibling| is_low_latency(sibling)) {
                let report = version.playlist.reports.iter().find(|report| report.url == sibling.url);
                match report {
                    None => {
                        let what = format!("no EXT-X-RENDITION-REPORT for {}", sibling.url);
                        broken.push(Broken::new("D10", &history.url, what).seen(index, None));
                    }
                    Some(report) => {
                        if let Some(what) = untrue(report, version, sibling, evidence.tolerance) {
                            let line = version.quote(report.line);
                            broken.push(Broken::new("D10", &history.url, what).seen(index, line));
                        }
                    }
                }
            }
        }
        broken
    })
}

fn is_low_latency(history: &History) -> bool {
    history.versions.first().is_some_and(|version| version.playlist.is_low_latency())
}

/// What is wrong with a report of `version` on `sibling`.
fn untrue(report: &RenditionReport, version: &Version, sibling: &History, tolerance: f64) -> Option<String> {
    let Some(sequence) = report.last_sequence else { return Some("no LAST-MSN".to_owned()) };
    let Some(part) = report.last_part else { return Some("no LAST-PART".to_owned()) };
    let told = (sequence, part + 1);
    let slack = version.playlist.part_target.unwrap_or_default() + tolerance;
    let at = version.answer.headed;
    let served = sibling.versions.iter();
    let before = served.clone().filter(|theirs| theirs.answer.headed < at - slack);
    // A complete segment is as far as the first part of the next, but reports name its last part.
    let oldest = before.map(|theirs| edge(&theirs.playlist)).max();
    if let Some(oldest) = oldest.filter(|oldest| told < *oldest && !(oldest.1 == 0 && told.0 + 1 == oldest.0))
    {
        return Some(format!(
            "{told:?} is told, {oldest:?} was served more than a part target before (media sequence number, parts)"
        ));
    }
    // Is there a version late enough to tell?
    let after = served.filter(|theirs| theirs.answer.headed > at + slack);
    let newest = after.map(|theirs| edge(&theirs.playlist)).min()?;
    (told > newest).then(|| format!("{told:?} is told, {newest:?} was served more than a part target later"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::evidence::samples::{breaks, evidence, history, live, url, version};

    const CONTROL: &str = "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n#EXT-X-PART-INF:PART-TARGET=1\n";

    /// A rendition with a part a second, and a report of another that has as many.
    fn pair(report: impl Fn(usize) -> String) -> Evidence {
        let parts = |count: usize| "#EXT-X-PART:DURATION=1,URI=\"p\"\n".repeat(count + 1);
        let text = |at: usize, rest: &str| live(7, &format!("{CONTROL}{}{rest}", parts(at)));
        let (mut first, mut second) = (history(&[]), history(&[]));
        second.url = url("a.m3u8");
        for at in 0..10 {
            first.versions.push(version(at as f64, &text(at, &report(at))));
            let back = "#EXT-X-RENDITION-REPORT:URI=\"v.m3u8\",LAST-MSN=7,LAST-PART=".to_owned()
                + &format!("{at}\n");
            second.versions.push(version(at as f64, &text(at, &back)));
        }
        evidence(vec![first, second])
    }

    fn line(part: usize) -> String {
        format!("#EXT-X-RENDITION-REPORT:URI=\"a.m3u8\",LAST-MSN=7,LAST-PART={part}\n")
    }

    #[test]
    fn d10_reports_are_there_and_true() {
        assert_eq!(d10(&pair(line)), []);
        assert!(!breaks(d10, &pair(|at| line(at.saturating_sub(1)))));
        assert!(breaks(d10, &pair(|_| String::new())));
        assert!(breaks(d10, &pair(|at| line(at.saturating_sub(4)))));
        assert!(breaks(d10, &pair(|at| line(at + 4))));
        assert!(breaks(d10, &pair(|_| "#EXT-X-RENDITION-REPORT:URI=\"a.m3u8\"\n".to_owned())));
    }
}
