//! A video track on its way: its configuration, and pictures made fit for the frame lane.

use super::access_unit::four_byte_lengths;
use crate::media::av1::SequenceHeader;
use crate::media::{Codec, VideoTrack, h264, h265, vp9};
use crate::rtmp::flv::{FlvError, Picture, VideoConfig};
use bytes::Bytes;

/// The track that a configuration describes.
#[derive(Debug)]
pub(super) struct Video {
    config: VideoConfig,
    track: VideoTrack,
    /// Whether the configuration says if pictures are reordered.
    states_order: bool,
}

/// A picture as the frame lane carries it.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) data: Bytes,
    /// A decoder can start here.
    pub(super) keyframe: bool,
    /// The picture says more of its track than was known, or something else.
    pub(super) changes: bool,
}

impl Video {
    pub(super) fn new(config: VideoConfig) -> Result<Self, FlvError> {
        let track = |codec, resolution, frame_rate, codec_data, reordered| VideoTrack {
            resolution,
            frame_rate,
            codec_data,
            reordered,
            ..VideoTrack::new(codec)
        };
        let mut states_order = true;
        let track = match &config {
            VideoConfig::H264(config) => {
                let sps = config.first_sps()?;
                states_order = sps.max_reorder_frames.is_some();
                let reordered = sps.max_reorder_frames.is_some_and(|frames| frames > 0);
                let record = config.record_with_four_byte_lengths();
                track(Codec::H264, Some((sps.width, sps.height)), sps.frame_rate, record, reordered)
            }
            VideoConfig::H265(config) => {
                let size = (config.sps.width, config.sps.height);
                let record = config.record_with_four_byte_lengths();
                track(Codec::H265, Some(size), None, record, config.sps.reordered)
            }
            VideoConfig::Av1(config) => {
                let header = config.sequence_header();
                let record = header.map_or_else(|| config.record.clone(), SequenceHeader::record);
                let track = track(Codec::Av1, header.map(|header| header.resolution), None, record, false);
                VideoTrack { transfer: header.and_then(|header| header.transfer), ..track }
            }
            VideoConfig::Vp9(record) => track(Codec::Vp9, None, None, record.clone(), false),
        };
        Ok(Self { config, track, states_order })
    }

    /// Whether `config` is the one in use.
    pub(super) fn has(&self, config: &VideoConfig) -> bool {
        self.config == *config
    }

    /// The track, once everything is known that outputs must know of it.
    pub(super) fn track(&self) -> Option<&VideoTrack> {
        // AV1 and VP9 may tell the size with a keyframe only.
        Some(&self.track).filter(|track| track.resolution.is_some())
    }

    /// Looks into a picture. `None` if it is malformed, empty or of another codec.
    pub(super) fn check(&mut self, picture: Picture) -> Option<Checked> {
        if picture.codec != self.config.codec() {
            return None;
        }
        let Picture { keyframe: stated, data, composition_ms, .. } = picture;
        match &self.config {
            VideoConfig::H264(config) => {
                let is_idr = |header| h264::nal_type(header) == h264::NAL_IDR;
                let (data, idr) = four_byte_lengths(data, config.length_size, is_idr)?;
                // Where the parameter sets don't tell, the first offset does.
                let changes = composition_ms != 0 && !self.track.reordered && !self.states_order;
                self.track.reordered |= changes;
                Some(Checked { data, keyframe: stated || idr, changes })
            }
            VideoConfig::H265(config) => {
                let starts = |header| h265::is_random_access(h265::nal_type(header));
                let (data, keyframe) = four_byte_lengths(data, config.length_size, starts)?;
                Some(Checked { data, keyframe: stated || keyframe, changes: false })
            }
            VideoConfig::Av1(config) => {
                let unit = config.check(&data)?;
                let header = unit.sequence_header.filter(|_| unit.keyframe);
                let changes = header
                    .is_some_and(|header| self.learn(header.resolution, header.record(), header.transfer));
                Some(Checked { data: unit.data, keyframe: unit.keyframe, changes })
            }
            VideoConfig::Vp9(record) => {
                let record = record.clone();
                let size = vp9::keyframe(&data);
                let changes = size.is_some_and(|size| self.learn(size, record, None));
                Some(Checked { data, keyframe: size.is_some(), changes })
            }
        }
    }

    /// What a keyframe says; whether that was not known before.
    fn learn(&mut self, resolution: (u32, u32), codec_data: Bytes, transfer: Option<u8>) -> bool {
        let track = &mut self.track;
        let said = VideoTrack { resolution: Some(resolution), codec_data, transfer, ..track.clone() };
        let changes = said != *track;
        *track = said;
        changes
    }
}
