//! How many bits a second the renditions of a stream take: remembered by name, until the next playlist of the same.
//!
//! The first multivariant playlist is written when there is one part, and many players read no other. What the same
//! name took before, in the same form, is the representative period that RFC 8216bis §4.4.6.2 asks for then.

use super::bandwidth::Bandwidth;
use super::names::RenditionName;
use crate::media::{Codec, StreamName};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};

/// Names remembered at most; with more, all are forgotten.
const CAPACITY: usize = 4096;

/// Codec and size of pictures, or codec, sample rate and channels of sound: what takes another form is no measure.
pub(super) type Form = (Codec, Option<(u32, u32)>);

/// The renditions of one stream.
type OfStream = BTreeMap<RenditionName, (Form, Bandwidth)>;

/// What was measured last.
#[derive(Debug, Default)]
pub(super) struct Rates {
    known: Mutex<HashMap<StreamName, OfStream>>,
}

impl Rates {
    /// Remembers what was measured of a rendition, if it says something.
    pub fn remember(&self, stream: &StreamName, rendition: RenditionName, form: Form, measured: Bandwidth) {
        if !measured.is_settled() {
            return;
        }
        let mut known = self.known.lock();
        if known.len() >= CAPACITY && !known.contains_key(stream) {
            known.clear();
        }
        known.entry(stream.clone()).or_default().insert(rendition, (form, measured));
    }

    /// What to expect of a rendition that begins.
    pub fn expected(&self, stream: &StreamName, rendition: RenditionName, form: Form) -> Bandwidth {
        let known = self.known.lock();
        let before = known.get(stream).and_then(|renditions| renditions.get(&rendition));
        before.filter(|before| before.0 == form).map(|before| before.1.expected()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hls::segment::{Segment, Stretch};
    use crate::media::MediaTime;
    use bytes::Bytes;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    const TARGET: Duration = Duration::from_secs(4);
    const FORM: Form = (Codec::H264, Some((640, 360)));

    /// Segments of so many bytes and milliseconds.
    fn measured(mut bandwidth: Bandwidth, segments: &[(usize, u64)]) -> Bandwidth {
        let stretch = Stretch { discontinuity: 1, init: Bytes::new(), wall_origin: SystemTime::UNIX_EPOCH };
        let (stretch, mut listed) = (Arc::new(stretch), Vec::new());
        for (bytes, millis) in segments {
            let mut segment = Segment::new(1, stretch.clone(), MediaTime::ZERO);
            segment.push(1, Duration::from_millis(*millis), true, Bytes::from(vec![0; *bytes]));
            listed.push(Arc::new(segment));
            bandwidth.measure(listed.iter(), TARGET);
        }
        bandwidth
    }

    #[test]
    fn l18_the_first_bandwidth_is_what_was_measured_before_until_there_is_enough() {
        let (rates, name) = (Rates::default(), "show".parse::<StreamName>().expect("a name"));
        let expected = |form| rates.expected(&name, RenditionName::VIDEO, form);
        // Of what was never seen, the one part there is.
        let first = measured(expected(FORM), &[(25_000, 250)]);
        assert_eq!((first.peak, first.average), (800_000.0, 800_000.0));
        rates.remember(&name, RenditionName::VIDEO, FORM, first);
        assert_eq!(expected(FORM), Bandwidth::default(), "one part is no measure");

        let whole = measured(first, &[(25_000, 250), (50_000, 2000), (60_000, 2000)]);
        assert_eq!(whole.peak, 8.0 * 75_000.0 / 2.25, "of runs of 2 s to 6 s");
        rates.remember(&name, RenditionName::VIDEO, FORM, whole);
        let again = measured(expected(FORM), &[(25_000, 250)]);
        assert_eq!((again.peak, again.average), (whole.peak, whole.average));
        // From the first run that is long enough on, it is measured anew, and grows.
        let less = measured(again, &[(25_000, 250), (25_000, 2000)]);
        assert_eq!(less.peak, 8.0 * 50_000.0 / 2.25);
        let more = measured(less, &[(75_000, 2000)]);
        assert_eq!(more.peak, 300_000.0);
        assert_eq!(expected((Codec::H264, Some((1280, 720)))), Bandwidth::default(), "another size");
    }

    #[test]
    fn no_more_names_are_remembered_than_there_may_be() {
        let (rates, some) = (Rates::default(), measured(Bandwidth::default(), &[(50_000, 2000)]));
        for number in 0..2 * CAPACITY {
            let name = format!("s{number}").parse().expect("a name");
            rates.remember(&name, RenditionName::VIDEO, FORM, some);
        }
        assert!(rates.known.lock().len() <= CAPACITY);
    }
}
