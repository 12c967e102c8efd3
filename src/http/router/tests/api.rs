//! What holds for the whole API: its description, repeated POSTs, the form of lists and errors.

use super::*;

const JSON: &str = "content-type: application/json";
const TARGETS: &str = "/api/v1/streams/show/targets";
const TARGET: &str = r#"{"url": "rtmp://192.0.2.1/app/key"}"#;

#[tokio::test]
async fn the_description_is_open_and_complete() {
    let site = Site::new();
    let response = site.ask("GET", "/api/v1/openapi.json", &[], "").await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()[CONTENT_TYPE]),
        (200, &"application/json".parse().expect("a value"))
    );
    let document = document(response).await;
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1.")), "{document}");
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.contains_key("/streams/{stream}/targets/{id}"), "{:?}", paths.keys());
    let mut ids = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("operations") {
            let problem = &operation["responses"]["default"]["content"]["application/problem+json"];
            assert_eq!(problem["schema"]["$ref"], "#/components/schemas/Problem", "{method} {path}");
            ids.push(operation["operationId"].as_str().expect("an id").to_owned());
            for text in ["summary", "tags"] {
                assert!(!operation[text].is_null(), "{method} {path} has no {text}");
            }
            // Nothing is open that is described.
            let path = format!("/api/v1{}", path.replace(['{', '}'], ""));
            assert_eq!(site.status(&method.to_uppercase(), &path, &[], "").await, 401, "{method} {path}");
        }
    }
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "operation ids are unique");
    let text = document.to_string();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().expect("a name");
        assert!(!document["components"]["schemas"][name].is_null(), "{name} is not defined");
    }
    assert_eq!(site.status("POST", "/api/v1/openapi.json", &[], "").await, 405);
}

#[tokio::test]
async fn a_post_with_a_key_may_be_repeated() {
    let site = Site::new();
    let key = "idempotency-key: \"once\"";
    let first = site.ask("POST", TARGETS, &[ADMIN, JSON, key], TARGET).await;
    let again = site.ask("POST", TARGETS, &[ADMIN, JSON, key], TARGET).await;
    assert_eq!((first.status().as_u16(), again.status().as_u16()), (201, 201));
    assert_eq!(first.headers()[LOCATION], again.headers()[LOCATION]);
    assert!(again.headers().contains_key("idempotency-replayed"));
    assert_eq!(document(first).await, document(again).await);
    assert_eq!(site.api(TARGETS).await.1["itemCount"], 1);
    let other = r#"{"url": "rtmp://192.0.2.1/app/other"}"#;
    assert_eq!(site.status("POST", TARGETS, &[ADMIN, JSON, key], other).await, 422);
    assert_eq!(
        site.status("POST", TARGETS, &[JSON, key], TARGET).await,
        401,
        "who may not ask hears nothing"
    );
    assert_eq!(site.status("POST", TARGETS, &[ADMIN, JSON, "idempotency-key: a b"], TARGET).await, 400);
    let without = site.ask("POST", TARGETS, &[ADMIN, JSON], TARGET).await;
    assert!(
        without.status() == StatusCode::CREATED && !without.headers().contains_key("idempotency-replayed")
    );
    assert_eq!(site.api(TARGETS).await.1["itemCount"], 2);
}
