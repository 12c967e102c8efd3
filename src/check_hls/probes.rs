//! Requests at the edges of what the standard allows, and what should come of each.
//!
//! Each is made with a playlist fetched right before, since the edges move.

use super::client::Http;
use super::evidence::{Answer, Expect, Probe};
use super::playlist::{Playlist, Position, Resource};
use futures_util::future::{join, join_all};
use std::time::Duration;
use url::Url;

/// What depends on the moment is tried so often.
const TRIES: usize = 3;
/// How much longer than it may be held a request is waited for.
const OVERDUE: Duration = Duration::from_secs(2);

/// Parameters of a playlist request.
type Parameters = Vec<(&'static str, String)>;

/// One playlist and the way to it.
struct Prober<'a> {
    http: &'a Http,
    url: &'a Url,
}

/// Tries the edges of the playlist at `url`, which a moment ago was `known`.
pub(super) async fn run(http: &Http, url: &Url, known: &Playlist) -> Vec<Probe> {
    let target = known.target.unwrap_or(10).clamp(1, 60);
    let prober = Prober { http: &http.clone().patient(Duration::from_secs(3 * target) + OVERDUE), url };
    let mut probes = Vec::new();
    probes.push(prober.gzip().await);
    probes.extend(prober.unknown_names(known).await);
    if known.ended {
        probes.extend(prober.after_the_end(known).await);
    } else if known.can_block() {
        probes.extend(prober.deltas(known).await);
        let (quick, held) = join(prober.refused(known), prober.held(known)).await;
        probes.extend(quick.into_iter().chain(held));
    }
    probes
}

impl Prober<'_> {
    async fn ask(&self, rule: &'static str, parameters: Parameters, expect: Expect) -> Probe {
        let answer = self.http.playlist(self.url, &parameters).await;
        let pairs: Vec<String> = parameters.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Probe { rule, what: pairs.join("&"), expect, answer }
    }

    /// The playlist of this moment, whatever the server holds back from plain requests.
    async fn fresh(&self, known: &Playlist) -> Playlist {
        let answer = self.http.playlist(self.url, &block((known.media_sequence, None))).await;
        if answer.status == 200 { Playlist::parse(&answer.text, &answer.url) } else { known.clone() }
    }

    async fn gzip(&self) -> Probe {
        let answer = self.http.packed(self.url).await;
        Probe { rule: "L15", what: "Accept-Encoding: gzip".to_owned(), expect: Expect::Gzip, answer }
    }

    /// Names of media that never were: one beside a segment, one far ahead of the hint.
    async fn unknown_names(&self, known: &Playlist) -> Vec<Probe> {
        let segment = known.segments.last().and_then(|last| last.media.as_ref());
        let hint = known.hints.first().map(|hint| &hint.media);
        let names = [segment.map(|media| beside(&media.url)), hint.and_then(|media| far_ahead(&media.url))];
        let asked = names.into_iter().flatten().map(|url| async move {
            let (answer, _) = self.http.media(&Resource { url: url.clone(), range: None }).await;
            let what = format!("a name that is not listed: {}", url.path());
            Probe { rule: "H02", what, expect: Expect::Status(404), answer }
        });
        join_all(asked).await
    }

    async fn after_the_end(&self, known: &Playlist) -> Vec<Probe> {
        let last = known.segments.last().map_or(0, |last| last.sequence);
        let skip = vec![("_HLS_skip", "YES".to_owned())];
        let asked = [("D05", block((last + 5, None))), ("D05", block((last + 1, Some(0)))), ("D09", skip)];
        join_all(asked.map(|(rule, parameters)| self.ask(rule, parameters, Expect::Whole))).await
    }

    /// What must be refused, or answered, at once.
    async fn refused(&self, known: &Playlist) -> Vec<Probe> {
        let now = self.fresh(known).await;
        let open = now.open.sequence;
        let mut asked = vec![
            ("D04", block((0, None)), Expect::Whole),
            ("D04", block((now.media_sequence.saturating_sub(1000), Some(0))), Expect::Whole),
            ("D04", block((now.media_sequence.saturating_sub(1), Some(1))), Expect::Whole),
            // One further than need be: the playlist may go on while the request is on its way.
            ("D06", block((open + 3, None)), Expect::Status(400)),
            ("D06", block((open + 1_000_000, Some(0))), Expect::Status(400)),
            ("D07", vec![("_HLS_part", "0".to_owned())], Expect::Status(400)),
            ("D07", vec![("_HLS_unknown", "x".to_owned())], Expect::Plain),
        ];
        let malformed = ["abc", "-1", "1.5", ""];
        asked.extend(
            malformed.map(|value| ("D07", vec![("_HLS_msn", value.to_owned())], Expect::Status(400))),
        );
        let part = vec![("_HLS_msn", open.to_string()), ("_HLS_part", "x".to_owned())];
        asked.push(("D07", part, Expect::Status(400)));
        let asked = asked.into_iter().map(|(rule, parameters, expect)| self.ask(rule, parameters, expect));
        let (mut probes, beyond) = join(join_all(asked), self.beyond_the_limit(known)).await;
        probes.extend(beyond);
        probes
    }

    /// RFC 8216bis §6.2.5.2: a part beyond the advance part limit. If the segment was complete when the request
    /// came, the part is of the next and the request is right; then it is tried again.
    async fn beyond_the_limit(&self, known: &Playlist) -> Vec<Probe> {
        let Some(target) = known.part_target.filter(|target| *target > 0.0) else { return Vec::new() };
        let limit = if target < 1.0 { (3.0 / target).ceil() as u64 } else { 3 };
        for _ in 0..TRIES {
            let now = self.fresh(known).await;
            let beyond = (now.open.sequence, Some(now.open.parts.len() as u64 + 2 * limit));
            let asked = self.ask("D06", block(beyond), Expect::Status(400));
            let (probe, then) = join(asked, self.fresh(known)).await;
            let ended = then.open.sequence > now.open.sequence || is_of_the_next(&probe, &now, target);
            if probe.answer.status == 400 || !ended {
                return vec![probe];
            }
        }
        Vec::new()
    }

    /// What must be held until it is there.
    async fn held(&self, known: &Playlist) -> Vec<Probe> {
        let now = self.fresh(known).await;
        let open = now.open.sequence;
        let mut asked = vec![("D01", (open, None)), ("D01", (open + 1, None))];
        if now.part_target.is_some() {
            asked.push(("D02", (open, Some(now.open.parts.len() as u64 + 1))));
            if let Some(last) = now.segments.last().filter(|last| !last.parts.is_empty()) {
                asked.push(("D03", (last.sequence, Some(last.parts.len() as u64))));
            }
        }
        let probes = asked.into_iter().map(|(rule, asked)| {
            let position = if rule == "D03" { (asked.0 + 1, Some(0)) } else { asked };
            self.ask(rule, block(asked), Expect::Holds { position })
        });
        join_all(probes).await
    }

    async fn deltas(&self, known: &Playlist) -> Vec<Probe> {
        let Some(until) = known.control.as_ref().and_then(|control| control.can_skip_until) else {
            return Vec::new();
        };
        let mut probes = Vec::new();
        for value in ["YES", "v2"] {
            let now = self.fresh(known).await;
            let first = now.segments.first().map_or(0.0, |first| first.duration);
            // RFC 8216bis §6.2.5.1: only what is further from the end than the skip boundary is skipped.
            let expect =
                if now.duration() - first > until + first { Expect::Delta } else { Expect::Playlist };
            let position = block((now.media_sequence, None));
            let parameters = position.into_iter().chain([("_HLS_skip", value.to_owned())]).collect();
            probes.push(self.ask("D09", parameters, expect).await);
        }
        probes
    }
}

/// The directives that ask for `position`.
fn block((sequence, part): Position) -> Parameters {
    let part = part.map(|part| ("_HLS_part", part.to_string()));
    [("_HLS_msn", sequence.to_string())].into_iter().chain(part).collect()
}

/// Whether an answer shows that the segment which was open in `before` had ended when its request came: it lists
/// the next one, and was not held for longer than that one's first part takes.
fn is_of_the_next(probe: &Probe, before: &Playlist, part_target: f64) -> bool {
    let Answer { status, sent, done, text, url, .. } = &probe.answer;
    *status == 200
        && done - sent <= 1.5 * part_target
        && Playlist::parse(text, url).open.sequence > before.open.sequence
}

/// A name of the same form that was never listed.
fn beside(url: &Url) -> Url {
    let mut beside = url.clone();
    let path = url.path();
    let (stem, extension) = path.rsplit_once('.').unwrap_or((path, ""));
    beside.set_path(&format!("{stem}-never-listed.{extension}"));
    beside
}

/// The name with its last number raised by far.
fn far_ahead(url: &Url) -> Option<Url> {
    let path = url.path();
    let stem = path.rfind('.').unwrap_or(path.len());
    let end = path[..stem].rfind(|c: char| c.is_ascii_digit())? + 1;
    let start = path[..end].rfind(|c: char| !c.is_ascii_digit()).map_or(0, |before| before + 1);
    let number: u64 = path[start..end].parse().ok()?;
    let mut ahead = url.clone();
    ahead.set_path(&format!("{}{}{}", &path[..start], number.checked_add(100_000)?, &path[end..]));
    Some(ahead)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::evidence::samples::{answer, live};

    #[test]
    fn a_segment_that_ended_on_the_way_makes_the_request_one_for_the_next() {
        let text = |segments: usize| live(5, &"#EXTINF:2,\na\n".repeat(segments));
        let url = Url::parse("http://h/v.m3u8").expect("a URL");
        let before = Playlist::parse(&text(2), &url);
        let probe = |took: f64, status, segments| {
            let mut answer = answer("v.m3u8", 0.0, status, &text(segments));
            answer.done = took;
            Probe { rule: "D06", what: String::new(), expect: Expect::Status(400), answer }
        };
        assert!(is_of_the_next(&probe(0.4, 200, 3), &before, 0.3));
        assert!(!is_of_the_next(&probe(0.4, 200, 2), &before, 0.3), "it has not ended");
        assert!(!is_of_the_next(&probe(1.9, 200, 3), &before, 0.3), "held until it ended");
        assert!(!is_of_the_next(&probe(0.4, 503, 3), &before, 0.3));
    }

    #[test]
    fn unknown_names_have_the_form_of_known_ones() {
        let url = Url::parse("http://h/s/video-c0ffee-part12.m4s").expect("a URL");
        assert_eq!(beside(&url).path(), "/s/video-c0ffee-part12-never-listed.m4s");
        assert_eq!(far_ahead(&url).as_ref().map(Url::path), Some("/s/video-c0ffee-part100012.m4s"));
        assert_eq!(far_ahead(&Url::parse("http://h/s/part").expect("a URL")), None);
    }
}
