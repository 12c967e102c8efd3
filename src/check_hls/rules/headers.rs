//! L15 and L17: how answers are packed, and for how long they may be cached.

use super::each;
use crate::check_hls::evidence::{Answer, Evidence, Expect};
use crate::check_hls::report::Broken;

/// Seconds that media should be cached at least, and errors at most.
const MEDIA: u64 = 3600;
const ERRORS: u64 = 10;

pub(super) fn l15(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history| {
        let asked =
            history.probes.iter().filter(|probe| probe.expect == Expect::Gzip && probe.answer.status == 200);
        let plain = asked.filter(|probe| probe.answer.content_encoding.as_deref() != Some("gzip"));
        plain
            .map(|_| Broken::new("L15", &history.url, "not gzipped, although the client accepts it"))
            .collect()
    })
}

pub(super) fn l17(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history| {
        let mut broken = Vec::new();
        for fetched in history.fetched.values().filter(|file| matches!(file.answer.status, 200 | 206)) {
            let cache = Cache::of(&fetched.answer);
            if cache.max_age.is_none_or(|age| age < MEDIA) || !cache.immutable {
                broken.push(wrong(
                    &fetched.answer,
                    "media that never changes: a long max-age and immutable are due",
                ));
            }
        }
        broken.sort_by(|a, b| a.url.cmp(&b.url));
        for (index, version) in history.versions.iter().enumerate() {
            let target = version.playlist.target.unwrap_or(1).max(1);
            // A blocking answer never changes either; it is kept for those who ask later.
            let most = if version.asked.is_some() || version.playlist.ended { 6 * target } else { target };
            if Cache::of(&version.answer).seconds().is_none_or(|age| age > most) {
                let what = format!("a playlist: at most {most} s are due");
                broken.push(wrong(&version.answer, &what).seen(index, None));
            }
        }
        let probes = history.probes.iter().map(|probe| &probe.answer);
        for answer in probes.filter(|answer| answer.status >= 400) {
            if Cache::of(answer).seconds().is_none_or(|age| age > ERRORS) {
                broken.push(wrong(answer, &format!("an error {}: about a second is due", answer.status)));
            }
        }
        broken
    })
}

fn wrong(answer: &Answer, what: &str) -> Broken {
    let told = answer.cache_control.as_deref();
    let line = told.map_or_else(|| "no Cache-Control".to_owned(), |told| format!("Cache-Control: {told}"));
    let mut broken = Broken::new("L17", &answer.url, what);
    broken.lines.push(line);
    broken
}

/// `Cache-Control` (RFC 9111 §5.2.2).
#[derive(Default)]
struct Cache {
    max_age: Option<u64>,
    immutable: bool,
    never: bool,
}

impl Cache {
    fn of(answer: &Answer) -> Self {
        let mut cache = Self::default();
        for directive in answer.cache_control.as_deref().unwrap_or_default().split(',') {
            let (name, value) = directive.trim().split_once('=').unwrap_or((directive.trim(), ""));
            match name.to_ascii_lowercase().as_str() {
                "max-age" => cache.max_age = value.trim_matches('"').parse().ok(),
                "immutable" => cache.immutable = true,
                "no-store" | "no-cache" => cache.never = true,
                _ => {}
            }
        }
        cache
    }

    /// For how long it may be served without asking.
    fn seconds(&self) -> Option<u64> {
        if self.never { Some(0) } else { self.max_age }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::evidence::Probe;
    use crate::check_hls::evidence::samples::{answer, breaks, evidence, history, live};
    use crate::check_hls::rules::fixtures::Media;

    fn probe(expect: Expect, answer: Answer) -> Evidence {
        let mut history = history(&[]);
        history.probes.push(Probe { rule: "L15", what: String::new(), expect, answer });
        evidence(vec![history])
    }

    #[test]
    fn l15_gzip() {
        let mut packed = answer("v.m3u8", 0.0, 200, "");
        assert!(breaks(l15, &probe(Expect::Gzip, packed.clone())));
        packed.content_encoding = Some("gzip".to_owned());
        assert!(!breaks(l15, &probe(Expect::Gzip, packed)));
    }

    #[test]
    fn l17_media_for_long() {
        let media = |control: Option<&str>| {
            let mut evidence = Media::new(&live(1, "")).samples("a", 0, 9).evidence();
            evidence.histories[0].versions.clear();
            let file = evidence.histories[0].fetched.values_mut().next().expect("a file");
            file.answer.cache_control = control.map(str::to_owned);
            evidence
        };
        assert!(!breaks(l17, &media(Some("public, max-age=31536000, immutable"))));
        assert!(breaks(l17, &media(Some("public, max-age=31536000"))));
        assert!(breaks(l17, &media(Some("max-age=1, immutable"))));
        assert!(breaks(l17, &media(None)));
    }

    #[test]
    fn l17_playlists_and_errors_shortly() {
        let playlist = |control: Option<&str>| {
            let mut history = history(&[&live(1, "")]);
            history.versions[0].answer.cache_control = control.map(str::to_owned);
            evidence(vec![history])
        };
        assert!(!breaks(l17, &playlist(Some("max-age=2"))));
        assert!(!breaks(l17, &playlist(Some("no-cache"))));
        assert!(breaks(l17, &playlist(Some("max-age=60"))));
        assert!(breaks(l17, &playlist(None)));
        let error = |control: Option<&str>| {
            let mut error = answer("x", 0.0, 404, "");
            error.cache_control = control.map(str::to_owned);
            probe(Expect::Status(404), error)
        };
        assert!(!breaks(l17, &error(Some("max-age=1"))));
        assert!(breaks(l17, &error(Some("max-age=600"))));
        assert!(breaks(l17, &error(None)));
    }
}
