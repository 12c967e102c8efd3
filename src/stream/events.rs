//! What outputs are started and stopped by.

use super::Stream;
use std::sync::Arc;

/// Something that happened to a stream. A receiver that lags should look at [`Hub::list`](super::Hub::list).
#[derive(Clone, Debug)]
pub enum StreamEvent {
    /// A stream came to life: its first publisher is there.
    Started(Arc<Stream>),
    /// The publisher left; the stream stays for its grace period, waiting for one to return.
    PublisherLeft(Arc<Stream>),
    /// A publisher returned within the grace period.
    PublisherReturned(Arc<Stream>),
    /// The stream is over: its subscribers have been told (`recv` gave `None`).
    Ended(Arc<Stream>),
}
