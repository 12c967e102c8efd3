//! Sound of the frame lane as AAC: Opus and MP3 are decoded and encoded again, for outputs that take AAC only.
//!
//! Owns one disposable pipeline for each epoch that needs it. Frames keep their times: the encoder's delay is
//! taken out.

use super::clock::Origin;
use super::encoded::{Encoded, QUEUE, Unit, VOAACENC_DELAY, collect};
use super::graph::{Graph, fail};
use super::{PipelineError, Pipelines, caps};
use crate::media::{AudioTrack, Codec, Epoch, Frame, MediaKind, MediaTime};
use bytes::Bytes;
use gst::prelude::*;
use gstreamer as gst;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// The AudioSpecificConfig of AAC LC at 48 kHz in stereo (ISO/IEC 14496-3 §1.6.2.1).
const CONFIG: &[u8] = &[0x11, 0x90];

/// Whether sound of this codec must be transcoded for outputs that take AAC only.
pub(super) fn needs_aac(codec: Codec) -> bool {
    matches!(codec, Codec::Opus | Codec::Mp3)
}

/// The track of which frames come out.
pub(super) fn aac_track() -> AudioTrack {
    AudioTrack {
        codec: Codec::Aac,
        sample_rate: 48_000,
        channels: 2,
        codec_data: Bytes::from_static(CONFIG),
        fmtp: String::new(),
    }
}

/// The pipeline that turns sound into AAC; what comes out goes to a channel.
#[derive(Debug)]
pub(super) struct Transcoder(Graph);

impl Transcoder {
    pub(super) fn begin(
        pipelines: &Pipelines,
        track: &AudioTrack,
        bitrate: Option<u32>,
        encoded: mpsc::Sender<Encoded>,
        failed: watch::Sender<Option<PipelineError>>,
    ) -> Result<Self, PipelineError> {
        let unsupported = PipelineError::Unsupported { codec: track.codec, purpose: "decoded" };
        let decoder = pipelines.audio_decoder(track.codec).ok_or(unsupported)?;
        let report = failed.clone();
        let bitrate = bitrate.map(|bitrate| bitrate.to_string());
        let mut values = vec![("audio_decoder", decoder)];
        values.extend(bitrate.as_deref().map(|bitrate| ("audio_bitrate", bitrate)));
        let graph = Graph::build(pipelines, "frames-to-aac.launch", &values, move |error| {
            fail(&report, error);
        })?;
        let caps = caps::of_sound(track, "decoded")?;
        let delay = MediaTime::from_ticks(VOAACENC_DELAY, 48_000).as_nanos();
        collect(&graph, MediaKind::Audio, delay, encoded, failed);
        graph.start()?;
        graph.source().set_caps(Some(&caps));
        Ok(Self(graph))
    }

    /// Takes the next frame, and works on it. Never waits.
    pub(super) fn push(&self, frame: &Frame) -> Result<(), PipelineError> {
        let mut buffer = gst::Buffer::from_slice(frame.data.clone());
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(Origin::INTERNAL.place(frame.pts)?);
            buffer.set_dts(Origin::INTERNAL.place(frame.pts)?);
        }
        self.0.push(buffer)
    }

    /// Says that no more comes: what is inside comes out.
    pub(super) fn finish(&self) {
        drain(&self.0);
    }
}

/// Ends a pipeline whose `encoder` is `voaacenc`: that keeps the last samples unless others follow.
pub(super) fn drain(graph: &Graph) {
    /// What is inside, and what a frame may lack, of stereo in 16 bits.
    const SILENCE: usize = (VOAACENC_DELAY as usize + 1023) * 4;
    let encoder = graph.element("encoder").and_then(|encoder| encoder.static_pad("sink"));
    // Without caps nothing has come so far.
    if let Some(pad) = encoder.filter(|pad| pad.current_caps().is_some()) {
        // Refused only by a pipeline that has failed, and told why.
        let _ = pad.chain(gst::Buffer::from_slice([0; SILENCE]));
    }
    graph.end_of_stream();
}

/// One epoch's sound as AAC, frame by frame.
#[derive(Debug)]
pub struct AacSound {
    transcoder: Transcoder,
    encoded: mpsc::Receiver<Encoded>,
    failed: watch::Receiver<Option<PipelineError>>,
    /// That of the last frame.
    epoch: Option<Arc<Epoch>>,
}

impl AacSound {
    /// For an epoch with this sound, and the track that comes out. `None` if the sound is AAC already.
    pub fn begin(
        pipelines: &Pipelines,
        track: &AudioTrack,
    ) -> Result<Option<(Self, AudioTrack)>, PipelineError> {
        if !needs_aac(track.codec) {
            return Ok(None);
        }
        Self::encode(pipelines, track, None).map(Some)
    }

    /// As [`Self::begin`] for sound of any codec: what comes out has so many bits a second.
    pub fn at_bitrate(
        pipelines: &Pipelines,
        track: &AudioTrack,
        bitrate: u32,
    ) -> Result<(Self, AudioTrack), PipelineError> {
        Self::encode(pipelines, track, Some(bitrate))
    }

    fn encode(
        pipelines: &Pipelines,
        track: &AudioTrack,
        bitrate: Option<u32>,
    ) -> Result<(Self, AudioTrack), PipelineError> {
        let (sender, encoded) = mpsc::channel(QUEUE);
        let (report, failed) = watch::channel(None);
        let transcoder = Transcoder::begin(pipelines, track, bitrate, sender, report)?;
        Ok((Self { transcoder, encoded, failed, epoch: None }, aac_track()))
    }

    /// Takes a frame and works on it; gives those that are ready, of the same epoch. Never waits.
    pub fn push(&mut self, frame: &Frame) -> Result<Vec<Frame>, PipelineError> {
        self.transcoder.push(frame)?;
        self.epoch = Some(frame.epoch.clone());
        self.ready()
    }

    /// No more comes: gives the frames that were still inside.
    pub fn finish(&mut self) -> Result<Vec<Frame>, PipelineError> {
        self.transcoder.finish();
        self.ready()
    }

    /// The frames that have become ready since the last call.
    fn ready(&mut self) -> Result<Vec<Frame>, PipelineError> {
        if let Some(error) = self.failed.borrow().as_ref() {
            return Err(error.clone());
        }
        let mut ready = Vec::new();
        let Some(epoch) = &self.epoch else { return Ok(ready) };
        while let Ok(encoded) = self.encoded.try_recv() {
            if let Encoded::Unit(Unit { kind, pts, keyframe, data }) = encoded {
                ready.push(Frame { epoch: epoch.clone(), kind, pts, dts: pts, keyframe, data });
            }
        }
        Ok(ready)
    }
}
