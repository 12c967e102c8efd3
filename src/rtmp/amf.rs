//! AMF0 values, read within bounds.
//!
//! `rml_amf0` recurses once for each level of nesting, without end, and a deep enough message, sent before any
//! login, would overflow the stack; and it knows neither dates nor long strings, which encoders put into their
//! metadata. So it only writes; what comes is read here, with a bound on depth and number, and nothing is
//! allocated from a declared count.

use rml_rtmp::rml_amf0::{self, Amf0Value};
use std::collections::HashMap;

/// How deeply values may be nested.
const DEPTH: usize = 16;
/// How many values a message may hold.
const VALUES: usize = 4096;
/// Bytes of a text that are kept: no more can be written.
const TEXT: usize = 65_535;

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

/// Reads all values; at least one. A date comes as its milliseconds since 1970, a long string or a document as a
/// text, an object with a class as any other; a reference to an earlier value as undefined.
pub(super) fn parse(data: &[u8]) -> Result<Vec<Amf0Value>, AmfError> {
    let mut reader = Reader { rest: data, count: 0 };
    let mut values = Vec::new();
    while !reader.rest.is_empty() {
        values.push(reader.value(0)?);
    }
    if values.is_empty() { Err(AmfError::Malformed) } else { Ok(values) }
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

/// A cursor over values.
struct Reader<'a> {
    rest: &'a [u8],
    /// Values so far.
    count: usize,
}

impl Reader<'_> {
    /// The next value, inside `depth` others. AMF0 §2.
    fn value(&mut self, depth: usize) -> Result<Amf0Value, AmfError> {
        self.count += 1;
        if self.count > VALUES {
            return Err(AmfError::TooMany);
        }
        let marker = self.u8()?;
        if matches!(marker, 3 | 8 | 10 | 16) && depth == DEPTH {
            return Err(AmfError::TooDeep);
        }
        Ok(match marker {
            0 => Amf0Value::Number(self.number()?),
            1 => Amf0Value::Boolean(self.u8()? != 0),
            2 => Amf0Value::Utf8String(self.text()?),
            3 => self.object(depth)?,
            5 => Amf0Value::Null,
            6 | 13 => Amf0Value::Undefined,
            7 => {
                self.u16()?;
                Amf0Value::Undefined
            }
            8 => {
                // The declared count is a hint only: an end follows all the same.
                self.u32()?;
                self.object(depth)?
            }
            10 => self.array(depth)?,
            11 => {
                let milliseconds = self.number()?;
                // The time zone, which "should not be filled in".
                self.u16()?;
                Amf0Value::Number(milliseconds)
            }
            12 | 15 => {
                let length = self.u32()?;
                Amf0Value::Utf8String(self.text_of(length as usize)?)
            }
            16 => {
                self.text()?;
                self.object(depth)?
            }
            marker => return Err(AmfError::Marker(marker)),
        })
    }

    /// Properties up to the end of an object.
    fn object(&mut self, depth: usize) -> Result<Amf0Value, AmfError> {
        let mut properties = HashMap::new();
        loop {
            let name = self.text()?;
            if name.is_empty() {
                return match self.u8()? {
                    9 => Ok(Amf0Value::Object(properties)),
                    _ => Err(AmfError::Malformed),
                };
            }
            properties.insert(name, self.value(depth + 1)?);
        }
    }

    fn array(&mut self, depth: usize) -> Result<Amf0Value, AmfError> {
        let count = self.u32()?;
        // Each element takes a byte at least.
        if count as usize > self.rest.len() {
            return Err(AmfError::Truncated);
        }
        let elements: Result<_, _> = (0..count).map(|_| self.value(depth + 1)).collect();
        elements.map(Amf0Value::StrictArray)
    }

    fn text(&mut self) -> Result<String, AmfError> {
        let length = self.u16()?;
        self.text_of(length.into())
    }

    /// A text of so many bytes. Encoders that don't write UTF-8 are understood as far as possible.
    fn text_of(&mut self, length: usize) -> Result<String, AmfError> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(AmfError::Truncated)?;
        self.rest = rest;
        let mut text = String::from_utf8_lossy(&bytes[..length.min(TEXT)]).into_owned();
        text.truncate(text.floor_char_boundary(TEXT));
        Ok(text)
    }

    fn number(&mut self) -> Result<f64, AmfError> {
        self.field().map(f64::from_be_bytes)
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
        assert_eq!(parse(&bomb), Err(AmfError::TooDeep));
        let objects = [3, 0, 1, b'a'].repeat(9000);
        assert_eq!(parse(&objects), Err(AmfError::TooDeep));
    }

    #[test]
    fn a_declared_count_allocates_nothing() {
        assert_eq!(parse(&[10, 0xff, 0xff, 0xff, 0xff]), Err(AmfError::Truncated));
        assert_eq!(parse(&vec![5; 65_536]), Err(AmfError::TooMany));
    }

    #[test]
    fn sixteen_levels_are_allowed() {
        let mut data = [10, 0, 0, 0, 1].repeat(16);
        data.push(5);
        assert!(parse(&data).is_ok());
        data.insert(0, 1);
        data.splice(0..1, [10, 0, 0, 0, 1]);
        assert_eq!(parse(&data), Err(AmfError::TooDeep));
    }

    #[test]
    fn dates_long_strings_and_classes_of_metadata_are_read() {
        let date = [&[11][..], &1.5e12f64.to_be_bytes(), &[0xff, 0xc4]].concat();
        let long = [&[12, 0, 1, 0x11, 0x70][..], &vec![b'x'; 70_000]].concat();
        let class = [&[16, 0, 1, b'C', 0, 1, b'a'][..], &date, &[0, 0, 9]].concat();
        let data = [&date[..], &long, &class, &[7, 0, 1, 13, 15, 0, 0, 0, 2, b'<', 0xff]].concat();
        let expected = [
            Amf0Value::Number(1.5e12),
            Amf0Value::Utf8String("x".repeat(TEXT)),
            object([("a", Amf0Value::Number(1.5e12))]),
            Amf0Value::Undefined,
            Amf0Value::Undefined,
            text("<\u{fffd}"),
        ];
        assert_eq!(parse(&data), Ok(expected.to_vec()));
        for end in 1..date.len() {
            assert_eq!(parse(&date[..end]), Err(AmfError::Truncated), "{end}");
        }
        assert_eq!(parse(&[12, 0xff, 0xff, 0xff, 0xff, 0]), Err(AmfError::Truncated));
        assert_eq!(parse(&[4]), Err(AmfError::Marker(4)));
    }

    #[test]
    fn noise_never_panics_and_what_is_read_can_be_written() {
        let mut state = 7u64;
        let mut read = 0;
        for _ in 0..50_000 {
            let length = 1 + (state >> 60) as usize * 2;
            let data: Vec<u8> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    [0, 0, 1, 1, 2, 3, 5, 6, 8, 9, 10, b'a', 0, 0, 4, 0xff][(state >> 50) as usize % 16]
                })
                .collect();
            if let Ok(values) = parse(&data) {
                read += 1;
                assert!(parse(&serialize(&values)).is_ok());
            }
        }
        assert!(read > 100, "{read}");
    }
}
