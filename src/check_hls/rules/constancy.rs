//! L02: target duration and part target never change.

use super::each;
use crate::check_hls::evidence::Evidence;
use crate::check_hls::report::Broken;

pub(super) fn l02(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history| {
        let pairs = history.versions.iter().enumerate().zip(history.versions.iter().skip(1));
        let mut broken = Vec::new();
        for ((index, before), after) in pairs {
            let (old, new) = (&before.playlist, &after.playlist);
            if old.target != new.target {
                let what = format!("EXT-X-TARGETDURATION went from {:?} to {:?}", old.target, new.target);
                broken.push(changed(&history.url, what, index, "#EXT-X-TARGETDURATION", [before, after]));
            }
            if old.part_target != new.part_target {
                let what = format!("PART-TARGET went from {:?} to {:?}", old.part_target, new.part_target);
                broken.push(changed(&history.url, what, index, "#EXT-X-PART-INF", [before, after]));
            }
        }
        broken
    })
}

fn changed(
    url: &url::Url,
    what: String,
    index: usize,
    tag: &str,
    versions: [&crate::check_hls::evidence::Version; 2],
) -> Broken {
    let what = what.replace("Some(", "").replace(')', "").replace("None", "none");
    let line = |text: &str| text.lines().find(|line| line.starts_with(tag)).map(str::to_owned);
    let [before, after] = versions;
    Broken::new("L02", url, what)
        .seen(index, line(&before.answer.text))
        .seen(index + 1, line(&after.answer.text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::evidence::samples::{breaks, evidence, history, live};

    #[test]
    fn l02_durations_stay() {
        let first = live(1, "#EXT-X-PART-INF:PART-TARGET=0.5\n#EXTINF:4,\na.ts\n");
        let target = first.replace("DURATION:4", "DURATION:6");
        let part = first.replace("0.5", "0.6");
        assert!(!breaks(l02, &evidence(vec![history(&[&first, &first])])));
        assert!(breaks(l02, &evidence(vec![history(&[&first, &target])])));
        assert!(breaks(l02, &evidence(vec![history(&[&first, &part])])));
    }
}
