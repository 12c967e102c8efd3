//! Boxes (ISO/IEC 14496-12 §4.2), from bytes that may lie.

/// The boxes in `data`: type, contents, and the offset of the box in `data`. Ends at the first that does not fit.
pub(super) fn boxes(data: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8], usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = data.get(at..)?;
        let size = u64::from(be32(rest, 0)?);
        let kind = rest.get(4..8)?.try_into().ok()?;
        let (header, size) = match size {
            0 => (8, rest.len() as u64),
            1 => (16, u64::from(be32(rest, 8)?) << 32 | u64::from(be32(rest, 12)?)),
            size => (8, size),
        };
        let size = usize::try_from(size).ok()?;
        let contents = rest.get(header..size)?;
        let offset = at;
        at += size;
        Some((kind, contents, offset))
    })
}

/// The contents of the first box at the end of `path`.
pub(super) fn find<'a>(data: &'a [u8], path: &[&[u8; 4]]) -> Option<&'a [u8]> {
    let Some((first, rest)) = path.split_first() else { return Some(data) };
    let (_, contents, _) = boxes(data).find(|(kind, ..)| kind == *first)?;
    find(contents, rest)
}

pub(super) fn be32(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(data.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub(super) fn be16(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(data.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_found_and_lies_end_the_search() {
        let data =
            [&[0, 0, 0, 17][..], b"moov", &[0, 0, 0, 9], b"trak", &[7], &[0, 0, 0, 99], b"mdat"].concat();
        assert_eq!(find(&data, &[b"moov", b"trak"]), Some(&[7][..]));
        assert_eq!(boxes(&data).count(), 1);
        assert_eq!(find(&data, &[b"mdat"]), None);
    }
}
