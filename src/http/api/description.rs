//! The OpenAPI document: what the routes say of themselves, and what holds for all of them.

use super::idempotency::IDEMPOTENCY_KEY;
use crate::http::problem::Document;
use axum::body::Bytes;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Content, InfoBuilder, LicenseBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, PathItem, Ref, RefOr,
    Required, ResponseBuilder, Server, Type,
};
use utoipa::{PartialSchema, ToSchema};

const TOKEN: &str = "adminToken";
const INTRODUCTION: &str = "Streams, restream targets, sessions and keys of a Tidegate server.\n\n\
    Each request shows an admin token as `Authorization: Bearer TOKEN`. JSON is in camelCase, times are in \
    RFC 3339, lists come in pages. Errors are problem documents (RFC 9457) whose `detail` says what to change. \
    PATCH is a JSON merge patch (RFC 7396). What has an `ETag` may be changed with `If-Match`. A POST with an \
    `Idempotency-Key` may be repeated: for ten minutes it gets the first answer again.";

/// The document as it is sent.
#[derive(Clone)]
pub(super) struct Description(Bytes);

/// The document before the routes have added theirs.
pub(super) fn begin() -> OpenApi {
    let licence = LicenseBuilder::new().name(env!("CARGO_PKG_LICENSE")).build();
    let info = InfoBuilder::new()
        .title("Tidegate")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(INTRODUCTION))
        .license(Some(licence))
        .build();
    OpenApiBuilder::new().info(info).servers(Some([Server::new("/api/v1")])).build()
}

impl Description {
    /// Completes `described` with what holds for all operations.
    pub(super) fn of(mut described: OpenApi) -> Self {
        for item in described.paths.paths.values_mut() {
            if let Some(post) = &mut item.post {
                post.parameters.get_or_insert_default().push(idempotency_key());
            }
            operations(item).for_each(complete);
        }
        let scheme =
            Http::builder().scheme(HttpAuthScheme::Bearer).description(Some("An admin token")).build();
        let components = described.components.get_or_insert_default();
        components.add_security_scheme(TOKEN, SecurityScheme::Http(scheme));
        components.schemas.insert(Document::name().into(), Document::schema());
        described.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>(TOKEN, [])]);
        Self(serde_json::to_vec(&described).unwrap_or_default().into())
    }

    /// The answer to GET.
    pub(super) fn answer(self) -> impl IntoResponse {
        ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")], self.0)
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, patch, delete, .. } = item;
    [get, put, post, patch, delete].into_iter().flatten()
}

/// Whatever else may happen is a problem document.
fn complete(operation: &mut Operation) {
    let problem = Content::new(Some(Ref::from_schema_name(Document::name())));
    let response = ResponseBuilder::new()
        .description("What went wrong, and what to change")
        .content("application/problem+json", problem);
    operation.responses.responses.insert("default".to_owned(), RefOr::T(response.build()));
}

fn idempotency_key() -> Parameter {
    let schema = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(255));
    ParameterBuilder::new()
        .name(IDEMPOTENCY_KEY.as_str())
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "A text of the client's choice, new for each new request: it may then be repeated.",
        ))
        .schema(Some(schema.pattern(Some("^[!#-~]+$"))))
        .build()
}
