//! What delivering HLS costs, beside nginx that serves the same bytes from disk.
//!
//! Measured, on the program itself over loopback, with a stream that ffmpeg publishes by RTMP without
//! encoding it:
//! - `playlist`: requests for one media playlist by 16 connections, per second of the server's processor
//!   time, and the same of nginx (`open_file_cache`, `sendfile`); `segment`: the same in MB, for a whole
//!   segment. The client shares the cores and is not counted. The ratios are what to look at;
//! - `viewers`: 1 000 players of low latency, each with a held request for the next part and one for the
//!   next playlist: how long after the first of them each has the part whole;
//! - `held`: the server's resident memory with 10 000 requests held on as many connections, per request.
//!   It wants some 20 000 descriptors (`ulimit -n`); with fewer there are fewer requests.
//!
//! Not measured: the network, TLS, and what players do with what they get.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const HTTP: u16 = 18_080;
const RTMP: u16 = 18_081;
const WEBRTC: u16 = 18_082;
const NGINX: u16 = 18_083;
const CONNECTIONS: usize = 16;
const VIEWERS: usize = 1000;
const HELD: usize = 10_000;
/// For each figure.
const SECONDS: u64 = 4;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(folder.path())?;
    let edge = server.edge().await?;
    deliver(&server, &edge, folder.path()).await?;
    view(&edge).await?;
    hold(&server, &edge).await
}

/// Throughput against nginx.
async fn deliver(server: &Server, edge: &Edge, folder: &Path) -> io::Result<()> {
    let root = folder.join("root/s");
    fs::create_dir_all(&root)?;
    let mut files = Vec::new();
    for file in ["video.m3u8".to_owned(), edge.segment.clone()] {
        fs::write(root.join(&file), Client::connect(HTTP).await?.get(&format!("/s/{file}")).await?)?;
        files.push(format!("/s/{file}"));
    }
    let nginx = nginx(folder)?;
    for (name, path) in ["playlist", "segment"].into_iter().zip(files) {
        let ours = throughput(HTTP, server.child.id(), &path).await?;
        let theirs = throughput(NGINX, nginx.0.id(), &path).await?;
        println!(
            "{name}: {:.0} requests, {:.0} MB per second of processor time; nginx {:.0}, {:.0}; ratio {:.2}",
            ours.0,
            ours.1,
            theirs.0,
            theirs.1,
            ours.0 / theirs.0
        );
    }
    Ok(())
}

/// Requests and megabytes per second of the processor time of `pid`.
async fn throughput(port: u16, pid: u32, path: &str) -> io::Result<(f64, f64)> {
    let mut tasks = JoinSet::new();
    let until = Instant::now() + Duration::from_secs(SECONDS);
    let before = processor_time(pid);
    for _ in 0..CONNECTIONS {
        let (mut client, path) = (Client::connect(port).await?, path.to_owned());
        tasks.spawn(async move {
            let (mut requests, mut bytes) = (0, 0);
            while Instant::now() < until {
                requests += 1;
                bytes += client.get(&path).await.expect("an answer").len();
            }
            (requests, bytes)
        });
    }
    let (mut requests, mut bytes) = (0.0, 0.0);
    while let Some(done) = tasks.join_next().await {
        let (more_requests, more_bytes) = done.expect("no panic");
        (requests, bytes) = (requests + f64::from(more_requests), bytes + more_bytes as f64);
    }
    let spent = processor_time(pid) - before;
    Ok((requests / spent, bytes / spent / 1e6))
}

/// A thousand viewers.
async fn view(edge: &Edge) -> io::Result<()> {
    const PARTS: u64 = 16;
    let mut tasks = JoinSet::new();
    // By then all of them are connected.
    let first = edge.part + 24;
    for _ in 0..VIEWERS {
        let (mut parts, run) = (Client::connect(HTTP).await?, edge.run.clone());
        tasks.spawn(async move {
            let mut arrivals = Vec::new();
            for number in first..first + PARTS {
                let path = format!("/s/video_{run}_p{number}.m4s");
                while let Err(error) = parts.get(&path).await {
                    assert!(number == first && error.kind() == io::ErrorKind::NotFound, "{path}: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await; // not hinted yet
                }
                arrivals.push(Instant::now());
            }
            arrivals
        });
    }
    let mut reloads = JoinSet::new();
    for _ in 0..VIEWERS {
        let mut playlists = Client::connect(HTTP).await?;
        reloads.spawn(async move {
            let mut path = "/s/video.m3u8".to_owned();
            loop {
                let (segment, part) = position(&playlists.get(&path).await.expect("a playlist"));
                path = format!("/s/video.m3u8?_HLS_msn={segment}&_HLS_part={part}");
            }
        });
    }
    let mut arrivals = Vec::new();
    while let Some(done) = tasks.join_next().await {
        arrivals.push(done.expect("a viewer sees all parts"));
    }
    let mut late = Vec::new();
    // The first parts come while the others still connect.
    for part in 4..PARTS as usize {
        let first = arrivals.iter().map(|of_viewer| of_viewer[part]).min().expect("viewers");
        late.extend(
            arrivals.iter().map(|of_viewer| of_viewer[part].duration_since(first).as_secs_f64() * 1e3),
        );
    }
    late.sort_by(f64::total_cmp);
    let at = |share: f64| late[(share * (late.len() - 1) as f64) as usize];
    println!(
        "viewers: of {VIEWERS}, the part in hand after the first had it: p50 {:.1} ms, p99 {:.1} ms",
        at(0.5),
        at(0.99)
    );
    Ok(())
}

/// Memory of held requests.
async fn hold(server: &Server, edge: &Edge) -> io::Result<()> {
    let before = resident_kb(server.child.id());
    let mut held = Vec::new();
    // Two segments ahead: held for some seconds, and answered then.
    let segment = position(&Client::connect(HTTP).await?.get("/s/video.m3u8").await?).0 + 1;
    let request = Client::request(&format!("/s/video.m3u8?_HLS_msn={segment}&_HLS_part={}", 3));
    while held.len() < HELD {
        let Ok(mut client) = Client::connect(HTTP).await else { break };
        if client.stream.write_all(request.as_bytes()).await.is_err() {
            break;
        }
        held.push(client);
    }
    // Those that came last are read, too.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let kb = (resident_kb(server.child.id()) - before) / held.len().max(1) as f64;
    println!("held: {} requests for {segment} of {}, {kb:.1} KB each", held.len(), edge.run);
    Ok(())
}

/// One connection with requests one after the other.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    fn request(path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: bench\r\n\r\n")
    }

    /// The body of a 200; `NotFound` for a 404.
    async fn get(&mut self, path: &str) -> io::Result<Vec<u8>> {
        self.stream.write_all(Self::request(path).as_bytes()).await?;
        self.buffer.clear();
        let (head, length) = loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(end) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.buffer[..end]).to_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length = length.and_then(|length| length.parse::<usize>().ok());
                break (end + 4, length.ok_or(io::ErrorKind::InvalidData)?);
            }
        };
        self.buffer.reserve(length);
        while self.buffer.len() < head + length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        match &self.buffer[9..12] {
            b"200" => Ok(self.buffer.split_off(head)),
            b"404" => Err(io::ErrorKind::NotFound.into()),
            other => Err(io::Error::other(String::from_utf8_lossy(other).into_owned())),
        }
    }
}

/// What a playlist told.
struct Edge {
    run: String,
    /// The next part.
    part: u64,
    /// The longest segment's name.
    segment: String,
}

/// Where the next part will be.
fn position(playlist: &[u8]) -> (u64, u64) {
    let (mut segment, mut part) = (0, 0);
    for line in String::from_utf8_lossy(playlist).lines() {
        if let Some(number) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
            segment = number.parse().expect("a number");
        } else if line.starts_with("#EXTINF:") {
            (segment, part) = (segment + 1, 0);
        } else if line.starts_with("#EXT-X-PART:") {
            part += 1;
        }
    }
    (segment, part)
}

/// The program, and a publisher.
struct Server {
    child: Child,
    _publisher: Ended,
}

/// A process that is ended with its owner.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(folder: &Path) -> io::Result<Self> {
        let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["--open", "--state-dir"])
            .arg(folder)
            .args(["--http-listen", &format!("127.0.0.1:{HTTP}")])
            .args(["--rtmp-listen", &format!("127.0.0.1:{RTMP}")])
            .args(["--webrtc-listen", &format!("127.0.0.1:{WEBRTC}")])
            .env("TIDEGATE_HTTP_CONNECTIONS_PER_SOURCE", "16000")
            .env("TIDEGATE_HLS_ALWAYS", "true")
            .env("TIDEGATE_LOG", "warn")
            .stdout(Stdio::null())
            .spawn()?;
        let file = folder.join("in.flv");
        let render = "-v error -f lavfi -i testsrc2=s=1280x720:r=30 -f lavfi -i sine=440:r=48000 -t 20 -c:v libx264 \
                      -preset ultrafast -tune zerolatency -b:v 2500k -maxrate 2500k -bufsize 1250k -g 60 -pix_fmt yuv420p -c:a aac";
        Command::new("ffmpeg").args(render.split_whitespace()).arg(&file).status()?;
        let publisher = Command::new("ffmpeg")
            .args("-v error -re -stream_loop -1 -i".split(' '))
            .arg(&file)
            .args(["-c", "copy", "-f", "flv", &format!("rtmp://127.0.0.1:{RTMP}/live/s")])
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Self { child, _publisher: Ended(publisher) })
    }

    /// The playlist's end, once there are whole segments.
    async fn edge(&self) -> io::Result<Edge> {
        for _ in 0..300 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let Ok(playlist) = Client::connect(HTTP).await?.get("/s/video.m3u8").await else { continue };
            let text = String::from_utf8_lossy(&playlist).into_owned();
            let segments: Vec<&str> = text.lines().filter(|line| line.ends_with(".m4s")).collect();
            let hint = text.split("TYPE=PART,URI=\"video_").nth(1).and_then(|hint| hint.split_once("_p"));
            let (Some((run, hint)), [_, _, segment, ..]) = (hint, &segments[..]) else { continue };
            let part = hint.split('.').next().and_then(|number| number.parse().ok()).expect("a number");
            return Ok(Edge { run: run.to_owned(), part, segment: (*segment).to_owned() });
        }
        Err(io::Error::other("no stream"))
    }
}

fn nginx(folder: &Path) -> io::Result<Ended> {
    let path = folder.display();
    let config = format!(
        "daemon off; master_process off; pid {path}/nginx.pid; error_log {path}/error.log; user root;\n\
         events {{ worker_connections 1024; }}\nhttp {{ access_log off; sendfile on; tcp_nopush on; tcp_nodelay on;\n\
         open_file_cache max=100; keepalive_requests 1000000000; client_body_temp_path {path}/b; proxy_temp_path {path}/p;\n\
         fastcgi_temp_path {path}/f; uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;\n\
         server {{ listen 127.0.0.1:{NGINX}; root {path}/root; }} }}\n"
    );
    fs::write(folder.join("nginx.conf"), config)?;
    let child = Command::new("nginx")
        .args([
            "-p",
            &format!("{path}"),
            "-c",
            &format!("{path}/nginx.conf"),
            "-e",
            &format!("{path}/error.log"),
        ])
        .spawn()?;
    std::thread::sleep(Duration::from_millis(500));
    Ok(Ended(child))
}

/// Seconds that a process has used so far.
fn processor_time(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<f64>().expect("ticks");
    (ticks(11) + ticks(12)) / 100.0 // USER_HZ
}

fn resident_kb(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}
