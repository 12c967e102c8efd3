//! What the checker reads in media: initialization sections and fragments of fragmented MP4 (ISO/IEC
//! 14496-12). Whatever else comes is [`Content::Opaque`].
//!
//! Its own reader, so that no mistake of a muxer's hides in a shared one.

mod boxes;
mod codecs;
mod fragment;
mod init;

pub(super) use codecs::same as same_codec;
pub(super) use fragment::Sample;
pub(super) use init::{Init, Kind, Track};

use std::sync::Arc;

/// What a file is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    /// An initialization section.
    Init(Arc<Init>),
    /// Movie fragments, with the samples of each.
    Fragments(Vec<Sample>),
    /// MPEG-2 TS, packed audio, WebVTT, anything encrypted.
    Opaque,
}

impl Content {
    /// Reads a file; fragments need the initialization section that goes with them for what they leave out.
    pub fn read(bytes: &[u8], init: Option<&Init>) -> Self {
        if let Some(init) = init::read(bytes) {
            return Self::Init(Arc::new(init));
        }
        let samples = fragment::read(bytes, init);
        if samples.is_empty() { Self::Opaque } else { Self::Fragments(samples) }
    }

    pub fn samples(&self) -> &[Sample] {
        match self {
            Self::Fragments(samples) => samples,
            Self::Init(_) | Self::Opaque => &[],
        }
    }
}
