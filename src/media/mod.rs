//! The nouns of live media, and their parsing. Pure: no I/O, no clock, no runtime.

pub mod aac;
mod absence;
pub mod av1;
mod b_frames;
mod bits;
mod codec;
mod epoch;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod h264;
pub mod h265;
mod ice_server;
mod ladder;
pub mod mp3;
mod name;
pub mod opus;
mod packet;
mod reorder;
mod secret;
mod time;
mod timeline;
mod track;
mod transcoding;
mod unwrap;
pub mod vp8;
pub mod vp9;

pub use absence::Absence;
pub use b_frames::{BFRAMES_OFF, BFrames, BFramesRefused, OpusFrames, PacketVideo, Shortage, Transcoding};
pub use codec::{Codec, MediaKind};
pub use epoch::Epoch;
pub use frame::Frame;
pub use ice_server::{IceServer, InvalidIceServer};
pub use ladder::{InvalidLadder, Ladder, Ladders};
pub use name::{InvalidStreamName, StreamName};
pub use packet::{Packet, PacketBatch};
pub use reorder::{ReorderBuffer, Reordered};
pub use secret::Secret;
pub use time::MediaTime;
pub use timeline::{RtpClock, SenderReport, Timeline, TimestampJump};
pub use track::{AudioTrack, Tracks, VideoTrack};
pub use transcoding::{Carriage, NoCarriage, Output, VideoTranscoding};
pub use unwrap::{Sequence, SequenceUnwrapper, TimestampUnwrapper};
