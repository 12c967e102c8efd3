//! What a publisher sends, on its way into the hub: placed in time, in epochs and in batches.
//!
//! Owns the [`Publisher`] and the [`Timeline`]. Promises that a keyframe's first packet begins a batch and
//! that no batch mixes epochs. Knows no RTP headers and no network.

use super::access_unit::{self, Picture};
use super::format::Format;
use super::layers::Layers;
use super::offer::Offer;
use super::receiver::{Incoming, Place};
use crate::media::{
    AudioTrack, Codec, Epoch, MediaKind, Packet, PacketBatch, RtpClock, SenderReport, Timeline, Tracks,
    VideoTrack,
};
use crate::stream::{Dismissal, Publisher, Stream};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tracing::{debug, info};

/// How long the first epoch waits for the other negotiated track.
const PATIENCE: Duration = Duration::from_secs(1);
/// Packets that wait with it.
const MAX_WAITING: usize = 4096;

/// Payloads are copied into blocks of this size, which their readers share.
const BLOCK: usize = 32 << 10;

/// A publisher's media on its way to the hub.
#[derive(Debug)]
pub(super) struct Publication {
    publisher: Publisher<PacketBatch>,
    /// The negotiated kinds.
    expected: Tracks,
    timeline: Option<Timeline>,
    /// The tracks that have sent.
    present: Tracks,
    first_media: Option<Instant>,
    epoch: Option<Arc<Epoch>>,
    /// The present tracks differ from the epoch's.
    changed: bool,
    pending: Vec<Packet>,
    /// With simulcast. Until they are in order, [`Packet::layer`] of what waits is the encoding.
    layers: Option<Layers>,
    /// What is left of the present block.
    block: BytesMut,
    /// As the publisher counted them when the epoch began.
    interruptions: u64,
    /// … and when a keyframe was asked for because of one.
    asked: u64,
}

impl Publication {
    pub(super) fn new(now: Instant, publisher: Publisher<PacketBatch>, offer: &Offer) -> Self {
        let mut expected = Tracks::default();
        for section in &offer.sections {
            if let Some(format) = section.formats.first() {
                add_track(&mut expected, format);
            }
        }
        let interruptions = publisher.interruptions();
        let simulcast = offer.sections.iter().find(|section| !section.rids.is_empty());
        Self {
            publisher,
            layers: simulcast.map(|section| Layers::new(now, &section.rids)),
            expected,
            timeline: None,
            present: Tracks::default(),
            first_media: None,
            epoch: None,
            changed: false,
            pending: Vec::new(),
            block: BytesMut::new(),
            interruptions,
            asked: interruptions,
        }
    }

    /// The stream that is published.
    pub(super) fn stream(&self) -> &Arc<Stream> {
        self.publisher.stream()
    }

    /// Why the publisher must go, if it must.
    pub(super) fn dismissal(&self) -> Option<Dismissal> {
        self.publisher.dismissal()
    }

    /// The layer that an encoding is; `None` before the layers are in order.
    pub(super) fn layer(&self, encoding: usize) -> Option<u8> {
        self.layers.as_ref().map_or(Some(0), |layers| layers.layer(encoding))
    }

    /// Takes a packet of an encoding that arrived at `now`; it waits for [`Self::flush`].
    pub(super) fn push(
        &mut self,
        now: Instant,
        encoding: usize,
        format: &Format,
        place: Place,
        packet: Incoming<'_>,
    ) {
        let kind = format.codec.kind();
        let clock = clock(kind, encoding);
        if self.present.codec(kind) != Some(format.codec) {
            // (A change of payload type within one codec changes nothing for readers.)
            if self.epoch.is_some() {
                self.release(); // what came before belongs to the epoch without this track
            }
            add_track(&mut self.present, format);
            self.changed = true;
            debug!(stream = %self.stream().name(), %kind, codec = %format.codec, "Track began.");
        }
        self.first_media.get_or_insert(now);
        let timeline = self.timeline.get_or_insert_with(|| Timeline::new(now, SystemTime::now()));
        let pts = match timeline.place(clock, format.clock_rate, packet.timestamp, now) {
            Ok(pts) => pts,
            Err(jump) => {
                self.restart(kind, encoding);
                info!(stream = %self.stream().name(), %kind, %jump, "The sender's clock started anew.");
                let timeline = self.timeline.get_or_insert_with(|| Timeline::new(now, SystemTime::now()));
                let Ok(pts) = timeline.place(clock, format.clock_rate, packet.timestamp, now) else { return };
                pts
            }
        };
        let mut counts = true;
        let mut layer = 0;
        if kind == MediaKind::Video
            && let Some(layers) = &mut self.layers
        {
            layers.received(now, encoding, packet.payload.len());
            counts = layers.is_best(now, encoding);
            layer = layers.layer(encoding).unwrap_or(encoding as u8);
        }
        if let Some(keyframe) = place.frame
            && counts
        {
            self.stream().statistics().video_frame(keyframe);
        }
        let Place { sequence, mut keyframe, in_keyframe, prefix_from, .. } = place;
        self.mend(kind, layer, keyframe, prefix_from);
        // Of H.265, the parameter set that decoding begins with is not the one that tells the size.
        if (keyframe || (in_keyframe && format.codec == Codec::H265))
            && let Some(picture) = access_unit::picture(format.codec, packet.payload)
        {
            self.describe(encoding, prefix_from, picture);
        }
        let prefix = |packet: &&mut Packet| {
            packet.kind == kind && packet.layer == layer && packet.sequence == prefix_from
        };
        if keyframe && let Some(first) = self.pending.iter_mut().find(prefix) {
            first.keyframe = true;
            keyframe = first.sequence == sequence;
        }
        let payload = self.keep(packet.payload);
        self.pending.push(Packet {
            kind,
            layer,
            sequence,
            timestamp: packet.timestamp,
            pts,
            marker: packet.marker,
            keyframe,
            payload,
        });
    }

    /// After a pause that others may have filled, an epoch begins where decoding can begin; a keyframe is
    /// asked for. `first`: the number of the first packet of what decoding begins with.
    fn mend(&mut self, kind: MediaKind, layer: u8, keyframe: bool, first: u64) {
        let interruptions = self.publisher.interruptions();
        if interruptions == self.interruptions || self.epoch.is_none() {
            return;
        }
        let begins = match self.present.has(MediaKind::Video) {
            true => kind == MediaKind::Video && keyframe && layer == 0,
            false => true,
        };
        if begins {
            self.release_before(kind, first);
            self.interruptions = interruptions;
            self.changed = true;
        } else if self.asked != interruptions {
            self.asked = interruptions;
            self.stream().request_keyframe();
        }
    }

    /// Writes what waits, except for what begins with the packet `first`.
    fn release_before(&mut self, kind: MediaKind, first: u64) {
        let of_this_unit = |packet: &Packet| packet.kind == kind && packet.sequence >= first;
        let split = self.pending.iter().position(of_this_unit).unwrap_or(self.pending.len());
        let later = self.pending.split_off(split);
        self.release();
        self.pending = later;
    }

    /// Copies a payload, without an allocation of its own.
    fn keep(&mut self, payload: &[u8]) -> Bytes {
        if self.block.capacity() < payload.len() {
            self.block = BytesMut::with_capacity(BLOCK.max(payload.len()));
        }
        self.block.extend_from_slice(payload);
        self.block.split().freeze()
    }

    /// Another resolution begins another epoch, with the access unit whose first packet is `first`; with
    /// simulcast it belongs to its layer.
    fn describe(&mut self, encoding: usize, first: u64, picture: Picture) {
        if let Some(layers) = &mut self.layers {
            layers.described(encoding, picture.resolution);
            if let Some(video) = self.present.video.as_mut().filter(|_| self.epoch.is_none()) {
                video.frame_rate = picture.frame_rate;
                video.reordered |= picture.reordered;
            }
            return;
        }
        let Some(video) = &self.present.video else { return };
        let mut described = video.clone();
        described.resolution = Some(picture.resolution);
        described.frame_rate = picture.frame_rate;
        described.reordered = picture.reordered;
        if described == *video {
            return;
        }
        debug!(stream = %self.stream().name(), resolution = ?described.resolution, "Video is described.");
        if self.epoch.is_some() || video.resolution.is_some() {
            self.release_before(MediaKind::Video, first);
        }
        self.present.video = Some(described);
        self.changed = true;
    }

    /// A sender of a track started anew: what comes next belongs to a new epoch.
    pub(super) fn restart(&mut self, kind: MediaKind, encoding: usize) {
        match self.epoch {
            Some(_) => self.release(),
            None => {
                let one = self.layers.is_some();
                let layer = self.layer(encoding).unwrap_or(encoding as u8);
                self.pending.retain(|packet| packet.kind != kind || one && packet.layer != layer);
            }
        }
        if let Some(timeline) = &mut self.timeline {
            timeline.restart(clock(kind, encoding));
        }
        self.changed = true;
    }

    /// Takes a track's sender report.
    pub(super) fn sender_report(
        &mut self,
        now: Instant,
        kind: MediaKind,
        encoding: usize,
        report: SenderReport,
    ) {
        if self.first_media.is_none() {
            return; // before any media there is no timeline; another report will come
        }
        let timeline = self.timeline.get_or_insert_with(|| Timeline::new(now, SystemTime::now()));
        let (before, rejected) = (timeline.is_aligned(), timeline.rejected_reports());
        timeline.sender_report(clock(kind, encoding), report);
        let (aligned, absurd) = (timeline.is_aligned() && !before, timeline.rejected_reports() > rejected);
        if aligned || absurd {
            debug!(stream = %self.stream().name(), %kind, aligned, absurd, "Sender report.");
        }
    }

    /// Hands what waits to the hub.
    pub(super) fn flush(&mut self, now: Instant) {
        let Some(first_media) = self.first_media else { return };
        let missing = |kind| self.expected.has(kind) && !self.present.has(kind);
        let waiting = self.epoch.is_none() && (missing(MediaKind::Video) || missing(MediaKind::Audio));
        if waiting && now < first_media + PATIENCE && self.pending.len() < MAX_WAITING {
            return;
        }
        if self.layers.as_ref().is_some_and(|layers| !layers.is_ordered())
            && self.present.has(MediaKind::Video)
        {
            let ripe = self.layers.as_ref().is_some_and(|layers| layers.is_ripe(now));
            if !ripe && self.pending.len() < MAX_WAITING {
                return;
            }
            self.order_layers();
            self.tell_layers(now, true);
        }
        self.tell_layers(now, false);
        self.release();
    }

    /// Puts the layers in order, and what waits with them.
    fn order_layers(&mut self) {
        let Some(layers) = &mut self.layers else { return };
        layers.find_order();
        for packet in self.pending.iter_mut().filter(|packet| packet.kind == MediaKind::Video) {
            packet.layer = layers.layer(usize::from(packet.layer)).unwrap_or(packet.layer);
        }
        // The best layer's keyframe comes first: there readers begin, and all layers' keyframes are for them.
        self.pending.sort_by_key(|packet| (packet.kind, packet.layer)); // stable
        if let Some(video) = &mut self.present.video {
            video.resolution = layers.best_resolution();
        }
        debug!(stream = %self.stream().name(), layers = ?self.layers, "Simulcast layers are in order.");
    }

    fn tell_layers(&mut self, now: Instant, at_once: bool) {
        if let Some(news) = self.layers.as_mut().and_then(|layers| layers.news(now, at_once)) {
            self.publisher.set_layers(news);
        }
    }

    /// When the wait for the other track, or for the other layers, ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.pending.is_empty() {
            return None;
        }
        let track = self.first_media.filter(|_| self.epoch.is_none()).map(|first| first + PATIENCE);
        let layers = self.layers.as_ref().and_then(Layers::deadline);
        track.max(layers)
    }

    /// Writes all that waits, under the epoch that it belongs to.
    fn release(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        if self.layers.as_ref().is_some_and(|layers| !layers.is_ordered()) {
            self.order_layers(); // it can't wait: an epoch ends
        }
        let epoch = match &self.epoch {
            Some(epoch) if !self.changed => epoch.clone(),
            _ => self.begin_epoch(),
        };
        let mut batch: Vec<Packet> = Vec::with_capacity(self.pending.len());
        for packet in self.pending.drain(..) {
            if packet.keyframe && !batch.is_empty() {
                let packets = std::mem::take(&mut batch);
                self.publisher.write(PacketBatch { epoch: epoch.clone(), packets });
            }
            batch.push(packet);
        }
        self.publisher.write(PacketBatch { epoch, packets: batch });
    }

    fn begin_epoch(&mut self) -> Arc<Epoch> {
        if self.epoch.is_none() {
            self.interruptions = self.publisher.interruptions();
        }
        let wall_origin = self.timeline.as_ref().map_or_else(SystemTime::now, Timeline::wall_origin);
        let epoch = self.publisher.begin_epoch(self.present.clone(), wall_origin);
        info!(
            stream = %self.stream().name(),
            epoch = epoch.id,
            video = ?epoch.tracks.codec(MediaKind::Video),
            audio = ?epoch.tracks.codec(MediaKind::Audio),
            "Media began."
        );
        self.changed = false;
        self.epoch = Some(epoch.clone());
        epoch
    }
}

fn clock(kind: MediaKind, encoding: usize) -> RtpClock {
    match kind {
        MediaKind::Audio => RtpClock::Audio,
        MediaKind::Video => RtpClock::Video(encoding as u8), // there are MAX_LAYERS at most
    }
}

fn add_track(tracks: &mut Tracks, format: &Format) {
    let (codec, codec_data, fmtp) = (format.codec, Bytes::new(), format.fmtp.clone());
    match codec.kind() {
        MediaKind::Video => {
            tracks.video = Some(VideoTrack { codec_data, fmtp, ..VideoTrack::new(codec) });
        }
        MediaKind::Audio => {
            // RFC 7587 §7: Opus is always announced with two channels.
            let channels = if codec == Codec::Opus { 2 } else { 1 };
            let sample_rate = format.clock_rate;
            tracks.audio = Some(AudioTrack { codec, sample_rate, channels, codec_data, fmtp });
        }
    }
}
