//! Parts: what the muxer hands out, and how it is read from the muxer's buffer lists.

use super::PipelineError;
use super::clock::Origin;
use crate::media::MediaTime;
use bytes::Bytes;
use gstreamer as gst;
use std::time::Duration;

/// What comes out of a [`Muxer`](super::Muxer).
#[derive(Clone, Debug)]
pub enum MuxOutput {
    /// The initialisation segment (ftyp and moov). Comes once, before the first part.
    Init(Bytes),
    /// The next part.
    Part(MuxedPart),
    /// All that was pushed has come out.
    Finished,
    /// The muxer is dead: start another one, in a new epoch.
    Failed(PipelineError),
}

/// One CMAF chunk. The parts of a segment, joined, are the segment.
#[derive(Clone, Debug)]
pub struct MuxedPart {
    /// The earliest presentation time in it, on the stream's timeline.
    pub start: MediaTime,
    /// Up to the start of the next part.
    pub duration: Duration,
    /// Whether a decoder can start here.
    pub independent: bool,
    /// Whether it is the first part of a segment.
    pub starts_segment: bool,
    /// moof and mdat, with styp in front where a segment begins.
    pub data: Bytes,
}

/// The unit in which a track's media times are counted in the container.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timescale {
    ticks_a_second: u32,
    audio: bool,
}

impl Timescale {
    /// As the description of the video muxer has it.
    pub(super) const VIDEO: Self = Self { ticks_a_second: 90_000, audio: false };

    /// Audio tracks count samples.
    pub(super) fn audio(sample_rate: u32) -> Self {
        Self { ticks_a_second: sample_rate.max(1), audio: true }
    }
}

/// What one buffer list of the muxer holds: an initialisation segment, a part, or both.
pub(super) fn read_list(
    list: &gst::BufferListRef,
    segment: Option<&gst::Segment>,
    timescale: Timescale,
    origin: Origin,
) -> (Option<Bytes>, Option<MuxedPart>) {
    let mut init = None;
    let mut part: Option<(MediaTime, bool)> = None;
    let mut data = Vec::with_capacity(list.iter().map(gst::BufferRef::size).sum());
    for buffer in list.iter() {
        let Ok(bytes) = buffer.map_readable() else {
            continue;
        };
        let flags = buffer.flags();
        if flags.contains(gst::BufferFlags::DISCONT | gst::BufferFlags::HEADER) {
            init = Some(Bytes::copy_from_slice(&bytes));
            continue;
        }
        if part.is_none()
            && let Some(start) = running_time(segment, buffer)
        {
            part = Some((origin.read(start), !flags.contains(gst::BufferFlags::DELTA_UNIT)));
        }
        data.extend_from_slice(&bytes);
    }
    let part = part.map(|(start, starts_segment)| {
        let run = Run::read(&data).unwrap_or_default();
        let end = MediaTime::from_ticks(run.ticks as i64, timescale.ticks_a_second);
        MuxedPart {
            start,
            duration: end.since(MediaTime::ZERO),
            independent: timescale.audio || run.starts_with_sync,
            starts_segment,
            data: data.into(),
        }
    });
    (init, part)
}

/// When a buffer is presented: muxers may put their segment far from zero.
fn running_time(segment: Option<&gst::Segment>, buffer: &gst::BufferRef) -> Option<gst::ClockTime> {
    segment?.downcast_ref::<gst::ClockTime>()?.to_running_time(buffer.pts()?)
}

/// What a part's first track run says.
#[derive(Debug, Default)]
struct Run {
    /// The first sample is a sync sample.
    starts_with_sync: bool,
    /// All samples together last so long. (The muxer's own statement is wrong with B-frames.)
    ticks: u64,
}

impl Run {
    /// `None` if the boxes don't tell.
    fn read(data: &[u8]) -> Option<Self> {
        let fragment = child(child(data, b"moof")?, b"traf")?;
        // ISO/IEC 14496-12 §8.8.7: flags say which of the optional fields are there, in this order.
        let header = child(fragment, b"tfhd")?;
        let mut fields = Fields { data: header, at: 8, flags: word(header, 0)? };
        fields.skip(0x1, 8);
        fields.skip(0x2, 4);
        let duration = fields.take(0x8)?;
        fields.skip(0x10, 4);
        let flags = fields.take(0x20)?;
        // §8.8.8: the same for the run, and again for each sample.
        let run = child(fragment, b"trun")?;
        let count = word(run, 4)?;
        let mut fields = Fields { data: run, at: 8, flags: word(run, 0)? };
        fields.skip(0x1, 4);
        let mut first_flags = fields.take(0x4)?.or(flags);
        let mut ticks = 0;
        for number in 0..count {
            ticks += u64::from(fields.take(0x100)?.or(duration)?);
            fields.skip(0x200, 4);
            let own = fields.take(0x400)?;
            fields.skip(0x800, 4);
            if number == 0 {
                first_flags = own.or(first_flags);
            }
        }
        // §8.8.3.1: sample_is_non_sync_sample
        Some(Self { starts_with_sync: first_flags? & 0x0001_0000 == 0, ticks })
    }
}

/// Optional fields, one after the other.
struct Fields<'a> {
    data: &'a [u8],
    at: usize,
    flags: u32,
}

impl Fields<'_> {
    fn skip(&mut self, flag: u32, size: usize) {
        if self.flags & flag != 0 {
            self.at += size;
        }
    }

    /// The field, if its flag is set; `None` if the box is too short for it.
    fn take(&mut self, flag: u32) -> Option<Option<u32>> {
        if self.flags & flag == 0 {
            return Some(None);
        }
        let value = word(self.data, self.at)?;
        self.at += 4;
        Some(Some(value))
    }
}

/// The content of the first box named `name` among the boxes in `data`.
pub(super) fn child<'a>(mut data: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    loop {
        let size = usize::try_from(word(data, 0)?).ok()?;
        let content = data.get(8..size)?;
        if data.get(4..8)? == name {
            return Some(content);
        }
        data = &data[size..];
    }
}

/// Four bytes, the most significant first.
pub(super) fn word(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(data.get(at..at + 4)?.try_into().ok()?))
}
