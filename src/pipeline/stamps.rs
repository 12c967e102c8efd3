//! The times that the muxer is told: frame by frame, those of the sender made regular.
//!
//! Pure.

use super::muxer::{MuxTrack, frame_samples};
use crate::media::opus::packet_samples;
use crate::media::{Codec, Frame, MediaKind, MediaTime};
use std::time::Duration;

/// What is remembered from frame to frame of one track.
#[derive(Clone, Debug)]
pub(super) struct Stamps {
    kind: MediaKind,
    /// From one frame to the next, as far as known.
    interval: Duration,
    /// Video: the last decode time.
    last: Option<MediaTime>,
    /// Audio: samples a second, and the number of the next frame's first sample.
    sample_rate: u32,
    frame_samples: i64,
    next_sample: Option<i64>,
    opus: bool,
}

impl Stamps {
    /// `interval`: from one frame to the next, as far as known.
    pub(super) fn new(track: MuxTrack<'_>, interval: Duration) -> Self {
        let (sample_rate, frame_samples) = match track {
            MuxTrack::Video(_) => (1, 1),
            MuxTrack::Audio(track) => (track.sample_rate.max(1), frame_samples(track).into()),
        };
        let opus = matches!(track, MuxTrack::Audio(track) if track.codec == Codec::Opus);
        let kind = track.kind();
        Self { kind, interval, last: None, sample_rate, frame_samples, next_sample: None, opus }
    }

    /// The next frame's presentation time, decoding time and duration.
    pub(super) fn next(&mut self, frame: &Frame) -> (MediaTime, MediaTime, Duration) {
        match self.kind {
            MediaKind::Video => self.video(frame),
            MediaKind::Audio => self.audio(frame),
        }
    }

    /// The muxer wants to know how long the last frame lasts: as long as the one before.
    fn video(&mut self, frame: &Frame) -> (MediaTime, MediaTime, Duration) {
        if let Some(last) = self.last.replace(frame.dts)
            && frame.dts > last
        {
            self.interval = frame.dts.since(last).min(Duration::from_secs(1));
        }
        (frame.pts, frame.dts, self.interval)
    }

    /// Frames of sound join without gap or overlap, counted in samples; senders that count milliseconds
    /// (FLV) jitter around that. A sender whose clock drifts is followed sample by sample.
    fn audio(&mut self, frame: &Frame) -> (MediaTime, MediaTime, Duration) {
        let rate = i64::from(self.sample_rate);
        let (jitter, jump) = (rate / 200, rate / 25);
        let ticks = frame.pts.to_ticks(self.sample_rate);
        let ticks = match self.next_sample {
            Some(next) => match ticks - next {
                error if error.abs() <= jitter => next,
                error if error.abs() <= jump => next + error.signum(),
                _ => ticks,
            },
            None => ticks,
        };
        // Packets of Opus say themselves how long they are.
        let samples = match self.opus {
            true => packet_samples(&frame.data).map_or(self.frame_samples, i64::from),
            false => self.frame_samples,
        };
        self.interval = MediaTime::from_ticks(samples, self.sample_rate).since(MediaTime::ZERO);
        self.next_sample = Some(ticks + samples);
        let time = MediaTime::from_ticks(ticks, self.sample_rate);
        (time, time, self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{AudioTrack, Epoch, Tracks};
    use bytes::Bytes;
    use std::sync::Arc;
    use std::time::SystemTime;

    /// 22 050 Hz in the core, 44 100 Hz heard: 2048 samples a frame, whose times come in milliseconds.
    #[test]
    fn frames_of_he_aac_join_without_gap_or_drift() {
        let track = AudioTrack {
            codec: crate::media::Codec::Aac,
            sample_rate: 44_100,
            channels: 2,
            codec_data: Bytes::from_static(&[0x2b, 0x92, 0x08, 0x00]),
            fmtp: String::new(),
        };
        let epoch = Arc::new(Epoch { id: 1, tracks: Tracks::default(), wall_origin: SystemTime::UNIX_EPOCH });
        let mut stamps = Stamps::new(MuxTrack::Audio(&track), Duration::from_millis(46));
        for number in 0..10_000 {
            let ideal = MediaTime::from_ticks(number * 2048, 44_100);
            let time = MediaTime::from_millis(ideal.as_millis());
            let data = Bytes::new();
            let kind = MediaKind::Audio;
            let frame = Frame { epoch: epoch.clone(), kind, pts: time, dts: time, keyframe: true, data };
            assert_eq!(stamps.next(&frame).0, ideal, "frame {number}");
        }
    }
}
