//! ffprobe and ffmpeg as judges of what arrived.

use std::process::Command;

use serde_json::Value;

/// What ffprobe says of a file or URL.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// `h264` …
    pub video: Option<String>,
    /// `aac` …
    pub audio: Option<String>,
    pub width: u64,
    pub height: u64,
    pub profile: String,
    /// Of the pictures, as the codec numbers it.
    pub level: i64,
    /// What ffprobe complained about.
    pub complaints: String,
}

/// Looks at a file or URL.
pub async fn probe(input: &str) -> Probe {
    let args = ["-v", "warning", "-of", "json", "-show_streams", input];
    let (text, complaints) = run("ffprobe", args).await;
    let json: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("ffprobe {input}: {complaints}"));
    let of =
        |kind: &str| json["streams"].as_array()?.iter().find(|stream| stream["codec_type"] == kind).cloned();
    let name = |stream: &Option<Value>| Some(stream.as_ref()?["codec_name"].as_str()?.to_owned());
    let (video, audio) = (of("video"), of("audio"));
    let number = |key: &str| video.as_ref().and_then(|video| video[key].as_u64()).unwrap_or(0);
    Probe {
        video: name(&video),
        audio: name(&audio),
        width: number("width"),
        height: number("height"),
        profile: video.as_ref().and_then(|video| video["profile"].as_str()).unwrap_or("").to_owned(),
        level: video.as_ref().and_then(|video| video["level"].as_i64()).unwrap_or(0),
        complaints,
    }
}

/// `(pts, dts, key)` in seconds of each packet of the first track of a kind ("v" or "a") in decoding order.
pub async fn packets(input: &str, kind: &str) -> Vec<(f64, f64, bool)> {
    let track = format!("{kind}:0");
    let args = ["-v", "error", "-of", "csv=p=0", "-select_streams", &track];
    let args = args.iter().copied().chain(["-show_entries", "packet=pts_time,dts_time,flags", input]);
    let (text, _) = run("ffprobe", args).await;
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(',');
            let (pts, dts) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            Some((pts, dts, fields.next().is_some_and(|flags| flags.starts_with('K'))))
        })
        .collect()
}

/// What ffmpeg complains about while it decodes the whole input; empty when nothing.
pub async fn decode_errors(input: &str) -> String {
    // The times are the input's, and no matter of decoding: two frames may share a tick of the nominal rate.
    let times = ["-fps_mode", "passthrough", "-enc_time_base:v", "1:90000"];
    let args = ["-v", "error", "-nostdin", "-i", input].into_iter().chain(times).chain(["-f", "null", "-"]);
    run("ffmpeg", args).await.1
}

/// stdout and stderr of a program.
pub(super) async fn run<'a>(program: &str, args: impl IntoIterator<Item = &'a str>) -> (String, String) {
    let output = tokio::process::Command::new(program).args(args).output().await.expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(output.stdout), text(output.stderr))
}
