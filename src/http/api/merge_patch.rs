//! JSON merge patches (RFC 7396): a member that is absent stays, `null` takes it back to its default.

use crate::http::body;
use crate::http::problem::Problem;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

/// The media types that a patch may come as.
const MEDIA_TYPES: [&str; 2] = ["application/merge-patch+json", "application/json"];

/// One member of a patch. Give it `#[serde(default)]`, and its struct `#[serde(deny_unknown_fields)]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::http) enum Member<T> {
    /// It stays as it is.
    #[default]
    Absent,
    /// It is taken back to its default.
    Null,
    /// It gets this value.
    Value(T),
}

impl<T> Member<T> {
    /// The new value, `Some(None)` for the default; `None` if it stays.
    pub(in crate::http) fn change(self) -> Option<Option<T>> {
        match self {
            Self::Absent => None,
            Self::Null => Some(None),
            Self::Value(value) => Some(Some(value)),
        }
    }

    /// Changes what may be absent.
    pub(in crate::http) fn apply(self, field: &mut Option<T>) {
        match self {
            Self::Absent => {}
            Self::Null => *field = None,
            Self::Value(value) => *field = Some(value),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Member<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(|value| value.map_or(Self::Null, Self::Value))
    }
}

/// The problem of a `null` for the field `name`, which must be there.
pub(in crate::http) fn not_null(name: &str) -> Problem {
    let detail = format!("field {name:?} can't be null; leave it out to keep it as it is");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-field", detail)
}

/// The body of a PATCH.
pub(in crate::http) async fn read<T: DeserializeOwned>(request: Request<Body>) -> Result<T, Problem> {
    body::json_as(request, &MEDIA_TYPES).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Sample {
        title: Member<String>,
        enabled: Member<bool>,
    }

    fn parsed(text: &str) -> Sample {
        serde_json::from_str(text).expect("a patch")
    }

    #[test]
    fn absent_null_and_a_value_differ() {
        for (text, title) in
            [("{}", Some("old")), (r#"{"title": null}"#, None), (r#"{"title": "new"}"#, Some("new"))]
        {
            let mut field = Some("old".to_owned());
            parsed(text).title.apply(&mut field);
            assert_eq!(field.as_deref(), title, "{text}");
        }
        assert_eq!(parsed(r#"{"enabled": false}"#).enabled.change(), Some(Some(false)));
        assert_eq!(parsed(r#"{"enabled": null}"#).enabled.change(), Some(None));
        assert_eq!(parsed("{}").enabled.change(), None);
    }
}
