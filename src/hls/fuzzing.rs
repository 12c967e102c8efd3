//! Fuzzing of what players ask for: delivery directives and file names.

use super::directives::Directives;
use super::names::File;

/// The query of a playlist request.
pub fn directives(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parsed = Directives::parse(Some(text));
    if let Ok(Directives { block: Some(position), .. }) = parsed {
        let number = |key: &str, value: u64| {
            text.split('&').any(|pair| {
                pair.strip_prefix(key).and_then(|rest| rest.strip_prefix('=')?.parse().ok()) == Some(value)
            })
        };
        assert!(number("_HLS_msn", position.sequence), "{text:?}");
        assert!(position.part.is_none_or(|part| number("_HLS_part", part)), "{text:?}");
    }
    let _ = File::parse(text);
}
