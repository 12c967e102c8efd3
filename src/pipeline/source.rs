//! Where media enter a pipeline.
//!
//! Either an `appsrc`, which has a queue and a thread, or the first element itself: then a pad of ours
//! pushes into it, and the element works in the caller's thread until it queues by itself.

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;

/// The entrance of one pipeline.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// The element named `in` of a description.
    App(gst_app::AppSrc),
    /// Linked to the one sink pad that a description leaves open. It belongs to no element.
    Pad(gst::Pad),
}

impl Source {
    /// Finds the entrance of a pipeline; `None` if it has none.
    pub(super) fn of(pipeline: &gst::Pipeline) -> Option<Self> {
        if let Some(element) = pipeline.by_name("in") {
            return element.downcast().ok().map(Self::App);
        }
        let open = pipeline.find_unlinked_pad(gst::PadDirection::Sink)?;
        let pad = gst::Pad::builder(gst::PadDirection::Src).name("in").build();
        pad.link(&open).ok()?;
        Some(Self::Pad(pad))
    }

    /// Opens the entrance. Call it before the first push, when the pipeline runs.
    pub(super) fn open(&self) -> Result<(), gst::glib::BoolError> {
        match self {
            Self::App(_) => Ok(()),
            Self::Pad(pad) => pad.set_active(true),
        }
    }

    /// Takes no more, once the pipeline has stopped.
    pub(super) fn close(&self) {
        if let Self::Pad(pad) = self {
            // A pad without an element has nothing that could object.
            let _ = pad.set_active(false);
        }
    }

    /// States what comes. Call it once, before the first push; a pad must be open.
    pub(super) fn set_caps(&self, caps: Option<&gst::Caps>) {
        match (self, caps) {
            (Self::App(source), caps) => source.set_caps(caps),
            (Self::Pad(pad), Some(caps)) => {
                let segment = gst::FormattedSegment::<gst::ClockTime>::new();
                // Refused only by an element that can't take them: then it reports, or refuses the first push.
                pad.push_event(gst::event::StreamStart::new("in"));
                pad.push_event(gst::event::Caps::new(caps));
                pad.push_event(gst::event::Segment::new(&segment));
            }
            (Self::Pad(_), None) => {}
        }
    }

    /// Bytes that wait in front of the pipeline. A pad keeps none.
    pub(super) fn current_level_bytes(&self) -> u64 {
        match self {
            Self::App(source) => source.current_level_bytes(),
            Self::Pad(_) => 0,
        }
    }

    /// Hands a buffer over.
    pub(super) fn push(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        match self {
            Self::App(source) => source.push_buffer(buffer),
            Self::Pad(pad) => pad.push(buffer),
        }
    }

    /// Sends a serialised event after what was pushed so far. Refused only when the pipeline is stopped;
    /// the next push tells.
    pub(super) fn send(&self, event: gst::Event) {
        let _ = match self {
            Self::App(source) => source.send_event(event),
            Self::Pad(pad) => pad.push_event(event),
        };
    }

    /// Says that no more comes. Refused only when the pipeline is stopped already.
    pub(super) fn end_of_stream(&self) {
        match self {
            Self::App(source) => drop(source.end_of_stream()),
            Self::Pad(pad) => drop(pad.push_event(gst::event::Eos::new())),
        }
    }

    /// The pad at which events against the stream arrive.
    pub(super) fn pad(&self) -> Option<gst::Pad> {
        match self {
            Self::App(source) => source.static_pad("src"),
            Self::Pad(pad) => Some(pad.clone()),
        }
    }
}
