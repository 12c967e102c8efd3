//! An HLS client that reads playlists and downloads renditions as they are.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::{Client, Url};

use super::{eventually, seconds};

/// One stream's multivariant playlist, resolved.
pub struct Hls {
    client: Client,
    pub multivariant: String,
    pub video: Option<Url>,
    pub audio: Option<Url>,
}

/// A media playlist, as far as the tests look at it.
#[derive(Clone, Debug, Default)]
pub struct Playlist {
    pub text: String,
    pub media_sequence: u64,
    pub target_duration: f64,
    pub segments: Vec<Segment>,
    pub ended: bool,
}

/// One segment of a playlist.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    pub uri: String,
    pub duration: f64,
    pub discontinuity: bool,
    pub gap: bool,
    pub map: Option<String>,
}

impl Hls {
    /// Waits until the stream's multivariant playlist and all its renditions answer.
    pub async fn open(client: &Client, url: &str, limit: Duration) -> Self {
        let base: Url = url.parse().expect("a URL");
        eventually(&format!("{url} is playable"), limit, || async {
            let text = fetch(client, &base).await?;
            let hls = Self {
                client: client.clone(),
                video: rendition(&text, &base, "video"),
                audio: rendition(&text, &base, "audio"),
                multivariant: text,
            };
            for rendition in [&hls.video, &hls.audio].into_iter().flatten() {
                let playlist = fetch(client, rendition).await?;
                if !playlist.contains("#EXTINF") && !playlist.contains("#EXT-X-PART:") {
                    return None;
                }
            }
            (hls.video.is_some() || hls.audio.is_some()).then_some(hls)
        })
        .await
    }

    /// The renditions there are, by name.
    pub fn renditions(&self) -> Vec<(&'static str, &Url)> {
        let all = [("video", self.video.as_ref()), ("audio", self.audio.as_ref())];
        all.into_iter().filter_map(|(name, url)| Some((name, url?))).collect()
    }

    /// The present state of a rendition.
    pub async fn playlist(&self, rendition: &Url) -> Playlist {
        let text =
            fetch(&self.client, rendition).await.unwrap_or_else(|| panic!("{rendition} answers no playlist"));
        Playlist::parse(&text)
    }

    /// Waits until a rendition lists `length` of media since its last discontinuity.
    pub async fn wait_for(&self, rendition: &Url, length: Duration) -> Playlist {
        eventually(&format!("{length:?} at {rendition}"), length + seconds(15), || async {
            let playlist = Playlist::parse(&fetch(&self.client, rendition).await?);
            let listed: f64 = playlist.last_run().iter().map(|segment| segment.duration).sum();
            (listed >= length.as_secs_f64()).then_some(playlist)
        })
        .await
    }

    /// Downloads initialisation and segments of a rendition since its last discontinuity into one file.
    pub async fn download(&self, rendition: &Url, folder: &Path, name: &str) -> PathBuf {
        let playlist = self.playlist(rendition).await;
        let run = playlist.last_run();
        let map = run.last().and_then(|segment| segment.map.clone()).expect("an EXT-X-MAP");
        let mut data = self.media(rendition, &map).await;
        for segment in run {
            data.extend(self.media(rendition, &segment.uri).await);
        }
        let path = folder.join(format!("{name}.mp4"));
        std::fs::write(&path, data).expect("a file");
        path
    }

    /// Downloads initialisation and each segment of a rendition, from the first that is listed now, into one
    /// file until it holds `length` of media. Panics at a discontinuity, a gap or a segment that was missed.
    pub async fn record(&self, rendition: &Url, length: Duration, folder: &Path, name: &str) -> PathBuf {
        let deadline = Instant::now() + length + seconds(20);
        let enough = |held: f64| {
            assert!(Instant::now() < deadline, "{held:.1} s of {length:?} at {rendition}");
            held >= length.as_secs_f64()
        };
        self.record_until(rendition, enough, folder, name).await
    }

    /// The same until `enough` says so, which is asked with the seconds of media held, four times a second.
    pub async fn record_until(
        &self,
        rendition: &Url,
        mut enough: impl FnMut(f64) -> bool,
        folder: &Path,
        name: &str,
    ) -> PathBuf {
        let (mut data, mut held, mut next, mut map) = (Vec::new(), 0.0, None, None);
        while !enough(held) {
            let playlist = self.playlist(rendition).await;
            let wanted = *next.get_or_insert(playlist.media_sequence);
            assert!(playlist.media_sequence <= wanted, "segment {wanted} was missed:\n{}", playlist.text);
            for segment in playlist.segments.iter().skip((wanted - playlist.media_sequence) as usize) {
                let broken = segment.gap || (segment.discontinuity && next != Some(playlist.media_sequence));
                assert!(!broken, "a break:\n{}", playlist.text);
                if map.is_none() {
                    map = segment.map.clone();
                    data.extend(self.media(rendition, map.as_deref().expect("an EXT-X-MAP")).await);
                }
                assert_eq!(segment.map, map, "another initialisation:\n{}", playlist.text);
                data.extend(self.media(rendition, &segment.uri).await);
                held += segment.duration;
                next = next.map(|next| next + 1);
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        let path = folder.join(format!("{name}.mp4"));
        std::fs::write(&path, data).expect("a file");
        path
    }

    /// The bytes of a segment, part or initialisation.
    pub async fn media(&self, rendition: &Url, uri: &str) -> Vec<u8> {
        let url = rendition.join(uri).expect("a URI");
        let response = self.client.get(url.clone()).send().await.expect("an answer");
        assert_eq!(response.status(), 200, "GET {url}");
        response.bytes().await.expect("a body").to_vec()
    }
}

impl Playlist {
    /// Reads a media playlist.
    pub fn parse(text: &str) -> Self {
        let mut playlist = Self { text: text.to_owned(), ..Self::default() };
        let mut next = Segment::default();
        for line in text.lines() {
            if let Some(value) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
                playlist.media_sequence = value.trim().parse().expect("a number");
            } else if let Some(value) = line.strip_prefix("#EXT-X-TARGETDURATION:") {
                playlist.target_duration = value.trim().parse().expect("a number");
            } else if let Some(value) = line.strip_prefix("#EXTINF:") {
                next.duration =
                    value.split(',').next().and_then(|value| value.parse().ok()).expect("a duration");
            } else if line == "#EXT-X-DISCONTINUITY" {
                next.discontinuity = true;
            } else if line == "#EXT-X-GAP" {
                next.gap = true;
            } else if let Some(attributes) = line.strip_prefix("#EXT-X-MAP:") {
                next.map = attribute_of(attributes, "URI");
            } else if line == "#EXT-X-ENDLIST" {
                playlist.ended = true;
            } else if !line.starts_with('#') && !line.trim().is_empty() {
                let map = next.map.clone();
                playlist.segments.push(Segment { uri: line.trim().to_owned(), ..next });
                next = Segment { map, ..Segment::default() };
            }
        }
        playlist
    }

    /// The segments since the last discontinuity.
    pub fn last_run(&self) -> &[Segment] {
        let from = self.segments.iter().rposition(|segment| segment.discontinuity).unwrap_or(0);
        &self.segments[from..]
    }

    /// The media sequence number after the last listed segment.
    pub fn next_sequence(&self) -> u64 {
        self.media_sequence + self.segments.len() as u64
    }
}

async fn fetch(client: &Client, url: &Url) -> Option<String> {
    let response = client.get(url.clone()).timeout(seconds(10)).send().await.ok()?;
    if response.status() != 200 {
        return None;
    }
    response.text().await.ok()
}

/// The URL of the first video or audio rendition in a multivariant playlist.
fn rendition(text: &str, base: &Url, kind: &str) -> Option<Url> {
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let shows = |attributes: &str| {
        let codecs = attribute_of(attributes, "CODECS").unwrap_or_default();
        attributes.contains("RESOLUTION=")
            || ["avc", "hvc1", "av01", "vp09"].iter().any(|one| codecs.contains(one))
    };
    let mut variants = lines.windows(2).filter(|pair| pair[0].starts_with("#EXT-X-STREAM-INF:"));
    let mut media = lines.iter().filter_map(|line| line.strip_prefix("#EXT-X-MEDIA:"));
    let sound = media.find(|attributes| attributes.contains("TYPE=AUDIO") && attributes.contains("URI="));
    let uri = match (kind, sound) {
        ("video", _) => variants.find(|pair| shows(pair[0]))?[1].trim().to_owned(),
        (_, Some(attributes)) => attribute_of(attributes, "URI")?,
        (_, None) => variants.find(|pair| !shows(pair[0]))?[1].trim().to_owned(),
    };
    base.join(&uri).ok()
}

/// The value of an attribute, without quotation marks.
pub fn attribute_of(attributes: &str, name: &str) -> Option<String> {
    let mut rest = attributes;
    loop {
        let (key, value) = rest.split_once('=')?;
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => value.split_at(value.find(',').unwrap_or(value.len())),
        };
        if key == name {
            return Some(value.to_owned());
        }
        rest = after.strip_prefix(',')?;
    }
}
