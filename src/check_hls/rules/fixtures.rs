//! Histories with media, for the tests of rules: a video of 25 pictures a second, every tenth a keyframe.

use crate::check_hls::digest::Digest;
use crate::check_hls::evidence::samples::{answer, evidence, history, url};
use crate::check_hls::evidence::{Evidence, Fetched, History};
use crate::check_hls::media::{Content, Init, Kind, Sample, Track};
use crate::check_hls::playlist::Resource;

/// A history to which files are added.
pub(super) struct Media(History);

impl Media {
    pub fn new(text: &str) -> Self {
        Self(history(&[text]))
    }

    pub fn init(self, name: &str) -> Self {
        self.init_of(name, "avc1.42c01f", (640, 360))
    }

    pub fn init_of(self, name: &str, codec: &str, resolution: (u32, u32)) -> Self {
        let track = Track {
            id: 1,
            kind: Kind::Video,
            timescale: 1000,
            codec: Some(codec.to_owned()),
            resolution: Some(resolution),
            encrypted: false,
            configuration: Digest::of(format!("{codec}{resolution:?}").as_bytes()),
            defaults: [0; 3],
        };
        self.file(name, Content::Init(Init { tracks: vec![track] }.into()))
    }

    /// `count` pictures from number `first` on.
    pub fn samples(self, name: &str, first: u64, count: u64) -> Self {
        self.pictures(name, first, count, |number| number.is_multiple_of(10))
    }

    pub fn pictures(self, name: &str, first: u64, count: u64, sync: impl Fn(u64) -> bool) -> Self {
        let sample = |number: u64| Sample {
            track: 1,
            decode_time: number * 40,
            duration: 40,
            composition_offset: 0,
            sync: sync(number),
            data: Digest::of(&number.to_be_bytes()),
        };
        self.file(name, Content::Fragments((first..first + count).map(sample).collect()))
    }

    pub fn file(mut self, name: &str, content: Content) -> Self {
        let fetched =
            Fetched { answer: answer(name, 0.0, 200, ""), digest: Digest::of(name.as_bytes()), content };
        self.0.fetched.insert(Resource { url: url(name), range: None }, fetched);
        self
    }

    pub fn history(self) -> History {
        self.0
    }

    pub fn evidence(self) -> Evidence {
        evidence(vec![self.0])
    }
}
