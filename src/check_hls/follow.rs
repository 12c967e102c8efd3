//! Follows one media playlist as a player does, and fetches all that it lists.
//!
//! With blocking reload, each request asks for the next part, by delta update where that is offered; every
//! now and then a plain request goes beside it. Without, the playlist is polled (RFC 8216bis §6.3.4). One
//! task owns the history; requests are tasks that give their answers back to it.

use super::client::Http;
use super::digest::Digest;
use super::evidence::{Answer, Fetched, HintFetched, History, Probe, Removed, Version, edge};
use super::media::{Content, Init};
use super::playlist::{Playlist, Position, Resource};
use super::probes;
use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use url::Url;

/// Between plain requests beside the blocking ones.
const ASIDE: Duration = Duration::from_millis(1_100);
/// Every so many updates one is asked for whole, to be held against the deltas.
const WHOLE_EVERY: usize = 4;
/// After an answer that was no playlist.
const AGAIN: Duration = Duration::from_millis(500);
/// After a blocking answer that brought nothing new.
const UNCHANGED: Duration = Duration::from_millis(200);
/// How much longer than it may be held a request is waited for.
const OVERDUE: Duration = Duration::from_secs(2);
/// The edges are tried when so many versions were seen.
const PROBE_AFTER: usize = 3;
/// Files that are fetched at a time.
const AT_A_TIME: usize = 6;
/// What is kept of bodies that wait for their initialization section.
const MOST_WAITING: usize = 64;

/// What a task brings back.
enum Got {
    Playlist(Box<Version>),
    Media(Resource, Answer, Bytes),
    Hint(Resource, usize, Answer, Bytes),
    Removed(Removed),
    Probes(Vec<Probe>),
    TimeForAside,
}

/// One playlist being followed.
struct Follower {
    http: Http,
    history: History,
    tasks: JoinSet<Got>,
    /// To fetch what is listed: no more at a time than players have connections.
    turns: Arc<Semaphore>,
    asked: HashSet<Resource>,
    hinted: HashSet<Resource>,
    inits: HashMap<Resource, Arc<Init>>,
    /// The initialization section that each file goes with.
    maps: HashMap<Resource, Resource>,
    removed: HashSet<(u64, Resource)>,
    /// Files that came before their initialization section.
    waiting: Vec<(Resource, Bytes)>,
    /// What the next delta update builds upon.
    whole: Option<Playlist>,
    /// The longest playlist so far, in seconds.
    longest: f64,
}

/// Follows the playlist at `url` until `deadline`, then gives what was seen.
pub(super) async fn follow(http: Http, url: Url, deadline: Instant) -> History {
    let mut follower = Follower {
        http,
        history: History::new(url),
        tasks: JoinSet::new(),
        turns: Arc::new(Semaphore::new(AT_A_TIME)),
        asked: HashSet::new(),
        hinted: HashSet::new(),
        inits: HashMap::new(),
        maps: HashMap::new(),
        removed: HashSet::new(),
        waiting: Vec::new(),
        whole: None,
        longest: 0.0,
    };
    follower.request(Duration::ZERO, None, false, false);
    loop {
        tokio::select! {
            got = follower.tasks.join_next() => match got {
                Some(Ok(got)) => follower.take(got),
                Some(Err(_)) => {}
                None => break,
            },
            () = sleep_until(deadline) => break,
        }
    }
    follower.history
}

impl Follower {
    fn take(&mut self, got: Got) {
        match got {
            Got::Playlist(version) => self.playlist(*version),
            Got::Media(media, answer, body) => self.media(media, answer, &body),
            Got::Hint(media, version, answer, body) => {
                let content = self.read(&media, &body);
                let fetched = Fetched { answer, digest: Digest::of(&body), content };
                self.history.hints.push(HintFetched { media, version, fetched });
            }
            Got::Removed(removed) => self.history.removed.push(removed),
            Got::Probes(probes) => {
                self.history.probes.extend(probes);
                self.history.probing = false;
            }
            Got::TimeForAside => {
                if self.whole.as_ref().is_some_and(|whole| !whole.ended) {
                    self.request(Duration::ZERO, None, false, true);
                    self.aside_later();
                }
            }
        }
    }

    fn playlist(&mut self, mut version: Version) {
        let aside = version.aside;
        if version.answer.status != 200 {
            self.history.refusals.push(version);
            if !aside {
                self.request(AGAIN, None, false, false);
            }
            return;
        }
        if version.playlist.skipped.is_some() {
            let whole = self.whole.as_ref().ok_or_else(|| "nothing to build it upon".to_owned());
            match whole.and_then(|whole| version.playlist.clone().completed(whole)) {
                Ok(playlist) => version.playlist = playlist,
                Err(why) => {
                    version.incomplete = Some(why);
                    self.history.refusals.push(version);
                    return self.request(Duration::ZERO, None, false, false);
                }
            }
        }
        let changed = self.whole.as_ref().is_none_or(|whole| edge(whole) != edge(&version.playlist));
        self.fetch_all(&version.playlist);
        self.fetch_hints(&version.playlist);
        self.longest = self.longest.max(version.playlist.duration());
        if let Some(whole) = &self.whole {
            let gone = whole
                .segments
                .iter()
                .take_while(|segment| segment.sequence < version.playlist.media_sequence)
                .filter(|segment| !segment.gap);
            let gone: Vec<_> =
                gone.map(|segment| (segment.sequence, segment.media.clone(), segment.duration)).collect();
            for (sequence, media, duration) in gone {
                self.fetch_removed(sequence, media, duration + self.longest);
            }
        }
        let newer = self.whole.as_ref().is_none_or(|whole| edge(&version.playlist) >= edge(whole));
        if newer {
            self.whole = Some(version.playlist.clone());
        }
        if !aside {
            self.go_on(&version.playlist, changed);
        }
        self.history.versions.push(version);
    }

    /// Asks for the next version.
    fn go_on(&mut self, playlist: &Playlist, changed: bool) {
        let count = self.history.versions.len() + 1;
        if count == PROBE_AFTER || playlist.ended {
            let (http, url, playlist) = (self.http.clone(), self.history.url.clone(), playlist.clone());
            if playlist.can_block() && !playlist.ended {
                self.aside_later();
            }
            self.history.probing = true;
            self.tasks.spawn(async move { Got::Probes(probes::run(&http, &url, &playlist).await) });
        }
        if playlist.ended {
            return;
        }
        let control = playlist.control.clone().unwrap_or_default();
        if control.can_block_reload {
            let skip = control.can_skip_until.is_some() && !count.is_multiple_of(WHOLE_EVERY);
            // A server that doesn't block must not be asked in a tight loop.
            let wait = if changed { Duration::ZERO } else { UNCHANGED };
            return self.request(wait, Some(next(playlist)), skip, false);
        }
        // RFC 8216bis §6.3.4: a target duration after a change, half of one after none.
        let target = playlist.target.unwrap_or(2).clamp(1, 60) as f64;
        let wait = if changed { target } else { target / 2.0 };
        self.request(Duration::from_secs_f64(wait), None, false, false);
    }

    fn aside_later(&mut self) {
        self.tasks.spawn(async {
            sleep(ASIDE).await;
            Got::TimeForAside
        });
    }

    fn request(&mut self, wait: Duration, asked: Option<Position>, skip: bool, aside: bool) {
        let (mut http, url) = (self.http.clone(), self.history.url.clone());
        if let Some(target) = self.history.target().filter(|_| asked.is_some()) {
            http = http.patient(Duration::from_secs_f64(3.0 * target) + OVERDUE);
        }
        self.tasks.spawn(async move {
            sleep(wait).await;
            let mut parameters = Vec::new();
            if let Some((sequence, part)) = asked {
                parameters.push(("_HLS_msn", sequence.to_string()));
                parameters.extend(part.map(|part| ("_HLS_part", part.to_string())));
            }
            if skip {
                parameters.push(("_HLS_skip", "YES".to_owned()));
            }
            let answer = http.playlist(&url, &parameters).await;
            let playlist = Playlist::parse(&answer.text, &answer.url);
            let version = Version { answer, asked, asked_skip: skip, aside, playlist, incomplete: None };
            Got::Playlist(Box::new(version))
        });
    }

    fn fetch_all(&mut self, playlist: &Playlist) {
        // Which initialization section a file goes with is known from the playlist alone.
        for segment in playlist.all() {
            let Some(map) = &segment.map else { continue };
            let media = segment.parts.iter().map(|part| &part.media).chain(segment.media.as_ref());
            for media in media {
                self.maps.entry(media.clone()).or_insert_with(|| map.clone());
            }
        }
        // Initialization sections first: what they describe can be read only with them.
        for segment in playlist.all() {
            if let Some(map) = &segment.map {
                self.fetch(map);
            }
        }
        for segment in playlist.all() {
            for part in segment.parts.iter().filter(|part| !part.gap) {
                self.fetch(&part.media);
            }
            if let Some(media) = segment.media.as_ref().filter(|_| !segment.gap) {
                self.fetch(media);
            }
        }
    }

    fn fetch(&mut self, media: &Resource) {
        if !self.asked.insert(media.clone()) {
            return;
        }
        let (http, turns, media) = (self.http.clone(), self.turns.clone(), media.clone());
        self.tasks.spawn(async move {
            let _turn = turns.acquire_owned().await;
            let (answer, body) = http.media(&media).await;
            Got::Media(media, answer, body)
        });
    }

    fn fetch_hints(&mut self, playlist: &Playlist) {
        for hint in &playlist.hints {
            if !self.hinted.insert(hint.media.clone()) {
                continue;
            }
            let (http, media, version) = (self.http.clone(), hint.media.clone(), self.history.versions.len());
            if let Some(map) = &playlist.open.map {
                self.maps.entry(media.clone()).or_insert_with(|| map.clone());
            }
            self.tasks.spawn(async move {
                let (answer, body) = http.media(&media).await;
                Got::Hint(media, version, answer, body)
            });
        }
    }

    /// Fetches a segment that has just left, now and shortly before it may go (RFC 8216bis §6.2.2).
    fn fetch_removed(&mut self, sequence: u64, media: Option<Resource>, available: f64) {
        let Some(media) = media.filter(|media| self.removed.insert((sequence, media.clone()))) else {
            return;
        };
        for after in [0.0, available * 0.8] {
            let (http, media) = (self.http.clone(), media.clone());
            self.tasks.spawn(async move {
                sleep(Duration::from_secs_f64(after)).await;
                let (answer, _) = http.media(&media).await;
                Got::Removed(Removed { sequence, after, available, answer })
            });
        }
    }

    fn media(&mut self, media: Resource, answer: Answer, body: &Bytes) {
        let content = self.read(&media, body);
        if let Content::Init(init) = &content {
            self.inits.insert(media.clone(), init.clone());
            self.read_waiting();
        }
        self.history.fetched.insert(media, Fetched { answer, digest: Digest::of(body), content });
    }

    /// Reads a file now, or again once its initialization section is there.
    fn read(&mut self, media: &Resource, body: &Bytes) -> Content {
        let map = self.maps.get(media);
        let init = map.and_then(|map| self.inits.get(map));
        if map.is_some() && init.is_none() && self.waiting.len() < MOST_WAITING {
            self.waiting.push((media.clone(), body.clone()));
        }
        Content::read(body, init.map(AsRef::as_ref))
    }

    fn read_waiting(&mut self) {
        for (media, body) in std::mem::take(&mut self.waiting) {
            let content = self.read(&media, &body);
            if let Some(fetched) = self.history.fetched.get_mut(&media) {
                fetched.content = content;
            }
        }
    }
}

/// What a player asks for next.
fn next(playlist: &Playlist) -> Position {
    let next = playlist.segments.last().map_or(playlist.media_sequence, |last| last.sequence + 1);
    match playlist.part_target {
        Some(_) => (next, Some(playlist.open.parts.len() as u64)),
        None => (next, None),
    }
}
