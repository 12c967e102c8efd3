//! L11 and H04: when parts and segments come.

use super::each;
use crate::check_hls::evidence::{Evidence, History};
use crate::check_hls::report::Broken;
use std::collections::BTreeMap;

/// Fewer parts tell nothing of bursts.
const FEWEST: usize = 10;

/// A part when it was first listed.
struct Arrival {
    /// Which version listed it.
    version: usize,
    line: usize,
    at: f64,
    duration: f64,
    stretch: u64,
    gap: bool,
}

/// The parts that came while we looked, in their order.
fn arrivals(history: &History) -> Vec<Arrival> {
    let mut found: BTreeMap<(u64, usize), Arrival> = BTreeMap::new();
    let mut known = None;
    for (index, version) in history.by_edge() {
        for segment in version.playlist.all() {
            for (number, part) in segment.parts.iter().enumerate() {
                let key = (segment.sequence, number);
                if Some(key) <= known {
                    continue;
                }
                let arrival = Arrival {
                    version: index,
                    line: part.line,
                    at: version.answer.headed,
                    duration: part.duration,
                    stretch: segment.discontinuity_number,
                    gap: part.gap,
                };
                let earliest = found.entry(key).or_insert(arrival);
                earliest.at = earliest.at.min(version.answer.headed);
            }
        }
        if known.is_none() {
            // What was there already came at some time before.
            known = found.keys().next_back().copied();
            found.clear();
        }
    }
    found.into_values().collect()
}

pub(super) fn l11(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history| match history.part_target() {
        Some(target) => parts_late(history, target + evidence.tolerance),
        None => segments_late(history, evidence.tolerance),
    })
}

fn parts_late(history: &History, most: f64) -> Vec<Broken> {
    let arrivals = arrivals(history);
    let late = arrivals.windows(2).filter(|pair| pair[1].at - pair[0].at > most && !pair[1].gap);
    let broken = late.map(|pair| {
        let (waited, arrival) = (pair[1].at - pair[0].at, &pair[1]);
        let what = format!(
            "{waited:.3} s after the part before, at {:.3} s of the check; {most:.3} s are due",
            arrival.at
        );
        let line = history.versions[arrival.version].quote(arrival.line);
        Broken::new("L11", &history.url, what).seen(arrival.version, line)
    });
    broken.collect()
}

/// RFC 8216bis §6.2.2: a new segment within one and a half target durations. What came between two polls came
/// right after the first, or right before the second: the server gets the benefit.
fn segments_late(history: &History, tolerance: f64) -> Vec<Broken> {
    let Some(most) = history.target().map(|target| 1.5 * target + tolerance) else { return Vec::new() };
    let mut broken = Vec::new();
    let mut newest: Option<(u64, f64)> = None;
    let mut polled = 0.0;
    for (index, version) in history.by_edge() {
        let Some(last) = version.playlist.segments.last() else { continue };
        let sent = version.answer.sent;
        if let Some((sequence, since)) = newest {
            let waited = polled - since;
            if waited > most && (last.sequence > sequence || sent > polled) {
                let what = format!("no new segment for {waited:.3} s; {most:.3} s are due");
                broken.push(Broken::new("L11", &history.url, what).seen(index, None));
                newest = Some((last.sequence, sent));
            }
        }
        if newest.is_none_or(|(sequence, _)| last.sequence > sequence) {
            newest = Some((last.sequence, version.answer.done));
        }
        if version.playlist.ended {
            break;
        }
        polled = sent;
    }
    broken
}

pub(super) fn h04(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history| {
        let Some(target) = history.part_target() else { return Vec::new() };
        let mut stretches: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        let mut ends: BTreeMap<u64, f64> = BTreeMap::new();
        for arrival in arrivals(history) {
            let end = ends.entry(arrival.stretch).or_default();
            *end += arrival.duration;
            if arrival.gap {
                continue; // that nothing comes is known later
            }
            stretches.entry(arrival.stretch).or_default().push(arrival.at - *end);
        }
        let most = target + evidence.tolerance;
        let bursts = stretches.into_values().filter_map(|mut lags| {
            lags.sort_by(f64::total_cmp);
            let (early, late) = (lags.get(lags.len() / 20)?, lags.get(lags.len() * 19 / 20)?);
            let spread = late - early;
            (lags.len() >= FEWEST && spread > most).then(|| {
                let what = format!("parts come in bursts: between media time and arrival lie up to {spread:.3} s more than at best");
                Broken::new("H04", &history.url, what)
            })
        });
        bursts.collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::evidence::samples::{breaks, evidence, history, live, version};

    /// Parts of half a second that come at these times.
    fn parts(times: impl IntoIterator<Item = f64>) -> Evidence {
        let mut history = history(&[]);
        let mut text = live(1, "#EXT-X-PART-INF:PART-TARGET=0.5\n");
        for (number, at) in times.into_iter().enumerate() {
            text.push_str(&format!("#EXT-X-PART:DURATION=0.5,URI=\"p{number}\"\n"));
            history.versions.push(version(at, &text));
        }
        evidence(vec![history])
    }

    #[test]
    fn l11_parts_come_in_time() {
        assert!(!breaks(l11, &parts([0.0, 0.5, 1.1, 1.5, 2.0])));
        assert!(breaks(l11, &parts([0.0, 0.5, 1.4, 1.5, 2.0])));
    }

    #[test]
    fn l11_segments_come_in_time() {
        let segments = |times: &[f64]| {
            let mut history = history(&[]);
            let mut text = live(1, "");
            for (number, at) in times.iter().enumerate() {
                text.push_str(&format!("#EXTINF:4,\ns{number}\n"));
                history.versions.push(version(*at, &text));
                // Looked at again right before the next.
                let next = times.get(number + 1).unwrap_or(at);
                history.versions.push(version(next - 0.1, &text));
            }
            evidence(vec![history])
        };
        assert!(!breaks(l11, &segments(&[0.0, 4.0, 9.5])));
        assert!(breaks(l11, &segments(&[0.0, 4.0, 11.0])));
    }

    #[test]
    fn h04_parts_come_one_by_one() {
        assert!(!breaks(h04, &parts((0..40).map(|n| f64::from(n) * 0.5))));
        // Four at a time.
        assert!(breaks(h04, &parts((0..40).map(|n| f64::from(n / 4) * 2.0))));
        // What is missing is told late, and all at once.
        let gap = "#EXT-X-PART:DURATION=0.5,URI=\"gap\",GAP=YES\n".repeat(4);
        let late = |missing: &str| {
            let mut history = history(&[]);
            let mut text = live(1, "#EXT-X-PART-INF:PART-TARGET=0.5\n");
            for number in 0..40 {
                if number == 20 {
                    text.push_str(missing);
                }
                text.push_str(&format!("#EXT-X-PART:DURATION=0.5,URI=\"p{number}\"\n"));
                let at = f64::from(number) * 0.5 + if number < 20 { 0.0 } else { 2.0 };
                history.versions.push(version(at, &text));
            }
            evidence(vec![history])
        };
        assert!(!breaks(h04, &late(&gap)));
        assert!(breaks(h04, &late("")));
    }
}
