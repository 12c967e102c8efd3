//! How a viewer's picture is told to wait for its sound, from the first second on.
//!
//! A receiver holds sound back for longer than pictures: against jitter, for the sound card, and because
//! encoders deliver sound later. A browser notices from sender reports and moves the picture by some ten
//! milliseconds a second; until then both are apart by a tenth of a second and more. So the pictures after
//! the first one carry the least delay to be shown with (the header extension `playout-delay`), and nothing
//! is delayed here.

use super::extensions::ELEMENT;
use crate::media::MediaTime;
use std::time::{Duration, Instant};

/// The extension's name: <https://webrtc.googlesource.com/src/+/main/docs/native-code/rtp-hdrext/playout-delay>.
pub(super) const URI: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
/// Packets that carry the hint: losing some does no harm.
const PACKETS: u64 = 32;
/// How much longer a browser holds sound back than pictures, when both arrive at the same time and steadily.
const SOUND_BUFFER: Duration = Duration::from_millis(50);
/// Sound whose packets take times that differ by no more is steady. A browser holds it back for longer by what is beyond.
const STEADY: Duration = Duration::from_millis(30);
/// Where much is lost, pictures wait for the repairs of two more rounds of requests; browsers ask again each
/// 100 ms.
const REPAIR: Duration = Duration::from_millis(150);
/// No picture is asked to wait longer.
const LONGEST: Duration = Duration::from_millis(500);
/// A change that is worth telling.
const WORTH: Duration = Duration::from_millis(25);
/// The least delays of the last one to two spans count.
const SPAN: Duration = Duration::from_secs(1);

/// The hint of one viewer's video track.
#[derive(Debug)]
pub(super) struct PlayoutHint {
    id: u8,
    told: Option<Duration>,
    wanted: Option<Duration>,
    /// The sound's lag that counts, in nanoseconds.
    lag: i64,
    /// What comes on top of it.
    repair: Duration,
    /// The first picture is shown at once: its packets have this timestamp.
    first: Option<u32>,
    /// The sequences whose packets carry the hint.
    range: std::ops::Range<u64>,
}

impl PlayoutHint {
    /// A hint under the negotiated identifier, 1 to 14.
    pub(super) fn new(id: u8) -> Self {
        Self { id, told: None, wanted: None, lag: 0, repair: Duration::ZERO, first: None, range: 0..0 }
    }

    /// The negotiated identifier.
    pub(super) fn id(&self) -> u8 {
        self.id
    }

    /// The picture dated `first` begins, and sound is `lag` nanoseconds later than pictures, see
    /// [`Transit::sound_lag`].
    pub(super) fn begin(&mut self, first: u32, lag: i64) {
        if self.told.is_some() {
            return self.update(lag);
        }
        self.lag = lag;
        self.wanted = Some(self.wait());
        self.first = Some(first);
        self.range = 0..0;
    }

    /// Sound now comes `lag` nanoseconds later than pictures.
    pub(super) fn update(&mut self, lag: i64) {
        self.lag = lag;
        let wait = self.wait();
        // What waits to be told for the first time is told as it is by then.
        if self.told.map_or(self.wanted.is_some(), |told| told.abs_diff(wait) >= WORTH) {
            self.wanted = Some(wait);
        }
    }

    /// The viewer loses much: from now on its pictures wait for repairs.
    pub(super) fn allow_repairs(&mut self) {
        if self.repair.is_zero() {
            self.repair = REPAIR;
            self.update(self.lag);
        }
    }

    fn wait(&self) -> Duration {
        let nanos = SOUND_BUFFER.as_nanos() as i64 + self.lag;
        (Duration::from_nanos(nanos.max(0) as u64) + self.repair).min(LONGEST)
    }

    /// Whether the packet carries the hint.
    pub(super) fn covers(&mut self, sequence: u64, timestamp: u32) -> bool {
        if self.wanted.is_some() && self.first.is_none_or(|first| first != timestamp) {
            self.told = self.wanted.take();
            self.range = sequence..sequence + PACKETS;
        }
        self.range.contains(&sequence)
    }

    /// The element for the packets that [`Self::covers`] names (RFC 8285 §4.2): two numbers of 12 bits in
    /// steps of 10 ms, the least and the greatest delay.
    pub(super) fn element(&self) -> [u8; ELEMENT] {
        const GREATEST: u32 = 1000;
        let least = self.told.map_or(0, |told| (told.as_millis() / 10) as u32).min(GREATEST);
        let [_, high, middle, low] = (least << 12 | GREATEST).to_be_bytes();
        [self.id << 4 | 2, high, middle, low]
    }
}

/// The times that a track's packets lately took from their instant on the timeline to us, in nanoseconds from the
/// anchor.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Transit {
    present: Option<(Instant, Span)>,
    before: Option<Span>,
}

/// The least and the most of them.
#[derive(Clone, Copy, Debug)]
struct Span {
    least: i64,
    most: i64,
}

impl Transit {
    /// A packet of `pts` arrived at `now`. Times are counted from `anchor`, the same for all tracks.
    pub(super) fn note(&mut self, pts: MediaTime, anchor: Instant, now: Instant) {
        let nanos = now.saturating_duration_since(anchor).as_nanos() as i64 - pts.as_nanos();
        match &mut self.present {
            Some((since, span)) if now.saturating_duration_since(*since) < SPAN => {
                (span.least, span.most) = (nanos.min(span.least), nanos.max(span.most));
            }
            present => {
                self.before = present.map(|(_, span)| span);
                *present = Some((now, Span { least: nanos, most: nanos }));
            }
        }
    }

    /// The least.
    pub(super) fn least(&self) -> Option<i64> {
        let (_, present) = self.present?;
        Some(self.before.map_or(present.least, |before| before.least.min(present.least)))
    }

    /// How much longer than for pictures that took `least` a browser waits for this sound, besides what it always
    /// does. A single late packet doesn't count, nor does the first second, in which sound comes as it can.
    pub(super) fn sound_lag(&self, least: i64) -> Option<i64> {
        let (own, (_, present)) = (self.least()?, self.present?);
        let most = self.before.map(|before| before.most.min(present.most));
        let unsteady = most.map_or(0, |most| (most - own - STEADY.as_nanos() as i64).max(0));
        Some(own - least + unsteady)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The least delay that the packet carries, in milliseconds.
    fn told(hint: &mut PlayoutHint, sequence: u64, timestamp: u32) -> Option<u32> {
        let covered = hint.covers(sequence, timestamp);
        let [_, high, middle, low] = hint.element();
        covered.then(|| u32::from_be_bytes([0, high, middle, low]) >> 12).map(|steps| 10 * steps)
    }

    #[test]
    fn what_changes_before_the_hint_was_told_is_told_with_it() {
        let lag = Duration::from_millis(40).as_nanos() as i64;
        let mut hint = PlayoutHint::new(5);
        hint.allow_repairs();
        assert_eq!(told(&mut hint, 1, 100), None, "nothing has begun");
        hint.begin(100, lag);
        assert_eq!(told(&mut hint, 1, 100), None, "the first picture is shown at once");
        assert_eq!(told(&mut hint, 2, 200), Some(240));
        let mut hint = PlayoutHint::new(5);
        hint.begin(100, lag);
        hint.allow_repairs();
        hint.update(2 * lag);
        assert_eq!(told(&mut hint, 2, 200), Some(280));
        hint.update(2 * lag + 1_000_000);
        assert_eq!(told(&mut hint, 2 + PACKETS, 300), None, "not worth telling");
        hint.update(0);
        assert_eq!(told(&mut hint, 3 + PACKETS, 400), Some(200));
    }

    #[test]
    fn sound_that_comes_unsteadily_is_waited_for_longer() {
        let (anchor, ms) = (Instant::now(), Duration::from_millis);
        // Every 20 ms a packet that took so many milliseconds, for three seconds.
        let lag = |took: &dyn Fn(u64) -> u64| {
            let mut transit = Transit::default();
            for packet in 0..150 {
                let pts = MediaTime::from_millis(20 * packet as i64);
                transit.note(pts, anchor, anchor + ms(20 * packet + took(packet)));
            }
            transit.sound_lag(ms(100).as_nanos() as i64).expect("sound") / 1_000_000
        };
        assert_eq!(lag(&|_| 110), 10);
        assert_eq!(lag(&|packet| 110 + 30 * (packet % 2)), 10, "steady enough");
        assert_eq!(lag(&|packet| 110 + 65 * (packet % 2)), 45);
        assert_eq!(lag(&|packet| if packet == 75 { 400 } else { 110 }), 10, "one is late");
        assert_eq!(lag(&|packet| if packet < 20 { 400 } else { 110 }), 10, "at the start");
    }
}
