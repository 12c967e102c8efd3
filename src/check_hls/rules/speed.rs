//! L14: what is listed is there, and comes at line speed.

use super::each;
use crate::check_hls::evidence::{Evidence, Fetched};
use crate::check_hls::report::Broken;

/// Bytes a second that any line carries.
pub(super) const SLOWEST: f64 = 500_000.0;

pub(super) fn l14(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history| {
        let quickest = history.versions.iter().map(|version| version.answer.headed - version.answer.sent);
        let quickest = quickest.fold(f64::INFINITY, f64::min).clamp(0.0, 1.0);
        let mut broken = Vec::new();
        for Fetched { answer, digest, .. } in history.fetched.values() {
            let mut found = |what: String| broken.push(Broken::new("L14", &answer.url, what));
            if !matches!(answer.status, 200 | 206) {
                let why = answer.error.as_deref().unwrap_or("it is listed");
                found(format!("{}, {why}", answer.status));
                continue;
            }
            let (waited, took) = (answer.headed - answer.sent, answer.done - answer.headed);
            if waited > evidence.tolerance + 3.0 * quickest {
                found(format!("{waited:.3} s until the first byte, although it is listed"));
            }
            let most = evidence.tolerance + digest.length as f64 / SLOWEST;
            if took > most {
                found(format!("{} bytes took {took:.3} s; {most:.3} s are due", digest.length));
            }
        }
        broken.sort_by(|a, b| a.url.cmp(&b.url));
        broken
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::evidence::samples::{breaks, live};
    use crate::check_hls::rules::fixtures::Media;

    #[test]
    fn l14_media_comes_at_once() {
        let media = |change: fn(&mut Fetched)| {
            let mut evidence = Media::new(&live(1, "#EXTINF:4,\na\n")).samples("a", 0, 9).evidence();
            evidence.histories[0].fetched.values_mut().for_each(change);
            evidence
        };
        assert!(!breaks(l14, &media(|_| {})));
        assert!(breaks(l14, &media(|file| file.answer.status = 404)));
        assert!(breaks(l14, &media(|file| file.answer.done += 1.0)));
        assert!(breaks(
            l14,
            &media(|file| {
                file.answer.headed += 1.0;
                file.answer.done += 1.0;
            })
        ));
    }
}
