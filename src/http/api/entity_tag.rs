//! Entity tags of what PATCH changes, and `If-Match`, which guards a change against another that came
//! between (RFC 9110 §8.8.3, §13.1.1).
//!
//! A resource's tag is that of its settings: what it does meanwhile (bytes, states) doesn't change it.

use crate::http::problem::Problem;
use aws_lc_rs::digest;
use axum::extract::FromRequestParts;
use axum::http::header::{ETAG, IF_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode};
use serde::Serialize;
use std::fmt::Write;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{ObjectBuilder, Required, Type};

/// The strong tag of some settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http) struct EntityTag(String);

/// What the client believes to change; nothing if it doesn't say.
#[derive(Debug)]
pub(in crate::http) struct IfMatch(Option<String>);

impl IntoParams for IfMatch {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let parameter = ParameterBuilder::new()
            .name("If-Match")
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(
                "An `ETag` of the resource: it is changed only if it still has this one (else 412).",
            ))
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)));
        vec![parameter.build()]
    }
}

impl EntityTag {
    /// The same settings have the same tag. Don't put secrets in.
    pub(in crate::http) fn of(settings: &impl Serialize) -> Self {
        let bytes = serde_json::to_vec(settings).unwrap_or_default();
        let mut tag = String::from("\"");
        for byte in &digest::digest(&digest::SHA256, &bytes).as_ref()[..12] {
            let _ = write!(tag, "{byte:02x}");
        }
        tag.push('"');
        Self(tag)
    }

    /// The header of an answer.
    pub(in crate::http) fn header(self) -> [(HeaderName, String); 1] {
        [(ETAG, self.0)]
    }
}

impl IfMatch {
    /// Whether the client says what it believes to change.
    pub(in crate::http) fn is_given(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a resource with the tag `present` may be changed; `None`: there is none.
    pub(in crate::http) fn allows(&self, present: Option<&EntityTag>) -> Result<(), Problem> {
        let Some(wanted) = &self.0 else { return Ok(()) };
        let fits = match (wanted.trim(), present) {
            (_, None) => false,
            ("*", Some(_)) => true,
            // Strong comparison: a weak tag never fits.
            (tags, Some(present)) => tags.split(',').any(|tag| tag.trim() == present.0),
        };
        if fits { Ok(()) } else { Err(changed()) }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let lines: Vec<&str> =
            parts.headers.get_all(IF_MATCH).iter().map(|line| line.to_str().unwrap_or_default()).collect();
        let wanted = (!lines.is_empty()).then(|| lines.join(","));
        if wanted.as_ref().is_some_and(|wanted| wanted.trim().is_empty()) {
            let detail = "If-Match is empty; send the ETag of what you have read, or leave it out";
            return Err(Problem::bad_request("bad-if-match", detail));
        }
        Ok(Self(wanted))
    }
}

fn changed() -> Problem {
    Problem::new(
        StatusCode::PRECONDITION_FAILED,
        "stale-entity-tag",
        "it has changed since you read it; GET it again, and send its ETag as If-Match",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_allowed_to_what_was_read_only() {
        let (now, before) = (EntityTag::of(&("a", 1)), EntityTag::of(&("a", 0)));
        assert_eq!(now, EntityTag::of(&("a", 1)));
        let allows = |wanted: Option<&str>| IfMatch(wanted.map(str::to_owned)).allows(Some(&now)).is_ok();
        let (tag, weak) = (now.0.clone(), format!("W/{}", now.0));
        let among = format!("\"x\", {tag}");
        assert!(allows(None) && allows(Some("*")) && allows(Some(&tag)) && allows(Some(&among)));
        assert!(!allows(Some(&before.0)) && !allows(Some("x")) && !allows(Some("")) && !allows(Some(&weak)));
        assert!(IfMatch(Some("*".to_owned())).allows(None).is_err() && IfMatch(None).allows(None).is_ok());
    }
}
