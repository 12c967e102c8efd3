//! The bridge to packets that every WebRTC viewer takes: H.264 and Opus, for those that lack the stream's video
//! codec.
//!
//! Pictures come from the frame lane, are encoded again unless they are H.264 there (of VP8), and packetised; sound
//! is the packet lane's as it is. Both are on one timeline. Where the packet lane has H.264 itself, because another
//! publisher has come, its packets pass unchanged. Owns one disposable pipeline for each epoch of the frame lane.

use super::edge::is_at_edge;
use super::video::{Took, Video};
use super::{Channels, fmtp};
use crate::media::{Codec, Epoch, Frame, MediaKind, Packet, PacketBatch, PacketVideo, Tracks, VideoTrack};
use crate::pipeline::bridge::Told;
use crate::pipeline::encoded::{Encoded, QUEUE};
use crate::pipeline::graph::failure;
use crate::pipeline::rtp::{PacketCounter, Packetized};
use crate::pipeline::{PipelineError, Pipelines};
use crate::stream::{BridgeWriter, CompatiblePackets, KeyframeWishes, MAX_LAYERS, Stream, Subscriber};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// Between two keyframes that viewers ask for.
const KEYFRAME_EVERY: Duration = Duration::from_secs(1);

/// Fills the lane of compatible packets until the stream ends or a pipeline fails. Dropping the future stops
/// the bridge.
pub(in crate::pipeline) async fn run(
    pipelines: &Pipelines,
    stream: &Arc<Stream>,
    told: &Told,
) -> Result<(), PipelineError> {
    let mut wishes = stream.watch_compatible_keyframe_requests();
    let known = stream.epoch::<PacketBatch>();
    let mut packets = stream.subscribe::<PacketBatch>();
    let mut bridge = Bridge {
        pipelines,
        stream,
        told,
        writer: stream.bridge::<CompatiblePackets>(),
        counter: PacketCounter::new(MediaKind::Video),
        packets: None,
        pictures: None,
        target: None,
        wishes: *wishes.borrow_and_update(),
        pace: KeyframePace::default(),
    };
    // Frames are asked for at once: it may be long until packets begin with a keyframe.
    if let Some(epoch) = known {
        bridge.enter(&epoch);
    }
    loop {
        let due = bridge.pace.due();
        tokio::select! {
            biased;
            // First what is rare: media may come without a pause.
            Ok(()) = wishes.changed() => {
                let wishes = *wishes.borrow_and_update();
                bridge.wished(wishes);
            }
            () = sleep_until(due) => bridge.ask(),
            came = come(bridge.pictures.as_mut()) => match came? {
                Came::Encoded(encoded) => bridge.encoded(encoded)?,
                Came::Frame(frame) => bridge.frame(&frame)?,
                Came::End => return Ok(()),
            },
            batch = packets.recv() => match batch {
                Some(batch) => bridge.batch(&batch),
                None => return Ok(()),
            },
        }
    }
}

/// The frame lane, while its pictures are needed.
struct Pictures {
    frames: Subscriber<Frame>,
    session: Option<Session>,
}

/// What comes from [`Pictures`].
enum Came {
    Encoded(Encoded),
    Frame(Arc<Frame>),
    End,
}

/// The next of it. Cancel safe.
async fn come(pictures: Option<&mut Pictures>) -> Result<Came, PipelineError> {
    let Some(Pictures { frames, session }) = pictures else {
        return std::future::pending().await;
    };
    let Some(Session { encoded, failed, .. }) = session else {
        return Ok(frames.recv().await.map_or(Came::End, Came::Frame));
    };
    tokio::select! {
        biased;
        error = failure(failed) => Err(error),
        Some(encoded) = encoded.recv() => Ok(Came::Encoded(encoded)),
        frame = frames.recv() => Ok(frame.map_or(Came::End, Came::Frame)),
    }
}

/// One epoch of the frame lane.
struct Session {
    source: Arc<Epoch>,
    /// The pictures, and how they are offered; `None` where there are none.
    video: Option<(Video, VideoTrack)>,
    encoded: mpsc::Receiver<Encoded>,
    failed: watch::Receiver<Option<PipelineError>>,
    // Kept, so that the receivers above never see a closed channel, whatever tracks there are.
    _channels: Channels,
}

impl Session {
    fn begin(pipelines: &Pipelines, source: &Arc<Epoch>) -> Result<Self, PipelineError> {
        let (sender, encoded) = mpsc::channel(QUEUE);
        let (failed_sender, failed) = watch::channel(None);
        let channels = Channels { encoded: sender, failed: failed_sender };
        let video = match &source.tracks.video {
            Some(track) => {
                let as_it_is = track.codec == Codec::H264 && !track.reordered;
                let way = if as_it_is { PacketVideo::AsItIs } else { PacketVideo::Transcoded };
                let video = Video::begin(pipelines, track, way, &channels)?;
                let track = fmtp::video(track, video.transcodes());
                Some((video, track))
            }
            None => None,
        };
        Ok(Self { source: source.clone(), video, encoded, failed, _channels: channels })
    }
}

/// The epoch that is written.
struct Target {
    epoch: Arc<Epoch>,
    /// The epochs whose pictures (of the frame lane) and sound (of the packet lane) are in it.
    pictures: Option<u64>,
    sound: Option<u64>,
    /// There is sound that it can't have: another one is to begin.
    outdated: bool,
}

impl Target {
    /// Whether sound of this epoch of the packet lane goes into it. With each epoch numbers and times of packets may
    /// begin anew, so it has the sound of one only.
    fn takes_sound(&mut self, source: &Epoch) -> bool {
        let same_timeline = self.epoch.wall_origin == source.wall_origin;
        if self.sound.is_none() && same_timeline && self.epoch.tracks.has(MediaKind::Audio) {
            self.sound = Some(source.id);
        }
        let takes = self.sound == Some(source.id);
        self.outdated |= same_timeline && !takes;
        takes
    }
}

struct Bridge<'a> {
    pipelines: &'a Pipelines,
    stream: &'a Arc<Stream>,
    told: &'a Told,
    writer: BridgeWriter<CompatiblePackets>,
    /// Numbers and times of pictures go on from epoch to epoch.
    counter: PacketCounter,
    /// The packet lane's present epoch.
    packets: Option<Arc<Epoch>>,
    /// `None` while packets pass as they are.
    pictures: Option<Pictures>,
    target: Option<Target>,
    wishes: KeyframeWishes,
    pace: KeyframePace,
}

impl Bridge<'_> {
    /// The packet lane is in this epoch now.
    fn enter(&mut self, epoch: &Arc<Epoch>) {
        if self.packets.as_ref().is_some_and(|known| known.id == epoch.id) {
            return;
        }
        self.packets = Some(epoch.clone());
        match epoch.tracks.codec(MediaKind::Video) {
            None | Some(Codec::H264) => {
                self.pictures = None;
                let target = self.writer.begin_epoch(epoch.tracks.clone(), epoch.wall_origin);
                self.target =
                    Some(Target { epoch: target, pictures: None, sound: Some(epoch.id), outdated: false });
            }
            Some(codec) if self.pictures.is_none() => {
                self.told.encoded(codec);
                self.target = None;
                self.pictures = Some(Pictures { frames: self.stream.subscribe(), session: None });
            }
            Some(codec) => self.told.encoded(codec),
        }
    }

    /// Packets of the packet lane: all of them, or the sound.
    fn batch(&mut self, batch: &PacketBatch) {
        self.enter(&batch.epoch);
        let passes = self.pictures.is_none();
        let Some(target) = &mut self.target else { return };
        let wanted = |packet: &&Packet| passes || packet.kind == MediaKind::Audio;
        let packets: Vec<Packet> = batch.packets.iter().filter(wanted).cloned().collect();
        if packets.is_empty() {
            return;
        }
        if passes || target.takes_sound(&batch.epoch) {
            let epoch = target.epoch.clone();
            self.writer.write(CompatiblePackets(PacketBatch { epoch, packets }));
        } else if target.outdated {
            self.ask();
        }
    }

    /// A frame of the frame lane.
    fn frame(&mut self, frame: &Frame) -> Result<(), PipelineError> {
        if self.stream.is_hold(&frame.epoch) {
            return Ok(());
        }
        let Some(pictures) = &mut self.pictures else { return Ok(()) };
        let session = match pictures.session.take().filter(|known| known.source.id == frame.epoch.id) {
            Some(session) => session,
            None => Session::begin(self.pipelines, &frame.epoch)?,
        };
        let session = pictures.session.insert(session);
        let at_edge = is_at_edge(&pictures.frames);
        match (&mut session.video, frame.kind) {
            // H.264 that the frame lane's own encoder made is in order.
            (Some((video, _)), MediaKind::Video) => {
                if let Took::Packets(group) = video.take(frame, at_edge)? {
                    self.write(group);
                }
            }
            // With pictures, an epoch begins with one.
            (Some(_), MediaKind::Audio) => {}
            (None, _) => {
                if self.needs_target() {
                    self.begin_target();
                }
            }
        }
        Ok(())
    }

    /// Something came out of the encoder.
    fn encoded(&mut self, encoded: Encoded) -> Result<(), PipelineError> {
        let session = self.pictures.as_mut().and_then(|pictures| pictures.session.as_mut());
        let Some((video, _)) = session.and_then(|session| session.video.as_mut()) else { return Ok(()) };
        match encoded {
            Encoded::Configured(config) => video.configured(config)?,
            Encoded::Unit(unit) => {
                if let Some(group) = video.encoded(unit) {
                    self.write(group);
                }
            }
        }
        Ok(())
    }

    /// Writes a picture. Epochs begin with a keyframe.
    fn write(&mut self, group: Packetized) {
        if group.payloads.is_empty() {
            return;
        }
        if group.keyframe {
            self.pace.came();
        }
        if self.needs_target() {
            if !group.keyframe {
                return;
            }
            self.begin_target();
        }
        let Some(target) = &self.target else { return };
        let packets = self.counter.number(group);
        self.writer.write(CompatiblePackets(PacketBatch { epoch: target.epoch.clone(), packets }));
    }

    /// Whether the present session's media are not for the present target.
    fn needs_target(&self) -> bool {
        let session = self.pictures.as_ref().and_then(|pictures| pictures.session.as_ref());
        let source = session.map(|session| session.source.id);
        self.target.as_ref().is_none_or(|target| target.outdated || target.pictures != source)
    }

    fn begin_target(&mut self) {
        let session = self.pictures.as_ref().and_then(|pictures| pictures.session.as_ref());
        let Some(Session { source, video, .. }) = session else { return };
        // Of the same publisher, and not from before a pause.
        let sound = self.packets.as_ref().filter(|packets| packets.wall_origin == source.wall_origin);
        let audio = match sound {
            Some(sound) => sound.tracks.audio.clone(),
            None => source.tracks.audio.as_ref().map(|_| fmtp::audio()),
        };
        let sound = sound.filter(|_| audio.is_some()).map(|sound| sound.id);
        let video = video.as_ref().map(|(_, track)| track.clone());
        let epoch = self.writer.begin_epoch(Tracks { video, audio }, source.wall_origin);
        self.target = Some(Target { epoch, pictures: Some(source.id), sound, outdated: false });
    }

    /// Viewers wish for keyframes.
    fn wished(&mut self, wishes: KeyframeWishes) {
        let before = std::mem::replace(&mut self.wishes, wishes);
        if self.pictures.is_some() {
            return self.ask();
        }
        for layer in (0..MAX_LAYERS as u8).filter(|layer| wishes.newer(&before, *layer)) {
            self.stream.request_layer_keyframe(layer);
        }
    }

    /// Makes the next picture a keyframe, if the last such wish is long enough ago.
    fn ask(&mut self) {
        let session = self.pictures.as_ref().and_then(|pictures| pictures.session.as_ref());
        let Some((video, _)) = session.and_then(|session| session.video.as_ref()) else {
            return self.pace.came(); // it begins with one
        };
        if self.pace.ask(Instant::now()) {
            video.force_keyframe();
        }
    }
}

/// How often keyframes are made that are asked for. Pure.
#[derive(Debug, Default)]
struct KeyframePace {
    asked: Option<Instant>,
    /// One is wished for that came too soon after the last.
    waiting: bool,
}

impl KeyframePace {
    /// Whether to make one now; if not, then when it is [`due`](Self::due).
    fn ask(&mut self, now: Instant) -> bool {
        let soon = self.asked.is_some_and(|asked| now.saturating_duration_since(asked) < KEYFRAME_EVERY);
        self.waiting = soon;
        if !soon {
            self.asked = Some(now);
        }
        !soon
    }

    /// A keyframe has come: it grants all wishes before it.
    fn came(&mut self) {
        self.waiting = false;
    }

    fn due(&self) -> Option<Instant> {
        self.asked.filter(|_| self.waiting).map(|asked| asked + KEYFRAME_EVERY)
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn epoch(id: u64, wall: u64, audio: bool) -> Arc<Epoch> {
        let tracks = Tracks { video: Some(VideoTrack::new(Codec::H264)), audio: audio.then(fmtp::audio) };
        Arc::new(Epoch { id, tracks, wall_origin: SystemTime::UNIX_EPOCH + Duration::from_secs(wall) })
    }

    fn target(sound: Option<u64>, audio: bool) -> Target {
        Target { epoch: epoch(9, 100, audio), pictures: Some(8), sound, outdated: false }
    }

    #[test]
    fn a_target_has_the_sound_of_one_epoch() {
        let mut known = target(Some(3), true);
        assert!(known.takes_sound(&epoch(3, 100, true)) && !known.outdated);
        assert!(!known.takes_sound(&epoch(4, 100, true)), "its numbers may repeat those of 3");
        assert!(known.outdated, "so another target begins");
        let mut open = target(None, true);
        assert!(open.takes_sound(&epoch(4, 100, true)), "the first that comes");
        assert!(!open.takes_sound(&epoch(5, 100, true)));
    }

    #[test]
    fn sound_of_another_publisher_waits_for_its_pictures() {
        let mut known = target(Some(3), true);
        assert!(!known.takes_sound(&epoch(4, 200, true)));
        assert!(!known.outdated, "its pictures begin a target by themselves");
        let mut silent = target(None, false);
        assert!(!silent.takes_sound(&epoch(4, 100, true)) && silent.outdated, "sound joins");
    }

    #[test]
    fn keyframes_are_made_once_a_second_and_a_wish_in_between_is_kept() {
        let (mut pace, now) = (KeyframePace::default(), Instant::now());
        assert!(pace.ask(now) && pace.due().is_none());
        assert!(!pace.ask(now + KEYFRAME_EVERY / 2));
        assert_eq!(pace.due(), Some(now + KEYFRAME_EVERY));
        assert!(pace.ask(now + KEYFRAME_EVERY) && pace.due().is_none());
        assert!(!pace.ask(now + KEYFRAME_EVERY * 3 / 2));
        pace.came();
        assert_eq!(pace.due(), None, "it came by itself");
    }
}
