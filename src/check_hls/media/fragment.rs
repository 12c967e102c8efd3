//! Movie fragments (ISO/IEC 14496-12 §8.8): the samples and their times.

use super::boxes::{be32, boxes, find};
use super::init::Init;
use crate::check_hls::digest::Digest;

/// One coded picture or frame of sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::check_hls) struct Sample {
    pub track: u32,
    /// Ticks of its track's clock.
    pub decode_time: u64,
    pub duration: u32,
    /// From decoding to presentation, in ticks.
    pub composition_offset: i32,
    /// Decoding can start with it.
    pub sync: bool,
    pub data: Digest,
}

/// A file with more samples than this is cut off there.
const MOST_SAMPLES: usize = 100_000;

/// `sample_is_non_sync_sample`
const NON_SYNC: u32 = 0x1_0000;

/// All samples of all fragments in `bytes`, in their order.
pub(super) fn read(bytes: &[u8], init: Option<&Init>) -> Vec<Sample> {
    let mut samples = Vec::new();
    for (_, moof, offset) in boxes(bytes).filter(|(kind, ..)| kind == b"moof") {
        let mut data_end = None;
        for (_, traf, _) in boxes(moof).filter(|(kind, ..)| kind == b"traf") {
            // What is cut short ends here.
            if track_fragment(bytes, traf, offset, init, &mut data_end, &mut samples).is_none() {
                return samples;
            }
        }
    }
    samples
}

fn track_fragment(
    bytes: &[u8],
    traf: &[u8],
    moof: usize,
    init: Option<&Init>,
    data_end: &mut Option<usize>,
    samples: &mut Vec<Sample>,
) -> Option<()> {
    let tfhd = find(traf, &[b"tfhd"])?;
    let (flags, track) = (be32(tfhd, 0)? & 0xff_ffff, be32(tfhd, 4)?);
    let mut fields = Fields { data: tfhd, at: 8 };
    let base = fields.if_set(flags, 1)?.map(|high| high as usize);
    let base = match base {
        // A base data offset has 64 bits.
        Some(high) => high << 32 | fields.take()? as usize,
        None => moof,
    };
    fields.if_set(flags, 2)?;
    let [duration, size, sample_flags] =
        init.and_then(|init| init.track(track)).map_or([0; 3], |track| track.defaults);
    let duration = fields.if_set(flags, 8)?.unwrap_or(duration);
    let size = fields.if_set(flags, 0x10)?.unwrap_or(size);
    let sample_flags = fields.if_set(flags, 0x20)?.unwrap_or(sample_flags);

    let tfdt = find(traf, &[b"tfdt"])?;
    let mut time = match tfdt.first()? {
        0 => u64::from(be32(tfdt, 4)?),
        _ => u64::from(be32(tfdt, 4)?) << 32 | u64::from(be32(tfdt, 8)?),
    };
    for (_, trun, _) in boxes(traf).filter(|(kind, ..)| kind == b"trun") {
        let (flags, count) = (be32(trun, 0)? & 0xff_ffff, be32(trun, 4)?);
        let mut fields = Fields { data: trun, at: 8 };
        let offset = fields.if_set(flags, 1)?;
        let first_flags = fields.if_set(flags, 4)?;
        let mut at = match offset {
            Some(offset) => base.checked_add_signed(offset as i32 as isize)?,
            None => data_end.unwrap_or(base),
        };
        for index in 0..count {
            let duration = fields.if_set(flags, 0x100)?.unwrap_or(duration);
            let size = fields.if_set(flags, 0x200)?.unwrap_or(size);
            let own = fields.if_set(flags, 0x400)?;
            let composition_offset = fields.if_set(flags, 0x800)?.unwrap_or_default() as i32;
            let flags = own.or(first_flags.filter(|_| index == 0)).unwrap_or(sample_flags);
            let end = at.checked_add(size as usize)?;
            let data = Digest::of(bytes.get(at..end)?);
            let sync = flags & NON_SYNC == 0;
            samples.push(Sample { track, decode_time: time, duration, composition_offset, sync, data });
            if samples.len() >= MOST_SAMPLES {
                return None;
            }
            time = time.checked_add(duration.into())?;
            at = end;
        }
        *data_end = Some(at);
    }
    Some(())
}

/// Optional fields of 32 bits in a row.
struct Fields<'a> {
    data: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn take(&mut self) -> Option<u32> {
        let value = be32(self.data, self.at)?;
        self.at += 4;
        Some(value)
    }

    /// The next field if `flag` is among `flags`; the outer `None`: it is cut short.
    fn if_set(&mut self, flags: u32, flag: u32) -> Option<Option<u32>> {
        if flags & flag == 0 { Some(None) } else { self.take().map(Some) }
    }
}
