//! A multivariant playlist (RFC 8216bis §4.4.6) as it was read.

use super::lines::{Attributes, Content, lines};
use url::Url;

/// One version of a multivariant playlist.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Multivariant {
    pub variants: Vec<Variant>,
    pub renditions: Vec<Rendition>,
    pub independent_segments: bool,
}

/// `EXT-X-STREAM-INF` and the URI behind it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Variant {
    pub url: Url,
    pub bandwidth: Option<u64>,
    pub average_bandwidth: Option<u64>,
    pub codecs: Option<String>,
    pub resolution: Option<(u32, u32)>,
    pub frame_rate: Option<f64>,
    /// The groups of renditions that go with it, such as `("AUDIO", "sound")`.
    pub groups: Vec<(&'static str, String)>,
    pub line: usize,
}

/// `EXT-X-MEDIA`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rendition {
    pub kind: String,
    pub group: String,
    pub name: String,
    /// `None`: it is in the variant's own media.
    pub url: Option<Url>,
    pub line: usize,
}

const GROUPS: [&str; 4] = ["AUDIO", "VIDEO", "SUBTITLES", "CLOSED-CAPTIONS"];

/// Whether `text` is a multivariant playlist and no media playlist.
pub(super) fn is_multivariant(text: &str) -> bool {
    let tag = |name: &str| text.lines().any(|line| line.starts_with(name));
    tag("#EXT-X-STREAM-INF:") && !tag("#EXTINF:") && !tag("#EXT-X-TARGETDURATION:")
}

impl Multivariant {
    /// Reads `text`; relative URIs are below `base`.
    pub fn parse(text: &str, base: &Url) -> Self {
        let mut playlist = Self::default();
        let mut pending: Option<(usize, Attributes)> = None;
        for line in lines(text) {
            match line.content {
                Content::Tag("EXT-X-STREAM-INF", list) => {
                    pending = Some((line.number, Attributes::parse(list)));
                }
                Content::Tag("EXT-X-MEDIA", list) => {
                    playlist.renditions.push(rendition(&Attributes::parse(list), line.number, base));
                }
                Content::Tag("EXT-X-INDEPENDENT-SEGMENTS", _) => playlist.independent_segments = true,
                Content::Tag(..) => {}
                Content::Uri(uri) => {
                    let found = pending.take().zip(base.join(uri).ok());
                    playlist.variants.extend(found.map(|((number, list), url)| variant(&list, number, url)));
                }
            }
        }
        playlist
    }

    /// The renditions in the groups of `variant` that have a playlist of their own.
    pub fn renditions_of<'a>(&'a self, variant: &'a Variant) -> impl Iterator<Item = &'a Rendition> {
        self.renditions.iter().filter(|rendition| {
            let of_group =
                |(kind, group): &(&str, String)| *kind == rendition.kind && *group == rendition.group;
            rendition.url.is_some() && variant.groups.iter().any(of_group)
        })
    }
}

fn variant(list: &Attributes, line: usize, url: Url) -> Variant {
    let resolution = list.get("RESOLUTION").and_then(|value| {
        let (width, height) = value.split_once('x')?;
        Some((width.parse().ok()?, height.parse().ok()?))
    });
    let groups = GROUPS.into_iter().filter_map(|kind| Some((kind, list.get(kind)?.to_owned())));
    Variant {
        url,
        bandwidth: list.number("BANDWIDTH"),
        average_bandwidth: list.number("AVERAGE-BANDWIDTH"),
        codecs: list.get("CODECS").map(str::to_owned),
        resolution,
        frame_rate: list.number("FRAME-RATE"),
        groups: groups.collect(),
        line,
    }
}

fn rendition(list: &Attributes, line: usize, base: &Url) -> Rendition {
    let text = |name| list.get(name).unwrap_or_default().to_owned();
    Rendition {
        kind: text("TYPE"),
        group: text("GROUP-ID"),
        name: text("NAME"),
        url: list.get("URI").and_then(|uri| base.join(uri).ok()),
        line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_and_their_renditions_are_read() {
        let text = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"n\",URI=\"a.m3u8\"\n\
            #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"b\",NAME=\"n\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=100,AVERAGE-BANDWIDTH=90,CODECS=\"avc1.42c01f,mp4a.40.2\",\
            RESOLUTION=640x360,FRAME-RATE=29.970,AUDIO=\"a\"\nv.m3u8\n";
        assert!(is_multivariant(text));
        let base = Url::parse("http://h/s/index.m3u8").expect("a URL");
        let playlist = Multivariant::parse(text, &base);
        let variant = &playlist.variants[0];
        assert_eq!((variant.bandwidth, variant.average_bandwidth), (Some(100), Some(90)));
        assert_eq!((variant.resolution, variant.frame_rate), (Some((640, 360)), Some(29.97)));
        assert_eq!((variant.url.path(), variant.line), ("/s/v.m3u8", 4));
        let renditions: Vec<_> = playlist.renditions_of(variant).collect();
        assert_eq!(renditions.len(), 1);
        assert_eq!(renditions[0].url.as_ref().map(Url::path), Some("/s/a.m3u8"));
    }

    #[test]
    fn a_media_playlist_is_none() {
        assert!(!is_multivariant("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\na.ts\n"));
    }
}
