//! ffmpeg as an RTMP publisher in real time.

use std::process::Command;
use std::time::Duration;

use super::Process;

/// A moving picture whose every whole second is white for 100 ms, at 30 frames a second.
const PICTURE: &str =
    "testsrc2=s=640x360:r=30,drawbox=t=fill:c=white:enable='lt(mod(t+0.001,1),0.1)',format=yuv420p";
/// A 1 kHz beep of 100 ms at every whole second.
const SOUND: &str = "aevalsrc='if(lt(mod(t,1),0.1),0.5*sin(2*PI*1000*t),0)':s=48000:c=mono";

/// What is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// H.264 baseline and AAC: what every output takes as it is.
    Baseline,
    /// H.264 High with two B-frames and AAC, as OBS sends with its defaults.
    BFrames,
    /// AAC alone.
    AudioOnly,
    /// H.264 baseline alone.
    VideoOnly,
}

/// What [`Ffmpeg::publish_small`] encodes: 320x180 at 30 pictures a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Small {
    /// Pictures from a keyframe to the next.
    pub group: u32,
    /// Kilobits a second.
    pub video: u32,
    pub audio: u32,
}

impl Default for Small {
    /// What every output takes as it is, with a keyframe every 2 s.
    fn default() -> Self {
        Self { group: 60, video: 400, audio: 96 }
    }
}

/// A publisher; ended on drop without a word.
pub struct Ffmpeg {
    pub process: Process,
}

impl Ffmpeg {
    /// Publishes `source` to `url` until it is ended.
    pub fn publish(source: Source, url: &str) -> Self {
        let mut command = Command::new("ffmpeg");
        command
            .args(["-hide_banner", "-nostats", "-loglevel", "warning", "-nostdin"])
            .args(input(source))
            .args(["-f", "flv", url]);
        Self { process: Process::spawn("ffmpeg", &mut command) }
    }

    /// Publishes what these arguments of ffmpeg's make, to `url` until it is ended.
    pub fn publish_with(args: &[&str], url: &str) -> Self {
        let mut command = Command::new("ffmpeg");
        command.args(["-hide_banner", "-nostats", "-loglevel", "warning", "-nostdin"]).args(args);
        Self { process: Process::spawn("ffmpeg", command.args(["-f", "flv", url])) }
    }

    /// Publishes a small picture that costs little to encode and decode, and a tone, to `url` until it is ended.
    pub fn publish_small(small: Small, url: &str) -> Self {
        let Small { group, video, audio } = small;
        let input = "-re -f lavfi -i testsrc2=s=320x180:r=30,format=yuv420p \
                     -re -f lavfi -i sine=frequency=440:r=48000";
        let coding =
            "-c:v libx264 -preset ultrafast -tune zerolatency -sc_threshold 0 -threads 1 -c:a aac -ac 2";
        let own = format!("-profile:v baseline -g {group} -b:v {video}k -b:a {audio}k");
        let args: Vec<&str> = [input, coding, &own].iter().flat_map(|list| list.split_whitespace()).collect();
        Self::publish_with(&args, url)
    }

    /// Writes what these arguments of ffmpeg's make to a file as fast as it goes.
    pub fn render_with(args: &[&str], file: &std::path::Path) {
        let mut command = Command::new("ffmpeg");
        command.args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y"]).args(args);
        let status = command.arg(file).status();
        assert!(status.is_ok_and(|status| status.success()), "ffmpeg renders {}", file.display());
    }

    /// Writes `length` of `source` to a file as fast as it goes.
    pub fn render(source: Source, length: Duration, file: &std::path::Path) {
        let args: Vec<_> = input(source).into_iter().filter(|arg| arg != "-re").collect();
        let mut command = Command::new("ffmpeg");
        command.args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y"]).args(args);
        let status = command.args(["-t", &length.as_secs_f64().to_string()]).arg(file).status();
        assert!(status.is_ok_and(|status| status.success()), "ffmpeg renders {}", file.display());
    }

    /// Writes baseline H.264 with a keyframe every 60 pictures to a file, as Annex B.
    pub fn render_h264(length: Duration, file: &std::path::Path) {
        let mut command = Command::new("ffmpeg");
        command
            .args(["-v", "error", "-nostdin", "-y", "-f", "lavfi"])
            .args(["-i", "testsrc2=s=640x360:r=30,format=yuv420p", "-t", &length.as_secs().to_string()])
            .args(["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-b:v", "1M"])
            .args(["-profile:v", "baseline", "-g", "60", "-sc_threshold", "0", "-f", "h264"])
            .arg(file);
        assert!(command.status().is_ok_and(|status| status.success()), "ffmpeg renders {}", file.display());
    }

    /// Writes H.265 without B-frames and with an IDR picture every 60 pictures to a file, as Annex B.
    pub fn render_h265(length: Duration, file: &std::path::Path) {
        let length = length.as_secs().to_string();
        let input = ["-f", "lavfi", "-i", "testsrc2=s=640x360:r=30,format=yuv420p", "-t", &length];
        let coding = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params"];
        let params = "log-level=error:info=0:bframes=0:keyint=60:min-keyint=60:scenecut=0:open-gop=0:\
                      repeat-headers=1";
        Self::render_with(&[&input[..], &coding, &[params, "-f", "hevc"]].concat(), file);
    }

    /// Leaves politely: FCUnpublish, deleteStream.
    pub async fn leave(mut self) {
        self.process.signal("INT");
        assert!(self.process.wait(Duration::from_secs(5)).await.is_some(), "ffmpeg leaves");
    }
}

/// ffmpeg's arguments for input and encoders.
fn input(source: Source) -> Vec<String> {
    let mut args: Vec<&str> = Vec::new();
    if source != Source::AudioOnly {
        args.extend(["-re", "-f", "lavfi", "-i", PICTURE]);
    }
    if source != Source::VideoOnly {
        args.extend(["-re", "-f", "lavfi", "-i", SOUND]);
    }
    if source != Source::AudioOnly {
        args.extend([
            "-c:v", "libx264", "-g", "60", "-b:v", "1200k", "-maxrate", "1500k", "-bufsize", "1000k",
        ]);
        args.extend(["-sc_threshold", "0", "-threads", "1"]);
        args.extend(match source {
            Source::BFrames => ["-preset", "veryfast", "-profile:v", "high", "-bf", "2"].as_slice(),
            _ => ["-preset", "ultrafast", "-profile:v", "baseline", "-tune", "zerolatency"].as_slice(),
        });
    }
    if source != Source::VideoOnly {
        args.extend(["-c:a", "aac", "-b:a", "128k", "-ar", "48000", "-ac", "2"]);
    }
    args.into_iter().map(str::to_owned).collect()
}
