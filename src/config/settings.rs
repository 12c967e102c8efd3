//! Settings as the sources give them: found in the table by their keys, put into the configuration.

use super::table::{DEFINITIONS, Definition};
use super::value::Value;
use super::{Config, ConfigError};
use crate::media::Secret;

/// One setting as one source gives it.
#[derive(Debug)]
pub(super) struct Setting {
    definition: &'static Definition,
    value: Value,
    origin: String,
}

impl Setting {
    /// `value` for the setting `key`, found at `origin`.
    pub(super) fn new(key: &str, value: Value, origin: String) -> Result<Self, ConfigError> {
        match DEFINITIONS.iter().find(|definition| definition.key == key) {
            Some(definition) => Ok(Self { definition, value, origin }),
            None => Err(unknown(key, &value, origin)),
        }
    }

    /// Puts the value into `config`.
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), ConfigError> {
        let Definition { key, expected, set } = self.definition;
        set(config, &self.value).ok_or_else(|| ConfigError::BadValue {
            key,
            value: if is_secret(key) {
                Secret::new(self.value.to_string()).to_string()
            } else {
                self.value.to_string()
            },
            origin: self.origin.clone(),
            expected: (*expected).to_owned(),
        })
    }
}

/// Whether the values of a key must not be shown.
fn is_secret(key: &str) -> bool {
    key.starts_with("auth.") || matches!(key, "webrtc.turn_credential" | "webrtc.turn_secret")
}

/// Where the value of `key` that counts was found.
pub(super) fn origin_of(settings: &[Setting], key: &str) -> String {
    let last = settings.iter().rfind(|setting| setting.definition.key == key);
    last.map_or_else(|| "default".to_owned(), |setting| setting.origin.clone())
}

/// All keys.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    DEFINITIONS.iter().map(|definition| definition.key)
}

/// The error for a key that no setting has: it lists the keys of the same section, else all.
pub(super) fn unknown(key: &str, value: &Value, origin: String) -> ConfigError {
    let section = |key: &str| key.split_once('.').map(|(section, _)| section.to_owned());
    let mut known: Vec<&str> =
        keys().filter(|known| section(key).is_some() && section(known) == section(key)).collect();
    if known.is_empty() {
        known = keys().collect();
    }
    // What is written under a wrong key may be a secret.
    let hidden =
        ["token", "key", "auth", "secret", "credential"].iter().any(|word| key.to_lowercase().contains(word));
    let value = if hidden { Secret::new("").to_string() } else { value.to_string() };
    ConfigError::UnknownKey {
        key: key.to_owned(),
        value,
        origin,
        expected: format!("there are {}", known.join(", ")),
    }
}
