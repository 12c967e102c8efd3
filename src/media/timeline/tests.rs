//! Placement by arrival and by reports; drift; wrong reports.

use super::*;
use MediaKind::{Audio, Video};

fn timeline() -> (Timeline, Instant) {
    let start = Instant::now();
    (Timeline::new(start, SystemTime::UNIX_EPOCH), start)
}

fn ms(millis: i64) -> MediaTime {
    MediaTime::from_millis(millis)
}

fn after(start: Instant, millis: u64) -> Instant {
    start + Duration::from_millis(millis)
}

/// A report of the sender's wall clock at so many milliseconds.
fn report(millis: u64, timestamp: u32) -> SenderReport {
    SenderReport { ntp: (0xE000_0000 << 32) + (millis << 32) / 1000, timestamp }
}

fn near(actual: MediaTime, expected: MediaTime) -> bool {
    (actual.as_nanos() - expected.as_nanos()).abs() < 1_000
}

#[test]
fn before_reports_tracks_lie_where_they_arrived() {
    let (mut timeline, start) = timeline();
    assert_eq!(timeline.place(Video, 90_000, 5_000, start), Ok(ms(0)));
    assert_eq!(timeline.place(Audio, 48_000, u32::MAX, after(start, 30)), Ok(ms(30)));
    // Arrival no longer matters, and a wrap is no obstacle.
    assert_eq!(timeline.place(Audio, 48_000, 959, after(start, 90)), Ok(ms(50)));
    assert_eq!(timeline.place(Video, 90_000, 5_000 + 3_600, after(start, 90)), Ok(ms(40)));
    assert_eq!(timeline.place(Video, 90_000, 5_000 + 1_800, after(start, 91)), Ok(ms(20)));
}

#[test]
fn encodings_of_one_picture_agree_after_their_reports() {
    let (mut timeline, start) = timeline();
    let (low, high) = (RtpClock::Video(2), RtpClock::Video(0));
    timeline.place(low, 90_000, 5_000, start).expect("first");
    timeline.place(Audio, 48_000, 0, after(start, 10)).expect("first");
    // The same picture takes longer to encode; its clock begins anywhere.
    timeline.place(high, 90_000, u32::MAX, after(start, 40)).expect("first");
    timeline.sender_report(high, report(2_000, 179_999));
    timeline.sender_report(low, report(2_000, 5_000 + 180_000));
    assert!(!timeline.is_aligned(), "no word of the audio yet");
    let picture = |timeline: &mut Timeline, number: u32| {
        let at = after(start, 2_040 + u64::from(number) * 20);
        let low = timeline.place(low, 90_000, 185_000 + number * 1_800, at).expect("continues");
        let high = timeline.place(high, 90_000, 179_999 + number * 1_800, at).expect("continues");
        assert!(near(low, high), "{low:?} {high:?}");
        low
    };
    assert_eq!(picture(&mut timeline, 0), ms(2_000), "what came first never moves");
    timeline.sender_report(Audio, report(2_000, 96_480));
    assert!(timeline.is_aligned());
    let audio = timeline.place(Audio, 48_000, 96_480, after(start, 2_050)).expect("continues");
    assert!(near(audio, ms(2_000)), "{audio:?}");
    // An encoding that starts anew is placed by arrival, until its next report.
    timeline.restart(high);
    timeline.place(high, 90_000, 7, after(start, 2_090)).expect("first");
    timeline.sender_report(high, report(2_050, 7));
    let high = timeline.place(high, 90_000, 7, after(start, 2_090)).expect("continues");
    assert!(near(high, ms(2_050)), "{high:?}");
    assert!(timeline.is_aligned(), "the others stay");
}

#[test]
fn reports_of_both_tracks_move_audio_once_and_video_never() {
    let (mut timeline, start) = timeline();
    timeline.place(Video, 90_000, 0, start).expect("first");
    timeline.place(Audio, 48_000, 0, after(start, 80)).expect("first"); // captured with the first picture
    timeline.sender_report(Audio, report(1_000, 48_000));
    assert!(!timeline.is_aligned());
    assert_eq!(timeline.place(Audio, 48_000, 48_000, after(start, 1_080)), Ok(ms(1_080)));
    timeline.sender_report(Video, report(1_500, 135_000));
    assert!(timeline.is_aligned());
    let audio = timeline.place(Audio, 48_000, 48_960, after(start, 1_100)).expect("continues");
    assert!(near(audio, ms(1_020)), "{audio:?}");
    assert_eq!(timeline.place(Video, 90_000, 90_000, after(start, 1_000)), Ok(ms(1_000)));
}

#[test]
fn reports_before_the_first_packet_count() {
    let (mut timeline, start) = timeline();
    timeline.sender_report(Video, report(0, 0));
    timeline.sender_report(Audio, report(0, 0));
    timeline.place(Video, 90_000, 0, start).expect("first");
    timeline.place(Audio, 48_000, 960, after(start, 120)).expect("first");
    let audio = timeline.place(Audio, 48_000, 1_920, after(start, 140)).expect("continues");
    assert!(near(audio, ms(40)), "{audio:?}");
}

#[test]
fn drift_is_corrected_beyond_15_ms_in_one_step() {
    let (mut timeline, start) = timeline();
    timeline.place(Video, 90_000, 0, start).expect("first");
    timeline.place(Audio, 48_000, 0, start).expect("first");
    let place = |timeline: &mut Timeline, second: u64| {
        // The audio clock runs 0.1 % fast.
        let audio = timeline.place(Audio, 48_000, (second * 48_048) as u32, after(start, second * 1_000));
        timeline
            .place(Video, 90_000, (second * 90_000) as u32, after(start, second * 1_000))
            .expect("continues");
        timeline.sender_report(Audio, report(second * 1_000, (second * 48_048) as u32));
        timeline.sender_report(Video, report(second * 1_000, (second * 90_000) as u32));
        audio.expect("continues").as_nanos() - second as i64 * 1_000_000_000
    };
    let errors: Vec<i64> = (0..120).map(|second| place(&mut timeline, second)).collect();
    assert!(errors.iter().all(|error| *error < 18_000_000), "{errors:?}");
    let steps = errors.windows(2).filter(|pair| pair[1] < pair[0] - 10_000_000).count();
    assert!((6..=9).contains(&steps), "{steps}");
}

#[test]
fn absurd_reports_are_ignored_and_counted() {
    let (mut timeline, start) = timeline();
    timeline.place(Video, 90_000, 0, start).expect("first");
    timeline.place(Audio, 48_000, 0, start).expect("first");
    timeline.sender_report(Video, report(0, 0));
    timeline.sender_report(Audio, report(11_000, 0));
    assert_eq!((timeline.rejected_reports(), timeline.is_aligned()), (1, false));
    assert_eq!(timeline.place(Audio, 48_000, 960, after(start, 20)), Ok(ms(20)));
    timeline.sender_report(Audio, SenderReport { ntp: 0, timestamp: 0 });
    assert_eq!(timeline.rejected_reports(), 1);
}

#[test]
fn a_step_of_the_senders_wall_clock_moves_nothing() {
    let (mut timeline, start) = timeline();
    timeline.place(Video, 90_000, 0, start).expect("first");
    timeline.place(Audio, 48_000, 0, start).expect("first");
    timeline.sender_report(Video, report(0, 0));
    timeline.sender_report(Audio, report(0, 0));
    // The clock is set forward by 2 s between the reports.
    timeline.sender_report(Audio, report(3_000, 48_000));
    timeline.sender_report(Video, report(3_000, 90_000));
    assert_eq!(timeline.place(Audio, 48_000, 48_000, after(start, 1_000)), Ok(ms(1_000)));
}

#[test]
fn a_sender_that_starts_anew_is_noticed_and_placed_by_arrival() {
    let (mut timeline, start) = timeline();
    timeline.place(Video, 90_000, 0, start).expect("first");
    let jump = timeline.place(Video, 90_000, 1_000_000_000, after(start, 40));
    assert!(matches!(jump, Err(TimestampJump { nanos }) if nanos > 0), "{jump:?}");
    assert_eq!(timeline.place(Video, 90_000, 3_600, after(start, 40)), Ok(ms(40)));
    timeline.restart(Video);
    assert_eq!(timeline.place(Video, 90_000, 1_000_000_000, after(start, 80)), Ok(ms(80)));
    // A pause of the sender is none, if its clock ran on.
    assert!(timeline.place(Video, 90_000, 1_005_400_000, after(start, 60_080)).is_ok());
}

/// A sender whose sound card is `ppm` faster than its camera, and whose reports tell both against one wall clock.
/// How far its sound was from its pictures, in milliseconds at the most, after the first half minute of an hour.
fn apart_in_an_hour(ppm: i64, reports_of_video: impl Fn(u64) -> bool) -> i64 {
    const REPORTS: u64 = 5;
    let (mut timeline, start) = timeline();
    let ticks = |rate: i64, millis: i64, ppm: i64| (rate * millis * (1_000_000 + ppm) / 1_000_000_000) as u32;
    let (audio, video) = (|millis| ticks(48_000, millis, ppm), |millis| ticks(90_000, millis, 0));
    let mut apart = 0;
    for tenth in 0..36_000_u64 {
        let millis = tenth * 100;
        // The network's delay changes, and sound takes another way.
        let arrival = |delay: u64| after(start, millis + delay + tenth * 7 % 40);
        let picture = timeline.place(Video, 90_000, video(millis as i64), arrival(0)).expect("continues");
        let sound = timeline.place(Audio, 48_000, audio(millis as i64), arrival(120)).expect("continues");
        if millis > 30_000 {
            apart = apart.max((sound.as_nanos() - picture.as_nanos()).abs() / 1_000_000);
        }
        if millis % (REPORTS * 1_000) == 0 {
            timeline.sender_report(Audio, report(millis, audio(millis as i64)));
        }
        if millis % (REPORTS * 1_000) == 2_000 && reports_of_video(millis) {
            timeline.sender_report(Video, report(millis, video(millis as i64)));
        }
    }
    apart
}

#[test]
fn rel_18_clocks_100_ppm_apart_keep_sound_and_picture_together_for_an_hour() {
    for ppm in [100, -100] {
        let apart = apart_in_an_hour(ppm, |_| true);
        println!("{ppm} ppm: {apart} ms apart at the most");
        assert!(apart <= 20, "{ppm} ppm: {apart} ms");
    }
    let lost = apart_in_an_hour(100, |millis| millis % 60_000 < 5_000);
    assert!(lost <= 30, "one video report a minute: {lost} ms");
    let silent = apart_in_an_hour(100, |millis| millis < 10_000);
    assert!(
        silent <= 20,
        "audio's reports alone tell how its clock runs against the wall clock: {silent} ms"
    );
}
