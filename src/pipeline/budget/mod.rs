//! Whether there is processor time to encode for WHEP viewers: the one place where that is decided.
//!
//! The use of the whole program is sampled once a second. What encodes already goes on whatever is used, for its
//! own use must not switch it off; an encoder that fell behind is not tried again for a while. Measures no
//! other program's use.

mod meter;

use super::EncoderSettings;
use crate::media::{Shortage, StreamName};
use meter::Meter;
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

const SAMPLING: Duration = Duration::from_secs(1);
/// Before an encoder that fell behind is tried again.
const RECOVERY: Duration = Duration::from_secs(300);

/// The processor time that encoding for WHEP viewers may use, together with all else that the program does.
#[derive(Debug)]
pub struct CpuBudget(Mutex<State>);

#[derive(Debug)]
struct State {
    meter: Meter,
    /// Streams that something is known of.
    streams: HashMap<StreamName, Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// What the bridge that runs goes by.
    decided: Option<Option<Shortage>>,
    /// The encoder fell behind; until then it is not tried again.
    behind_until: Option<Instant>,
}

impl Default for CpuBudget {
    fn default() -> Self {
        Self::new(EncoderSettings::default().cpu_budget)
    }
}

impl CpuBudget {
    /// So much of the machine's processor time. It counts as unused until [`Self::run`] has looked at it.
    pub fn new(percent: u8) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Mutex::new(State { meter: Meter::new(percent, processors), streams: HashMap::new() }))
    }

    /// Samples the program's use until `cancel`.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let mut ticks = tokio::time::interval(SAMPLING);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if let Some(used) = processor_time() {
                self.sample(Instant::now(), used);
            }
        }
    }

    /// Why nothing is encoded for viewers of `stream` at `now`, if it is so: as its bridge has decided, or would.
    pub fn shortage(&self, stream: &StreamName, now: Instant) -> Option<Shortage> {
        let state = self.0.lock();
        let decided = state.streams.get(stream).and_then(|known| known.decided);
        decided.unwrap_or_else(|| state.shortage(stream, now))
    }

    /// Whether more is used than should be, so that nothing new is encoded for viewers.
    pub fn is_spent(&self) -> bool {
        self.0.lock().meter.is_spent()
    }

    /// The decision of the bridge of `stream`, which is about to run.
    pub(super) fn decision<'a>(&'a self, stream: &'a StreamName) -> Decision<'a> {
        Decision { budget: self, stream }
    }

    /// Up to `now` the program has `used` so much.
    pub(super) fn sample(&self, now: Instant, used: Duration) {
        self.0.lock().meter.sample(now, used);
    }
}

/// What all threads together have used so far.
fn processor_time() -> Option<Duration> {
    clock_gettime(ClockId::ProcessCPUTime).try_into().ok()
}

impl State {
    fn shortage(&self, stream: &StreamName, now: Instant) -> Option<Shortage> {
        let behind_until = self.streams.get(stream).and_then(|known| known.behind_until);
        if behind_until.is_some_and(|until| now < until) {
            return Some(Shortage::Behind);
        }
        self.meter.is_spent().then_some(Shortage::Budget)
    }
}

/// What a running bridge goes by, and others see. Dropping it ends that.
pub(super) struct Decision<'a> {
    budget: &'a CpuBudget,
    stream: &'a StreamName,
}

impl Decision<'_> {
    /// Decides: why nothing can be encoded from `now` on, if it is so. What `encodes` already goes on.
    pub(super) fn take(&self, now: Instant, encodes: bool) -> Option<Shortage> {
        let mut state = self.budget.0.lock();
        let shortage = if encodes { None } else { state.shortage(self.stream, now) };
        state.streams.entry(self.stream.clone()).or_default().decided = Some(shortage);
        shortage
    }

    /// The encoder did not keep up.
    pub(super) fn fell_behind(&self, now: Instant) {
        let mut state = self.budget.0.lock();
        state.streams.entry(self.stream.clone()).or_default().behind_until = Some(now + RECOVERY);
    }
}

impl Drop for Decision<'_> {
    fn drop(&mut self) {
        let mut state = self.budget.0.lock();
        if let Some(known) = state.streams.get_mut(self.stream) {
            known.decided = None;
        }
        let now = Instant::now();
        state.streams.retain(|_, known| {
            known.decided.is_some() || known.behind_until.is_some_and(|until| now < until)
        });
    }
}

#[cfg(test)]
impl CpuBudget {
    /// Far too much is used from `now` on; when that is known.
    pub(crate) fn spend(&self, now: Instant) -> Instant {
        let end = now + Duration::from_secs(60);
        self.sample(now, Duration::ZERO);
        self.sample(end, Duration::from_secs(1_000_000));
        end
    }

    /// Nothing more is used after [`Self::spend`], which gave `spent`.
    pub(super) fn relieve(&self, spent: Instant) {
        for seconds in 1..=30 {
            self.sample(spent + Duration::from_secs(seconds), Duration::from_secs(1_000_000));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> StreamName {
        "show".parse().expect("a name")
    }

    #[test]
    fn what_encodes_goes_on_and_others_see_what_is_decided() {
        let (budget, name, now) = (CpuBudget::default(), name(), Instant::now());
        let decision = budget.decision(&name);
        assert_eq!(decision.take(now, false), None);
        let spent = budget.spend(now);
        assert_eq!(budget.shortage(&name, spent), None, "this stream's video is being encoded");
        assert_eq!(budget.shortage(&"other".parse().expect("a name"), spent), Some(Shortage::Budget));
        assert_eq!(decision.take(spent, true), None, "on to another epoch");
        assert_eq!(decision.take(spent, false), Some(Shortage::Budget), "something else was sent meanwhile");
        budget.relieve(spent);
        assert_eq!(budget.shortage(&name, spent), Some(Shortage::Budget), "until the bridge looks again");
        assert_eq!(decision.take(spent, false), None);
    }

    #[test]
    fn an_encoder_that_fell_behind_is_tried_again_later() {
        let (budget, name, now) = (CpuBudget::default(), name(), Instant::now());
        let decision = budget.decision(&name);
        assert_eq!(decision.take(now, false), None);
        decision.fell_behind(now);
        drop(decision);
        let decision = budget.decision(&name);
        assert_eq!(decision.take(now + RECOVERY / 2, false), Some(Shortage::Behind));
        assert_eq!(budget.shortage(&name, now), Some(Shortage::Behind));
        assert_eq!(decision.take(now + RECOVERY, false), None);
    }

    #[test]
    fn of_streams_that_are_over_nothing_is_kept() {
        let (budget, name, now) = (CpuBudget::default(), name(), Instant::now());
        let spent = budget.spend(now);
        let decision = budget.decision(&name);
        assert_eq!(decision.take(spent, false), Some(Shortage::Budget));
        drop(decision);
        assert!(budget.0.lock().streams.is_empty());
        assert_eq!(budget.shortage(&name, spent), Some(Shortage::Budget), "as it would be decided");
    }

    #[test]
    fn work_takes_processor_time() {
        let before = processor_time().expect("a clock for that");
        let sum = (0..1_000_000u64).fold(0, |sum, number| std::hint::black_box(sum ^ number));
        assert_eq!(sum, 0);
        assert!(processor_time().expect("a clock for that") > before);
    }
}
