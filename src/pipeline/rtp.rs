//! RTP packets as they come out of GStreamer's payloaders, made into the packet lane's batches.

use super::PipelineError;
use super::clock::Origin;
use super::graph::{Graph, fail};
use crate::media::{MediaKind, MediaTime, Packet};
use bytes::{Bytes, BytesMut};
use gstreamer as gst;
use gstreamer_app as gst_app;
use tokio::sync::{mpsc, watch};

/// The payloads of one access unit or one audio frame.
#[derive(Clone, Debug)]
pub(super) struct Packetized {
    pub(super) kind: MediaKind,
    pts: MediaTime,
    payloads: Vec<Bytes>,
}

/// Numbers the packets of one track; goes on through epochs.
#[derive(Debug)]
pub(super) struct PacketCounter {
    clock_rate: u32,
    sequence: u64,
    /// RFC 3550 §5.1: time stamps begin at a random value.
    offset: u32,
    /// Where the next audio frame begins if no sample is missing, in ticks.
    next: Option<i64>,
}

/// Ticks from one Opus packet to the next: 20 ms (RFC 7587 §4.1).
const OPUS_FRAME: i64 = 960;
/// Times that stray less than this from the count of samples are the sender's rounding (FLV counts
/// milliseconds) or jitter: receivers would hear them as gaps. Ticks: 30 ms.
const OPUS_TOLERANCE: u64 = 1440;

impl PacketCounter {
    pub(super) fn new(clock_rate: u32) -> Self {
        let sequence = u64::from(rand::random::<u16>() >> 1);
        Self { clock_rate, sequence, offset: rand::random(), next: None }
    }

    /// The packets of one group.
    pub(super) fn number(&mut self, group: Packetized) -> Vec<Packet> {
        let video = group.kind == MediaKind::Video;
        let mut ticks = group.pts.to_ticks(self.clock_rate);
        if !video {
            ticks = self.next.filter(|next| ticks.abs_diff(*next) < OPUS_TOLERANCE).unwrap_or(ticks);
            self.next = Some(ticks + OPUS_FRAME);
        }
        let timestamp = self.offset.wrapping_add(ticks as u32);
        let pts = MediaTime::from_ticks(ticks, self.clock_rate);
        let keyframe = video && group.payloads.iter().any(|payload| holds_idr(payload));
        let last = group.payloads.len().saturating_sub(1);
        let packet = |(index, payload): (usize, Bytes)| {
            self.sequence += 1;
            Packet {
                kind: group.kind,
                layer: 0,
                sequence: self.sequence,
                timestamp,
                pts,
                marker: video && index == last,
                keyframe: keyframe && index == 0,
                payload,
            }
        };
        group.payloads.into_iter().enumerate().map(packet).collect()
    }
}

/// Sends what comes out of `graph` to `output`, a whole video frame at a time, the very first
/// `pre_skip_nanos` earlier than stamped. If nobody reads, `failure` is set and the pipeline stops.
pub(super) fn collect(
    graph: &Graph,
    kind: MediaKind,
    mut pre_skip_nanos: i64,
    output: mpsc::Sender<Packetized>,
    failure: watch::Sender<Option<PipelineError>>,
) {
    let file = graph.file();
    let mut group = Group::default();
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let mut take = |buffer: &gst::BufferRef| {
            let Some(pts) = Origin::INTERNAL.presentation(&sample, buffer) else {
                return Ok(());
            };
            if !group.add(buffer) && kind == MediaKind::Video {
                return Ok(());
            }
            let payloads = group.take();
            if payloads.is_empty() {
                return Ok(());
            }
            let pts = pts.shifted(-std::mem::take(&mut pre_skip_nanos));
            output.try_send(Packetized { kind, pts, payloads }).map_err(|_| {
                fail(&failure, PipelineError::OutputLost { file });
                gst::FlowError::Error
            })
        };
        match sample.buffer_list() {
            Some(list) => list.iter().try_for_each(take)?,
            None => sample.buffer().map_or(Ok(()), &mut take)?,
        }
        Ok(gst::FlowSuccess::Ok)
    });
    graph.sink().set_callbacks(callbacks.build());
}

/// The payloads of one access unit, in one allocation.
#[derive(Debug, Default)]
struct Group {
    bytes: BytesMut,
    ends: Vec<usize>,
}

impl Group {
    /// Adds a packet's payload; says whether its marker bit is set.
    fn add(&mut self, buffer: &gst::BufferRef) -> bool {
        const HEADER: usize = 12;
        let Ok(packet) = buffer.map_readable() else {
            return false;
        };
        // The payloader writes neither contributing sources nor extensions.
        let (Some(second), Some(payload)) = (packet.get(1), packet.get(HEADER..)) else {
            return false;
        };
        self.bytes.extend_from_slice(payload);
        self.ends.push(self.bytes.len());
        second & 0x80 != 0
    }

    fn take(&mut self) -> Vec<Bytes> {
        let bytes = self.bytes.split().freeze();
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let payloads = starts.zip(&self.ends).map(|(start, &end)| bytes.slice(start..end)).collect();
        self.ends.clear();
        payloads
    }
}

/// Whether an H.264 payload holds (a piece of) an IDR slice, RFC 6184 §5.2.
fn holds_idr(payload: &[u8]) -> bool {
    const IDR: u8 = 5;
    const STAP_A: u8 = 24;
    const FU_A: u8 = 28;
    let nal_type = |byte: &u8| byte & 0x1f;
    match payload.first().map(nal_type) {
        Some(IDR) => true,
        Some(FU_A) => payload.get(1).map(nal_type) == Some(IDR),
        Some(STAP_A) => {
            let mut units = &payload[1..];
            while let [high, low, rest @ ..] = units {
                if rest.first().map(nal_type) == Some(IDR) {
                    return true;
                }
                units = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or_default();
            }
            false
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audio(counter: &mut PacketCounter, micros: i64) -> Packet {
        let pts = MediaTime::from_nanos(micros * 1000);
        let group = Packetized { kind: MediaKind::Audio, pts, payloads: vec![Bytes::from_static(b"x")] };
        counter.number(group).remove(0)
    }

    #[test]
    fn sound_is_counted_in_samples_however_its_times_are_rounded() {
        let mut counter = PacketCounter::new(48_000);
        let mut last = audio(&mut counter, 7_000);
        for number in 1..500 {
            let next = audio(&mut counter, 7_000 + number * 20_000 + [0, 900, -700][number as usize % 3]);
            assert_eq!(next.timestamp.wrapping_sub(last.timestamp), 960);
            assert_eq!((next.pts.as_nanos() - last.pts.as_nanos() + 500) / 1000, 20_000);
            last = next;
        }
        // A hole is a hole.
        let next = audio(&mut counter, 7_000 + 501 * 20_000 + 100_000);
        assert!(next.timestamp.wrapping_sub(last.timestamp) > 5000);
    }
}
