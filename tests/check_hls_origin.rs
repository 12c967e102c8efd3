//! `check-hls` against an origin that keeps every line, and against ones that break one each.
//!
//! The origin is in this process: segments of a second in five parts, on the clock, of bytes that are no
//! media. All checks run at the same time.

#[path = "check_hls_origin/origin.rs"]
mod origin;

use futures_util::StreamExt;
use origin::{Fault, Origin};
use std::collections::BTreeSet;
use std::time::Duration;
use tidegate::check_hls::{Check, CheckError, Report};

/// Each fault, and the rules that may be named for it; the first must be.
const FAULTS: &[(Fault, &[&str])] = &[
    (Fault::SegmentsAreNotAwaited, &["D01", "D03"]),
    (Fault::PartsAreNotAwaited, &["D02", "D01", "D03"]),
    (Fault::PartsEndWithTheirSegment, &["D03"]),
    (Fault::OldNumbersAreGone, &["D04", "D07", "D09"]),
    (Fault::DirectivesCountAfterTheEnd, &["D05", "D09"]),
    (Fault::FarNumbersAreAwaited, &["D06"]),
    (Fault::MalformedNumbersAreIgnored, &["D07"]),
    (Fault::HeldForEver, &["D08"]),
    (Fault::NothingIsSkipped, &["D09"]),
    (Fault::TooMuchIsSkipped, &["D09"]),
    (Fault::NoReports, &["D10"]),
    (Fault::OldReports, &["D10"]),
    (Fault::HintsAreUnknown, &["H01"]),
    (Fault::UnknownNamesAreFound, &["H02"]),
    (Fault::LittleHoldBack, &["H03"]),
    (Fault::PartsInBursts, &["H04", "L11", "D01", "D02", "D03", "D10"]),
    (Fault::TargetChanges, &["L02", "H03", "L18"]),
    (Fault::SegmentsAreRenamed, &["L03", "L05"]),
    (Fault::RemovedIsGone, &["L13"]),
    (Fault::ListedIsMissing, &["L14"]),
    (Fault::SlowMedia, &["L14"]),
    (Fault::NotPacked, &["L15"]),
    (Fault::MediaIsNotCached, &["L17"]),
    (Fault::SegmentsAreNotTheirParts, &["M01"]),
    (Fault::PlaylistVanishes, &["L12"]),
];

/// Checks at a time: more would be late on two cores.
const AT_ONCE: usize = 9;

async fn check(origin: &Origin, seconds: u64) -> Report {
    let check = Check {
        url: origin.url(),
        duration: Duration::from_secs(seconds),
        // The machine may be busy with all the others.
        tolerance: Duration::from_millis(700),
    };
    check.run().await.unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_named_and_nothing_else() {
    let fine = async {
        let report = check(&Origin::start(Fault::None).await, 8).await;
        assert!(report.is_clean(), "an origin without fault:\n{report}");
        for seen in &report.seen {
            assert!(seen.versions >= 20 && seen.files >= 40 && seen.probes >= 15, "{seen:?}");
        }
    };
    let faults = FAULTS.iter().map(|(fault, rules)| async move {
        let origin = Origin::start(*fault).await;
        let report = check(&origin, 9).await;
        let named: BTreeSet<&str> = report.broken.iter().map(|broken| broken.rule).collect();
        let expected = named.contains(rules[0]) && named.iter().all(|rule| rules.contains(rule));
        (!expected).then(|| format!("{fault:?}: {rules:?} are expected\n{report}\n"))
    });
    fine.await;
    let found = futures_util::stream::iter(faults).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
    let wrong: Vec<String> = found.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_is_no_stream_is_an_error() {
    let origin = Origin::start(Fault::None).await;
    let check = |path: &str| Check {
        url: origin.url().join(path).expect("a URL"),
        duration: Duration::from_secs(1),
        tolerance: Duration::ZERO,
    };
    let gone = check("nothing.m3u8").run().await;
    assert!(matches!(&gone, Err(CheckError::Unreachable { why, .. }) if why.contains("404")), "{gone:?}");
    let media = check("seg1000.m4s").run().await;
    assert!(media.is_err(), "{media:?}");
}
