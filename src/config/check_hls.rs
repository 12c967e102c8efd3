//! The command line of `tidegate check-hls`.

use super::ConfigError;
use crate::check_hls::Check;
use clap::Parser;
use std::ffi::OsString;
use std::time::Duration;
use url::Url;

/// Check whether a live HLS stream, anybody's, keeps to the letter of RFC 8216bis.
///
/// Follows all playlists as a player does, fetches all media, tries the delivery directives at their edges,
/// and prints each broken line with the evidence.
///
/// Exit codes: 0 no broken line, 1 broken lines, 2 the stream could not be checked, 64 wrong usage.
#[derive(Clone, Debug, Parser, PartialEq)]
#[command(name = "tidegate check-hls")]
pub struct CheckHls {
    /// The stream's multivariant playlist, or a media playlist
    #[arg(value_parser = web_url)]
    url: Url,
    /// For how long the stream is followed
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// What judgements by the clock allow for the network and the machine, such as "300ms"
    #[arg(long, value_name = "DURATION", default_value = "300ms", value_parser = humantime::parse_duration)]
    tolerance: Duration,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

impl CheckHls {
    /// `arguments` without the program's name, but with the command's.
    pub(super) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ConfigError> {
        Ok(Self::try_parse_from(arguments)?)
    }

    /// What is to be checked.
    pub fn check(&self) -> Check {
        let duration = Duration::from_secs(self.seconds);
        Check { url: self.url.clone(), duration, tolerance: self.tolerance }
    }
}

fn web_url(text: &str) -> Result<Url, String> {
    let url =
        Url::parse(text).map_err(|error| format!("{error}; a URL such as https://host/live/index.m3u8"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(format!("{other} is not followed; http and https are")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<CheckHls, ConfigError> {
        CheckHls::read(line.split(' ').map(OsString::from))
    }

    #[test]
    fn a_check_has_a_url_and_defaults() {
        let check = read("check-hls https://h/s/index.m3u8").expect("it is right");
        assert!(!check.json);
        let check = check.check();
        assert_eq!(check.url.as_str(), "https://h/s/index.m3u8");
        assert_eq!((check.duration, check.tolerance), (Duration::from_secs(30), Duration::from_millis(300)));
        let check = read("check-hls http://h/ --seconds 5 --tolerance 1s --json").expect("it is right");
        assert!(check.json);
        assert_eq!(check.check().tolerance, Duration::from_secs(1));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, said) in [
            ("check-hls", "URL"),
            ("check-hls file:///x.m3u8", "http and https"),
            ("check-hls nonsense", "https://host"),
            ("check-hls http://h/ --seconds 0", "--seconds"),
            ("check-hls http://h/ --tolerance soon", "--tolerance"),
        ] {
            let error = read(line).expect_err(line).to_string();
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
