//! Doors and arrows: each outside crate is named in one room, and a room imports only rooms below it.
//!
//! Reads the sources as text: comments and string literals are blanked first, `use` trees are expanded.
//! A breach is reported as `file:line`.

use std::fs;
use std::path::{Path, PathBuf};

/// Each room of ours, and the rooms that it may import.
const ARROWS: &[(&str, &[&str])] = &[
    ("media", &[]),
    ("admission", &[]),
    ("tls", &[]),
    // What it checks was written by another room: it must not share a line with that.
    ("check_hls", &["tls"]),
    ("stream", &["media"]),
    ("pipeline", &["stream", "media"]),
    ("hls", &["pipeline", "stream", "media"]),
    ("rtmp", &["stream", "tls", "admission", "media"]),
    ("webrtc", &["pipeline", "stream", "admission", "media"]),
    ("store", &["media"]),
    ("auth", &["store", "media"]),
    ("declarations", &["store", "stream", "media"]),
    ("restream", &["store", "rtmp", "pipeline", "stream", "admission", "media"]),
    ("events", &["restream", "stream", "media"]),
    ("webhooks", &["events", "store", "admission", "media"]),
    (
        "metrics",
        &["webhooks", "events", "restream", "webrtc", "rtmp", "pipeline", "stream", "admission", "media"],
    ),
    (
        "http",
        &[
            "auth",
            "declarations",
            "metrics",
            "webhooks",
            "events",
            "restream",
            "store",
            "webrtc",
            "rtmp",
            "hls",
            "pipeline",
            "stream",
            "tls",
            "admission",
            "media",
        ],
    ),
    ("telemetry", &[]),
    ("config", &["auth", "check_hls", "telemetry", "media"]),
    ("fuzzing", &["webrtc", "rtmp", "hls", "media"]),
    (
        "gateway",
        &[
            "config",
            "telemetry",
            "http",
            "auth",
            "declarations",
            "metrics",
            "webhooks",
            "events",
            "restream",
            "store",
            "webrtc",
            "rtmp",
            "hls",
            "pipeline",
            "stream",
            "tls",
            "admission",
            "media",
        ],
    ),
];

/// Each outside crate that has a door, and the rooms that are its door.
const DOORS: &[(&str, &[&str])] = &[
    ("gstreamer", &["pipeline"]),
    ("gstreamer_app", &["pipeline"]),
    ("gstfmp4", &["pipeline"]),
    ("rtc", &["webrtc"]),
    ("webrtc", &["webrtc"]),
    ("p224", &["webrtc"]),
    ("quinn_udp", &["webrtc"]),
    ("socket2", &["webrtc", "rtmp"]),
    ("rml_rtmp", &["rtmp"]),
    ("md5", &["rtmp"]),
    ("tokio_rustls", &["tls", "rtmp"]),
    ("rustls_native_certs", &["rtmp"]),
    ("m3u8_rs", &["hls"]),
    ("axum", &["http"]),
    ("hyper", &["http"]),
    ("hyper_util", &["http"]),
    ("http_body_util", &["http"]),
    ("governor", &["admission", "http"]),
    ("tower", &["http"]),
    ("tower_http", &["http"]),
    ("reqwest", &["check_hls", "webhooks"]),
    ("rust_embed", &["http"]),
    ("utoipa_axum", &["http"]),
    ("clap", &["config", "main"]),
    ("prometheus_client", &["metrics"]),
    ("rusqlite", &["store"]),
    ("rusqlite_migration", &["store"]),
    ("toml", &["config"]),
    ("tracing_subscriber", &["telemetry"]),
];

/// `media` is pure: these would bring I/O, a clock or a runtime.
const IMPURE: [&str; 6] = ["tokio", "tokio_util", "std::fs", "std::net", "Instant::now", "SystemTime::now"];

#[test]
fn rooms_import_only_rooms_below() {
    let breaches = breaches(|Source { room, depth, .. }, path, line| {
        let (room, depth) = (room.as_str(), *depth);
        let target = room_of_ours(path, depth)?;
        let allowed = ARROWS.iter().find(|(name, _)| *name == room).map(|(_, allowed)| *allowed);
        let fine = room == "lib" || room == "main" || target == room;
        (!fine && !allowed.unwrap_or(&[]).contains(&target))
            .then(|| format!("{line}: {room} imports {target}"))
    });
    assert!(breaches.is_empty(), "arrows that point upwards:\n{}", breaches.join("\n"));
}

#[test]
fn each_outside_crate_is_named_at_its_door_only() {
    let breaches = breaches(|Source { room, .. }, path, line| {
        let room = room.as_str();
        let first = path.trim_start_matches("::").split("::").next()?;
        let (krate, doors) = DOORS.iter().find(|(krate, _)| *krate == first)?;
        // `webrtc::…` in lib.rs or http would be our room, but rooms are written `crate::webrtc`.
        (!doors.contains(&room)).then(|| format!("{line}: {room} names {krate}, whose door is {doors:?}"))
    });
    assert!(breaches.is_empty(), "crates named beside their door:\n{}", breaches.join("\n"));
}

#[test]
fn media_is_pure() {
    let mut breaches = Vec::new();
    // Tests may look at a clock.
    let is_code = |source: &Source| source.room == "media" && !source.file.ends_with("tests.rs");
    for source in sources().into_iter().filter(is_code) {
        let code = source.text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            for word in IMPURE.iter().filter(|word| line.contains(*word)) {
                breaches.push(format!("{}:{}: media names {word}", source.file.display(), number + 1));
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn every_room_has_its_floor() {
    for source in sources() {
        let known = ["lib", "main"].contains(&source.room.as_str())
            || ARROWS.iter().any(|(room, _)| *room == source.room);
        assert!(known, "{}: give the room {:?} its arrows in this test", source.file.display(), source.room);
    }
}

#[test]
fn every_file_says_what_it_owns() {
    for source in sources() {
        let text = fs::read_to_string(&source.file).expect("readable");
        assert!(text.starts_with("//!"), "{}:1: no `//!`", source.file.display());
    }
}

#[test]
fn the_reading_of_paths_is_right() {
    let text = r#"
use crate::{hls::Hls, media::{self, Frame}};
use gstreamer as gst;
// use crate::comment;
pub(super) use axum::routing::{
    get,
    post as p,
};
fn f() { let _ = "crate::text"; let c = '"'; ::hyper::body(); crate::stream::Hub::new(); self::inner::x(); }
mod tests {
    use super::super::webrtc::X;
}
"#;
    let found: Vec<(usize, String)> = paths(&blanked(text));
    let has = |line, path: &str| found.contains(&(line, path.to_owned()));
    assert!(has(2, "crate::hls::Hls") && has(2, "crate::media::self") && has(2, "crate::media::Frame"));
    assert!(has(5, "axum::routing::get") && has(5, "axum::routing::post"));
    assert!(has(9, "::hyper::body") && has(9, "crate::stream::Hub::new"), "{found:?}");
    assert!(has(3, "gstreamer"));
    assert_eq!(room_of_ours("super::super::webrtc::X", 2), Some("webrtc"));
    assert_eq!(room_of_ours("super::webrtc::X", 2), None);
    assert!(!found.iter().any(|(_, path)| path.contains("comment") || path.contains("text")));
}

/// One file of `src/`, without comments and literals.
struct Source {
    file: PathBuf,
    room: String,
    /// Modules between the root and this one, with this one.
    depth: usize,
    text: String,
}

/// What `judge` (source, path, "file:line") objects to, in all sources.
fn breaches(judge: impl Fn(&Source, &str, &str) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources() {
        for (line, path) in paths(&source.text) {
            let place = format!("{}:{line}", source.file.display());
            found.extend(judge(&source, &path, &place));
        }
    }
    found.sort();
    found.dedup();
    found
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 20, "the sources are not where they should be");
    let sources = files.into_iter().map(|file| {
        let inside = file.strip_prefix(&root).expect("below src").to_owned();
        let first = inside.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
        let room = first.trim_end_matches(".rs").to_owned();
        let stem = file.file_stem().expect("a name").to_string_lossy().into_owned();
        let depth =
            inside.components().count() - usize::from(["mod", "lib", "main"].contains(&stem.as_str()));
        let text = blanked(&fs::read_to_string(&file).expect("readable"));
        Source { depth, file: Path::new("src").join(inside), room, text }
    });
    sources.collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
}

/// The room that a path leads to: `crate::hls::Hls` → `hls`; so does `super::super::hls::Hls` in a file
/// that is `depth` modules below the root.
fn room_of_ours(path: &str, depth: usize) -> Option<&'static str> {
    let parts: Vec<&str> = path.split("::").collect();
    let up = parts.iter().take_while(|part| **part == "super").count();
    let first = match parts[0] {
        "crate" | "tidegate" => parts.get(1)?,
        "super" if up >= depth => parts.get(up)?,
        _ => return None,
    };
    ARROWS.iter().map(|(room, _)| *room).find(|room| room == first)
}

/// `text` with comments, strings and character literals turned into blanks; lines stay where they are.
fn blanked(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < characters.len() {
        let rest = &characters[at..];
        let length = literal_length(rest, out.chars().last());
        if length == 0 {
            out.push(rest[0]);
            at += 1;
        } else {
            out.extend(rest[..length].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at += length;
        }
    }
    out
}

/// Characters of the comment or literal that `rest` begins with; 0 if it begins with neither.
fn literal_length(rest: &[char], before: Option<char>) -> usize {
    let starts = |text: &str| rest.len() >= text.len() && text.chars().zip(rest).all(|(a, b)| a == *b);
    let until = |from: usize, end: &str| {
        let end: Vec<char> = end.chars().collect();
        let found = (from..rest.len()).find(|&at| rest[at..].starts_with(&end));
        found.map_or(rest.len(), |at| at + end.len())
    };
    if starts("//") {
        return rest.iter().position(|c| *c == '\n').unwrap_or(rest.len());
    }
    if starts("/*") {
        return until(2, "*/");
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if !in_word && (starts("r\"") || starts("r#") || starts("br\"") || starts("br#")) {
        let prefix = rest.iter().take_while(|c| **c == 'b' || **c == 'r').count();
        let hashes = rest[prefix..].iter().take_while(|c| **c == '#').count();
        if rest.get(prefix + hashes) == Some(&'"') {
            return until(prefix + hashes + 1, &format!("\"{}", "#".repeat(hashes)));
        }
    }
    match rest {
        ['"', ..] => quoted(rest, '"'),
        // A lifetime has no closing quote right after its first character.
        ['\'', '\\', ..] | ['\'', _, '\'', ..] => quoted(rest, '\''),
        _ => 0,
    }
}

fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// All paths in blanked text that name a module or a crate, with their line; trees in braces are expanded.
fn paths(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let characters: Vec<char> = text.chars().collect();
    let mut line = 1;
    let mut after_use = false;
    let mut at = 0;
    while at < characters.len() {
        let c = characters[at];
        let starts = c.is_alphabetic() || c == '_' || (c == ':' && characters.get(at + 1) == Some(&':'));
        if !starts {
            line += usize::from(c == '\n');
            at += 1;
            continue;
        }
        let from = at;
        let before = found.len();
        at = expand("", &characters, at, line, &mut found);
        // A single word names a crate after `use` only: `use gstreamer as gst`.
        let imported = std::mem::replace(&mut after_use, characters[from..at] == ['u', 's', 'e']);
        if !imported {
            let tail = found.split_off(before);
            found.extend(tail.into_iter().filter(|(_, path)| path.trim_start_matches("::").contains("::")));
        }
        line += characters[from..at].iter().filter(|c| **c == '\n').count();
    }
    found
}

/// Reads one path, and the tree that follows it, from `at` on; gives the place behind it.
fn expand(
    prefix: &str,
    text: &[char],
    mut at: usize,
    line: usize,
    found: &mut Vec<(usize, String)>,
) -> usize {
    let mut path = prefix.to_owned();
    while at < text.len() {
        let c = text[at];
        let joins = c == ':' && text.get(at + 1) == Some(&':');
        if c.is_alphanumeric() || c == '_' {
            path.push(c);
            at += 1;
        } else if joins {
            path.push_str("::");
            at += 2;
        } else if c == '{' && path.ends_with("::") {
            at += 1;
            while at < text.len() && text[at] != '}' {
                let c = text[at];
                let begins = c.is_alphabetic() || c == '_';
                at = if begins { expand(&path, text, at, line, found) } else { at + 1 };
                // `x as y`: what follows is a name of this file.
                if text[at.min(text.len())..].starts_with(&[' ', 'a', 's', ' ']) {
                    at += text[at..].iter().take_while(|c| !matches!(c, ',' | '}')).count();
                }
            }
            return (at + 1).min(text.len());
        } else {
            break;
        }
    }
    found.push((line, path));
    at
}
