//! A publisher's media in real time, on a task.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use str0m::media::MediaKind;
use tokio::task::AbortHandle;

use super::av1::packetise_av1;
use super::client::RtcSender;
use super::h265::packetise_h265;
use super::media::{packetise_h264, synthetic_h264};

/// 20 ms of silence in Opus.
const SILENCE: [u8; 3] = [0xf8, 0xff, 0xfe];
const AUDIO_STEP: Duration = Duration::from_millis(20);

/// What a publisher sends; ended on drop.
pub struct Publishing {
    task: AbortHandle,
    sent: Arc<AtomicU32>,
    paused: Arc<AtomicBool>,
    /// The rids of layers that are not sent.
    silent: Arc<Mutex<Vec<String>>>,
}

/// What is sent and how.
#[derive(Clone, Debug)]
pub struct Programme {
    /// One without simulcast; none for audio alone.
    pub layers: Vec<Layer>,
    /// Opus silence besides.
    pub audio: bool,
    /// Pictures a second.
    pub frame_rate: u32,
    /// Pictures from a keyframe to the next.
    pub group: u32,
    /// Whether a keyframe request is answered with a keyframe of all layers; OBS, for one, ignores it.
    pub answers_requests: bool,
}

/// One video stream.
#[derive(Clone, Debug)]
pub struct Layer {
    pub rid: Option<String>,
    pub pictures: PictureSource,
}

/// Where the pictures come from.
#[derive(Clone, Debug)]
pub enum PictureSource {
    /// Noise in valid NAL units; keyframes are four times as large as the others.
    Synthetic { size: (u32, u32), bytes: usize },
    /// The access units of `units_of_h264_file`, over and over, as they are: `group` is the file's own, and
    /// keyframe requests are ignored.
    File(Arc<Vec<Vec<Vec<u8>>>>),
    /// The same of `units_of_h265_file`.
    FileH265(Arc<Vec<Vec<Vec<u8>>>>),
    /// The same of `units_of_av1_file`.
    FileAv1(Arc<Vec<Vec<Vec<u8>>>>),
}

impl Default for Programme {
    /// One 640x360 stream of about 1.2 Mbit/s, 30 pictures a second, a keyframe every 2 s, Opus; keyframe
    /// requests are answered.
    fn default() -> Self {
        let pictures = PictureSource::Synthetic { size: (640, 360), bytes: 5000 };
        let layers = vec![Layer { rid: None, pictures }];
        Self { layers, audio: true, frame_rate: 30, group: 60, answers_requests: true }
    }
}

impl Programme {
    /// Synthetic simulcast: rid, size, bytes of a picture.
    pub fn simulcast<const N: usize>(layers: [(&str, (u32, u32), usize); N]) -> Self {
        let layer = |(rid, size, bytes): (&str, _, _)| Layer {
            rid: Some(rid.to_owned()),
            pictures: PictureSource::Synthetic { size, bytes },
        };
        Self { layers: layers.map(layer).to_vec(), ..Self::default() }
    }
}

impl Publishing {
    /// Sends from the moment of the connection on.
    pub fn start(sender: RtcSender, programme: Programme) -> Self {
        let sent = Arc::new(AtomicU32::new(0));
        let paused = Arc::new(AtomicBool::new(false));
        let silent = Arc::new(Mutex::new(Vec::new()));
        let run = run(sender, programme, sent.clone(), paused.clone(), silent.clone());
        Self { task: tokio::spawn(run).abort_handle(), sent, paused, silent }
    }

    /// Pictures sent so far: the number of the next one.
    pub fn sent(&self) -> u32 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Publishing {
    /// Sends nothing any more, while its clocks go on, or sends again.
    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    /// Sends nothing of one layer any more, or again.
    pub fn pause_layer(&self, rid: &str, paused: bool) {
        let mut silent = self.silent.lock().expect("not poisoned");
        silent.retain(|other| other != rid);
        if paused {
            silent.push(rid.to_owned());
        }
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(
    sender: RtcSender,
    programme: Programme,
    sent: Arc<AtomicU32>,
    paused: Arc<AtomicBool>,
    silent: Arc<Mutex<Vec<String>>>,
) {
    while !sender.has_connected() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let start = Instant::now();
    let (mut pictures, mut sounds, mut answered) = (0u32, 0u32, 0);
    let mut last_keyframe = 0;
    while !sender.is_closed() {
        let video_due = Duration::from_secs(1) * pictures / programme.frame_rate;
        let audio_due = AUDIO_STEP * sounds;
        if programme.audio && audio_due <= video_due {
            tokio::time::sleep_until((start + audio_due).into()).await;
            if !paused.load(Ordering::Relaxed) {
                sender.send_frame(MediaKind::Audio, None, sounds * 960, &[SILENCE.to_vec()]);
            }
            sounds += 1;
            continue;
        }
        tokio::time::sleep_until((start + video_due).into()).await;
        if paused.load(Ordering::Relaxed) {
            pictures += 1;
            continue;
        }
        let requests = sender.keyframe_requests();
        let wanted = programme.answers_requests && requests > answered;
        let keyframe = pictures == 0 || pictures - last_keyframe >= programme.group || wanted;
        if keyframe {
            (last_keyframe, answered) = (pictures, requests);
        }
        let timestamp = (u64::from(pictures) * 90_000 / u64::from(programme.frame_rate)) as u32;
        let silent = silent.lock().expect("not poisoned").clone();
        for layer in &programme.layers {
            if layer.rid.as_ref().is_some_and(|rid| silent.contains(rid)) {
                continue;
            }
            let payloads = match &layer.pictures {
                PictureSource::Synthetic { size, bytes } => {
                    synthetic_h264(keyframe, pictures, *size, if keyframe { bytes * 4 } else { *bytes })
                }
                PictureSource::File(units) => packetise_h264(&units[pictures as usize % units.len()]),
                PictureSource::FileH265(units) => packetise_h265(&units[pictures as usize % units.len()]),
                PictureSource::FileAv1(units) => packetise_av1(&units[pictures as usize % units.len()]),
            };
            sender.send_frame(MediaKind::Video, layer.rid.as_deref(), timestamp, &payloads);
        }
        pictures += 1;
        sent.store(pictures, Ordering::Relaxed);
    }
}
