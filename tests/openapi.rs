//! The API does what its OpenAPI document says: its examples are sent, and schemathesis looks for requests
//! whose answers are none of the documented ones.

mod common;

use common::{ADMIN_TOKEN, Ffmpeg, Server, Source, eventually, seconds};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

#[tokio::test]
async fn the_examples_answer_as_documented() {
    let server = Server::start().await;
    let publish = |stream| Ffmpeg::publish(Source::Baseline, &server.rtmp_url(stream));
    let _publishers = ["show", "other"].map(publish);
    eventually("both are live", seconds(10), || async {
        (server.stream("show").await.is_some() && server.stream("other").await.is_some()).then_some(())
    })
    .await;
    let options =
        json!({ "url": server.url("/api/v1"), "token": ADMIN_TOKEN, "live": "show", "other": "other" });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/openapi_examples.py");
    let said = run(Command::new(python("python")).arg(script).arg(options.to_string())).await;
    let checked = said.lines().find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let operations = checked.as_ref().and_then(|checked| checked["operations"].as_u64());
    assert!(operations.is_some_and(|count| count >= 20), "{said}");
}

#[tokio::test]
async fn no_request_is_answered_outside_the_description() {
    let server = Server::start().await;
    // Not the stream of the examples: what is asked for there stays without media, so nothing leaves the machine.
    let _publisher = Ffmpeg::publish(Source::Baseline, &server.rtmp_url("live-one"));
    let said = run(Command::new(python("schemathesis"))
        .args(["run", &server.url("/api/v1/openapi.json"), "--url", &server.url("/api/v1")])
        .args(["--header", &format!("Authorization: Bearer {ADMIN_TOKEN}")])
        // An endless answer; requests to whatever address was made up.
        .args(["--exclude-path-regex", "^/events$|/test$"])
        .args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-examples", "8"])
        // One worker: two threads of Python 3.11 that parse at once can fail with a fault of its own.
        .args(["--seed", "1", "--workers", "1", "--no-color", "--request-timeout", "10"])
        .args(["--generation-database", "none"]))
    .await;
    assert!(said.contains("Seed: 1"), "{said}");
}

/// What schemathesis judges answers by.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_schema_conformance,response_headers_conformance,negative_data_rejection,unsupported_method";

fn python(program: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin").join(program)
}

/// What a program that succeeds has said, on both outputs.
async fn run(command: &mut Command) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let command = command.current_dir(folder.path()).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(seconds(180), command.output()).await.expect("within 3 min");
    let output = output.expect("`make test` has installed it");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    said
}
