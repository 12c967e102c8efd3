//! The numbers that VP8 and VP9 give to pictures in their payload descriptors, and how a viewer sees them.
//!
//! Each encoding of a simulcast publisher counts its pictures by itself, and so does each publisher. A viewer
//! gets one track, in which they must go on (RFC 7741 §4.2, RFC 9628 §4.2). They are found once per stream; a
//! viewer adds a constant, and nothing before its track changes for the first time.

use crate::media::Codec;

/// Where the picture ID and TL0PICIDX stand in one payload, and what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pictures {
    /// The offset of the picture ID in the payload.
    at: u8,
    /// It has 15 bits rather than 7.
    wide: bool,
    id: u16,
    /// The offset of TL0PICIDX and its value.
    base: Option<(u8, u8)>,
}

/// What a viewer adds to both numbers, wrapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shift {
    id: u16,
    base: u8,
}

/// The numbers that a viewer has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    id: u16,
    base: Option<u8>,
}

impl Pictures {
    /// Finds them in a payload; `None` for other codecs, and where there is no picture ID.
    pub(super) fn find(codec: Codec, payload: &[u8]) -> Option<Self> {
        match codec {
            Codec::Vp8 => vp8(payload),
            Codec::Vp9 => vp9(payload),
            _ => None,
        }
    }

    /// What a viewer with this shift gets.
    pub(super) fn shown(&self, shift: Shift) -> Shown {
        let id = self.id.wrapping_add(shift.id) & self.mask();
        Shown { id, base: self.base.map(|(_, base)| base.wrapping_add(shift.base)) }
    }

    /// What must be added so that these numbers follow `last`: the next picture, of a base layer.
    pub(super) fn shift_after(&self, last: Shown) -> Shift {
        let base =
            self.base.zip(last.base).map_or(0, |((_, ours), last)| last.wrapping_add(1).wrapping_sub(ours));
        Shift { id: last.id.wrapping_add(1).wrapping_sub(self.id), base }
    }

    /// Writes what a viewer with this shift gets into its copy of the payload.
    pub(super) fn write(&self, payload: &mut [u8], shift: Shift) {
        let shown = self.shown(shift);
        let at = usize::from(self.at);
        if self.wide {
            if let Some(field) = payload.get_mut(at..at + 2) {
                field.copy_from_slice(&(shown.id | 0x8000).to_be_bytes());
            }
        } else if let Some(field) = payload.get_mut(at) {
            *field = shown.id as u8;
        }
        if let Some(((at, _), value)) = self.base.zip(shown.base)
            && let Some(field) = payload.get_mut(usize::from(at))
        {
            *field = value;
        }
    }

    fn mask(&self) -> u16 {
        if self.wide { 0x7fff } else { 0x7f }
    }
}

impl Shift {
    /// Nothing is to be written.
    pub(super) fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// RFC 7741 §4.2: `X R N S R PID`, `I L T K`, picture ID, TL0PICIDX, …
fn vp8(payload: &[u8]) -> Option<Pictures> {
    let (first, extension) = (payload.first()?, payload.get(1)?);
    if first & 0x80 == 0 || extension & 0x80 == 0 {
        return None;
    }
    let (found, next) = picture_id(payload, 2)?;
    let base = if extension & 0x40 != 0 { Some((next, *payload.get(usize::from(next))?)) } else { None };
    Some(Pictures { base, ..found })
}

/// RFC 9628 §4.2: `I P L F B E V Z`, picture ID, layer indices with TL0PICIDX in non-flexible mode, …
fn vp9(payload: &[u8]) -> Option<Pictures> {
    let first = payload.first()?;
    if first & 0x80 == 0 {
        return None;
    }
    let (found, next) = picture_id(payload, 1)?;
    let (layers, flexible) = (first & 0x20 != 0, first & 0x10 != 0);
    let base =
        if layers && !flexible { Some((next + 1, *payload.get(usize::from(next) + 1)?)) } else { None };
    Some(Pictures { base, ..found })
}

/// The picture ID at `at`, and what follows it.
fn picture_id(payload: &[u8], at: u8) -> Option<(Pictures, u8)> {
    let high = *payload.get(usize::from(at))?;
    let wide = high & 0x80 != 0;
    let id = if wide {
        u16::from_be_bytes([high & 0x7f, *payload.get(usize::from(at) + 1)?])
    } else {
        u16::from(high)
    };
    Some((Pictures { at, wide, id, base: None }, at + if wide { 2 } else { 1 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_found_in_each_form_of_descriptor() {
        let found =
            |codec, payload: &[u8]| Pictures::find(codec, payload).map(|found| found.shown(Shift::default()));
        let shown = |id, base| Some(Shown { id, base });
        assert_eq!(found(Codec::Vp8, &[0x90, 0x80, 0x12, 9]), shown(0x12, None));
        assert_eq!(found(Codec::Vp8, &[0x90, 0x80, 0x81, 0x12, 9]), shown(0x112, None));
        assert_eq!(found(Codec::Vp8, &[0x90, 0xe0, 0x81, 0x12, 5, 0x20]), shown(0x112, Some(5)));
        assert_eq!(found(Codec::Vp9, &[0x88, 0x81, 0x12, 9]), shown(0x112, None));
        assert_eq!(found(Codec::Vp9, &[0xa8, 0x81, 0x12, 0x20, 7, 9]), shown(0x112, Some(7)));
        assert_eq!(found(Codec::Vp9, &[0xb8, 0x12, 0x20, 7, 9]), shown(0x12, None), "flexible mode has none");
        for none in
            [&[][..], &[0x10, 0, 0, 0], &[0x90], &[0x90, 0x60, 5, 0], &[0x90, 0x80], &[0x90, 0x80, 0x81]]
        {
            assert_eq!(found(Codec::Vp8, none), None, "{none:x?}");
        }
        for none in [&[][..], &[0x28, 1, 2, 3], &[0x80], &[0x80, 0x81], &[0xa0, 0x12, 0x20]] {
            assert_eq!(found(Codec::Vp9, none), None, "{none:x?}");
        }
        assert_eq!(found(Codec::H264, &[0x90, 0x80, 0x12, 9]), None);
    }

    #[test]
    fn a_shift_makes_them_go_on_and_changes_nothing_else() {
        let last = Shown { id: 0x7fff, base: Some(255) };
        for (codec, payload, expected) in [
            (Codec::Vp8, vec![0x90, 0xf0, 0x81, 0x12, 5, 0x20, 9], vec![0x90, 0xf0, 0x80, 0x00, 0, 0x20, 9]),
            (Codec::Vp8, vec![0x90, 0x80, 0x12, 9], vec![0x90, 0x80, 0x00, 9]),
            (Codec::Vp9, vec![0xa8, 0x81, 0x12, 0x20, 7, 9], vec![0xa8, 0x80, 0x00, 0x20, 0, 9]),
        ] {
            let found = Pictures::find(codec, &payload).expect("numbers");
            let shift = found.shift_after(last);
            assert!(!shift.is_none());
            let mut copy = payload.clone();
            found.write(&mut copy, shift);
            assert_eq!(copy, expected);
            // The picture after it.
            let mut next = payload.clone();
            let at = usize::from(found.at + u8::from(found.wide));
            next[at] += 1;
            let next = Pictures::find(codec, &next).expect("numbers");
            assert_eq!(next.shown(shift).id, 1);
        }
    }
}
