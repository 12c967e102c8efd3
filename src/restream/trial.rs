//! A look whether a target would work: all steps up to the server's consent, without media.

use super::state::TargetFailure;
use crate::rtmp::{Dialer, Push, PushError, PushUrl, Step};
use serde::Serialize;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use utoipa::ToSchema;

/// Many servers consent to every key, and close the connection right after it if they don't mean it.
const SECOND_THOUGHTS: Duration = Duration::from_millis(500);

/// How a test of a target went.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TargetTest)]
pub struct Trial {
    /// Every step that was taken succeeded.
    pub ok: bool,
    /// The steps in their order, up to the first that failed.
    pub steps: Vec<TrialStep>,
    /// Why the last one failed; `null` if none did.
    pub error: Option<TargetFailure>,
}

/// One step of a test.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TargetTestStep)]
pub struct TrialStep {
    /// Which.
    pub step: Step,
    /// `passed`, `failed`, or `skipped`: somebody publishes there, whom it would disturb.
    pub outcome: TrialOutcome,
    /// How long it took.
    pub milliseconds: f64,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TargetTestOutcome)]
#[allow(missing_docs)] // at TrialStep
pub enum TrialOutcome {
    Passed,
    Failed,
    Skipped,
}

/// Tries `url`; `occupied`: a target of ours sends there now, so nothing is published. Takes half a minute
/// at most.
pub(super) async fn run(url: &PushUrl, dialer: &Dialer, occupied: bool) -> Trial {
    let (mut steps, mut last) = (Vec::new(), Instant::now());
    let mut passed = |step| {
        let (now, before) = (Instant::now(), last);
        last = now;
        let milliseconds = in_milliseconds(now - before);
        steps.push(TrialStep { step, outcome: TrialOutcome::Passed, milliseconds });
    };
    let result = if occupied {
        Push::greet(url, dialer, &mut passed).await
    } else {
        let push = Push::connect_in_steps(url, dialer, &mut passed).await;
        match push {
            Ok(mut push) => {
                let objection = async {
                    loop {
                        if let Err(error) = push.attend().await {
                            break error;
                        }
                    }
                };
                match timeout(SECOND_THOUGHTS, objection).await {
                    Ok(error) => {
                        steps.retain(|done| done.step != Step::Publish);
                        Err(error)
                    }
                    Err(_) => {
                        push.close().await;
                        Ok(())
                    }
                }
            }
            Err(error) => Err(error),
        }
    };
    ended(steps, last, result, occupied, url)
}

fn ended(
    mut steps: Vec<TrialStep>,
    last: Instant,
    result: Result<(), PushError>,
    occupied: bool,
    url: &PushUrl,
) -> Trial {
    if let Err(error) = result {
        let step = url.steps().find(|step| steps.iter().all(|done| done.step != *step));
        let milliseconds = in_milliseconds(last.elapsed());
        steps.extend(step.map(|step| TrialStep { step, outcome: TrialOutcome::Failed, milliseconds }));
        let failure = TargetFailure::now(&error);
        let failure = if error.is_closed_after_key() { failure.suspecting_key() } else { failure };
        return Trial { ok: false, steps, error: Some(failure) };
    }
    if occupied {
        let (step, outcome) = (Step::Publish, TrialOutcome::Skipped);
        steps.push(TrialStep { step, outcome, milliseconds: 0.0 });
    }
    Trial { ok: true, steps, error: None }
}

fn in_milliseconds(duration: std::time::Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
