//! What can be wrong with a configuration.

use std::path::PathBuf;

/// Why the configuration can't be used. Each variant but [`Self::Usage`] names the key, the value and what
/// would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The command line: also `--help` and `--version`, which are no faults.
    #[error("{0}")]
    Usage(#[from] clap::Error),
    /// A key that no setting has.
    #[error("{origin}: there is no setting {key:?} (value {value:?}); {expected}")]
    UnknownKey {
        /// The key as written.
        key: String,
        /// Its value.
        value: String,
        /// Which source holds it.
        origin: String,
        /// The keys that exist.
        expected: String,
    },
    /// A value that its setting can't take.
    #[error("{origin}: {key} = {value:?} does not fit; it must be {expected}")]
    BadValue {
        /// The setting.
        key: &'static str,
        /// The value as written; hidden if it is a secret.
        value: String,
        /// Which source holds it.
        origin: String,
        /// What would be right.
        expected: String,
    },
    /// A setting without a usable default.
    #[error("{key} is not set; it must be {expected}")]
    Missing {
        /// The setting.
        key: &'static str,
        /// What would be right.
        expected: &'static str,
    },
    /// The file can't be read.
    #[error("--config {path:?} can't be read ({why}); it must name a readable TOML file")]
    UnreadableFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: std::io::Error,
    },
    /// The file is not TOML.
    #[error("--config {path:?} is not valid TOML: {why}")]
    BadFile {
        /// The file.
        path: PathBuf,
        /// Line, column and what was expected there.
        why: String,
    },
}
