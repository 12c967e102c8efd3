//! What the check found, for people and for machines.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// A line of the standard that was not kept, with the evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Broken {
    /// The rule's id, such as `L01`.
    pub rule: &'static str,
    /// The playlist or file.
    pub url: String,
    /// What is wrong, with figures.
    pub what: String,
    /// Which of the playlist's versions show it, counted from 1 in the order they were asked for.
    pub versions: Vec<usize>,
    /// The lines that show it.
    pub lines: Vec<String>,
}

impl Broken {
    /// Without versions and lines yet.
    pub(super) fn new(rule: &'static str, url: &url::Url, what: impl Into<String>) -> Self {
        Self { rule, url: url.to_string(), what: what.into(), versions: Vec::new(), lines: Vec::new() }
    }

    /// Shown by the version at `index`, in this line.
    pub(super) fn seen(mut self, index: usize, line: impl Into<Option<String>>) -> Self {
        self.versions.push(index + 1);
        self.lines.extend(line.into());
        self
    }
}

/// How much was looked at in one media playlist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// The playlist.
    pub url: String,
    /// Versions that were served.
    pub versions: usize,
    /// Segments and parts that were fetched.
    pub files: usize,
    /// Requests at the edges.
    pub probes: usize,
}

/// The outcome of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What was checked.
    pub url: String,
    /// Broken lines, by rule; at most five of a rule.
    pub broken: Vec<Broken>,
    /// How many more of a rule there were.
    pub more: BTreeMap<&'static str, usize>,
    /// What could not be judged, and why.
    pub not_judged: Vec<String>,
    /// How much was looked at.
    pub seen: Vec<Seen>,
}

/// As many of one rule are shown.
const SHOWN: usize = 5;

impl Report {
    /// Keeps what makes the point.
    pub(super) fn add(&mut self, found: Vec<Broken>) {
        for broken in found {
            if self.broken.iter().filter(|other| other.rule == broken.rule).count() < SHOWN {
                self.broken.push(broken);
            } else {
                *self.more.entry(broken.rule).or_default() += 1;
            }
        }
    }

    /// Whether no line is broken.
    pub fn is_clean(&self) -> bool {
        self.broken.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Seen { url, versions, files, probes } in &self.seen {
            writeln!(f, "{url}: {versions} versions, {files} files, {probes} probes")?;
        }
        for broken in &self.broken {
            writeln!(f, "\n{} {}\n    {}", broken.rule, broken.url, broken.what)?;
            if !broken.versions.is_empty() {
                let versions: Vec<String> = broken.versions.iter().map(usize::to_string).collect();
                writeln!(f, "    version {}", versions.join(", "))?;
            }
            for line in &broken.lines {
                writeln!(f, "    {line}")?;
            }
        }
        for (rule, more) in &self.more {
            writeln!(f, "\n{rule}: {more} more like these")?;
        }
        for not_judged in &self.not_judged {
            writeln!(f, "not judged: {not_judged}")?;
        }
        let lines = self.broken.len() + self.more.values().sum::<usize>();
        match lines {
            0 => write!(f, "clean: no broken line"),
            1 => write!(f, "1 broken line"),
            lines => write!(f, "{lines} broken lines"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use url::Url;

    #[test]
    fn a_few_of_a_kind_make_the_point() {
        let url = Url::parse("http://h/v.m3u8").expect("a URL");
        let mut report = Report::default();
        assert!(report.is_clean());
        report.add(
            (0..8).map(|at| Broken::new("L01", &url, "long").seen(at, "line 3: x".to_owned())).collect(),
        );
        assert_eq!((report.broken.len(), report.more["L01"]), (5, 3));
        let text = report.to_string();
        assert!(text.contains("L01 http://h/v.m3u8\n    long\n    version 1\n    line 3: x\n"), "{text}");
        assert!(text.ends_with("8 broken lines"), "{text}");
    }
}
