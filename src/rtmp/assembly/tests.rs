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
fn r12_late_video_joins_at_its_keyframe_and_the_sound_goes_on_until_then() {
    let mut feed = Feed::new();
    feed.assembly.announce((false, true));
    feed.audio_config(AAC);
    feed.audio(0, 0);
    feed.video_config(12);
    assert_eq!(feed.assembly.deadline(), None, "nobody is sent away for want of a keyframe");
    feed.audio(20, 20);
    feed.video(30, 30, false);
    feed.audio(40, 40);
    feed.video(60, 60, true);
    feed.audio(61, 61);
    let joined = ["E audio", "audio 0", "audio 20", "audio 40", "E videoaudio", "video! 60", "audio 61"];
    assert_eq!(feed.outputs(), joined);
    // So does another configuration of the video.
    feed.video_config(13);
    feed.audio(82, 82);
    feed.video(100, 100, false);
    feed.video(120, 120, true);
    assert_eq!(feed.outputs(), ["audio 82", "E videoaudio", "video! 120"]);
}

#[test]
fn r12_after_a_jump_the_sound_does_not_wait_for_a_keyframe() {
    let mut feed = Feed::new();
    feed.video_config(12);
    feed.audio_config(AAC);
    feed.video(0, 0, true);
    feed.audio(0, 0);
    feed.outputs();
    feed.audio(7000, 90_000);
    assert_eq!(feed.outputs(), ["E videoaudio", "audio 7000"]);
    feed.video(7010, 90_010, false);
    feed.video_config(13);
    feed.audio(7020, 90_020);
    feed.video(7040, 90_040, true);
    assert_eq!(feed.outputs(), ["audio 7020", "E videoaudio", "video! 7040"]);
}

#[test]
fn r12_a_track_that_stops_leaves_the_epoch_and_one_that_returns_joins_it() {
    let mut feed = Feed::new();
    feed.video_config(12);
    feed.audio_config(AAC);
    feed.video(0, 0, true);
    feed.audio(0, 1);
    let pictures = |feed: &mut Feed, from: u32, to: u32| {
        for ms in (from..to).step_by(500) {
            feed.video(ms.into(), ms, ms % 2000 == 0);
        }
    };
    pictures(&mut feed, 500, 3500);
    assert_eq!(feed.outputs().iter().filter(|output| output.starts_with('E')).count(), 1);
    // Three seconds without sound: the next keyframe begins an epoch without it.
    pictures(&mut feed, 3500, 4500);
    assert_eq!(feed.outputs(), ["video 3500", "E video", "video! 4000"]);
    feed.audio(4500, 4500);
    pictures(&mut feed, 4500, 6500);
    feed.audio(6500, 6500);
    let joined = ["video 4500", "video 5000", "video 5500", "E videoaudio", "video! 6000", "audio 6500"];
    assert_eq!(feed.outputs(), joined);
    // Pictures are waited for for ten seconds, and for twice as long the second time that something stops.
    for ms in (7000..27_500).step_by(500) {
        feed.audio(ms.into(), ms);
    }
    let outputs = feed.outputs();
    assert_eq!(outputs.iter().position(|output| output == "E audio"), Some(39), "{outputs:?}");
    assert_eq!(feed.assembly.deadline(), None, "nobody is sent away for want of a keyframe");
    feed.video(27_500, 27_500, false);
    feed.audio(27_500, 27_510);
    feed.video(28_000, 28_000, true);
    assert_eq!(feed.outputs(), ["audio 27510", "E videoaudio", "video! 28000"]);
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

#[test]
fn r12_a_picture_may_be_shown_before_it_is_decoded() {
    let mut feed = Feed::new();
    feed.assembly.announce((true, false));
    feed.video_config(12);
    feed.video(0, 0, true);
    for (timestamp, composition) in [(40, [0, 0, 80]), (80, [0xff, 0xff, 0xd8]), (120, [0x80, 0, 0])] {
        let [a, b, c] = composition;
        let data = vec![0x27, 1, a, b, c, 0, 0, 0, 2, 0x41, 0x80].into();
        feed.assembly.video(feed.start, timestamp, &data).expect("valid");
    }
    let times: Vec<_> = std::iter::from_fn(|| feed.assembly.pop())
        .filter_map(|output| match output {
            Output::Frame(frame) => Some((frame.dts.as_millis(), frame.pts.as_millis())),
            Output::Epoch(_) => None,
        })
        .collect();
    assert_eq!(times, [(0, 0), (40, 120), (80, 40), (120, -9_880)], "as stated, up to 10 s");
}

#[test]
fn r16_vp9_begins_when_a_keyframe_tells_its_size_and_anew_when_that_changes() {
    const CONFIG: &[u8] = b"\x90vp09\x00\x1f\x80\x02\x02\x02\x00\x00";
    let key: &[u8] = b"\x91vp09\x82\x49\x83\x42\x00\x28\x10\x16\x96\x38";
    let wider: &[u8] = b"\x91vp09\x82\x49\x83\x42\x00\x2c\x10\x16\x96\x38";
    let inter: &[u8] = b"\xa1vp09\x86\x00";
    let mut feed = Feed::new();
    feed.assembly.announce((true, false));
    for (timestamp, data) in [CONFIG, inter, key, inter, key, wider].into_iter().enumerate() {
        let data = Bytes::from_static(data);
        feed.assembly.video(feed.start, timestamp as u32 * 200, &data).expect("valid");
    }
    let expected = ["E video", "video! 200", "video 400", "video! 600", "E video", "video! 800"];
    assert_eq!(feed.outputs(), expected);
}

#[test]
fn r16_mp3_and_opus_need_no_configuration() {
    let mut feed = Feed::new();
    feed.assembly.announce((false, true));
    for (timestamp, data) in
        [&b"\x2f\xff\xfb\x90\x64"[..], b"\x2fnoise", b"\x2f\xff\xfb\x94\x64"].into_iter().enumerate()
    {
        let data = Bytes::copy_from_slice(data);
        feed.assembly.audio(feed.start, timestamp as u32 * 24, &data).expect("valid");
    }
    assert_eq!(feed.outputs(), ["E audio", "audio 0", "audio 24", "E audio", "audio 48"], "48 kHz at last");
    let mut feed = Feed::new();
    feed.assembly.announce((false, true));
    feed.assembly.audio(feed.start, 0, &Bytes::from_static(b"\x91Opus\xfc\xff\xfe")).expect("valid");
    assert_eq!(feed.outputs(), ["E audio", "audio 0"]);
}

#[test]
fn r16_frames_of_another_codec_than_configured_are_dropped() {
    let mut feed = Feed::new();
    feed.video_config(12);
    feed.audio_config(AAC);
    feed.video(0, 0, true);
    feed.audio(0, 1);
    feed.outputs();
    feed.assembly
        .video(feed.start, 40, &Bytes::from_static(b"\x93hvc1\x00\x00\x00\x02\x26\x01"))
        .expect("valid");
    feed.assembly.audio(feed.start, 41, &Bytes::from_static(b"\x91Opus\xfc\xff\xfe")).expect("valid");
    assert_eq!(feed.outputs(), [""; 0]);
}

/// What is wrong with video and audio, in words.
fn unconfigured(feed: &Feed) -> [String; 2] {
    feed.assembly.unconfigured().map(|lacking| lacking.map(|lacking| lacking.to_string()).unwrap_or_default())
}

#[test]
fn r13_pictures_without_a_configuration_are_told_and_the_sound_goes_on() {
    let mut feed = Feed::new();
    feed.assembly.announce((false, true));
    feed.audio_config(AAC);
    feed.video(0, 0, true);
    feed.audio(0, 0);
    assert_eq!(feed.outputs(), ["E audio", "audio 0"]);
    assert_eq!(feed.assembly.deadline(), Some(feed.at(5000)));
    feed.assembly.handle_timeout(feed.at(4999)).expect("patient");
    assert_eq!(unconfigured(&feed), ["", ""]);
    feed.assembly.handle_timeout(feed.at(5000)).expect("the sound is there");
    let [video, audio] = unconfigured(&feed);
    assert!(video.contains("H.264") && video.contains("sequence header") && audio.is_empty(), "{video}");
    assert_eq!(feed.assembly.deadline(), None);
    feed.assembly.handle_timeout(feed.at(60_000)).expect("the sound is there");
    feed.video_config(12);
    assert_eq!(unconfigured(&feed), ["", ""]);
}

#[test]
fn r13_sound_without_a_configuration_is_told_and_the_pictures_go_on() {
    let mut feed = Feed::new();
    feed.assembly.announce((true, false));
    feed.video_config(12);
    feed.video(0, 0, true);
    feed.audio(0, 0);
    feed.audio(5000, 5000);
    let [video, audio] = unconfigured(&feed);
    assert!(audio.contains("AAC") && audio.contains("AudioSpecificConfig") && video.is_empty(), "{audio}");
    assert_eq!(feed.outputs(), ["E video", "video! 0"]);
}

#[test]
fn r13_a_sender_of_nothing_that_is_configured_is_refused_after_30_seconds() {
    let mut feed = Feed::new();
    feed.video(0, 0, true);
    feed.audio(10, 10);
    feed.assembly.handle_timeout(feed.at(10_000)).expect("patient");
    assert!(unconfigured(&feed).iter().all(|told| !told.is_empty()));
    assert_eq!(feed.assembly.deadline(), Some(feed.at(30_000)));
    feed.assembly.handle_timeout(feed.at(29_999)).expect("patient");
    let error = feed.assembly.handle_timeout(feed.at(30_000)).expect_err("enough");
    assert!(error.to_string().contains("30 s: H.264 comes without"), "{error}");
    assert_eq!(feed.outputs(), [""; 0]);
}

#[test]
fn r13_configurations_that_change_without_end_are_refused() {
    let mut feed = Feed::new();
    let change = |feed: &mut Feed, n: u32| {
        let data = if n.is_multiple_of(2) { &b"\x2f\xff\xfb\x90\x64"[..] } else { b"\x2f\xff\xfb\x94\x64" };
        feed.assembly.audio(feed.start, n, &Bytes::from_static(data))
    };
    let accepted = (0..1_000).take_while(|n| change(&mut feed, *n).is_ok()).count();
    assert_eq!(accepted, 60);
    assert_eq!(change(&mut feed, 60), Err(AssemblyError::Breaks));
}
