//! What was gathered: every version of every playlist, all that it lists, and the answers to probes.
//!
//! Moments are seconds since the check began. Pure data: the rules read it, the client fills it.

use super::digest::Digest;
use super::lines::quote;
use super::media::{Content, Init, Kind, Track};
use super::multivariant::Multivariant;
use super::playlist::{Playlist, Position, Resource, Segment};
use std::collections::HashMap;
use std::sync::Arc;
use url::Url;

/// Everything about one stream.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// Seconds that judgements by the clock allow for the network and the machine.
    pub tolerance: f64,
    /// Each version of the multivariant playlist, with its URL; empty if a media playlist was given.
    pub multivariants: Vec<(Answer, Multivariant)>,
    /// One for each media playlist.
    pub histories: Vec<History>,
}

/// What a server answered to one request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    pub url: Url,
    /// When the request left, when the head was here, when all was here.
    pub sent: f64,
    pub headed: f64,
    pub done: f64,
    /// 0 if there was no answer.
    pub status: u16,
    pub cache_control: Option<String>,
    pub content_encoding: Option<String>,
    /// The body of a playlist; of media, nothing.
    pub text: Arc<str>,
    /// What went wrong, if there was no answer.
    pub error: Option<String>,
}

/// One version of a media playlist.
#[derive(Debug)]
pub(super) struct Version {
    pub answer: Answer,
    /// What was asked for with `_HLS_msn` and `_HLS_part`.
    pub asked: Option<Position>,
    /// `_HLS_skip` was asked for.
    pub asked_skip: bool,
    /// Fetched beside the others, without directives.
    pub aside: bool,
    /// Made whole if it was a delta update.
    pub playlist: Playlist,
    /// Why it could not be made whole.
    pub incomplete: Option<String>,
}

/// One media playlist over time.
#[derive(Debug)]
pub(super) struct History {
    pub url: Url,
    /// In the order in which they were asked for.
    pub versions: Vec<Version>,
    /// Requests for the playlist that gave none.
    pub refusals: Vec<Version>,
    pub fetched: HashMap<Resource, Fetched>,
    /// What was fetched because it was hinted.
    pub hints: Vec<HintFetched>,
    /// Segments fetched again after they had left the playlist.
    pub removed: Vec<Removed>,
    pub probes: Vec<Probe>,
    /// The check ended before all probes were answered.
    pub probing: bool,
}

/// A file of media.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    pub answer: Answer,
    pub digest: Digest,
    pub content: Content,
}

/// A hint that was followed.
#[derive(Clone, Debug)]
pub(super) struct HintFetched {
    pub media: Resource,
    /// Which of the versions hinted at it first.
    pub version: usize,
    pub fetched: Fetched,
}

/// A segment that had left the playlist.
#[derive(Clone, Debug)]
pub(super) struct Removed {
    pub sequence: u64,
    /// Seconds since it left, and how long it should be there (RFC 8216bis §6.2.2).
    pub after: f64,
    pub available: f64,
    pub answer: Answer,
}

/// A request at the edge of what is allowed, and what should come of it.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    /// The line of the checklist.
    pub rule: &'static str,
    /// What is asked, in words.
    pub what: String,
    pub expect: Expect,
    pub answer: Answer,
}

/// What should come of a probe.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expect {
    /// This status, at once.
    Status(u16),
    /// A playlist that holds this, whenever it does.
    Holds { position: Position },
    /// A whole playlist, at once.
    Whole,
    /// A whole playlist, as a request without directives gets it: an origin may let a player wait that comes anew.
    Plain,
    /// A delta update, at once.
    Delta,
    /// A playlist of either kind, at once.
    Playlist,
    /// `Content-Encoding: gzip`.
    Gzip,
}

impl Version {
    /// The line as evidence.
    pub fn quote(&self, line: usize) -> String {
        quote(&self.answer.text, line)
    }
}

impl History {
    /// A history of nothing.
    pub fn new(url: Url) -> Self {
        Self {
            url,
            versions: Vec::new(),
            refusals: Vec::new(),
            fetched: HashMap::new(),
            hints: Vec::new(),
            removed: Vec::new(),
            probes: Vec::new(),
            probing: false,
        }
    }

    /// Versions with their index, by what they hold; those that hold the same, in order of arrival.
    pub fn by_edge(&self) -> Vec<(usize, &Version)> {
        let mut order: Vec<(usize, &Version)> = self.versions.iter().enumerate().collect();
        let key = |version: &Version| {
            (version.playlist.media_sequence, edge(&version.playlist), version.playlist.ended)
        };
        order.sort_by_key(|(_, version)| key(version));
        order
    }

    /// Each segment once it was complete, in order, with the version that listed it first.
    pub fn segments(&self) -> Vec<(usize, &Segment)> {
        let mut seen: std::collections::BTreeMap<u64, (usize, &Segment)> = Default::default();
        for (index, version) in self.versions.iter().enumerate() {
            for segment in &version.playlist.segments {
                // The first may be without parts if it was skipped or old: the fullest tells most.
                let entry = seen.entry(segment.sequence).or_insert((index, segment));
                if entry.1.parts.len() < segment.parts.len() {
                    *entry = (index, segment);
                }
            }
        }
        seen.into_values().collect()
    }

    pub fn init(&self, segment: &Segment) -> Option<&Arc<Init>> {
        match &self.fetched.get(segment.map.as_ref()?)?.content {
            Content::Init(init) => Some(init),
            _ => None,
        }
    }

    /// What a segment holds, if it was fetched.
    pub fn media(&self, segment: &Segment) -> Option<&Fetched> {
        self.fetched.get(segment.media.as_ref()?)
    }

    /// The track that paces a segment: its video, else its sound.
    pub fn leading_track(&self, segment: &Segment) -> Option<&Track> {
        let init = self.init(segment)?;
        init.of_kind(Kind::Video).or_else(|| init.of_kind(Kind::Audio))
    }

    pub fn target(&self) -> Option<f64> {
        self.versions.first()?.playlist.target.map(|target| target as f64)
    }

    pub fn part_target(&self) -> Option<f64> {
        self.versions.first()?.playlist.part_target
    }
}

/// The last part or segment, so that a later one is greater.
pub(super) fn edge(playlist: &Playlist) -> (u64, u64) {
    match playlist.last() {
        None => (playlist.media_sequence, 0),
        Some((sequence, None)) => (sequence + 1, 0),
        Some((sequence, Some(part))) => (sequence, part + 1),
    }
}

/// Whether `playlist` holds `position` or what comes later; a part beyond the last of a complete segment is
/// the first of the next (RFC 8216bis §6.2.5.2).
pub(super) fn holds(playlist: &Playlist, (sequence, part): Position) -> bool {
    let complete = playlist.segments.last().map(|last| last.sequence);
    match part {
        None => complete >= Some(sequence),
        Some(part) => {
            if complete > Some(sequence) {
                return true;
            }
            if complete == Some(sequence) {
                let parts = playlist.segments.last().map_or(0, |last| last.parts.len() as u64);
                // Without parts listed, the segment stands for all of them.
                return parts == 0 || part < parts || !playlist.open.parts.is_empty();
            }
            playlist.open.sequence == sequence && playlist.open.parts.len() as u64 > part
        }
    }
}

#[cfg(test)]
pub(super) mod samples {
    //! Evidence for the tests of rules.

    use super::*;

    pub fn url(path: &str) -> Url {
        Url::parse("http://h/s/").and_then(|base| base.join(path)).expect("a URL")
    }

    pub fn answer(path: &str, at: f64, status: u16, text: &str) -> Answer {
        Answer {
            url: url(path),
            sent: at,
            headed: at,
            done: at,
            status,
            cache_control: None,
            content_encoding: None,
            text: text.into(),
            error: None,
        }
    }

    /// A version that arrived at `at`.
    pub fn version(at: f64, text: &str) -> Version {
        let answer = answer("v.m3u8", at, 200, text);
        let playlist = Playlist::parse(text, &answer.url);
        Version { answer, asked: None, asked_skip: false, aside: false, playlist, incomplete: None }
    }

    /// Versions a second apart.
    pub fn history(versions: &[&str]) -> History {
        let mut history = History::new(url("v.m3u8"));
        history.versions = versions.iter().enumerate().map(|(at, text)| version(at as f64, text)).collect();
        history
    }

    pub fn evidence(histories: Vec<History>) -> Evidence {
        Evidence { tolerance: 0.3, multivariants: Vec::new(), histories }
    }

    /// Whether `rule` finds something wrong.
    pub fn breaks(
        rule: impl Fn(&Evidence) -> Vec<crate::check_hls::report::Broken>,
        evidence: &Evidence,
    ) -> bool {
        !rule(evidence).is_empty()
    }

    /// A live playlist: head, then what is given.
    pub fn live(first: u64, rest: &str) -> String {
        format!("#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:{first}\n{rest}")
    }
}
