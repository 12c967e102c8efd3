//! The frame rate of a track whose sender states none, measured. Pure.

use crate::media::MediaTime;

/// Measures pictures a second.
#[derive(Debug, Default)]
pub(super) struct PictureClock {
    first: Option<MediaTime>,
    last: MediaTime,
    count: u32,
}

impl PictureClock {
    /// Rates that encoders use; a measured rate within 2 % of one is that one.
    const COMMON: [f64; 12] = [
        10.0,
        12.0,
        15.0,
        20.0,
        24_000.0 / 1001.0,
        24.0,
        25.0,
        30_000.0 / 1001.0,
        30.0,
        50.0,
        60_000.0 / 1001.0,
        60.0,
    ];

    /// Notes a picture by its decoding time.
    pub fn count(&mut self, dts: MediaTime) {
        self.first.get_or_insert(dts);
        self.last = dts;
        self.count += 1;
    }

    /// `None` before there are five pictures.
    pub fn rate(&self) -> Option<f64> {
        let seconds = self.last.since(self.first?).as_secs_f64();
        if self.count < 5 || seconds <= 0.0 {
            return None;
        }
        let measured = f64::from(self.count - 1) / seconds;
        let distance = |rate: f64| (measured - rate).abs();
        // 30 and 29.97 are a thousandth apart: times in milliseconds tell them apart after some seconds.
        let told_apart = |rate: &f64| seconds > 4.0 || rate.fract() == 0.0;
        let known = Self::COMMON.into_iter().filter(told_apart);
        let nearest = known.min_by(|one, other| distance(*one).total_cmp(&distance(*other)));
        nearest.filter(|rate| distance(*rate) < 0.02 * rate).or(Some(measured))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_rounded_to_milliseconds_give_the_rate_of_the_encoder() {
        for (rate, pictures) in [
            (24.0, 40),
            (25.0, 10),
            (30.0, 9),
            (30.0, 10),
            (60.0, 20),
            (60.0, 1200),
            (30_000.0 / 1001.0, 900),
        ] {
            let mut clock = PictureClock::default();
            for number in 0..pictures {
                clock.count(MediaTime::from_millis((f64::from(number) * 1000.0 / rate).round() as i64));
            }
            let measured = clock.rate().expect("enough pictures");
            assert!((measured - rate).abs() < 0.0001 * rate, "{measured} for {rate}");
        }
    }

    #[test]
    fn a_few_pictures_tell_nothing() {
        let mut clock = PictureClock::default();
        assert_eq!(clock.rate(), None);
        clock.count(MediaTime::ZERO);
        assert_eq!(clock.rate(), None);
    }
}
