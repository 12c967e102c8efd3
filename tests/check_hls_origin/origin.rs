//! A Low-Latency HLS origin that misbehaves on demand: HTTP by hand, media by the clock.

use std::collections::HashMap;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};
use url::Url;

/// What the origin does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    SegmentsAreNotAwaited,
    PartsAreNotAwaited,
    PartsEndWithTheirSegment,
    OldNumbersAreGone,
    DirectivesCountAfterTheEnd,
    FarNumbersAreAwaited,
    MalformedNumbersAreIgnored,
    HeldForEver,
    NothingIsSkipped,
    TooMuchIsSkipped,
    NoReports,
    OldReports,
    HintsAreUnknown,
    UnknownNamesAreFound,
    LittleHoldBack,
    PartsInBursts,
    TargetChanges,
    SegmentsAreRenamed,
    RemovedIsGone,
    ListedIsMissing,
    SlowMedia,
    NotPacked,
    MediaIsNotCached,
    SegmentsAreNotTheirParts,
    PlaylistVanishes,
}

/// A part's duration.
const PART: Duration = Duration::from_millis(200);
/// Parts of a segment of a second; segments in the window.
const PARTS: u64 = 5;
const WINDOW: u64 = 9;
/// The number of the first segment, and how many there are before anybody asks.
const FIRST: u64 = 1000;
const BEFORE: u64 = 20;
/// When what happens in mid-stream happens, in parts since the start.
const MOMENT: u64 = 20;
/// How long media can be fetched.
const KEPT: u64 = 40;

/// A running origin; ends on drop.
pub struct Origin {
    port: u16,
    task: AbortHandle,
}

#[derive(Clone, Copy)]
struct State {
    fault: Fault,
    start: Instant,
}

/// An answer.
struct Answer {
    status: u16,
    cache: &'static str,
    body: Vec<u8>,
    gzip: bool,
    slow: bool,
}

impl Origin {
    pub async fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = State { fault, start: Instant::now() };
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, state));
            }
        });
        Self { port, task: task.abort_handle() }
    }

    pub fn url(&self) -> Url {
        format!("http://127.0.0.1:{}/index.m3u8", self.port).parse().expect("a URL")
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection: requests until the client has enough.
async fn serve(stream: TcpStream, state: State) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut target, mut gzip) = (String::new(), false);
        let mut line = String::new();
        loop {
            line.clear();
            match stream.read_line(&mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            if let Some(rest) = line.strip_prefix("GET ") {
                target = rest.split(' ').next().unwrap_or_default().to_owned();
            }
            let lower = line.to_ascii_lowercase();
            gzip |= lower.starts_with("accept-encoding:") && lower.contains("gzip");
            if line.trim().is_empty() {
                break;
            }
        }
        let mut answer = state.answer(&target).await;
        let packed = gzip && answer.gzip && state.fault != Fault::NotPacked;
        if packed {
            answer.body = pack(&answer.body);
        }
        let encoding = if packed { "Content-Encoding: gzip\r\n" } else { "" };
        let Answer { status, cache, body, slow, .. } = answer;
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nCache-Control: {cache}\r\n{encoding}\r\n"
        );
        if stream.write_all(head.as_bytes()).await.is_err() {
            return;
        }
        if slow {
            let _ = stream.flush().await;
            sleep(Duration::from_millis(2_000)).await;
        }
        if stream.write_all(&body).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

impl State {
    /// Parts that are there.
    fn parts(&self) -> u64 {
        let mut since = (self.start.elapsed().as_millis() / PART.as_millis()) as u64;
        match self.fault {
            Fault::HeldForEver => since = since.min(MOMENT / 2),
            Fault::DirectivesCountAfterTheEnd => since = since.min(MOMENT),
            Fault::PartsInBursts => since -= since % 10,
            _ => {}
        }
        BEFORE * PARTS + since
    }

    fn ended(&self) -> bool {
        self.fault == Fault::DirectivesCountAfterTheEnd && self.parts() >= BEFORE * PARTS + MOMENT
    }

    /// Waits until `part` parts are there.
    async fn until(&self, parts: u64) {
        if self.fault == Fault::HeldForEver {
            while self.parts() < parts {
                sleep(Duration::from_millis(100)).await;
            }
            return;
        }
        let mut wanted = parts.saturating_sub(BEFORE * PARTS);
        if self.fault == Fault::PartsInBursts {
            wanted = wanted.next_multiple_of(10);
        }
        sleep_until(self.start + PART * wanted as u32).await;
    }

    async fn answer(&self, target: &str) -> Answer {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query: HashMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        match path {
            "/index.m3u8" => playlist(
                "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"a\",URI=\"a.m3u8\"\n\
                 #EXT-X-STREAM-INF:BANDWIDTH=3280,AVERAGE-BANDWIDTH=3280,CODECS=\"avc1.42c01f,mp4a.40.2\",AUDIO=\"a\"\nv.m3u8\n",
            ),
            "/v.m3u8" | "/a.m3u8" => self.reload(path, &query).await,
            _ => self.media(path).await,
        }
    }

    /// A media playlist, with its directives.
    async fn reload(&self, path: &str, query: &HashMap<&str, &str>) -> Answer {
        if self.fault == Fault::PlaylistVanishes && self.parts() > BEFORE * PARTS + MOMENT {
            return error(404);
        }
        let ended = self.ended();
        let number = |name: &str| query.get(name).map(|value| value.parse::<u64>());
        let (sequence, part) = match (number("_HLS_msn"), number("_HLS_part")) {
            _ if ended && self.fault != Fault::DirectivesCountAfterTheEnd => (None, None),
            _ if self.fault == Fault::MalformedNumbersAreIgnored => {
                (number("_HLS_msn").and_then(Result::ok), number("_HLS_part").and_then(Result::ok))
            }
            (Some(Err(_)), _) | (_, Some(Err(_))) | (None, Some(_)) => return error(400),
            (sequence, part) => (sequence.and_then(Result::ok), part.and_then(Result::ok)),
        };
        if let Some(sequence) = sequence
            && let Some(refusal) = self.block(sequence, part).await
        {
            return refusal;
        }
        let skip = query.contains_key("_HLS_skip") && self.fault != Fault::NothingIsSkipped;
        playlist(&self.text(path, skip && (!ended || self.fault == Fault::DirectivesCountAfterTheEnd)))
    }

    /// Waits for what is asked for; or what is wrong with it.
    async fn block(&self, sequence: u64, part: Option<u64>) -> Option<Answer> {
        let now = self.parts();
        let (open, present) = (FIRST + now / PARTS, now % PARTS);
        let oldest = open - WINDOW;
        if sequence < oldest {
            return (self.fault == Fault::OldNumbersAreGone).then(|| error(404));
        }
        let too_far = sequence > open + 1 || sequence == open && part.is_some_and(|part| part > present + 15);
        if too_far && self.fault != Fault::FarNumbersAreAwaited {
            return Some(error(400));
        }
        if sequence < open
            && part.is_some_and(|part| part >= PARTS)
            && self.fault == Fault::PartsEndWithTheirSegment
        {
            return Some(error(400));
        }
        if self.ended() {
            return Some(error(503));
        }
        let wanted = (sequence - FIRST) * PARTS + part.map_or(PARTS, |part| part + 1);
        match (self.fault, part) {
            (Fault::SegmentsAreNotAwaited, None) | (Fault::PartsAreNotAwaited, Some(_)) => {}
            (Fault::HeldForEver, _) => self.until(wanted).await,
            _ => {
                let limit = Duration::from_secs(3);
                if tokio::time::timeout(limit, self.until(wanted)).await.is_err() {
                    return Some(error(503));
                }
            }
        }
        None
    }

    fn text(&self, path: &str, skip: bool) -> String {
        let name = &path[1..2];
        let sibling = if name == "v" { "a" } else { "v" };
        let now = self.parts();
        let open = FIRST + now / PARTS;
        let oldest = open - WINDOW;
        let changes = self.fault == Fault::TargetChanges && now > BEFORE * PARTS + MOMENT;
        let target = if changes { 2 } else { 1 };
        let hold_back = if self.fault == Fault::LittleHoldBack { 0.5 } else { 0.6 };
        let kept = if self.fault == Fault::TooMuchIsSkipped { 4 } else { 6 };
        let skipped = if skip { WINDOW - kept } else { 0 };
        let version = if skip { 9 } else { 3 };
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{target}\n\
             #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=6.0,PART-HOLD-BACK={hold_back},HOLD-BACK=3.0\n\
             #EXT-X-PART-INF:PART-TARGET=0.2\n#EXT-X-MEDIA-SEQUENCE:{oldest}\n"
        );
        if skip {
            text += &format!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}\n");
        }
        for sequence in oldest + skipped..open {
            text += &date(sequence);
            if sequence + 2 >= open {
                text += &parts(name, sequence, PARTS);
            }
            let renamed = self.fault == Fault::SegmentsAreRenamed && sequence + 1 < open;
            let file = if renamed { "renamed" } else { "seg" };
            text += &format!("#EXTINF:1.00000,\n{name}{file}{sequence}.m4s\n");
        }
        if self.ended() {
            return text + "#EXT-X-ENDLIST\n";
        }
        if !now.is_multiple_of(PARTS) {
            text += &date(open);
            text += &parts(name, open, now % PARTS);
        }
        text += &format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{name}part{now}.m4s\"\n");
        let told = now - 1 - if self.fault == Fault::OldReports { 9 } else { 0 };
        if self.fault != Fault::NoReports {
            let (sequence, part) = (FIRST + told / PARTS, told % PARTS);
            text += &format!(
                "#EXT-X-RENDITION-REPORT:URI=\"{sibling}.m3u8\",LAST-MSN={sequence},LAST-PART={part}\n"
            );
        }
        text
    }

    async fn media(&self, path: &str) -> Answer {
        let stem = path.split('.').next().unwrap_or_default();
        let number: String = stem.chars().filter(char::is_ascii_digit).collect();
        let Ok(number) = number.parse::<u64>() else { return error(404) };
        if path.contains("never") {
            return if self.fault == Fault::UnknownNamesAreFound {
                media(b"whatever".to_vec())
            } else {
                error(404)
            };
        }
        let is_part = path.contains("part");
        let first = if is_part { number } else { (number.max(FIRST) - FIRST) * PARTS };
        let count = if is_part { 1 } else { PARTS };
        let now = self.parts();
        let hinted = is_part && number == now && self.fault != Fault::HintsAreUnknown;
        if hinted {
            self.until(number + 1).await;
        } else if first + count > now || first + KEPT * PARTS < now {
            return error(404);
        }
        let left = (!is_part).then(|| now / PARTS - (number - FIRST));
        if self.fault == Fault::RemovedIsGone && left.is_some_and(|left| left > WINDOW) {
            return error(404);
        }
        if self.fault == Fault::ListedIsMissing && is_part && number.is_multiple_of(7) && !hinted {
            return error(404);
        }
        let mut body: Vec<u8> = (first..first + count)
            .flat_map(|part| format!("<{}{part:38}>", &path[1..2]).into_bytes())
            .collect();
        if self.fault == Fault::SegmentsAreNotTheirParts && !is_part {
            body[7] = b'x';
        }
        let mut answer = media(body);
        answer.slow = self.fault == Fault::SlowMedia && !is_part;
        if self.fault == Fault::MediaIsNotCached {
            answer.cache = "max-age=2";
        }
        answer
    }
}

fn date(sequence: u64) -> String {
    format!(
        "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:{:02}:{:02}.000Z\n",
        (sequence - FIRST) / 60,
        (sequence - FIRST) % 60
    )
}

fn parts(name: &str, sequence: u64, count: u64) -> String {
    let first = (sequence - FIRST) * PARTS;
    let line = |part| format!("#EXT-X-PART:DURATION=0.20000,URI=\"{name}part{part}.m4s\"\n");
    (first..first + count).map(line).collect()
}

fn playlist(text: &str) -> Answer {
    Answer { status: 200, cache: "max-age=1", body: text.as_bytes().to_vec(), gzip: true, slow: false }
}

fn media(body: Vec<u8>) -> Answer {
    Answer { status: 200, cache: "max-age=31536000, immutable", body, gzip: false, slow: false }
}

fn error(status: u16) -> Answer {
    Answer { status, cache: "max-age=1", body: Vec::new(), gzip: false, slow: false }
}

/// A gzip file (RFC 1952) of one block that is stored as it is (RFC 1951 §3.2.4).
fn pack(body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("a short playlist");
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    packed.extend(length.to_le_bytes());
    packed.extend((!length).to_le_bytes());
    packed.extend(body);
    let mut check = u32::MAX;
    for byte in body {
        check ^= u32::from(*byte);
        for _ in 0..8 {
            check = if check & 1 == 1 { check >> 1 ^ 0xedb8_8320 } else { check >> 1 };
        }
    }
    packed.extend((!check).to_le_bytes());
    packed.extend(u32::from(length).to_le_bytes());
    packed
}
