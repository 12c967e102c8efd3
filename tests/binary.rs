//! The command line: settings and their order, errors and their exit code, keys that are made and kept.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{Process, Server, eventually, free_tcp_port, free_udp_port, seconds};

/// The exit code of a wrong configuration (`EX_USAGE`).
const USAGE: i32 = 64;

#[test]
fn a_bad_value_is_named_with_its_key_and_what_would_be_right() {
    for (args, words) in [
        (["--http-listen", "nowhere"], ["http", "nowhere", "port"]),
        (["--rtmp-listen", "127.0.0.1:99999"], ["rtmp", "99999", "port"]),
        (["--webrtc-listen", "8189x"], ["webrtc", "8189x", "port"]),
    ] {
        refuses(&run(&args, &[]), &words);
    }
    refuses(&run(&["--no-such-flag"], &[]), &["no-such-flag"]);
    refuses(&run(&[], &[("TIDEGATE_HTTP_LISTEN", "elsewhere")]), &["elsewhere", "port"]);
    refuses(&run(&[], &[("TIDEGATE_NO_SUCH_KEY", "1")]), &["no_such_key"]);
}

#[test]
fn a_bad_file_is_refused_with_the_key_and_the_value() {
    let folder = tempfile::tempdir().expect("a folder");
    for (text, words) in [
        ("[http]\nlisten = \"nowhere\"\n", ["http.listen", "nowhere"]),
        ("[http]\nlissten = \"127.0.0.1:1\"\n", ["lissten", "listen"]),
        ("[hls]\npart_duration = \"soon\"\n", ["hls.part_duration", "soon"]),
        ("[hls]\nwindow = 1\n", ["hls.window", "1"]),
        ("[restream]\negress_allow = [\"10.0.0.0/99\"]\n", ["restream.egress_allow", "10.0.0.0/99"]),
        ("[webrtc]\nexternal_addresses = [\"example\"]\n", ["webrtc.external_addresses", "example"]),
        ("[http\n", ["toml", "config"]),
    ] {
        let file = folder.path().join("bad.toml");
        std::fs::write(&file, text).expect("a file");
        refuses(&run(&["--config", file.to_str().expect("a path")], &[]), &words);
    }
    refuses(&run(&["--config", "/no/such/file.toml"], &[]), &["/no/such/file.toml"]);
}

#[test]
fn help_and_version_are_no_errors() {
    for flag in ["--help", "--version"] {
        let output = run(&[flag], &[]);
        assert_eq!(output.status.code(), Some(0), "{flag}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("tidegate"), "{flag}");
    }
}

#[tokio::test]
async fn flags_win_over_the_environment_and_the_environment_over_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let ports = [free_tcp_port(), free_tcp_port(), free_tcp_port()];
    let [flag, environment, file] = ports;
    let config = folder.path().join("tidegate.toml");
    let text = format!(
        "state_dir = {:?}\n[http]\nlisten = \"127.0.0.1:{file}\"\n[rtmp]\nlisten = \"127.0.0.1:0\"\n\
         [webrtc]\nlisten = \"127.0.0.1:0\"\n",
        folder.path().join("state")
    );
    std::fs::write(&config, text).expect("a file");
    for (with_flag, with_environment, expected) in
        [(true, true, flag), (false, true, environment), (false, false, file)]
    {
        let mut command = Command::new(Server::binary());
        command.arg("--config").arg(&config);
        if with_flag {
            command.args(["--http-listen", &format!("127.0.0.1:{flag}")]);
        }
        if with_environment {
            command.env("TIDEGATE_HTTP_LISTEN", format!("127.0.0.1:{environment}"));
        }
        let _process = Process::spawn("tidegate", &mut command);
        healthy(expected).await;
        for other in ports.into_iter().filter(|port| *port != expected) {
            assert!(tokio::net::TcpStream::connect(("127.0.0.1", other)).await.is_err(), "{other} is closed");
        }
    }
}

#[tokio::test]
async fn keys_are_made_on_the_first_start_and_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let mut seen = Vec::new();
    for _ in 0..2 {
        let http = free_tcp_port();
        let mut process = Process::spawn("tidegate", &mut on_ports(http, &state));
        healthy(http).await;
        let keys = files_of(&state);
        assert!(keys.len() >= 2, "an admin token and a publish key: {keys:?}");
        for (name, content) in &keys {
            assert!(content.trim().len() >= 16, "{name} holds a secret");
        }
        // One of them opens the API; all of them are printed for the operator.
        let client = common::http_client().build().expect("a client");
        let mut opened = 0;
        for (_, content) in &keys {
            let url = format!("http://127.0.0.1:{http}/api/v1/streams");
            let response = client.get(url).bearer_auth(content.trim()).send().await.expect("an answer");
            opened += usize::from(response.status() == 200);
            assert!(process.log().contains(content.trim()), "printed:\n{}", process.log());
        }
        assert_eq!(opened, 1);
        process.signal("TERM");
        assert_eq!(process.wait(seconds(10)).await.and_then(|status| status.code()), Some(0));
        seen.push(keys);
    }
    assert_eq!(seen[0], seen[1], "kept across the restart");
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let mut process = Process::spawn("tidegate", &mut on_ports(port, folder.path()));
    let status = process.wait(seconds(10)).await.expect("it ends");
    assert!(!status.success());
    assert!(process.log().contains(&port.to_string()), "{}", process.log());
}

/// The binary with loopback ports and a state folder, not yet started.
fn on_ports(http: u16, state: &Path) -> Command {
    let mut command = Command::new(Server::binary());
    command
        .args(["--http-listen", &format!("127.0.0.1:{http}")])
        .args(["--rtmp-listen", &format!("127.0.0.1:{}", free_tcp_port())])
        .args(["--webrtc-listen", &format!("127.0.0.1:{}", free_udp_port())])
        .arg("--state-dir")
        .arg(state);
    command
}

async fn healthy(port: u16) {
    let client = common::http_client().build().expect("a client");
    let url = format!("http://127.0.0.1:{port}/healthz");
    eventually(&format!("{url} answers"), seconds(15), || async {
        client.get(&url).send().await.ok().filter(|answer| answer.status() == 200).map(|_| ())
    })
    .await;
}

/// Names and contents of the files in a folder, in order.
fn files_of(folder: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let mut files: Vec<_> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            // What is kept besides keys.
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("tidegate.db") {
                return None;
            }
            Some((name, std::fs::read_to_string(entry.path()).ok()?))
        })
        .collect();
    files.sort();
    files
}

/// Runs the binary to its end, in an environment without settings.
fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new("timeout");
    command.arg("10").arg(Server::binary()).args(args).envs(env.iter().copied());
    command.output().expect("it starts")
}

#[track_caller]
fn refuses(output: &Output, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr).to_lowercase();
    assert_eq!(output.status.code(), Some(USAGE), "{text}");
    for word in words {
        assert!(text.contains(&word.to_lowercase()), "{word:?} in {text:?}");
    }
}
