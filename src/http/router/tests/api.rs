//! What holds for the whole API: its description, repeated POSTs, the form of lists and errors.

use super::*;

const JSON: &str = "content-type: application/json";
const TARGETS: &str = "/api/v1/streams/show/targets";
const TARGET: &str = r#"{"url": "rtmp://192.0.2.1/app/key"}"#;

#[tokio::test]
async fn the_description_is_open_and_complete() {
    let site = Site::new().await;
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
    let site = Site::new().await;
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

#[tokio::test]
async fn a_stream_is_declared_changed_under_guard_and_forgotten() {
    let site = Site::new().await;
    let (streams, path) = ("/api/v1/streams", "/api/v1/streams/show");
    let declared =
        site.ask("POST", streams, &[ADMIN, JSON], r#"{"name": "show", "title": "A show", "grace": 5}"#).await;
    assert_eq!(
        (declared.status().as_u16(), &declared.headers()[LOCATION]),
        (201, &path.parse().expect("a value"))
    );
    let tag = format!("if-match: {}", declared.headers()["etag"].to_str().expect("text"));
    let view = document(declared).await;
    assert_eq!(
        (&view["state"], &view["grace"], &view["title"]),
        (&json!("offline"), &json!(5), &json!("A show"))
    );
    assert_eq!(site.status("POST", streams, &[ADMIN, JSON], r#"{"name": "show"}"#).await, 409);

    let _publisher = (site.publish("show"), site.publish("other"));
    let list = site.api(streams).await.1;
    let items = list["items"].as_array().expect("items");
    let names: Vec<_> = items.iter().filter_map(|item| item["name"].as_str()).collect();
    assert_eq!((names, &list["itemCount"]), (vec!["other", "show"], &json!(2)), "both kinds in one list");
    let live = site.api(path).await.1;
    assert_eq!((&live["state"], &live["title"]), (&json!("live"), &json!("A show")));

    let patch = |body: &'static str, tag: String| {
        let site = &site;
        async move {
            let media_type = "content-type: application/merge-patch+json";
            let response = site.ask("PATCH", path, &[ADMIN, media_type, &tag], body).await;
            (response.status().as_u16(), document(response).await)
        }
    };
    let (status, changed) = patch(r#"{"grace": null}"#, tag.clone()).await;
    assert_eq!((status, &changed["grace"], &changed["title"]), (200, &Value::Null, &json!("A show")));
    assert_eq!(patch(r#"{"title": "Late"}"#, tag.clone()).await.0, 412, "changed meanwhile");
    for (body, wanted) in [
        (r#"{"grace": 601}"#, "from 0 to 600"),
        (r#"{"grace": "x"}"#, "field \"grace\""),
        (r#"{"name": "y"}"#, "unknown field"),
    ] {
        let (status, problem) = patch(body, "if-match: *".to_owned()).await;
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(status == 422 && detail.contains(wanted), "{body}: {problem}");
    }
    assert_eq!(site.status("DELETE", path, &[ADMIN, &tag], "").await, 412);
    assert_eq!(site.status("DELETE", path, &[ADMIN], "").await, 204);
    assert_eq!(site.api(path).await.1["title"], Value::Null, "it is live still");
    assert_eq!(site.status("DELETE", path, &[ADMIN], "").await, 404);
    assert_eq!(site.status("PATCH", path, &[ADMIN, JSON], "{}").await, 404);
}

#[tokio::test]
async fn a_streams_own_key_is_a_bearer_of_whip() {
    let site = Site::new().await;
    let keys = "/api/v1/streams/show/keys";
    let issued = site.ask("POST", keys, &[ADMIN, JSON], r#"{"name": "Studio"}"#).await;
    assert_eq!(issued.status().as_u16(), 201);
    let location = issued.headers()[LOCATION].to_str().expect("text").to_owned();
    let issued = document(issued).await;
    let key = issued["key"].as_str().expect("the key").to_owned();
    let bearer = |key: &str| format!("authorization: Bearer {key}");
    // A key that opens the door meets the broken offer behind it.
    let offer = |stream: &'static str, key: String| {
        let site = &site;
        async move { site.status("POST", &format!("/{stream}/whip"), &[SDP, &bearer(&key)], "v=0").await }
    };
    assert_eq!(offer("show", key.clone()).await, 400);
    assert_eq!(offer("other", key.clone()).await, 403);
    assert_eq!(offer("show", key.replace(char::is_alphanumeric, "x")).await, 401);
    assert_eq!(site.status("GET", keys, &[&bearer(&key)], "").await, 403, "it is no admin token");

    let list = site.api(keys).await.1;
    assert_eq!((&list["itemCount"], &list["items"][0]["hint"]), (&json!(1), &json!(key[28..])));
    assert!(!list.to_string().contains(&key) && !list["items"][0]["lastUsedAt"].is_null(), "{list}");
    let rotated = site.ask("POST", &format!("{location}/rotate"), &[ADMIN, JSON], r#"{"overlap": 0}"#).await;
    assert_eq!(rotated.status().as_u16(), 201);
    let next = document(rotated).await;
    assert_eq!(next["name"], "Studio");
    assert_eq!(offer("show", key).await, 401, "expired at once");
    let next_key = next["key"].as_str().expect("the key").to_owned();
    assert_eq!(offer("show", next_key.clone()).await, 400);
    let next_path = format!("{keys}/{}", next["id"].as_str().expect("an id"));
    assert_eq!(site.status("DELETE", &next_path, &[ADMIN], "").await, 204);
    assert_eq!(offer("show", next_key).await, 401, "revoked");
    assert_eq!(site.status("GET", &next_path, &[ADMIN], "").await, 404);
    let past = r#"{"expiresAt": "2020-01-01T00:00:00Z"}"#;
    assert_eq!(site.status("POST", keys, &[ADMIN, JSON], past).await, 422);
}

#[tokio::test]
async fn an_admin_token_opens_the_api_until_it_is_revoked() {
    let site = Site::new().await;
    let issued = site.ask("POST", "/api/v1/tokens", &[ADMIN, JSON], "{}").await;
    let path = issued.headers()[LOCATION].to_str().expect("text").to_owned();
    let issued = document(issued).await;
    let token = format!("authorization: Bearer {}", issued["key"].as_str().expect("the token"));
    assert_eq!(site.status("GET", "/api/v1/info", &[&token], "").await, 200);
    assert_eq!(site.status("POST", "/show/whip", &[SDP, &token], "v=0").await, 403);
    assert_eq!(site.status("DELETE", &path, &[&token], "").await, 204, "itself");
    assert_eq!(site.status("GET", "/api/v1/info", &[&token], "").await, 401);
}

#[tokio::test]
async fn a_list_of_hosts_holds_for_the_api_alone() {
    let site =
        Site::with(RateSettings::off(), Some(vec!["api.example.net".to_owned(), "[::1]".to_owned()])).await;
    for (host, status) in [
        ("host: api.example.net", 200),
        ("host: API.example.net:8080", 200),
        ("host: [::1]:8080", 200),
        ("host: evil.example", 421),
        ("host: api.example.net.evil.example", 421),
    ] {
        assert_eq!(site.status("GET", "/api/v1/info", &[ADMIN, host], "").await, status, "{host}");
    }
    assert_eq!(site.status("GET", "/healthz", &["host: evil.example"], "").await, 200);
}
