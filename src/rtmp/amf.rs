//! The AMF0 guard: values are counted before anything builds them.
//!
//! `rml_amf0` recurses once for each level of nesting, without end; a deep enough message, sent before
//! any login, would overflow the stack, and no process survives that. So each message passes
//! [`check`] first, which walks it without recursion and without allocating from a declared count.

use rml_rtmp::rml_amf0::{self, Amf0Value};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How deeply values may be nested.
const DEPTH: usize = 16;
/// How many values a message may hold.
const VALUES: usize = 4096;

/// Why AMF0 data is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AmfError {
    #[error("AMF values nested more than {DEPTH} deep")]
    TooDeep,
    #[error("more than {VALUES} AMF values")]
    TooMany,
    #[error("AMF data ends too early")]
    Truncated,
    #[error("AMF type {0} is not supported")]
    Marker(u8),
    #[error("malformed AMF data")]
    Malformed,
}

/// Checks, then parses. The result holds at least one value.
pub(super) fn parse(data: &[u8]) -> Result<Vec<Amf0Value>, AmfError> {
    check(data)?;
    let mut rest = data;
    // The guard leaves no known way to panic; an unknown one must cost one connection only.
    let parsed = catch_unwind(AssertUnwindSafe(|| rml_amf0::deserialize(&mut rest)));
    match parsed {
        Ok(Ok(values)) if !values.is_empty() => Ok(values),
        _ => Err(AmfError::Malformed),
    }
}

/// Serialises values that we made ourselves.
pub(super) fn serialize(values: &[Amf0Value]) -> Vec<u8> {
    // Only a text longer than 65 535 bytes can fail, and every text is cut far below that.
    rml_amf0::serialize(&values.to_vec()).unwrap_or_default()
}

/// A text, cut to what AMF0 and a log line can carry.
pub(super) fn text(value: &str) -> Amf0Value {
    Amf0Value::Utf8String(value.chars().take(2048).collect())
}

/// An object.
pub(super) fn object<'a>(properties: impl IntoIterator<Item = (&'a str, Amf0Value)>) -> Amf0Value {
    let properties = properties.into_iter().map(|(name, value)| (name.to_owned(), value));
    Amf0Value::Object(properties.collect::<HashMap<_, _>>())
}

/// What is open while walking: an object (its properties end at a marker) or an array (so many to come).
#[derive(Clone, Copy)]
enum Open {
    Object,
    Array(u32),
}

/// Walks the whole of `data` in one pass.
pub(super) fn check(data: &[u8]) -> Result<(), AmfError> {
    let mut cursor = Cursor { rest: data };
    let mut open: Vec<Open> = Vec::with_capacity(DEPTH);
    let mut values = 0;
    loop {
        match open.last_mut() {
            None if cursor.rest.is_empty() => return Ok(()),
            None => {}
            Some(Open::Array(0)) => {
                open.pop();
                continue;
            }
            Some(Open::Array(left)) => *left -= 1,
            Some(Open::Object) => {
                let name = cursor.u16()?;
                cursor.skip(usize::from(name))?;
                if name == 0 {
                    if cursor.u8()? != 9 {
                        return Err(AmfError::Malformed);
                    }
                    open.pop();
                    continue;
                }
            }
        }
        values += 1;
        if values > VALUES {
            return Err(AmfError::TooMany);
        }
        // AMF0 §2.1.
        let opened = match cursor.u8()? {
            0 => cursor.skip(8).map(|()| None)?,
            1 => cursor.skip(1).map(|()| None)?,
            2 => {
                let length = cursor.u16()?;
                cursor.skip(usize::from(length)).map(|()| None)?
            }
            3 => Some(Open::Object),
            5 | 6 => None,
            8 => {
                cursor.skip(4)?;
                Some(Open::Object)
            }
            10 => {
                let count = cursor.u32()?;
                // Each element takes a byte at least.
                if count as usize > cursor.rest.len() {
                    return Err(AmfError::Truncated);
                }
                Some(Open::Array(count))
            }
            marker => return Err(AmfError::Marker(marker)),
        };
        if let Some(opened) = opened {
            if open.len() == DEPTH {
                return Err(AmfError::TooDeep);
            }
            open.push(opened);
        }
    }
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl Cursor<'_> {
    fn skip(&mut self, count: usize) -> Result<(), AmfError> {
        self.rest = self.rest.get(count..).ok_or(AmfError::Truncated)?;
        Ok(())
    }

    fn field<const N: usize>(&mut self) -> Result<[u8; N], AmfError> {
        let (field, rest) = self.rest.split_first_chunk().ok_or(AmfError::Truncated)?;
        self.rest = rest;
        Ok(*field)
    }

    fn u8(&mut self) -> Result<u8, AmfError> {
        self.field::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, AmfError> {
        self.field().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, AmfError> {
        self.field().map(u32::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_the_way_there_and_back() {
        let values = vec![
            text("connect"),
            Amf0Value::Number(1.0),
            object([("app", text("live")), ("nested", object([("yes", Amf0Value::Boolean(true))]))]),
            Amf0Value::StrictArray(vec![Amf0Value::Null, Amf0Value::Undefined]),
        ];
        assert_eq!(parse(&serialize(&values)), Ok(values));
    }

    #[test]
    fn a_nest_of_nine_thousand_arrays_is_refused() {
        let bomb = [10, 0, 0, 0, 1].repeat(9000);
        assert_eq!(check(&bomb), Err(AmfError::TooDeep));
        let objects = [3, 0, 1, b'a'].repeat(9000);
        assert_eq!(check(&objects), Err(AmfError::TooDeep));
    }

    #[test]
    fn a_declared_count_allocates_nothing() {
        assert_eq!(check(&[10, 0xff, 0xff, 0xff, 0xff]), Err(AmfError::Truncated));
        assert_eq!(parse(&[10, 0xff, 0xff, 0xff, 0xff]), Err(AmfError::Truncated));
        assert_eq!(check(&vec![5; 65_536]), Err(AmfError::TooMany));
    }

    #[test]
    fn sixteen_levels_are_allowed() {
        let mut data = [10, 0, 0, 0, 1].repeat(16);
        data.push(5);
        assert!(parse(&data).is_ok());
        data.insert(0, 1);
        data.splice(0..1, [10, 0, 0, 0, 1]);
        assert_eq!(check(&data), Err(AmfError::TooDeep));
    }

    #[test]
    fn what_the_guard_passes_the_parser_never_panics_on() {
        let mut state = 7u64;
        let mut passed = 0;
        for _ in 0..50_000 {
            let length = 1 + (state >> 60) as usize * 2;
            let data: Vec<u8> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    [0, 0, 1, 1, 2, 3, 5, 6, 8, 9, 10, b'a', 0, 0, 4, 0xff][(state >> 50) as usize % 16]
                })
                .collect();
            passed += usize::from(check(&data).is_ok());
            let _ = parse(&data);
        }
        assert!(passed > 100, "{passed}");
    }
}
