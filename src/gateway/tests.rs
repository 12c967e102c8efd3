//! The whole gateway in one process, on free ports.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn config(state: &tempfile::TempDir) -> Config {
    let mut config = Config::new(state.path().join("state"));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    (config.http_listen, config.rtmp_listen, config.webrtc_listen) = (any, any, any);
    config
}

async fn get(address: SocketAddr, path: &str, header: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_on_free_ports_and_ends_in_order() {
    let state = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::start(config(&state)).await.expect("started");
    let http = gateway.http_addr();
    assert!(get(http, "/readyz", "").await.starts_with("HTTP/1.1 200"));
    assert!(get(http, "/api/v1/streams", "").await.starts_with("HTTP/1.1 401"));
    let token = format!("authorization: Bearer {}\r\n", gateway.credentials().admin_token.reveal());
    assert!(get(http, "/api/v1/streams", &token).await.contains("\"itemCount\":0"));
    let (rtmp, began) = (gateway.rtmp_addr(), Instant::now());
    gateway.shutdown().await.expect("in time");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    TcpListener::bind(http).await.expect("the HTTP port is free again");
    TcpListener::bind(rtmp).await.expect("the RTMP port is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("an address");
    let state = tempfile::tempdir().expect("a folder");
    let mut config = config(&state);
    config.http_listen = address;
    let error = Gateway::start(config).await.err().expect("refused").to_string();
    assert!(error.contains(&address.to_string()) && error.contains("HTTP"), "{error}");
}
