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

/// What one buffer list of the muxer holds: an initialisation segment, a part, or both.
pub(super) fn read_list(list: &gst::BufferListRef, audio: bool) -> (Option<Bytes>, Option<MuxedPart>) {
    let mut init = None;
    let mut part: Option<(MediaTime, Duration, bool)> = None;
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
            && let Some(start) = buffer.pts()
        {
            let duration = buffer.duration().unwrap_or_default();
            let starts_segment = !flags.contains(gst::BufferFlags::DELTA_UNIT);
            part = Some((
                Origin::CONTAINER.read(start),
                Duration::from_nanos(duration.nseconds()),
                starts_segment,
            ));
        }
        data.extend_from_slice(&bytes);
    }
    let part = part.map(|(start, duration, starts_segment)| MuxedPart {
        start,
        duration,
        independent: audio || first_sample_is_sync(&data).unwrap_or(false),
        starts_segment,
        data: data.into(),
    });
    (init, part)
}

/// Whether the first sample of the first fragment is a sync sample; `None` if the boxes don't tell.
fn first_sample_is_sync(data: &[u8]) -> Option<bool> {
    let traf = child(child(data, b"moof")?, b"traf")?;
    let run = child(traf, b"trun")?;
    let run_flags = word(run, 0)? & 0x00ff_ffff;
    // ISO/IEC 14496-12 §8.8.8: count, then the optional data offset and first sample flags.
    let mut at = 8 + if run_flags & 0x1 != 0 { 4 } else { 0 };
    let flags = if run_flags & 0x4 != 0 {
        word(run, at)?
    } else if run_flags & 0x400 != 0 {
        at += if run_flags & 0x100 != 0 { 4 } else { 0 };
        at += if run_flags & 0x200 != 0 { 4 } else { 0 };
        word(run, at)?
    } else {
        // §8.8.7: the default flags come last, after the other optional fields.
        let header = child(traf, b"tfhd")?;
        let header_flags = word(header, 0)?;
        if header_flags & 0x20 == 0 {
            return None;
        }
        let before = [(0x1, 8), (0x2, 4), (0x8, 4), (0x10, 4)];
        let skipped: usize =
            before.iter().filter(|(flag, _)| header_flags & flag != 0).map(|(_, size)| size).sum();
        word(header, 8 + skipped)?
    };
    // §8.8.3.1: sample_is_non_sync_sample
    Some(flags & 0x0001_0000 == 0)
}

/// The content of the first box named `name` among the boxes in `data`.
fn child<'a>(mut data: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    loop {
        let size = usize::try_from(word(data, 0)?).ok()?;
        let content = data.get(8..size)?;
        if data.get(4..8)? == name {
            return Some(content);
        }
        data = &data[size..];
    }
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(data.get(at..at + 4)?.try_into().ok()?))
}
