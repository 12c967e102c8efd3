//! H03: the values of `EXT-X-SERVER-CONTROL`.

use super::each;
use crate::check_hls::evidence::Evidence;
use crate::check_hls::report::Broken;

/// Durations are written with some decimals.
const ROUNDING: f64 = 1e-4;

pub(super) fn h03(evidence: &Evidence) -> Vec<Broken> {
    each(evidence, |history| {
        let mut broken = Vec::new();
        for (index, version) in history.versions.iter().enumerate() {
            let playlist = &version.playlist;
            let (Some(control), Some(target)) = (&playlist.control, playlist.target) else {
                if playlist.part_target.is_some() {
                    let what = "EXT-X-PART-INF without EXT-X-SERVER-CONTROL";
                    broken.push(Broken::new("H03", &history.url, what).seen(index, None));
                }
                continue;
            };
            let target = target as f64;
            let mut found = |what: String| {
                broken.push(Broken::new("H03", &history.url, what).seen(index, version.quote(control.line)));
            };
            let mut at_least = |name: &str, told: Option<f64>, least: f64| {
                if let Some(told) = told.filter(|told| *told < least - ROUNDING) {
                    found(format!("{name} is {told}; at least {least} are due"));
                }
            };
            at_least("HOLD-BACK", control.hold_back, 3.0 * target);
            at_least("CAN-SKIP-UNTIL", control.can_skip_until, 6.0 * target);
            if let Some(part) = playlist.part_target {
                at_least("PART-HOLD-BACK", control.part_hold_back, 3.0 * part);
                if control.part_hold_back.is_none() {
                    found("no PART-HOLD-BACK, although there are parts".to_owned());
                }
                if !control.can_block_reload {
                    found("no CAN-BLOCK-RELOAD=YES, although there are parts".to_owned());
                }
            }
        }
        broken
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::evidence::samples::{breaks, evidence, history, live};

    #[test]
    fn h03_the_values_suffice() {
        let right = "CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=24.0,PART-HOLD-BACK=1.5,HOLD-BACK=12.0";
        let with = |list: &str| {
            let text = format!("#EXT-X-SERVER-CONTROL:{list}\n#EXT-X-PART-INF:PART-TARGET=0.5\n");
            evidence(vec![history(&[&live(1, &text)])])
        };
        assert!(!breaks(h03, &with(right)));
        for (right_value, wrong) in
            [("=YES", "=NO"), ("24.0", "23.0"), ("1.5", "1.4"), ("12.0", "11.0"), (",PART-HOLD-BACK=1.5", "")]
        {
            assert!(breaks(h03, &with(&right.replace(right_value, wrong))), "{wrong}");
        }
        let none = evidence(vec![history(&[&live(1, "#EXT-X-PART-INF:PART-TARGET=0.5\n")])]);
        assert!(breaks(h03, &none));
        assert!(!breaks(h03, &evidence(vec![history(&[&live(1, "")])])));
    }
}
