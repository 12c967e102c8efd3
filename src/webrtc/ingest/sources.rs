//! Whose packet it is: the SSRCs of one publisher, known from the offer or learned from header extensions and
//! payload types (RFC 9143 §9.2, RFC 8852).
//!
//! Owns the table of sources. What a packet claims is believed only after it was found authentic, and the table
//! is bounded: an encoding has at most one source of media and one of retransmissions.

use super::offer::{Extension, Offer, Section};
use super::rtp::Header;
use super::source::{Role, Source};
use std::time::{Duration, Instant};

/// A source takes another's place once that one has been silent for so long.
const SILENT: Duration = Duration::from_millis(200);

/// Where a packet belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    /// Index of the m-section.
    pub(super) section: usize,
    /// Index of the encoding in it.
    pub(super) encoding: usize,
    /// It is a retransmission (RFC 4588).
    pub(super) repair: bool,
}

/// The SSRCs of a session.
#[derive(Debug)]
pub(super) struct Sources {
    list: Vec<Source>,
    /// By header extension id.
    extensions: [Option<Extension>; 15],
}

impl Sources {
    /// None yet.
    pub(super) fn new(offer: &Offer) -> Self {
        let mut extensions = [None; 15];
        for (id, extension) in offer.sections.iter().flat_map(|section| &section.extensions) {
            if let Some(slot) = extensions.get_mut(usize::from(*id)) {
                slot.get_or_insert(*extension);
            }
        }
        Self { list: Vec::new(), extensions }
    }

    /// The source with this SSRC.
    pub(super) fn get(&mut self, ssrc: u32) -> Option<&mut Source> {
        self.list.iter_mut().find(|source| source.ssrc == ssrc)
    }

    /// All sources of media.
    pub(super) fn media(&mut self) -> impl Iterator<Item = &mut Source> {
        self.list.iter_mut().filter(|source| matches!(source.role, Role::Media(_)))
    }

    /// The transport-wide sequence number of a packet.
    pub(super) fn transport_wide(&self, header: &Header, data: &[u8]) -> Option<u16> {
        let value =
            header.extensions(data).find(|(id, _)| self.extension(*id) == Some(Extension::TransportCc));
        value?.1.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// Where a packet of an unknown source belongs, by what it says itself.
    pub(super) fn destination(&self, offer: &Offer, header: &Header, data: &[u8]) -> Option<Destination> {
        let (mut mid, mut rid, mut repaired) = (None, None, None);
        for (id, value) in header.extensions(data) {
            match self.extension(id) {
                Some(Extension::Mid) => mid = Some(value),
                Some(Extension::Rid) => rid = Some(value),
                Some(Extension::RepairedRid) => repaired = Some(value),
                Some(Extension::TransportCc) | None => {}
            }
        }
        let carries = |section: &Section| role_of(section, header.payload_type).is_some();
        let declares = |section: &Section| {
            let mut all = section.sources.iter().flat_map(|(media, rtx)| std::iter::once(*media).chain(*rtx));
            all.any(|ssrc| ssrc == header.ssrc)
        };
        let section = offer
            .sections
            .iter()
            .position(|section| mid == Some(section.mid.as_bytes()) && carries(section))
            .or_else(|| offer.sections.iter().position(|section| declares(section) && carries(section)))
            .or_else(|| offer.sections.iter().position(carries))?;
        let described = &offer.sections[section];
        let repair = role_of(described, header.payload_type)?;
        let encoding = if described.rids.is_empty() {
            0
        } else {
            let name = if repair { repaired.or(rid) } else { rid };
            match name {
                Some(name) => described.rids.iter().position(|rid| rid.as_bytes() == name)?,
                None if repair => grouped_encoding(described, header.ssrc)?,
                None => return None,
            }
        };
        Some(Destination { section, encoding, repair })
    }

    /// Whether a new source may take the place of that with `role`.
    pub(super) fn may_replace(&self, now: Instant, role: Role) -> bool {
        let present = self.list.iter().find(|source| source.role == role);
        present.is_none_or(|source| now.saturating_duration_since(source.heard) >= SILENT)
    }

    /// Takes a source in, in place of another with its role.
    pub(super) fn insert(&mut self, source: Source) {
        self.list.retain(|other| other.role != source.role);
        self.list.push(source);
    }

    fn extension(&self, id: u8) -> Option<Extension> {
        *self.extensions.get(usize::from(id))?
    }
}

/// Whether a section's payload type stands for retransmissions; `None` if it is not the section's.
fn role_of(section: &Section, payload_type: u8) -> Option<bool> {
    section.formats.iter().find_map(|format| {
        if format.payload_type == payload_type {
            Some(false)
        } else {
            (format.rtx == Some(payload_type)).then_some(true)
        }
    })
}

/// The encoding of retransmissions that an offer groups with its media (RFC 5576 §4.2), in the order of the rids.
fn grouped_encoding(section: &Section, ssrc: u32) -> Option<usize> {
    section.sources.iter().position(|(_, rtx)| *rtx == Some(ssrc)).filter(|place| *place < section.rids.len())
}
