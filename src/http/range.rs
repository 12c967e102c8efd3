//! Range requests (RFC 9110 §14) for bytes that are in memory.

use axum::http::HeaderMap;
use axum::http::header::{IF_RANGE, RANGE};
use std::ops::Range;

/// What of an answer's bytes is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of them.
    Whole,
    /// From the first to the last (§14.1.2); without a last, up to the end.
    From(u64, Option<u64>),
    /// So many at the end.
    Last(u64),
}

impl Wanted {
    /// What the headers say. A range that is not well formed, of another unit, or one of several is
    /// ignored, as §14.2 allows; and so is any with a condition, since nothing here has a validator.
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(RANGE) else { return Self::Whole };
        if headers.contains_key(IF_RANGE) {
            return Self::Whole;
        }
        value.to_str().ok().and_then(Self::parse).unwrap_or(Self::Whole)
    }

    fn parse(value: &str) -> Option<Self> {
        let (first, last) = value.trim().strip_prefix("bytes=")?.trim().split_once('-')?;
        if first.is_empty() {
            return Some(Self::Last(number(last)?));
        }
        let (first, last) = (number(first)?, if last.is_empty() { None } else { Some(number(last)?) });
        last.is_none_or(|last| last >= first).then_some(Self::From(first, last))
    }

    /// Where that lies in `length` bytes; `None`: nowhere (416).
    pub(super) fn within(&self, length: usize) -> Option<Range<usize>> {
        let bounded = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).min(length);
        let range = match *self {
            Self::Whole => return Some(0..length),
            Self::From(first, last) => {
                bounded(first)..last.map_or(length, |last| bounded(last.saturating_add(1)))
            }
            Self::Last(count) => length - bounded(count)..length,
        };
        (!range.is_empty()).then_some(range)
    }
}

fn number(digits: &str) -> Option<u64> {
    let decimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // Beyond what 64 bits hold is beyond the end.
    decimal.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn wanted(value: &str) -> Wanted {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_str(value).expect("a value"));
        Wanted::read(&headers)
    }

    #[test]
    fn one_range_of_bytes_is_understood() {
        for (value, range) in [
            ("bytes=0-0", Some(0..1)),
            ("bytes=2-5", Some(2..6)),
            ("bytes=2-", Some(2..10)),
            ("bytes=2-99999999999999999999", Some(2..10)),
            ("bytes=-3", Some(7..10)),
            ("bytes=-30", Some(0..10)),
            ("bytes=10-", None),
            ("bytes=10-12", None),
            ("bytes=-0", None),
        ] {
            assert_eq!(wanted(value).within(10), range, "{value}");
        }
    }

    #[test]
    fn what_is_no_range_of_ours_is_ignored() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-2",
            "bytes=0-1,3-4",
            "items=0-1",
            "bytes=+1-2",
        ] {
            assert_eq!(wanted(value), Wanted::Whole, "{value}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_static("bytes=0-1"));
        headers.insert(IF_RANGE, HeaderValue::from_static("\"tag\""));
        assert_eq!(Wanted::read(&headers), Wanted::Whole);
    }
}
