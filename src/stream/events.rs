//! What outputs are started and stopped by.

use super::Stream;
use crate::media::Epoch;
use std::sync::Arc;

/// Something that happened to a stream. A receiver that lags should look at [`Hub::list`](super::Hub::list).
#[derive(Clone, Debug)]
pub enum StreamEvent {
    /// A stream came to life: its first publisher is there.
    Started(Arc<Stream>),
    /// No media have come from the publisher for 2 s. It keeps the name until another wants it.
    Stalled(Arc<Stream>),
    /// The publisher that had stalled sends again.
    Resumed(Arc<Stream>),
    /// The publisher has told what it sends, and it is not what it, or the one before, sent last: other codecs,
    /// another resolution, another form of sound.
    TracksChanged(Arc<Stream>, Arc<Epoch>),
    /// The publisher left; the stream stays for its grace period, waiting for one to return.
    PublisherLeft(Arc<Stream>),
    /// A publisher returned within the grace period, or took the name over from one that had stalled.
    PublisherReturned(Arc<Stream>),
    /// The stream is over: its subscribers have been told (`recv` gave `None`).
    Ended(Arc<Stream>),
}
