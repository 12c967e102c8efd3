//! Sequences of messages, and the epochs and frames they lead to.

use super::*;
use MediaKind::{Audio, Video};

// x264, High, no B-frames stated; 4-byte lengths.
const RECORD: &[u8] = &[
    1, 0x42, 0xc0, 0x0c, 0xff, 0xe1, 0, 0x19, 0x67, 0x42, 0xc0, 0x0c, 0xd9, 0x01, 0x41, 0x9f, 0x9f, 0x01,
    0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0x20, 0xf1, 0x42, 0xa4, 0x80, 1, 0, 5, 0x68, 0xcb, 0x83, 0xcb, 0x20,
];

struct Feed {
    assembly: Assembly,
    start: Instant,
}

impl Feed {
    fn new() -> Self {
        let start = Instant::now();
        Self { assembly: Assembly::new(start), start }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn video_config(&mut self, level: u8) {
        let mut record = RECORD.to_vec();
        record[11] = level;
        let data = [&[0x17, 0, 0, 0, 0], &record[..]].concat().into();
        self.assembly.video(self.start, 0, &data).expect("valid");
    }

    fn audio_config(&mut self, config: &'static [u8]) {
        let data = [&[0xaf, 0], config].concat().into();
        self.assembly.audio(self.start, 0, &data).expect("valid");
    }

    fn video(&mut self, ms: u64, timestamp: u32, key: bool) {
        let nal = if key { 0x65 } else { 0x41 };
        let data = vec![if key { 0x17 } else { 0x27 }, 1, 0, 0, 0, 0, 0, 0, 2, nal, 0x80].into();
        self.assembly.video(self.at(ms), timestamp, &data).expect("valid");
    }

    fn audio(&mut self, ms: u64, timestamp: u32) {
        let data = Bytes::from_static(&[0xaf, 1, 0x21, 0]);
        self.assembly.audio(self.at(ms), timestamp, &data).expect("valid");
    }

    /// `E` and the tracks of an epoch, or the kind and decoding time of a frame.
    fn outputs(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.assembly.pop())
            .map(|output| match output {
                Output::Epoch(tracks) => {
                    let track = |kind| if tracks.has(kind) { kind.to_string() } else { String::new() };
                    format!("E {}{}", track(Video), track(Audio))
                }
                Output::Frame(frame) => format!(
                    "{}{} {}",
                    frame.kind,
                    if frame.keyframe && frame.kind == Video { "!" } else { "" },
                    frame.dts.as_millis()
                ),
            })
            .collect()
    }
}

const AAC: &[u8] = &[0x11, 0x90];

#[test]
fn the_first_epoch_begins_when_both_tracks_are_there() {
    let mut feed = Feed::new();
    feed.video_config(12);
    feed.video(0, 0, true);
    assert_eq!(feed.outputs(), [""; 0]);
    feed.audio_config(AAC);
    feed.audio(5, 3);
    assert_eq!(feed.outputs(), ["E videoaudio", "video! 0", "audio 3"]);
}

#[test]
fn an_announced_single_track_begins_at_once() {
    let mut feed = Feed::new();
    feed.assembly.announce((true, false));
    feed.video_config(12);
    feed.video(0, 0, true);
    assert_eq!(feed.outputs(), ["E video", "video! 0"]);
    let mut feed = Feed::new();
    feed.assembly.announce((false, true));
    feed.audio_config(AAC);
    feed.audio(0, 7);
    assert_eq!(feed.outputs(), ["E audio", "audio 0"]);
}

#[test]
fn one_kind_waits_half_a_second_of_media_or_a_second_of_time() {
    let mut feed = Feed::new();
    feed.audio_config(AAC);
    for n in 0..25 {
        feed.audio(0, n * 20);
    }
    assert_eq!(feed.outputs(), [""; 0]);
    feed.audio(0, 500);
    assert_eq!(feed.outputs().len(), 27);
    let mut feed = Feed::new();
    feed.video_config(12);
    feed.video(0, 0, true);
    assert_eq!(feed.assembly.deadline(), Some(feed.at(1000)));
    feed.assembly.handle_timeout(feed.at(1000)).expect("fine");
    assert_eq!(feed.outputs(), ["E video", "video! 0"]);
}

#[test]
fn a_late_track_joins_at_the_next_keyframe() {
    let mut feed = Feed::new();
    feed.assembly.announce((true, false));
    feed.video_config(12);
    feed.video(0, 0, true);
    feed.outputs();
    feed.audio_config(AAC);
    feed.audio(0, 40);
    feed.video(0, 40, false);
    feed.video(0, 80, true);
    feed.audio(0, 90);
    assert_eq!(feed.outputs(), ["video 40", "E videoaudio", "video! 80", "audio 90"]);
}

#[test]
fn a_changed_configuration_begins_an_epoch_and_a_repeated_one_does_not() {
    let mut feed = Feed::new();
    feed.video_config(12);
    feed.audio_config(AAC);
    feed.video(0, 0, true);
    feed.audio(0, 1);
    feed.video_config(12);
    feed.audio_config(AAC);
    feed.video(0, 40, false);
    assert_eq!(feed.outputs(), ["E videoaudio", "video! 0", "audio 1", "video 40"]);
    feed.video_config(13);
    feed.video(0, 80, false);
    feed.video(0, 120, true);
    assert_eq!(feed.outputs(), ["E videoaudio", "video! 120"]);
    feed.audio_config(&[0x12, 0x10]);
    feed.video(0, 160, false);
    feed.audio(0, 170);
    feed.video(0, 200, true);
    assert_eq!(feed.outputs(), ["E videoaudio", "audio 170", "video! 200"]);
}

#[test]
fn timestamps_wrap_without_a_jump_and_rise_strictly() {
    let mut feed = Feed::new();
    feed.assembly.announce((true, false));
    feed.video_config(12);
    for (n, timestamp) in [u32::MAX - 39, 0, 40, 40, 35, 80].into_iter().enumerate() {
        feed.video(0, timestamp, n == 0);
    }
    let expected = ["E video", "video! 0", "video 40", "video 80", "video 81", "video 82", "video 120"];
    assert_eq!(feed.outputs(), expected);
}

#[test]
fn a_jump_begins_an_epoch_that_goes_on_by_real_time() {
    let mut feed = Feed::new();
    feed.video_config(12);
    feed.audio_config(AAC);
    feed.video(0, 1000, true);
    feed.audio(0, 1000);
    feed.outputs();
    feed.video(7000, 90_000, false);
    feed.audio(7000, 90_005);
    feed.video(7040, 90_040, true);
    assert_eq!(feed.outputs(), ["E videoaudio", "audio 7005", "video! 7040"]);
}

#[test]
fn video_without_a_keyframe_is_refused_after_30_seconds() {
    let mut feed = Feed::new();
    feed.assembly.announce((true, false));
    feed.video_config(12);
    feed.video(100, 100, false);
    feed.assembly.handle_timeout(feed.at(29_999)).expect("patient");
    assert_eq!(feed.assembly.handle_timeout(feed.at(30_000)), Err(AssemblyError::NoKeyframe));
    let mut feed = Feed::new();
    feed.assembly.announce((true, false));
    feed.video_config(12);
    feed.video(0, 0, true);
    assert_eq!(feed.assembly.deadline(), None, "a group of pictures may be long");
}
