//! GStreamer: the only room that names it.
//!
//! Owns the pipeline descriptions (`pipelines/*.launch`), the bridges that fill the lanes a publisher does
//! not fill, the muxer that makes CMAF parts, and the demo stream. Pipelines are small, one a track, and
//! disposable: an error ends the epoch, and a new pipeline starts. Callbacks only try to send; stopping
//! runs off the asynchronous runtime; no clock of GStreamer's decides a media time.

mod assembler;
mod beat;
mod bridge;
#[cfg(test)]
mod bridge_tests;
mod budget;
#[cfg(test)]
mod budget_tests;
mod caps;
mod clock;
#[cfg(test)]
mod codec_tests;
mod cut;
mod decode;
mod demo;
mod description;
#[cfg(test)]
mod drift_tests;
mod encoded;
mod encoder;
mod error;
mod feed;
#[cfg(test)]
mod fixture;
mod graph;
mod hold;
mod ladder;
mod layer;
#[cfg(test)]
mod live;
mod muxer;
mod pace;
mod packetise;
mod part;
mod rtp;
mod simulcast;
mod sound;
#[cfg(test)]
mod sound_tests;
mod source;
mod stamps;
mod tally;
#[cfg(test)]
mod tests;
mod to_compatible;
mod to_frames;
mod to_packets;
mod to_renditions;
mod units;
mod vp9;

pub use bridge::run_bridges;
pub use budget::CpuBudget;
pub use demo::run_demo;
pub use description::{EncoderSettings, Pipelines};
pub use error::PipelineError;
pub use hold::{HoldPicture, Slate, SlateError, run_holds};
pub use muxer::{MuxSettings, MuxTrack, Muxer};
pub use pace::Pace;
pub use part::{MuxOutput, MuxedPart};
pub use sound::AacSound;
pub use tally::PipelineCount;
