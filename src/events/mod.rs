//! The journal: what happens in the gateway, in one order, for whoever wants to be told.
//!
//! Owns the events' names and data, a bounded ring of the latest, and the task that writes them. Readers hold
//! a place in the ring and nothing else: one that is too slow for it is told so, and nobody waits for it.
//! Nothing is written per packet, per frame or per viewer.

mod event;
mod feed;
mod filter;
mod journal;
mod viewers;

pub use event::{Event, EventId, EventType, InvalidEventId};
pub use feed::Feed;
pub use filter::{EventFilter, InvalidFilter};
pub use journal::{Journal, News, Reader};
pub use viewers::Thresholds;
