//! The log: lines on standard error, filtered by the operator's choice. Holds no secret by the type rule
//! of [`Secret`](crate::media::Secret).

use std::io::{self, IsTerminal};
use tracing_subscriber::EnvFilter;

/// Why the log can't be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error("log filter: {0}")]
    Filter(String),
    /// Somebody has set a subscriber already.
    #[error("the log was started before: {0}")]
    Started(String),
}

/// Warns of each TLS extension of a browser that it does not know: quiet unless asked for.
const NOISE: &str = "rtc_dtls";

/// Starts the log of this process with `filter`, once.
pub fn start(filter: &str) -> Result<(), TelemetryError> {
    let quiet = if filter.contains(NOISE) { String::new() } else { format!(",{NOISE}=error") };
    let filter = EnvFilter::try_new(format!("{filter}{quiet}"))
        .map_err(|error| TelemetryError::Filter(error.to_string()))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .try_init()
        .map_err(|error| TelemetryError::Started(error.to_string()))
}

/// Whether `text` is a filter that [`start`] takes.
pub fn is_filter(text: &str) -> bool {
    !text.is_empty() && EnvFilter::try_new(text).is_ok()
}
