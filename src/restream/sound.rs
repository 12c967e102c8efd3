//! The sound of one target: as it comes, or encoded again with the bitrate that the target wants.
//!
//! A pipeline of the target's own, one an epoch; frames keep their times.

use crate::media::{Epoch, Frame, MediaKind, Tracks};
use crate::pipeline::{AacSound, PipelineError, Pipelines};
use crate::rtmp::PushError;
use std::sync::Arc;

/// What becomes of the sound.
pub(super) struct Sound {
    wanted: Option<(u32, Arc<Pipelines>)>,
    encoder: Option<AacSound>,
}

/// The sound can't be encoded again.
#[derive(Debug)]
pub(super) struct SoundError(PipelineError);

impl Sound {
    /// With so many bits a second; `None`: as it comes.
    pub(super) fn new(bitrate: Option<u32>, pipelines: Option<Arc<Pipelines>>) -> Self {
        Self { wanted: bitrate.zip(pipelines), encoder: None }
    }

    /// An epoch begins. Gives the tracks that go out.
    pub(super) fn begin(&mut self, epoch: &Epoch) -> Result<Tracks, SoundError> {
        let mut tracks = Tracks::clone(&epoch.tracks);
        self.encoder = None;
        if let (Some((bitrate, pipelines)), Some(track)) = (&self.wanted, &epoch.tracks.audio) {
            let (encoder, track) = AacSound::at_bitrate(pipelines, track, *bitrate).map_err(SoundError)?;
            (self.encoder, tracks.audio) = (Some(encoder), Some(track));
        }
        Ok(tracks)
    }

    /// Takes a frame of the epoch; hands those that are to go out now to `out`, in their order.
    pub(super) fn take(&mut self, frame: Frame, mut out: impl FnMut(&Frame)) -> Result<(), SoundError> {
        match (&mut self.encoder, frame.kind) {
            (Some(encoder), MediaKind::Audio) => {
                encoder.push(&frame).map_err(SoundError)?.iter().for_each(out);
            }
            _ => out(&frame),
        }
        Ok(())
    }
}

impl From<SoundError> for PushError {
    fn from(error: SoundError) -> Self {
        Self::Sound(error.0.to_string())
    }
}
