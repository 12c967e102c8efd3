//! The checklist's lines that are proved without media: renditions fed with synthetic parts, each version
//! of the playlist read back with the parser of `m3u8-rs`. Tests bear the numbers of their lines; one file
//! a group of lines.

mod directives;
mod hints;
mod playlists;
mod start;

use super::limits::Limits;
use super::live::{Live, Programme, RenditionView};
use super::names::RenditionName;
use super::playlist::Report;
use super::rendition::Rendition;
use super::segment::Stretch;
use super::snapshot::Snapshot;
use super::text::Text;
use super::{HlsError, HlsSettings, Request, Served, Viewer};
use crate::media::{Frame, MediaKind, MediaTime};
use crate::pipeline::MuxedPart;
use crate::stream::{Hub, Publisher, Source, SourceKind};
use bytes::Bytes;
use m3u8_rs::MediaPlaylist;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;

const FIRST: u64 = 217_000_000;
const PART: Duration = Duration::from_millis(300);

/// Parts of a third of a second.
fn settings() -> HlsSettings {
    HlsSettings { part_duration: Duration::from_millis(333), ..HlsSettings::default() }
}

/// A rendition and the times of what it is fed.
struct Feed {
    rendition: Rendition,
    clock: Instant,
    next: MediaTime,
    count: u64,
    versions: Vec<Arc<Snapshot>>,
}

impl Feed {
    fn new(kind: MediaKind) -> Self {
        let limits = Limits::new(&settings(), Duration::ZERO);
        let mut rendition =
            Rendition::new(RenditionName::of(kind), "cafe".into(), limits, FIRST, MediaTime::ZERO);
        let clock = Instant::now();
        rendition.begin(clock, stretch(FIRST));
        Self { rendition, clock, next: MediaTime::ZERO, count: 0, versions: Vec::new() }
    }

    fn discontinuity(&mut self, number: u64) {
        self.rendition.begin(self.clock, stretch(number));
    }

    fn part(&mut self, starts_segment: bool) -> &Snapshot {
        self.part_of(PART, starts_segment)
    }

    fn part_of(&mut self, duration: Duration, starts_segment: bool) -> &Snapshot {
        let part = MuxedPart {
            start: self.next,
            duration,
            independent: starts_segment,
            starts_segment,
            data: Bytes::from(vec![self.count as u8; 10_000]),
        };
        self.next = self.next + duration;
        self.clock += duration;
        self.count += 1;
        let siblings = vec![Report { rendition: RenditionName::Audio, sequence: FIRST, part: 3 }];
        self.rendition.push(self.clock, part, siblings);
        self.remember()
    }

    /// `seconds` of media with groups of pictures of `group` parts.
    fn parts(&mut self, count: usize, group: usize) {
        for index in 0..count {
            self.part(index.is_multiple_of(group));
        }
    }

    /// Nothing comes for so long.
    fn gap(&mut self, duration: Duration) -> &Snapshot {
        self.clock += duration;
        self.rendition.gap(self.clock, self.next, duration, Vec::new());
        self.next = self.next + duration;
        self.remember()
    }

    fn end(&mut self) -> &Snapshot {
        self.rendition.end(self.clock);
        self.remember()
    }

    fn remember(&mut self) -> &Snapshot {
        self.versions.push(self.rendition.subscribe().borrow().clone());
        self.now()
    }

    fn now(&self) -> &Snapshot {
        self.versions.last().expect("something was fed")
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        self.versions.iter().map(|version| text(version.playlist().plain()))
    }
}

fn stretch(discontinuity: u64) -> Stretch {
    Stretch {
        discontinuity,
        init: Bytes::from(format!("init{discontinuity}")),
        wall_origin: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    }
}

fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

fn parse(text: &str) -> MediaPlaylist {
    m3u8_rs::parse_media_playlist_res(text.as_bytes()).expect("a media playlist")
}

/// Attribute `name` of each tag that begins with `tag`.
fn attributes<'a>(text: &'a str, tag: &'a str, name: &'a str) -> Vec<&'a str> {
    let lines = text.lines().filter_map(move |line| line.strip_prefix(tag)?.strip_prefix(':'));
    lines
        .filter_map(|list| list.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')))
        .map(|value| value.trim_matches('"'))
        .collect()
}

fn seconds(text: &str) -> f64 {
    text.parse().expect("a number")
}

/// A live stream with one rendition, to ask.
struct Origin {
    feed: Feed,
    live: Arc<Live>,
    _publisher: Publisher<Frame>,
}

impl Origin {
    fn new() -> Self {
        let (hub, _reaper) = Hub::new(Duration::ZERO);
        let source = Source { kind: SourceKind::Rtmp, remote: None };
        let publisher = hub.publish("a".parse().expect("a name"), source).expect("free");
        let limits = Limits::new(&settings(), Duration::ZERO);
        let live = Live::new(publisher.stream().clone(), limits, watch::Sender::default());
        Self { feed: Feed::new(MediaKind::Video), live: Arc::new(live), _publisher: publisher }
    }

    fn announce(&self) {
        let view = RenditionView {
            name: RenditionName::VIDEO,
            run: "cafe".into(),
            states: self.feed.rendition.subscribe(),
        };
        self.live.publish(Programme {
            multivariant: Some(Text::from(Bytes::from_static(b"#EXTM3U"))),
            renditions: vec![view],
            ended: false,
        });
    }

    fn ask(&self, file: &str, query: Option<&str>) -> tokio::task::JoinHandle<Result<Served, HlsError>> {
        let (live, file, query) = (self.live.clone(), file.to_owned(), query.map(str::to_owned));
        let viewer = Viewer { address: Ipv4Addr::LOCALHOST.into(), user_agent_hash: 1 };
        tokio::spawn(async move {
            let request = Request { file: &file, query: query.as_deref(), gzip: false, viewer };
            live.serve(request).await
        })
    }
}

/// Lets held requests come to their waiting point; with the clock paused this takes no time.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}
