//! M04: parts that say they are independent are.

use super::each;
use crate::check_hls::evidence::Evidence;
use crate::check_hls::media::{Content, Kind};
use crate::check_hls::report::Broken;
use std::collections::BTreeSet;

pub(super) fn m04(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history| {
        let mut broken = Vec::new();
        let mut seen = BTreeSet::new();
        for (index, version) in history.versions.iter().enumerate() {
            for segment in version.playlist.all() {
                let Some(video) = history.init(segment).and_then(|init| init.of_kind(Kind::Video)) else {
                    continue;
                };
                for part in segment.parts.iter().filter(|part| part.independent) {
                    let Some(file) = history.fetched.get(&part.media) else { continue };
                    if begins_with_sync(&file.content, video.id) == Some(false) && seen.insert(&part.media) {
                        let what = "INDEPENDENT=YES, but it does not begin with a sync sample";
                        broken.push(
                            Broken::new("M04", &history.url, what).seen(index, version.quote(part.line)),
                        );
                    }
                }
            }
        }
        broken
    })
}

/// Whether the first sample of `track` is one to start with; `None` if that can't be told.
pub(super) fn begins_with_sync(media: &Content, track: u32) -> Option<bool> {
    media.samples().iter().find(|sample| sample.track == track).map(|sample| sample.sync)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::evidence::samples::{breaks, live};
    use crate::check_hls::rules::fixtures::Media;

    #[test]
    fn m04_independent_parts() {
        let text = live(1, "#EXT-X-MAP:URI=\"i\"\n#EXT-X-PART:DURATION=1,URI=\"p\",INDEPENDENT=YES\n");
        let media = |first| Media::new(&text).init("i").samples("p", first, 25).evidence();
        assert!(!breaks(m04, &media(10)));
        assert!(breaks(m04, &media(11)));
    }
}
