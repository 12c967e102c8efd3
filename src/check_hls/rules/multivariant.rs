//! L18: the multivariant playlist tells the truth about what its variants hold, and renditions agree.

use super::each;
use crate::check_hls::evidence::{Answer, Evidence, History, Version};
use crate::check_hls::lines::quote;
use crate::check_hls::media::{Init, Kind, same_codec};
use crate::check_hls::multivariant::Variant;
use crate::check_hls::report::Broken;
use std::collections::BTreeMap;

/// What a bandwidth may be off.
const BANDWIDTH: f64 = 0.1;
/// What a frame rate may be off where pictures come regularly.
const FRAME_RATE: f64 = 0.01;
/// Fewer seconds of media tell nothing of rates.
const ENOUGH: f64 = 4.0;

pub(super) fn l18(evidence: &Evidence) -> Vec<Broken> {
    let Some((answer, playlist)) = evidence.multivariants.last() else { return Vec::new() };
    let mut broken = Vec::new();
    for variant in &playlist.variants {
        let of_url = |url: &url::Url| evidence.histories.iter().find(|history| history.url == *url);
        // A variant of sound alone is often the very playlist of its rendition: it is fetched once.
        let others = playlist.renditions_of(variant).filter_map(|rendition| rendition.url.as_ref());
        let renditions = others.filter(|url| **url != variant.url).filter_map(of_url);
        let all: Vec<&History> = of_url(&variant.url).into_iter().chain(renditions).collect();
        broken.extend(Judge { answer, variant, all }.found());
    }
    broken.extend(disagreements(evidence));
    broken
}

/// A variant and the playlists that are played with it, its own first.
struct Judge<'a> {
    answer: &'a Answer,
    variant: &'a Variant,
    all: Vec<&'a History>,
}

impl Judge<'_> {
    fn found(&self) -> Vec<Broken> {
        let mut found = Vec::new();
        found.extend(self.codecs());
        found.extend(self.resolution());
        found.extend(self.frame_rate());
        found.extend(self.bandwidths());
        let broken = found.into_iter().map(|what| {
            let mut broken = Broken::new("L18", &self.answer.url, what);
            broken.lines.push(quote(&self.answer.text, self.variant.line));
            broken
        });
        broken.collect()
    }

    /// The newest initialization section of each playlist.
    fn inits(&self) -> impl Iterator<Item = &Init> {
        self.all.iter().filter_map(|history| {
            history.segments().iter().rev().find_map(|(_, segment)| history.init(segment)).map(AsRef::as_ref)
        })
    }

    fn codecs(&self) -> Vec<String> {
        let Some(told) = &self.variant.codecs else { return vec!["no CODECS".to_owned()] };
        let told: Vec<&str> = told.split(',').map(str::trim).collect();
        let mut found = Vec::new();
        let tracks = self.inits().flat_map(|init| &init.tracks).filter(|track| track.kind != Kind::Other);
        let has: Vec<&str> = tracks.filter_map(|track| track.codec.as_deref()).collect();
        for codec in has.iter().filter(|codec| !told.iter().any(|told| same_codec(told, codec))) {
            found.push(format!("CODECS lacks {codec}, which the media has"));
        }
        let complete = self.inits().count() == self.all.len() && !has.is_empty();
        let of_media = |told: &str| has.iter().any(|codec| same_codec(told, codec));
        for told in told.iter().filter(|told| complete && !of_media(told)) {
            found.push(format!("CODECS has {told}, which the media has not"));
        }
        found
    }

    fn resolution(&self) -> Option<String> {
        let has = self.inits().find_map(|init| init.of_kind(Kind::Video))?.resolution?;
        let told = self.variant.resolution;
        (told != Some(has)).then(|| match told {
            Some((width, height)) => format!("RESOLUTION is {width}x{height}, the media {}x{}", has.0, has.1),
            None => format!("no RESOLUTION; the media has {}x{}", has.0, has.1),
        })
    }

    fn frame_rate(&self) -> Option<String> {
        let Pictures { rate, regular } = pictures(self.all.first()?)?;
        let Some(told) = self.variant.frame_rate else {
            return Some(format!("no FRAME-RATE; measured are {rate:.3}"));
        };
        // RFC 8216bis §4.4.6.2: the maximum, so a rate that varies may be lower on average.
        let off = if regular { (told - rate).abs() } else { rate - told };
        (off > FRAME_RATE * rate).then(|| format!("FRAME-RATE is {told}, measured are {rate:.3}"))
    }

    fn bandwidths(&self) -> Vec<String> {
        let Some(told) = self.variant.bandwidth else { return vec!["no BANDWIDTH".to_owned()] };
        let mut found = Vec::new();
        let rates: Option<Vec<Rates>> = self.all.iter().map(|history| rates(history)).collect();
        let Some(rates) = rates.filter(|rates| !rates.is_empty()) else { return found };
        // Peaks need not come together: the highest alone with the average of the others is sure.
        let average: f64 = rates.iter().map(|rates| rates.average).sum();
        let least = rates.iter().map(|rates| average - rates.average + rates.peak).fold(0.0, f64::max);
        let most: f64 = rates.iter().map(|rates| rates.peak).sum();
        let bandwidth = told as f64;
        if bandwidth < least * (1.0 - BANDWIDTH) {
            found.push(format!("BANDWIDTH is {told}, the measured peak {least:.0}"));
        }
        // A higher peak may have been before we came.
        let complete = rates.iter().all(|rates| rates.from_the_start);
        if complete && bandwidth > most * (1.0 + BANDWIDTH) {
            found.push(format!("BANDWIDTH is {told}, the measured peak only {most:.0}"));
        }
        match self.variant.average_bandwidth {
            None => found.push("no AVERAGE-BANDWIDTH".to_owned()),
            Some(told) if told > self.variant.bandwidth.unwrap_or(u64::MAX) => {
                found.push(format!("AVERAGE-BANDWIDTH {told} is more than BANDWIDTH"));
            }
            Some(_) => {}
        }
        found
    }
}

/// Pictures a second, and whether they come regularly.
struct Pictures {
    rate: f64,
    regular: bool,
}

fn pictures(history: &History) -> Option<Pictures> {
    let mut durations: BTreeMap<u64, u64> = BTreeMap::new();
    let mut seconds = 0.0;
    // Of the newest stretch: what was before may have been another picture.
    let segments = history.segments();
    let stretch = segments.last()?.1.discontinuity_number;
    for (_, segment) in segments.iter().filter(|(_, segment)| segment.discontinuity_number == stretch) {
        let Some(video) = history.init(segment).and_then(|init| init.of_kind(Kind::Video)) else { continue };
        let Some(media) = history.media(segment) else { continue };
        for sample in media.content.samples().iter().filter(|sample| sample.track == video.id) {
            let duration = f64::from(sample.duration) / f64::from(video.timescale);
            seconds += duration;
            *durations.entry((duration * 1e3).round() as u64).or_default() += 1;
        }
    }
    let count: u64 = durations.values().sum();
    // Nearly all last as long as the most common, give or take a millisecond of rounding.
    let common = *durations.iter().max_by_key(|(_, count)| **count)?.0;
    let alike: u64 =
        durations.iter().filter(|(duration, _)| duration.abs_diff(common) <= 1).map(|(_, count)| count).sum();
    let regular = alike * 100 >= count * 98;
    (seconds >= ENOUGH).then(|| Pictures { rate: count as f64 / seconds, regular })
}

/// Bits a second of one playlist.
struct Rates {
    peak: f64,
    average: f64,
    /// All its media since it began was seen.
    from_the_start: bool,
}

/// The peak segment bit rate (RFC 8216bis §4.4.6.2) and the average.
fn rates(history: &History) -> Option<Rates> {
    let target = history.target()?;
    let segments = history.segments();
    let sizes: Vec<(f64, f64)> = segments
        .iter()
        .filter_map(|(_, segment)| {
            Some((segment.duration, 8.0 * history.media(segment)?.digest.length as f64))
        })
        .collect();
    let (seconds, bits) =
        sizes.iter().fold((0.0, 0.0), |(seconds, bits), size| (seconds + size.0, bits + size.1));
    let mut peak: f64 = 0.0;
    for from in 0..sizes.len() {
        let (mut duration, mut sum) = (0.0, 0.0);
        for (seconds, bits) in &sizes[from..] {
            (duration, sum) = (duration + seconds, sum + bits);
            if duration > 1.5 * target {
                break;
            }
            if duration >= 0.5 * target {
                peak = peak.max(sum / duration);
            }
        }
    }
    // Nothing may be removed before there are three target durations (L09).
    let from_the_start = history.versions.first()?.playlist.duration() < 3.0 * target;
    (seconds >= ENOUGH && peak > 0.0).then(|| Rates { peak, average: bits / seconds, from_the_start })
}

/// What all playlists of a presentation must say alike.
fn disagreements(evidence: &Evidence) -> Vec<Broken> {
    let Some(first) = evidence.histories.first() else { return Vec::new() };
    let mut broken = each(evidence, |history| {
        let (Some(ours), Some(theirs)) = (history.versions.first(), first.versions.first()) else {
            return Vec::new();
        };
        let differs = |what: &str| {
            Broken::new("L18", &history.url, format!("{what} differs from that of {}", first.url))
                .seen(0, None)
        };
        let control = |version: &Version| {
            version
                .playlist
                .control
                .clone()
                .map(|control| crate::check_hls::playlist::Control { line: 0, ..control })
        };
        let mut found = Vec::new();
        if ours.playlist.target != theirs.playlist.target {
            found.push(differs("the target duration"));
        }
        if ours.playlist.part_target != theirs.playlist.part_target {
            found.push(differs("the part target"));
        }
        if control(ours) != control(theirs) {
            found.push(differs("EXT-X-SERVER-CONTROL"));
        }
        let dated = |version: &Version| version.playlist.all().any(|segment| segment.date.is_some());
        if dated(ours) != dated(theirs) {
            found.push(differs("the presence of EXT-X-PROGRAM-DATE-TIME"));
        }
        found
    });
    broken.extend(each(evidence, |history| discontinuities(history, first)));
    broken
}

/// The same moment must lie in the same stretch: moments by date-time, away from the borders.
fn discontinuities(history: &History, first: &History) -> Vec<Broken> {
    let stretches = |history: &History| {
        let mut found: BTreeMap<u64, (i64, i64)> = BTreeMap::new();
        for (_, segment) in history.segments() {
            let Some(date) = segment.date.map(|date| date.timestamp_millis()) else { continue };
            let end = date + (segment.duration * 1000.0) as i64;
            let stretch = found.entry(segment.discontinuity_number).or_insert((date, end));
            *stretch = (stretch.0.min(date), stretch.1.max(end));
        }
        found
    };
    let (ours, theirs) = (stretches(history), stretches(first));
    let mut broken = Vec::new();
    for (number, (begin, end)) in ours {
        let middle = (begin + end) / 2;
        let Some((other, _)) = theirs.iter().find(|(_, (begin, end))| (*begin..*end).contains(&middle))
        else {
            continue;
        };
        if *other != number && !theirs.contains_key(&number) {
            let what =
                format!("what has discontinuity sequence number {number} has {other} in {}", first.url);
            broken.push(Broken::new("L18", &history.url, what));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_hls::evidence::samples::{answer, breaks, evidence, history, live, url};
    use crate::check_hls::multivariant::Multivariant;
    use crate::check_hls::rules::fixtures::Media;

    const RIGHT: &str =
        "BANDWIDTH=10000,AVERAGE-BANDWIDTH=9000,CODECS=\"avc1.42C01F\",RESOLUTION=640x360,FRAME-RATE=25.000";

    /// Two segments of 4 s and 40 000 bits each, with what is told of them.
    fn told(attributes: &str) -> Evidence {
        let text = live(1, "#EXT-X-MAP:URI=\"i\"\n#EXTINF:4,\na\n#EXTINF:4,\nb\n");
        let media = Media::new(&text).init("i").samples("a", 0, 100).samples("b", 100, 100);
        let mut evidence = media.evidence();
        for file in evidence.histories[0].fetched.values_mut() {
            file.digest.length = 5000;
        }
        let text = format!("#EXTM3U\n#EXT-X-STREAM-INF:{attributes}\nv.m3u8\n");
        let playlist = Multivariant::parse(&text, &url("index.m3u8"));
        evidence.multivariants.push((answer("index.m3u8", 0.0, 200, &text), playlist));
        evidence
    }

    #[test]
    fn l18_a_variant_is_what_it_says() {
        assert_eq!(l18(&told(RIGHT)), []);
        for (right, wrong) in [
            ("avc1.42C01F", "avc1.64001F"),
            ("avc1.42C01F", "avc1.42C01F,mp4a.40.2"),
            ("640x360", "320x180"),
            ("25.000", "30.000"),
            ("BANDWIDTH=10000,", "BANDWIDTH=8000,"),
            ("BANDWIDTH=10000,", "BANDWIDTH=12000,"),
            ("BANDWIDTH=9000", "BANDWIDTH=90000"),
            (",FRAME-RATE=25.000", ""),
            (",RESOLUTION=640x360", ""),
            ("AVERAGE-BANDWIDTH=9000,", ""),
        ] {
            assert!(breaks(l18, &told(&RIGHT.replace(right, wrong))), "{wrong}");
        }
    }

    #[test]
    fn l18_renditions_agree() {
        let date = "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00Z\n";
        let text = live(1, &format!("#EXT-X-SERVER-CONTROL:HOLD-BACK=12\n{date}#EXTINF:4,\na\n"));
        let pair = |other: &str| {
            let mut evidence = evidence(vec![history(&[&text]), history(&[other])]);
            evidence.multivariants.push((answer("index.m3u8", 0.0, 200, ""), Multivariant::default()));
            evidence
        };
        assert!(!breaks(l18, &pair(&text)));
        assert!(breaks(l18, &pair(&text.replace("DURATION:4", "DURATION:5"))));
        assert!(breaks(l18, &pair(&text.replace("HOLD-BACK=12", "HOLD-BACK=13"))));
        assert!(breaks(l18, &pair(&text.replace(date, ""))));
        let numbered = text.replace("#EXTINF", "#EXT-X-DISCONTINUITY-SEQUENCE:3\n#EXTINF");
        assert!(breaks(l18, &pair(&numbered)));
    }
}
