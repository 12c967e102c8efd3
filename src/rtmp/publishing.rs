//! One publication: from audio and video messages to frames on the hub.

use super::assembly::{Assembly, AssemblyError, NoConfiguration, Output};
use super::chunk::{Message, kind};
use super::{amf, flv};
use crate::media::{Epoch, Frame, MediaKind};
use crate::stream::{Dismissal, Publisher};
use rml_rtmp::rml_amf0::Amf0Value;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// What a session publishes. Dropping it ends the source.
pub(super) struct Publishing {
    publisher: Publisher<Frame>,
    message_stream: u32,
    assembly: Assembly,
    epoch: Option<Arc<Epoch>>,
    /// The wall clock at the first message of media.
    wall_origin: Option<SystemTime>,
    /// As the publisher counted them when the epoch began.
    interruptions: u64,
    told: Told,
    /// What the publisher is to be told.
    warning: Option<String>,
}

/// What the log and the statistics know of a publisher's oddities.
#[derive(Debug, Default)]
struct Told {
    repaired: u64,
    left_out: (u32, u32),
    unconfigured: [Option<NoConfiguration>; 2],
    /// When, and of how many, the log spoke last.
    repairs_logged: Option<(Instant, u64)>,
}

/// Between two words of the log on the same oddity.
const LOG_EVERY: Duration = Duration::from_secs(10);

impl Publishing {
    /// Begins with a name that has just been taken.
    pub(super) fn new(now: Instant, publisher: Publisher<Frame>, message_stream: u32) -> Self {
        let interruptions = publisher.interruptions();
        publisher.stream().statistics().set_tracks_left_out(0);
        Self {
            publisher,
            message_stream,
            assembly: Assembly::new(now),
            epoch: None,
            wall_origin: None,
            interruptions,
            told: Told::default(),
            warning: None,
        }
    }

    /// The message stream on which `publish` came.
    pub(super) fn message_stream(&self) -> u32 {
        self.message_stream
    }

    /// Why the publisher must go, if it must.
    pub(super) fn dismissal(&self) -> Option<Dismissal> {
        self.publisher.dismissal()
    }

    /// Cancelled when the publisher must go.
    pub(super) fn kicked(&self) -> CancellationToken {
        self.publisher.kicked()
    }

    /// An audio or video message.
    pub(super) fn media(&mut self, now: Instant, message: &Message) -> Result<(), AssemblyError> {
        self.wall_origin.get_or_insert_with(SystemTime::now);
        if message.kind == kind::AUDIO {
            self.assembly.audio(now, message.timestamp, &message.data)?;
        } else {
            self.assembly.video(now, message.timestamp, &message.data)?;
        }
        self.hand_over();
        self.tell(now);
        Ok(())
    }

    /// A data message: `onMetaData`, perhaps behind `@setDataFrame`. Fails only on a bomb.
    pub(super) fn data(&mut self, message: &Message) -> Result<(), amf::AmfError> {
        let data = match &message.data[..] {
            [0, rest @ ..] if message.kind == kind::DATA_AMF3 => rest,
            data => data,
        };
        let values = match amf::parse(data) {
            Ok(values) => values,
            Err(error @ (amf::AmfError::TooDeep | amf::AmfError::TooMany)) => return Err(error),
            // A type that we don't know costs only what it would have told.
            Err(error) => {
                debug!(stream = %self.publisher.stream().name(), %error, "Metadata was ignored.");
                return Ok(());
            }
        };
        let texts = values.iter().take_while(|value| matches!(value, Amf0Value::Utf8String(_)));
        let is_metadata = texts.clone().any(|value| *value == Amf0Value::Utf8String("onMetaData".into()));
        if is_metadata
            && let Some(metadata) = values.get(texts.count())
            && let Some(tracks) = flv::announced(metadata)
        {
            self.assembly.announce(tracks);
        }
        Ok(())
    }

    /// Looks at the clock.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), AssemblyError> {
        self.assembly.handle_timeout(now)?;
        self.hand_over();
        self.tell(now);
        Ok(())
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.assembly.deadline()
    }

    /// What the publisher should hear of its mistakes, once each time that they change.
    pub(super) fn take_warning(&mut self) -> Option<String> {
        self.warning.take()
    }

    /// Counts, logs and shows what the assembly had to repair or leave out.
    fn tell(&mut self, now: Instant) {
        let (repaired, left_out) = (self.assembly.repaired(), self.assembly.left_out());
        let stream = self.publisher.stream();
        if repaired != self.told.repaired {
            stream.statistics().timestamps_repaired(repaired - self.told.repaired);
            self.told.repaired = repaired;
            let (last, known) = self.told.repairs_logged.unzip();
            if last.is_none_or(|last| now.saturating_duration_since(last) >= LOG_EVERY) {
                let count = repaired - known.unwrap_or(0);
                warn!(stream = %stream.name(), count, "Timestamps repeated or fell back, and were repaired.");
                self.told.repairs_logged = Some((now, repaired));
            }
        }
        if left_out != self.told.left_out {
            self.told.left_out = left_out;
            let (video, audio) = left_out;
            stream.statistics().set_tracks_left_out((video + audio).into());
            warn!(
                stream = %stream.name(), video, audio,
                "The publisher sends several tracks of a kind; the first is taken, these are left out."
            );
        }
        let unconfigured = self.assembly.unconfigured();
        if unconfigured != self.told.unconfigured {
            self.told.unconfigured = unconfigured;
            let problems: Vec<String> = unconfigured.iter().flatten().map(ToString::to_string).collect();
            let problem = (!problems.is_empty()).then(|| problems.join("; "));
            match &problem {
                Some(problem) => warn!(stream = %stream.name(), "{problem}."),
                None => info!(stream = %stream.name(), "The configuration that was missing has come."),
            }
            self.publisher.set_problem(problem.clone());
            self.warning = problem;
        }
    }

    /// Gives what the assembly made to the hub.
    fn hand_over(&mut self) {
        while let Some(output) = self.assembly.pop() {
            match output {
                Output::Epoch(tracks) => {
                    let origin = self.wall_origin.unwrap_or_else(SystemTime::now);
                    self.interruptions = self.publisher.interruptions();
                    self.epoch = Some(self.publisher.begin_epoch(tracks, origin));
                }
                Output::Frame(frame) => {
                    let Some(epoch) = &self.epoch else {
                        warn!(stream = %self.publisher.stream().name(), "A frame came before its epoch.");
                        continue;
                    };
                    let begins = frame.keyframe
                        && (frame.kind == MediaKind::Video || !epoch.tracks.has(MediaKind::Video));
                    let interruptions = self.publisher.interruptions();
                    let epoch = match begins && interruptions != self.interruptions {
                        // The pause before may have been filled.
                        true => self.publisher.begin_epoch(epoch.tracks.clone(), epoch.wall_origin),
                        false => epoch.clone(),
                    };
                    if self.epoch.as_ref().is_some_and(|before| before.id != epoch.id) {
                        self.interruptions = interruptions;
                        self.epoch = Some(epoch.clone());
                    }
                    if frame.kind == MediaKind::Video {
                        self.publisher.stream().statistics().video_frame(frame.keyframe);
                    }
                    self.publisher.write(Frame {
                        epoch,
                        kind: frame.kind,
                        pts: frame.pts,
                        dts: frame.dts,
                        keyframe: frame.keyframe,
                        data: frame.data,
                    });
                }
            }
        }
    }
}
