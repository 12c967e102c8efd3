//! A value of a setting before it is parsed, and what it may be parsed as.
//!
//! Each reading gives `None` for a value that does not fit.

use crate::media::{Ladder, Secret, StreamName};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A value before it is parsed.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// A text, a number or a boolean; for a list, its items between commas.
    One(String),
    /// An array of a TOML file.
    Many(Vec<String>),
}

impl Value {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::One(text) => Some(text.trim()),
            Self::Many(_) => None,
        }
    }

    pub(super) fn parse<T: FromStr>(&self) -> Option<T> {
        self.text()?.parse().ok()
    }

    pub(super) fn list<T: FromStr>(&self) -> Option<Vec<T>> {
        let items: Vec<&str> = match self {
            Self::One(text) => text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect(),
            Self::Many(items) => items.iter().map(String::as_str).collect(),
        };
        items.into_iter().map(|item| item.parse().ok()).collect()
    }

    /// From `least` to `most` milliseconds, both included.
    pub(super) fn duration(&self, least: u64, most: u64) -> Option<Duration> {
        let duration = humantime::parse_duration(self.text()?).ok()?;
        (Duration::from_millis(least)..=Duration::from_millis(most)).contains(&duration).then_some(duration)
    }

    /// Values of single streams, `NAME=VALUE`, each as `parse` takes it.
    pub(super) fn by_stream<T>(&self, parse: fn(&Self) -> Option<T>) -> Option<BTreeMap<StreamName, T>> {
        let items: Vec<String> = self.list()?;
        let pair = |item: &String| {
            let (name, value) = item.split_once('=')?;
            Some((name.trim().parse().ok()?, parse(&Self::One(value.to_owned()))?))
        };
        items.iter().map(pair).collect()
    }

    /// Rungs as a list; none if it is empty.
    pub(super) fn ladder(&self) -> Option<Ladder> {
        let rungs: Vec<String> = self.list()?;
        Ladder::new(rungs.iter().map(String::as_str)).ok()
    }

    /// From `least` to `most` bits a second, both included; `k` stands for a thousand.
    pub(super) fn bitrate(&self, least: u32, most: u32) -> Option<u32> {
        let text = self.text()?;
        let (number, unit) = match text.strip_suffix(['k', 'K']) {
            Some(number) => (number, 1000),
            None => (text, 1),
        };
        let rate = number.parse::<u32>().ok()?.checked_mul(unit)?;
        (least..=most).contains(&rate).then_some(rate)
    }

    pub(super) fn secret(&self) -> Option<Secret> {
        let text = self.text()?;
        let fits = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        ((8..=256).contains(&text.len()) && text.chars().all(fits)).then(|| Secret::new(text))
    }

    pub(super) fn printable(&self) -> Option<&str> {
        let text = self.text()?;
        let fits = |c: char| c.is_ascii_graphic() || c == ' ';
        ((1..=256).contains(&text.len()) && text.chars().all(fits)).then_some(text)
    }

    /// The most that there may be; without bound if it is switched off.
    pub(super) fn count(&self) -> Option<usize> {
        match self.text()? {
            "0" | "off" => Some(usize::MAX),
            number => number.parse().ok().filter(|count| (1..=100_000).contains(count)),
        }
    }

    /// A rate, or `None` for one that is switched off.
    pub(super) fn rate(&self) -> Option<Option<NonZeroU32>> {
        match self.text()? {
            "0" | "off" => Some(None),
            number => number.parse().ok().filter(|rate: &NonZeroU32| rate.get() <= 1_000_000).map(Some),
        }
    }

    /// Origins as browsers write them, or `None` for all.
    pub(super) fn origins(&self) -> Option<Option<Vec<String>>> {
        let list: Vec<String> = self.list()?;
        if list == ["*"] {
            return Some(None);
        }
        let fits = |text: &String| {
            let origin = url::Url::parse(text).ok().map(|url| url.origin().ascii_serialization());
            text != "null" && origin.as_ref() == Some(text)
        };
        list.iter().all(fits).then_some(Some(list))
    }

    pub(super) fn path(&self) -> Option<PathBuf> {
        self.text().filter(|text| !text.is_empty()).map(PathBuf::from)
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One(text) => f.write_str(text),
            Self::Many(items) => write!(f, "[{}]", items.join(", ")),
        }
    }
}
