//! The rules: what each says, and the function that finds where it is broken.
//!
//! A rule is pure: it reads the evidence, moments included. Ids of letters L, D and H are lines of the
//! origin checklist that goes with RFC 8216bis; P and M are about playlists and media that can't be read
//! or contradict each other.

mod arrival;
mod changes;
mod constancy;
mod continuity;
mod control;
mod dates;
mod directives;
mod durations;
#[cfg(test)]
mod fixtures;
mod headers;
mod hints;
mod independence;
mod joined;
mod multivariant;
mod reports;
mod speed;
mod syntax;
mod version;
mod window;

use super::evidence::{Evidence, History};
use super::report::Broken;

/// One rule.
#[derive(Clone, Copy)]
pub(super) struct Rule {
    /// Its id.
    pub id: &'static str,
    /// What should be.
    pub says: &'static str,
    pub check: fn(&Evidence) -> Vec<Broken>,
}

const fn rule(id: &'static str, says: &'static str, check: fn(&Evidence) -> Vec<Broken>) -> Rule {
    Rule { id, says, check }
}

/// All rules, in the order of the report.
pub(super) const RULES: &[Rule] = &[
    rule(
        "P01",
        "a playlist can be read: the first line, the tags that must be there, numbers and URIs",
        syntax::readable,
    ),
    rule(
        "L01",
        "a segment's duration, rounded, is at most EXT-X-TARGETDURATION; a part's, PART-TARGET",
        durations::l01,
    ),
    rule("L02", "EXT-X-TARGETDURATION and PART-TARGET never change", constancy::l02),
    rule(
        "L03",
        "between versions, segments and parts are only appended, and removed from the front",
        changes::l03,
    ),
    rule("L04", "no version is half of one", syntax::l04),
    rule("L05", "EXT-X-MEDIA-SEQUENCE rises by one for each segment removed, and never falls", changes::l05),
    rule(
        "L06",
        "EXT-X-DISCONTINUITY-SEQUENCE rises when a discontinuity leaves, and never falls",
        changes::l06,
    ),
    rule(
        "L07",
        "a change of codec, resolution, parameter sets or timeline begins with EXT-X-DISCONTINUITY and EXT-X-MAP",
        continuity::l07,
    ),
    rule("L08", "EXT-X-PROGRAM-DATE-TIME at the first segment and after each discontinuity", dates::l08),
    rule("L09", "the window holds at least six segments, and three target durations", window::l09),
    rule("L10", "no EXT-X-PLAYLIST-TYPE in a live playlist", window::l10),
    rule(
        "L11",
        "a new part at most one part target after the last; a segment within one and a half target durations",
        arrival::l11,
    ),
    rule("L12", "EXT-X-ENDLIST when the stream is over", window::l12),
    rule(
        "L13",
        "a removed segment stays for its availability duration; EXT-X-PART only in the last three target durations",
        window::l13,
    ),
    rule("L14", "what is listed comes at line speed", speed::l14),
    rule("L15", "playlists are gzipped", headers::l15),
    rule(
        "L16",
        "EXT-X-VERSION fits what is used; with EXT-X-INDEPENDENT-SEGMENTS, each segment begins with a sync sample",
        version::l16,
    ),
    rule("L17", "media is cached for long and immutable, playlists and errors shortly", headers::l17),
    rule(
        "L18",
        "a variant's CODECS, RESOLUTION, FRAME-RATE and bandwidths are those of its media; renditions agree",
        multivariant::l18,
    ),
    rule("D01", "_HLS_msn blocks until the playlist holds that segment", directives::d01),
    rule("D02", "_HLS_part blocks until the playlist holds that part", directives::d02),
    rule("D03", "a part beyond the last of a segment is the first of the next", directives::d03),
    rule("D04", "an old _HLS_msn gives the whole playlist at once", directives::d04),
    rule("D05", "after EXT-X-ENDLIST directives are ignored", directives::d05),
    rule("D06", "what is too far ahead is 400 at once", directives::d06),
    rule("D07", "malformed directives are 400; unknown ones are ignored", directives::d07),
    rule("D08", "a request that was held for three target durations is 503", directives::d08),
    rule(
        "D09",
        "_HLS_skip gives a delta update that leaves out only what is beyond the skip boundary",
        directives::d09,
    ),
    rule("D10", "EXT-X-RENDITION-REPORT for each sibling, and it is true", reports::d10),
    rule("H01", "a hinted part can be asked for at once and is what comes", hints::h01),
    rule("H02", "one hint of a type; a name that was never listed is 404", hints::h02),
    rule(
        "H03",
        "hold-backs of three part targets and three target durations, blocking reload, a skip boundary of six",
        control::h03,
    ),
    rule("H04", "parts come on the media clock, not in bursts", arrival::h04),
    rule("M01", "the parts of a segment, put together, are the segment", joined::m01),
    rule("M02", "durations are those of the media, within a frame", durations::m02),
    rule("M03", "date-times agree with media time, and between renditions", dates::m03),
    rule("M04", "parts that claim INDEPENDENT=YES begin with a sync sample", independence::m04),
];

/// What `check` finds in each history.
fn each(evidence: &Evidence, check: impl Fn(&History) -> Vec<Broken>) -> Vec<Broken> {
    evidence.histories.iter().flat_map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_its_id_and_finds_nothing_in_nothing() {
        let mut ids: Vec<&str> = RULES.iter().map(|rule| rule.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), RULES.len());
        for rule in RULES {
            assert_eq!((rule.check)(&Evidence::default()), [], "{} {}", rule.id, rule.says);
        }
    }
}
