//! What can go wrong with a pipeline.

use crate::media::{Codec, MediaTime};

/// Why a pipeline could not be made, or why it stopped. Another pipeline may be started at any time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PipelineError {
    /// GStreamer itself does not start.
    #[error("GStreamer does not start: {0}")]
    Initialisation(String),
    /// A description names an element that is not installed.
    #[error("{file} needs the GStreamer element {element}, which is not installed{}", hint(.package))]
    MissingElement {
        /// The description's file.
        file: String,
        /// The element, or several of which one would do.
        element: String,
        /// The Debian package that holds it, if known.
        package: Option<&'static str>,
    },
    /// A file in the folder of overriding descriptions can't be read.
    #[error("{file} can't be read: {why}")]
    Unreadable {
        /// The file.
        file: String,
        /// The system's word.
        why: String,
    },
    /// A description has a placeholder nobody fills, or GStreamer does not understand it.
    #[error("{file} is no valid pipeline: {why}")]
    Description {
        /// The description's file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no pipeline for this codec here.
    #[error("{codec} can't be {purpose}")]
    Unsupported {
        /// The codec.
        codec: Codec,
        /// What was to be done with it.
        purpose: &'static str,
    },
    /// An element reported an error while the pipeline ran.
    #[error("pipeline {file} failed in {element}: {why}")]
    Failed {
        /// The description's file.
        file: &'static str,
        /// The element that reported it.
        element: String,
        /// Its words.
        why: String,
    },
    /// More media waits in front of the pipeline than it may: it is stuck or too slow.
    #[error("pipeline {file} does not keep up with its input")]
    Overloaded {
        /// The description's file.
        file: &'static str,
    },
    /// The reader of the pipeline's output is too slow, so output was lost.
    #[error("the output of pipeline {file} is not read fast enough")]
    OutputLost {
        /// The description's file.
        file: &'static str,
    },
    /// The pipeline takes no more input: it ended or was stopped.
    #[error("pipeline {file} takes no more media")]
    Ended {
        /// The description's file.
        file: &'static str,
    },
    /// A time stamp so far before the stream's origin that containers can't express it.
    #[error("a time of {} s is too far before the stream's origin", .0.as_secs_f64())]
    BeforeOrigin(MediaTime),
}

fn hint(package: &Option<&'static str>) -> String {
    package.map(|package| format!(" (Debian package {package})")).unwrap_or_default()
}
