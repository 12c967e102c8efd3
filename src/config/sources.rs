//! The environment and the TOML file, flattened to settings.

use super::ConfigError;
use super::settings::{self, Setting};
use super::value::Value;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const PREFIX: &str = "TIDEGATE_";

/// What the environment says.
#[derive(Debug, Default)]
pub(super) struct Environment {
    /// `TIDEGATE_CONFIG`: the file to read.
    pub(super) config: Option<PathBuf>,
    /// The other settings.
    pub(super) settings: Vec<Setting>,
}

/// Reads the variables that begin with `TIDEGATE_`; one that no setting has is an error.
pub(super) fn environment(variables: &[(OsString, OsString)]) -> Result<Environment, ConfigError> {
    let mut found = Environment::default();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        let value = Value::One(value.to_string_lossy().into_owned());
        match settings::keys().find(|key| variable_of(key) == name) {
            Some("config") => found.config = Some(PathBuf::from(value.to_string())),
            Some(key) => {
                found.settings.push(Setting::new(key, value, format!("environment variable {name}"))?)
            }
            None => return Err(unknown_variable(name, &value)),
        }
    }
    Ok(found)
}

/// Reads the TOML file at `path`.
pub(super) fn file(path: &Path) -> Result<Vec<Setting>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|why| ConfigError::UnreadableFile { path: path.to_owned(), why })?;
    let table: toml::Table = text.parse().map_err(|why: toml::de::Error| ConfigError::BadFile {
        path: path.to_owned(),
        why: place(&text, &why),
    })?;
    let mut settings = Vec::new();
    flatten("", &table, &path.display().to_string(), &mut settings)?;
    Ok(settings)
}

/// `http.listen` → `TIDEGATE_HTTP_LISTEN`.
fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_uppercase())
}

fn unknown_variable(name: &str, value: &Value) -> ConfigError {
    let error = settings::unknown(name, value, "environment".to_owned());
    let ConfigError::UnknownKey { key, value, origin, .. } = error else { return error };
    let known: Vec<String> = settings::keys().map(variable_of).collect();
    ConfigError::UnknownKey { key, value, origin, expected: format!("there are {}", known.join(", ")) }
}

/// The depth is that of the parsed document, which the parser bounds.
fn flatten(
    prefix: &str,
    table: &toml::Table,
    origin: &str,
    into: &mut Vec<Setting>,
) -> Result<(), ConfigError> {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let value = match value {
            toml::Value::Table(table) => {
                flatten(&key, table, origin, into)?;
                continue;
            }
            toml::Value::Array(items) => Value::Many(items.iter().map(text).collect()),
            other => Value::One(text(other)),
        };
        if key == "config" {
            return Err(settings::unknown(&key, &value, origin.to_owned()));
        }
        into.push(Setting::new(&key, value, origin.to_owned())?);
    }
    Ok(())
}

fn text(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// "line 3, column 7: …". The line itself is not shown: it may hold a secret.
fn place(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column}: {}", error.message())
}
