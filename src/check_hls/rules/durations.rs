//! L01 and M02: durations against the targets, and against the media.

use super::each;
use crate::check_hls::evidence::{Evidence, History};
use crate::check_hls::media::{Kind, Sample};
use crate::check_hls::playlist::{Resource, Segment};
use crate::check_hls::report::Broken;

pub(super) fn l01(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history| {
        let mut broken = Vec::new();
        for (index, segment) in history.segments() {
            let version = &history.versions[index];
            let Some(target) = version.playlist.target else { continue };
            if segment.duration.round() > target as f64 {
                let what =
                    format!("a segment of {} s where the target duration is {target} s", segment.duration);
                broken.push(Broken::new("L01", &history.url, what).seen(index, version.quote(segment.line)));
            }
        }
        for (index, version) in history.versions.iter().enumerate() {
            let Some(target) = version.playlist.part_target else { continue };
            let newest = version.playlist.all().rev().take(2).flat_map(|segment| segment.parts.iter());
            for part in newest.filter(|part| part.duration > target + 1e-4) {
                let what = format!("a part of {} s where PART-TARGET is {target} s", part.duration);
                broken.push(Broken::new("L01", &history.url, what).seen(index, version.quote(part.line)));
            }
        }
        broken.dedup_by(|a, b| a.what == b.what && a.lines == b.lines);
        broken
    })
}

/// What is told of a segment or part is the sum of its samples' durations, within one of them.
pub(super) fn m02(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history| {
        let mut broken = Vec::new();
        for (index, segment) in history.segments() {
            let told = segment.parts.iter().map(|part| (&part.media, part.duration, part.line));
            let whole = segment.media.as_ref().map(|media| (media, segment.duration, segment.line));
            for (media, told, line) in told.chain(whole) {
                let Some((found, frame)) = measured(history, segment, media) else { continue };
                if (told - found).abs() > frame + 0.001 {
                    let what = format!("{told} s are told, but the media lasts {found:.5} s: {}", media.url);
                    let line = (line > 0).then(|| history.versions[index].quote(line));
                    broken.push(Broken::new("M02", &history.url, what).seen(index, line));
                }
            }
        }
        broken
    })
}

/// Seconds of media in a file, and of its longest sample; of the leading track.
fn measured(history: &History, segment: &Segment, media: &Resource) -> Option<(f64, f64)> {
    let init = history.init(segment)?;
    let track = init.of_kind(Kind::Video).or_else(|| init.of_kind(Kind::Audio))?;
    let samples = history.fetched.get(media)?.content.samples();
    let durations =
        samples.iter().filter(|sample| sample.track == track.id).map(|sample: &Sample| sample.duration);
    let (sum, longest) =
        durations.fold((0, 0), |(sum, longest), duration| (sum + u64::from(duration), longest.max(duration)));
    let scale = f64::from(track.timescale);
    (sum > 0).then(|| (sum as f64 / scale, f64::from(longest) / scale))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::evidence::samples::{breaks, evidence, history, live};
    use crate::check_hls::rules::fixtures::Media;

    #[test]
    fn l01_rounded_durations() {
        let with =
            |duration: &str| evidence(vec![history(&[&live(1, &format!("#EXTINF:{duration},\na\n"))])]);
        assert!(!breaks(l01, &with("4.49")));
        assert!(breaks(l01, &with("4.5")));
        let part = |duration: &str| {
            let part =
                format!("#EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-PART:DURATION={duration},URI=\"p\"\n");
            evidence(vec![history(&[&live(1, &part)])])
        };
        assert!(!breaks(l01, &part("0.5")));
        assert!(breaks(l01, &part("0.51")));
    }

    #[test]
    fn m02_durations_of_the_media() {
        let text = live(1, "#EXT-X-MAP:URI=\"i\"\n#EXTINF:2.00000,\na\n");
        let media = |count| Media::new(&text).init("i").samples("a", 0, count).evidence();
        assert!(!breaks(m02, &media(50)));
        assert!(!breaks(m02, &media(49)));
        assert!(breaks(m02, &media(45)));
    }
}
