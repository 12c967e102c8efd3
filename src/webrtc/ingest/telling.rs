//! What a publisher is told: keyframes and packets that are wanted, reports, and how its packets arrive.
//!
//! Writes into the session's buffer and sends it; when it is due is the session's business.

use super::feedback::{self, MAX_NACKS, OUR_SSRC};
use super::offer::Offer;
use super::session::IngestSession;
use super::twcc::Arrivals;
use crate::media::MediaKind;
use crate::webrtc::socket::Outlet;
use std::time::{Duration, Instant};
use tracing::debug;

/// Between two messages to the publisher's congestion control, while packets come.
pub(super) const ARRIVALS_INTERVAL: Duration = Duration::from_millis(80);
/// From one asking for keyframes to the next, whatever encodings they are for.
const KEYFRAME_INTERVAL: Duration = Duration::from_secs(1);
/// An encoding from which nothing came for so long is not asked for keyframes: it begins with one.
const SILENT_ENCODING: Duration = Duration::from_secs(2);
/// Feedback that is longer goes out at once, before the rest.
const MAX_FEEDBACK: usize = 900;

impl IngestSession {
    /// Asks for the keyframes that are wanted, at most once a second. What is wished for within that second waits
    /// for its end, unless a keyframe comes before; all encodings are then asked in one compound packet.
    pub(super) fn ask_for_keyframes(&mut self, now: Instant) {
        if self.asked_for_keyframes.is_some_and(|asked| now < asked + KEYFRAME_INTERVAL) {
            return;
        }
        let wishes = *self.keyframe_requests.borrow();
        let Some(publication) = &self.publication else { return };
        for receiver in self.receivers.iter_mut().filter(|receiver| receiver.kind == MediaKind::Video) {
            // Whoever wishes for a layer before the layers are in order wishes for all of them.
            let layer = publication.layer(receiver.encoding).unwrap_or_default();
            let silent = now.saturating_duration_since(receiver.heard) > SILENT_ENCODING;
            if silent || !receiver.keyframe.take(&wishes, layer) {
                continue;
            }
            self.asked_for_keyframes = Some(now);
            debug!(stream = %self.name, encoding = receiver.encoding, "Asking the publisher for a keyframe.");
            begin(&mut self.outgoing, &self.offer);
            let mut formats = self.offer.sections.iter().flat_map(|section| &section.formats);
            if formats.any(|format| format.knows("ccm fir")) {
                feedback::full_intra_request(receiver.ssrc, receiver.keyframe.requests, &mut self.outgoing);
            } else {
                feedback::picture_loss(receiver.ssrc, &mut self.outgoing);
            }
        }
    }

    pub(super) fn ask_for_losses(&mut self, now: Instant, outlet: &mut dyn Outlet) {
        for index in 0..self.receivers.len() {
            let receiver = &mut self.receivers[index];
            let (ssrc, missing) = (receiver.ssrc, receiver.missing(now));
            for missing in missing.chunks(MAX_NACKS) {
                begin(&mut self.outgoing, &self.offer);
                feedback::nack(ssrc, missing, &mut self.outgoing);
                if self.outgoing.len() > MAX_FEEDBACK {
                    self.send(outlet);
                }
            }
        }
    }

    /// Writes a receiver report about all sources of media, and what the way from the publisher holds.
    pub(super) fn report(&mut self, now: Instant) {
        let count = self.sources.media().count().min(31);
        // A compound begins with a report; one that `begin` has put there stays, it has no blocks.
        feedback::receiver_report(count, &mut self.outgoing);
        let (mut expected, mut lost) = (0, 0);
        for source in self.sources.media().take(31) {
            let interval = source.write_report(now, &mut self.outgoing);
            (expected, lost) = (expected + interval.expected, lost + interval.lost);
        }
        if let Some(share) = (256 * lost).checked_div(expected) {
            self.traffic.set_lost(u8::try_from(share).unwrap_or(u8::MAX));
        }
        feedback::description(&mut self.outgoing);
        let estimate = self.bandwidth.as_mut().and_then(|all| all.estimate(now, expected, lost));
        if let Some(bits) = estimate {
            let sources: Vec<u32> = self.sources.media().map(|source| source.ssrc).collect();
            feedback::estimate(bits, &sources, &mut self.outgoing);
        }
    }

    pub(super) fn tell_arrivals(&mut self, now: Instant, outlet: &mut dyn Outlet) {
        if now < self.next_arrivals {
            return;
        }
        let media = self.receivers.first().map_or(0, |receiver| receiver.ssrc);
        while self.arrivals.as_ref().is_some_and(Arrivals::has_news) {
            self.next_arrivals = now + ARRIVALS_INTERVAL;
            begin(&mut self.outgoing, &self.offer);
            let written =
                self.arrivals.as_mut().is_some_and(|all| all.write(OUR_SSRC, media, &mut self.outgoing));
            // Padding may stand in the last packet of a compound only (RFC 3550 §6.4.1).
            self.send(outlet);
            if !written {
                return;
            }
        }
    }

    /// Seals and sends what has been written.
    pub(super) fn send(&mut self, outlet: &mut dyn Outlet) {
        if self.outgoing.is_empty() {
            return;
        }
        if let Some((keys, path)) = self.transport.sending()
            && let Ok(sealed) = keys.rtcp_out.encrypt_rtcp(&self.outgoing)
        {
            outlet.send(path, &sealed, None);
        }
        self.outgoing.clear();
    }
}

/// Begins a compound packet, where the publisher does not take reduced-size ones (RFC 5506).
fn begin(outgoing: &mut Vec<u8>, offer: &Offer) {
    if outgoing.is_empty() && !offer.sections.iter().all(|section| section.reduced_size) {
        feedback::receiver_report(0, outgoing);
        feedback::description(outgoing);
    }
}
