//! The hub: which streams are live, and how media gets from one publisher to many subscribers.
//!
//! Owns the registry, the lanes of each stream, the cache of the latest group of pictures, and the
//! statistics. Knows no protocol. Promises that a publisher never waits for a reader: a write costs one
//! short lock and one wake-up, and a reader that lags loses the oldest media.

mod alarm;
mod compatible;
mod events;
mod hold;
mod hub;
mod lane;
mod layer;
mod life;
#[cfg(test)]
mod life_tests;
mod publisher;
mod rendition;
mod statistics;
#[allow(clippy::module_inception)] // the room is named after its main noun
mod stream;
mod watcher;

pub use compatible::{CompatibleFrame, CompatiblePackets};
pub use events::StreamEvent;
pub use hold::{HoldWriter, LastGroup};
pub use hub::{Hub, PublishError};
pub use lane::{Media, Subscriber};
pub use layer::{KeyframeWishes, LayerInfo, MAX_LAYERS};
pub use life::{Dismissal, Graces, StreamState};
pub use publisher::{BridgeWriter, Publisher, Source, SourceKind};
pub use rendition::RenditionFrame;
pub use statistics::{ReaderGuard, ReaderKind, Statistics, StatisticsSnapshot, Totals};
pub use stream::{LaneKind, LaneWatch, Stream};
pub use watcher::Watcher;
