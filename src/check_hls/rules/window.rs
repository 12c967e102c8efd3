//! L09, L10, L12, L13: how much is listed, for how long it stays, and how it ends.

use super::each;
use crate::check_hls::evidence::Evidence;
use crate::check_hls::report::Broken;

/// Segments that a live window holds at least.
const FEWEST: usize = 6;

pub(super) fn l09(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history| {
        // A window that has not removed anything yet is still filling.
        let oldest = history.versions.iter().map(|version| version.playlist.media_sequence).min();
        let mut broken = Vec::new();
        for (index, version) in history.versions.iter().enumerate() {
            let playlist = &version.playlist;
            if Some(playlist.media_sequence) == oldest || playlist.ended {
                continue;
            }
            let (count, duration) = (playlist.segments.len(), playlist.duration());
            let least = 3.0 * playlist.target.unwrap_or_default() as f64;
            if count < FEWEST || duration < least {
                let what = format!("{count} segments, {duration:.3} s; {FEWEST} and {least} s are due");
                broken.push(Broken::new("L09", &history.url, what).seen(index, None));
            }
        }
        broken
    })
}

pub(super) fn l10(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history| {
        let typed = history.versions.iter().enumerate();
        let typed = typed.filter(|(_, version)| version.playlist.kind.is_some() && !version.playlist.ended);
        let broken = typed.map(|(index, version)| {
            let line = version.answer.text.lines().find(|line| line.starts_with("#EXT-X-PLAYLIST-TYPE"));
            let what = "a live playlist with EXT-X-PLAYLIST-TYPE";
            Broken::new("L10", &history.url, what).seen(index, line.map(str::to_owned))
        });
        broken.collect()
    })
}

/// The playlist went away although it was not over.
pub(super) fn l12(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history| {
        let Some(last) = history.versions.iter().rfind(|version| !version.aside) else {
            return Vec::new();
        };
        let gone = history.refusals.iter().find(|refusal| {
            matches!(refusal.answer.status, 404 | 410) && refusal.answer.sent > last.answer.done
        });
        let Some(gone) = gone.filter(|_| !last.playlist.ended) else { return Vec::new() };
        let what = format!("{} without EXT-X-ENDLIST in the version before", gone.answer.status);
        vec![Broken::new("L12", &history.url, what).seen(history.versions.len() - 1, None)]
    })
}

pub(super) fn l13(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history| {
        let gone = history.removed.iter().filter(|removed| !matches!(removed.answer.status, 200 | 206));
        let mut broken: Vec<Broken> = gone
            .map(|removed| {
                let what = format!(
                    "segment {} is {} {:.1} s after it was removed; it should be there for {:.1} s",
                    removed.sequence, removed.answer.status, removed.after, removed.available
                );
                Broken::new("L13", &removed.answer.url, what)
            })
            .collect();
        for (index, version) in history.versions.iter().enumerate() {
            let horizon = 3.0 * version.playlist.target.unwrap_or(u64::MAX) as f64;
            let mut from_end = 0.0;
            for segment in version.playlist.all().rev() {
                let mut end = from_end;
                for part in segment.parts.iter().rev() {
                    if end > horizon + 0.001 {
                        let what = format!(
                            "EXT-X-PART {end:.3} s before the end; three target durations are {horizon} s"
                        );
                        broken.push(
                            Broken::new("L13", &history.url, what).seen(index, version.quote(part.line)),
                        );
                        break;
                    }
                    end += part.duration;
                }
                let parts: f64 = segment.parts.iter().map(|part| part.duration).sum();
                from_end += if segment.media.is_some() { segment.duration } else { parts };
            }
        }
        broken
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::evidence::samples::{answer, breaks, evidence, history, live, version};
    use crate::check_hls::evidence::{History, Removed};

    fn segments(first: u64, count: u64) -> String {
        let segments: String = (first..first + count).map(|n| format!("#EXTINF:4,\ns{n}\n")).collect();
        live(first, &segments)
    }

    fn of(history: History) -> Evidence {
        evidence(vec![history])
    }

    #[test]
    fn l09_the_window_is_long_enough() {
        assert!(!breaks(l09, &of(history(&[&segments(1, 2), &segments(2, 6)]))));
        assert!(breaks(l09, &of(history(&[&segments(1, 5), &segments(2, 5)]))));
        let short = segments(2, 6).replace("INF:4", "INF:1.5");
        assert!(breaks(l09, &of(history(&[&segments(1, 6), &short]))));
    }

    #[test]
    fn l10_no_type() {
        assert!(!breaks(l10, &of(history(&[&segments(1, 1)]))));
        let event = segments(1, 1) + "#EXT-X-PLAYLIST-TYPE:EVENT\n";
        assert!(breaks(l10, &of(history(&[&event]))));
        assert!(!breaks(l10, &of(history(&[&(event + "#EXT-X-ENDLIST\n")]))));
    }

    #[test]
    fn l12_the_end_is_told() {
        let gone = |text: &str| {
            let mut history = history(&[text]);
            let mut refusal = version(5.0, "");
            refusal.answer.status = 404;
            history.refusals.push(refusal);
            of(history)
        };
        assert!(breaks(l12, &gone(&segments(1, 3))));
        assert!(!breaks(l12, &gone(&(segments(1, 3) + "#EXT-X-ENDLIST\n"))));
    }

    #[test]
    fn l13_what_was_removed_stays() {
        let removed = |status| {
            let mut history = history(&[&segments(1, 6)]);
            let answer = answer("s0", 9.0, status, "");
            history.removed.push(Removed { sequence: 0, after: 5.0, available: 28.0, answer });
            of(history)
        };
        assert!(!breaks(l13, &removed(200)));
        assert!(breaks(l13, &removed(404)));
    }

    #[test]
    fn l13_parts_only_near_the_end() {
        let with = |after: usize| {
            let part = "#EXT-X-PART:DURATION=4,URI=\"p\"\n#EXTINF:4,\np\n";
            of(history(&[&live(1, &(part.to_owned() + &"#EXTINF:4,\ns\n".repeat(after)))]))
        };
        assert!(!breaks(l13, &with(3)));
        assert!(breaks(l13, &with(4)));
    }
}
