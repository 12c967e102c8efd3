//! The program's use of the machine's processors, and whether it is more than the budget. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The use is that of the last so many seconds.
const WINDOW: Duration = Duration::from_secs(5);
/// A budget that was spent is free again when the use has been well below it for so long …
const CALM: Duration = Duration::from_secs(10);
/// … which means by this share of all processors, or by half of a small budget.
const MARGIN: f64 = 0.1;

/// Follows the processor time that was used.
#[derive(Debug)]
pub(super) struct Meter {
    /// Both as a share of all processors.
    budget: f64,
    margin: f64,
    processors: f64,
    /// When, and what had been used by then; the first is as old as the window, or the first of all.
    samples: VecDeque<(Instant, Duration)>,
    spent: bool,
    /// Since when the use is well below the budget.
    calm_since: Option<Instant>,
}

impl Meter {
    /// `percent` of the time of so many `processors` may be used.
    pub(super) fn new(percent: u8, processors: usize) -> Self {
        let budget = f64::from(percent) / 100.0;
        Self {
            budget,
            margin: MARGIN.min(budget / 2.0),
            processors: processors.max(1) as f64,
            samples: VecDeque::new(),
            spent: false,
            calm_since: None,
        }
    }

    /// Up to `now` all threads together have `used` so much.
    pub(super) fn sample(&mut self, now: Instant, used: Duration) {
        self.samples.push_back((now, used));
        let old = |at: &Instant| now.saturating_duration_since(*at) >= WINDOW;
        while self.samples.get(1).is_some_and(|(at, _)| old(at)) {
            self.samples.pop_front();
        }
        let Some((since, before)) = self.samples.front().filter(|(at, _)| old(at)) else {
            return; // too short a time to judge by
        };
        let time = now.saturating_duration_since(*since).as_secs_f64() * self.processors;
        let share = used.saturating_sub(*before).as_secs_f64() / time;
        if share > self.budget {
            self.spent = true;
        }
        if share + self.margin >= self.budget {
            self.calm_since = None;
            return;
        }
        let since = *self.calm_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= CALM {
            self.spent = false;
        }
    }

    /// Whether the budget is spent.
    pub(super) fn is_spent(&self) -> bool {
        self.spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A meter that is looked at each second.
    struct Machine {
        meter: Meter,
        start: Instant,
        seconds: u64,
        used: Duration,
    }

    impl Machine {
        fn new(percent: u8, processors: usize) -> Self {
            let meter = Meter::new(percent, processors);
            Self { meter, start: Instant::now(), seconds: 0, used: Duration::ZERO }
        }

        /// Uses so many processors for some seconds; at which of them the budget is spent.
        fn run(&mut self, seconds: u64, processors: f64) -> Vec<u64> {
            let mut spent = Vec::new();
            for second in 1..=seconds {
                self.seconds += 1;
                self.used += Duration::from_secs_f64(processors);
                self.meter.sample(self.start + Duration::from_secs(self.seconds), self.used);
                spent.extend(self.meter.is_spent().then_some(second));
            }
            spent
        }
    }

    #[test]
    fn the_share_is_of_all_processors() {
        assert_eq!(Machine::new(80, 4).run(30, 3.1), [0u64; 0], "78 %");
        assert_eq!(
            Machine::new(80, 4).run(30, 3.3).first(),
            Some(&6),
            "83 %, once there is a window to look at"
        );
        assert_eq!(Machine::new(100, 2).run(30, 2.0), [0u64; 0], "all of the machine");
    }

    #[test]
    fn a_moment_of_work_does_not_spend_it() {
        let mut machine = Machine::new(80, 2);
        machine.run(20, 0.4);
        assert_eq!(machine.run(2, 2.0), [0u64; 0]);
        assert_eq!(machine.run(20, 0.4), [0u64; 0]);
    }

    #[test]
    fn a_spent_budget_is_free_after_a_while_well_below_it() {
        let mut machine = Machine::new(80, 2);
        assert!(machine.run(20, 1.9).contains(&20));
        assert_eq!(machine.run(60, 1.5).len(), 60, "75 % is below it, but not well");
        // The window is all calm within 5 s, and 10 s later the budget is free.
        let spent = machine.run(30, 1.0);
        assert!((10..=15).contains(&spent.len()), "{spent:?}");
    }

    #[test]
    fn it_does_not_flap() {
        let mut machine = Machine::new(80, 2);
        machine.run(20, 1.9);
        // Eight seconds of calm and four of work, again and again.
        for _ in 0..10 {
            assert_eq!(machine.run(8, 0.5).len(), 8);
            assert_eq!(machine.run(4, 1.9).len(), 4);
        }
        machine.run(30, 0.5);
        assert_eq!(machine.run(60, 1.5), [0u64; 0], "free, it stays so up to the budget");
    }

    #[test]
    fn a_small_budget_can_be_free_again() {
        let mut machine = Machine::new(1, 2);
        assert!(machine.run(10, 0.1).contains(&10));
        assert!(!machine.run(30, 0.005).contains(&30));
    }
}
