//! L16: `EXT-X-VERSION` and `EXT-X-INDEPENDENT-SEGMENTS` are true.

use super::each;
use super::independence::begins_with_sync;
use crate::check_hls::evidence::{Evidence, Version};
use crate::check_hls::media::Kind;
use crate::check_hls::report::Broken;

pub(super) fn l16(evidence: &Evidence) -> Vec<Broken> {
    let everywhere = evidence.multivariants.iter().any(|(_, playlist)| playlist.independent_segments);
    each(evidence, |history| {
        let mut broken = Vec::new();
        for (index, version) in history.versions.iter().enumerate() {
            let (told, (needed, by)) = (version.playlist.version, needs(version));
            if told != needed {
                let what = format!("EXT-X-VERSION is {told}, but {by} needs {needed}");
                let line = version.answer.text.lines().find(|line| line.starts_with("#EXT-X-VERSION"));
                broken.push(Broken::new("L16", &history.url, what).seen(index, line.map(str::to_owned)));
            }
        }
        let claims =
            everywhere || history.versions.iter().any(|version| version.playlist.independent_segments);
        for (index, segment) in history.segments().into_iter().filter(|_| claims) {
            let video = history.init(segment).and_then(|init| init.of_kind(Kind::Video));
            let media = history.media(segment).map(|media| &media.content);
            if let (Some(video), Some(media)) = (video, media)
                && begins_with_sync(media, video.id) == Some(false)
            {
                let what = format!(
                    "segment {} does not begin with a sync sample, but EXT-X-INDEPENDENT-SEGMENTS claims it",
                    segment.sequence
                );
                let line = history.versions[index].quote(segment.line);
                broken.push(Broken::new("L16", &history.url, what).seen(index, line));
            }
        }
        broken
    })
}

/// The lowest version that allows what is used. Whole numbers as durations are allowed in any, so 3 is right
/// for a server whose durations happen to be whole.
fn needs(version: &Version) -> (u64, &'static str) {
    let playlist = &version.playlist;
    let lenient = playlist.needs.0 < 3 && playlist.version == 3;
    if lenient { (3, playlist.needs.1) } else { playlist.needs }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::evidence::samples::{breaks, evidence, history, live};
    use crate::check_hls::rules::fixtures::Media;

    #[test]
    fn l16_the_version_fits() {
        let with = |version: &str, rest: &str| {
            let text = live(1, rest).replace("VERSION:6", &format!("VERSION:{version}"));
            evidence(vec![history(&[&text])])
        };
        assert!(!breaks(l16, &with("6", "#EXT-X-MAP:URI=\"i\"\n#EXTINF:4.0,\na\n")));
        assert!(breaks(l16, &with("9", "#EXT-X-MAP:URI=\"i\"\n#EXTINF:4.0,\na\n")));
        assert!(breaks(l16, &with("3", "#EXT-X-MAP:URI=\"i\"\n#EXTINF:4.0,\na\n")));
        assert!(!breaks(l16, &with("9", "#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n")));
        assert!(!breaks(l16, &with("3", "#EXTINF:4,\na.ts\n")));
    }

    #[test]
    fn l16_independent_segments_begin_with_sync_samples() {
        let text = "#EXT-X-MAP:URI=\"i\"\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXTINF:4,\na\n";
        let media =
            |text: &str, first| Media::new(&live(1, text)).init("i").samples("a", first, 50).evidence();
        assert!(!breaks(l16, &media(text, 0)));
        assert!(breaks(l16, &media(text, 5)));
        assert!(!breaks(l16, &media(&text.replace("#EXT-X-INDEPENDENT-SEGMENTS\n", ""), 5)));
    }
}
