//! The lines of a playlist (RFC 8216bis §4.1, §4.2): tags, attribute lists, URIs, each with its number.
//!
//! Reads whatever it is given; what is wrong with it is for the rules to say.

/// One line that is neither empty nor a comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Counted from 1.
    pub number: usize,
    pub content: Content<'a>,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content<'a> {
    /// `#EXT…`: the name without `#`, and what follows the colon.
    Tag(&'a str, &'a str),
    Uri(&'a str),
}

/// The lines of `text` that say something.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let line = line.trim_end_matches('\r');
        let content = match line.strip_prefix('#') {
            Some(tag) if tag.starts_with("EXT") => {
                let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
                Content::Tag(name, value)
            }
            Some(_) => return None,
            None if line.trim().is_empty() => return None,
            None => Content::Uri(line),
        };
        Some(Line { number: index + 1, content })
    })
}

/// Line `number` of `text` as evidence.
pub(super) fn quote(text: &str, number: usize) -> String {
    let line =
        number.checked_sub(1).and_then(|index| text.lines().nth(index)).unwrap_or("(not in this version)");
    format!("line {number}: {line}")
}

/// The attributes of a tag, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Attributes<'a> {
    /// Reads a list; what is no `NAME=value` is left out.
    pub fn parse(list: &'a str) -> Self {
        let mut found = Vec::new();
        let mut rest = list;
        while !rest.is_empty() {
            let Some((name, after)) = rest.split_once('=') else { break };
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => {
                    let (value, after) = quoted.split_once('"').unwrap_or((quoted, ""));
                    (value, after.split_once(',').map_or("", |(_, after)| after))
                }
                None => after.split_once(',').unwrap_or((after, "")),
            };
            found.push((name.trim(), value));
            rest = after;
        }
        Self(found)
    }

    /// The value of `name`, without its quotes.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(found, _)| *found == name).map(|(_, value)| *value)
    }

    /// The value of `name` as a number, if it is one.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.get(name)?.parse().ok()
    }

    /// Whether `name` is `YES`.
    pub fn yes(&self, name: &str) -> bool {
        self.get(name) == Some("YES")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_numbered_and_told_apart() {
        let found: Vec<Line> = lines("#EXTM3U\n# a comment\n\n#EXTINF:2.0,t:x\r\na.ts\n").collect();
        let expected = [
            (1, Content::Tag("EXTM3U", "")),
            (4, Content::Tag("EXTINF", "2.0,t:x")),
            (5, Content::Uri("a.ts")),
        ];
        assert_eq!(found, expected.map(|(number, content)| Line { number, content }));
        assert_eq!(quote("a\nb", 2), "line 2: b");
    }

    #[test]
    fn attributes_may_hold_commas_in_quotes() {
        let list = Attributes::parse("CODECS=\"avc1.4d,mp4a.40.2\",BANDWIDTH=100,DEFAULT=YES,X=\"\"");
        assert_eq!(list.get("CODECS"), Some("avc1.4d,mp4a.40.2"));
        assert_eq!(list.number("BANDWIDTH"), Some(100));
        assert!(list.yes("DEFAULT") && !list.yes("AUTOSELECT"));
        assert_eq!(list.get("X"), Some(""));
        assert_eq!(list.number::<u64>("CODECS"), None);
    }
}
