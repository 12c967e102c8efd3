//! The initialization section: tracks, their clocks and codecs.

use super::boxes::{be16, be32, boxes, find};
use super::codecs;
use crate::check_hls::digest::Digest;

/// An initialization section.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::check_hls) struct Init {
    pub tracks: Vec<Track>,
}

/// What a track carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::check_hls) enum Kind {
    Video,
    Audio,
    Other,
}

/// One track.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::check_hls) struct Track {
    pub id: u32,
    pub kind: Kind,
    /// Ticks a second.
    pub timescale: u32,
    /// As `CODECS` names it; `None` if that can't be told.
    pub codec: Option<String>,
    /// Width and height, as coded.
    pub resolution: Option<(u32, u32)>,
    pub encrypted: bool,
    /// Of the sample entry: parameter sets and all.
    pub configuration: Digest,
    /// Of `trex`: duration, size and flags of samples that say none.
    pub defaults: [u32; 3],
}

impl Init {
    pub fn track(&self, id: u32) -> Option<&Track> {
        self.tracks.iter().find(|track| track.id == id)
    }

    pub fn of_kind(&self, kind: Kind) -> Option<&Track> {
        self.tracks.iter().find(|track| track.kind == kind)
    }

    pub fn is_encrypted(&self) -> bool {
        self.tracks.iter().any(|track| track.encrypted)
    }
}

/// Reads an initialization section; `None` if `bytes` is none.
pub(super) fn read(bytes: &[u8]) -> Option<Init> {
    let moov = find(bytes, &[b"moov"])?;
    let tracks = boxes(moov).filter(|(kind, ..)| kind == b"trak");
    let tracks: Vec<Track> = tracks.filter_map(|(_, trak, _)| track(trak, moov)).collect();
    (!tracks.is_empty()).then_some(Init { tracks })
}

fn track(trak: &[u8], moov: &[u8]) -> Option<Track> {
    let tkhd = find(trak, &[b"tkhd"])?;
    let id = be32(tkhd, if tkhd.first()? & 1 == 1 { 20 } else { 12 })?;
    let mdhd = find(trak, &[b"mdia", b"mdhd"])?;
    let timescale = be32(mdhd, if mdhd.first()? & 1 == 1 { 20 } else { 12 })?.max(1);
    let kind = match find(trak, &[b"mdia", b"hdlr"])?.get(8..12)? {
        b"vide" => Kind::Video,
        b"soun" => Kind::Audio,
        _ => Kind::Other,
    };
    let stsd = find(trak, &[b"mdia", b"minf", b"stbl", b"stsd"])?;
    let (entry, contents, _) = boxes(stsd.get(8..)?).next()?;
    let resolution = (kind == Kind::Video)
        .then(|| Some((be16(contents, 24)?.into(), be16(contents, 26)?.into())))
        .flatten();
    Some(Track {
        id,
        kind,
        timescale,
        codec: codecs::name(entry, contents, kind),
        resolution,
        encrypted: matches!(&entry, b"encv" | b"enca"),
        configuration: Digest::of(contents),
        defaults: defaults(moov, id).unwrap_or_default(),
    })
}

fn defaults(moov: &[u8], id: u32) -> Option<[u32; 3]> {
    let mut all = boxes(find(moov, &[b"mvex"])?).filter(|(kind, ..)| kind == b"trex");
    let (_, trex, _) = all.find(|(_, trex, _)| be32(trex, 4) == Some(id))?;
    Some([be32(trex, 12)?, be32(trex, 16)?, be32(trex, 20)?])
}
