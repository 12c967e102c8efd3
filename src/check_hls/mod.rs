//! `tidegate check-hls`: is a live stream, anybody's, HLS to the letter (RFC 8216bis)?
//!
//! Follows all playlists of a stream as a player does, keeps every version it was served, fetches every
//! part, hint, initialization section and segment, tries the delivery directives at their edges, and gives
//! a [`Report`] of each line of the standard that was broken, with the evidence.
//!
//! Knows nothing of the server beside it: what reads playlists and media here shares no code with what
//! writes them. The client gathers [`evidence`]; the [`rules`] are pure functions of it.
//!
//! What it doesn't do: decode media, look into MPEG-2 TS or encrypted media, follow I-frame playlists,
//! subtitles or content steering.

mod client;
mod digest;
mod evidence;
mod follow;
mod lines;
mod media;
mod multivariant;
mod playlist;
mod probes;
mod report;
mod rules;

pub use report::{Broken, Report, Seen};

use client::Http;
use evidence::{Answer, Evidence, History};
use futures_util::future::join_all;
use media::Content;
use multivariant::{Multivariant, is_multivariant};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use url::Url;

/// What is to be checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// A multivariant or a media playlist.
    pub url: Url,
    /// For how long the stream is followed.
    pub duration: Duration,
    /// What judgements by the clock allow for the network and the machine.
    pub tolerance: Duration,
}

/// Why a stream could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// No client can be made on this machine.
    #[error("no HTTP client can be made: {0}")]
    Client(String),
    /// The server does not answer, or not with a playlist.
    #[error("{url} can't be fetched: {why}")]
    Unreachable {
        /// What was asked for.
        url: Url,
        /// What came instead.
        why: String,
    },
    /// What came is no playlist.
    #[error("{0} is no HLS playlist: its first line is not #EXTM3U")]
    NoPlaylist(Url),
}

/// Before the multivariant playlist is read a last time.
const LAST_LOOK: Duration = Duration::from_millis(500);

impl Check {
    /// Follows the stream for its time and judges what was seen. Cancel safe: nothing remains.
    ///
    /// # Errors
    /// If there is nothing to judge.
    pub async fn run(&self) -> Result<Report, CheckError> {
        let evidence = self.gather().await?;
        let mut report = Report { url: self.url.to_string(), ..Report::default() };
        for rule in rules::RULES {
            report.add((rule.check)(&evidence));
        }
        report.not_judged = not_judged(&evidence);
        report.seen = evidence.histories.iter().map(seen).collect();
        Ok(report)
    }

    async fn gather(&self) -> Result<Evidence, CheckError> {
        let start = Instant::now();
        let deadline = start + self.duration;
        let http = Http::new(start.into_std()).map_err(|error| CheckError::Client(error.to_string()))?;
        let first = http.playlist(&self.url, &[]).await;
        if first.status != 200 {
            let why = first.error.unwrap_or_else(|| format!("{} comes back", first.status));
            return Err(CheckError::Unreachable { url: self.url.clone(), why });
        }
        if !first.text.starts_with("#EXTM3U") {
            return Err(CheckError::NoPlaylist(self.url.clone()));
        }
        let mut evidence = Evidence { tolerance: self.tolerance.as_secs_f64(), ..Evidence::default() };
        let mut urls = vec![first.url.clone()];
        if is_multivariant(&first.text) {
            let playlist = Multivariant::parse(&first.text, &first.url);
            urls = playlists(&playlist);
            evidence.multivariants.push((first, playlist));
        }
        let followed = join_all(urls.into_iter().map(|url| follow::follow(http.clone(), url, deadline)));
        let last = self.last_look(&http, !evidence.multivariants.is_empty(), deadline);
        let (histories, last) = tokio::join!(followed, last);
        evidence.histories = histories;
        evidence.multivariants.extend(last);
        let nothing = evidence.histories.iter().find(|history| history.versions.is_empty());
        match nothing {
            Some(history) => Err(unreachable(history)),
            None => Ok(evidence),
        }
    }

    /// The multivariant playlist at the end: bandwidths are known better by then.
    async fn last_look(
        &self,
        http: &Http,
        wanted: bool,
        deadline: Instant,
    ) -> Option<(Answer, Multivariant)> {
        sleep_until(deadline.checked_sub(LAST_LOOK).filter(|_| wanted)?).await;
        let answer = http.playlist(&self.url, &[]).await;
        let playlist = Multivariant::parse(&answer.text, &answer.url);
        (answer.status == 200).then_some((answer, playlist))
    }
}

/// The media playlists of a presentation, each once; subtitles are not followed.
fn playlists(playlist: &Multivariant) -> Vec<Url> {
    let media =
        playlist.renditions.iter().filter(|rendition| matches!(rendition.kind.as_str(), "AUDIO" | "VIDEO"));
    let all = playlist
        .variants
        .iter()
        .map(|variant| &variant.url)
        .chain(media.filter_map(|media| media.url.as_ref()));
    let mut seen = BTreeSet::new();
    all.filter(|url| seen.insert(*url)).cloned().collect()
}

fn unreachable(history: &History) -> CheckError {
    let refusal = history.refusals.last().map(|refusal| &refusal.answer);
    let why = refusal.map_or_else(
        || "no answer in the time of the check".to_owned(),
        |answer| answer.error.clone().unwrap_or_else(|| format!("{} comes back", answer.status)),
    );
    CheckError::Unreachable { url: history.url.clone(), why }
}

fn seen(history: &History) -> Seen {
    Seen {
        url: history.url.to_string(),
        versions: history.versions.len(),
        files: history.fetched.len() + history.hints.len(),
        probes: history.probes.len() + history.removed.len(),
    }
}

/// What the evidence does not allow to judge.
fn not_judged(evidence: &Evidence) -> Vec<String> {
    let mut all = Vec::new();
    if evidence.multivariants.is_empty() {
        all.push("L18, D10: a media playlist was given, not a multivariant one".to_owned());
    }
    for history in &evidence.histories {
        let mut add = |what: &str| all.push(format!("{}: {what}", history.url));
        let last = history.versions.last().map(|version| &version.playlist);
        if last.is_some_and(|last| !last.can_block()) {
            add("D01–D10: no blocking reload is offered");
        }
        if history.probing {
            add("D01–D09, H02, L15: the check ended before the requests at the edges were answered");
        }
        let segments = history.segments();
        if segments.iter().any(|(_, segment)| segment.encrypted)
            || segments
                .iter()
                .any(|(_, segment)| history.init(segment).is_some_and(|init| init.is_encrypted()))
        {
            add("L07, L16, L18, M02, M04: its media is encrypted");
        } else if segments.iter().any(|(_, segment)| {
            history
                .media(segment)
                .is_some_and(|media| media.content == Content::Opaque && media.answer.status < 300)
        }) {
            add("L07, L16, L18, M02, M04: its media is no fragmented MP4");
        }
    }
    all
}

/// The rules, with what each says.
pub fn rules() -> impl Iterator<Item = (&'static str, &'static str)> {
    rules::RULES.iter().map(|rule| (rule.id, rule.says))
}
