//! L08 and M03: date-times are there, agree with media time and with each other.

use super::each;
use crate::check_hls::evidence::{Evidence, History, Version};
use crate::check_hls::playlist::Segment;
use crate::check_hls::report::Broken;
use std::collections::BTreeMap;

/// What dates of segments may be off where the media can't be read.
const UNREAD: f64 = 0.1;
/// Dates have milliseconds.
const ROUNDING: f64 = 0.002;

pub(super) fn l08(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history| {
        let mut broken = Vec::new();
        // What is not live needs no dates.
        let live = |version: &Version| version.playlist.kind.as_deref() != Some("VOD");
        for (index, version) in history.versions.iter().enumerate().filter(|(_, version)| live(version)) {
            for (place, segment) in version.playlist.all().enumerate() {
                if segment.date.is_some() || place > 0 && segment.discontinuities == 0 {
                    continue;
                }
                let what = format!("no EXT-X-PROGRAM-DATE-TIME at segment {}", segment.sequence);
                let line = (segment.line > 0).then(|| version.quote(segment.line));
                broken.push(Broken::new("L08", &history.url, what).seen(index, line));
            }
        }
        broken
    })
}

/// Of a stretch without discontinuity: the date of media time 0, in seconds, and how exact that is.
type Origins = BTreeMap<u64, (f64, f64)>;

pub(super) fn m03(evidence: &Evidence) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut all: Vec<(&History, Origins)> = Vec::new();
    for history in &evidence.histories {
        let (origins, found) = origins(history);
        broken.extend(found);
        for (other, others) in &all {
            for (number, (origin, frame)) in &origins {
                let Some((theirs, other_frame)) = others.get(number) else { continue };
                let off = origin - theirs;
                if off.abs() > frame.max(*other_frame) + ROUNDING {
                    let what = format!(
                        "at equal media time, dates are {off:.3} s later than in {} (discontinuity sequence number {number})",
                        other.url
                    );
                    broken.push(Broken::new("M03", &history.url, what));
                }
            }
        }
        all.push((history, origins));
    }
    broken
}

/// The origin of each stretch, and where dates of one stretch contradict each other.
fn origins(history: &History) -> (Origins, Vec<Broken>) {
    let (mut origins, mut broken) = (Origins::new(), Vec::new());
    let mut before: Option<&Segment> = None;
    for (index, segment) in history.segments() {
        let found = |what: String| {
            let line = history.versions[index].quote(segment.line);
            Broken::new("M03", &history.url, what).seen(index, line)
        };
        let Some(date) = seconds(segment) else { continue };
        match start(history, segment) {
            Some((start, frame)) => {
                let (origin, first_frame) =
                    *origins.entry(segment.discontinuity_number).or_insert((date - start, frame));
                let off = date - start - origin;
                if off.abs() > frame.max(first_frame) + ROUNDING {
                    broken.push(found(format!("the date is {off:.3} s off, going by media time")));
                }
            }
            None => {
                let last = before.filter(|before| {
                    before.sequence + 1 == segment.sequence
                        && before.discontinuity_number == segment.discontinuity_number
                });
                let expected = last.and_then(|last| Some(seconds(last)? + last.duration));
                if let Some(off) = expected.map(|expected| date - expected).filter(|off| off.abs() > UNREAD) {
                    broken.push(found(format!("the date is {off:.3} s off, going by EXTINF")));
                }
            }
        }
        before = Some(segment);
    }
    (origins, broken)
}

fn seconds(segment: &Segment) -> Option<f64> {
    Some(segment.date?.timestamp_micros() as f64 / 1e6)
}

/// When the first picture, or sound, of a segment is presented, and its duration; seconds.
fn start(history: &History, segment: &Segment) -> Option<(f64, f64)> {
    let track = history.leading_track(segment)?;
    let samples = history.media(segment)?.content.samples().iter().filter(|sample| sample.track == track.id);
    let first = samples
        .clone()
        .map(|sample| sample.decode_time as i64 + i64::from(sample.composition_offset))
        .min()?;
    let longest = samples.map(|sample| sample.duration).max()?;
    let scale = f64::from(track.timescale);
    Some((first as f64 / scale, f64::from(longest) / scale))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::evidence::samples::{breaks, evidence, history, live, url};
    use crate::check_hls::rules::fixtures::Media;

    fn date(at: &str) -> String {
        format!("#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:{at}Z\n")
    }

    #[test]
    fn l08_dates_are_there() {
        let first = date("00.000");
        let told = live(1, &format!("{first}#EXTINF:2,\na\n#EXTINF:2,\nb\n"));
        let missing = live(1, &format!("#EXTINF:2,\na\n{first}#EXTINF:2,\nb\n"));
        let after = live(1, &format!("{first}#EXTINF:2,\na\n#EXT-X-DISCONTINUITY\n#EXTINF:2,\nb\n"));
        assert!(!breaks(l08, &evidence(vec![history(&[&told])])));
        assert!(breaks(l08, &evidence(vec![history(&[&missing])])));
        assert!(breaks(l08, &evidence(vec![history(&[&after])])));
        let whole = missing + "#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-ENDLIST\n";
        assert!(!breaks(l08, &evidence(vec![history(&[&whole])])));
    }

    #[test]
    fn m03_dates_go_with_media_time() {
        let text = |second: &str| {
            let (first, second) = (date("00.000"), date(second));
            live(1, &format!("#EXT-X-MAP:URI=\"i\"\n{first}#EXTINF:2,\na\n{second}#EXTINF:2,\nb\n"))
        };
        let media =
            |second: &str| Media::new(&text(second)).init("i").samples("a", 0, 50).samples("b", 50, 50);
        assert!(!breaks(m03, &media("02.000").evidence()));
        assert!(breaks(m03, &media("02.100").evidence()));
        // Without media, by the durations.
        assert!(!breaks(m03, &evidence(vec![history(&[&text("02.050")])])));
        assert!(breaks(m03, &evidence(vec![history(&[&text("02.200")])])));
    }

    #[test]
    fn m03_renditions_have_the_same_dates() {
        let rendition = |at: &str, name: &str| {
            let text = live(1, &format!("#EXT-X-MAP:URI=\"i\"\n{}#EXTINF:2,\na\n", date(at)));
            let mut history = Media::new(&text).init("i").samples("a", 0, 50).history();
            history.url = url(name);
            history
        };
        let pair = |at: &str| evidence(vec![rendition("00.000", "v.m3u8"), rendition(at, "w.m3u8")]);
        assert!(!breaks(m03, &pair("00.020")));
        assert!(breaks(m03, &pair("00.500")));
    }
}
