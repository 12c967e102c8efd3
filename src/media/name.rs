//! The grammar of stream names: checked once, then trusted.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A valid stream name: 1 to 64 letters, digits, `-`, `_` and `.` (ASCII), no leading dot, not reserved.
///
/// Safe in URLs, pages, playlists and file names as it is. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName(Arc<str>);

/// First path segments that belong to the server itself.
const RESERVED: [&str; 13] = [
    "api",
    "assets",
    "favicon.ico",
    "healthz",
    "index.html",
    "live",
    "metrics",
    "readyz",
    "robots.txt",
    "static",
    "whep",
    "whip",
    "openapi.json",
];

/// Why a text is not a stream name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStreamName {
    /// Empty or longer than 64 characters.
    #[error("a stream name has 1 to 64 characters, this one has {0}")]
    Length(usize),
    /// A character outside the grammar.
    #[error("a stream name holds only letters, digits, '-', '_' and '.', not {0:?}")]
    Character(char),
    /// It would look like a hidden file or a parent folder.
    #[error("a stream name does not begin with a dot")]
    LeadingDot,
    /// It is a path of the server's own.
    #[error("the name {0:?} is reserved; choose another")]
    Reserved(&'static str),
}

impl StreamName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StreamName {
    type Err = InvalidStreamName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let length = text.chars().count();
        if length == 0 || length > 64 {
            return Err(InvalidStreamName::Length(length));
        }
        if let Some(bad) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_.".contains(*c)) {
            return Err(InvalidStreamName::Character(bad));
        }
        if text.starts_with('.') {
            return Err(InvalidStreamName::LeadingDot);
        }
        if let Some(reserved) = RESERVED.iter().find(|reserved| reserved.eq_ignore_ascii_case(text)) {
            return Err(InvalidStreamName::Reserved(reserved));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_within_the_grammar_are_taken() {
        for name in ["a", "demo", "Main-Stage_2.hd", "0", &"x".repeat(64)] {
            assert_eq!(name.parse::<StreamName>().map(|name| name.to_string()), Ok(name.to_string()));
        }
    }

    #[test]
    fn names_outside_the_grammar_say_why() {
        use InvalidStreamName as E;
        let long = "x".repeat(65);
        for (name, why) in [
            ("", E::Length(0)),
            (long.as_str(), E::Length(65)),
            ("a/b", E::Character('/')),
            ("é", E::Character('é')),
            ("a b", E::Character(' ')),
            ("..", E::LeadingDot),
            (".git", E::LeadingDot),
            ("API", E::Reserved("api")),
        ] {
            assert_eq!(name.parse::<StreamName>(), Err(why), "{name}");
        }
    }
}
